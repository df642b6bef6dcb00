"""Runs a study's jobs: Snakemake, notebooks and their kernels, leases of GPUs, status, logs, clean-up and downloads."""

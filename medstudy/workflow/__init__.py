"""Running a study: Snakemake, notebooks and their kernels, GPU leases, status, logs and cleaning."""

"""A study on a real one-node Slurm, with jobs that are killed: `python -m tests.cluster`, or `make cluster-test`."""

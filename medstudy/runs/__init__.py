"""The runs of a study: the plan of its jobs, what a job's hash covers (identity), records, locks and inputs."""

"""Runs: the plan of jobs, what each depends on, the record of each, and the lock that it holds."""

"""Training: rows in, checkpoint out; one process or several, with exact resume."""

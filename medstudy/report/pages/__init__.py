"""HTML pages: the report, its index and the executed notebooks."""

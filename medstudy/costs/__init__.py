"""Hours, memory and disk space of a study before it runs."""

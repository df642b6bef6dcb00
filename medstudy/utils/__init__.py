"""Tools that know nothing of studies: progress bars, YAML, parquet, keyed random numbers, the code hash."""

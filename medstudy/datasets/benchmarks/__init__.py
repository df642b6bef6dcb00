"""Public benchmarks of related work, one short file each."""

"""The paper's data sets, one short file each."""

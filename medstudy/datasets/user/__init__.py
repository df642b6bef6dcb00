"""A user's own data: folders, tables and data sets of the hub."""

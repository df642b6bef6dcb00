"""The user's own data: folders, tables and data sets of the hub. `columns` lists the columns that a table may have."""

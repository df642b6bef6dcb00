"""What the readers of data sets share: the hub's format, files, splits, and the author's rules for questions."""

"""Readers that data sets share: the hub's format, files, archives, conversations, and rules for questions."""

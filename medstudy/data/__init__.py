"""Examples: their records on disk, splits, and copies of images across splits."""

"""Packed rows: all questions of an image share one encoding of it, in training and in evaluation."""

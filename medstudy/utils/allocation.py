"""Memory that the C library keeps for its next use instead of giving it back to the system."""

from __future__ import annotations

import ctypes

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # names of mallopt, from glibc's malloc.h
LARGEST, KEPT = 64 * 2**20, 512 * 2**20  # bytes: of the largest array taken from the heap; of free memory kept


def keep_freed() -> bool:
    """Keep up to half a gigabyte of freed memory in this process. Returns whether the C library can do so (glibc).

    Code that makes and drops arrays of about a megabyte, as drawing an image does, else spends up to a quarter of its
    time on getting the same pages from the system again. Results do not change.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(MMAP_THRESHOLD, LARGEST) and mallopt(TRIM_THRESHOLD, KEPT))

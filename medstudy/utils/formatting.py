"""Durations and sizes in words of a length that says enough."""

from __future__ import annotations

import math


def duration(seconds: float) -> str:
    """4.2 s, 12.5 min, 3.1 h; empty for NaN."""
    if math.isnan(seconds):
        return ""
    if seconds < 90:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Bytes as 1.5 GB, of 1000 MB each."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} TB"

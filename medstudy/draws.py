"""Random numbers that hang on a name alone: no generator is carried along, so nothing can change them."""

from __future__ import annotations

import hashlib


def uniform(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone: the same on every machine, in every process, after a resume."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56

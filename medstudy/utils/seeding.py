"""Random numbers keyed by name: no generator has a state, so order, other draws and restarts cannot change a number.

Two kinds, because the numbers of earlier runs must stay what they were.
"""

from __future__ import annotations

import hashlib


def uniform(*key: object) -> float:
    """A number in [0, 1) that depends on the key alone: the same on every machine, in every process, after a resume."""
    digest = hashlib.sha256("/".join(map(str, key)).encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def token_uniform(key: str, step: int) -> float:
    """A number in [0, 1) for the token at place `step` of the answer named `key`; 53 bits of a BLAKE2b hash."""
    digest = hashlib.blake2b(f"{key} {step}".encode(), digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> 11) / 2**53

"""A cache of tensors on disk, keyed by a hash of all that they depend on: resized images, features of a frozen tower.

One safetensors file per tensor, `folder/ab/abcdef….safetensors`, of any dtype. Any file may be deleted at any time, and
any number of processes may share a folder: a value is a function of its key, so all processes write the same value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from medstudy import paths


def key(*parts: object) -> str:
    """SHA-256 in hex over `parts`: texts, numbers, None, and lists or dictionaries of them; a tuple is a list."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class TensorCache:
    """A folder of tensors. It only grows: delete it, or any of its files, to free space."""

    folder: Path

    def get(self, key: str, make: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The tensor of `key`, in main memory; computed and stored if its file is missing or damaged.

        A stored tensor is memory-mapped (copy on write): processes share its pages, and only the first use reads them.
        A file counts as damaged if its header or length is wrong; flipped bits inside a tensor are not detected.
        """
        file = self.folder / key[:2] / f"{key}.safetensors"
        try:
            return load_file(file)["value"]
        except (FileNotFoundError, SafetensorError, KeyError):
            value = make().detach().cpu().contiguous()
        with paths.atomic(file) as temporary:
            save_file({"value": value}, temporary)
        return value

"""A GPU's peak rates: matrix products and memory bandwidth, measured once for each device and kept in a file.

Both are measured through torch, as a user sees them: a large product of random bfloat16 matrices (zeros would run
faster), and a large copy within the device's memory, which reads and writes every byte.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from medstudy import paths

SIDE, COPIED, REPEATS = 8192, 2**32, 20  # side of the matrices; bytes of a copy; timed calls


@dataclass(frozen=True)
class Rates:
    """flops: per second, of a bfloat16 matrix product. bytes: read and written per second."""

    flops: float
    bytes: float
    device: str
    torch: str


def kept(device: torch.device, folder: Path) -> Rates:
    """From the file in `folder` named after the device and torch's version; if absent, measured and written there."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{named(device)} torch {torch.__version__}")
    file = folder / f"{name}.json"
    try:
        return Rates(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # absent, or written by another version of this package
        pass
    rates = measured(device)
    with paths.atomic(file) as temporary:
        temporary.write_text(json.dumps(asdict(rates), indent=1) + "\n", encoding="utf-8")
    return rates


def measured(device: torch.device, side: int = SIDE, copied: int = COPIED, repeats: int = REPEATS) -> Rates:
    """Time both with `seconds`. The default `side` and `copied` take 9 GB of a GPU's memory."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = seconds(lambda: left @ right, device, repeats)
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), device, repeats)
    return Rates(2 * side**3 / product, 2 * copied / copy, named(device), torch.__version__)


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of `repeats` calls after three warm-up calls; the device is synchronised around each."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    timed = []
    for _ in range(repeats + 3):
        wait()
        started = time.perf_counter()
        call()
        wait()
        timed.append(time.perf_counter() - started)
    return statistics.median(timed[3:])

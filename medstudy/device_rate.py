"""What a GPU can do at most: its matrix rate and its memory's bandwidth, measured once and kept for each device.

Both are measured as users of a GPU see them, through torch: a large product of random bfloat16 matrices (zeros would
run faster), and a large copy within the device's memory, of which every byte is read and written.
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

SIDE, COPIED, REPEATS = 8192, 2**32, 20  # of the matrices; bytes of a copy


@dataclass(frozen=True)
class Rates:
    """flops: of a bfloat16 matrix product, a second; bytes: read and written, a second; device and torch in words."""

    flops: float
    bytes: float
    device: str
    torch: str


def kept(device: torch.device, folder: Path) -> Rates:
    """From a file of `folder` that is named after the device and torch's version; else measured and put there."""
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{named(device)} torch {torch.__version__}")
    file = folder / f"{name}.json"
    try:
        return Rates(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):  # not there, or of another version of this package
        pass
    made = measured(device)
    with paths.atomic(file) as temporary:
        temporary.write_text(json.dumps(asdict(made), indent=1) + "\n", encoding="utf-8")
    return made


def measured(device: torch.device, side: int = SIDE, copied: int = COPIED, repeats: int = REPEATS) -> Rates:
    """See `seconds`. `side` and `copied` of a GPU fill 9 GB of its memory."""
    left, right = (torch.randn(side, side, device=device, dtype=torch.bfloat16) for _ in range(2))
    product = seconds(lambda: left @ right, device, repeats)
    source = torch.empty(copied, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    copy = seconds(lambda: target.copy_(source), device, repeats)
    return Rates(2 * side**3 / product, 2 * copied / copy, named(device), torch.__version__)


def named(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def seconds(call: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of `repeats` calls, after three that are not counted; the device is done before each is timed."""
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    timed = []
    for _ in range(repeats + 3):
        wait()
        started = time.perf_counter()
        call()
        wait()
        timed.append(time.perf_counter() - started)
    return statistics.median(timed[3:])

"""The cores and GPUs that this process may use. Imports no torch."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

VARIABLE = "CUDA_VISIBLE_DEVICES"
ID = re.compile(r"\d+|(GPU|MIG)-[\w/-]+")  # as for CUDA, anything else ends the list
DRIVER = Path("/proc/driver/nvidia/gpus")


def cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def visible() -> list[str]:
    """The ids of the GPUs that this process may use: those in CUDA_VISIBLE_DEVICES, else all of the machine."""
    if VARIABLE not in os.environ:
        return _present()
    ids: list[str] = []
    for word in map(str.strip, os.environ[VARIABLE].split(",")):
        if not ID.fullmatch(word) or word in ids:
            break
        ids.append(word)
    return ids


def _present() -> list[str]:
    """All GPUs of the machine by number; a GPU that is split into instances (MIG) is listed by their names instead."""
    if shutil.which("nvidia-smi"):
        result = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True)
        if result.returncode == 0:
            return _listed(result.stdout)
    return [str(number) for number in range(len(list(DRIVER.iterdir())))] if DRIVER.is_dir() else []


def _listed(text: str) -> list[str]:
    """The ids in the output of `nvidia-smi -L`: `GPU 0: …`, followed by `MIG …: (UUID: MIG-…)` for each instance."""
    instances: dict[str, list[str]] = {}
    for line in text.splitlines():
        if gpu := re.match(r"GPU (\d+):", line):
            instances[gpu[1]] = []
        elif (instance := re.search(r"UUID: (MIG-[\w/-]+)", line)) and instances:
            instances[list(instances)[-1]].append(instance[1])
    return [name for gpu, names in instances.items() for name in names or [gpu]]

"""What is installed, which device and which attention kernel a study will use, and why."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
from importlib import metadata
from typing import NamedTuple

import psutil
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from medstudy import paths
from medstudy.cli.options import Commands, command
from medstudy.utils import devices
from medstudy.utils.formatting import size

OPTIONAL = "optional, for NVIDIA GPUs; `pip install -e '.[flash]'` installs flash-attn 4"


def add(commands: Commands) -> None:
    """Add the command to the parser of `medstudy`."""
    text = "what is installed, which device and attention kernel, and why"
    command(commands, "doctor", _doctor, text, study=False)


def _doctor(options: argparse.Namespace) -> None:
    table = Table("what", "found", "why")
    for finding in examine():
        table.add_row(*map(escape, finding))
    Console().print(table)


class Finding(NamedTuple):
    """One line of the report."""

    what: str
    found: str
    why: str = ""


def examine() -> list[Finding]:
    """Every finding, in reading order. Imports torch; starts no process and contacts no hub."""
    return [*_software(), *_hardware(), _device(), *_attention(), _hub(), *_servers(), _base()]


def _software() -> list[Finding]:
    from medstudy.runs import record

    versions = record.versions() | {name: metadata.version(name) for name in ("papermill", "snakemake")}
    return [Finding(name, version) for name, version in versions.items()]


def _hardware() -> list[Finding]:
    memory = psutil.virtual_memory()
    return [
        Finding("machine", f"{platform.system()} {platform.machine()}"),
        Finding("cores", str(devices.cores()), "a job uses one; `run --cores` sets how many run at once"),
        Finding("memory", f"{size(memory.available)} of {size(memory.total)} free"),
        Finding("disk", f"{size(psutil.disk_usage(str(paths.ROOT)).free)} free", f"at {paths.ROOT}"),
    ]


def _device() -> Finding:
    import torch

    if torch.cuda.is_available():
        gpu = torch.cuda.get_device_properties(0)
        return Finding("device", f"cuda: {gpu.name}, {size(gpu.total_memory)}", "torch sees a CUDA device")
    reason = "torch is built without CUDA" if torch.version.cuda is None else "no NVIDIA driver or GPU was found"
    return Finding("device", "cpu", reason)


def _attention() -> list[Finding]:
    """The attention kernel that a model of each dtype would use here."""
    import torch

    from medstudy.engine import attention
    from medstudy.models.loading import default_device

    choices = {dtype: attention.choose(default_device(), getattr(torch, dtype)) for dtype in ("float32", "bfloat16")}
    installed = {"flash-attn 2": attention.flash_attn_2(), "flash-attn 4": attention.flash_attn_4()}
    return [
        *(Finding(f"attention in {dtype}", *choice) for dtype, choice in choices.items()),
        *(Finding(what, version or "not installed", "" if version else OPTIONAL)
          for what, version in installed.items()),
    ]


def _hub() -> Finding:
    from huggingface_hub import constants

    state = "offline" if constants.HF_HUB_OFFLINE else "reachable when a model id asks for it"
    return Finding("model hub", state, "the offline studies need none")


def _servers() -> list[Finding]:
    """What asks a model behind a server, and vLLM as an engine; no server is contacted."""
    try:
        client = Finding("server client", f"openai {metadata.version('openai')}", "for models of family: openai")
    except metadata.PackageNotFoundError:
        client = Finding("server client", "not installed", "optional, for models of family: openai; "
                                                           "`pip install -e '.[server]'` installs it")
    found = "found" if shutil.which("vllm") else "not found"
    return [client, Finding("vllm", found, "optional, for evaluation.engine: vllm; its command is looked for on PATH")]


def _base() -> Finding:
    weights = list(paths.BASE.glob("*.safetensors"))
    if not weights:
        return Finding("base model", "missing", f"no weights in {paths.BASE}: install the package again")
    total = sum(file.stat().st_size for file in weights)
    return Finding("base model", size(total), os.path.relpath(paths.BASE, paths.ROOT))

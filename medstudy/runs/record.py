"""The record of a run, record.json: what made it and what it made. Written last: a run with a record is complete."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from filelock import FileLock

import medstudy
from medstudy import paths
from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.runs import lock, plan
from medstudy.utils import devices, syntax

PACKAGES = ("torch", "transformers", "accelerate", "numpy", "pandas", "pillow", "scipy", "statsmodels", "matplotlib")


@contextmanager
def recorded(study: Study, job: plan.Job, also: Path | None = None) -> Iterator[bool]:
    """Do a job's work in the block: it starts with an empty folder, which gets its record if nothing was raised.

    Yields whether there is work to do: a notebook that a person opened shows a complete run and leaves it unchanged.
    also: a second folder that the job fills from empty (figures/STUDY); its files are recorded with the run's.
    """
    locked = lock.held_for(job.dir)  # by the process that started this kernel; otherwise we lock it here
    with nullcontext() if locked else lock.alone(job.dir), _filling(job, also):
        if job.done and not locked:
            yield False
        else:
            check_code(study, job)
            yield from _work(study, job, also)


def check_code(study: Study, job: plan.Job) -> None:
    """A run's name stands for its notebook's committed code: check it before an opened notebook makes a run.

    Raises RunError if the executing cell is not a cell of that notebook, or if the study is not the job's own.
    """
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if shell is None or lock.HELD in os.environ:
        return
    file = paths.NOTEBOOKS / f"{job.notebook}.ipynb"
    if syntax.cell(shell.user_ns["In"][-1]) not in map(syntax.cell, syntax.cells(file)):
        raise RunError(
            f"A run is named by the code of its notebook, but the cell that makes {job.name} is not in "
            f"notebooks/{file.name}. To change the code, change that file, and the run gets another name; or write "
            "elsewhere, without `recorded`. If you changed nothing, the file has changed: `make lab` gives a new copy."
        )
    if plan.job(study, job.name).identity != job.identity:
        raise RunError(
            f"{job.name} is named by its study's parameters, but this study has others than the notebook was opened "
            'with. Write them into a params file and open that: study = "params/mine.yaml".'
        )


def _work(study: Study, job: plan.Job, also: Path | None) -> Iterator[bool]:
    for folder in filter(None, (job.dir, also)):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    started, clock = datetime.now(UTC), time.perf_counter()
    yield True
    content = {
        "run": job.dir.name,
        "stage": job.stage,
        "name": job.name,
        "study": study.study,
        "identity": job.identity,
        "parameters": job.parameters,
        "needs": list(job.needs),
        "started": started.isoformat(timespec="seconds"),
        "seconds": round(time.perf_counter() - clock, 3),
        "peak_memory_mb": round(_peak_memory() / 2**20),
        "machine": machine(),
        "versions": versions(),
        "files": hashes(study, filter(None, (job.dir, also))),
    }
    with paths.atomic(job.record) as temporary:
        temporary.write_text(json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8")
    shutil.rmtree(paths.scratch(job.dir), ignore_errors=True)


def _filling(job: plan.Job, also: Path | None) -> AbstractContextManager:
    """The lock of a second folder, which runs with other params fill too."""
    if also is None:
        return nullcontext()
    return FileLock(job.dir.parent / "logs" / f"{'-'.join(also.parts[-2:])}.lock", mode=0o666)


def read(job: plan.Job) -> dict:
    """The record of a complete run. Raises RunError if there is none or it cannot be read."""
    try:
        return json.loads(job.record.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{job.name} has not run: there is no {job.record}. Run the study first.") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{job.record} must be json, but {error}. Delete it, and the run is made again.") from None


def hashes(study: Study, folders: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of every file in the folders, by path relative to the study's root."""
    files = sorted(file for folder in folders for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(study.root)): sha256(file) for file in files}


def sha256(file: Path) -> str:
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def versions() -> dict[str, str]:
    """Python, medstudy and the libraries that results depend on."""
    return {"python": platform.python_version(), "medstudy": medstudy.__version__} | {
        name: metadata.version(name) for name in PACKAGES
    }


def commit(root: Path = paths.PACKAGE.parent) -> str | None:
    """The commit of this code, `-dirty` where files differ from it; None outside of its git checkout."""
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip() or None
    except (OSError, subprocess.SubprocessError):
        return None


def machine() -> dict[str, str | list[str] | None]:
    """Where this process runs: host, device (the GPU's name, or cpu), ids of its GPUs, and Slurm's id of the job."""
    return {
        "host": platform.node(),
        "device": _device(),
        "cards": devices.visible() or None,
        "slurm_job": _slurm_job(),
    }


def _slurm_job() -> str | None:
    """The id as squeue shows it, with an array's task: 4711_3."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}_ID") for name in ("JOB", "TASK"))
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _device() -> str:
    """The GPU's name according to torch; a process that has not imported torch computes on the cpu."""
    torch = sys.modules.get("torch")
    return torch.cuda.get_device_name() if torch is not None and torch.cuda.is_available() else "cpu"


def _peak_memory() -> int:
    """Peak resident memory in bytes, of this process or a child of it (ru_maxrss: kilobytes, on macOS bytes)."""
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return peak if sys.platform == "darwin" else peak * 1024

"""How a study's jobs are run: the Snakemake profile of a machine or cluster, and the command that starts Snakemake."""

from __future__ import annotations

import math
import os
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psutil

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.runs.plan import Job
from medstudy.utils import devices, yaml_files


def mark(jobs: Iterable[Job], folder: Path) -> None:
    """Keep one file in `folder` for each complete run, named as the run's folder: the outputs that Snakemake knows."""
    folder.mkdir(parents=True, exist_ok=True)
    marked = {file.name for file in folder.iterdir()}
    done = {job.dir.name for job in jobs if job.done}
    for name in done - marked:
        (folder / name).touch()
    for name in marked - done:
        (folder / name).unlink()


@dataclass(frozen=True)
class RunOptions:
    """How a study is run: the Snakemake profile, jobs at once, and which jobs (shell patterns of names; none: all).

    cores: how many cores of this machine its jobs may use. jobs: how many at once on a cluster; None: as the profile
    says.
    """

    cores: int
    profile: str = "local"
    jobs: int | None = None
    only: tuple[str, ...] = ()

    @property
    def local(self) -> bool:
        """Whether jobs run on this machine."""
        return settings(self.profile).get("executor", "local") == "local"


def profile(name: str) -> Path:
    """The folder of a profile by its name in workflow/profiles/, or any other. Raises ParamsError."""
    for folder in (paths.PROFILES / name, Path(os.path.expanduser(name))):
        if os.path.isfile(folder / "config.yaml"):
            return folder
    known = ", ".join(sorted(file.parent.name for file in paths.PROFILES.glob("*/config.yaml")))
    raise ParamsError(f"A profile is one of {known}, or a folder with Snakemake's config.yaml; got {name!r}.")


def settings(name: str) -> dict:
    """The content of a profile's config.yaml. Raises ParamsError."""
    content = yaml_files.load(profile(name) / "config.yaml") or {}
    if not isinstance(content, dict):
        raise ParamsError(f"The profile {name} must hold `name: value` lines, got {type(content).__name__}.")
    return content


def check_arrays(how: RunOptions, jobs: int) -> None:
    """Raises ParamsError where the Slurm plugin would wait forever for jobs that it never submits.

    It builds an array only when Snakemake hands it (nearly) all ready jobs at once.
    """
    config = settings(how.profile)
    limits = (how.jobs or config.get("jobs", 0), str(config.get("max-jobs-per-timespan", 100)).partition("/")[0])
    if config.get("slurm-array-jobs") and (most := min(map(_number, limits))) < jobs:
        raise ParamsError(
            f"With job arrays a study's {jobs} jobs must be submittable at once, or Snakemake's Slurm plugin waits "
            f"forever; got {most:.0f}. Leave --jobs out, or raise `jobs` and `max-jobs-per-timespan` in the profile."
        )


def command(
    study: Study, file: str, how: RunOptions, targets: Iterable[Path] = (), kernels: str | None = None
) -> list[str]:
    """The Snakemake command; without targets, for every job. kernels: the address of a kernel server.

    On this machine a job takes one core per process; free memory and GPUs limit the jobs at once too. On a cluster the
    profile sets the limits. Snakemake reads values of --config as YAML, so names of files are %-encoded.
    """
    config = settings(how.profile)
    arrays = "".join(config.get("slurm-array-jobs", "").split())
    here = ["--cores", str(how.cores), *([] if "resources" in config else ["--resources", *_resources()])]
    there = ["--local-cores", str(how.cores), *(["--jobs", str(how.jobs)] if how.jobs else []), *_slurm(study, config)]
    return [
        sys.executable, "-m", "snakemake", *map(str, targets), "--snakefile", str(paths.SNAKEFILE),
        "--profile", str(profile(how.profile)), "--directory", str(study.root), "--nolock",
        "--keep-going", "--rerun-incomplete", "--rerun-triggers", "mtime", *(here if how.local else there),
        "--config", f"study={quote(str(paths.resolve(file).resolve()))}", f"session={session(study)}",
        *([f"kernels={quote(kernels)}"] if kernels else []), *([f"arrays={arrays}"] if arrays else []),
    ]


def _number(limit: int | str) -> float:
    """Snakemake also takes `unlimited` and `all`."""
    return float(limit) if str(limit).replace(".", "").isdigit() else math.inf


def session(study: Study) -> str:
    """A name for the files of this process's Snakemake."""
    return f"{study.study}-{platform.node()}-{os.getpid()}"


def markers(study: Study) -> Path:
    """The folder of markers, the outputs that this process's Snakemake knows: one file per complete run."""
    return study.runs / "logs" / "snakemake" / session(study)


def _slurm(study: Study, config: dict) -> list[str]:
    """The option that puts Slurm's logs next to the study's own; a profile's path would depend on the start folder."""
    return ["--slurm-logdir", str(study.runs / "logs" / "slurm")] if config.get("executor") == "slurm" else []


def _resources() -> list[str]:
    gpus, memory = devices.visible(), int(psutil.virtual_memory().available * 0.9 / 2**20)
    return [f"mem_mb={max(memory, 2000)}", *([f"gpu={len(gpus)}"] if gpus else [])]

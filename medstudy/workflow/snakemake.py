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
    """Make one scheduler's markers in `folder`, a file a complete run by its folder's name, agree with the records."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {file.name for file in folder.iterdir()}
    done = {item.dir.name for item in jobs if item.done}
    for name in done - there:
        (folder / name).touch()
    for name in there - done:
        (folder / name).unlink()


@dataclass(frozen=True)
class How:
    """How a study is run: the Snakemake profile, jobs at once, and which jobs (shell patterns of names; none: all).

    cores: of this machine that its own jobs may use. jobs: on a cluster, as the profile says where None.
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
    """What a profile says. Raises ParamsError."""
    content = yaml_files.load(profile(name) / "config.yaml") or {}
    if not isinstance(content, dict):
        raise ParamsError(f"The profile {name} must hold `name: value` lines, got {type(content).__name__}.")
    return content


def check_arrays(how: How, jobs: int) -> None:
    """Raises ParamsError where the plugin would never submit some of that many jobs, and wait for them forever.

    It takes ready jobs for an array only when Snakemake hands it (nearly) all of them at once.
    """
    said = settings(how.profile)
    limits = (how.jobs or said.get("jobs", 0), str(said.get("max-jobs-per-timespan", 100)).partition("/")[0])
    if said.get("slurm-array-jobs") and (most := min(map(_number, limits))) < jobs:
        raise ParamsError(
            f"With job arrays a study's {jobs} jobs must be submittable at once, or Snakemake's Slurm plugin waits "
            f"forever; got {most:.0f}. Leave --jobs out, or raise `jobs` and `max-jobs-per-timespan` in the profile."
        )


def command(
    study: Study, file: str, how: How, targets: Iterable[Path] = (), kernels: str | None = None
) -> list[str]:
    """The Snakemake call; without targets everything. kernels: the address of a server of warm ones.

    Snakemake reads the values of its --config as YAML, so the names of files are %-encoded there.

    Here a job holds a core a process; jobs at once are also limited by the memory that is free and, where there are
    cards, by those. On a cluster the profile says what is limited.
    """
    said = settings(how.profile)
    arrays = "".join(said.get("slurm-array-jobs", "").split())
    here = ["--cores", str(how.cores), *([] if "resources" in said else ["--resources", *_resources()])]
    there = ["--local-cores", str(how.cores), *(["--jobs", str(how.jobs)] if how.jobs else []), *_slurm(study, said)]
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
    """The name of what this process's Snakemake keeps for itself."""
    return f"{study.study}-{platform.node()}-{os.getpid()}"


def markers(study: Study) -> Path:
    """The folder of what this process's Snakemake knows as outputs: a file a run that is complete."""
    return study.runs / "logs" / "snakemake" / session(study)


def _slurm(study: Study, said: dict) -> list[str]:
    """Its logs go beside the study's own: the plugin would take a profile's path from where Snakemake was started."""
    return ["--slurm-logdir", str(study.runs / "logs" / "slurm")] if said.get("executor") == "slurm" else []


def _resources() -> list[str]:
    cards, memory = devices.visible(), int(psutil.virtual_memory().available * 0.9 / 2**20)
    return [f"mem_mb={max(memory, 2000)}", *([f"gpu={len(cards)}"] if cards else [])]

"""Lists what no study needs under runs/, with the reason, and frees it on request.

Several studies share runs/. Runs stay that any params file next to the given ones plans, or that a living process works
on. If one of those files cannot be read, or another process makes runs with params that have changed since, it is
unknown what is needed, and only what is certainly superfluous is listed.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import Timeout

from medstudy import params, paths
from medstudy.errors import MedstudyError, ModelError
from medstudy.params import Study
from medstudy.runs import lock, plan
from medstudy.utils import yaml_files
from medstudy.workflow import run as workflow_run

RUN = re.compile(r".+-[0-9a-f]{12}$")  # the name of a run's folder
TRASH = ".trash"


@dataclass(frozen=True)
class Item:
    """Something to free. run: the folder of the run it belongs to, which is locked meanwhile; None: of no run."""

    kind: str
    path: Path
    why: str
    bytes: int
    run: Path | None = None


@dataclass(frozen=True)
class Found:
    """What to free, and what stays although it may be superfluous, each as `what: why`."""

    items: list[Item]
    held: list[str]

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


@dataclass
class _Plans:
    """What the params files plan. requested: studies whose runs may go; blind: some file could not be planned."""

    requested: set[str]
    jobs: dict[tuple[str, str], list[plan.Job]] = field(default_factory=dict)  # by study and name; one per params file
    files: list[Path] = field(default_factory=list)  # params files whose runs are all known
    held: list[str] = field(default_factory=list)
    blind: bool = False

    @cached_property
    def folders(self) -> set[Path]:
        return {job.dir for jobs in self.jobs.values() for job in jobs}

    @cached_property
    def studies(self) -> set[str]:
        return {study for study, _ in self.jobs}


def find(files: Sequence[str | Path] = (), caches: bool = False) -> Found:
    """What is superfluous under the runs of these studies (default: all in params/).

    caches: also decoded images and features, which are made again when needed. Raises ParamsError if a given file is
    not a study.
    """
    files = [paths.resolve(file).resolve() for file in files]
    folders = {file.parent for file in files} or {paths.ROOT / "params"}
    neighbours = sorted({other for folder in folders for other in folder.glob("*.yaml")} | set(files))
    plans = _Plans({params.load(file).study for file in files})
    runs = _plan(filter(_is_study, neighbours), plans)
    items = [item for folder in sorted(runs) for item in _below(folder, plans, caches)]
    return Found(items, plans.held)


def together(items: Iterable[Item]) -> list[list[Item]]:
    """The items of each run next to each other, in the order of the first of each."""
    groups: dict[Path, list[Item]] = {}
    for item in items:
        groups.setdefault(item.run or item.path, []).append(item)
    return list(groups.values())


def free(found: Found) -> int:
    """Delete what was found; returns the bytes freed. What a process works on by now, or another user owns, stays."""
    freed = 0
    for item in found.items:
        try:
            with lock.try_alone(item.run):
                _delete(item.path)
                freed += item.bytes
        except (Timeout, PermissionError):
            continue
    return freed


def size(path: Path) -> int:
    """Bytes of all files below; links are not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def _plan(files: Iterable[Path], plans: _Plans) -> set[Path]:
    """Add the jobs of these params files to the plans; returns their folders of runs. No study asked for: all are."""
    every, unsure, runs = not plans.requested, set(), set()
    for file in files:
        try:
            study = params.load(file)
            for job in plan.plan(study):
                plans.jobs.setdefault((study.study, job.name), []).append(job)
        except (MedstudyError, OSError) as error:
            plans.held.append(f"all runs: {file.name} cannot be planned, so its runs are unknown: {error}")
            plans.blind = True
            continue
        runs.add(study.runs)
        if missing := _missing(study):
            names = ", ".join(missing)
            plans.held.append(f"the runs of {study.study}: their names depend on folders that are missing: {names}")
            unsure.add(study.study)
        else:
            plans.files.append(file)
    plans.requested = (plans.studies if every else plans.requested) - unsure
    return runs


def _below(runs: Path, plans: _Plans, caches: bool) -> list[Item]:
    """What is superfluous in one folder of runs; reasons against freeing more are added to `plans.held`."""
    busy = {runs / log.name for log in _runs(runs / "logs") if lock.running(runs / log.name)}
    items = [_item("trash", path, "left by a clean that was stopped") for path in _entries(runs / TRASH)]
    for path in _runs(runs / ".partial"):
        run = runs / path.name
        if run not in busy and (run / paths.RECORD).is_file():
            items.append(_item("resume point", path, "its run is complete", run))
    if caches and busy:
        plans.held.append(f"caches: they may be in use by {', '.join(sorted(run.name for run in busy))}")
    elif caches:
        items += [_item("cache", path, "made again when needed") for path in _entries(runs / ".cache")]
    if strange := sorted(run.name for run in busy - plans.folders):
        plans.held.append(f"all runs: another process makes {', '.join(strange)} with params that have changed since")
    return items if plans.blind or strange else [*items, *_unplanned(runs, plans)]


def _unplanned(runs: Path, plans: _Plans) -> Iterator[Item]:
    """Runs of the studies asked for that no params file plans any more, with their resume points and logs."""
    records = {run: record for run in _runs(runs) if run not in plans.folders and (record := _record(run)) is not None}
    altered = {(record.get("study"), record.get("name")) for record in records.values() if _altered(record, plans)}
    for run, record in records.items():
        if record.get("study") in plans.requested:
            yield from _whole(run, f"of an earlier {record['study']}: {_superseded(record, plans, altered)}")
        elif not record and _started_by(run, plans.files):
            yield from _whole(run, "never complete, and no study plans it")
    unknown = Counter(record["study"] for record in records.values() if record and record["study"] not in plans.studies)
    plans.held += [f"runs of {study}, {count}: no params file here has that study" for study, count in unknown.items()]
    gone = {path.name for kind in (".partial", "logs", "logs/slurm/*") for path in _runs(runs, kind)}
    for run in (runs / name for name in sorted(gone)):
        if not run.exists() and run not in plans.folders and _started_by(run, plans.files):
            for kind, rest in _traces(run):
                yield _item(kind, rest, "of a run that is gone and that no study plans", run)


def _record(run: Path) -> dict | None:
    """A run's record; {} for a run that never completed, None where it cannot be read."""
    try:
        record = json.loads((run / paths.RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "study" in record else None


def _altered(record: dict, plans: _Plans) -> bool:
    """Whether a run was made with other params than each planned run of its name."""
    jobs = plans.jobs.get((record.get("study"), record.get("name")), [])
    return record.get("parameters") not in [json.loads(json.dumps(job.parameters, default=str)) for job in jobs]


def _superseded(record: dict, plans: _Plans, altered: set[tuple[str, str]]) -> str:
    """What changed since a run was made. altered: study and name of the superseded runs with other params."""
    study, name = record["study"], record.get("name")
    if "parameters" not in record:
        return "its params or code changed since"
    if (study, name) not in plans.jobs:
        return "no longer one of its runs"
    if _altered(record, plans):
        return "made with other params"
    # with the same params only code has changed, unless a run above it was made with other params
    needs = [job for planned in plans.jobs[study, name] for job in planned.upstream]
    while needs:
        need = needs.pop()
        if (study, need.name) in altered:
            return "made by other code, or from runs with other params"
        needs += need.upstream
    return "made by other code"


def _started_by(run: Path, files: list[Path]) -> bool:
    """Whether a run that never completed was started from one of these params files, or from one that is gone."""
    try:
        text = (paths.logs(run) / "notebook.ipynb").read_text(encoding="utf-8")
        study = json.loads(text)["metadata"]["papermill"]["parameters"]["study"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    file = paths.resolve(study).resolve()
    return file in files or not file.exists()


def _is_study(file: Path) -> bool:
    """Whether a yaml file is a study, or may be one."""
    try:
        content = yaml_files.load(file)
    except MedstudyError:
        return True
    return not isinstance(content, dict) or bool({"study", "datasets"} & set(content))


def _missing(study: Study) -> list[str]:
    """The folders of models and data that the names of the study's runs depend on and that are missing now."""
    missing = []
    for one_model in study.each():
        try:
            workflow_run.check_model(one_model)
        except ModelError:
            missing.append(one_model.model.id)
    data = [str(getattr(dataset, "path", None) or "") for dataset in study.datasets]
    return [*missing, *(path for path in data if path[:1] in ("/", ".", "~") and not paths.resolve(path).exists())]


def _whole(run: Path, why: str) -> Iterator[Item]:
    """A run's folder and its traces."""
    yield _item("run", run, why, run)
    for kind, rest in _traces(run):
        yield _item(kind, rest, "of that run", run)


def _traces(run: Path) -> list[tuple[str, Path]]:
    """A run's files outside its folder, each with its kind: resume point, log, Slurm's log."""
    logs = [paths.logs(run), *(run.parent / "logs" / "slurm").glob(f"*/{run.name}")]
    known = [("resume point", paths.scratch(run)), *(("log", path) for path in logs)]
    return [(kind, path) for kind, path in known if path.exists()]


def _runs(folder: Path, below: str = "") -> list[Path]:
    return sorted(path for path in folder.glob(f"{below}/*" if below else "*") if RUN.match(path.name))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _item(kind: str, path: Path, why: str, run: Path | None = None) -> Item:
    return Item(kind, path, why, size(path), run)


def _delete(path: Path) -> None:
    """Remove the name at once, then the content from the disk."""
    runs = next(parent for parent in path.parents if parent.name == "runs")
    trash = path if path.parent == runs / TRASH else runs / TRASH / f"{path.name}.{uuid.uuid4().hex[:6]}"
    if trash != path:
        trash.parent.mkdir(exist_ok=True)
        path.rename(trash)
    if trash.is_symlink() or not trash.is_dir():
        trash.unlink()
    else:
        shutil.rmtree(trash)

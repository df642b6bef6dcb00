"""What under runs/ nobody needs any more, and why; freed only when asked to.

Several studies share runs/: what any params file beside the given ones plans stays, and so does what a living process
works on. Where one of those files cannot be read, or another process makes runs of params that have changed since, it
is not known what is needed, and only what is surely superfluous is freed.
"""

from __future__ import annotations

import json
import re
import shutil
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from medstudy import grid, notebook, params, paths, workflow
from medstudy.errors import DataError, MedstudyError
from medstudy.params import Study

RUN = re.compile(r".+-[0-9a-f]{12}$")  # what a run's folder is called
TRASH = ".trash"


@dataclass(frozen=True)
class Item:
    """Something to free. run: the folder of the run that it is of, whose lock is held meanwhile; None: of none."""

    kind: str
    path: Path
    why: str
    bytes: int
    run: Path | None = None


@dataclass(frozen=True)
class Found:
    """What to free, and what stands against freeing more (sentences)."""

    items: list[Item] = field(default_factory=list)
    held: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        return sum(item.bytes for item in self.items)


def find(files: Sequence[str | Path] = (), caches: bool = False) -> Found:
    """What is superfluous under the runs of these studies; of all in params/ when none is named.

    caches: also decoded images and features, which are made again when needed. Raises ParamsError where a file that is
    named is not a study.
    """
    files = [paths.resolve(file).resolve() for file in files]
    beside = sorted({other for folder in _folders(files) for other in folder.glob("*.yaml")} | set(files))
    named = {params.load(file).study for file in files}
    studies, planned, held = [], set(), []
    for file in beside:
        try:
            study = params.load(file)
            planned |= {job.dir for job in _plan(study)}
            studies.append(study)
        except (MedstudyError, OSError) as error:
            held.append(f"{file.name} cannot be planned, so it is not known what it needs: {error}")
    names = named or {study.study for study in studies}
    items = []
    for runs in sorted({study.runs for study in studies if study.study in names}):
        items += _below(runs, names, planned, beside, held, caches)
    return Found(items, held)


def free(found: Found) -> int:
    """Delete what was found; the bytes that were freed. What somebody works on by now, or owns, stays."""
    freed = 0
    for item in found.items:
        try:
            with _locked(item.run):
                _delete(item.path)
                freed += item.bytes
        except (Timeout, PermissionError):
            continue
    return freed


def size(path: Path) -> int:
    """Bytes of all files below, links not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def _below(runs: Path, names: set[str], planned: set[Path], beside: list[Path], held: list[str], caches: bool):
    busy = {runs / log.name for log in _runs(runs / "logs") if notebook.running(runs / log.name)}
    if strange := sorted(run.name for run in busy - planned):
        held.append(f"{', '.join(strange)}: made by another process now, of params that have changed or are not here")
    items = [_item("trash", path, "left by a clean that was stopped") for path in _entries(runs / TRASH)]
    for path in _runs(runs / ".partial"):
        run = runs / path.name
        if run not in busy and (run / paths.RECORD).is_file():
            items.append(_item("resume point", path, "its run is complete", run))
    if caches and busy:
        held.append(f"The caches may be in use by {', '.join(sorted(run.name for run in busy))}")
    elif caches:
        items += [_item("cache", path, "made again when needed") for path in _entries(runs / ".cache")]
    return items if held else [*items, *_unplanned(runs, names, planned, beside)]


def _unplanned(runs: Path, names: set[str], planned: set[Path], beside: list[Path]) -> Iterator[Item]:
    """Runs of these studies that no params file plans any more, with their resume points and logs."""
    for path in _runs(runs):
        if path not in planned and (why := _superseded(path, names, beside)):
            yield _item("run", path, why, path)
            for rest in _of(runs, path.name):
                yield _item("log" if rest.is_relative_to(runs / "logs") else "resume point", rest, "of that run", path)
    gone = {path.name for kind in (".partial", "logs", "logs/slurm/*") for path in _runs(runs, kind)}
    for name in sorted(gone):
        run = runs / name
        if not run.exists() and run not in planned and _started_by(run, beside):
            for rest in _of(runs, name):
                kind = "log" if rest.is_relative_to(runs / "logs") else "resume point"
                yield _item(kind, rest, "of a run that is not there and that no study plans", run)


def _superseded(run: Path, names: set[str], beside: list[Path]) -> str | None:
    """Why an unplanned run is superfluous; None where it is of a study that is not asked for."""
    try:
        made = json.loads((run / paths.RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "never complete, and no study plans it" if _started_by(run, beside) else None
    except (OSError, ValueError):
        return None
    return f"{made['study']} as it is now plans others" if made.get("study") in names else None


def _started_by(run: Path, beside: list[Path]) -> bool:
    """Whether the job of a run that never ended was of one of these params files, or of one that is gone."""
    try:
        text = (notebook.logs(run) / "notebook.ipynb").read_text(encoding="utf-8")
        said = json.loads(text)["metadata"]["papermill"]["parameters"]["study"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    file = paths.resolve(said).resolve()
    return file in beside or not file.exists()


def _plan(study: Study) -> list[grid.Job]:
    """Its jobs. Raises ModelError or DataError without a folder that the names of its runs hang on."""
    for one in study.each():
        workflow.check_model(one)
    for one in study.datasets:
        path = str(getattr(one, "path", "") or "")
        if path.startswith(("/", ".", "~")) and not paths.resolve(path).exists():
            raise DataError(f"there is nothing at {path} now. Mount or mend it.")
    return grid.plan(study)


def _folders(files: Iterable[Path]) -> set[Path]:
    return {file.parent for file in files} or {paths.ROOT / "params"}


def _of(runs: Path, name: str) -> list[Path]:
    """What else there is of a run: its resume point, its log, Slurm's."""
    known = [runs / ".partial" / name, runs / "logs" / name, *(runs / "logs" / "slurm").glob(f"*/{name}")]
    return [path for path in known if path.exists()]


def _runs(folder: Path, below: str = "") -> list[Path]:
    return sorted(path for path in folder.glob(f"{below}/*" if below else "*") if RUN.match(path.name))


def _entries(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _item(kind: str, path: Path, why: str, run: Path | None = None) -> Item:
    return Item(kind, path, why, size(path), run)


@contextmanager
def _locked(run: Path | None) -> Iterator[None]:
    """Hold a run's lock, where it has one. Raises Timeout when a living process does."""
    lock = notebook.logs(run) / "lock" if run is not None else None
    with FileLock(lock, timeout=0) if lock is not None and lock.exists() else nullcontext():
        yield


def _delete(path: Path) -> None:
    """Gone at once under its name, then from the disk."""
    runs = next(parent for parent in path.parents if parent.name == "runs")
    trash = path if path.parent == runs / TRASH else runs / TRASH / f"{path.name}.{uuid.uuid4().hex[:6]}"
    if trash != path:
        trash.parent.mkdir(exist_ok=True)
        path.rename(trash)
    if trash.is_symlink() or not trash.is_dir():
        trash.unlink()
    else:
        shutil.rmtree(trash)

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
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from medstudy import grid, lock, params, paths, workflow, yaml_files
from medstudy.errors import MedstudyError, ModelError
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
    """What to free, and what stays although nobody may need it, each as `what: why`."""

    items: list[Item]
    held: list[str]

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
    held, blind, studies, unsure, planned, known = [], False, [], set(), set(), []
    for file in filter(_is_study, beside):
        try:
            study = params.load(file)
            planned |= {job.dir for job in grid.plan(study)}
        except (MedstudyError, OSError) as error:
            held.append(f"all runs: {file.name} cannot be planned, so it is not known which it needs: {error}")
            blind = True
            continue
        studies.append(study)
        if missing := _missing(study):
            held.append(f"the runs of {study.study}: their names hang on what is not there, {', '.join(missing)}")
            unsure.add(study.study)
        else:
            known.append(file)
    names = (named or {study.study for study in studies}) - unsure
    items = []
    for runs in sorted({study.runs for study in studies}):
        items += _below(runs, _Needs(names, planned, known, blind), held, caches)
    return Found(items, held)


@dataclass(frozen=True)
class _Needs:
    """names: of the studies whose runs may go. planned: runs that stay. files: params files that are fully known.

    blind: some file's runs are not known at all.
    """

    names: set[str]
    planned: set[Path]
    files: list[Path]
    blind: bool


def together(items: Iterable[Item]) -> list[list[Item]]:
    """The items of one run beside each other, in the order of the first of each."""
    groups: dict[Path, list[Item]] = {}
    for item in items:
        groups.setdefault(item.run or item.path, []).append(item)
    return list(groups.values())


def free(found: Found) -> int:
    """Delete what was found; the bytes that were freed. What somebody works on by now, or owns, stays."""
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
    """Bytes of all files below, links not followed."""
    if path.is_symlink() or not path.is_dir():
        return path.lstat().st_size
    return sum(file.lstat().st_size for file in path.rglob("*") if file.is_symlink() or not file.is_dir())


def _below(runs: Path, needs: _Needs, held: list[str], caches: bool) -> list[Item]:
    """What is superfluous in one folder of runs; to `held` is added what stands against more."""
    busy = {runs / log.name for log in _runs(runs / "logs") if lock.running(runs / log.name)}
    items = [_item("trash", path, "left by a clean that was stopped") for path in _entries(runs / TRASH)]
    for path in _runs(runs / ".partial"):
        run = runs / path.name
        if run not in busy and (run / paths.RECORD).is_file():
            items.append(_item("resume point", path, "its run is complete", run))
    if caches and busy:
        held.append(f"caches: they may be in use by {', '.join(sorted(run.name for run in busy))}")
    elif caches:
        items += [_item("cache", path, "made again when needed") for path in _entries(runs / ".cache")]
    if strange := sorted(run.name for run in busy - needs.planned):
        held.append(f"all runs: another process makes {', '.join(strange)} now, of params that are others by now")
    return items if needs.blind or strange else [*items, *_unplanned(runs, needs)]


def _unplanned(runs: Path, needs: _Needs) -> Iterator[Item]:
    """Runs of these studies that no params file plans any more, with their resume points and logs."""
    for path in _runs(runs):
        if path not in needs.planned and (why := _superseded(path, needs)):
            yield _item("run", path, why, path)
            for kind, rest in _of(path):
                yield _item(kind, rest, "of that run", path)
    gone = {path.name for kind in (".partial", "logs", "logs/slurm/*") for path in _runs(runs, kind)}
    for run in (runs / name for name in sorted(gone)):
        if not run.exists() and run not in needs.planned and _started_by(run, needs.files):
            for kind, rest in _of(run):
                yield _item(kind, rest, "of a run that is not there and that no study plans", run)


def _superseded(run: Path, needs: _Needs) -> str | None:
    """Why an unplanned run is superfluous; None where it is of a study that is not asked for."""
    try:
        made = json.loads((run / paths.RECORD).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return "never complete, and no study plans it" if _started_by(run, needs.files) else None
    except (OSError, ValueError):
        return None
    name = made.get("study")
    return f"of an earlier {name}: its params or code changed since" if name in needs.names else None


def _started_by(run: Path, files: list[Path]) -> bool:
    """Whether the job of a run that never ended was of one of these params files, or of one that is gone."""
    try:
        text = (paths.logs(run) / "notebook.ipynb").read_text(encoding="utf-8")
        said = json.loads(text)["metadata"]["papermill"]["parameters"]["study"]
    except (OSError, ValueError, KeyError, TypeError):
        return False
    file = paths.resolve(said).resolve()
    return file in files or not file.exists()


def _is_study(file: Path) -> bool:
    """Whether it is one, or may be: a yaml file of something else stands beside studies too."""
    try:
        content = yaml_files.load(file)
    except MedstudyError:
        return True
    return not isinstance(content, dict) or bool({"study", "datasets"} & set(content))


def _missing(study: Study) -> list[str]:
    """Folders of models and data that the names of the study's runs hang on, and that are not there now."""
    found = []
    for one in study.each():
        try:
            workflow.check_model(one)
        except ModelError:
            found.append(one.model.id)
    data = [str(getattr(one, "path", None) or "") for one in study.datasets]
    return [*found, *(path for path in data if path[:1] in ("/", ".", "~") and not paths.resolve(path).exists())]


def _folders(files: Iterable[Path]) -> set[Path]:
    return {file.parent for file in files} or {paths.ROOT / "params"}


def _of(run: Path) -> list[tuple[str, Path]]:
    """What else there is of a run, with its kind: its resume point, its log, Slurm's."""
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

"""A study's params -> the jobs that make it. A job's folder is named by the hash of all that its result depends on.

data ─► leakage ─┐                                   ┌► one job a figure ─┐
         base ───┴► train ─► evaluate ─► scores ─┬─┴► claims ─► tables ─┴► report

The hash covers the job's parameters, the hashes of the jobs it needs, and the code of its notebook and of the library
files that it uses: editing a figure draws that figure again, and the report that shows it. Comments and docstrings do
not count, nor what JupyterLab saves: outputs, Markdown, values of parameters. The checks of leakage and of the base
model only have to succeed before a model is trained: allowing a leak retrains nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pandas as pd

from medstudy import datasets, depends, elements, parquet, paths, redact, syntax
from medstudy.errors import ParamsError, RunError
from medstudy.params import Study

NOTEBOOK = {
    "data": "01_data",
    "leakage": "01_leakage",
    "base": "01_model",
    "train": "02_train",
    "evaluate": "03_evaluate",
    "scores": "04_scores",
    "claims": "05_claims",
    "figure": "06_figure",
    "tables": "07_tables",
    "report": "08_report",
}
_SHOWN = ("report.py", "parquet.py", "leakage.py", "datasets/store.py", "redact.py")
SOURCES = {  # what makes a stage's result; what these files and the notebook import counts too (`medstudy.depends`)
    "data": ("datasets/build.py", "sources/splits.py"),  # and the data set's own
    "leakage": ("leakage.py",),
    "base": ("base_model.py",),  # of the three with a model also its family's own
    "train": ("training.py",),
    "evaluate": ("evaluation.py",),
    "scores": ("scoring.py",),
    "claims": ("report.py", "parquet.py", "leakage.py", "claims.py", "figures/data.py", "figures/saving.py"),
    "figure": (*_SHOWN, "figures/__init__.py"),  # and the figure's own
    "tables": (*_SHOWN, "tables/__init__.py"),
    "report": (*_SHOWN, "figures/index.py", "page.py", "templates/*.jinja", "templates/*.css"),
}
LARGE = 2**26  # bytes of a file of weights whose hash is kept


@dataclass(frozen=True)
class Job:
    """One notebook to run: `python -m medstudy notebook NOTEBOOK --out DIR -p study … -p run NAME`."""

    stage: str
    name: str
    dir: Path
    needs: tuple[str, ...]
    notebook: str
    parameters: dict
    identity: str
    upstream: tuple[Job, ...] = field(default=(), repr=False, compare=False)  # the jobs that `needs` names

    @property
    def record(self) -> Path:
        return self.dir / paths.RECORD

    @property
    def done(self) -> bool:
        return self.record.is_file()

    @property
    def processes(self) -> int:
        """Of the job, one a core or card."""
        return self.parameters["training"]["processes"] if self.stage == "train" else 1

    @property
    def cards(self) -> int:
        """GPUs that it wants, where there are any."""
        return self.processes if self.stage in ("train", "evaluate") else 0

    def inputs(self, stage: str) -> list[Job]:
        """The complete jobs of one stage whose results this job reads. Raises RunError if one is not complete."""
        jobs = [job for job in self.upstream if job.stage == stage]
        for job in jobs:
            if not job.done:
                raise RunError(
                    f"{self.name} needs {job.name}, which is not complete: {job.record} is missing. "
                    f"Run the study first, or that job alone."
                )
        return jobs

    def folders(self, stage: str) -> list[Path]:
        """The folders of `inputs`."""
        return [job.dir for job in self.inputs(stage)]


def plan(study: Study) -> list[Job]:
    """Every job of the study, each after the ones that it needs; those of several models one after the other."""
    jobs: dict[str, Job] = {}
    for one in study.each():
        _plan(one, jobs)
    return list(jobs.values())


def _plan(study: Study, jobs: dict[str, Job]) -> None:
    """Add the jobs of one model's study."""

    def add(
        stage: str, rest: str, needs: Iterable[str], after: Iterable[str] = (), own: Iterable[str] = (), **parameters
    ) -> str:  # fmt: skip
        """after: jobs that must succeed before, but have no say in what this one makes. own: files of this job."""
        needs = tuple(needs)
        label = None if stage in ("data", "leakage") else study.model.label  # what all models share is named after none
        name = "-".join(filter(None, (stage, label, rest)))
        known = [[need, jobs[need].identity] for need in needs]  # in order: the claims' names follow it
        identity = hash_of({"stage": stage, "needs": known, "code": stage_code(stage, *own)} | parameters)
        folder, names = study.runs / f"{name}-{identity[:12]}", (*needs, *after)
        upstream = tuple(jobs[other] for other in names)
        jobs[name] = Job(stage, name, folder, names, NOTEBOOK[stage], parameters, identity, upstream)
        return name

    data = [
        add("data", datasets.label(one), (), data=redact.tree(one.model_dump(mode="json"), redact.FIELDS),
            version=datasets.version(one), own=datasets.sources(one))
        for one in study.datasets
    ]
    leaks = add("leakage", "", data, leakage=study.leakage.model_dump())
    model = redact.tree(study.model.model_dump(exclude={"label"}), redact.FIELDS)
    family = depends.family(study.model.family)
    common = {"model": model, "weights": weights_of(study), "interpolation": study.interpolation, "own": (family,)}
    checked = [leaks, add("base", "", (), inference=[rung.model_dump() for rung in study.inference], **common)]
    evaluations = [_evaluate(add, study, common, data, "base", study.seeds[0], after=checked)]
    for regime in study.regimes:
        for seed in study.seeds:
            train = add(
                "train",
                f"{regime.label}-s{seed}",
                data,
                after=checked,
                label=regime.label,
                regime=regime.model_dump(),
                seed=seed,
                training=study.training.model_dump(exclude={"checkpoint_seconds"}),
                **common,
            )
            evaluations.append(_evaluate(add, study, common, [*data, train], regime.label, seed))
    scores = add("scores", "", evaluations)
    claims = add("claims", "", [leaks, scores], low=study.low, intervals=study.intervals.model_dump())
    shown = redact.tree(study.model_dump(mode="json", exclude={"root", "tflops", "workers"}), redact.FIELDS)
    figures = [
        add("figure", name, [*data, leaks, scores], study=shown, element=name,
            own=(f"figures/{elements.module(name)}.py",))
        for name in elements.FIGURES
    ]
    tables = add("tables", "", [*data, leaks, scores, claims], study=shown)
    add("report", "", [*data, leaks, scores, *figures, tables, claims], study=shown)


def mark(jobs: Iterable[Job], folder: Path) -> None:
    """Make one scheduler's markers in `folder`, a file a complete run by its folder's name, agree with the records."""
    folder.mkdir(parents=True, exist_ok=True)
    there = {file.name for file in folder.iterdir()}
    done = {item.dir.name for item in jobs if item.done}
    for name in done - there:
        (folder / name).touch()
    for name in there - done:
        (folder / name).unlink()


def find(study: Study, name: str) -> tuple[Study, Job]:
    """One job by name, and the study of its model. Raises ParamsError with the names that there are."""
    for one in study.each():
        for item in plan(one):
            if item.name == name:
                return one, item
    raise ParamsError(f"A run of {study.study} is one of {', '.join(item.name for item in plan(study))}; got {name!r}.")


def job(study: Study, name: str) -> Job:
    """One job by name; see `find`."""
    return find(study, name)[1]


def gather(jobs: Iterable[Job], file: str, columns: Collection[str] | None = None) -> pd.DataFrame:
    """One parquet file of several runs, as one table; of large ones only `columns`, as `parquet.read` reads them."""
    files = [item.dir / file for item in jobs]
    if columns is not None:
        return parquet.read(files, columns)
    return pd.concat([pd.read_parquet(one) for one in files], ignore_index=True)


def _evaluate(add, study: Study, common: dict, needs: list[str], regime: str, seed: int, after: Iterable[str] = ()):
    views = study.controls.views if regime == study.controls.of else ()
    return add(
        "evaluate",
        f"{regime}-s{seed}",
        needs,
        after,
        regime=regime,
        seed=seed,
        study=study.study,
        inference=[rung.model_dump() for rung in study.inference],
        controls=[view.model_dump() for view in views],
        evaluation=study.evaluation.model_dump(),
        **common,
    )


def hash_of(content: dict) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


@cache
def stage_code(stage: str, *own: str) -> str:
    """Hash of the stage's notebook and library files, and of those that are its own alone."""
    notebook = syntax.notebook(paths.NOTEBOOKS / f"{NOTEBOOK[stage]}.ipynb")
    library = depends.code(*SOURCES[stage], *depends.used(notebook), *own)
    return hash_of({"library": library, "notebook": notebook.digest})


def weights_of(study: Study) -> str:
    """Identity of the model to start from: the hash of its weights when it is a folder, else id and revision."""
    folder = paths.BASE if study.model.id == "base" else paths.resolve(study.model.id)
    kinds = ("*.safetensors", "*.json", "*.jinja", "*.txt", "*.model")  # all that from_pretrained reads
    files = sorted(file for kind in kinds for file in folder.glob(kind)) if folder.is_dir() else []
    return hash_of({file.name: _digest(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files})


@cache
def _digest(file: Path, size: int, changed: int) -> str:
    """SHA-256 of a file, read once a process as long as it is the same; of a large one, once on this machine."""
    if size < LARGE:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    name = hashlib.sha256(f"{file.resolve()} {size} {changed}".encode()).hexdigest()
    known = Path.home() / ".cache" / "medstudy" / "digests" / name
    if not known.is_file():
        with open(file, "rb") as stream, paths.atomic(known) as temporary:
            temporary.write_text(hashlib.file_digest(stream, "sha256").hexdigest(), encoding="utf-8")
    return known.read_text(encoding="utf-8")

"""From a study's params to its jobs. A job's folder is named by the hash of everything that its result depends on.

data ─► leakage ─┐                                   ┌► one per figure ───┐
         base ───┼► train ─► evaluate ─► scores ─┬─┴► claims ─► tables ─┴► report
                 └► bounds ──────────────────────┘

A study of frozen encoders (`probe` instead of `training`) is data ─► leakage ─► probe. A study without regimes goes
from the check of its model (base) to its evaluation. Of several models, `compare` shows scores and costs together.

The hash covers the job's parameters, the hashes of the jobs that it needs, and the code of its notebook and of the
library files that it uses: editing a figure redraws that figure and remakes the report that shows it. Comments and
docstrings do not count, nor does what JupyterLab saves: outputs, Markdown, values of parameters. The checks of leakage
and of the base model only have to succeed before a model is trained: allowing a leak retrains nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from medstudy import datasets, paths
from medstudy.errors import ParamsError, RunError
from medstudy.params import DECIDING, Model, Study
from medstudy.resolution.policies import Control, DownUp
from medstudy.runs import identity, stages
from medstudy.utils import redact


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
        """How many processes the job starts; each uses one core or GPU."""
        if self.stage == "data":
            return datasets.max_processes(self.parameters["data"]["name"])
        return self.parameters["training"]["processes"] if self.stage == "train" else 1

    @property
    def gpus(self) -> int:
        """How many GPUs the job uses, on a machine with GPUs."""
        if (self.parameters.get("model") or {}).get("server"):
            return 0  # which are the server's
        return self.processes if self.stage in ("train", "evaluate", "bounds", "probe") else 0

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


def job_name(stage: str, label: str | None, rest: str) -> str:
    """A job's name: its stage, the label of its model in a study of several, and the rest that makes it unique."""
    return "-".join(filter(None, (stage, label, rest)))


def plan(study: Study) -> list[Job]:
    """Every job of the study, each after those that it needs; model after model."""
    jobs: dict[str, Job] = {}
    for one_model in study.each():
        _plan(one_model, jobs)
    if len(study.models) > 1 and not study.probe:
        of_all = [job_name(stage, model.label, "") for stage in ("scores", "claims") for model in study.models]
        about = {"study": study.study, "trains": study.trains, "confidence": study.intervals.confidence}
        _add(study, jobs, "compare", "", of_all, about=about, models=[model.label for model in study.models])
    return list(jobs.values())


def _add(
    study: Study, jobs: dict[str, Job], stage: str, rest: str, needs: Iterable[str], /, after: Iterable[str] = (),
    own: Iterable[str] = (), **parameters: Any,
) -> str:
    """Add a job; returns its name.

    after: jobs that must succeed first but do not change the result. own: library files of this job alone.
    """
    needs = tuple(needs)
    label = None if stage in ("data", "leakage") else study.model.label  # jobs that all models share
    name = job_name(stage, label, rest)
    known = [[need, jobs[need].identity] for need in needs]  # in this order: the identity of claims depends on it
    code = identity.stage_code(stage, *own)
    digest = identity.hash_of({"stage": stage, "needs": known, "code": code} | parameters)
    folder, names = study.runs / f"{name}-{digest[:12]}", (*needs, *after)
    upstream = tuple(jobs[other] for other in names)
    jobs[name] = Job(stage, name, folder, names, stages.NOTEBOOK[stage], parameters, digest, upstream)
    return name


def _plan(study: Study, jobs: dict[str, Job]) -> None:
    """Add the jobs of one model's study."""

    add = partial(_add, study, jobs)
    data = [
        add("data", datasets.label(dataset), (), data=_data(dataset), version=datasets.version(dataset),
            own=datasets.sources(dataset))
        for dataset in study.datasets
    ]
    leaks = add("leakage", "", data, leakage=study.leakage.model_dump())
    model = _model(study.model)
    own = () if study.model.family == "vision" else (identity.family(study.model.family),)
    own += () if study.evaluation.engine == "own" else (identity.ENGINES[study.evaluation.engine],)
    common = {"model": model, "weights": identity.weights_of(study), "interpolation": study.interpolation, "own": own}
    read = common | {"inference": [rung.model_dump() for rung in study.inference], "low": study.low,
                     "low_policy": study.low and study.policy(study.low).model_dump(),
                     "confidence": study.intervals.confidence}
    if study.probe:
        shown = {"study": study.title, "regimes": [regime.model_dump() for regime in study.regimes]}
        add("probe", "", data, after=[leaks], settings=study.probe.model_dump(), **shown, **read)
        return
    checked = [leaks, add("base", "", (), inference=[rung.model_dump() for rung in study.inference], **common)]
    evaluations = [_evaluate(add, study, common, data, "base", study.seed, after=checked)]
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
    bounds = []
    if study.bounded and study.model.abilities.bounds:
        bounds = [add("bounds", "", data, after=checked, settings=study.bounded.model_dump(), **read)]
    scores = add("scores", "", evaluations)
    # Of a model as it is, claims also read from its check at which resolution it was trained
    own = {} if study.trains else {"trained_on": study.model.trained_on and study.model.trained_on.model_dump()}
    claims = add("claims", "", [leaks, scores, *([] if study.trains else checked[1:])], low=study.low,
                 intervals=study.intervals.model_dump(), no_claims=datasets.without_claims(study.datasets), **own)
    shown = redact.tree(study.model_dump(mode="json", exclude={"root", "tflops", "workers"}), redact.FIELDS)
    if study.model.server is not None:
        shown["model"] = model | {"label": study.model.label}
    figures = [
        add("figure", name, [*data, leaks, scores, *bounds], study=shown, element=name,
            own=(f"report/figures/{stages.module(name)}.py",))
        for name in stages.FIGURES
    ]
    tables = add("tables", "", [*data, leaks, scores, *bounds, claims], study=shown)
    add("report", "", [*data, leaks, scores, *bounds, *figures, tables, claims], study=shown)


def _model(model: Model) -> dict:
    """The parameters that decide what a model answers, without local paths and a server's address, pace and caps."""
    unused = {"label", "server", "trained_on"} | ({"clip"} if model.clip is None else set())
    decides = redact.tree(model.model_dump(exclude=unused), redact.FIELDS)
    if model.server is None:
        return decides
    server = model.server.model_dump(mode="json", include=set(DECIDING)) | {"name": redact.host(model.server.base_url)}
    return decides | {"server": server}


def _data(dataset: datasets.Params) -> dict:
    """The parameters that decide what a data set holds, without local paths."""
    return redact.tree(dataset.model_dump(mode="json", exclude={"no_claims"}), redact.FIELDS)


def find(study: Study, name: str) -> tuple[Study, Job]:
    """The job of this name and the study of its model. Raises ParamsError that lists all names."""
    for one_model in study.each():
        for planned in plan(one_model):
            if planned.name == name:
                return one_model, planned
    for planned in plan(study):  # of all models together
        if planned.name == name:
            return study, planned
    names = ", ".join(planned.name for planned in plan(study))
    raise ParamsError(f"A run of {study.study} is one of {names}; got {name!r}.")


def job(study: Study, name: str) -> Job:
    """The job of this name; see `find`."""
    return find(study, name)[1]


def views_of(study: Study, regime: str) -> tuple[Control, ...]:
    """The views besides the ladder at which a regime's models are evaluated: controls, and its own if it is no rung."""
    controls = study.controls.views if regime == study.controlled else ()
    own = [policy for policy in study.regimes if policy.label == regime and isinstance(policy, DownUp)]
    return (*controls, *(policy for policy in own if policy not in controls))


def _evaluate(
    add: Callable[..., str], study: Study, common: dict, needs: list[str], regime: str, seed: int,
    after: Iterable[str] = (),
) -> str:
    """Add one evaluation; returns its name."""
    return add(
        "evaluate",
        f"{regime}-s{seed}",
        needs,
        after,
        regime=regime,
        seed=seed,
        study=study.study,
        inference=[rung.model_dump() for rung in study.inference],
        controls=[view.model_dump() for view in views_of(study, regime)],
        evaluation=study.evaluation.model_dump(),
        **common,
    )

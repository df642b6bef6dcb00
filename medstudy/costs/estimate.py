"""What a study costs before it runs: FLOPs, seconds, memory and disk of every job, next to those of finished jobs.

`estimate(study)` is a table with one row per job; `totals` sums it up. The numbers come from:

- FLOPs: `medstudy.engine.flops` over the same views and passes as in the jobs (`medstudy.costs.workload`). Answers are
  assumed to be as long as their references.
- seconds: `medstudy.costs.throughput`, measured, rated, calibrated or stated; jobs without a model are not predicted.
- memory: `medstudy.costs.memory`, by formula. On a CPU it includes the process itself; on CUDA, and for a stated rate,
  it is the device's memory alone.
- disk: `medstudy.costs.disk`. What several jobs need is counted once, at the first of them in the order of the table,
  and so are the tower's passes that make cached features.
"""

from __future__ import annotations

import gc
import heapq
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import reduce
from operator import add

import pandas as pd

from medstudy import models
from medstudy.costs import bounds, disk, elsewhere, memory, throughput
from medstudy.costs.examples import examples, origins
from medstudy.costs.job_workload import JobWorkload
from medstudy.costs.workload import Counter, trainable
from medstudy.data.example import Example
from medstudy.engine import flops
from medstudy.models import summary
from medstudy.models.family import Family
from medstudy.models.loading import default_device
from medstudy.params import Study
from medstudy.resolution.policies import Control
from medstudy.runs import record
from medstudy.runs.plan import Job, plan, views_of
from medstudy.training.train import check_data
from medstudy.utils import redact
from medstudy.utils.progress import bar

MB = 2**20
TEXTS = ("job", "stage", "needs", "state")
COLUMNS = {
    "job": "its name",
    "stage": "data, leakage, base, train, evaluate, bounds, scores, claims, figure, tables or report; probe; compare",
    "needs": "the jobs that it waits for",
    "state": "done, or to do",
    "images": "images shown, each time they are shown; a training includes its validations",
    "questions": "questions asked or trained on, each time",
    "visual_tokens": "visual tokens shown",
    "turns": "how often the layers run in sequence: steps, passes of validations and answers, decoded tokens",
    "training_flops": "FLOPs of the training steps, as training.parquet logs them",
    "flops": "all FLOPs of the job, including the tower's passes for features that it is the first to need",
    "seconds": "predicted",
    "memory_mb": "predicted peak in MB (2^20 bytes); on CUDA of each device, on a CPU of all processes",
    "data_mb": "encoded images that the job reads one by one, where its data is built; not part of memory_mb",
    "checkpoint_mb": "on disk when the job is done",
    "cache_mb": "resized images or features that the job is the first to need",
    "resume_mb": "on disk while a training runs longer than checkpoint_seconds",
    "measured_seconds": "from the record of a finished job",
    "measured_memory_mb": "peak resident memory of its process",
    "measured_tflops": "predicted FLOPs over measured seconds, in 10^12 per second",
    "seconds_ratio": "measured over predicted",
    "memory_ratio": "measured over predicted; empty on CUDA (a record has the host's memory) and for several processes",
}


def estimate(
    study: Study, tflops: float | None = None, progress: bool = False, known: set[tuple] | None = None,
    data: dict[str, list[Example]] | None = None,
) -> pd.DataFrame:
    """One row per job, in the order of the plan; `COLUMNS` describes the columns.

    tflops: the sustained rate of a device in 10^12 operations per second; None takes finished jobs, else the study's
    rate, else this device. known, data: for a study of several models, the views of resized images that jobs of other
    models cache already, and the examples, which all models share.

    The table's attrs hold the pace of each stage, its source and basis, and the numbers of weights. Raises ParamsError
    if the model is too large to calibrate here and `tflops` is None, ResolutionError for a view that fits in no pass.
    """
    if study.models:
        return _of_each_model(study, tflops, progress)
    if study.probe:
        return _of_probe(study, tflops, data)
    if not study.model.abilities.counts:
        return _of_elsewhere(study, data)
    # The model twice: as it is evaluated, and as a training prepares it
    jobs, plain = plan(study), models.sketch(study.model)
    family, adapter = trainable(study)
    counter = Counter(study, family)
    # The examples, and the work of each job on them
    data = examples(study, jobs) if data is None else data
    sources = origins(study, jobs, data)
    if study.trains and not data["train"] and not any("NOT COUNTED" in source["from"] for source in sources):
        check_data(data, study.study)
    with _no_garbage_collection():
        work = _with_caches(counter, _workloads(study, jobs, counter, data, progress), known)
    # Seconds, memory and disk of each job
    speed = throughput.of(study, counter, [(job, workload) for job, workload, _ in work], data, tflops)
    device = "stated" if speed.source == "stated" else default_device().type
    checkpoint = disk.checkpoint(family if adapter else plain, adapters_only=adapter is not None)
    resume = 0
    if study.trains:
        resume = memory.trained(family.model) + memory.optimizer_states(family.model, study.training)
    rows = {job.name: {"job": job.name, "stage": job.stage, "needs": ", ".join(job.needs)} for job in jobs}
    for job, workload, cached in work:
        sketch = family if job.stage == "train" else plain
        rows[job.name] |= {name: getattr(workload, name) for name in
                           ("images", "questions", "visual_tokens", "turns", "training_flops", "flops")}
        rows[job.name] |= {
            "seconds": getattr(speed, job.stage).seconds(workload.turns, workload.flops),
            "memory_mb": _memory(study, job, workload, sketch, counter.stored, device) / MB,
            "data_mb": disk.encoded_images(jobs, job) / MB,
            "cache_mb": cached / MB,
        }
        if job.stage == "train":
            rows[job.name] |= {"checkpoint_mb": checkpoint / MB, "resume_mb": resume / MB}
    for job in jobs:
        if job.stage == "bounds":
            rows[job.name] |= bounds.of_bounds(study, plain, data, speed.evaluate.rate)
    frame = _frame(jobs, rows)
    model = redact.last(study.model.id)
    frame.attrs |= {
        "study": study.title,
        "model": f"{model} ({plain.revision})" if plain.revision == "published sizes" else model,
        "data": sources,
        "device": device,
        "weights": summary.weights(plain),
        "trained": sum(p.numel() for p in family.model.parameters() if p.requires_grad) if study.trains else 0,
        "adapters": adapter is not None,
        "speed": _json(asdict(speed)),
    }
    return frame


def _of_probe(study: Study, tflops: float | None, data: dict[str, list[Example]] | None) -> pd.DataFrame:
    """The estimate of a study of frozen encoders, at a stated rate, else at a rate that is assumed for the device."""
    jobs, tower, device = plan(study), bounds.sketch(study.model), default_device().type
    data = examples(study, jobs) if data is None else data
    stated = tflops or study.tflops
    rate = stated * 1e12 if stated else throughput.PASS_FLOPS[device]
    rows = {job.name: {"job": job.name, "stage": job.stage, "needs": ", ".join(job.needs)} for job in jobs}
    for job in jobs:
        if job.stage == "probe":
            rows[job.name] |= bounds.of_probe(study, tower, data, rate)
    frame = _frame(jobs, rows)
    pace = throughput.Pace(bounds.START_SECONDS, 0.0, rate)
    basis = f"{rate / 1e12:g} TFLOP/s, {'stated' if stated else 'not measured'}"
    frame.attrs |= {
        "study": study.title, "model": redact.last(study.model.id), "data": origins(study, jobs, data),
        "device": "stated" if tflops else device, "trained": 0, "adapters": False,
        "weights": {"encoder": sum(weight.numel() for weight in tower.model.parameters())},
        "speed": {"source": "stated" if stated else "assumed", "basis": basis, "probe": _json(asdict(pace))},
    }
    return frame


def _of_elsewhere(study: Study, data: dict[str, list[Example]] | None) -> pd.DataFrame:
    """The estimate of a model whose work is not known here: how often it is asked."""
    jobs, rows, sources = elsewhere.counted(study, data)
    frame = _frame(jobs, rows)
    frame.attrs |= {
        "study": study.title, "model": redact.last(study.model.id), "data": sources, "device": default_device().type,
        "trained": 0, "adapters": False, "weights": {}, "speed": {"source": "unknown", "basis": elsewhere.NOT_KNOWN},
    }
    return frame


def _frame(jobs: Sequence[Job], rows: dict[str, dict]) -> pd.DataFrame:
    """The table, with the measurements of finished jobs."""
    for job in jobs:
        rows[job.name] |= _measured(job, rows[job.name])
    frame = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    return frame.astype({name: float for name in COLUMNS if name not in TEXTS})


def _of_each_model(study: Study, tflops: float | None, progress: bool) -> pd.DataFrame:
    """The estimates of all models; a job that they share has one row, from the first."""
    known, first = set(), next(iter(study.each()))
    with _no_garbage_collection():
        data = examples(first, plan(first))
        frames = [estimate(single, tflops, progress, known, data) for single in study.each()]
    named = {name for part in frames for name in part["job"]}
    rest = [job for job in plan(study) if job.name not in named]  # those of all models together
    rows = {job.name: {"job": job.name, "stage": job.stage, "needs": ", ".join(job.needs)} for job in rest}
    parts = [*frames, _frame(rest, rows)] if rest else frames
    frame = pd.concat(parts, ignore_index=True).drop_duplicates("job", ignore_index=True)
    frame.attrs |= {"study": study.study, "models": [part.attrs for part in frames]}
    return frame


def totals(frame: pd.DataFrame, at_once: int) -> dict[str, float]:
    """Sums over the jobs with a model (others have no prediction): seconds of work and wall time, disk, memory.

    at_once: jobs that run at once, assumed not to slow each other down. For the wall time each job starts as soon as
    the jobs that it needs are done, in the order of the table. disk_mb includes the resume points, and memory_mb the
    peaks, of the `at_once` largest jobs.
    """
    left = frame[frame["state"] != "done"]
    return {
        "jobs": len(frame),
        "done": len(frame) - len(left),
        "flops": float(frame["flops"].sum()),
        "seconds": float(frame["seconds"].sum()),
        "seconds_left": float(left["seconds"].sum()),
        "seconds_measured": float(frame["measured_seconds"].sum()),
        "at_once": at_once,
        "wall_seconds": _wall(frame, at_once),
        "wall_seconds_left": _wall(left, at_once),
        "disk_mb": float(frame[["checkpoint_mb", "cache_mb"]].sum().sum() + frame["resume_mb"].nlargest(at_once).sum()),
        "memory_mb": float(frame["memory_mb"].nlargest(at_once).sum()),
    }


def grouped(frame: pd.DataFrame) -> pd.DataFrame:
    """One row for all jobs that differ only by seed: means of the numbers, how many `seeds`, how many are `done`."""
    name = frame["job"].str.replace(r"-s\d+$", "", regex=True)
    numbers = {column: "mean" for column in frame.columns if column not in TEXTS}
    table = frame.assign(job=name, seeds=1, done=frame["state"] == "done").groupby("job", sort=False)
    return table.agg({"stage": "first", "seeds": "sum", "done": "sum"} | numbers).reset_index()


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Counting makes millions of small lasting objects and no cycles; searching for cycles took a third of its time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _workloads(
    study: Study, jobs: Sequence[Job], counter: Counter, data: dict[str, list[Example]], progress: bool
) -> list[tuple[Job, JobWorkload]]:
    """The work of every job with a model. Evaluations of the same views share one object."""
    modelled = [job for job in jobs if job.stage in ("train", "evaluate")]
    rungs: dict[str, JobWorkload] = {}
    evaluations: dict[tuple[Control, ...], JobWorkload] = {}  # by the views besides the ladder
    line = bar("counting", "job", len(modelled)) if progress else None
    workloads = []
    for job in modelled:
        if job.stage == "train":
            workload = counter.training(data, study.policy(job.parameters["label"]), job.parameters["seed"])
        else:
            controls = views_of(study, job.parameters["regime"])
            if controls not in evaluations:
                policies = [*study.inference, *controls]
                for policy in policies:
                    if policy.label not in rungs:
                        rungs[policy.label] = counter.evaluation(data["test"], [policy])
                evaluations[controls] = reduce(add, (rungs[policy.label] for policy in policies))
            workload = evaluations[controls]
        workloads.append((job, workload))
        if line is not None:
            line.update()
    if line is not None:
        line.close()
    return workloads


def _with_caches(
    counter: Counter, workloads: Sequence[tuple[Job, JobWorkload]], known: set[tuple] | None
) -> list[tuple[Job, JobWorkload, int]]:
    """Add to each job what it is the first to need: the tower's passes to its FLOPs, and its bytes in the cache.

    known: see `estimate`; new views are added to it. Features are not shared between models.
    """
    known = set() if known is None or counter.stored else known
    rows, counted = [], []
    for job, workload in workloads:
        again = any(workload is other for other in counted)  # an evaluation of the same views
        counted.append(workload)
        new = [] if again else [view for name, view in workload.views.items() if name not in known]
        known.update(() if again else workload.views)
        towers = (flops.tower_flops(counter.shape, count) for view in new for count in counter.patches(view))
        total = workload.flops + (sum(towers) if counter.stored else 0.0)
        rows.append((job, replace(workload, flops=total), disk.cache(counter, new)))
    return rows


def _json(values: dict) -> dict:
    """For JSON: an infinite rate, which means that FLOPs had no effect on the seconds, becomes None."""
    return {name: _json(part) if isinstance(part, dict) else None if part == math.inf else part
            for name, part in values.items()}


def _memory(study: Study, job: Job, workload: JobWorkload, family: Family, stored: bool, device: str) -> float:
    """Bytes at the job's peak."""
    host = memory.PROCESS if device == "cpu" else 0
    if job.stage == "train":
        processes = study.training.processes if device == "cpu" else 1
        return processes * (host + memory.training(family, study.training, stored, workload.passes))
    return host + memory.evaluation(family, stored, workload)


def _measured(job: Job, row: dict[str, float]) -> dict[str, str | float]:
    """A finished job's measurements, to compare with its prediction."""
    if not job.done:
        return {"state": "to do"}
    measured = record.read(job)
    seconds, peak = measured["seconds"], measured["peak_memory_mb"]
    columns = {"state": "done", "measured_seconds": seconds, "measured_memory_mb": peak}
    if "seconds" in row:
        columns |= {"measured_tflops": row["flops"] / seconds / 1e12, "seconds_ratio": seconds / row["seconds"]}
        # With several processes the record is of the one that waits for them
        single = job.parameters.get("training", {}).get("processes", 1) == 1
        if default_device().type == "cpu" and single:
            columns["memory_ratio"] = peak / row["memory_mb"]
    return columns


def _wall(frame: pd.DataFrame, at_once: int) -> float:
    """Seconds until the last job ends; each starts when one of `at_once` places is free and what it needs is done."""
    ends: dict[str, float] = {}
    places = [0.0] * at_once  # when each becomes free
    waiting = dict(zip(frame["job"], zip(frame["needs"], frame["seconds"].fillna(0.0), strict=True), strict=True))
    while waiting:
        # When the needs of each startable job are done; needs outside the frame count as done
        ready = {name: max([0.0, *(ends.get(need, 0.0) for need in needs.split(", "))])
                 for name, (needs, _) in waiting.items()
                 if not any(need in waiting for need in needs.split(", "))}
        # The first free place takes the job that can start first, in the order of the table
        now = heapq.heappop(places)
        name = min(ready, key=lambda name: max(now, ready[name]))
        ends[name] = max(now, ready[name]) + waiting.pop(name)[1]
        heapq.heappush(places, ends[name])
    return max(ends.values(), default=0.0)

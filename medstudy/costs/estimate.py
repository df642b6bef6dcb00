"""What a study costs before it runs: every job's FLOPs, seconds, memory and disk, beside what finished jobs measured.

`estimate(study)` is a table with one row a job; `totals` sums it up. What each number rests on:

- FLOPs: `medstudy.engine.flops` over the very views and passes of the jobs (`medstudy.costs.workload`). Decoding
  assumes answers as
  long as their references.
- seconds: `medstudy.costs.throughput`, measured, rated, calibrated or stated; jobs without a model are not predicted.
- memory: `medstudy.costs.memory`, by formula; on a CPU with the process itself and the encoded images that it holds,
  on CUDA
  and on a device whose rate is stated the device's memory alone.
- disk: weights and processor as they are saved; resized images or a frozen tower's features that are kept for all
  jobs. What several jobs need is counted once, at the first of them in the order of the table, and so are the tower's
  passes that make the features.
"""

from __future__ import annotations

import gc
import heapq
import math
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import reduce
from operator import add
from pathlib import Path

import pandas as pd

from medstudy import datasets, models
from medstudy.costs import memory, throughput, workload
from medstudy.data.example import SPLITS, Example
from medstudy.datasets import published_sizes
from medstudy.engine import flops as engine_flops
from medstudy.models import summary
from medstudy.models.family import home
from medstudy.params import Study
from medstudy.resolution.sizes import Size
from medstudy.runs import plan
from medstudy.runs import record as runs_record
from medstudy.training import train
from medstudy.utils import redact
from medstudy.utils.progress import bar, track

MB = 2**20
HEADER_BYTES = 75  # of a safetensors file, a tensor: its type, shape and place, beside its name
TEXTS = ("job", "stage", "needs", "state")
COLUMNS = {
    "job": "its name",
    "stage": "data, leakage, base, train, evaluate, scores, claims, figure, tables or report",
    "needs": "the jobs that it waits for",
    "state": "done, or to do",
    "images": "images shown, each as often as it is shown; of a training with its validations",
    "questions": "questions asked or trained on, as often",
    "visual_tokens": "visual tokens shown",
    "turns": "times that the layers run one after the other: steps, passes of validations and answers, tokens decoded",
    "training_flops": "FLOPs of the training steps, as training.parquet logs them",
    "flops": "all FLOPs of the job, with the tower's passes for features that it is the first to need",
    "seconds": "predicted",
    "memory_mb": "predicted peak in MB (2^20 bytes); on CUDA of each device, on a CPU of all processes",
    "data_mb": "of encoded images that the job reads one by one, where its data is built; no part of memory_mb",
    "checkpoint_mb": "on disk when the job is done",
    "cache_mb": "resized images or features that the job is the first to need",
    "resume_mb": "on disk while a training runs longer than checkpoint_seconds",
    "measured_seconds": "from the record of a finished job",
    "measured_memory_mb": "peak resident memory of its process",
    "measured_tflops": "predicted FLOPs over measured seconds, in 10^12 a second",
    "seconds_ratio": "measured over predicted",
    "memory_ratio": "measured over predicted; empty on CUDA (a record has the host's memory) and of several processes",
}


def estimate(
    study: Study, tflops: float | None = None, progress: bool = False, known: set[tuple] | None = None,
    data: dict[str, list[Example]] | None = None,
) -> pd.DataFrame:
    """One row a job, in the order of the grid; `COLUMNS` says what each column is.

    known, data: of a study of several models, the views of resized images that jobs of other models keep already, and
    the examples, which all share. tflops: the sustained rate of a device in
    10^12 operations a second; None takes finished jobs, else the study's own statement, else calibrates.
    The table's attrs hold the pace of each stage, its source and basis, and the numbers of weights. Raises ParamsError
    when the model is too large to calibrate here and `tflops` is None, ResolutionError for a view that fits in no pass.
    """
    if study.models:
        known, first = set(), next(iter(study.each()))
        with _uncollected():
            data = examples(first, plan.plan(first))
            frames = [estimate(one, tflops, progress, known, data) for one in study.each()]
        whole = pd.concat(frames, ignore_index=True).drop_duplicates("job", ignore_index=True)
        whole.attrs |= {"study": study.study, "models": [frame.attrs for frame in frames]}
        return whole
    jobs, plain = plan.plan(study), models.sketch(study.model)
    family, adapter = workload.trainable(study)
    counter = workload.Counter(study, family)
    data = examples(study, jobs) if data is None else data
    origins = _origins(study, jobs, data)
    if not data["train"] and not any("NOT COUNTED" in one["from"] for one in origins):
        train.check_data(data, study.study)
    with _uncollected():
        needs = _shared(counter, _demands(study, jobs, counter, data, progress), known)
    pace = throughput.of(study, counter, [(job, needed) for job, needed, _ in needs], data, tflops)
    device = "stated" if pace.source == "stated" else home().type
    saved = checkpoint_bytes(family if adapter else plain, adapters_only=adapter is not None)
    rows = {job.name: {"job": job.name, "stage": job.stage, "needs": ", ".join(job.needs)} for job in jobs}
    for job, needed, cached in needs:
        sketch = family if job.stage == "train" else plain
        rows[job.name] |= _counts(needed) | {
            "seconds": getattr(pace, job.stage).seconds(needed.turns, needed.flops),
            "memory_mb": _memory(study, job, needed, sketch, counter.stored, device) / MB,
            "data_mb": _read(jobs, job) / MB,
            "cache_mb": cached / MB,
        }
        if job.stage == "train":
            resume = memory.trained(family.model) + memory.optimizer_states(family.model, study.training)
            rows[job.name] |= {"checkpoint_mb": saved / MB, "resume_mb": resume / MB}
    for job in jobs:
        rows[job.name] |= _measured(job, rows[job.name])
    frame = pd.DataFrame(list(rows.values()), columns=list(COLUMNS))
    frame = frame.astype({name: float for name in COLUMNS if name not in TEXTS})
    model = redact.last(study.model.id)
    frame.attrs |= {
        "study": study.title,
        "model": f"{model} ({plain.revision})" if plain.revision == "published sizes" else model,
        "data": origins,
        "device": device,
        "weights": summary.weights(plain),
        "trained": sum(p.numel() for p in family.model.parameters() if p.requires_grad),
        "adapters": adapter is not None,
        "speed": _plain(asdict(pace)),
    }
    return frame


@contextmanager
def _uncollected() -> Iterator[None]:
    """Counting makes millions of small objects that stay, and no cycle: a third of its time went to looking for one."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def totals(frame: pd.DataFrame, at_once: int) -> dict[str, float]:
    """Sums over the jobs with a model, the others have no prediction: seconds of work and of wall time, disk, memory.

    at_once: jobs at once, assumed not to slow each other down; wall time starts each as soon as what it needs is done,
    in the order of the table. disk_mb holds the resume points, and memory_mb the peaks, of the largest jobs at once.
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
    """One row for the jobs that differ by seed alone: means of the numbers, `seeds` and how many are `done`."""
    name = frame["job"].str.replace(r"-s\d+$", "", regex=True)
    numbers = {column: "mean" for column in frame.columns if column not in TEXTS}
    table = frame.assign(job=name, seeds=1, done=frame["state"] == "done").groupby("job", sort=False)
    return table.agg({"stage": "first", "seeds": "sum", "done": "sum"} | numbers).reset_index()


def examples(study: Study, jobs: Sequence[plan.Job]) -> dict[str, list[Example]]:
    """The examples of each split, all data sets one after the other, as the jobs read them; an image is its size.

    From questions.parquet where a data job is done, else from the data set itself, and where that is not here, as many
    as are published (`medstudy.datasets.published_sizes`).
    """
    made: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for params, job in zip(study.datasets, (job for job in jobs if job.stage == "data"), strict=True):
        table = pd.read_parquet(job.dir / "questions.parquet") if job.done else None
        for split in SPLITS:
            if table is not None:
                made[split] += workload.examples_of(table, split)
                continue
            if published_sizes.is_missing(params):
                made[split] += published_sizes.examples(params, split)
                continue
            for one in track(datasets.load(params, split), f"{datasets.label(params)} {split}", unit="image"):
                made[split].append(_sized(one))
    return made


def _sized(example: Example) -> Example:
    """An example whose images are their sizes."""
    context = tuple(replace(shot, image=Size(shot.image.height, shot.image.width)) for shot in example.context)
    return replace(example, image=Size(example.image.height, example.image.width), context=context)


def checkpoint_bytes(family, adapters_only: bool = False) -> int:
    """A saved checkpoint: its weights, the configuration and the processor's files. adapters_only: as LoRA saves."""
    with tempfile.TemporaryDirectory() as folder:
        family.processor.save_pretrained(folder)
        family.model.config.save_pretrained(folder)
        about = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return about + weight_bytes(family.model, adapters_only)


def weight_bytes(model, adapters_only: bool = False) -> int:
    """The safetensors of a checkpoint with their headers; tied weights once."""
    named = [(name, p) for name, p in model.named_parameters() if not adapters_only or "lora_" in name]
    return sum(p.numel() * p.element_size() + len(name) + HEADER_BYTES for name, p in named)


def _origins(study: Study, jobs: Sequence[plan.Job], data: dict[str, list[Example]]) -> list[dict]:
    """Of each data set: images and questions by split, and what these numbers rest on."""
    made = []
    for params, job in zip(study.datasets, (job for job in jobs if job.stage == "data"), strict=True):
        name = datasets.label(params)
        own = {split: [one for one in some if one.dataset == name] for split, some in data.items()}
        made.append({
            "dataset": name,
            "images": {split: len(some) for split, some in own.items()},
            "questions": {split: sum(len(one.questions) for one in some) for split, some in own.items()},
            "from": "built" if job.done else published_sizes.origin(params) if published_sizes.is_missing(params) else
            "counted",
        })
    return made


def _demands(study: Study, jobs, counter: workload.Counter, data, progress: bool) -> list[tuple[plan.Job,
workload.Demand]]:
    """What every job with a model asks for. All evaluations with the same views ask for the same."""
    modelled = [job for job in jobs if job.stage in ("train", "evaluate")]
    rungs: dict[str, workload.Demand] = {}
    evaluations: dict[bool, workload.Demand] = {}
    line = bar("counting", "job", len(modelled)) if progress else None
    made = []
    for job in modelled:
        if job.stage == "train":
            needed = counter.training(data, study.policy(job.parameters["label"]), job.parameters["seed"])
        else:
            controls = bool(job.parameters["controls"])
            if controls not in evaluations:
                policies = [*study.inference, *(study.controls.views if controls else ())]
                for policy in policies:
                    if policy.label not in rungs:
                        rungs[policy.label] = counter.evaluation(data["test"], [policy])
                evaluations[controls] = reduce(add, (rungs[policy.label] for policy in policies))
            needed = evaluations[controls]
        made.append((job, needed))
        if line is not None:
            line.update()
    if line is not None:
        line.close()
    return made


def _shared(counter: workload.Counter, demands, known: set[tuple] | None) -> list[tuple[plan.Job, workload.Demand,
int]]:
    """Each job with what it is the first to need: the towers' passes in its FLOPs, and the bytes kept for all.

    known: see `estimate`; it grows. Features are a model's own.
    """
    known = set() if known is None or counter.stored else known
    made, seen = [], []
    for job, needed in demands:
        again = any(needed is one for one in seen)  # jobs that ask for the same
        seen.append(needed)
        new = [] if again else [shown for name, shown in needed.views.items() if name not in known]
        known.update(() if again else needed.views)
        if counter.stored:
            family = counter.family
            towers = sum(engine_flops.tower_flops(counter.shape, count) for shown in new for count in
            counter.patches(shown))
            rows = sum(sum(family.feature_counts(family.grid(shown.size))) for shown in new)
            cached = rows * family.feature_width * memory.element(family)
        else:
            towers, cached = 0.0, sum(3 * shown.size.pixels for shown in new)
        made.append((job, replace(needed, flops=needed.flops + towers), cached + HEADER_BYTES * len(new)))
    return made


def _plain(pace: dict) -> dict:
    """As JSON has it: an infinite rate, which says that FLOPs did not show in the seconds, is None."""
    return {name: _plain(part) if isinstance(part, dict) else None if part == math.inf else part
            for name, part in pace.items()}


def _counts(needed: workload.Demand) -> dict[str, float]:
    return {name: getattr(needed, name)
            for name in ("images", "questions", "visual_tokens", "turns", "training_flops", "flops")}


def _memory(study: Study, job: plan.Job, needed: workload.Demand, family, stored: bool, device: str) -> float:
    host = memory.PROCESS if device == "cpu" else 0
    if job.stage == "train":
        processes = study.training.processes if device == "cpu" else 1
        return processes * (host + memory.training(family, study.training, stored, needed.passes))
    return host + memory.evaluation(family, stored, needed)


def _read(jobs: Sequence[plan.Job], job: plan.Job) -> float:
    """Bytes of the files that a job reads its images from; NaN before the data is built."""
    folders = [one.dir for one in jobs if one.stage == "data" and one.done]
    splits = ("train", "val") if job.stage == "train" else ("test",)
    files = [folder / f"{split}.arrow" for folder in folders for split in splits]
    return sum(file.stat().st_size for file in files) if files else math.nan


def _measured(job: plan.Job, row: dict) -> dict:
    """What a finished job's record says, beside its prediction."""
    if not job.done:
        return {"state": "to do"}
    record = runs_record.read(job)
    seconds, found = record["seconds"], {"state": "done", "measured_seconds": record["seconds"]}
    found["measured_memory_mb"] = record["peak_memory_mb"]
    if "seconds" in row:
        found |= {"measured_tflops": row["flops"] / seconds / 1e12, "seconds_ratio": seconds / row["seconds"]}
        alone = job.parameters.get("training", {}).get("processes", 1) == 1  # else the record is of the one that waits
        if home().type == "cpu" and alone:
            found["memory_ratio"] = record["peak_memory_mb"] / row["memory_mb"]
    return found


def _wall(frame: pd.DataFrame, at_once: int) -> float:
    """Seconds until the last job ends, each starting as soon as one of so many places and all it needs are free."""
    ends: dict[str, float] = {}
    places = [0.0] * at_once
    waiting = dict(zip(frame["job"], zip(frame["needs"], frame["seconds"].fillna(0.0), strict=True), strict=True))
    while waiting:
        ready = {name: max([0.0, *(ends.get(need, 0.0) for need in needs.split(", "))])
                 for name, (needs, _) in waiting.items()
                 if not any(need in waiting for need in needs.split(", "))}
        now = heapq.heappop(places)
        name = min(ready, key=lambda name: max(now, ready[name]))
        ends[name] = max(now, ready[name]) + waiting.pop(name)[1]
        heapq.heappush(places, ends[name])
    return max(ends.values(), default=0.0)

"""How long a job takes: seconds = overhead + turns · c + FLOPs / rate, with numbers from one of four sources.

measured: fitted to finished jobs of the study, all on the kind of device that did most of them.
rated: from the GPU's own matrix rate and bandwidth (`medstudy.costs.device_rate`), and an assumed share of that rate.
calibrated: about twenty seconds of the real architecture with random weights on noise, on this machine.
stated: a sustained rate given by the user, or by the study for its intended device.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections import Counter as Counts
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import torch
from scipy.optimize import nnls

from medstudy import models
from medstudy.costs import device_rate, memory
from medstudy.costs.job_workload import JobWorkload
from medstudy.costs.workload import Counter, trainable
from medstudy.data.example import Example
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ParamsError
from medstudy.evaluation.in_process import answers
from medstudy.models.family import Family
from medstudy.models.loading import default_device
from medstudy.params import Optimisation, Study
from medstudy.resolution.policies import Control, Training
from medstudy.resolution.sizes import View
from medstudy.runs import record
from medstudy.runs.plan import Job
from medstudy.training.loop import fit
from medstudy.training.train import loss_of

OVERHEAD_SECONDS = 1.0  # assumed for loading model and data where no overhead was measured
LAYER_SECONDS = 0.001  # assumed for launching the kernels of one layer in one turn, where only a rate is known
PASS_FLOPS = {"cpu": 2e10, "cuda": 1e14}  # limit of a calibrated pass: a second on a slow device
RATE_SHARE = 0.38  # share of a GPU's matrix rate assumed until jobs have finished: measured on an H200, see LOG.md
FREE_SHARE = 0.5  # share of the free memory that a calibration may take
DESIGNS = 4  # evaluations of different work that a fit of three numbers needs
ROUNDS, ANSWERED = 4, 2  # runs of each calibrated training pass, and of each calibrated evaluation
TOKENS = (1, 9)  # new tokens in the two calibrated evaluations


@dataclass(frozen=True)
class Pace:
    """overhead: seconds per job. turn: seconds per pass or decoded token. rate: FLOP/s, infinite if without effect."""

    overhead: float
    turn: float
    rate: float

    def seconds(self, turns: float, flops: float) -> float:
        return self.overhead + self.turn * turns + flops / self.rate


@dataclass(frozen=True)
class Throughput:
    """The pace of each stage, its source (measured, rated, calibrated or stated), and its basis in words."""

    train: Pace
    evaluate: Pace
    source: str
    basis: str


def of(
    study: Study, counter: Counter, workloads: Sequence[tuple[Job, JobWorkload]], data: dict[str, list[Example]],
    tflops: float | None,
) -> Throughput:
    """`tflops` if given, else the first that applies: finished jobs, the study's own rate, this GPU, a calibration.

    workloads: of every job with a model. data: the examples of each split. Raises ParamsError if only the user knows a
    rate.
    """
    processes = study.training.processes if study.training else 1
    if tflops is not None:
        return _of_all(stated(counter, tflops), processes)
    if finished := measured([(job, workload) for job, workload in workloads if job.done]):
        return finished
    if study.tflops:
        single = stated(counter, study.tflops)
    elif default_device().type == "cuda":
        single = rated(study, counter.family, device_rate.kept(default_device(), study.runs / ".cache" / "devices"))
    else:
        single = calibrated(study, counter, data)
    return _of_all(single, processes)


def rated(study: Study, family: Family, rates: device_rate.Rates) -> Throughput:
    """From a GPU's peak rates. family: prepared for training; a sketch is enough."""
    train, evaluate = paces(family, study.training, rates)
    basis = (
        f"{rates.device} itself: {rates.flops / 1e12:.0f} TFLOP/s in a bfloat16 matrix product, "
        f"{rates.bytes / 1e12:.2f} TB/s; assumed: {RATE_SHARE:.0%} of that rate, {OVERHEAD_SECONDS:g} s a job, "
        f"at least {LAYER_SECONDS * 1e3:g} ms a layer of a pass or decoded token"
    )
    return Throughput(train, evaluate, "rated", basis)


def paces(family: Family, options: Optimisation | None, rates: device_rate.Rates) -> tuple[Pace, Pace]:
    """Of training and evaluation. options: None if nothing is trained; the pace of training then means nothing.

    A training step reads and writes weights, gradients and optimizer states; a decoded token reads the weights.
    """
    weights = memory.weights(family.model)
    states = weights
    if options is not None:
        states += memory.trained(family.model) + memory.optimizer_states(family.model, options)
    launches = LAYER_SECONDS * family.shape.layers
    train, evaluate = (max(launches, moved / rates.bytes) for moved in (2 * states, weights))
    rate = RATE_SHARE * rates.flops
    return Pace(OVERHEAD_SECONDS, train, rate), Pace(OVERHEAD_SECONDS, evaluate, rate)


def stated(counter: Counter, tflops: float) -> Throughput:
    """The user's rate, and an assumed time for each pass or decoded token on top of it."""
    turn = LAYER_SECONDS * counter.shape.layers
    basis = (
        f"{tflops:g} TFLOP/s as given; assumed: {OVERHEAD_SECONDS:g} s a job, {turn * 1e3:.0f} ms a pass or decoded "
        f"token ({LAYER_SECONDS * 1e3:g} ms a layer)"
    )
    pace = Pace(OVERHEAD_SECONDS, turn, tflops * 1e12)
    return Throughput(pace, pace, "stated", basis)


def measured(done: Sequence[tuple[Job, JobWorkload]]) -> Throughput | None:
    """From the records of finished jobs and the logs of trainings; None when no job with a model has finished.

    Least squares with non-negative terms. Evaluations keep no log, and those of a study differ little. With at least
    DESIGNS different ones, all three numbers are fitted. With fewer, one factor is fitted that scales the pace of the
    trainings, with a third of its seconds per turn; without trainings, seconds are proportional to FLOPs. Without
    evaluations, the pace of the trainings is used unscaled.
    """
    if not done:
        return None
    # Only jobs of the device that did most of them
    devices = Counts(_device(job) for job, _ in done)
    done = [(job, workload) for job, workload in done if _device(job) == devices.most_common(1)[0][0]]
    trains = [(job, workload) for job, workload in done if job.stage == "train"]
    evaluations = [(job, workload) for job, workload in done if job.stage == "evaluate"]
    train = _of_logs(trains) if trains else None
    pace = replace(train, turn=train.turn / 3) if train else Pace(0.0, 0.0, 1.0)
    if evaluations:
        pace = _of_records(evaluations, pace)
    basis = f"the records of {len(trains)} trainings and {len(evaluations)} evaluations of this study"
    return Throughput(train or pace, pace, "measured", basis)


def _device(job: Job) -> str:
    """The device in a finished job's record."""
    return record.read(job).get("machine", {}).get("device", "")


def calibrated(study: Study, counter: Counter, data: dict[str, Sequence[Example]]) -> Throughput:
    """Real passes with random weights on noise. Raises ParamsError when the model is too large for this device."""
    device = default_device()
    if not study.trains:
        return _calibrated_evaluation(study, counter, data, device)
    # The smallest and the largest training pass within the limit
    seen = _candidates(study, counter, data["train"])
    costs = [sum(counter.training_flops(*view) for view in views) for views in seen]
    sizes = sorted((cost, index) for index, cost in enumerate(costs) if cost <= PASS_FLOPS[device.type])
    # The states of a training, doubled to leave room for its passes
    need = 2 * memory.training(counter.family, study.training, counter.stored, ())
    free = psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info()[0]
    if not sizes or need > FREE_SHARE * free:
        raise ParamsError(
            f"A calibration needs a model whose smallest pass takes at most {PASS_FLOPS[device.type]:.0e} FLOPs and "
            f"{FREE_SHARE:.0%} of the free memory on this device ({device.type}), but here it takes {min(costs):.1e} "
            f"FLOPs, and {need / 2**30:.1f} of {free / 2**30:.1f} GiB. Give the sustained rate of the device that the "
            "study is for with --tflops, in 10^12 operations per second."
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        train = _timed_training(study, device, [seen[sizes[0][1]], seen[sizes[-1][1]]])
        evaluate = _timed_evaluation(study, device, data["test"])
    finally:
        torch.set_num_threads(threads)
    basis = (
        f"{ROUNDS} passes each of {sizes[0][0]:.1e} and {sizes[-1][0]:.1e} FLOPs with random weights, and of four "
        f"evaluations, on one thread of this {device.type}; assumed: {OVERHEAD_SECONDS:g} s a job"
    )
    return Throughput(train, evaluate, "calibrated", basis)


def _calibrated_evaluation(
    study: Study, counter: Counter, data: dict[str, Sequence[Example]], device: torch.device
) -> Throughput:
    """`calibrated` of a study without regimes: evaluations alone."""
    need = memory.weights(counter.family.model)
    free = psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info()[0]
    if need > FREE_SHARE * free:
        raise ParamsError(
            f"A calibration needs a model of at most {FREE_SHARE:.0%} of the free memory on this device "
            f"({device.type}), but it takes {need / 2**30:.1f} of {free / 2**30:.1f} GiB. Give the sustained rate of "
            "the device that the study is for with --tflops, in 10^12 operations per second."
        )
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        pace = _timed_evaluation(study, device, data["test"])
    finally:
        torch.set_num_threads(threads)
    basis = (
        f"four evaluations with random weights on one thread of this {device.type}; assumed: {OVERHEAD_SECONDS:g} s a "
        "job"
    )
    return Throughput(pace, pace, "calibrated", basis)


def _of_all(speed: Throughput, processes: int) -> Throughput:
    """The rate of all devices of a training, from that of a single device."""
    if processes == 1:
        return speed
    train = replace(speed.train, rate=speed.train.rate * processes)
    basis = f"{speed.basis}; assumed: {processes} processes have {processes} times the rate"
    return replace(speed, train=train, basis=basis)


@dataclass(frozen=True)
class _Noise(ImageInputs):
    """Random pixels or features in place of an image's."""

    def __call__(self, image: object, shown: View) -> torch.Tensor:
        if self.features is None:
            return torch.randint(256, (*shown.size, 3), dtype=torch.uint8)
        family = self.family
        (count,) = family.feature_counts(family.grid(shown.size))
        return torch.randn(count, family.feature_width, dtype=family.model.dtype)

    @classmethod
    def like(cls, study: Study, family: Family) -> _Noise:
        keeps = study.training is not None and study.training.keeps_features
        return cls(family, study.interpolation, features=TensorCache(Path()) if keeps else None)


def _candidates(study: Study, counter: Counter, examples: Sequence[Example]) -> list[list[batches.ExampleView]]:
    """Candidate passes: the first images of the study, alone and together, as every regime shows them."""
    first, candidates = examples[: study.training.images_per_step], []
    for regime in study.regimes:
        views = [batches.example_views(regime, example, counter.family.geometry)[0] for example in first]
        fits = np.cumsum([counter.work(*view).tokens for view in views]) <= study.training.tokens_per_pass
        candidates += [[view] for view in views] + [views[: count + 1] for count in np.flatnonzero(fits)]
    return candidates


def _timed_training(study: Study, device: torch.device, pair: list[list[batches.ExampleView]]) -> Pace:
    """A few steps of the real training loop, each a pass over the small or the large one of `pair`."""
    family, _ = trainable(study, device)
    inputs = _Noise.like(study, family)
    small, large = (batches.micro_batches(inputs, views, study.training.tokens_per_pass) for views in pair)
    steps = [small, large, *[small, large] * ROUNDS]
    with tempfile.TemporaryDirectory() as scratch:
        loss = partial(loss_of, inputs)
        log = fit(family.model, steps, None, study.training, 0, Path(scratch), loss)
    rows = [(0.0, 1.0, flops, seconds) for seconds, flops in _steps(log).iloc[2:].itertuples(index=False)]
    return replace(Pace(*_fitted(_medians(rows))), overhead=OVERHEAD_SECONDS)


def _timed_evaluation(study: Study, device: torch.device, examples: Sequence[Example]) -> Pace:
    """A full pass at the lowest and at the highest rung, each with answers of two lengths.

    Full, because the cost of a decoded token depends on the cache of the whole pass, not on its own row alone.
    """
    family = models.sketch(study.model, device)  # an evaluation's model has neither float32 masters nor adapters
    greedy = study.evaluation.model_copy(update={"author": None})
    counter = Counter(study.model_copy(update={"evaluation": greedy}), family)
    inputs = _Noise.like(study, family)
    rungs = sorted(study.inference, key=lambda policy: policy.budget)
    # Rungs at which a pass fits the limit, else one example at the lowest rung
    full = [(policy, _full(counter, policy, examples, PASS_FLOPS[device.type])) for policy in rungs]
    full = [(policy, group) for policy, group in full if group] or [(rungs[0], examples[:1])]
    designs = [(*chosen, count) for chosen in (full[0], full[-1]) for count in TOKENS]
    rows = []
    for policy, group, count in [designs[0], *designs * ANSWERED]:  # the first is a warm-up
        workload = counter.evaluation(group, [policy], count)
        views = [view for example in group for view in batches.example_views(policy, example, family.geometry)]
        group, shown = zip(*views, strict=True)
        options = greedy.model_copy(update={"max_new_tokens": count})
        started = time.perf_counter()
        # random weights hardly ever end an answer
        for _ in answers(inputs, group, group, shown, options):
            pass
        rows.append((0.0, workload.turns, workload.flops, time.perf_counter() - started))
    return replace(Pace(*_fitted(_medians(rows[1:]))), overhead=OVERHEAD_SECONDS)


def _full(
    counter: Counter, policy: Training | Control, examples: Sequence[Example], limit: float
) -> Sequence[Example]:
    """The first examples that make one pass of at most `limit` FLOPs, by halving; empty if one exceeds it."""
    count = len(examples)
    while count:
        workload = counter.evaluation(examples[:count], [policy], TOKENS[-1])
        if workload.flops <= limit and len(workload.passes) == 1 and workload.turns <= TOKENS[-1] + 1:
            break
        count //= 2
    return examples[:count]


def _of_logs(trains: Sequence[tuple[Job, JobWorkload]]) -> Pace:
    """Turn and rate from the steps of training.parquet, the overhead from the remaining seconds of the records."""
    logs = [pd.read_parquet(job.dir / "training.parquet") for job, _ in trains]
    steps = pd.concat([_steps(log) for log in logs])
    _, turn, rate = _fitted([(0.0, 1.0, flops, seconds) for seconds, flops in steps.itertuples(index=False)])
    pace = Pace(0.0, turn, rate)
    rest = [record.read(job)["seconds"] - pace.seconds(workload.turns, workload.flops) for job, workload in trains]
    return replace(pace, overhead=max(0.0, float(np.median(rest))))


def _of_records(evaluations: Sequence[tuple[Job, JobWorkload]], known: Pace) -> Pace:
    """See `measured`. known: the pace to scale if there are too few different evaluations."""
    rows = [(1.0, workload.turns, workload.flops, record.read(job)["seconds"]) for job, workload in evaluations]
    if len({row[:3] for row in rows}) >= DESIGNS:
        return Pace(*_fitted(rows))
    factor = float(np.median([seconds / known.seconds(turns, flops) for _, turns, flops, seconds in rows]))
    return Pace(known.overhead * factor, known.turn * factor, known.rate / factor)


def _steps(log: pd.DataFrame) -> pd.DataFrame:
    """Seconds and FLOPs of each step of a training.parquet, which holds running sums."""
    return log[["seconds", "flops"]].diff().fillna(log.iloc[0])


def _medians(rows: Sequence[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """The median of seconds of each design, which ignores interruptions by other work on the machine."""
    designs = {row[:3] for row in rows}
    return [(*design, float(np.median([row[3] for row in rows if row[:3] == design]))) for design in designs]


def _fitted(rows: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    """(job, turns, flops, seconds) rows -> non-negative (seconds per job, per turn, FLOP/s), by least squares."""
    table = np.array(rows, float)
    # Columns scaled to at most 1, because FLOPs are 10^10 times larger than turns
    scale = np.where(table[:, :3].max(0) > 0, table[:, :3].max(0), 1.0)
    overhead, turn, inverse = nnls(table[:, :3] / scale, table[:, 3])[0] / scale
    return float(overhead), float(turn), float(1 / inverse) if inverse else math.inf

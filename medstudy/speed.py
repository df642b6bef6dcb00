"""How long a job takes: seconds = overhead + turns · c + FLOPs / rate, with numbers from one of four sources.

measured: fitted to the finished jobs of the study; of several kinds of devices, to those of the one that did most.
rated: on a GPU, from its own matrix rate and bandwidth (`medstudy.device_rate`), and an assumed share of that rate.
calibrated: some twenty seconds of the real architecture with random weights on noise, on this machine.
stated: a sustained rate given by the user, or by the study for the device that it is meant for.
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

from medstudy import batches, device_rate, evaluation, memory, models, provenance, training
from medstudy.batches import planned
from medstudy.demand import Counter, trainable
from medstudy.errors import ParamsError
from medstudy.models.family import home
from medstudy.params import Optimisation, Study
from medstudy.records import Example
from medstudy.resolution import Shown
from medstudy.shelf import Shelf
from medstudy.supply import Supply

OVERHEAD_SECONDS = 1.0  # of a job whose overhead nobody measured: loading model and data, an assumption
LAYER_SECONDS = 0.001  # of a turn, a layer: launching its kernels one by one, an assumption beside a stated rate
PASS_FLOPS = {"cpu": 2e10, "cuda": 1e14}  # of the largest calibrated pass: a second on a slow device
RATE_SHARE = 0.5  # of a GPU's matrix rate that passes reach, an assumption until jobs have finished
FREE_SHARE = 0.5  # of the free memory that a calibration may take
DESIGNS = 4  # evaluations that differ in what they ask for, for a fit of three numbers
ROUNDS, ANSWERED = 4, 2  # times that each calibrated training pass, and each evaluation, is run
TOKENS = (1, 9)  # new tokens of the two calibrated evaluations


@dataclass(frozen=True)
class Pace:
    """overhead: seconds a job; turn: seconds a pass or decoded token; rate: FLOP/s, infinite when it did not show."""

    overhead: float
    turn: float
    rate: float

    def seconds(self, turns: float, flops: float) -> float:
        return self.overhead + self.turn * turns + flops / self.rate


@dataclass(frozen=True)
class Speed:
    """The pace of each stage, its source (measured, rated, calibrated or stated), and on what it rests in words."""

    train: Pace
    evaluate: Pace
    source: str
    basis: str


def of(study: Study, counter: Counter, demands: list[tuple], data: dict, tflops: float | None) -> Speed:
    """The best source there is, unless `tflops` is given; the study's own rate before the device's.

    demands: (job, Demand) of every job with a model; data: the examples of each split. Raises ParamsError when only the
    user can tell.
    """
    if tflops is not None:
        return _of_all(stated(counter, tflops), study.training.processes)
    if found := measured([(job, demand) for job, demand in demands if job.done]):
        return found
    if study.tflops:
        own = stated(counter, study.tflops)
    elif home().type == "cuda":
        own = rated(study, counter.family, device_rate.kept(home(), study.runs / ".cache" / "devices"))
    else:
        own = calibrated(study, counter, data)
    return _of_all(own, study.training.processes)


def rated(study: Study, family, rates: device_rate.Rates) -> Speed:
    """From what a GPU can do at most; family: as it is trained, a sketch will do."""
    train, evaluate = paces(family, study.training, rates)
    basis = (
        f"{rates.device} itself: {rates.flops / 1e12:.0f} TFLOP/s in a bfloat16 matrix product, "
        f"{rates.bytes / 1e12:.2f} TB/s; assumed: {RATE_SHARE:.0%} of that rate, {OVERHEAD_SECONDS:g} s a job, "
        f"at least {LAYER_SECONDS * 1e3:g} ms a layer of a pass or decoded token"
    )
    return Speed(train, evaluate, "rated", basis)


def paces(family, options: Optimisation, rates: device_rate.Rates) -> tuple[Pace, Pace]:
    """Of training and evaluation. A step reads and writes weights, gradients and optimizer states, a token weights."""
    held = memory.weights(family.model)
    states = held + memory.trained(family.model) + memory.optimizer_states(family.model, options)
    launches = LAYER_SECONDS * family.shape.layers
    train, evaluate = (max(launches, moved / rates.bytes) for moved in (2 * states, held))
    rate = RATE_SHARE * rates.flops
    return Pace(OVERHEAD_SECONDS, train, rate), Pace(OVERHEAD_SECONDS, evaluate, rate)


def stated(counter: Counter, tflops: float) -> Speed:
    """The user's rate for passes, and an assumption for what each of them takes besides."""
    turn = LAYER_SECONDS * counter.shape.layers
    basis = (
        f"{tflops:g} TFLOP/s as given; assumed: {OVERHEAD_SECONDS:g} s a job, {turn * 1e3:.0f} ms a pass or decoded "
        f"token ({LAYER_SECONDS * 1e3:g} ms a layer)"
    )
    pace = Pace(OVERHEAD_SECONDS, turn, tflops * 1e12)
    return Speed(pace, pace, "stated", basis)


def measured(done: list[tuple]) -> Speed | None:
    """From records, and of trainings from every step of their logs; None when no job with a model has finished.

    Least squares with non-negative terms. Evaluations keep no log, and those of a study differ little: with fewer than
    DESIGNS different ones, one factor is fitted to the pace of the trainings, whose turns are taken at a third; without
    trainings, seconds are in proportion to FLOPs. Without evaluations that pace is taken as it is.
    """
    devices = Counts(_device(job) for job, _ in done)
    done = [(job, demand) for job, demand in done if _device(job) == devices.most_common(1)[0][0]]
    trains = [(job, demand) for job, demand in done if job.stage == "train"]
    evaluations = [(job, demand) for job, demand in done if job.stage == "evaluate"]
    if not done:
        return None
    train = _of_logs(trains) if trains else None
    pace = replace(train, turn=train.turn / 3) if train else Pace(0.0, 0.0, 1.0)
    if evaluations:
        pace = _of_records(evaluations, pace)
    basis = f"the records of {len(trains)} trainings and {len(evaluations)} evaluations of this study"
    return Speed(train or pace, pace, "measured", basis)


def _device(job) -> str:
    """What a finished job ran on, as its record says."""
    return provenance.read(job).get("machine", {}).get("device", "")


def calibrated(study: Study, counter: Counter, data: dict[str, Sequence[Example]]) -> Speed:
    """Real passes with random weights on noise. Raises ParamsError when the model is too large for this device."""
    device = home()
    seen = _candidates(study, counter, data["train"])
    costs = [sum(counter.training_flops(*view) for view in views) for views in seen]
    sizes = sorted((cost, index) for index, cost in enumerate(costs) if cost <= PASS_FLOPS[device.type])
    need = 2 * memory.training(counter.family, study.training, counter.stored, ())
    free = psutil.virtual_memory().available if device.type == "cpu" else torch.cuda.mem_get_info()[0]
    if not sizes or need > FREE_SHARE * free:
        raise ParamsError(
            f"A calibration needs a model whose smallest pass takes at most {PASS_FLOPS[device.type]:.0e} FLOPs and "
            f"{FREE_SHARE:.0%} of the free memory on this device ({device.type}), but here it takes {min(costs):.1e} "
            f"FLOPs, and {need / 2**30:.1f} of {free / 2**30:.1f} GiB. Give the sustained rate of the device that the "
            "study is for with --tflops, in 10^12 operations a second."
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
    return Speed(train, evaluate, "calibrated", basis)


def _of_all(speed: Speed, processes: int) -> Speed:
    """The rate of all devices of a training, from that of one."""
    if processes == 1:
        return speed
    train = replace(speed.train, rate=speed.train.rate * processes)
    return replace(speed, train=train, basis=f"{speed.basis}; assumed: {processes} processes are so many times as fast")


@dataclass(frozen=True)
class _Noise(Supply):
    """Images that nobody made."""

    def __call__(self, image, shown: Shown) -> torch.Tensor:
        if self.features is None:
            return torch.randint(256, (*shown.size, 3), dtype=torch.uint8)
        family = self.family
        (count,) = family.feature_counts(family.grid(shown.size))
        return torch.randn(count, family.feature_width, dtype=family.model.dtype)

    @classmethod
    def like(cls, study: Study, family) -> _Noise:
        return cls(family, study.interpolation, features=Shelf(Path()) if study.training.keeps_features else None)


def _candidates(study: Study, counter: Counter, examples: Sequence[Example]) -> list[list[batches.Seen]]:
    """Views that a pass could hold: the first images of the study alone and together, as every regime shows them."""
    some, made = examples[: study.training.images_per_step], []
    for regime in study.regimes:
        views = [(one, planned(regime, one, counter.family.geometry)[0]) for one in some]
        room = np.cumsum([counter.work(*view).tokens for view in views]) <= study.training.tokens_per_pass
        made += [[view] for view in views] + [views[: count + 1] for count in np.flatnonzero(room)]
    return made


def _timed_training(study: Study, device, pair: list[list[batches.Seen]]) -> Pace:
    """A few steps of the training's own loop, each a pass over one of `pair`."""
    family, _ = trainable(study, device)
    supply = _Noise.like(study, family)
    small, large = (batches.micros(supply, views, study.training.tokens_per_pass) for views in pair)
    steps = [small, large, *[small, large] * ROUNDS]
    with tempfile.TemporaryDirectory() as scratch:
        loss = partial(training.loss_of, supply)
        log = training.fit(family.model, steps, None, study.training, 0, Path(scratch), loss)
    rows = [(0.0, 1.0, flops, seconds) for seconds, flops in _steps(log).iloc[2:].itertuples(index=False)]
    return replace(Pace(*_fitted(_medians(rows))), overhead=OVERHEAD_SECONDS)


def _timed_evaluation(study: Study, device, examples: Sequence[Example]) -> Pace:
    """A pass at the lowest and the highest rung, with answers of two lengths, as full as it may be.

    A decoded token looks at the cache of a whole pass, however short its own row is: a small pass would not show it.
    """
    family = models.sketch(study.model, device)  # an evaluation's model has neither masters nor adapters
    greedy = study.evaluation.model_copy(update={"author": None})
    counter = Counter(study.model_copy(update={"evaluation": greedy}), family)
    supply = _Noise.like(study, family)
    rungs = sorted(study.inference, key=lambda policy: policy.budget)
    tried = [(policy, _full(counter, policy, examples, PASS_FLOPS[device.type])) for policy in rungs]
    quick = [one for one in tried if one[1]] or [(rungs[0], examples[:1])]
    chosen = [(*one, count) for one in (quick[0], quick[-1]) for count in TOKENS]
    rows = []
    for policy, some, count in [chosen[0], *chosen * ANSWERED]:  # the first one warms up
        demand = counter.evaluation(some, [policy], count)
        shown = [planned(policy, one, family.geometry)[0] for one in some]
        options = greedy.model_copy(update={"max_new_tokens": count})
        started = time.perf_counter()
        for _ in evaluation.answers(supply, some, some, shown, options):  # random weights hardly ever end an answer
            pass
        rows.append((0.0, demand.turns, demand.flops, time.perf_counter() - started))
    return replace(Pace(*_fitted(_medians(rows[1:]))), overhead=OVERHEAD_SECONDS)


def _full(counter: Counter, policy, examples: Sequence[Example], limit: float) -> Sequence[Example]:
    """The first examples that make one pass of at most `limit` FLOPs, by halving; none when one is too much."""
    count = len(examples)
    while count:
        demand = counter.evaluation(examples[:count], [policy], TOKENS[-1])
        if demand.flops <= limit and len(demand.passes) == 1 and demand.turns <= TOKENS[-1] + 1:
            break
        count //= 2
    return examples[:count]


def _of_logs(trains: list[tuple]) -> Pace:
    """Turn and rate from the steps of training.parquet, the overhead from what the records have beyond."""
    logs = [pd.read_parquet(job.dir / "training.parquet") for job, _ in trains]
    steps = pd.concat([_steps(log) for log in logs])
    _, turn, rate = _fitted([(0.0, 1.0, flops, seconds) for seconds, flops in steps.itertuples(index=False)])
    pace = Pace(0.0, turn, rate)
    rest = [provenance.read(job)["seconds"] - pace.seconds(demand.turns, demand.flops) for job, demand in trains]
    return replace(pace, overhead=max(0.0, float(np.median(rest))))


def _of_records(evaluations: list[tuple], known: Pace) -> Pace:
    """See `measured`; known: the pace to be scaled."""
    rows = [(1.0, demand.turns, demand.flops, provenance.read(job)["seconds"]) for job, demand in evaluations]
    if len({row[:3] for row in rows}) >= DESIGNS:
        return Pace(*_fitted(rows))
    factor = float(np.median([seconds / known.seconds(turns, flops) for _, turns, flops, seconds in rows]))
    return Pace(known.overhead * factor, known.turn * factor, known.rate / factor)


def _steps(log: pd.DataFrame) -> pd.DataFrame:
    """Seconds and FLOPs of each step of a training.parquet, which holds their sums so far."""
    return log[["seconds", "flops"]].diff().fillna(log.iloc[0])


def _medians(rows: Sequence[tuple[float, float, float, float]]) -> list[tuple[float, float, float, float]]:
    """One row for those that ask for the same, with their median of seconds: other work on the machine is left out."""
    kinds = {row[:3] for row in rows}
    return [(*kind, float(np.median([row[3] for row in rows if row[:3] == kind]))) for kind in kinds]


def _fitted(rows: Sequence[tuple[float, float, float, float]]) -> tuple[float, float, float]:
    """(job, turns, flops, seconds) rows -> non-negative (seconds a job, seconds a turn, FLOP/s), by least squares."""
    table = np.array(rows, float)
    scale = np.where(table[:, :3].max(0) > 0, table[:, :3].max(0), 1.0)
    overhead, turn, inverse = nnls(table[:, :3] / scale, table[:, 3])[0] / scale
    return float(overhead), float(turn), float(1 / inverse) if inverse else math.inf

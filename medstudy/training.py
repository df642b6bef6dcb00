"""Training: every question of an image in one row, loss on the answers only, exact resume.

A step's data are a pure function of (seed, step) and of no global random state. So a run that was killed and resumed
ends with the same bits on the same machine (on CUDA, if torch is told to use deterministic kernels). The resume point
is one file, replaced atomically.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import pandas as pd
import torch
from accelerate import Accelerator, PartialState
from torch.utils.data import DataLoader

from medstudy import (
    cards,
    checkpoints,
    launching,
    models,
    optimizers,
    packing,
    paths,
    precision,
    redact,
    sharding,
    trainable,
)
from medstudy.batches import (
    Batch,
    Batches,
    FineTuning,
    Micro,
    ledger,
    named,
    parts,
    sizes_of,
    validation_steps,
    views_of,
)
from medstudy.datasets import store
from medstudy.errors import DataError, RunError
from medstudy.grid import Job
from medstudy.models.family import home
from medstudy.params import Optimisation, Study
from medstudy.progress import bar
from medstudy.records import Example
from medstudy.resolution import check_effect, trained_on
from medstudy.supply import Supply

Optimizers = Sequence[torch.optim.Optimizer]
Schedules = Sequence[torch.optim.lr_scheduler.LRScheduler]
Loss = Callable[[object], torch.Tensor]  # content of a pass -> a sum over its questions


def train(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Train one regime and seed into `job.dir`: checkpoint/, training.parquet, ledger.parquet; resumes by itself.

    Returns training.parquet: one row a step (step, images_seen, loss, val_loss, visual_tokens, seconds, flops).
    Raises ResolutionError before training when the policy would change nothing, RunError when the loss is not finite.
    """
    if study.training.processes > 1:
        launching.train(study, job)
    else:
        process(study, job, progress)
    return pd.read_parquet(job.dir / "training.parquet")


def process(study: Study, job: Job, progress: bool = True) -> None:
    """`train` in this process: the only one, or one of several that each compute their share of every step."""
    torch.set_num_threads(1)
    state = PartialState(cpu=home().type == "cpu")
    policy, seed = study.policy(job.parameters["label"]), job.parameters["seed"]
    family = models.load(study.model, shown=sorted(trained_on(policy)))
    data = {split: store.read_all(job.folders("data"), split) for split in ("train", "val")}
    check_data(data, study.study)
    check_effect(policy, [size for example in data["train"] for size in sizes_of(example)], family.geometry)
    options, name = study.training, job.name if progress else None
    if state.is_main_process:
        print("attention: {}, because {}".format(*family.attention))
    torch.manual_seed(seed)  # for the adapters' random weights
    adapter = trainable.prepare(family, options)
    supply = Supply.of(study, family)
    batches, validation = parts(supply, data, policy, options, seed, state.process_index, state.num_processes)
    shown = prepare((batches, validation), name)
    scratch = paths.scratch(job.dir)
    log = fit(family.model, batches, validation, options, seed, scratch, partial(loss_of, supply), name, study.workers)
    log = log.assign(run_id=job.dir.name, regime=policy.label, seed=seed)
    stamp = {
        "regime": policy.label, "policy": policy.model_dump(), "seed": seed, "interpolation": study.interpolation,
        "started_from": family.revision, "attention": family.attention._asdict(),
        "base_model": redact.hub_id(study.model.id), "precision": precision.about(family.model),
    }
    card = cards.card(study, stamp, data, shown, log, adapter is not None)
    checkpoints.save(family, job.dir / "checkpoint", stamp, adapter, card)
    if state.is_main_process:
        shown.to_parquet(job.dir / "ledger.parquet")
        log.to_parquet(job.dir / "training.parquet")
        (scratch / "resume.pt").unlink(missing_ok=True)
    state.wait_for_everyone()


def check_data(data: dict[str, Sequence[Example]], study: str) -> None:
    """Raise DataError if there are no images to train on, because every data set is for evaluation only."""
    if not data["train"]:
        raise DataError(
            f"A training needs images, but every data set of {study} is for evaluation only. Add one that has a train "
            "split, or raise `train` in the params of one."
        )


def prepare(trainings: Sequence[FineTuning], name: str | None = None) -> pd.DataFrame:
    """Prepare the first step: check that every view fits in a pass, and cache the features of a frozen tower.

    Each process computes its share of the features. Returns the ledger of the first training. Raises ResolutionError.
    """
    ledgers = [ledger(training) for training in trainings]
    for training, rows in zip(trainings, ledgers, strict=True):
        labels = list(map(named, *(rows[column] for column in ("dataset", "image_id", "shown_height", "shown_width"))))
        packing.check(rows["row_tokens"], training.options.tokens_per_pass, labels)
    first = trainings[0]
    if first.supply.features is not None:
        views = {
            key: view
            for training in trainings
            for step in range(len(training))
            for example, shown in training.seen(step)
            for key, view in views_of(example, shown).items()
        }
        share = list(views.values())[first.rank :: first.ranks]
        line = bar(f"{name} features", "image", len(share)) if name and not first.rank else None
        first.supply.prepare(share, line)
        if line is not None:
            line.close()
        if first.ranks > 1:
            PartialState().wait_for_everyone()
    return ledgers[0]


def loss_of(supply: Supply, batch: Batch) -> torch.Tensor:
    """The sum, over a packed row's questions, of a question's mean cross-entropy over its answer tokens."""
    model = supply.family.model
    packed = batch.packed.to(model.device)
    hidden = supply.family.hidden(packed, supply.see(batch.images, packed.grids))
    logits = model.lm_head(hidden[packed.at])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")
    return (losses / torch.bincount(packed.question)[packed.question]).sum()


def fit(model: torch.nn.Module, batches: Batches, validation: Batches | None, options: Optimisation, seed: int,
        scratch: Path, loss: Loss, name: str | None = None, workers: int = 0) -> pd.DataFrame:
    """The loop: linear warm-up and cosine decay, clipped gradients; one log row a step.

    `loss(content)` is a sum over the questions of a forward pass. A step's gradient is that of the mean over all its
    questions, however many passes they take. Under torchrun `batches` holds this process's share of each step, and
    gradients are those of the whole step (`medstudy.sharding`).
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=home().type == "cpu", kwargs_handlers=[sharding.DDP])
    objective = sharding.wrap(sharding.Objective(model, loss), accelerator, options.sharding)
    chosen = optimizers.build(model, options)
    schedules = [optimizers.schedule(optimizer, len(batches), options.warmup) for optimizer in chosen]
    resume = Resume(scratch / "resume.pt", options.checkpoint_seconds)
    log = resume.load(model, chosen, schedules)
    steps = range(len(log), len(batches))
    validate_at = validation_steps(len(batches), options.validations)
    loader = DataLoader(batches, sampler=steps, batch_size=None, num_workers=workers)
    line = bar(name, "step", len(batches), len(log)) if name and accelerator.is_main_process else None
    for step, micro_batches in zip(steps, loader, strict=True):
        started = time.perf_counter()
        counts = _counts(micro_batches, accelerator, options.sharding)
        mean = _step(model, objective, micro_batches, counts["questions"], accelerator, options.clip)
        if not math.isfinite(mean):
            raise RunError(f"The loss must stay finite, but it is {mean} at step {step}. Lower the learning rate.")
        for stepped in (*chosen, *schedules):
            stepped.step()
        log.append(_entry(log, step, mean, counts, time.perf_counter() - started))
        if validation is not None and step in validate_at:
            log[-1]["val_loss"] = evaluate_loss(model, validation, accelerator, objective)
        if line is not None:
            line.set_postfix(loss=f"{mean:.3f}", refresh=False)
            line.update()
        due = accelerator.is_main_process and resume.due()  # all processes follow process 0's clock
        if _sum(torch.tensor(float(due)), accelerator):
            resume.save(model, chosen, schedules, log, accelerator.is_main_process)
    if line is not None:
        line.close()
    model.eval()
    return pd.DataFrame(log)


def evaluate_loss(model: torch.nn.Module, validation: Batches, accelerator: Accelerator, loss: Loss) -> float:
    """Mean loss a question over the validation split. `loss` is an `Objective` if processes shard the weights."""
    model.eval()
    total = questions = 0.0
    with torch.no_grad():
        for step in range(len(validation)):
            for micro in validation[step]:
                total += float(loss(micro.content)) * bool(micro.questions)
                questions += micro.questions
    sharding.settle(loss)
    model.train()
    total, questions = _sum(torch.tensor([total, questions], dtype=torch.float64), accelerator).tolist()
    return total / questions


class Resume:
    """The resume point: trained weights, optimizers, schedules and log in one file, replaced atomically."""

    def __init__(self, file: Path, seconds: float):
        self.file, self.seconds, self.saved = file, seconds, time.monotonic()

    def load(self, model: torch.nn.Module, optimizers: Optimizers, schedules: Schedules) -> list[dict]:
        """Load the state into all of these, in place, and return the log; an empty log if there is no resume point."""
        if not self.file.is_file():
            return []
        try:
            state = torch.load(self.file, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise RunError(
                f"A training continues from its resume point, but {self.file} cannot be read ({error}). Delete it: the "
                "training then starts from the beginning."
            ) from error
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(sharding.share(state["model"][name], parameter))
        for optimizer, saved in zip(optimizers, state["parts"], strict=False):
            optimizer.load_state_dict(_shared(saved, optimizer))
        for schedule, saved in zip(schedules, state["parts"][len(optimizers) :], strict=True):
            schedule.load_state_dict(saved)
        return state["log"]

    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.seconds

    def save(
        self, model: torch.nn.Module, optimizers: Optimizers, schedules: Schedules, log: list[dict], writes: bool = True
    ) -> None:
        """Write the resume point if `writes`. All processes must call this: each may hold a share of the weights."""
        state = {"model": _trained(model), "parts": [part.state_dict() for part in (*optimizers, *schedules)]}
        state = sharding.gathered(state, writes)
        if not writes:
            return
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with open(temporary, "wb") as stream:
            torch.save(state | {"log": log}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.file)
        self.saved = time.monotonic()


def _trained(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _shared(saved: dict, optimizer: torch.optim.Optimizer) -> dict:
    """This process's share of an optimizer's whole saved state: tensors shaped like a weight are sharded like it."""
    weights = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        index: {name: sharding.share(value, weights[index]) if value.shape == weights[index].shape else value
                for name, value in values.items()}
        for index, values in saved["state"].items()
    }
    return saved | {"state": state}


def _step(model: torch.nn.Module, objective: torch.nn.Module, micro_batches: list[Micro], questions: float,
          accelerator: Accelerator, clip: float) -> float:
    """Compute the clipped gradients of the mean loss a question over all processes' shares; return that mean."""
    model.train()
    model.zero_grad()
    total = 0.0
    for number, micro in enumerate(micro_batches, 1):
        with sharding.summing(objective, number == len(micro_batches)):
            part = objective(micro.content) / questions
            if not micro.questions:
                part = part * 0
            if accelerator.num_processes > 1:  # DDP and FSDP average the gradients of the processes
                part = part * accelerator.num_processes
            part.backward()
        total += float(part.detach())
    if accelerator.num_processes > 1:
        total = float(_sum(torch.tensor(total, dtype=torch.float64), accelerator)) / accelerator.num_processes
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    return total


def _counts(micro_batches: list[Micro], accelerator: Accelerator, sharded: str) -> dict[str, float]:
    """A step's totals over all processes. Raises RunError if processes would wait for each other forever."""
    names, count = ("questions", "images", "visual_tokens", "flops"), len(micro_batches)
    local = [*(sum(getattr(m, name) for m in micro_batches) for name in names), count, count**2, not count]
    *totals, passes, squares, idle = _sum(torch.tensor(local, dtype=torch.float64), accelerator).tolist()
    uneven = squares * accelerator.num_processes != passes**2  # equal only if all processes have the same count
    if accelerator.num_processes > 1 and (idle or (uneven and sharded == "fsdp")):
        raise RunError(
            f"Every process must make a pass in every step, and under fsdp as many as the others, but this one makes "
            f"{count} of {passes:.0f} in {accelerator.num_processes} processes. Use fewer processes, or more images a "
            "step."
        )
    return dict(zip(names, totals, strict=True))


def _sum(local: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    return accelerator.reduce(local.to(accelerator.device), "sum") if accelerator.num_processes > 1 else local


def _entry(log: list[dict], step: int, loss: float, counts: dict[str, float], seconds: float) -> dict:
    last = log[-1] if log else {"images_seen": 0, "visual_tokens": 0, "seconds": 0.0, "flops": 0.0}
    return {
        "step": step,
        "images_seen": last["images_seen"] + int(counts["images"]),
        "loss": loss,
        "val_loss": math.nan,
        "visual_tokens": last["visual_tokens"] + int(counts["visual_tokens"]),
        "seconds": last["seconds"] + seconds,
        "flops": last["flops"] + counts["flops"],
    }



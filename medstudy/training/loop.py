"""The training loop: steps, validation loss, and exact resume."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from pickle import UnpicklingError

import pandas as pd
import torch
from accelerate import Accelerator
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_state_dict, set_state_dict
from torch.utils.data import DataLoader

from medstudy.engine.batches import (
    Batches,
    MicroBatch,
    validation_steps,
)
from medstudy.errors import RunError
from medstudy.models.loading import default_device
from medstudy.params import Optimisation
from medstudy.training import distributed, optimizers
from medstudy.utils.progress import bar

Optimizers = Sequence[torch.optim.Optimizer]
Schedules = Sequence[torch.optim.lr_scheduler.LRScheduler]
Loss = Callable[[object], torch.Tensor]  # content of a pass -> a sum over its questions


def fit(model: torch.nn.Module, batches: Batches, validation: Batches | None, options: Optimisation, seed: int,
        scratch: Path, loss: Loss, name: str | None = None, workers: int = 0) -> pd.DataFrame:
    """The loop: linear warm-up and cosine decay, clipped gradients; one log row per step.

    `loss(content)` is a sum over the questions of a forward pass. A step's gradient is that of the mean over all its
    questions, however many passes they take. Under torchrun `batches` holds this process's share of each step, and
    gradients are those of the whole step (`medstudy.training.distributed`).
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=default_device().type == "cpu", kwargs_handlers=[distributed.DDP])
    objective = distributed.wrap(distributed.Objective(model, loss), accelerator, options.sharding)
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
    """Mean loss per question over the validation split. `loss` is an `Objective` if processes shard the weights."""
    model.eval()
    total = questions = 0.0
    with torch.no_grad():
        for step in range(len(validation)):
            for micro in validation[step]:
                total += float(loss(micro.content)) * bool(micro.questions)
                questions += micro.questions
    distributed.settle(loss)
    model.train()
    total, questions = _sum(torch.tensor([total, questions], dtype=torch.float64), accelerator).tolist()
    return total / questions


# Trained weights only, gathered from all shards on the CPU of process 0, so that any number of processes can resume.
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True, strict=False)


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
        weights, moments = state["model"], state["optimizers"]
        set_state_dict(model, optimizers, model_state_dict=weights, optim_state_dict=moments, options=WHOLE)
        for schedule, saved in zip(schedules, state["schedules"], strict=True):
            schedule.load_state_dict(saved)
        return state["log"]

    def due(self) -> bool:
        return time.monotonic() - self.saved >= self.seconds

    def save(
        self, model: torch.nn.Module, optimizers: Optimizers, schedules: Schedules, log: list[dict], writes: bool = True
    ) -> None:
        """Write the resume point if `writes`. All processes must call this: each may hold a share of the weights."""
        weights, moments = get_state_dict(model, optimizers, options=WHOLE)
        if not writes:
            return
        trained = (name for name, parameter in model.named_parameters() if parameter.requires_grad)
        weights = {name: weights[name] for name in trained}  # without the second name of tied weights
        schedules = [schedule.state_dict() for schedule in schedules]
        state = {"model": weights, "optimizers": moments, "schedules": schedules, "log": log}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with open(temporary, "wb") as stream:
            torch.save(state, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.file)
        self.saved = time.monotonic()


def _step(model: torch.nn.Module, objective: torch.nn.Module, micro_batches: list[MicroBatch], questions: float,
          accelerator: Accelerator, clip: float) -> float:
    """Compute the clipped gradients of the mean loss per question over all processes' shares; return that mean."""
    model.train()
    model.zero_grad()
    total = 0.0
    for number, micro in enumerate(micro_batches, 1):
        with distributed.summing(objective, number == len(micro_batches)):
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


def _counts(micro_batches: list[MicroBatch], accelerator: Accelerator, sharded: str) -> dict[str, float]:
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

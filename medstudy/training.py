"""Training: every question of an image in one row, loss on the answers only, exact resume.

What a step sees is a pure function of (seed, step): nothing hangs on a global random state, so a run that was killed
and resumed ends with the same bits on the same machine. The resume point is one file, replaced atomically.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from medstudy import cost, models, optimizers, paths, prefix, views
from medstudy.datasets import store
from medstudy.errors import RunError
from medstudy.params import Optimisation, Study
from medstudy.progress import bar
from medstudy.records import Example
from medstudy.resolution import Shown, Size, check_effect, plan, scale, uniform

ROW_TOKENS = 1536  # padded tokens of one forward pass: keeps memory flat whatever the policy


@dataclass(frozen=True)
class Micro:
    """One forward pass: its inputs, and what it holds."""

    inputs: dict[str, torch.Tensor]
    questions: int
    images: int
    visual_tokens: int
    flops: float


class Batches(Protocol):
    """The steps of a training, each computable alone: `batches[step]` is the list of its forward passes."""

    def __len__(self) -> int: ...

    def __getitem__(self, step: int) -> list[Micro]: ...


Loss = Callable[[torch.nn.Module, dict[str, torch.Tensor]], torch.Tensor]


@dataclass(frozen=True)
class FineTuning:
    """A regime over in-memory examples: an epoch is one pass in a seeded order."""

    family: object
    examples: Sequence[Example]
    policy: object
    interpolation: str
    images_per_step: int
    epochs: int
    seed: int

    def __len__(self) -> int:
        return self.epochs * math.ceil(len(self.examples) / self.images_per_step)

    def __getitem__(self, step: int) -> list[Micro]:
        epoch, place = divmod(step, len(self) // self.epochs)
        order = np.random.default_rng([self.seed, epoch]).permutation(len(self.examples))
        chosen = order[place * self.images_per_step : (place + 1) * self.images_per_step]
        seen = [
            (self.examples[index], shown)
            for index in chosen
            for shown in self.views(self.examples[index], epoch, progress=step / len(self))
        ]
        return micros(self.family, seen, self.interpolation)

    def views(self, example: Example, epoch: int, progress: float) -> tuple[Shown, ...]:
        draw = uniform(self.seed, epoch, example.image_id)
        return plan(self.policy, _size(example), self.family.geometry, draw, progress)


def train(study: Study, job, progress: bool = True) -> pd.DataFrame:
    """Train one regime and seed into `job.dir`: checkpoint/, training.parquet, ledger.parquet; resumes by itself.

    Returns training.parquet: one row a step (step, images_seen, loss, val_loss, visual_tokens, seconds, flops).
    Raises ResolutionError before training when the policy would change nothing, RunError when the loss is not finite.
    """
    from medstudy import grid

    torch.set_num_threads(1)
    family = models.load(study.model)
    folders = [item.dir for item in grid.needed(study, job, "data")]
    data = {split: [one for folder in folders for one in store.read(folder, split)] for split in ("train", "val")}
    policy, seed = study.policy(job.parameters["label"]), job.parameters["seed"]
    check_effect(policy, [_size(example) for example in data["train"]], family.geometry)
    options = study.training
    if options.freeze_vision_tower:
        family.freeze_tower()
    batches = FineTuning(
        family, data["train"], policy, study.interpolation, options.images_per_step, options.epochs, seed
    )
    validation = FineTuning(family, data["val"], policy, study.interpolation, options.images_per_step, 1, seed)
    scratch = paths.scratch(job.dir)
    log = fit(family.model, batches, validation, options, seed, scratch, job.name if progress else None)
    log = log.assign(run_id=job.dir.name, regime=policy.label, seed=seed)
    save(family, job.dir / "checkpoint", {"regime": policy.label, "policy": policy.model_dump(), "seed": seed,
                                          "interpolation": study.interpolation, "started_from": family.revision})
    ledger(batches).to_parquet(job.dir / "ledger.parquet")
    log.to_parquet(job.dir / "training.parquet")
    (scratch / "resume.pt").unlink(missing_ok=True)
    return log


def loss_of(model, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """Sum over the questions of a batch of each question's mean cross-entropy over its answer tokens."""
    inputs = dict(inputs)
    targets, question = inputs.pop("targets"), inputs.pop("question")
    hidden = model.model(**inputs, use_cache=False).last_hidden_state
    at = targets != -100
    losses = torch.nn.functional.cross_entropy(model.lm_head(hidden[at]).float(), targets[at], reduction="none")
    row = torch.arange(len(targets), device=targets.device)[:, None].expand_as(targets)
    which = (row * (question.max() + 1) + question)[at]
    counts = torch.bincount(which)
    return (losses / counts[which]).sum()


def fit(model, batches: Batches, validation: Batches | None, options: Optimisation, seed: int, scratch: Path,
        name: str | None = None, workers: int = 0, loss: Loss = loss_of) -> pd.DataFrame:  # fmt: skip
    """The loop: linear warm-up and cosine decay, clipped gradients; one log row a step.

    `loss(model, inputs)` is a sum over questions. Under torchrun every process brings its own share of each step in
    `batches`, and gradients are those of the whole step.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator()
    model = model.to(accelerator.device)
    chosen = optimizers.build(model, options)
    schedules = [optimizers.schedule(optimizer, len(batches), options.warmup) for optimizer in chosen]
    resume = Resume(scratch / "resume.pt", options.checkpoint_seconds)
    log = resume.load(model, chosen, schedules)
    steps = range(len(log), len(batches))
    validate_at = set(np.linspace(0, len(batches) - 1, options.validations).round().astype(int).tolist())
    loader = DataLoader(batches, sampler=steps, batch_size=None, num_workers=workers)
    line = bar(name, "step", len(batches), len(log)) if name and accelerator.is_main_process else None
    for step, micro_batches in zip(steps, loader, strict=True):
        started = time.perf_counter()
        held = _held(micro_batches, accelerator)
        mean = _step(model, micro_batches, held["questions"], loss, accelerator, options.clip)
        if not math.isfinite(mean):
            raise RunError(f"The loss must stay finite, but it is {mean} at step {step}. Lower the learning rate.")
        for part in (*chosen, *schedules):
            part.step()
        log.append(_entry(log, step, mean, held, time.perf_counter() - started))
        if validation is not None and step in validate_at:
            log[-1]["val_loss"] = evaluate_loss(model, validation, accelerator, loss)
        if line is not None:
            line.set_postfix(loss=f"{mean:.3f}", refresh=False)
            line.update()
        if accelerator.is_main_process:
            resume.save_when_due(model, chosen, schedules, log)
    if line is not None:
        line.close()
    model.eval()
    return pd.DataFrame(log)


def evaluate_loss(model, validation: Batches, accelerator: Accelerator, loss: Loss = loss_of) -> float:
    """Mean loss a question over the validation split."""
    model.eval()
    total = questions = 0.0
    with torch.inference_mode():
        for step in range(len(validation)):
            for micro in validation[step]:
                total += float(loss(model, _to(micro.inputs, accelerator.device)))
                questions += micro.questions
    model.train()
    total, questions = _sum(torch.tensor([total, questions], dtype=torch.float64), accelerator).tolist()
    return total / questions


def micros(family, seen: list[tuple[Example, Shown]], interpolation: str) -> list[Micro]:
    """Views of images with their questions -> forward passes of similar lengths within the token budget."""
    rows = [(prefix.row(family, example.questions, shown, answered=True), example, shown) for example, shown in seen]
    rows.sort(key=lambda item: len(item[0]))
    groups: list[list] = []
    for item in rows:
        if not groups or (len(groups[-1]) + 1) * len(item[0]) > ROW_TOKENS:
            groups.append([])
        groups[-1].append(item)
    return [_micro(family, group, interpolation) for group in groups]


def ledger(batches: FineTuning) -> pd.DataFrame:
    """What every training image was really shown as, in every epoch: sizes, tokens, scale."""
    rows = []
    per_epoch = len(batches) // batches.epochs
    for epoch in range(batches.epochs):
        for example in batches.examples:
            for shown in batches.views(example, epoch, epoch * per_epoch / len(batches)):
                rows.append(
                    {
                        "image_id": example.image_id, "epoch": epoch, "policy": shown.label,
                        "height": example.image.height, "width": example.image.width,
                        "shown_height": shown.size.height, "shown_width": shown.size.width,
                        "visual_tokens": shown.visual_tokens, "scale": scale(_size(example), shown.size),
                        "interpolation": batches.interpolation,
                    }
                )  # fmt: skip
    return pd.DataFrame(rows)


def save(family, folder: Path, stamp: dict) -> None:
    """The hub's format, with medstudy.json that says at which resolution the checkpoint was trained."""
    with paths.atomic(folder) as temporary:
        family.model.save_pretrained(temporary)
        family.processor.save_pretrained(temporary)
        (temporary / "medstudy.json").write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


class Resume:
    """The resume point: weights, optimizer, schedule and log in one file, written whole or not at all."""

    def __init__(self, file: Path, seconds: float):
        self.file, self.seconds, self.saved = file, seconds, time.monotonic()

    def load(self, model, optimizers: list, schedules: list) -> list[dict]:
        if not self.file.is_file():
            return []
        state = torch.load(self.file, weights_only=True, map_location="cpu")
        model.load_state_dict(state["model"])
        for part, saved in zip((*optimizers, *schedules), state["parts"], strict=True):
            part.load_state_dict(saved)
        return state["log"]

    def save_when_due(self, model, optimizers: list, schedules: list, log: list[dict]) -> None:
        if time.monotonic() - self.saved < self.seconds:
            return
        state = {"model": model.state_dict(), "parts": [part.state_dict() for part in (*optimizers, *schedules)]}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        torch.save(state | {"log": log}, temporary)
        os.replace(temporary, self.file)
        self.saved = time.monotonic()


def _step(model, micro_batches: list[Micro], questions: float, loss: Loss, accelerator, clip: float) -> float:
    """Gradients of the mean loss a question over all processes' shares of a step, clipped; returns that mean."""
    model.train()
    model.zero_grad()
    total = 0.0
    for micro in micro_batches:
        part = loss(model, _to(micro.inputs, accelerator.device)) / questions
        part.backward()
        total += float(part.detach())
    if accelerator.num_processes > 1:
        for p in model.parameters():
            p.grad = torch.zeros_like(p) if p.grad is None and p.requires_grad else p.grad
        grads = [p.grad for p in model.parameters() if p.requires_grad]
        flat = torch.cat([grad.flatten() for grad in grads] + [torch.tensor([total], device=accelerator.device)])
        *parts, whole = _sum(flat, accelerator).split([*(grad.numel() for grad in grads), 1])
        for grad, part in zip(grads, parts, strict=True):
            grad.copy_(part.view_as(grad))
        total = float(whole)
    torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
    return total


def _held(micro_batches: list[Micro], accelerator: Accelerator) -> dict[str, float]:
    """What a step holds in all processes."""
    names = ("questions", "images", "visual_tokens", "flops")
    local = torch.tensor([sum(getattr(m, name) for m in micro_batches) for name in names], dtype=torch.float64)
    return dict(zip(names, _sum(local, accelerator).tolist(), strict=True))


def _sum(local: torch.Tensor, accelerator: Accelerator) -> torch.Tensor:
    return accelerator.reduce(local.to(accelerator.device), "sum") if accelerator.num_processes > 1 else local


def _micro(family, group: list, interpolation: str) -> Micro:
    rows = [row for row, _, _ in group]
    images = [(example, shown) for _, example, shown in group if shown.visual_tokens]
    inputs = prefix.collate(family, rows)
    if images:
        pixels = [views.render(example.image, shown, interpolation) for example, shown in images]
        inputs |= family.pixels(pixels, [shown.size for _, shown in images])
    tokens = sum(shown.visual_tokens for _, shown in images)
    frozen = not any(p.requires_grad for p in family.tower)
    flops = sum(cost.training_flops(family.model.config, workload(row), frozen) for row in rows)
    return Micro(inputs, sum(len(row.branches) for row in rows), len(group), tokens, flops)


def workload(row: prefix.Row) -> cost.Workload:
    """What one row asks of the model."""
    start = len(row.prefix)
    pairs = start * (start + 1) // 2 + sum(len(b) * start + len(b) * (len(b) + 1) // 2 for b in row.branches)
    answers = sum(len(branch) - answer for branch, answer in zip(row.branches, row.answers, strict=True))
    patches = () if row.grid is None else (int(row.grid.prod()),)
    return cost.Workload(patches, len(row), pairs, answers)


def _entry(log: list[dict], step: int, loss: float, held: dict[str, float], seconds: float) -> dict:
    last = log[-1] if log else {"images_seen": 0, "visual_tokens": 0, "seconds": 0.0, "flops": 0.0}
    return {
        "step": step,
        "images_seen": last["images_seen"] + int(held["images"]),
        "loss": loss,
        "val_loss": math.nan,
        "visual_tokens": last["visual_tokens"] + int(held["visual_tokens"]),
        "seconds": last["seconds"] + seconds,
        "flops": last["flops"] + held["flops"],
    }


def _size(example: Example) -> Size:
    return Size(example.image.height, example.image.width)


def _to(inputs: dict[str, torch.Tensor], device: torch.device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}

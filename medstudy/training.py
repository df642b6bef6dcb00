"""Training: every question of an image in one row, loss on the answers only, exact resume.

What a step sees is a pure function of (seed, step): nothing hangs on a global random state, so a run that was killed
and resumed ends with the same bits on the same machine (on CUDA, where torch is told to use deterministic kernels). The
resume point is one file, replaced atomically.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from pickle import UnpicklingError

import pandas as pd
import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader

from medstudy import adapters, models, optimizers, packing, paths
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
from medstudy.models.family import home
from medstudy.params import Optimisation, Study
from medstudy.progress import bar
from medstudy.records import Example
from medstudy.resolution import check_effect
from medstudy.supply import Supply

Loss = Callable[[object], torch.Tensor]  # of a pass's content: a sum over its questions


def train(study: Study, job, progress: bool = True) -> pd.DataFrame:
    """Train one regime and seed into `job.dir`: checkpoint/, training.parquet, ledger.parquet; resumes by itself.

    Returns training.parquet: one row a step (step, images_seen, loss, val_loss, visual_tokens, seconds, flops).
    Raises ResolutionError before training when the policy would change nothing, RunError when the loss is not finite.
    """
    from medstudy import grid

    torch.set_num_threads(1)
    family = models.load(study.model)
    folders = [item.dir for item in grid.needed(study, job, "data")]
    data = {split: store.read_all(folders, split) for split in ("train", "val")}
    check_data(data, study.study)
    policy, seed = study.policy(job.parameters["label"]), job.parameters["seed"]
    check_effect(policy, [size for example in data["train"] for size in sizes_of(example)], family.geometry)
    options, name = study.training, job.name if progress else None
    print("attention: {}, because {}".format(*family.attention))
    if options.freeze_vision_tower:
        family.freeze_tower()
    adapter = adapters.add(family, options.lora) if options.lora else None
    supply = Supply.of(study, family)
    batches, validation = parts(supply, data, policy, options, seed)
    shown = prepare((batches, validation), name)
    scratch = paths.scratch(job.dir)
    log = fit(family.model, batches, validation, options, seed, scratch, partial(loss_of, supply), name, study.workers)
    log = log.assign(run_id=job.dir.name, regime=policy.label, seed=seed)
    stamp = {
        "regime": policy.label, "policy": policy.model_dump(), "seed": seed, "interpolation": study.interpolation,
        "started_from": family.revision, "attention": family.attention._asdict(),
    }  # fmt: skip
    save(family, job.dir / "checkpoint", stamp, adapter)
    shown.to_parquet(job.dir / "ledger.parquet")
    log.to_parquet(job.dir / "training.parquet")
    (scratch / "resume.pt").unlink(missing_ok=True)
    return log


def check_data(data: dict[str, Sequence[Example]], study: str) -> None:
    """Raises DataError when there is nothing to train on, because every data set is for evaluation only."""
    if not data["train"]:
        raise DataError(
            f"A training needs images, but every data set of {study} is for evaluation only. Add one that has a train "
            "split, or raise `train` in the params of one."
        )


def prepare(trainings: Sequence[FineTuning], name: str | None = None) -> pd.DataFrame:
    """What must be done before the first step: every view fits in a pass, and a frozen tower's features are on disk.

    Returns the ledger of the first part. Raises ResolutionError.
    """
    ledgers = [ledger(part) for part in trainings]
    for part, shown in zip(trainings, ledgers, strict=True):
        labels = list(map(named, *(shown[name] for name in ("dataset", "image_id", "shown_height", "shown_width"))))
        packing.check(shown["row_tokens"], part.options.tokens_per_pass, labels)
    if trainings[0].supply.features is not None:
        views = {
            name: seen
            for part in trainings
            for step in range(len(part))
            for one, shown in part.seen(step)
            for name, seen in views_of(one, shown).items()
        }
        line = bar(f"{name} features", "image", len(views)) if name else None
        trainings[0].supply.prepare(views.values(), line)
        if line is not None:
            line.close()
    return ledgers[0]


def loss_of(supply: Supply, batch: Batch) -> torch.Tensor:
    """Sum over the questions of a packed row of each question's mean cross-entropy over its answer tokens."""
    model = supply.family.model
    packed = batch.packed.to(model.device)
    hidden = supply.family.hidden(packed, supply.see(batch.images, packed.grids))
    logits = model.lm_head(hidden[packed.at])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")
    return (losses / torch.bincount(packed.question)[packed.question]).sum()


def fit(model, batches: Batches, validation: Batches | None, options: Optimisation, seed: int, scratch: Path,
        loss: Loss, name: str | None = None, workers: int = 0) -> pd.DataFrame:  # fmt: skip
    """The loop: linear warm-up and cosine decay, clipped gradients; one log row a step.

    `loss(content)` is a sum over the questions of a forward pass, and a step's gradient that of its mean over all
    questions, however many passes they take. Under torchrun every process brings its own share of each step in
    `batches`, and gradients are those of the whole step.
    """
    torch.manual_seed(seed)
    accelerator = Accelerator(cpu=home().type == "cpu")
    model = model.to(accelerator.device)
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


def evaluate_loss(model, validation: Batches, accelerator: Accelerator, loss: Loss) -> float:
    """Mean loss a question over the validation split."""
    model.eval()
    total = questions = 0.0
    with torch.inference_mode():
        for step in range(len(validation)):
            for micro in validation[step]:
                total += float(loss(micro.content))
                questions += micro.questions
    model.train()
    total, questions = _sum(torch.tensor([total, questions], dtype=torch.float64), accelerator).tolist()
    return total / questions


def save(family, folder: Path, stamp: dict, adapter=None) -> None:
    """The hub's format, with medstudy.json that says at which resolution the checkpoint was trained.

    adapter: what `adapters.add` returned; the folder then holds the adapters alone.
    """
    with paths.atomic(folder) as temporary:
        (adapter or family.model).save_pretrained(temporary)
        family.processor.save_pretrained(temporary)
        (temporary / "medstudy.json").write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")


class Resume:
    """The resume point: trained weights, optimizer, schedule, log, in one file, written whole or not at all."""

    def __init__(self, file: Path, seconds: float):
        self.file, self.seconds, self.saved = file, seconds, time.monotonic()

    def load(self, model, optimizers: list, schedules: list) -> list[dict]:
        if not self.file.is_file():
            return []
        try:
            state = torch.load(self.file, weights_only=True, map_location="cpu")
        except (RuntimeError, EOFError, UnpicklingError) as error:
            raise RunError(
                f"A training goes on from its resume point, but {self.file} cannot be read ({error}). Delete it: the "
                "training then starts from its beginning."
            ) from error
        with torch.no_grad():
            for name, parameter in _trained(model).items():
                parameter.copy_(state["model"][name])
        for part, saved in zip((*optimizers, *schedules), state["parts"], strict=True):
            part.load_state_dict(saved)
        return state["log"]

    def save_when_due(self, model, optimizers: list, schedules: list, log: list[dict]) -> None:
        if time.monotonic() - self.saved < self.seconds:
            return
        state = {"model": _trained(model), "parts": [part.state_dict() for part in (*optimizers, *schedules)]}
        self.file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.file.with_suffix(f".{os.getpid()}")
        with open(temporary, "wb") as stream:
            torch.save(state | {"log": log}, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, self.file)
        self.saved = time.monotonic()


def _trained(model) -> dict[str, torch.nn.Parameter]:
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def _step(model, micro_batches: list[Micro], questions: float, loss: Loss, accelerator, clip: float) -> float:
    """Gradients of the mean loss a question over all processes' shares of a step, clipped; returns that mean."""
    model.train()
    model.zero_grad()
    total = 0.0
    for micro in micro_batches:
        part = loss(micro.content) / questions
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



"""Training: every question of an image in one row, loss on the answers only, exact resume.

A step's data are a pure function of (seed, step) and of no global random state. So a run that was killed and resumed
ends with the same bits on the same machine (on CUDA, if torch is set to use deterministic kernels). The resume point
is one file, replaced atomically.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import pandas as pd
import torch
from accelerate import PartialState

from medstudy import models, paths
from medstudy.data import arrow_store
from medstudy.data.example import Example
from medstudy.engine import bin_packing, crops
from medstudy.engine.batches import (
    Batch,
    FineTuning,
    keyed_views,
    ledger,
    sizes_of,
    train_and_val,
    view_label,
)
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import DataError
from medstudy.models.loading import default_device
from medstudy.params import Study
from medstudy.resolution.plan import check_effect, trained_on
from medstudy.runs.plan import Job
from medstudy.training import checkpoints, launch, mixed_precision, model_card, setup
from medstudy.training.loop import fit
from medstudy.utils import redact
from medstudy.utils.progress import bar


def train(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Train one regime and seed into `job.dir`: checkpoint/, training.parquet, ledger.parquet; resumes by itself.

    Returns training.parquet: one row per step (step, images_seen, loss, val_loss, visual_tokens, seconds, flops).
    Raises ResolutionError before training when the policy would change nothing, RunError when the loss is not finite.
    """
    if study.training.processes > 1:
        launch.train(study, job)
    else:
        process(study, job, progress)
    return pd.read_parquet(job.dir / "training.parquet")


def process(study: Study, job: Job, progress: bool = True) -> None:
    """`train` in this process: the only one, or one of several that each compute their share of every step."""
    torch.set_num_threads(1)
    state = PartialState(cpu=default_device().type == "cpu")
    policy, seed = study.policy(job.parameters["label"]), job.parameters["seed"]
    family = models.load(study.model, shown=sorted(trained_on(policy)))
    data = {split: arrow_store.read_all(job.folders("data"), split) for split in ("train", "val")}
    check_data(data, study.study)
    check_effect(policy, [size for example in data["train"] for size in sizes_of(example)], family.geometry)
    crops.check(policy, data["train"])
    options, name = study.training, job.name if progress else None
    if state.is_main_process:
        print("attention: {}, because {}".format(*family.attention))
    torch.manual_seed(seed)  # for the adapters' random weights
    adapter = setup.prepare(family, options)
    inputs = ImageInputs.of(study, family)
    batches, validation = train_and_val(inputs, data, policy, options, seed, state.process_index, state.num_processes)
    shown = prepare((batches, validation), name)
    scratch = paths.scratch(job.dir)
    log = fit(family.model, batches, validation, options, seed, scratch, partial(loss_of, inputs), name, study.workers)
    log = log.assign(run_id=job.dir.name, regime=policy.label, seed=seed)
    stamp = {
        "regime": policy.label, "policy": policy.model_dump(), "seed": seed, "interpolation": study.interpolation,
        "started_from": family.revision, "attention": family.attention._asdict(),
        "base_model": redact.hub_id(study.model.id), "precision": mixed_precision.describe(family.model),
    }
    card = model_card.card(study, stamp, data, shown, log, adapter is not None)
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
        columns = ("dataset", "image_id", "shown_height", "shown_width")
        labels = list(map(view_label, *(rows[column] for column in columns)))
        bin_packing.check(rows["row_tokens"], training.options.tokens_per_pass, labels)
    first = trainings[0]
    if first.inputs.features is not None:
        views = {
            key: view
            for training in trainings
            for step in range(len(training))
            for example, shown in training.views(step)
            for key, view in keyed_views(example, shown).items()
        }
        share = list(views.values())[first.rank :: first.ranks]
        line = bar(f"{name} features", "image", len(share)) if name and not first.rank else None
        first.inputs.prepare(share, line)
        if line is not None:
            line.close()
        if first.ranks > 1:
            PartialState().wait_for_everyone()
    return ledgers[0]


def loss_of(inputs: ImageInputs, batch: Batch) -> torch.Tensor:
    """The sum, over a packed row's questions, of a question's mean cross-entropy over its answer tokens."""
    model = inputs.family.model
    packed = batch.packed.to(model.device)
    hidden = inputs.family.hidden(packed, inputs.visual_tokens(batch.images, packed.grids, packed.reductions))
    logits = model.lm_head(hidden[packed.at])
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    losses = torch.nn.functional.cross_entropy(logits, packed.targets, reduction="none")
    return (losses / torch.bincount(packed.question)[packed.question]).sum()

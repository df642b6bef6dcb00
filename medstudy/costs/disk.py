"""Disk: checkpoints as they are saved, and the caches that all jobs of a study share. All numbers are bytes."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from medstudy.costs import memory
from medstudy.costs.workload import Counter
from medstudy.models.family import Family
from medstudy.resolution.sizes import View
from medstudy.runs.plan import Job

HEADER_BYTES = 75  # per tensor in the header of a safetensors file, without the tensor's name


def checkpoint(family: Family, adapters_only: bool = False) -> int:
    """A saved checkpoint: its weights, the configuration and the processor's files. adapters_only: as LoRA saves."""
    with tempfile.TemporaryDirectory() as folder:
        family.processor.save_pretrained(folder)
        family.model.config.save_pretrained(folder)
        files = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
    return files + weights(family.model, adapters_only)


def weights(model: torch.nn.Module, adapters_only: bool = False) -> int:
    """The safetensors of a checkpoint with their headers; tied weights once."""
    named = [(name, p) for name, p in model.named_parameters() if not adapters_only or "lora_" in name]
    return sum(p.numel() * p.element_size() + len(name) + HEADER_BYTES for name, p in named)


def cache(counter: Counter, views: Sequence[View]) -> int:
    """Views in the cache: features if a frozen tower's are cached, else resized pixels."""
    if counter.stored:
        family = counter.family
        rows = sum(sum(family.feature_counts(family.grid(view.size))) for view in views)
        content = rows * family.feature_width * memory.element(family)
    else:
        content = sum(3 * view.size.pixels for view in views)
    return content + HEADER_BYTES * len(views)


def encoded_images(jobs: Sequence[Job], job: Job) -> float:
    """The files from which a job reads its images; NaN before the data is built."""
    folders = [data.dir for data in jobs if data.stage == "data" and data.done]
    splits = ("train", "val") if job.stage == "train" else ("test",)
    files = [folder / f"{split}.arrow" for folder in folders for split in splits]
    return sum(file.stat().st_size for file in files) if files else math.nan

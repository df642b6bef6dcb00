"""The clock that all sides share: seconds between optimiser steps, what the steps hold, and the peak of memory."""

from __future__ import annotations

import argparse
import resource
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.peers.common import Plan


class Clock:
    """Seconds between the ends of optimiser steps, and what the forward passes of a step hold."""

    def __init__(self, options: argparse.Namespace, planned: Plan):
        self.device, self.dtype = options.device, options.dtype
        self.count, self.accumulation = options.steps, planned.accumulation
        self.ends: list[float] = []
        self.losses: list[float] = []
        self.model: dict[str, object] = {}
        self.peak_bytes = 0
        self.held: dict[str, float] = {}

    @property
    def steps(self) -> list[float]:
        return [end - start for start, end in zip(self.ends, self.ends[1:], strict=False)]

    def callback(self):
        """A transformers TrainerCallback; every peer trains with a subclass of that Trainer."""
        from transformers import TrainerCallback

        clock = self

        class Callback(TrainerCallback):
            def on_train_begin(self, args, state, control, model=None, **kwargs):
                dtypes = {str(one.dtype).removeprefix("torch.") for one in model.parameters()}
                if dtypes != {clock.dtype} or args.bf16 or args.fp16:
                    raise SystemExit(f"Weights and compute must be {clock.dtype}, got {dtypes}, bf16={args.bf16}.")
                clock.model = {
                    "trained_parameters": sum(one.numel() for one in model.parameters() if one.requires_grad),
                    "attention": model.config._attn_implementation,
                    "vision_attention": model.config.vision_config._attn_implementation,
                }
                clock.ends = [now(clock.device)]

            def on_step_end(self, args, state, control, **kwargs):
                clock.ends.append(now(clock.device))

            def on_log(self, args, state, control, logs=None, **kwargs):
                if logs and "loss" in logs:
                    clock.losses.append(float(logs["loss"]))

            def on_train_end(self, args, state, control, train_dataloader=None, model=None, **kwargs):
                clock.peak_bytes = peak_bytes(clock.device)
                merge = model.config.vision_config.spatial_merge_size
                clock.held = held(train_dataloader, clock.count, clock.accumulation, merge)

        return Callback()


def held(loader, steps: int, accumulation: int, merge: int) -> dict[str, float]:
    """Read the rows once more without training: what a step holds and the seconds its reading takes, on average."""
    counts = dict.fromkeys(("rows", "padded_tokens", "answer_tokens", "visual_tokens", "input_seconds"), 0.0)
    started = time.perf_counter()
    for index, batch in enumerate(loader, start=1):
        counts["input_seconds"] = time.perf_counter() - started
        counts["rows"] += len(batch["image_grid_thw"])
        counts["padded_tokens"] += batch["labels"].numel()
        counts["answer_tokens"] += int((batch["labels"] != -100).sum())
        counts["visual_tokens"] += int(batch["image_grid_thw"].prod(-1).sum()) // merge**2
        if index == steps * accumulation:
            break
    return {key: count / steps for key, count in counts.items()}


def now(device: str) -> float:
    """Seconds of a clock, once the device has done its work."""
    import torch

    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def peak_bytes(device: str) -> int:
    """Peak of the GPU memory that torch gave out, or of the process's resident memory."""
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

"""What answering a question costs: tokens and floating-point operations by formula, seconds and memory as measured.

An image and all its questions are one row, and several rows are one pass (`medstudy.evaluation.in_process`). So what
questions share is divided by these rules:

- Operations: those of an image's prefill (the tower, the prompts of all its questions) in equal parts; those of an
  answer belong to its question. By the formulas of `medstudy.engine.flops`, as in an estimate.
- Seconds: the prefill of a pass in proportion to the operations of each question's prefill; decoding in proportion to
  each answer's tokens.
- Memory: the peak of the pass, the same for all its questions: on CUDA the device's, on a CPU the process's.

The greedy answer alone counts: not the author's sampled one, nor the likelihoods of options, nor reading images. A
model that is not in this process says what it knows; the rest is NaN. `seconds` is then what it took to answer.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pandas as pd
import psutil
import torch

from medstudy.engine.family_protocol import Family
from medstudy.engine.flops import RowWork, forward_flops, language_flops, tower_flops
from medstudy.engine.row_layout import Row
from medstudy.engine.shared_prefix import layout_of

FILE = "costs.parquet"  # beside predictions.parquet: its seconds differ from run to run
QUESTION = ["inference", "control", "dataset", "image_id", "question_id"]
NUMBERS = ["visual_tokens", "prompt_tokens", "answer_tokens", "flops", "prefill_seconds", "decode_seconds", "seconds",
           "memory_mb"]
COLUMNS = QUESTION + NUMBERS
Lap = Callable[[str], None]


class Stopwatch:
    """Seconds of the parts of a pass, and its peak of memory in MB (2^20 bytes)."""

    def __init__(self, device: torch.device):
        self.device, self.parts, self._resident = device, dict[str, float](), 0
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        self._last = self._now()

    def lap(self, part: str) -> None:
        """End a part of the pass: the device has done all its work."""
        now = self._now()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._resident = max(self._resident, psutil.Process().memory_info().rss)
        self._last = now

    @property
    def memory_mb(self) -> float:
        cuda = self.device.type == "cuda"
        return (torch.cuda.max_memory_allocated(self.device) if cuda else self._resident) / 2**20

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def of_pass(
    family: Family, rows: Sequence[Row], greedy: Sequence[Sequence[int]], limit: int, stored: bool, watch: Stopwatch
) -> list[dict[str, float]]:
    """The costs of each question of a pass, image by image; `NUMBERS` without visual_tokens.

    greedy: the tokens of each answer, without an end. limit: the most tokens of an answer. stored: the tower's features
    come from the disk. watch: with the laps "prefill" and "decode"; "decode" alone if the family generates by itself.
    """
    answers = iter(greedy)
    costs = [cost for row in rows for cost in _of_image(family, row, answers, limit, stored)]
    prefill, decode = (watch.parts.get(part, float("nan")) for part in ("prefill", "decode"))
    all_prefill, all_tokens = (sum(cost[name] for cost in costs) for name in ("prefill_flops", "answer_tokens"))
    for cost in costs:
        cost["prefill_seconds"] = prefill * cost.pop("prefill_flops") / all_prefill
        cost["decode_seconds"] = decode * cost["answer_tokens"] / all_tokens
        known = [cost[name] for name in ("prefill_seconds", "decode_seconds") if cost[name] == cost[name]]
        cost |= {"seconds": sum(known), "memory_mb": watch.memory_mb}
    return costs


def _of_image(family: Family, row: Row, answers: Sequence, limit: int, stored: bool) -> list[dict[str, float]]:
    """Tokens and operations of each question of an image."""
    shape, layout, count = family.shape, layout_of(family, [row]), len(row.branches)
    shared = forward_flops(shape, RowWork(row.patches, len(layout), layout.pairs, count))
    shared -= sum(tower_flops(shape, number) for number in row.patches) * stored
    costs = []
    for branch in row.branches:
        tokens, before = len(next(answers)), len(row.prefix) + len(branch)
        # The prefill gives the first token, and each token but the last of a full answer is read for the next
        fed = min(tokens, limit - 1)
        own = language_flops(shape, RowWork((), fed, fed * before + fed * (fed + 1) // 2, fed))
        costs.append({"prompt_tokens": before, "answer_tokens": fed + 1, "flops": shared / count + own,
                      "prefill_flops": shared / count})
    return costs


def table(rows: Sequence[dict]) -> pd.DataFrame:
    """The costs of all questions under one policy, sorted; NaN where a model does not say."""
    frame = pd.DataFrame(rows).reindex(columns=COLUMNS)
    frame = frame.astype(dict.fromkeys(QUESTION, str) | dict.fromkeys(NUMBERS, float))
    return frame.sort_values(["dataset", "image_id", "question_id"], ignore_index=True)

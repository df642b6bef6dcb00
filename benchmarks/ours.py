"""This package on a peer's terms: the same command line, data, order, clip and clock, and the same JSON.

    python -m benchmarks.ours train|generate --model DIR --data FILE.jsonl … --out FILE.json   (see benchmarks/peers)
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.peers import common
from benchmarks.peers.clock import Clock, now, peak_bytes
from medstudy import models
from medstudy.costs import memory
from medstudy.costs.job_workload import Pass
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.engine import attention, batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.evaluation import in_process
from medstudy.params import Decoding, Model, Optimisation
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native
from medstudy.training import loop, mixed_precision, setup
from medstudy.training import train as training_train

NATIVE = Native(max_pixels=2**31)
TOKENS_PER_PASS = {"cpu": 2048, "cuda": 16384}  # a CPU's caches prefer one large image; 12 MP are 15,500 tokens


class Timed:
    """Steps in the file's order; the clock notes when each begins."""

    def __init__(self, seen: list, supply: ImageInputs, options, clock: Clock):
        self.seen, self.supply, self.options, self.clock = seen, supply, options, clock
        self.held: list[dict[str, float]] = []  # of each step
        self.sizes: set[Pass] = set()  # of all passes

    def __len__(self) -> int:
        return self.options.steps

    def __getitem__(self, step: int) -> list[batches.MicroBatch]:
        self.clock.ends.append(now(self.options.device))
        size = self.options.images_per_step
        chosen = [self.seen[index % len(self.seen)] for index in range(step * size, (step + 1) * size)]
        made = batches.micro_batches(self.supply, chosen, TOKENS_PER_PASS[self.options.device])
        rows = [one.content.packed for one in made]
        self.sizes |= {Pass(len(row.layout), int(row.grids.prod(1).sum()), len(row.at)) for row in rows}
        names = ("questions", "visual_tokens", "flops")
        self.held.append({name: sum(getattr(one, name) for one in made) for name in names} | {"passes": len(made)})
        return made


def train(options, family=None) -> dict:
    """Full fine-tuning; with --freeze-tower the tower's features are kept on disk, as a study keeps them.

    family: one that is in memory; None loads it from its folder.
    """
    family = family or _family(options)
    settings = Optimisation(
        epochs=1, learning_rate=options.learning_rate, weight_decay=0.0, validations=1, checkpoint_seconds=10**6,
        gradient_checkpointing=options.gradient_checkpointing,
    )
    if options.freeze_tower:
        family.freeze_tower()
    if options.gradient_checkpointing:
        setup.checkpoint(family.model)
    if options.mixed_precision:
        mixed_precision.to_float32(family.model)
    if options.compile_layers:
        setup.compile_layers(family.model)
    with tempfile.TemporaryDirectory() as scratch:
        shelves = {"features" if options.freeze_tower else "pixels": TensorCache(Path(scratch) / "shelf")}
        supply = ImageInputs(family, "bicubic", **shelves)
        seen = [(one, plan(NATIVE, batches.size_of(one), family.geometry)[0]) for one in examples(options.data)]
        supply.prepare(view for one in seen for view in batches.keyed_views(*one).values())
        clock = Clock(options, common.Plan([], 1, 1))
        steps = Timed(seen, supply, options, clock)
        log = loop.fit(family.model, steps, None, settings, 0, Path(scratch), partial(training_train.loss_of, supply))
        clock.ends.append(now(options.device))
    seconds = sum(clock.steps[1:])  # the first step is a warm-up
    held = {name: sum(one[name] for one in steps.held[1:]) for name in steps.held[0]}
    return {
        "attention": family.attention._asdict(), "frozen_tower": options.freeze_tower, **held,
        "predicted_memory_bytes": memory.training(family, settings, options.freeze_tower, steps.sizes),
        "step_seconds": clock.steps, "seconds_per_step": statistics.median(clock.steps[1:]),
        "seconds_per_question": seconds / held["questions"], "flops_per_second": held["flops"] / seconds,
        "losses": log["loss"].tolist(), "peak_memory_bytes": peak_bytes(options.device),
    }


def generate(options, family=None) -> dict:
    """Greedy answers to the questions of the first `steps` x `images_per_step` images."""
    family = family or _family(options)
    asked = examples(options.data)[: options.steps * options.images_per_step]
    shown = [plan(NATIVE, batches.size_of(one), family.geometry)[0] for one in asked]
    decoding = Decoding(max_new_tokens=options.max_new_tokens, tokens_per_pass=TOKENS_PER_PASS[options.device])
    supply = ImageInputs(family, "bicubic")
    list(in_process.answers(supply, asked[:1], asked[:1], shown[:1], decoding))  # a warm-up, not counted
    started = now(options.device)
    made = sorted(in_process.answers(supply, asked, asked, shown, decoding))
    seconds = now(options.device) - started
    count = sum(len(one.questions) for one in asked)
    return {
        "attention": family.attention._asdict(), "questions": count, "seconds": seconds,
        "seconds_per_question": seconds / count, "answers": [answers.greedy for _, answers in made],
        "peak_memory_bytes": peak_bytes(options.device),
    }


def _family(options):
    family = models.load(Model(id=str(options.model), dtype=options.dtype))
    if options.kernel:
        family = replace(family, attention=attention.KernelChoice(options.kernel, "the benchmark asks for it"))
        attention.install(family.model, family.attention)
    if family.model.device.type != options.device:
        raise SystemExit(f"The model must be on {options.device}, but torch put it on {family.model.device}.")
    return family


def examples(file: Path) -> list[Example]:
    """The images and questions of a JSON-lines file."""
    made = []
    for line in common.read(file):
        asked = tuple(
            Question(str(k), one["prompt"], one["answer"], "open", "") for k, one in enumerate(line["questions"])
        )
        picture = Picture(Path(line["image"]).read_bytes(), line["image"])
        name = Path(line["image"]).name
        made.append(Example(name, picture, asked, "data", "train", name, "", "", "", True, "", ""))
    return made


def main() -> None:
    kind, *rest = sys.argv[1:]
    options = common.arguments(__doc__, rest)
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    made = {"train": train, "generate": generate}[kind](options)
    common.write(options.out, {"peer": f"medstudy {kind}", **common.described(options), **made})


if __name__ == "__main__":
    main()

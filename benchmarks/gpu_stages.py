"""What each stage of the GPU's benchmark measures: named tasks; each yields lines of the results.

A line that is yielded again takes the place of the one before, so that a pair's first round counts when the second one
is cut off. Full fine-tuning in bfloat16, Qwen2-VL-2B's real configuration with random weights, 10 questions an image.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable, Iterator
from functools import cached_property, partial
from pathlib import Path

import torch

from benchmarks import attention_methods, data, smoke
from benchmarks.peers import trainer
from benchmarks.resident import Resident
from benchmarks.runner import NotRun, about_side
from medstudy.costs import device_rate, throughput
from medstudy.engine import attention
from medstudy.engine import flops as engine_flops
from medstudy.params import Optimisation

QUESTIONS = 10
TRAINERS_BATCH = 5  # the fastest of the Trainer at 1008² (results/gpu.json), kept where only the trainer differs
Lines = Iterator[dict]
Tasks = dict[str, Callable[[], Lines]]


class Bench(Resident):
    """A resident model with the device's rates and the data of every size. tiny: sizes for a rehearsal on a CPU."""

    def __init__(self, device: str, sizes: dict, scratch: Path, workers: int, keep: Path, tiny: bool = False):
        super().__init__(device, sizes, scratch, workers)
        self.keep, self.tiny = keep, tiny

    @cached_property
    def rates(self) -> device_rate.Rates:
        device = torch.device(self.device)
        if self.device == "cpu":  # a rehearsal: too small to mean anything
            return device_rate.measured(device, 128, 2**16, 2)
        return device_rate.kept(device, self.keep)

    def images(self, height: int, width: int, count: int) -> Path:
        if self.tiny:
            height, width, count = max(56, height // 504 * 28), max(56, width // 504 * 28), min(count, 2)
        folder = self.scratch / f"{height}x{width}x{count}"
        if not (folder / "data.jsonl").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            data.noise(folder, (height, width), count, QUESTIONS)
        return folder / "data.jsonl"

    def step(self, height: int, width: int, images: int, steps: int, **more: object):
        """Options of a training: `images` an optimiser step."""
        made = self.images(height, width, images)
        if self.tiny:
            images, steps = min(images, 2), 2
        return self.options(made, images_per_step=images, steps=steps, **more)


def alternating(name: str, ours: Callable[[], dict], peer: Callable[[], dict], peer_name: str, rounds: int,
                goal: float | None = None, **more: object) -> Lines:
    """A pair in turns, a line after each round: seconds a question, ratio the median of peer over ours."""
    found = []
    for _ in range(rounds):
        theirs, mine = peer(), ours()
        found.append((mine["seconds_per_question"], theirs["seconds_per_question"]))
        ratios = [b / a for a, b in found]
        first, second = (statistics.median(part) for part in zip(*found, strict=True))
        yield {
            "name": name, "unit": "s/question", "ours": first, "peer": second, "peer_name": peer_name,
            "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios), "rounds": len(found),
            "goal": goal, "floor": None if goal is None else 0.8 * goal, "batch_size": theirs.get("batch_size"),
            "ours_about": about_side(mine), "peer_about": about_side(theirs), **more,
        }


def train_pair(bench: Bench, side: int, images: int, steps: int, goal: float, rounds: int, train=trainer.train,
               peer_name: str = "trainer", trial: int = 1, **more: object) -> Lines:
    """Training against a peer, and how much of what the FLOPs allow. trial: images a step while its batch is found."""
    options = bench.step(side, side, images, steps, **more)
    frozen = " with a frozen tower, features kept" if more.get("freeze_tower") else ""
    name = f"training at {side}², {QUESTIONS} questions{frozen}"
    bound = flop_bound(bench, options) if not frozen else None
    both = partial(bench.train, options), partial(bench.train_peer, train, options, trial)
    for line in alternating(name, *both, peer_name, rounds, goal, flop_bound=bound):
        yield line
    if bound:
        yield {
            "name": f"training at {side}², share of the FLOP bound", "unit": "times the peer", "ours": line["ratio"],
            "peer": bound, "peer_name": f"FLOPs of {peer_name} over ours", "ratio": line["ratio"] / bound,
            "goal": 0.95 if side == 1008 else None, "floor": 0.8 if side == 1008 else None,
        }
    if not frozen:
        first, losses = line["ours_about"]["losses"][0], line["peer_about"]["losses"][0]
        yield agreement(f"first loss at {side}²", first, losses, peer_name, 0.05)


def flop_bound(bench: Bench, options) -> float:
    """Training FLOPs of an image's questions one at a time over those of all in one row."""
    from benchmarks import ours
    from medstudy.engine import batches, shared_prefix
    from medstudy.resolution.plan import plan

    family, (example, *_) = bench.family, ours.examples(options.data)
    shown = plan(ours.NATIVE, batches.size_of(example), family.geometry)[0]

    def flops(questions: tuple) -> float:
        rows = [shared_prefix.row(family, questions, shown, True)]
        return engine_flops.training_flops(family.shape, batches.row_work(rows, shared_prefix.layout_of(family, rows)))

    return sum(flops((one,)) for one in example.questions) / flops(example.questions)


def evaluate_pair(bench: Bench, side: int, goal: float, rounds: int) -> Lines:
    options = bench.options(
        bench.images(side, side, 4), images_per_step=1, steps=2 if bench.tiny else 4,
        max_new_tokens=4 if bench.tiny else 16,
    )
    yield from alternating(f"evaluation at {side}², {QUESTIONS} questions", partial(bench.generate, options),
                           partial(bench.generate_peer, options), "generate", rounds, goal)


def utilisation(bench: Bench, height: int, width: int, images: int, steps: int, goal: float | None,
                **more: object) -> Lines:
    """FLOP/s of training over those of a matrix product; seconds and memory, predicted and measured."""
    options = bench.step(height, width, images, steps, **more)
    made, rates, where = bench.train(options), bench.rates, f"{height}x{width}"
    where += " with gradient checkpointing" if options.gradient_checkpointing else ""
    where += " with float32 weights" if options.mixed_precision else ""
    where += ", layers compiled" if options.compile_layers else ""
    yield {
        "name": f"model FLOP utilisation at {where}", "unit": "TFLOP/s", "ours": made["flops_per_second"] / 1e12,
        "peer": rates.flops / 1e12, "peer_name": "matrix product in bfloat16",
        "ratio": made["flops_per_second"] / rates.flops, "goal": goal, "floor": goal and 0.8 * goal,
        "ours_about": about_side(made),
    }
    settings = Optimisation(epochs=1, learning_rate=1e-6, gradient_checkpointing=options.gradient_checkpointing)
    pace, _ = throughput.paces(bench.family, settings, rates)
    steps = options.steps - 1
    predicted = pace.turn + made["flops"] / steps / pace.rate
    yield prediction(f"seconds a step at {where}", "s", made["seconds_per_step"], predicted)
    yield prediction(f"memory at {where}", "GB", made["peak_memory_bytes"] / 1e9, made["predicted_memory_bytes"] / 1e9)


def prediction(name: str, unit: str, measured: float, predicted: float) -> dict:
    return {"name": f"{name}: predicted", "unit": unit, "ours": predicted, "peer": measured, "peer_name": "measured",
            "ratio": measured / predicted, "goal": None, "floor": None}


def agreement(name: str, ours: float, theirs: float, peer_name: str, most: float) -> dict:
    """Two losses that should be the same: the ratio is 1 less their relative difference."""
    return {"name": name, "unit": "loss", "ours": ours, "peer": theirs, "peer_name": peer_name,
            "ratio": 1 - abs(ours - theirs) / abs(theirs), "goal": 1 - most, "floor": 1 - most}


def kernel_pair(bench: Bench, name: str) -> Lines:
    """Training with one kernel against the one that torch itself brings, and its losses against sdpa's."""
    lacking(name, bench)
    options = partial(bench.step, 1008, 1008, 4, 4)
    plain = "prefix_varlen" if bench.device == "cuda" else "prefix_sdpa"
    if name != plain:  # without flash-attn: at most a tenth slower
        goal = 0.9 if name in ("prefix_flash", "prefix_fa4") else None
        both = (partial(bench.train, options(kernel=one)) for one in (plain, name))
        yield from alternating(f"training at 1008² with {plain}", *both, name, 2, goal)
    if name == "prefix_sdpa":
        return
    exact, own = (bench.train(options(kernel=kernel))["losses"] for kernel in ("prefix_sdpa", name))
    pairs = list(zip(own, exact, strict=True))
    worst = max(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    yield agreement(f"losses with {name}, the step that differs most", *worst, "prefix_sdpa", 0.02)


def lacking(name: str, bench: Bench) -> None:
    """Raises NotRun for a kernel that this environment or device does not have."""
    if bench.device == "cpu":
        raise NotRun("a CPU has no variable-length flash attention, so nothing to compare sdpa with")
    if missing := attention.missing(name, torch.device(bench.device)):
        raise NotRun(missing)


def trl(bench: Bench) -> Lines:
    from benchmarks.peers import trl_sft

    require("trl", "datasets")
    yield from train_pair(bench, 1008, 4, 4, None, 1, trl_sft.train, "trl_sft", batch_size=TRAINERS_BATCH)


def vllm(bench: Bench) -> Lines:
    require("vllm")
    from benchmarks.peers import vllm_chat

    yield from vllm_chat.lines(bench, QUESTIONS)


def require(*modules: str) -> None:
    for module in modules:
        if importlib.util.find_spec(module) is None:
            raise NotRun(f"this interpreter has no {module}")


def stages(bench: Bench) -> dict[str, Callable[[], Tasks]]:
    """The tasks of every stage of `benchmarks.gpu.STAGES`."""
    train, use = partial(train_pair, bench), partial(utilisation, bench)
    methods, trainers = attention_methods.METHODS, {"batch_size": TRAINERS_BATCH}
    return {
        "smoke": lambda: smoke.tasks(bench),
        "train-1024": lambda: {"trainer": partial(train, 1008, 4, 4, 8.5, 2)},
        "evaluate-1024": lambda: {"generate": partial(evaluate_pair, bench, 1008, 8.0, 2)},
        "utilisation": lambda: {
            "1024": partial(use, 1008, 1008, 4, 8, 0.55),
            "float32 weights": partial(use, 1008, 1008, 4, 4, None, mixed_precision=True),
            "compiled": partial(use, 1008, 1008, 4, 5, None, compile_layers=True, mixed_precision=True),
            "12 MP": partial(use, 2996, 3976, 1, 3, 0.40, gradient_checkpointing=True),
        },
        "train-448": lambda: {"trainer": partial(train, 448, 8, 4, 6.0, 1, trial=2)},
        # One row of 21,316 patches fills a GPU, and to find a peer's best batch would take a quarter of all time.
        "train-2048": lambda: {"trainer": partial(train, 2044, 1, 3, 9.0, 1, batch_size=1)},
        "train-224": lambda: {"trainer": partial(train, 224, 16, 4, 3.3, 1, trial=4)},
        "kernels": lambda: {
            **{name: partial(kernel_pair, bench, name) for name in attention.FUNCTIONS if name != "prefix_masked"},
            **{name: partial(attention_methods.line, bench, name) for name in methods},
        },
        "trl": lambda: {"trl_sft": partial(trl, bench)},
        "frozen": lambda: {"trainer": partial(train, 1008, 4, 4, None, 1, freeze_tower=True, **trainers)},
        "vllm": lambda: {"vllm": partial(vllm, bench)},
    }

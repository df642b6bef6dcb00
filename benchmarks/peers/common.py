"""What the peers share: the command line, rows and steps, the clock, the choice of a batch size, and the result.

A line of the data is {"image": path, "questions": [{"prompt": text, "answer": text}, ...]}; every image file is already
at the size to be shown. A row is one question with its image. Times are wall-clock seconds.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.clock import Clock

MISSING = 3  # the exit status of an interpreter that lacks the peer
PACKAGES = ("torch", "torchvision", "transformers", "accelerate", "datasets", "flash-attn")
TRIAL_STEPS = 3  # of a batch size that is tried, the first one dropped
SLOWER = 1.25  # larger batches are not tried once two in a row take this many times the best time


@dataclass(frozen=True)
class Row:
    """One question: what a plain trainer sees at once."""

    image: str
    prompt: str
    answer: str


@dataclass(frozen=True)
class Plan:
    """K optimiser steps of `accumulation` forward passes of `batch_size` rows; `rows` holds all of them in order.

    With packing, a forward pass is one pack with room for `batch_size` rows of the longest length.
    """

    rows: list[Row]
    batch_size: int
    accumulation: int

    @property
    def questions_per_step(self) -> int:
        return self.batch_size * self.accumulation


def arguments(description: str | None, argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of a Qwen2-VL checkpoint and its processor")
    parser.add_argument("--data", type=Path, required=True, help="JSON lines: image, questions (prompt, answer)")
    parser.add_argument("--system", default="You are a helpful assistant.", help="system prompt")
    parser.add_argument("--images-per-step", type=int, default=8, help="images whose questions make an optimiser step")
    parser.add_argument("--steps", type=int, default=6, help="optimiser steps; the first is a warm-up, not counted")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of weights and compute")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--workers", type=int, default=0, help="processes that read and prepare rows")
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--batch-size", type=int, help="rows of a forward pass; left out, the fastest is found first")
    parser.add_argument("--packing", action="store_true", help="the peer's own packing, where it has one for images")
    parser.add_argument("--freeze-tower", action="store_true", help="train all but the vision tower's blocks")
    parser.add_argument("--max-new-tokens", type=int, default=16, help="of an answer, in generate")
    parser.add_argument("--gradient-checkpointing", action="store_true", help="of ours alone: less memory, 4/3 time")
    parser.add_argument("--mixed-precision", action="store_true", help="of ours alone: weights in float32, autocast")
    parser.add_argument("--compile-layers", action="store_true", help="of ours alone: torch.compile every layer")
    parser.add_argument("--kernel", help="of medstudy.engine.attention; a peer keeps to sdpa")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args(argv)
    if options.steps < 2 or options.images_per_step < 1:
        parser.error("--steps must be at least 2 (the first is not counted), --images-per-step at least 1")
    return options


def require(*modules: str) -> None:
    """Leave with status 3 and one line when this interpreter cannot import what the peer needs."""
    for module in modules:
        try:
            importlib.import_module(module)
        except Exception as error:  # a package may also fail in its own ways: torchaudio for another CUDA, for one
            reason = " ".join(str(error).split()) or type(error).__name__
            print(f"This interpreter cannot import {module}: {reason}", file=sys.stderr)
            raise SystemExit(MISSING) from None


def read(data: Path) -> list[dict]:
    lines = [json.loads(line) for line in data.read_text().splitlines() if line.strip()]
    return [{**line, "image": str((data.parent / line["image"]).resolve())} for line in lines]


def questions_per_step(images: list[dict], images_per_step: int) -> int:
    """Questions of `images_per_step` average images; a multiple of 4 if their number varies, so that batches fit."""
    counts = {len(image["questions"]) for image in images}
    if len(counts) == 1:
        return counts.pop() * images_per_step
    mean = sum(len(image["questions"]) for image in images) / len(images)
    return max(4, round(mean * images_per_step / 4) * 4)


def batch_sizes(questions: int) -> list[int]:
    """Divisors of a step's questions, each at least 1.5 times the one before."""
    sizes: list[int] = []
    for size in range(1, questions + 1):
        if questions % size == 0 and (not sizes or size >= 1.5 * sizes[-1]):
            sizes.append(size)
    return sizes


def plan(options: argparse.Namespace, images: list[dict], batch_size: int) -> Plan:
    """Rows in the order of the file, the questions of an image adjacent; the file is gone through again as needed."""
    per_step = questions_per_step(images, options.images_per_step)
    accumulation = max(1, round(per_step / batch_size))
    every = [Row(image["image"], one["prompt"], one["answer"]) for image in images for one in image["questions"]]
    needed = options.steps * batch_size * accumulation * (2 if options.packing else 1)  # packs may hold more rows
    return Plan([every[index % len(every)] for index in range(needed)], batch_size, accumulation)


def run(name: str, description: str | None, modules: tuple[str, ...], train, packages: tuple[str, ...] = ()) -> None:
    """The whole of a training peer: `train(options, plan, clock, scratch)` returns its losses and its settings."""
    options = arguments(description)
    require("torch", "transformers", *modules)
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    trials: dict[int, float | None] = {}
    if options.batch_size is None:
        images = read(options.data)
        check_sizes(options.model, images)
        sizes = batch_sizes(questions_per_step(images, options.images_per_step))
        options.batch_size, trials = fastest(name, sizes, lambda size: tried(name, options, size))
    result = {"peer": name, **described(options, packages), **measured(options, train)}
    result["batch_size_trials"] = {str(size): seconds for size, seconds in trials.items()}
    write(options.out, result)


def measured(options: argparse.Namespace, train) -> dict:
    """A training peer's steps at the batch size of `options`, and what they held."""
    images = read(options.data)
    check_sizes(options.model, images)
    planned = plan(options, images, options.batch_size)
    clock = Clock(options, planned)
    with tempfile.TemporaryDirectory() as scratch:
        losses, settings = train(options, planned, clock, Path(scratch))
    return {"settings": settings, **summary(options, images, planned, clock, losses)}


def tried(name: str, options: argparse.Namespace, size: int) -> float:
    """Seconds of the shortest step of a few, in a process of its own. Raises RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "trial.json"
        given = {**vars(options), "steps": TRIAL_STEPS, "batch_size": size, "out": out}
        command = [sys.executable, "-m", f"benchmarks.peers.{name}"]
        for key, value in given.items():
            if value is not None:
                flag = "--" + key.replace("_", "-")
                command += [flag] * value if isinstance(value, bool) else [flag, str(value)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError(done.stderr[-4000:])
        return min(json.loads(out.read_text())["step_seconds"][1:])


def fastest(name: str, sizes: list[int], trial) -> tuple[int, dict[int, float | None]]:
    """The batch size with the shortest step by `trial(size)`; None marks one that did not fit (RuntimeError)."""
    trials: dict[int, float | None] = {}
    for size in sizes:
        try:
            trials[size] = trial(size)
        except RuntimeError as error:  # out of memory is one
            if not any(trials.values()):
                raise SystemExit(f"{name} failed with a batch of {size}:\n{error}") from error
            trials[size] = None
        limit = SLOWER * min(filter(None, trials.values()))
        if trials[size] is None or len(trials) > 1 and all(one > limit for one in list(trials.values())[-2:]):
            break
    return min((size for size in trials if trials[size]), key=lambda size: trials[size]), trials


def check_sizes(model: Path, images: list[dict]) -> None:
    from PIL import Image

    factor = factor_of(model)
    for path in sorted({image["image"] for image in images}):
        with Image.open(path) as opened:
            if any(side % factor for side in opened.size):
                raise SystemExit(f"Image sides must be multiples of {factor} px, got {opened.size} in {path}.")


def factor_of(model: Path) -> int:
    """Side of a visual token, in pixels."""
    vision = json.loads((model / "config.json").read_text())["vision_config"]
    return vision.get("patch_size", 14) * vision.get("spatial_merge_size", 2)


def visual_tokens(model: Path, image: str) -> int:
    from PIL import Image

    with Image.open(image) as opened:
        wide, high = opened.size
    return wide * high // factor_of(model) ** 2


def pixel_limits(model: Path) -> dict[str, int]:
    """Limits of the image processor, in pixels, under which no image of a benchmark is resized."""
    return {"shortest_edge": factor_of(model) ** 2, "longest_edge": 2**31}


def load_processor(model: Path):
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    processor.image_processor.size = pixel_limits(model)
    processor.tokenizer.padding_side = "right"
    return processor


def load_model(options: argparse.Namespace):
    import torch
    from transformers import AutoModelForImageTextToText

    dtype = getattr(torch, options.dtype)
    model = AutoModelForImageTextToText.from_pretrained(options.model, dtype=dtype, attn_implementation="sdpa")
    return frozen(model, options)


def frozen(model, options: argparse.Namespace):
    """All is trained, or with --freeze-tower all but the blocks of the vision tower."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not (options.freeze_tower and "visual." in name and "merger" not in name))
    return model


def messages(system: str, prompt: str) -> list[dict]:
    content = [{"type": "image"}, {"type": "text", "text": prompt}]
    return [{"role": "system", "content": system}, {"role": "user", "content": content}]


def pack_length(options: argparse.Namespace, planned: Plan) -> int:
    """Tokens of a pack with room for `batch_size` rows: a multiple of 8."""
    processor = load_processor(options.model)
    longest = 0
    for row in set(planned.rows):
        turns = [*messages(options.system, row.prompt), {"role": "assistant", "content": row.answer}]
        text = processor.apply_chat_template(turns)
        tokens = len(processor.tokenizer(text, add_special_tokens=False)["input_ids"])  # one of them is the image's
        longest = max(longest, tokens - 1 + visual_tokens(options.model, row.image))
    return -(-planned.batch_size * longest // 8) * 8


def training_arguments(options: argparse.Namespace, planned: Plan, scratch: Path) -> dict:
    """The settings that all peers share, under the names of transformers' TrainingArguments."""
    return {
        "output_dir": str(scratch / "output"),
        "per_device_train_batch_size": 1 if options.packing else planned.batch_size,
        "gradient_accumulation_steps": planned.accumulation,
        "max_steps": options.steps,
        "learning_rate": options.learning_rate,
        "lr_scheduler_type": "constant",
        "optim": "adamw_torch",
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "weight_decay": 0.0,
        "max_grad_norm": 1.0,
        "bf16": False,  # the weights themselves have --dtype: no autocast
        "fp16": False,
        "dataloader_num_workers": options.workers,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "seed": 0,
        "use_cpu": options.device == "cpu",
    }


def described(options: argparse.Namespace, packages: tuple[str, ...] = ()) -> dict:
    versions = {"python": platform.python_version()}
    for package in (*packages, *PACKAGES):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    keys = ("device", "dtype", "threads", "workers", "images_per_step", "steps", "learning_rate")
    return {"versions": versions, **{key: getattr(options, key) for key in keys}}


def summary(
    options: argparse.Namespace, images: list[dict], planned: Plan, clock: Clock, losses: list[float]
) -> dict:
    """Counts are of one optimiser step, on average; rates are of the median step, the first one dropped."""
    tokens = [visual_tokens(options.model, image["image"]) for image in images]
    asked = [len(image["questions"]) for image in images]
    questions, encoded = clock.held["rows"], clock.held["visual_tokens"]
    if not options.packing and questions != planned.questions_per_step:
        raise SystemExit(f"A step must hold {planned.questions_per_step} questions, but it holds {questions}.")
    if len(set(tokens)) == 1 and encoded != questions * tokens[0]:
        raise SystemExit(f"A row must hold {tokens[0]} visual tokens, but it holds {encoded / questions}: resized?")
    seconds = statistics.median(clock.steps[1:])
    per_image = sum(asked) / len(asked)
    return {
        **clock.model,
        "packing": options.packing,
        "batch_size": planned.batch_size,
        "accumulation": planned.accumulation,
        "questions_per_step": questions,
        "questions_per_image": per_image,
        "visual_tokens_per_image": sum(tokens) / len(tokens),
        "visual_tokens_encoded_per_step": encoded,
        "padded_tokens_per_step": clock.held["padded_tokens"],
        "answer_tokens_per_step": clock.held["answer_tokens"],
        "input_seconds_per_step": clock.held["input_seconds"],
        "step_seconds": clock.steps,
        "seconds_per_step": seconds,
        "seconds_per_question": seconds / questions,
        "questions_per_second": questions / seconds,
        "images_per_second": questions / per_image / seconds,
        "visual_tokens_encoded_per_second": encoded / seconds,
        "losses": losses,
        "peak_memory_bytes": clock.peak_bytes,
    }


def write(out: Path, result: dict) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{result['peer']}: {out}")

"""What holds on one card, with Qwen2-VL-2B's real configuration (random weights cost the same), 10 questions an image.

Full fine-tuning in bfloat16. Each stage ends within ten minutes and can be run alone:

    python -m benchmarks gpu --stage train-1024
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from transformers import Qwen2VLConfig

from benchmarks import data
from benchmarks.runner import Side, pair, run
from medstudy import attention
from medstudy.models import standin
from medstudy.models.family import SYSTEM

TRAIN, GENERATE = Side("benchmarks.ours", ("train",)), Side("benchmarks.ours", ("generate",))
QUESTIONS = 10
QWEN2_VL_2B = {
    "text_config": {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151936, "max_position_embeddings": 32768,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]},
    },
    "vision_config": {"depth": 32, "embed_dim": 1280, "hidden_size": 1536, "num_heads": 16, "mlp_ratio": 4},
}  # fmt: skip


def measure(pythons: dict[str, str], stages: list[str], device: str = "cuda", sizes: dict = QWEN2_VL_2B) -> Iterator:
    """Yield a line of the results at a time, marked with its stage."""
    if device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("The gpu benchmarks need a CUDA device, and torch sees none. Run `python -m benchmarks cpu`.")
    with tempfile.TemporaryDirectory() as scratch:
        model = checkpoint(Path(scratch) / "model", sizes)
        for stage in stages:
            folder = Path(scratch) / stage
            folder.mkdir()
            shared = {"model": model, "system": SYSTEM, "device": device, "dtype": "bfloat16", "threads": 4}
            for line in STAGES[stage](folder, shared, pythons):
                yield line | {"stage": stage}


def checkpoint(folder: Path, sizes: dict) -> Path:
    """A Qwen2-VL of those sizes with random weights, in the hub's format."""
    words = standin.tokenizer(["Is there a nodule in region of this image? yes no"] * 20, 400)
    settings = standin.config(words, width=64, layers=1, vision_width=48, vision_layers=1).to_dict()
    for part, values in sizes.items():
        settings[part] = {name: old for name, old in settings[part].items() if name != "layer_types"} | values
    return standin.write(Qwen2VLConfig(**settings), words, folder, seed=0, dtype=torch.bfloat16)


def train(side: int, goal: float, folder: Path, shared: dict, pythons: dict, images=2, steps=6) -> Iterator:
    """Training against the plain Trainer and TRL, and the share of the card's own matrix rate that it reaches."""
    shared = shared | {
        "data": data.noise(folder, side, images=images, questions=QUESTIONS), "images_per_step": images,
        "steps": steps, "learning_rate": 1e-6, "workers": 4,
    }  # fmt: skip
    name = f"training at {side}², {QUESTIONS} questions"
    for peer in ("trainer", "trl_sft"):
        bound = {"goal": goal, "floor": 0.8 * goal} if peer == "trainer" else {}
        other = Side(f"benchmarks.peers.{peer}", python=pythons.get(peer, Side.python))
        yield pair(name, TRAIN, other, shared, rounds=2, **bound)
    made, rate = run(TRAIN, shared, ()), matrix_rate(torch.device(shared["device"]))
    share = made["flops_per_second"] / rate
    bound = {"goal": 0.55, "floor": 0.45} if side == 1008 else {"goal": None, "floor": None}
    yield {
        "name": f"model FLOP utilisation at {side}²", "unit": "TFLOP/s", "ours": made["flops_per_second"] / 1e12,
        "peer": rate / 1e12, "peer_name": "matrix product in bfloat16", "ratio": share, **bound,
        "kernel": made["attention"],
    }  # fmt: skip


def kernels(side: int, folder: Path, shared: dict, pythons: dict) -> Iterator:
    """Torch's own kernel against flash-attn 2: at most a tenth slower."""
    shared = shared | {
        "data": data.noise(folder, side, images=2, questions=QUESTIONS), "images_per_step": 2, "steps": 6,
        "learning_rate": 1e-6, "workers": 4,
    }  # fmt: skip
    own, flash = (replace(TRAIN, arguments=("train", "--kernel", name)) for name in ("prefix_varlen", "prefix_flash"))
    line = pair(f"training at {side}² without flash-attn", own, flash, shared, goal=0.9, floor=0.85, rounds=2)
    yield line | {"peer_name": "the same with flash-attn 2"}


def evaluate(side: int, goal: float, folder: Path, shared: dict, pythons: dict) -> Iterator:
    """All questions of an image against `generate`, one at a time."""
    shared = shared | {
        "data": data.noise(folder, side, images=4, questions=QUESTIONS), "images_per_step": 2, "steps": 2,
        "max_new_tokens": 16,
    }  # fmt: skip
    plain = Side("benchmarks.peers.generate")
    yield pair(f"evaluation at {side}², {QUESTIONS} questions", GENERATE, plain, shared, goal, 0.8 * goal, rounds=2)


def exactness(folder: Path, shared: dict, pythons: dict) -> Iterator:
    """Which kernels this card has: each is measured against sdpa, forward and backward, before it is used."""
    device, dtype = torch.device(shared["device"]), torch.bfloat16
    for name in attention.FUNCTIONS:
        if name != "prefix_sdpa":
            choice = attention.choose(device, dtype, among=(name,))
            ours = 1.0 if choice.name == name else 0.0 if f"{name} " in choice.why else None  # None: it is not there
            line = {"name": f"{name} gives sdpa's numbers", "unit": "1 is yes", "ours": ours, "ratio": ours}
            yield line | {"peer": 1.0, "peer_name": "sdpa", "goal": 1.0, "floor": 1.0, "not_run": choice.why}


def matrix_rate(device: torch.device, size: int = 8192, repeats: int = 20) -> float:
    """Operations a second of a bfloat16 matrix product, the median of repeats; smaller where there is no card."""
    size, repeats = (size, repeats) if device.type == "cuda" else (512, 3)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    wait = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    seconds = []
    for _ in range(repeats + 3):
        wait()
        started = time.perf_counter()
        left @ right
        wait()
        seconds.append(time.perf_counter() - started)
    return 2 * size**3 / statistics.median(seconds[3:])


STAGES = {
    "exactness": exactness,
    "train-224": partial(train, 224, 3.3, images=8),
    "train-448": partial(train, 448, 6.0, images=4),
    "train-1024": partial(train, 1008, 8.5),
    "train-2048": partial(train, 2044, 9.0, images=1, steps=4),
    "kernels": partial(kernels, 1008),
    "evaluate-1024": partial(evaluate, 1008, 8.0),
}

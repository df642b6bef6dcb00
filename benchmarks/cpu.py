"""What holds without a GPU: the shipped model, against plain transformers and the ecosystem's trainers.

Every process computes on one thread, as a study's jobs do (two of them on two cores).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import data, inputs
from benchmarks.runner import Side, pair
from medstudy import paths
from medstudy.models.prompts import SYSTEM

TRAINERS = ("trainer", "trl_sft", "ms_swift", "llama_factory")
TRAIN, GENERATE = Side("benchmarks.ours", ("train",)), Side("benchmarks.ours", ("generate",))


def measure(pythons: dict[str, str]):
    """Yield a line of the results at a time; `pythons`: the interpreter of a peer, where it is not this one."""
    peers = {name: Side(f"benchmarks.peers.{name}", python=pythons.get(name, Side.python)) for name in TRAINERS}
    shared = {"model": paths.BASE, "system": SYSTEM, "threads": 1, "learning_rate": 1e-4}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        large = {"data": data.noise(_made(folder / "1024"), size=(896, 896), images=4, questions=8)}
        step = shared | large | {"images_per_step": 1, "steps": 3}
        for name, peer in peers.items():
            goal = {"goal": 6.0, "floor": 5.0} if name == "trainer" else {"rounds": 2}
            yield pair("training, 1024 visual tokens, 8 questions", TRAIN, peer, step, **goal)
        asked = shared | large | {"images_per_step": 1, "steps": 3, "max_new_tokens": 16}
        plain = Side("benchmarks.peers.generate")
        yield pair("evaluation, 1024 visual tokens, 8 questions", GENERATE, plain, asked, goal=8.0, floor=7.0)
        study = shared | {"data": data.offline(_made(folder / "offline"), images=48), "images_per_step": 3, "steps": 9}
        for name in ("trainer", "trl_sft"):
            goal = {"goal": 3.0, "floor": 2.5} if name == "trainer" else {"rounds": 2}
            yield pair("training on the offline study's data", TRAIN, peers[name], study, **goal)
        frozen = study | {"freeze_tower": True}
        yield pair("the same with a frozen tower", TRAIN, peers["trainer"], frozen, goal=3.0, floor=2.5)
    yield from inputs.measure()


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder

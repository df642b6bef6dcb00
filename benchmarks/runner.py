"""Ours and a peer in alternating blocks, each a process of its own: the pair's ratio is the median over the rounds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.common import MISSING


@dataclass(frozen=True)
class Side:
    """One of a pair: a module of this package, its own arguments, and the interpreter that has what it needs."""

    module: str
    arguments: tuple[str, ...] = ()
    python: str = sys.executable


class NotRun(Exception):
    """A side that cannot run here, and why."""


def pair(name: str, ours: Side, peer: Side, shared: dict[str, object], goal: float | None = None,
         floor: float | None = None, rounds: int = 3) -> dict:
    """One line of the results: seconds a question, reading and preparing the images included.

    ratio: seconds of the peer over ours, the median over the rounds; low and high: the least and the greatest of them.
    goal: what this package promises; floor: a ratio below it fails the run (between the two lies a slow machine).
    """
    found: list[tuple[float, float]] = []
    row = {"name": name, "unit": "s/question", "peer_name": peer.module.split(".")[-1], "goal": goal, "floor": floor}
    fastest: tuple[str, ...] = ()
    try:
        for _ in range(rounds):
            other = run(peer, shared, fastest)  # first: one that is not installed is found out at once
            if other.get("batch_size"):
                fastest = ("--batch-size", str(other["batch_size"]))
            mine = run(ours, shared, ())
            found.append((mine["seconds_per_question"], other["seconds_per_question"]))
    except NotRun as reason:
        return row | {"ours": None, "peer": None, "ratio": None, "not_run": str(reason)}
    ratios = [theirs / mine for mine, theirs in found]
    first, second = (statistics.median(part) for part in zip(*found, strict=True))
    return row | {
        "ours": first, "peer": second, "ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios),
        "rounds": rounds, "batch_size": other.get("batch_size"), "ours_about": about_side(mine),
        "peer_about": about_side(other),
    }


def run(side: Side, shared: dict[str, object], extra: tuple[str, ...]) -> dict:
    """The JSON of one process. Raises NotRun when its interpreter lacks the peer, RuntimeError when it fails."""
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "out.json"
        command = [side.python, "-m", side.module, *side.arguments, *extra]
        for key, given in {**shared, "out": out}.items():
            flag = "--" + key.replace("_", "-")
            command += [flag] if given is True else [flag, str(given)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode == MISSING:
            raise NotRun(done.stderr.strip().splitlines()[-1])
        if done.returncode:
            raise RuntimeError(f"{side.module} failed:\n{done.stderr[-3000:]}")
        return json.loads(out.read_text())


def about_side(made: dict) -> dict:
    """What a reader needs to judge a number: versions, attention kernel, what a step held, memory."""
    keys = (
        "versions", "device", "dtype", "threads", "attention", "questions", "questions_per_step", "visual_tokens",
        "visual_tokens_encoded_per_step", "passes", "flops_per_second", "frozen_tower", "peak_memory_bytes", "losses",
        "step_seconds",
    )
    return {key: made[key] for key in keys if key in made}

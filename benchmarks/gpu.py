"""What holds on one GPU, in stages of falling worth; a cut run leaves what it has, and --resume does what is missing.

    python -m benchmarks gpu --minutes 8 [--resume] [--stage NAME …] [--only-smoke] [--device cpu]
    python -m benchmarks gpu --needs

One process keeps the model in memory for all stages (`benchmarks.resident`); a stage that is over its limit is killed
with it. On a CPU the same stages run with a tiny model: a rehearsal, whose numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from benchmarks import schedule
from benchmarks.runner import NotRun
from benchmarks.schedule import DONE, FAILED, NOT_RUN, Results, Stage, Worker

STAGES = (  # in order of worth; seconds at most, and the least that makes it worth a start
    Stage("smoke", 90, 20),
    Stage("train-1024", 150, 45),
    Stage("evaluate-1024", 90, 30),
    Stage("utilisation", 150, 25),
    Stage("train-448", 60, 30),
    Stage("train-2048", 120, 45),
    Stage("train-224", 60, 30),
    Stage("kernels", 150, 20),
    Stage("trl", 90, 45),
    Stage("frozen", 60, 30),
    Stage("vllm", 180, 60),
)
ABSENT = (
    "The gpu benchmarks need a CUDA device, and torch sees none. Run `python -m benchmarks cpu`, or rehearse with "
    "--device cpu."
)
PATIENCE = 4  # limits of a rehearsal, which may share a slow machine with other work, are this many times as long
EXACT = ("1 is yes", "relative difference", "loss")  # units of lines that a rehearsal holds to their goals too


def measure(results: Results, names: list[str], minutes: float, device: str, log: Path, resume: bool) -> None:
    """Run the stages of these names. Raises SystemExit where the device is not there.

    This process imports no torch, so that the one that works starts at once and has the whole GPU.
    """
    keep = results.file.parent
    command = [sys.executable, "-m", "benchmarks.gpu", "--device", device, "--keep", str(keep)]
    patience = PATIENCE if device == "cpu" else 1
    chosen = [replace(stage, seconds=stage.seconds * patience) for stage in STAGES if stage.name in names]
    before = signal.signal(signal.SIGTERM, _stop)
    try:
        schedule.run(chosen, 60 * minutes, partial(Worker, command, log), results, resume, partial(print, flush=True))
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(number: int, frame: object) -> None:
    raise SystemExit("The run was stopped.")


def serve(device: str, keep: Path, events: int) -> None:
    """The process that keeps the model: stages are asked for on stdin, and answered with events."""
    import torch

    from benchmarks import gpu_stages, resident
    from benchmarks.__main__ import about

    tiny = device == "cpu"
    with os.fdopen(events, "w", encoding="utf-8") as stream, tempfile.TemporaryDirectory() as scratch:

        def emit(**event: object) -> None:
            if tiny and "line" in event and event["line"]["unit"] not in EXACT:
                event["line"] |= {"goal": None, "floor": None}
            stream.write(json.dumps(event) + "\n")
            stream.flush()

        if device == "cuda" and not torch.cuda.is_available():
            emit(refused=ABSENT)
            return
        made_on = about("", device)
        made_on.pop("commit")  # the one who asked knows it
        emit(about=made_on)
        sizes = resident.SIZES["tiny" if tiny else "2b"]
        bench = gpu_stages.Bench(device, sizes, Path(scratch), 0 if tiny else 4, keep, tiny)
        stages = gpu_stages.stages(bench)
        for request in map(json.loads, sys.stdin):
            spent = False
            for name, task in stages[request["stage"]]().items():
                if name not in request["done"] and not spent:
                    spent = attempt(name, task, emit)
            emit(end=True, spent=spent)
            if spent:
                break


def attempt(name: str, task: Callable, emit: Callable) -> bool:
    """Run a task and report its lines and its end; returns whether the device is lost to this process."""
    try:
        for line in task():
            emit(line=line)
        emit(task=name, state=DONE)
    except NotRun as reason:
        emit(line=not_run(name, str(reason)))
        emit(task=name, state=f"{NOT_RUN}: {reason}")
    except (Exception, SystemExit, KeyboardInterrupt) as error:  # whatever it is, the next task may still run
        traceback.print_exc()
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        emit(line=not_run(name, why))
        emit(task=name, state=f"{FAILED}: {why}")
        return "CUDA error" in str(error)  # after one, nothing runs in this process
    return False


def not_run(task: str, why: str) -> dict:
    return {"name": task, "unit": "", "ours": None, "peer": None, "peer_name": "", "ratio": None, "goal": None,
            "floor": None, "not_run": why}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", required=True)
    parser.add_argument("--keep", type=Path, required=True)
    parser.add_argument("--events", type=int, required=True)
    given = parser.parse_args()
    serve(given.device, given.keep, given.events)


if __name__ == "__main__":
    main()

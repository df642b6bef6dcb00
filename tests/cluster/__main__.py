"""`python -m tests.cluster [--record FILE]`: a study on a one-node Slurm whose jobs are killed ends as it does locally.

Five things happen to it, each at a training that has a resume point: `scancel`, SIGKILL to a kernel, `scontrol requeue`,
and kill -9 of the scheduler while jobs run, which is then started again. Skips, with status 0, where there is no Slurm.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import psutil

from medstudy import grid, params, workflow
from tests.cluster import faults, slurm
from tests.cluster.faults import wait_for
from tests.studies import command, kill_tree, write_study

STUDY = {
    "datasets": [{"name": "phantom", "train": 8, "val": 4, "test": 8, "seed": 1}],
    "regimes": [{"policy": "native", "max_pixels": 200704}, {"policy": "fixed", "side": 84}],
    "training": {
        "epochs": 30, "images_per_step": 2, "learning_rate": 0.0005, "validations": 2, "checkpoint_seconds": 1
    },
}  # fmt: skip
ONLY = ("evaluate-native-*", "evaluate-fixed-84-*")
PROFILE = "slurm-no-accounting"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, help="write what was measured into this JSON file")
    options = parser.parse_args()
    if why := slurm.why_not():
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="medstudy-cluster-") as folder:
        found = _test(Path(folder))
    if options.record:
        options.record.write_text(json.dumps(found, indent=2) + "\n")
    print(f"passed in {sum(found['seconds'].values()):.0f} s")
    return 0


def _test(folder: Path) -> dict:
    seconds: dict[str, float] = {}
    ours, local = (_study(folder / name) for name in ("slurm", "local"))
    with slurm.running():
        with _timed(seconds, "slurm"):
            done = _on_slurm(ours)
        jobs = faults.submitted()
    with _timed(seconds, "local"):
        assert _start(local, "--profile", "local").wait() == 0
    compared = _compare(params.load(ours), params.load(local))
    return {
        "slurm": slurm.said("sbatch", "--version"),
        "cores": workflow.cores(),
        "seconds": seconds,
        "submitted": len(jobs),
        "ended": {state: sum(one.state == state for one in jobs) for state in sorted({one.state for one in jobs})},
        "seconds_on_node_beyond_work": _overhead(params.load(ours), jobs),
        "happened": done,
        "equal": compared,
    }


def _on_slurm(file: Path) -> dict:
    """Run the study through all that befalls it; what that was."""
    study = params.load(file)
    first = _start(file)
    busy = lambda: first.poll() is None  # noqa: E731
    done: dict[str, dict] = {}

    cancelled = wait_for(lambda: faults.training(study), "a training to cancel", busy)
    faults.cancel(cancelled)
    _say(f"scancel of {cancelled.run}")
    died = wait_for(lambda: faults.training(study, {cancelled.run}), "a training whose kernel to kill", busy)
    faults.kill_kernel(died)
    _say(f"SIGKILL to the kernel of {died.run}")
    hit = {cancelled.run, died.run}
    queued = wait_for(lambda: faults.training(study, hit), "a training to queue again", busy)
    faults.requeue(queued)
    _say(f"scontrol requeue of {queued.run}")

    again = lambda: hit <= {one.run for one in faults.submitted() if int(one.id) > int(queued.id)}  # noqa: E731
    wait_for(again, "the scheduler to submit the two that failed again", busy)
    seen = wait_for(lambda: len(now := faults.cards()) == 2 and now, "two jobs with a card at once", busy)
    assert sorted(seen.values()) == ["0", "1"], f"Two jobs at once must see a card each, got {seen}."
    survivor = wait_for(lambda: faults.training(study, before=0.9), "a training to outlive the scheduler", busy)
    kill_tree(first)
    assert faults.state(survivor.id) == "RUNNING"
    _say(f"kill -9 of the scheduler while {survivor.run} runs")

    restarted = time.time()
    second = _start(file)
    status = second.wait()
    assert status == 0, f"The second start must finish the study, but ended with {status}."
    jobs = {job.dir.name: job for job in workflow.chosen(grid.plan(study), ONLY)}
    for name, one in {"scancel": cancelled, "SIGKILL to a kernel": died, "scontrol requeue": queued}.items():
        step = faults.resumed_at(jobs[one.run])
        assert step > 0, f"After {name}, {one.run} must go on from its resume point, but it began anew."
        done[name] = {"run": jobs[one.run].name, "resumed_at_step": step}
    record = faults.record(jobs[survivor.run])
    assert faults.state(survivor.id) == "COMPLETED"
    assert pd.Timestamp(record["started"]).timestamp() < restarted, f"{survivor.run} was made a second time."
    if "machine" in record:  # TODO
      assert record["machine"]["slurm_job"] == survivor.id, f"{survivor.run} must be of job {survivor.id}: {record['machine']}"
    done["kill -9 of the scheduler"] = {"run": jobs[survivor.run].name, "made_by_the_job_that_ran": True}
    assert not _overlaps(faults.record(job) for job in jobs.values()), "Two jobs had the same card at once."
    return done


def _study(folder: Path) -> Path:
    folder.mkdir()
    return write_study(folder, **STUDY)


def _start(file: Path, *how: str) -> subprocess.Popen:
    """`medstudy run`, in the study's folder; what it prints goes on here."""
    how = how or ("--profile", PROFILE)
    return subprocess.Popen(command("run", file, *how, "--only", *ONLY), cwd=file.parent, env=faults.environment())


def _overlaps(records: Iterator[dict]) -> list[tuple[str, str]]:
    """Pairs of jobs that had a card in common for some time."""
    spans = []
    for record in records:
        start = pd.Timestamp(record["started"]).timestamp()
        for card in filter(None, (record.get("machine", {}).get("cards") or "").split(",")):
            spans.append((card, start, start + record["seconds"], record["name"]))
    spans.sort()
    return [(one[3], two[3]) for one, two in zip(spans, spans[1:], strict=False) if one[0] == two[0] and two[1] < one[2]]


def _compare(ours, local) -> dict:
    """Of every training and evaluation: the same weights, and predictions equal in every column."""
    counts = {"trainings": 0, "evaluations": 0, "predictions": 0}
    for job in workflow.chosen(grid.plan(local), ONLY):
        here = grid.job(ours, job.name)
        if job.stage == "train":
            weights = [one.dir / "checkpoint" / "model.safetensors" for one in (here, job)]
            assert weights[0].read_bytes() == weights[1].read_bytes(), f"{job.name}: other weights than locally."
            counts["trainings"] += 1
        if job.stage == "evaluate":
            frames = [pd.read_parquet(one.dir / "predictions.parquet") for one in (here, job)]
            pd.testing.assert_frame_equal(*frames, obj=job.name)
            counts["evaluations"] += 1
            counts["predictions"] += len(frames[0])
    assert counts["evaluations"] == 4, counts
    return counts


def _overhead(study, jobs: list[faults.Submitted]) -> dict[str, float]:
    """Seconds that a job held its node beyond its recorded work: of jobs that ran once, from start to end."""
    records = {job.dir.name: faults.record(job) for job in grid.plan(study) if job.done}
    names = [one.run for one in jobs]
    once = [one for one in jobs if one.state == "COMPLETED" and names.count(one.run) == 1]
    beyond = sorted(one.elapsed - records[one.run]["seconds"] for one in once)
    return {"jobs": len(beyond), "median": statistics.median(beyond), "least": beyond[0], "most": beyond[-1]}


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 1)
    _say(f"{name}: {seconds[name]:.0f} s")


def _say(text: str) -> None:
    print(f"== {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())

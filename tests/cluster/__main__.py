"""`python -m tests.cluster [--record FILE]`: a study on a one-node Slurm whose jobs are killed ends as it does locally.

The faults, each in a training that has a resume point: `scancel`, SIGKILL to a kernel, `scontrol requeue`,
and kill -9 of the scheduler while jobs run, which is then started again. Skips, with status 0, where there is no Slurm.

--arrays, instead: trainings and evaluations as tasks of job arrays, one of which is ended by `scancel`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from medstudy import params, paths
from medstudy.runs import plan
from medstudy.utils import devices
from medstudy.workflow import run as workflow_run
from tests.cluster import faults, slurm
from tests.cluster.faults import wait_for
from tests.support.studies import command, kill_tree, killable, write_study

STUDY = killable(epochs=30)
ONLY = ("evaluate-native-*", "evaluate-fixed-84-*")
PROFILE = "slurm-no-accounting"
ARRAYS = "slurm-arrays"
OFTEN = "slurm-init-seconds-before-status-checks: 20"
REQUEUE = "scontrol requeue"
FAULTS = {"scancel": faults.cancel, "SIGKILL to the kernel": faults.kill_kernel, REQUEUE: faults.requeue}
STARTED: list[subprocess.Popen] = []


def main() -> int:
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that daemons and files of the test go with it
    parser = argparse.ArgumentParser("python -m tests.cluster", description=__doc__.splitlines()[0])
    parser.add_argument("--record", type=Path, help="write what was measured into this JSON file")
    parser.add_argument("--arrays", action="store_true", help="instead: trainings and evaluations as arrays")
    options = parser.parse_args()
    if why := slurm.why_not():
        print(f"skipped: {why}")
        return 0
    with tempfile.TemporaryDirectory(prefix="medstudy-cluster-") as folder:
        found = (_test_arrays if options.arrays else _test)(Path(folder))
    if options.record:
        options.record.write_text(json.dumps(found, indent=2) + "\n")
    print(f"passed in {sum(found['seconds'].values()):.0f} s")
    return 0


def _test(folder: Path) -> dict:
    seconds: dict[str, float] = {}
    ours, local = (_study(folder / name) for name in ("slurm", "local"))
    with slurm.running(), _ended():
        with _timed(seconds, "slurm"):
            done = _on_slurm(ours)
        jobs, version = faults.submitted(), slurm.said("sinfo", "--version")
    with _timed(seconds, "local"), _ended():
        assert _start(local, "local").wait() == 0
    compared = _compare(params.load(ours), params.load(local))
    return {
        "slurm": version,
        "cores": devices.cores(),
        "seconds": seconds,
        "submitted": len(jobs),
        "ended": {state: sum(one.state == state for one in jobs) for state in sorted({one.state for one in jobs})},
        "seconds_on_node_beyond_work": _overhead(params.load(ours), jobs),
        "happened": done,
        "equal": compared,
    }


def _test_arrays(folder: Path) -> dict:
    """Each stage's jobs are one array; a cancelled task is submitted again alone; every run is made once."""
    seconds: dict[str, float] = {}
    file = _study(folder / "arrays", seeds=[0, 1, 2])
    study, profile = params.load(file), _profile(file.parent, ARRAYS)
    with slurm.running(), _ended():
        with _timed(seconds, "trainings"):
            first = _start(file, profile, ["train-*"])
            hit = wait_for(lambda: faults.training(study), "a training to end", lambda: first.poll() is None)
            faults.cancel(hit)
            _say(f"scancel {hit.id}: {hit.run}")
            assert first.wait() == 0
        with _timed(seconds, "evaluations"):
            assert _start(file, profile).wait() == 0
        jobs, version = faults.submitted(), slurm.said("sinfo", "--version")

    chosen = [job for job in _chosen(study) if job.stage in ("train", "evaluate")]
    records = {job.dir.name: faults.record(job) for job in chosen}
    machines = {run: record["machine"] for run, record in records.items()}
    alone = [run for run, machine in machines.items() if "_" not in machine["slurm_job"]]
    assert "_" in hit.id and alone == [hit.run], f"All but {hit.run} must be made by tasks of arrays, got {machines}"
    assert sorted({tuple(machine["cards"]) for machine in machines.values()}) == [("0",), ("1",)], machines
    assert not (both := _overlaps(records.values())), f"Two jobs had one card at once: {both}"
    ended = [one.state for one in jobs]
    needed = [job for job in _chosen(study) if job.stage in ("data", "base")]
    assert ended.count("COMPLETED") == len(chosen) + len(needed), f"Every run must be made once, got {jobs}"
    step = _resumed("scancel", plan.job(study, records[hit.run]["name"]))
    tasks = [job for job in chosen if job.dir.name != hit.run]
    arrays = {(job.stage, machines[job.dir.name]["slurm_job"].partition("_")[0]) for job in tasks}
    assert len(arrays) == 2, f"One array a stage, got {arrays}"
    return {
        "slurm": version,
        "seconds": seconds,
        "tasks": sum("_" in one.id for one in jobs),
        "ended": {state: ended.count(state) for state in sorted(set(ended))},
        "happened": {"scancel": {"run": records[hit.run]["name"], "went_on_from_step": step}},
    }


def _on_slurm(file: Path) -> dict:
    """Run the study through all faults; returns which fault hit which run."""
    study = params.load(file)
    profile = _profile(file.parent)
    first = _start(file, profile)

    def wait(true, what):
        return wait_for(true, what, lambda: first.poll() is None)

    hit: dict[str, faults.Submitted] = {}
    for name, strike in FAULTS.items():
        runs = {one.run for one in hit.values()}
        hit[name] = wait(lambda runs=runs: faults.training(study, runs), f"a training for {name}")
        strike(hit[name])
        _say(f"{name}: {hit[name].run}")
    last = max(int(one.id) for one in hit.values())
    failed = {hit[name].run for name in FAULTS if name != REQUEUE}
    wait(lambda: failed <= {one.run for one in faults.submitted() if int(one.id) > last}, "failed jobs to come again")
    seen = wait(lambda: len(now := faults.cards()) == slurm.CARDS and now, "two jobs at once")
    assert sorted(seen.values()) == ["0", "1"], f"Two jobs at once must see a card each, got {seen}."
    survivor = wait(lambda: faults.training(study, before=0.9), "a training to outlive the scheduler")
    kill_tree(first)
    assert faults.state(survivor.id) == "RUNNING"
    _say(f"kill -9 of the scheduler, while there runs {survivor.run}")

    restarted = time.time()
    status = _start(file, profile).wait()
    assert status == 0, f"The second start must finish the study, but ended with {status}."
    jobs = {job.dir.name: job for job in _chosen(study)}
    _made_once(survivor, faults.record(jobs[survivor.run]), restarted)
    assert not (both := _overlaps(map(faults.record, jobs.values()))), f"Two jobs had one card at once: {both}"
    done = {name: {"run": jobs[one.run].name, "went_on_from_step": _resumed(name, jobs[one.run])}
            for name, one in hit.items()}
    return done | {"kill -9 of the scheduler": {"run": jobs[survivor.run].name, "made_by_the_job_that_ran": True}}


def _made_once(survivor: faults.Submitted, record: dict, restarted: float) -> None:
    """Check that the job that ran without a scheduler made the run, and no later job."""
    assert faults.state(survivor.id) == "COMPLETED"
    assert pd.Timestamp(record["started"]).timestamp() < restarted, f"{survivor.run} was made a second time."
    assert str(record["machine"]["slurm_job"]) == survivor.id, f"{survivor.run}: {record['machine']}, not {survivor.id}"


def _resumed(fault: str, job: plan.Job) -> int:
    """The step from which a training resumed after a fault."""
    step = faults.resumed_at(job)
    assert step > 0, f"After {fault}, {job.name} must go on from its resume point, but it began anew."
    return step


def _chosen(study) -> list[plan.Job]:
    return workflow_run.chosen(plan.plan(study), ONLY)


def _study(folder: Path, **changes) -> Path:
    folder.mkdir()
    return write_study(folder, **STUDY | changes)


def _start(file: Path, profile: str | Path, only: Sequence[str] = ONLY) -> subprocess.Popen:
    """`medstudy run` in the study's folder; its output is shown here."""
    call = command("run", file, "--profile", profile, "--only", *only)
    STARTED.append(subprocess.Popen(call, cwd=file.parent, env=faults.environment()))
    return STARTED[-1]


@contextmanager
def _ended() -> Iterator[None]:
    """End what `_start` started when the block ends or fails."""
    try:
        yield
    finally:
        for process in STARTED:
            if process.poll() is None:
                kill_tree(process)


def _profile(folder: Path, name: str = PROFILE) -> Path:
    """The profile, but with more frequent status checks: this study's jobs take seconds."""
    text = (paths.PROFILES / name / "config.yaml").read_text()
    assert OFTEN in text
    (folder / "config.yaml").write_text(text.replace(OFTEN, OFTEN.replace("20", "5")))
    return folder


def _overlaps(records: Iterable[dict]) -> list[tuple[str, str]]:
    """Pairs of jobs that shared a GPU for more than a second, by which a recorded start may be too early."""
    spans = []
    for record in records:
        start = pd.Timestamp(record["started"]).timestamp()
        for card in record["machine"]["cards"] or ():
            spans.append((card, start, start + record["seconds"], record["name"]))
    pairs = itertools.pairwise(sorted(spans))
    return [(one[3], two[3]) for one, two in pairs if one[0] == two[0] and two[1] + 1 < one[2]]


def _compare(ours, local) -> dict:
    """Check that every training has the same weights, and every evaluation equal predictions in each column."""
    counts = {"trainings": 0, "evaluations": 0, "predictions": 0}
    for job in _chosen(local):
        here = plan.job(ours, job.name)
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
    """Seconds that jobs held their node beyond their recorded work, for jobs that ran once from start to end."""
    records = {job.dir.name: faults.record(job) for job in plan.plan(study) if job.done}
    names = [one.run for one in jobs]
    once = [one for one in jobs if one.state == "COMPLETED" and names.count(one.run) == 1]
    beyond = sorted(one.elapsed - records[one.run]["seconds"] for one in once)
    found = {"median": statistics.median(beyond), "least": beyond[0], "most": beyond[-1]}
    return {"jobs": len(beyond)} | {name: round(value, 1) for name, value in found.items()}


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

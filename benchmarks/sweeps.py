"""What the engine costs apart from the work: seconds a job, speed-up on all cores, and planning a large study.

    python -m benchmarks.sweeps [--stage NAME] [--docs]      15 minutes on two cores, with nothing else running

Writes benchmarks/results/sweeps.json. Everything is run as a user does, by `python -m medstudy run` and `snakemake`, on
studies made on the spot from params/tiny.yaml.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks import PAGE
from medstudy import params, paths
from medstudy.report.pages import readme
from medstudy.runs import plan, record
from medstudy.utils import devices
from medstudy.workflow import snakemake

SEEDS_OF_2000 = 330  # three regimes, each trained and evaluated: 1,980 jobs, and 22 more
TRAININGS = {  # long enough that starting them is no part of the answer
    "datasets": [{"name": "phantom", "train": 96, "val": 4, "test": 4, "seed": 1}],
    "regimes": [{"policy": "native", "max_pixels": 200704}, {"policy": "fixed", "side": 224}],
    "inference": [{"policy": "fixed", "side": 224}, {"policy": "native", "max_pixels": 200704}],
    "low": "fixed-224",
    "seeds": [0, 1, 2, 3],
    "training": {"epochs": 10, "images_per_step": 4, "learning_rate": 0.0005, "validations": 1},
}


def measure(stage: str) -> list[dict]:
    """Lines stage, name, unit, ours, goal and whether less or more is better."""
    with tempfile.TemporaryDirectory() as root:
        return [{"stage": stage} | line for line in STAGES[stage](Path(root))]


def overhead(root: Path) -> list[dict]:
    """The wall clock of a study one job at a time, less the work that its records give, over its jobs."""
    file = _study(root)
    seconds = _timed("-m", "medstudy", "run", file, "--cores", "1")
    jobs = plan.plan(params.load(file))
    work = sum(record.read(job)["seconds"] for job in jobs)
    name = f"overhead of a job, of {len(jobs)} one after the other"
    return [_line(name, "s", (seconds - work) / len(jobs), 5.0, "less", work=round(work, 1), wall=round(seconds, 1))]


def scaling(root: Path) -> list[dict]:
    """Trainings one at a time against one a core, each from the start of the engine to its end."""
    file, cores = _study(root, **TRAININGS), devices.cores()
    _timed("-m", "medstudy", "run", file, "--only", "leakage", "base")
    walls = []
    for count in (1, cores):
        for run in (root / "runs").glob("train-*"):
            shutil.rmtree(run)
        shutil.rmtree(root / "runs" / ".cache", ignore_errors=True)
        walls.append(_timed("-m", "medstudy", "run", file, "--only", "train-*", "--cores", count))
    number = len(TRAININGS["regimes"]) * len(TRAININGS["seeds"])
    name = f"{number} trainings on {cores} cores against one"
    return [_line(name, "times", walls[0] / walls[1], 0.9 * cores, "more", walls=[round(one, 1) for one in walls])]


def planning(root: Path) -> list[dict]:
    """A dry run by Snakemake, and ours, which also counts what every job costs."""
    file = _study(root, seeds=list(range(SEEDS_OF_2000)))
    study = params.load(file)
    jobs, command = len(plan.plan(study)), snakemake.command(study, str(file), snakemake.RunOptions(1))
    ways = {
        "by Snakemake": [*command[1:], "--dry-run", "--quiet"],
        "with the cost of every job": ["-m", "medstudy", "run", file, "--dry-run"],
    }
    return [_line(f"dry run of {jobs:,} jobs, {way}", "s", _timed(*words), 30.0, "less") for way, words in ways.items()]


STAGES = {"overhead": overhead, "scaling": scaling, "planning": planning}


def missed(line: dict) -> bool:
    """Whether a line is worse than its goal."""
    return line["ours"] > line["goal"] if line["better"] == "less" else line["ours"] < line["goal"]


def markdown(lines: list[dict], results: Path) -> str:
    """The table as docs/ shows it; with what `benchmarks.reporting` and the test on Slurm left in `results`."""
    bound = {"less": "at most", "more": "at least"}
    made = ["| what | measured | goal |", "| --- | ---: | ---: |"]
    for line in lines:
        goal = f"{bound[line['better']]} {line['goal']:g} {line['unit']}"
        made.append(f"| {line['name']} | {line['ours']:.3g} {line['unit']} | {goal} |")
    for line in _of(results / "reporting.json"):
        if "goal_seconds" in line:
            name = f"claims, figures, tables and page of {line['rows']:,} scored answers: {line['name']}"
            measured = f"{line['seconds']:.3g} s, {line['peak_mb'] / 1024:.1f} GiB"
            goal = f"at most {line['goal_seconds']:g} s, {line['goal_mb'] / 1024:g} GiB"
            made.append(f"| {name} | {measured} | {goal} |")
    if on_slurm := _of(results / "cluster.json"):
        seconds = on_slurm["seconds_on_node_beyond_work"]
        name = f"overhead of a job on a Slurm of one node, on that node, the median of {seconds['jobs']}"
        made.append(f"| {name} | {seconds['median']:.3g} s | |")
    return "\n".join(made)


def _of(file: Path):
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []


def _line(name: str, unit: str, ours: float, goal: float, better: str, **more) -> dict:
    return {"name": name, "unit": unit, "ours": round(ours, 3), "goal": goal, "better": better} | more


def _study(root: Path, **changes) -> Path:
    content = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text(encoding="utf-8"))
    content = content | {"root": str(root)} | changes
    if "regimes" in changes:
        content["controls"] = {}
    file = root / "study.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def _timed(*words) -> float:
    """Seconds of `python WORDS`. Raises RuntimeError with its output when it fails."""
    clock = time.perf_counter()
    done = subprocess.run([sys.executable, *map(str, words)], cwd=paths.ROOT, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, words))} failed:\n{(done.stdout + done.stderr)[-3000:]}")
    return time.perf_counter() - clock


def main() -> int:
    from benchmarks.__main__ import RESULTS, about, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", action="store_true", help="also write the table into docs/reference/benchmarks.md")
    parser.add_argument("--stage", choices=STAGES, help="this stage alone; the others keep their earlier measurements")
    options = parser.parse_args()
    about_, file = about(), RESULTS / "sweeps.json"
    before = json.loads(file.read_text(encoding="utf-8")) if options.stage and file.is_file() else []
    stages = [options.stage] if options.stage else list(STAGES)
    made = {stage: [line for line in before if line["stage"] == stage] for stage in STAGES}
    made |= {stage: measure(stage) for stage in stages}
    lines = [line for stage in STAGES for line in made[stage]]
    for line in lines:
        print(f"{line['name']}: {line['ours']:.3g} {line['unit']} (goal {line['goal']:g})")
    write(file, lines, about_)
    if options.docs:
        print(f"Written: {readme.replace('benchmarks sweeps', markdown(lines, RESULTS), PAGE)}")
    return int(any(map(missed, lines)))


if __name__ == "__main__":
    sys.exit(main())

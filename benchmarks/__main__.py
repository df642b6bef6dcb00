"""Side-by-side measurements against named peers.

    python -m benchmarks cpu [--python NAME=INTERPRETER …]      25 minutes
    python -m benchmarks gpu [--stage NAME] [--python …]        one card, stages of less than ten minutes each

Prints a table and writes benchmarks/results/cpu.json (gpu.json), a list of lines with name, unit, ours, peer,
peer_name, ratio, goal and floor, and beside it what it ran on. A peer that is not installed is listed as not run. The
exit status is 1 when a line misses its floor.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from benchmarks import cpu, gpu
from medstudy import paths, provenance, readme, schedulers

RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=("cpu", "gpu"))
    parser.add_argument("--stage", choices=gpu.STAGES, help="of gpu: this one alone")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=INTERPRETER", help="where a peer lives")
    parser.add_argument("--readme", action="store_true", help="also write the table into README.md")
    options = parser.parse_args()
    if options.stage and options.device == "cpu":
        parser.error("--stage is of gpu: the measurements of a CPU are made in one run")
    pythons = dict(one.split("=", 1) for one in options.python)
    stages = [options.stage] if options.stage else list(gpu.STAGES)
    lines = cpu.measure(pythons) if options.device == "cpu" else gpu.measure(pythons, stages)
    made_on = about()  # before a file of results changes the tree
    file = RESULTS / f"{options.device}.json"
    made = _others(file, stages) if options.stage else []
    for line in lines:
        made.append(line)
        print(_words(line), flush=True)
        write(file, made, made_on)
    Console().print(table(made))
    if options.readme:
        print(f"Written: {readme.replace(f'benchmarks {options.device}', markdown(made))}")
    return int(any(missed(line) for line in made))


def missed(line: dict) -> bool:
    """Whether a line was run and is worse than its floor: a ratio too small, or a time too long."""
    if line["ours"] is None or line["floor"] is None:
        return False
    return line["ours"] > line["floor"] if line["unit"].startswith("ms") else line["ratio"] < line["floor"]


def table(lines: list[dict]) -> Table:
    made = Table("what", "unit", "ours", "peer", "", "ratio", "goal")
    for line in lines:
        if line["ours"] is None:
            made.add_row(line["name"], line["unit"], "not run", "", line["peer_name"], "", _number(line["goal"]))
            continue
        ratio = f"{line['ratio']:.2f}" + (f" [{line['low']:.2f}, {line['high']:.2f}]" if "low" in line else "")
        numbers = [_number(line[name]) for name in ("ours", "peer")]
        made.add_row(line["name"], line["unit"], *numbers, line["peer_name"], ratio, _number(line["goal"]))
    return made


def markdown(lines: list[dict]) -> str:
    """The table as the README shows it: ratios with the least and the greatest of the rounds."""
    made = ["| what | ours | peer | ratio | goal |", "| --- | ---: | --- | ---: | ---: |"]
    for line in lines:
        if line["ours"] is None:
            made.append(f"| {line['name']} | | {line['peer_name']} | not run: {line['not_run']} | |")
            continue
        spread = f" [{line['low']:.1f}, {line['high']:.1f}]" if "low" in line else ""
        goal = _goal(line)
        ours, peer = (f"{_number(line[name])} {line['unit']}" for name in ("ours", "peer"))
        made.append(f"| {line['name']} | {ours} | {line['peer_name']}, {peer} | {line['ratio']:.1f}{spread} | {goal} |")
    return "\n".join(made)


def _goal(line: dict) -> str:
    if line["goal"] is None:
        return ""
    return f"at most {line['goal']:g} ms" if line["unit"].startswith("ms") else f"at least {line['goal']:g} times"


def _words(line: dict) -> str:
    if line["ours"] is None:
        return f"{line['name']}, {line['peer_name']}: not run: {line['not_run']}"
    return f"{line['name']}, {line['peer_name']}: {line['ratio']:.2f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _others(file: Path, stages: list[str]) -> list[dict]:
    lines = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    return [line for line in lines if line.get("stage") not in stages]


def about() -> dict:
    """What the measurements run on."""
    commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=paths.ROOT, capture_output=True, text=True)
    return {
        "date": str(date.today()),
        "commit": commit.stdout.strip() or None,
        "machine": f"{platform.system()} {platform.machine()}, {schedulers.cores()} cores",
        "device": torch.cuda.get_device_name(0) if torch.cuda.is_available() else "cpu",
        "versions": provenance.versions(),
    }


def write(file: Path, lines: list[dict], about: dict) -> None:
    for path, content in ((file, lines), (file.with_suffix(".about.json"), about)):
        with paths.atomic(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

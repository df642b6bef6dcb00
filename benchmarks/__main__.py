"""Side-by-side measurements against named peers.

    python -m benchmarks cpu [--python NAME=INTERPRETER …]      25 minutes
    python -m benchmarks gpu --minutes 8 [--resume] [--stage NAME …] [--only-smoke] [--device cpu]
    python -m benchmarks gpu --needs                            what its stages import, and what is missing here

Prints a table and writes benchmarks/results/cpu.json (gpu.json), a list of lines with name, unit, ours, peer,
peer_name, ratio, goal and floor, and the machine it ran on. A peer that is not installed is listed as not run. The
exit status is 1 when a line misses its floor, or a stage of the GPU failed or was cut.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import PAGE, gpu, needs, schedule
from benchmarks.schedule import Results
from medstudy import paths
from medstudy.runs import record
from medstudy.utils import devices

YES = "1 is yes"  # the unit of a check that holds or does not
RESULTS = Path(__file__).parent / "results"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("device", choices=("cpu", "gpu"))
    names = [stage.name for stage in gpu.STAGES]
    parser.add_argument("--stage", action="append", choices=names, help="of gpu: this one alone; may be repeated")
    parser.add_argument("--minutes", type=float, default=8, help="of gpu: of all stages together (default 8)")
    parser.add_argument("--resume", action="store_true", help="of gpu: leave out what an earlier run finished")
    parser.add_argument("--only-smoke", action="store_true", help="of gpu: the first stage alone")
    parser.add_argument("--device", dest="on", choices=("cuda", "cpu"), default="cuda",
                        help="of gpu: cpu rehearses every stage with a tiny model")
    parser.add_argument("--needs", action="store_true", help="of gpu: list what its stages import, run nothing")
    parser.add_argument("--only-docs", action="store_true", help="measure nothing: the table in docs/ from the file")
    parser.add_argument("--results", type=Path, help="folder to write to (default benchmarks/results)")
    parser.add_argument("--commit", help="where no git is: the commit that is measured")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=INTERPRETER", help="where a peer lives")
    parser.add_argument("--docs", action="store_true", help="also write the table into docs/reference/benchmarks.md")
    options = parser.parse_args()
    of_gpu = ("stage", "resume", "only_smoke", "needs")
    if options.device == "cpu" and any(getattr(options, name) for name in of_gpu):
        parser.error("--stage, --resume, --only-smoke and --needs are of gpu: those of a CPU are made in one run")
    folder = options.results or RESULTS
    if options.needs:
        return needs.report()
    if options.only_docs:
        return _docs(options.device, folder)
    made, failed = _cpu(options, folder) if options.device == "cpu" else _gpu(options, folder)
    Console().print(table(made))
    if options.docs:
        from medstudy.report.pages import readme

        print(f"Written: {readme.replace(f'benchmarks {options.device}', markdown(made), PAGE)}")
    return int(failed or any(missed(line) for line in made))


def _cpu(options: argparse.Namespace, folder: Path) -> tuple[list[dict], bool]:
    from benchmarks import cpu

    made, made_on = [], about(options.commit)  # before a file of results changes the tree
    for line in cpu.measure(dict(one.split("=", 1) for one in options.python)):
        made.append(line)
        print(schedule.words(line), flush=True)
        write(folder / "cpu.json", made, made_on)
    return made, False


def _gpu(options: argparse.Namespace, folder: Path) -> tuple[list[dict], bool]:
    """A rehearsal keeps its lines in a file of its own."""
    file = folder / ("gpu.json" if options.on == "cuda" else "gpu-rehearsal.json")
    results = Results(file, {"commit": options.commit or record.commit()})
    names = ["smoke"] if options.only_smoke else options.stage or [stage.name for stage in gpu.STAGES]
    folder.mkdir(parents=True, exist_ok=True)
    gpu.measure(results, names, options.minutes, options.on, folder / "gpu.log", options.resume)
    ended = (results.stages.get(name, {}).get("state") for name in names)
    return results.lines, any(state in (schedule.FAILED, schedule.CUT) for state in ended)


def _docs(device: str, folder: Path) -> int:
    """Write the table in docs/ from a file of results that may come from another machine."""
    from medstudy.report.pages import readme

    lines = json.loads((folder / f"{device}.json").read_text(encoding="utf-8"))
    print(f"Written: {readme.replace(f'benchmarks {device}', markdown(lines), PAGE)}")
    return 0


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
    """The table as docs/ shows it: ratios with the least and the greatest of the rounds."""
    made = ["| what | ours | peer | ratio | goal |", "| --- | ---: | --- | ---: | ---: |"]
    for line in lines:
        if line["ours"] is None:
            made.append(f"| {line['name']} | | {line['peer_name']} | not run: {line['not_run']} | |")
            continue
        if line["unit"] == YES:
            made.append(f"| {line['name']} | {'yes' if line['ours'] else 'no'} | {line['peer_name']} | | yes |")
            continue
        spread = f" [{line['low']:.1f}, {line['high']:.1f}]" if "low" in line else ""
        ratio = f"{line['ratio']:.1f}" if line["ratio"] >= 2 else f"{line['ratio']:.2f}"
        ours, peer = (f"{_number(line[name])} {line['unit']}" for name in ("ours", "peer"))
        made.append(f"| {line['name']} | {ours} | {line['peer_name']}, {peer} | {ratio}{spread} | {_goal(line)} |")
    return "\n".join(made)


def _goal(line: dict) -> str:
    if line["goal"] is None:
        return ""
    words = f"at most {line['goal']:g} ms" if line["unit"].startswith("ms") else f"at least {line['goal']:g}"
    return f"{words}: **missed**" if missed(line) else words


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def about(known: str | None = None, device: str = "cuda") -> dict:
    """What the measurements run on. known: the commit, where this is a copy without git."""
    import torch

    return {
        "date": str(date.today()),
        "commit": known or record.commit(),
        "machine": f"{platform.system()} {platform.machine()}, {devices.cores()} cores",
        "device": torch.cuda.get_device_name(0) if device == "cuda" and torch.cuda.is_available() else "cpu",
        "versions": record.versions(),
    }


def write(file: Path, lines: list[dict], about: dict) -> None:
    for path, content in ((file, lines), (file.with_suffix(".about.json"), about)):
        with paths.atomic(path) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

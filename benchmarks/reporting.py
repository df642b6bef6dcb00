"""The reporting stage of a large study: seconds and peak memory of each of its elements, each a process of its own.

    python -m benchmarks.reporting [--rows 1000000] [--keep FOLDER]

Scoring is a line by itself; the stage goes from scores to claims, every figure, all tables and the page. Seconds are
those of reading and working; imports, which a kernel forked from a warm one does not pay, are given apart. The goal is
the wall clock of the stage on two cores, and the memory of the two largest at once. Prints a line an element
and writes benchmarks/results/reporting.json. The exit status is 1 when the stage misses a goal.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks import large_study, reporting_element
from medstudy.report import figures

ROWS = 1_000_000
SECONDS, MEGABYTES = 60.0, 4096.0  # goals: of the stage, and of each of its processes
ONE_CORE = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
AT_ONCE = 2  # processes, as on a laptop


def measure(rows: int = ROWS, folder: Path | None = None) -> Iterator[dict]:
    """Lines with name, seconds and what else was measured: of every element, then of the whole stage.

    folder: where the study is made, or was made before; by default a temporary one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder or Path(scratch)
        if not (folder / "large.yaml").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            large_study.make(folder, rows)
        yield _goals(element("scores", folder))
        names = ["claims", *figures.REGISTRY, "tables", "page"]
        lines = []
        for name in names:
            lines.append(_goals(element(name, folder)))
            yield lines[-1]
        yield {
            "name": "the stage, one process after the other",
            **{what: sum(line[what] for line in lines) for what in ("seconds", "read", "imports")},
            "peak_mb": max(line["peak_mb"] for line in lines),
            "rows": lines[0]["rows"],
        }
        largest = sorted(line["peak_mb"] for line in lines)[-AT_ONCE:]
        yield {
            "name": f"the stage, {AT_ONCE} at once, forked with their imports",
            "seconds": _side_by_side(names, folder), "peak_mb": sum(largest),
            "rows": lines[0]["rows"], "goal_seconds": SECONDS, "goal_mb": MEGABYTES,
        }


def element(name: str, folder: Path) -> dict:
    """What one element took, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.reporting_element", name, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | ONE_CORE)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
    return {"name": name} | json.loads(done.stdout.splitlines()[-1])


def _goals(line: dict) -> dict:
    return line | {"goal_mb": MEGABYTES}


def _side_by_side(names: list[str], folder: Path) -> float:
    """Wall clock of all elements, each in a process forked from one with all imports, as `medstudy run` has them.

    The claims come first and the page last, as what is between needs or makes them; between them the tables first, as
    the longest.
    """
    from medstudy.report import study_data  # noqa: F401 (for the forks)

    (first, *others, last), context = names, multiprocessing.get_context("fork")
    started = time.perf_counter()
    for some in ([first], sorted(others, key="tables".__ne__), [last]):
        with context.Pool(AT_ONCE, maxtasksperchild=1) as pool:
            pool.starmap(reporting_element.main, [(name, folder) for name in some], chunksize=1)
    return time.perf_counter() - started


def missed(line: dict) -> bool:
    """Whether a line is worse than one of its goals."""
    pairs = (("seconds", "goal_seconds"), ("peak_mb", "goal_mb"))
    return any(line[what] > line[goal] for what, goal in pairs if goal in line)


def words(line: dict) -> str:
    """A line for the terminal."""
    parts = "".join(f"  {what} {line[what]:.1f} s" for what in ("read", "imports") if what in line)
    return f"{line['name']:52} {line['seconds']:7.1f} s {line['peak_mb']:7.0f} MB{parts}"


def main() -> int:
    from benchmarks.__main__ import RESULTS, about, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS, help="of predictions, about")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the study there, or take it from there")
    options = parser.parse_args()
    lines = []
    for line in measure(options.rows, options.keep):
        lines.append(line)
        print(words(line), flush=True)
    write(RESULTS / "reporting.json", lines, about())
    return int(any(missed(line) for line in lines))


if __name__ == "__main__":
    sys.exit(main())

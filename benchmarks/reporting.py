"""The reporting stage on a large study: seconds and peak memory of each of its elements, each a process of its own.

    python -m benchmarks.reporting [--rows 1000000] [--keep FOLDER]

From predictions to scores; from scores to claims, every figure, all tables and the page. Seconds are those of reading
and working, as imports are paid by an engine's overhead and given apart. Writes benchmarks/results/reporting.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROWS = 1_000_000
SECONDS, MEGABYTES = 60.0, 4096.0
AT_ONCE = 2  # processes, as on the smallest laptop


def measure(rows: int = ROWS, folder: Path | None = None) -> list[dict]:
    """Lines name, seconds (read + work), imports (s), peak_mb, or of a sum: of every element, then of the stage.

    The elements run one at a time; then all but the scoring once more, two at a time, for `wall`.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = folder or Path(scratch)
        if not (folder / "large.yaml").is_file():
            element("study", folder, rows)
        names = element("names", folder)["names"]
        scoring = {"name": "scores"} | element("scores", folder)
        lines = [{"name": name} | element(name, folder) for name in ("claims", *names, "tables", "page")]
        clock = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda name: element(name, folder), ("claims", *names, "tables")))
        element("page", folder)
        wall = time.perf_counter() - clock
    total = {"name": "reporting, one after the other", "seconds": sum(line["seconds"] for line in lines),
             "imports": sum(line["imports"] for line in lines),
             "peak_mb": max(line["peak_mb"] for line in lines), "goal_seconds": SECONDS, "goal_mb": MEGABYTES}  # fmt: skip
    side_by_side = {"name": f"reporting, {AT_ONCE} processes at once, with imports", "seconds": wall}
    return [{**line, "rows": scoring["rows"]} for line in (scoring, *lines, total, side_by_side)]


def element(name: str, folder: Path, rows: int | None = None) -> dict:
    """What one element took, in a fresh process."""
    command = [sys.executable, "-m", "benchmarks.reporting_element", name, str(folder)]
    done = subprocess.run(command + ([str(rows)] if rows else []), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    from benchmarks.__main__ import RESULTS, about, write

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="make the study there, or take it from there")
    options = parser.parse_args()
    lines = measure(options.rows, options.keep)
    for line in lines:
        print(words(line))
    write(RESULTS / "reporting.json", lines, about())
    return int(any(missed(line) for line in lines))


def words(line: dict) -> str:
    peak = f"{line['peak_mb']:8.0f} MB" if "peak_mb" in line else ""
    return f"{line['name']:50} {line['seconds']:7.1f} s {peak}"


def missed(line: dict) -> bool:
    """Whether a line is worse than its goals."""
    return line["seconds"] > line.get("goal_seconds", float("inf")) or line.get("peak_mb", 0) > line.get("goal_mb", 0)


if __name__ == "__main__":
    sys.exit(main())

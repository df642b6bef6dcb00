"""The claims of a study as a table on the terminal."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from medstudy import datasets
from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.utils import formatting

COLUMNS = {"id": "id", "claim": "claim", "source_value": "source", "estimate": "ours", "verdict": "verdict"}


def show(study: Study, console: Console, short: bool = False) -> None:
    """Print the claims, the time and where the report is; short: one line per claim. Raises RunError without claims."""
    file = study.figures / "claims.csv"
    if not file.is_file():
        raise RunError(f"{study.title} has no claims yet: there is no {file}. Run the study first.")
    table, confidence = pd.read_csv(file), study.intervals.confidence
    console.print(claims_lines(table, confidence, console.width) if short else claims_table(table, confidence))
    for name, reason in datasets.without_claims(study.datasets).items():
        console.print(f"No claim is tested on {name}: {reason}.", highlight=False, soft_wrap=True)
    times = study.figures / "timing.csv"
    if times.is_file():
        console.print(_sentence(pd.read_csv(times)), highlight=False)
    console.print(f"Why: {file}", highlight=False, soft_wrap=True)
    pages = [study.figures / name for name in ("report.html", "README.md")]
    console.print(f"Read on: {next(filter(Path.is_file, pages))}", highlight=False, soft_wrap=True)


def claims_lines(claims: pd.DataFrame, confidence: float, width: int) -> Table:
    """claims.csv for a terminal, one line per claim, its text cut to the width."""
    title = f"Claims, with {100 * confidence:g} % intervals"
    table = Table("id", "ours", "verdict", "claim", title=title, title_justify="left", box=None, pad_edge=False)
    rows = [(row["id"], _interval(row).replace("\n", " "), row["verdict"], row["claim"])
            for row in claims.to_dict("records")]
    used = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:3])  # width of other columns
    for *cells, claim in rows:
        table.add_row(*cells, textwrap.shorten(claim, max(width - used, 12), placeholder="…"))
    return table


def claims_table(claims: pd.DataFrame, confidence: float) -> Table:
    """claims.csv for a terminal, one row per claim, our estimate with its interval."""
    table = Table(title=f"Claims, with {100 * confidence:g} % intervals", title_justify="left", show_lines=True)
    for column, heading in COLUMNS.items():
        table.add_column(heading, no_wrap=column in ("id", "verdict"), min_width=16 if column == "estimate" else None)
    for row in claims.to_dict("records"):
        row["estimate"] = _interval(row)
        table.add_row(*[_text(row.get(column)) for column in COLUMNS])
    return table


def _interval(row: dict) -> str:
    if pd.isna(row["estimate"]):
        return "–"
    return "{}\n[{}, {}]".format(*(_signed(row[name]) for name in ("estimate", "low", "high")))


def _signed(x: float) -> str:
    value = round(x, 2)
    return f"{value:+.2f}" if value else "0.00"


def _text(value: object) -> str:
    return "–" if pd.isna(value) else str(value)


def _sentence(times: pd.DataFrame) -> str:
    seconds = dict(zip(times["stage"], times["seconds"], strict=True))
    parts = [f"{what} {formatting.duration(seconds[what])}" for what in ("install", "wall clock") if what in seconds]
    return "Time: " + ", ".join(parts) + "."

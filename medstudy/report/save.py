"""Write a figure or table as PDF, PNG, CSV and caption: the same bytes for the same data."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from medstudy.report import style
from medstudy.runs import plan

SUFFIXES = (".pdf", ".png", ".csv", ".md")


@dataclass(frozen=True)
class Rendered:
    """A figure or table after rendering: its caption and files, or why it is missing."""

    name: str
    title: str
    caption: str = ""
    files: tuple[Path, ...] = ()
    missing: str = ""


def save(
    figure: Figure, table: pd.DataFrame, title: str, caption: str, out_dir: Path, name: str,
    page: Bbox | None = None,
) -> list[Path]:
    """Write `name`.pdf, .png, .csv (exactly the data drawn) and .md (the caption) into `out_dir`, without dates.

    page: the visible part of the figure in inches; None means all of it.
    """
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = [out_dir / f"{name}{suffix}" for suffix in SUFFIXES]
    with style.context():
        figure.savefig(paths[0], metadata={"CreationDate": None, "ModDate": None, "Title": title}, bbox_inches=page)
        figure.savefig(paths[1], dpi=style.PNG_DPI, metadata={"Software": None}, bbox_inches=page)
    write_csv(table, paths[2])
    paths[3].write_text(f"# {title}\n\n{caption}\n", encoding="utf-8")
    return paths


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """Write a table as CSV with six significant digits, Unix line ends and no index."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.6g", lineterminator="\n")


def markdown(table: pd.DataFrame) -> str:
    """A DataFrame as a Markdown table; columns x, x_low, x_high become one column "x [low, high]".

    Numbers have one decimal in per cent and points (by the column's name), else two; a missing one is an en dash.
    """
    folded = pd.DataFrame({name: _column(table, name) for name in table.columns if not _is_end(table, name)})
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in folded]
    head = [_row(list(folded.columns)), _row(["---:" if number else "---" for number in numeric])]
    return "\n".join(head + [_row(cells) for cells in folded.itertuples(index=False)])


def _is_end(table: pd.DataFrame, name: str) -> bool:
    return name.endswith(("_low", "_high")) and name.rsplit("_", 1)[0] in table


def _column(table: pd.DataFrame, name: str) -> list[str]:
    digits = 1 if "_pct" in name or "_points" in name else 2
    if f"{name}_low" not in table:
        return [_cell(value, name, digits) for value in table[name]]
    ends = zip(*(table[c] for c in (name, f"{name}_low", f"{name}_high")), strict=True)
    return [interval(*row, digits) for row in ends]


def interval(x: float, low: float, high: float, digits: int) -> str:
    """An estimate with the ends of its interval; an en dash if missing."""
    return "–" if pd.isna(x) else f"{fixed(x, digits)} [{fixed(low, digits)}, {fixed(high, digits)}]"


def text(value: object) -> str:
    """A text read from a CSV file; "" if missing."""
    return value if isinstance(value, str) else ""


def fixed(x: float, digits: int) -> str:
    """A number with this many decimals, and no minus sign if it rounds to zero."""
    return f"{round(x, digits) + 0.0:.{digits}f}"


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _cell(value: object, name: str, digits: int) -> str:
    if value is None or (isinstance(value, float) and pd.isna(value)):
        return "–"
    if name in ("p", "p_holm"):
        return "< 0.001" if value < 0.001 else f"{value:.3f}"
    text = f"{value:.{digits}f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


KEPT = "rendered.json"  # in the folder of a figure or table job: title, caption and files of each, or why it is missing


def kept(job: plan.Job) -> list[Rendered]:
    """What a complete figure or table job rendered."""
    items = json.loads((job.dir / KEPT).read_text(encoding="utf-8"))
    return [Rendered(**item | {"files": tuple(job.dir / name for name in item["files"])}) for item in items]


def keep(rendered: Iterable[Rendered], job: plan.Job) -> None:
    """Record in the job's folder what it rendered, for the report."""
    items = [asdict(item) | {"files": [str(file.relative_to(job.dir)) for file in item.files]} for item in rendered]
    (job.dir / KEPT).write_text(json.dumps(items, indent=1) + "\n", encoding="utf-8")

"""An audit as text: its tables, and the first rows of long ones."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table

from medstudy.datasets.audit import Report

LISTED = 20  # rows shown of a table; JSON has all
TITLES = {
    "splits": "What there is",
    "columns": "The role of each column, and how splits and groups were made",
    "kinds": "Questions by kind",
    "sizes": "Native sizes, √(height × width) in pixels",
    "rungs": "What each rung of the ladder would change",
    "problems": "What would stop a study, and what is left out",
    "repeats": "Images that occur twice in a split",
    "notices": "What is unusual in images, columns, questions and references, and how it is read",
}
WORDS = {
    "changed_pct": "changed, %",
    "share_pct": "share, %",
    "native_px": "native size",
    "questions_an_image": "questions an image",
    "most_questions": "most an image",
    "fine": "with a detail's size",
    "further_images": "context images",
    "median_tokens": "tokens, median",
    "most_tokens": "tokens, most",
}


def render(report: Report, listed: int = LISTED) -> RenderableType:
    """All tables that have rows, and a line that says whether a study would stop."""
    return Group(*_parts(report, listed))


def _parts(report: Report, listed: int) -> Iterator[RenderableType]:
    about = report.about
    yield escape(f"{about['of']}: {about['images']:,} images, {about['questions']:,} questions; {about['geometry']}.")
    for name, title in TITLES.items():
        frame = _plain(name, getattr(report, name))
        if name == "notices" and len(frame):
            counts = frame.groupby(["notice", "dataset", "split"], sort=False).size().rename("count").reset_index()
            yield _table("Notices, counted", counts, len(counts))
        if len(frame):
            yield _table(title, frame, listed)
    stopping = int(report.problems["stops"].sum())
    left = len(report.problems) - stopping
    plural = "finding" if stopping == 1 else "findings"
    verdict = f"{stopping} {plural} would stop a study" if stopping else "Nothing found that would stop a study"
    yield f"{verdict}{f'; {left} more are listed above' if left else ''}."


def _plain(name: str, frame: pd.DataFrame) -> pd.DataFrame:
    """A table for readers: pairs in two columns, without hashes and likeness."""
    if name == "repeats":
        pair = [frame[f"dataset_{end}"] + " " + frame[f"split_{end}"] + ": " + frame[f"image_{end}"] for end in "ab"]
        return pd.DataFrame({"kind": frame["kind"], "image": pair[1], "the same as": pair[0]})
    if name == "problems":
        where = zip(frame["dataset"], frame["split"], frame["where"], strict=True)
        places = [" ".join(filter(None, parts)) for parts in where]
        stops = frame["stops"].map({True: "yes", False: "no"})
        return pd.DataFrame({"stops": stops, "problem": frame["problem"], "in": places, "image": frame["image"],
                             "what, and what to do": frame["message"]})
    return frame


def _table(title: str, frame: pd.DataFrame, listed: int) -> Table:
    more = f"and {len(frame) - listed} more (--json has all)" if len(frame) > listed else None
    table = Table(title=title, title_justify="left", caption=more, caption_justify="left")
    for name, column in frame.items():
        right = pd.api.types.is_numeric_dtype(column)
        table.add_column(WORDS.get(name, name.replace("_", " ")), justify="right" if right else "left", overflow="fold")
    for row in frame.head(listed).itertuples(index=False):
        table.add_row(*(escape(_cell(value)) for value in row))
    return table


def _cell(value: object) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:,.0f}" if value.is_integer() else f"{value:,.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)

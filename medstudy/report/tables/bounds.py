"""Bounds of every task: the model at native and low, the readers there, the share of the bound, and the mark."""

from __future__ import annotations

import pandas as pd

from medstudy.bounds.results import PIXELS, TOWER
from medstudy.report import bounded
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns

TITLE = "Bounds"
NOT_BOUNDED = "not bounded: "


def build(study: StudyData) -> pd.DataFrame:
    """One row per task: scores in per cent with intervals, the fall of the bound in points, the mark; then the rest.

    reached: (model - chance) / (probe of the tower - chance) at native, where the probe's interval is above chance.
    """
    drawn = bounded.cells(study)
    marks = study.bounds.marks.set_index(["dataset", "task"]) if len(drawn) else pd.DataFrame()
    rows = [_row(key, part.set_index(["reader", "end"]), marks.loc[key]) for key, part
            in drawn.groupby(["dataset", "task"], sort=False)]
    for left in study.bounds.unbounded.itertuples():
        rows.append({"dataset": left.dataset, "task": left.task, "mark": NOT_BOUNDED + left.why,
                     "questions": left.n_questions})
    return columns.in_order(pd.DataFrame(rows)) if rows else pd.DataFrame()


def _row(key: tuple[str, str], cells: pd.DataFrame, mark: pd.Series) -> dict:
    row: dict = {"dataset": key[0], "task": key[1], "level": cells["level"].iloc[0], "mark": mark["mark"]}
    row["chance_pct"] = 100 * cells["chance"].iloc[0]
    for reader in (bounded.MODEL, TOWER, PIXELS):
        for end in ("native", "low"):
            there = (reader, end) in cells.index
            for name, suffix in (("estimate", ""), ("low", "_low"), ("high", "_high")):
                value = 100 * cells.loc[(reader, end), name] if there else float("nan")
                row[f"{reader}_{end}_pct{suffix}"] = value
    for name in ("fall", "fall_low", "fall_high"):
        row[name.replace("fall", "fall_points")] = 100 * mark[name]
    row["reached"] = _reached(row)
    return row | {"questions": int(cells["n_questions"].max())}


def _reached(row: dict) -> float:
    probe = row[f"{TOWER}_native_pct"] - row["chance_pct"]
    above = row[f"{TOWER}_native_pct_low"] > row["chance_pct"]
    return (row["model_native_pct"] - row["chance_pct"]) / probe if above else float("nan")


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are, and how far the models get."""
    fine, words = table[:0], ""
    if "reached" in table:
        fine = table[(table["level"] == "fine") & table["reached"].notna()]
    if len(fine):
        words = f" Its mean over {len(fine)} tasks with a small detail is {fine['reached'].mean():.2f}."
    return (
        "Each task's score by the models (trained and run at the same resolution), by a linear probe of their frozen "
        "tower and by a linear reader of pixels, at native and at the low rung. fall_points: what the better reader "
        "loses from native to the low rung, against the best reader there, with the interval that decides the mark. "
        "mark: fine if a reader tells the task from chance at native and its score falls, both by intervals; not shown "
        "to be fine if only the first; not shown to be visible if neither: the task says nothing about resolution. "
        "reached: the model's way from chance to its tower's probe at native, as a share of 1; empty where the probe "
        f"is not above chance.{words} The rules are in docs/explanation/bounds.md."
    )


def applies(study: StudyData) -> bool:
    """Whether the study was asked for bounds."""
    return not (study.bounds.answers.empty and study.bounds.unbounded.empty)

"""Counts, points, boxes and reports: every measure of them, at each rung."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.scoring import located, report_packages
from medstudy.statistics import summarise

TITLE = "Counts, points, boxes and reports"
BY = ["dataset", "regime", "inference", "kind"]
SHARES = ("within_one", "within_ten_pct", "point_hit", "point_f1", "iou", "box_f1", "clinical_f1", "rouge_l",
          "radgraph_f1", "ratescore")
COUNTS = ["questions", "images", "seeds"]


def applies(study: StudyData) -> bool:
    """Whether the study has questions of these kinds."""
    return "kind" in study.scores and study.scores["kind"].isin(columns.MEASURED).any()


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x inference policy x kind; a measure of another kind is empty."""
    if not applies(study):
        return pd.DataFrame()
    rows = selections.plain(study.scores)
    rows = rows[rows["kind"].isin(columns.MEASURED)]
    cells = rows.groupby(BY, observed=True)
    table = selections.texts(columns.percent(summarise(rows, BY, "strict", study.confidence), "score_pct"))
    means = cells["count_error"].mean().rename("mean_absolute_error").reset_index()
    table = table.merge(selections.texts(means), on=BY, how="left")
    for value in (value for value in SHARES if value in rows and rows[value].notna().any()):
        name = f"{value.removesuffix('_pct')}_pct"
        part = selections.texts(columns.percent(summarise(rows, BY, value, study.confidence), name))
        table = table.merge(part.drop(columns=COUNTS), on=BY, how="left")
    if (rows["kind"] == "box").any():
        boxes = rows[rows["kind"] == "box"].groupby(BY, observed=True)
        precision = pd.DataFrame([
            dict(zip(BY, map(str, key), strict=True)) | {"ap_50_pct": 100 * located.average_precision(part)}
            for key, part in boxes
        ])
        table = table.merge(precision, on=BY, how="left")
    kinds = [kind for kind in columns.MEASURED if kind in set(table["kind"])]
    orders = {"regime": selections.regimes(table), "inference": selections.ladder(rows), "kind": kinds}
    table = columns.in_order(table, **orders).dropna(axis=1, how="all")
    return table[[name for name in table if name not in COUNTS] + COUNTS]


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are, and which scores of reports are not computed here."""
    missing = "; ".join(f"{name} ({why})" for name, why in report_packages.status().items() if why)
    reports = f" Not computed: {missing}." if missing and "report" in set(table["kind"]) else ""
    return (
        "score: what figures and claims use. Of a count: within 10 % of the reference, so exact below 10; "
        "mean_absolute_error is over the answers that could be read. Of points: F1, matched one to one within 5 % of "
        "the side of a square with the image's area, unless the data state a radius; point_hit: the share of reference "
        "points that were found. Of boxes: F1 at an IoU of 0.5; iou: its mean over the reference's boxes; ap_50: the "
        "average precision at 0.5, by the order in which an answer lists its boxes, without an interval. Of reports: "
        "F1 of the findings that are stated, denied or suspected (clinical_f1), or of words where the reference has "
        "none. Points and boxes are compared in native pixels. In per cent, except mean_absolute_error; in brackets "
        f"{captions.interval_words(study)}.{reports}"
    )

"""The data: images, questions and sizes of every data set and family."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns

TITLE = "Data sets"
SPLITS = ("train", "val", "test")


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x family: images and questions per split, native sides (px), detail sizes (px), tags."""
    if study.examples.empty:
        return pd.DataFrame()
    cells = study.examples.groupby(["dataset", "family"])
    table = pd.DataFrame([{"dataset": d, "family": f} | _row(part) for (d, f), part in cells])
    return columns.in_order(table)


def _row(rows: pd.DataFrame) -> dict:
    once = rows.drop_duplicates(["split", "image_id"])
    side = np.sqrt(once["height"] * once["width"])
    aspect = once[["height", "width"]].max(axis=1) / once[["height", "width"]].min(axis=1)
    row = {"modality": _names(rows["modality"]), "anatomy": _names(rows["anatomy"])}
    row |= {f"images_{split}": int((once["split"] == split).sum()) for split in SPLITS}
    row |= {f"questions_{split}": int((rows["split"] == split).sum()) for split in SPLITS}
    row |= {
        "fine_share_pct": 100 * rows["detail_px"].notna().mean(),
        "side_px": _range(side),
        "aspect_max": aspect.max(),
    }
    row |= {"detail_px": _range(rows["detail_px"].dropna()), "kinds": _names(rows["kind"])}
    return row | {"may_be_shown_pct": 100 * once["render"].mean()}


def _range(values: pd.Series) -> str:
    """Smallest, median and largest."""
    return f"{values.min():.3g} / {values.median():.3g} / {values.max():.3g}" if len(values) else "–"


def _names(values: pd.Series) -> str:
    return ", ".join(sorted(values.unique()))


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "All images and questions of the study by data set and family. side_px: smallest / median / largest √(height × "
        "width) in native pixels; aspect_max: the ratio of the long to the short side of the most elongated image; "
        "detail_px: smallest / median / largest size of the feature that decides a fine question, in native pixels (– "
        "if all questions are coarse); may_be_shown_pct: share of images that may appear in a figure; fine_share_pct: "
        "share of fine questions."
    )

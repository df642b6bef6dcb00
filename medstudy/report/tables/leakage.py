"""Leakage: how many images of an evaluation split are also in an earlier split, of its data set or of another."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData

TITLE = "Images in more than one split"
COLUMNS = ["dataset", "split", "images", "of_dataset", "of_split", "exact", "near", "group", "share_pct", "repeats"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per pair of a val or test split and an earlier split that share images; one row for a split without."""
    return study.leaks[[*COLUMNS, "allowed"]] if len(study.leaks) else pd.DataFrame()


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "images: number in the split. Of them, exact are also in of_split of of_dataset with the same pixels; near as "
        "the same picture encoded again, resized, rotated or flipped; group only through another image of their group. "
        "share_pct: all three together (– and 0 if there are none). repeats: images that repeat another one of their "
        "own split. allowed: the reason why the study allows the leak; any other leak would have stopped it before "
        "training. Not found are crops, drawings over an image, strong changes of contrast, and, unless their pixels "
        "are the same, images with almost uniform grey levels."
    )

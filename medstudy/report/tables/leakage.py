"""Leakage: how many images of an evaluation stand in an earlier split, of the same data set or of another."""

from __future__ import annotations

import pandas as pd

from medstudy.report.study_data import StudyData

TITLE = "Images that stand in more than one split"
COLUMNS = ["dataset", "split", "images", "of_dataset", "of_split", "exact", "near", "group", "share_pct", "repeats"]


def build(study: StudyData) -> pd.DataFrame:
    """One row a val or test split and earlier split that shares images with it; one without any for every other."""
    return study.leaks[[*COLUMNS, "allowed"]] if len(study.leaks) else pd.DataFrame()


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "images: of the split, of which exact stand in of_split of of_dataset with the same pixels, near as the same "
        "picture encoded anew, resized, turned or flipped, and group only by another image of their group; share_pct: "
        "all three (– and 0 where none do). repeats: images that repeat another of their own split. allowed: the "
        "reason for which the study allows it; any other leak would have stopped it before training. Crops, drawings "
        "over an image and strong changes of contrast are not found, nor are images whose grey levels hardly differ, "
        "but by their very pixels."
    )

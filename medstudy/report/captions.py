"""Texts that captions share: sample sizes, intervals, estimates, lists."""

from __future__ import annotations

import pandas as pd

from medstudy.report.selections import datasets, is_plain
from medstudy.report.study_data import StudyData


def count_words(scores: pd.DataFrame) -> str:
    """The sample sizes for a caption by data set: questions, images, independent groups of images, seeds."""
    counted = scores[["dataset", "image_id", "question_id", "group", "regime", "seed"]]
    return "; ".join(f"{name}: {_count(counted[counted['dataset'] == name])}" for name in datasets(counted))


def _count(rows: pd.DataFrame) -> str:
    questions = len(rows[["image_id", "question_id"]].drop_duplicates())
    images, groups = rows["image_id"].nunique(), rows["group"].nunique()
    seeds = rows.loc[rows["regime"] != "base", "seed"].nunique()
    within = f" in {groups} independent groups" if groups < images else ""
    answered = plural(seeds, "training seed") if seeds else "one model as it is"
    return f"{questions} questions about {images} images{within}, {answered}"


def plural(n: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def interval_words(study: StudyData) -> str:
    """What the intervals of means cover, as a part of a sentence for every caption."""
    seeds = study.scores.loc[is_plain(study.scores), "seed"].nunique()
    alone = "image groups (one model)" if study.as_is else "image groups (one seed)"
    factors = "image groups and training seeds, both as random factors" if seeds > 1 else alone
    return f"{study.confidence:.0%} intervals for a mean, over {factors}"


def estimate_words(table: pd.DataFrame) -> list[str]:
    """The estimate of each row with half the width of its interval in %, like "61±5"."""
    half = (table["high"] - table["low"]) / 2
    return [f"{100 * value:.0f}±{100 * margin:.0f}" for value, margin in zip(table["estimate"], half, strict=True)]


def join(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def tower_words(study: StudyData) -> str:
    """A sentence: whether the vision tower is trained, and whether its cost is counted."""
    if study.as_is:
        return ""
    options = study.study.get("training", {})
    if not (options.get("freeze_vision_tower") or options.get("lora")):
        return "The vision tower is trained too."
    if not options.get("cache_features"):
        return "The vision tower is frozen."
    return (
        "The vision tower is frozen: its features of each view are computed once for all trainings and evaluations, "
        "and not counted in their operations and seconds."
    )

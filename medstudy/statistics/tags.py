"""Native against low resolution for each tag, modality, anatomy and family of questions.

A tag is "name=value" (`records.Question`). A label is left out if it has one value only, or if it divides a data set's
questions exactly like an earlier label.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medstudy.statistics import differences, summarise
from medstudy.statistics.intervals import QUESTION

LEVELS = ("fine", "coarse", "unknown")
FIELDS = ("modality", "anatomy", "family")  # of an image; in addition to the tags
BY = ["level", "label", "category"]
COLUMNS = ["dataset", *BY, "native", "native_low", "native_high", "lower", "lower_low", "lower_high", "estimate", "low",
           "high", "p", "p_holm", "family_size", "effect", "n_questions", "n_images", "n_seeds"]
_READ = (*QUESTION, "group", "regime", "seed", "model", "level", "score")


def compare(native: pd.DataFrame, lower: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Mean scores of two conditions and native - lower, one row per data set x level x label x category: `COLUMNS`.

    Both are rows of `scoring.score` that answer the same questions. Differences are paired question by question.
    Holm's correction covers all categories of a data set. All scores are in [0, 1].
    """
    if native.empty or lower.empty:
        return pd.DataFrame(columns=COLUMNS)
    common = set(native["dataset"].unique()) & set(lower["dataset"].unique())
    sides = [labelled(rows[rows["dataset"].isin(common)]) for rows in (native, lower)]
    parts = [_of_data_set(*(side[side["dataset"] == name] for side in sides), confidence).assign(dataset=name)
             for name in sides[0]["dataset"].unique()]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def labelled(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows repeated for each label that divides their data set's questions, with columns `label` and `category`."""
    rows = scores[[name for name in _READ if name in scores]].astype({"dataset": str, "level": str})
    parts = [rows.assign(label=label, category=values).dropna(subset=["category"]) for label, values in _labels(scores)]
    long = pd.concat(parts) if parts else rows.iloc[:0].assign(label="", category="")
    kept = [part for _, rows in long.groupby("dataset", sort=True) for part in _dividing(rows)]
    return pd.concat(kept, ignore_index=True) if kept else long.iloc[:0]


def _labels(scores: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """(label, its value for every row, missing where a row has none): tags by name, then `FIELDS`.

    If questions have several values of a tag, the label is given repeatedly: for the first values, the second …
    """
    if "tags" in scores:
        split = scores["tags"].map(lambda tags: [_split(tag) for tag in dict.fromkeys(_listed(tags))])
        for name in sorted({name for tags in split for name, _ in tags}):
            values = split.map(lambda tags, name=name: [value for of, value in tags if of == name])
            for place in range(values.map(len).max()):
                yield name, values.map(lambda several, place=place: several[place] if place < len(several) else None)
    for name in FIELDS:
        if name in scores:
            yield name, scores[name].astype(object)


def _listed(tags: object) -> list[str]:
    return [] if tags is None or isinstance(tags, float) else list(tags)


def _split(tag: str) -> tuple[str, str]:
    """The name and value of a tag; a tag without "=" is a value of the label "tag"."""
    name, mark, value = tag.partition("=")
    return (name, value) if mark else ("tag", name)


def _dividing(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A data set's rows, label by label, of the labels that divide its questions like no earlier label."""
    seen = set()
    for _, same in rows.groupby("label", sort=False):
        once = same.drop_duplicates([*QUESTION, "category"])
        questions = once["image_id"].astype(str) + "\n" + once["question_id"].astype(str)
        division = frozenset(frozenset(part) for _, part in questions.groupby(once["category"]))
        if len(division) > 1 and division not in seen:
            seen.add(division)
            yield same


def _of_data_set(native: pd.DataFrame, lower: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """The comparison in one data set: levels in order, labels in order, then most questions first."""
    table = differences(native, lower, BY, confidence=confidence)
    for name, rows in (("native", native), ("lower", lower)):
        ends = {"estimate": name, "low": f"{name}_low", "high": f"{name}_high"}
        means = summarise(rows, BY, confidence=confidence).rename(columns=ends)
        table = table.merge(means[[*BY, *ends.values()]], on=BY)
    order = {label: place for place, label in enumerate(native["label"].unique())}
    ranked = table.assign(rank=table["level"].map(LEVELS.index), place=table["label"].map(order)).sort_values(
        ["rank", "place", "n_questions", "category"], ascending=[True, True, False, True]
    )
    return ranked.drop(columns=["rank", "place"])

"""Native against low resolution for each value that questions are labelled with: their tags, modality, anatomy, family.

A tag is "name=value" (`records.Question`). A label is left out where it says nothing: it has one value, or it divides a
data set's questions as an earlier one does.
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from medstudy.intervals import QUESTION
from medstudy.statistics import differences, summarise

LEVELS = ("fine", "coarse", "unknown")
FIELDS = ("modality", "anatomy", "family")  # of an image; in addition to the tags
BY = ["level", "label", "category"]
COLUMNS = ["dataset", *BY, "native", "native_low", "native_high", "lower", "lower_low", "lower_high", "estimate", "low",
           "high", "p", "p_holm", "family_size", "effect", "n_questions", "n_images", "n_seeds"]  # fmt: skip
_READ = (*QUESTION, "group", "seed", "model", "level", "score")


def compare(native: pd.DataFrame, lower: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row a data set x level x label x category, columns `COLUMNS`: mean scores of two conditions, native - lower.

    Both are rows of `scoring.score` that answer the same questions. Differences are paired question by question; Holm's
    correction is over all categories of a data set. Shares in [0, 1].
    """
    if native.empty or lower.empty:
        return pd.DataFrame(columns=COLUMNS)
    common = set(native["dataset"].unique()) & set(lower["dataset"].unique())
    sides = [labelled(rows[rows["dataset"].isin(common)]) for rows in (native, lower)]
    parts = [_of_data_set(*(side[side["dataset"] == name] for side in sides), level).assign(dataset=name)
             for name in sides[0]["dataset"].unique()]  # fmt: skip
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def labelled(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows once for each label that tells their data set's questions apart: with its `label` and `category`."""
    rows = scores[[name for name in _READ if name in scores]].astype({"dataset": str, "level": str})
    parts = [rows.assign(label=label, category=values).dropna(subset=["category"]) for label, values in _labels(scores)]
    long = pd.concat(parts) if parts else rows.iloc[:0].assign(label="", category="")
    kept = [part for _, one in long.groupby("dataset", sort=True) for part in _telling(one)]
    return pd.concat(kept, ignore_index=True) if kept else long.iloc[:0]


def _labels(scores: pd.DataFrame) -> Iterator[tuple[str, pd.Series]]:
    """(label, its value of every row, missing where a row has none): tags by name, then `FIELDS`.

    A question may have several values of a tag: the label then comes once for the first of each, again for the second …
    """
    if "tags" in scores:
        split = scores["tags"].map(lambda tags: [_split(one) for one in dict.fromkeys(_listed(tags))])
        for name in sorted({name for tags in split for name, _ in tags}):
            values = split.map(lambda tags, name=name: [value for of, value in tags if of == name])
            for place in range(values.map(len).max()):
                yield name, values.map(lambda found, place=place: found[place] if place < len(found) else None)
    for name in FIELDS:
        if name in scores:
            yield name, scores[name].astype(object)


def _listed(tags) -> list[str]:
    return [] if tags is None or isinstance(tags, float) else list(tags)


def _split(tag: str) -> tuple[str, str]:
    """A tag without "=" is a value of the label "tag"."""
    name, mark, value = tag.partition("=")
    return (name, value) if mark else ("tag", name)


def _telling(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """A data set's rows of each label that has several values and divides its questions as no earlier label does."""
    seen = set()
    for _, same in rows.groupby("label", sort=False):
        once = same.drop_duplicates([*QUESTION, "category"])
        asked = once["image_id"].astype(str) + "\n" + once["question_id"].astype(str)
        division = frozenset(frozenset(part) for _, part in asked.groupby(once["category"]))
        if len(division) > 1 and division not in seen:
            seen.add(division)
            yield same


def _of_data_set(native: pd.DataFrame, lower: pd.DataFrame, level: float) -> pd.DataFrame:
    table = differences(native, lower, BY, level=level)
    for name, rows in (("native", native), ("lower", lower)):
        ends = {"estimate": name, "low": f"{name}_low", "high": f"{name}_high"}
        means = summarise(rows, BY, level=level).rename(columns=ends)
        table = table.merge(means[[*BY, *ends.values()]], on=BY)
    order = {label: place for place, label in enumerate(native["label"].unique())}
    ranked = table.assign(rank=table["level"].map(LEVELS.index), place=table["label"].map(order)).sort_values(
        ["rank", "place", "n_questions", "category"], ascending=[True, True, False, True]
    )
    return ranked.drop(columns=["rank", "place"])

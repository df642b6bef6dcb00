"""What the format of answers costs: the same choices asked in words and by letter, at native resolution."""

from __future__ import annotations

import pandas as pd

from medstudy.data import formats
from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import differences, summarise

TITLE = "Words against letters"
BY = ["level", "task"]
EVERY = {"level": "all", "task": "all tasks"}
LEVELS = ["fine", "coarse", "unknown", "all"]


def applies(study: StudyData) -> bool:
    """Whether a data set of the study asks choices by letter too."""
    return not study.letters.empty


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x task, and one for all tasks: both scores in %, words minus letters in points.

    The models are trained and shown at native resolution. Differences are paired by image, choice and seed.
    """
    words, letters = _sides(study)
    tables = [
        _compared(*(rows[rows["dataset"] == name].assign(**same) for rows in (words, letters)), study.confidence)
        .assign(dataset=name)
        for name in selections.datasets(letters)
        for same in ({}, EVERY)
    ] if len(letters) else []
    if not tables:
        return pd.DataFrame()
    table = columns.in_order(pd.concat(tables, ignore_index=True), level=LEVELS)
    return table[["dataset", *(name for name in table if name != "dataset")]]


def _sides(study: StudyData) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The same choices in words and by letter, with the same ids."""
    if study.letters.empty:
        return study.scores, study.letters
    words, letters = (selections.texts(selections.cell(rows, "native", "native"))
                      for rows in (study.scores, study.letters))
    letters = letters.assign(question_id=letters["question_id"].map(formats.asked_as))
    asked = ["dataset", "image_id", "question_id", "seed"]
    return words.merge(letters[asked], on=asked), letters


def _compared(words: pd.DataFrame, letters: pd.DataFrame, confidence: float) -> pd.DataFrame:
    """Both means, what guessing gives, and the difference in each cell of `BY`, with Holm's p over these cells."""
    table = (100 * words.groupby(BY)["chance"].mean()).rename("guessing_pct").reset_index()
    for name, rows in (("words_pct", words), ("letters_pct", letters)):
        means = columns.percent(summarise(rows, BY, confidence=confidence), name)
        table = table.merge(means[[*BY, name, f"{name}_low", f"{name}_high"]], on=BY)
    gaps = columns.percent(differences(words, letters, BY, confidence=confidence), "difference_points")
    ends = ["difference_points", "difference_points_low", "difference_points_high"]
    return table.merge(gaps[[*BY, *ends, "p", "p_holm", *columns.COUNTS.values()]], on=BY)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        "The same choices of the same images in two formats, answered by the same models, trained and shown at native "
        "resolution. words_pct: the question lists its options in words and is answered by one of them, as everywhere "
        "else in this report; letters_pct: the options have shuffled letters, and the answer is one. The models were "
        "trained on both. difference_points: words minus letters, paired by image, choice and seed: what the format "
        f"costs, whatever is seen. In brackets: {captions.interval_words(study)}, or for the paired difference. "
        "p_holm: Holm's correction over the tasks of a data set. Answers by letter enter no other table, figure or "
        "claim."
    )

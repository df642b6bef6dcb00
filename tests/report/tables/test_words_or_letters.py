"""Words against letters: paired by image, choice and seed, and nothing by letter anywhere else."""

import numpy as np
import pandas as pd
import pytest

from medstudy.data import formats
from medstudy.report.study_data import StudyData
from medstudy.report.tables import words_or_letters
from medstudy.scoring import score
from tests.support import synthetic


@pytest.fixture(scope="module")
def scores():
    """Choices in words, right four times in five, and by letter, where every answer is A."""
    rows = synthetic.predictions(80, 2, ("native", "fixed-84"), ("fixed-84", "native"), ("blind",))
    choices = rows[rows["kind"] == "choice"]
    rng = np.random.default_rng(0)
    options = choices["options"].map(tuple)
    right = [listed["ABCD".index(letter)] for listed, letter in zip(options, choices["answer"], strict=True)]
    given = np.where(rng.random(len(choices)) < 0.8, right, "none of these")
    words = choices.assign(kind="class", answer=right, raw_text=given, format="")
    letters = choices.assign(raw_text="A", format="letter", question_id=choices["question_id"] + "_letter")
    return score.score(pd.concat([rows[rows["kind"] != "choice"].assign(format=""), words, letters]))


@pytest.fixture(scope="module")
def both(scores):
    return StudyData(score.greedy(scores), letters=score.by_letter(scores))


def test_each_task_and_all_tasks_with_the_paired_difference(both):
    table = words_or_letters.build(both)
    assert table["task"].tolist() == ["calcification", "mitosis", "stain", "all tasks"]
    assert table["level"].tolist() == ["fine", "fine", "coarse", "all"]
    for row in table.itertuples():
        assert row.difference_points == pytest.approx(row.words_pct - row.letters_pct)
        assert row.difference_points_low < row.difference_points < row.difference_points_high
        assert row.guessing_pct == 25 and 60 < row.words_pct < 95 and row.letters_pct < 50
    native = both.letters.query("regime == 'native' and inference == 'native' and control == 'none'")
    assert table["questions"].iloc[-1] == len(native) / 2 and table["seeds"].unique() == 2
    assert table.set_index("task").loc["all tasks", "letters_pct"] == pytest.approx(100 * native["score"].mean())


def test_nothing_by_letter_is_among_the_other_scores(both, scores):
    assert set(both.letters["format"]) == {formats.LETTER} and set(both.scores["format"]) == {""}
    assert len(both.scores) + len(both.letters) == len(scores)
    assert not both.scores["question_id"].str.endswith("_letter").any()


def test_without_letters_there_is_no_such_table(both):
    without = StudyData(both.scores, letters=both.letters.iloc[:0])
    assert words_or_letters.applies(both) and not words_or_letters.applies(without)
    assert words_or_letters.build(without).empty and words_or_letters.build(StudyData(both.scores)).empty
    low = StudyData(both.scores, letters=both.letters.query("inference != 'native'"))
    assert words_or_letters.build(low).empty


def test_the_caption_says_that_the_difference_is_paired(both):
    assert "paired by image, choice and seed" in words_or_letters.caption(words_or_letters.build(both), both)

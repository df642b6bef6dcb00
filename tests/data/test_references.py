"""A reference scores 1 on itself, and different references do not count as the same, by every standard score."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medstudy.data import choices, references, standard_scores
from medstudy.data.words import named
from medstudy.datasets.build import build
from medstudy.errors import DataError
from medstudy.scoring import score

APART = (
    "ER+", "ER-", "ER", ">5 mm", "<5 mm", "≥5 mm", "5 mm", "A", "the", "an", "+", "-", "±", "+/+", "+/-", "1.5",
    "15", "1,5", "-3", "3", "3+", "3-", "T1", "T2", "T2*", "T2*-weighted", "café", "cafe", "左肺", "右肺", "∅", "?",
    "5%", "5", "20/40", "2040", "3:1", "31", "1-3", "13", "hepatitis", "hepatitis A", "hepatitis B",
    "CD3+ T cells", "CD3- T cells", "CD3-CD4+", "10^3", "103", "mm²", "mm2", "A, B", "B, A", "no", "yes",
    "not seen", "seen", "α", "β", "5'", "#3", "I", "II",
)
ALIKE = (("yes.", "yes"), ("−3", "-3"), ("Left lung", "the left lung"), ("cafe\u0301", "café"), ("x-ray", "x ray"),
         ("hepatitis a virus", "hepatitis A virus"), ("two", "2"), ("1,000", "1000"), ("> 5", ">5"))


def asked(kind, answers, **more):
    return pd.DataFrame([{"dataset": "d", "question_id": "q", "kind": kind, "answer": one} | more for one in answers])


def scores(given, answers, kind):
    rows = asked(kind, answers).assign(raw_text=given, image_id=range(len(answers)), detail_px=np.nan)
    return score.score(rows)


@pytest.mark.parametrize("kind", ["open", "class"])
def test_references_that_a_normaliser_would_confuse_are_told_apart(kind):
    assert references.check(asked(kind, APART)).empty
    given, true = zip(*[(answer, other) for answer in APART for other in APART], strict=True)
    table = scores(list(given), list(true), kind)
    same = np.array(given) == np.array(true)
    assert (table["exact"].to_numpy() == same).all()
    assert (table.loc[same, ["score", "strict"]] == 1).all(axis=None)
    if kind == "class":
        assert (table["score"].to_numpy() == same).all()


@pytest.mark.parametrize("one, other", ALIKE)
def test_what_differs_by_case_articles_or_typing_alone_is_counted(one, other):
    assert standard_scores.exact_match(one, other) == standard_scores.exact_match(other, one) == 1
    (found,) = references.check(asked("open", [one, other])).itertuples()
    assert not found.stops and set(found.references) == {one, other} and repr(one) in found.message


ANSWERS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Co"]), min_size=1, max_size=12).filter(
    lambda text: text.strip() and "<" not in text
)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(ANSWERS)
def test_any_reference_is_right_by_itself(text):
    assert standard_scores.exact_match(text, text) == 1 and standard_scores.multiset_words(text, text) == (1, 1, 1)
    assert standard_scores.strict_class(text, text.strip(), (text.strip(), "other")) == 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(ANSWERS.map(str.strip), min_size=2, max_size=6, unique=True))
def test_any_classes_are_told_apart_by_their_own_names(classes):
    for one in classes:
        assert named(one, classes) == {one}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.lists(ANSWERS.map(str.strip), min_size=2, max_size=6, unique=True))
def test_the_letter_of_any_option_is_read(options):
    for letter in "ABCDEF"[: len(options)]:
        assert {choices.read(text, options).letter for text in (letter, f"({letter})", f"**{letter}**.")} == {letter}


def test_classes_that_case_alone_tells_apart_score_but_stop_a_study():
    table = scores(["Benign", "benign", "malignant", "BENIGN"], ["Benign", "benign", "malignant", "benign"], "class")
    assert table["strict"].tolist() == [1, 1, 1, 0]
    found = references.check(asked("class", ["Benign", "benign", "malignant"]))
    assert found["stops"].tolist() == [True] and found["references"].tolist() == [["Benign", "benign"]]
    with pytest.raises(DataError, match="Every reference .* 1 of x fail:\n  class q: the classes 'Benign', 'benign'"):
        references.refuse(found, "x")


def test_classes_that_are_one_number_stop_a_study():
    """A program that reads an empty cell may write 1.0 for 1."""
    (found,) = references.check(asked("class", ["1", "1.0", "2", "10", "II", "III"])).itertuples()
    assert found.stops and found.references == ["1", "1.0"]


@pytest.mark.parametrize("rows, message", [
    (asked("choice", ["C"], options=("x", "y")), "the letter of one of its 2 options"),
    (asked("closed", ["left"]), "yes or no"),
    (asked("description", ["HeLa cells"], cell_line="HEK293", localizations=()), "names its cell line"),
])
def test_a_reference_that_cannot_be_right_stops_a_study(rows, message):
    (found,) = references.check(rows).itertuples()
    assert found.stops and found.problem == references.ITSELF and message in found.message


def test_options_that_read_alike_are_counted_once_a_question():
    found = references.check(asked("choice", ["A", "B", "C"], options=("Cyst", "cyst.", "mass")))
    assert found["stops"].tolist() == [False] and found["references"].tolist() == [["Cyst", "cyst."]]


def test_nothing_stops_where_nothing_was_found():
    references.refuse(references.check(asked("open", ["left", "right"])), "x")


def test_a_data_set_with_such_references_is_not_built(tmp_path, monkeypatch):
    from PIL import Image

    from medstudy import datasets, params

    lines = [f"{n}.png,What is it?,{answer},{split}" for n, (answer, split) in enumerate(
        [("Benign", "train"), ("benign", "train"), ("Benign", "val"), ("benign", "test")])]
    (tmp_path / "metadata.csv").write_text("image,question,answer,split\n" + "\n".join(lines) + "\n")
    for n in range(4):
        Image.new("RGB", (28, 28), (40 * n, 0, 0)).save(tmp_path / f"{n}.png")
    one = params.data({"name": "local", "label": "x", "path": str(tmp_path), "kind": "class"})
    with pytest.raises(DataError, match="the classes 'Benign', 'benign' read the same"):
        build(one, tmp_path / "built")
    assert not (tmp_path / "built" / "questions.parquet").exists() and datasets.label(one) == "x"

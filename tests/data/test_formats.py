"""A choice in words and by letter: the same question, and an answer that only the right option gives."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medstudy.data import formats, standard_scores
from medstudy.data.example import LETTERS, Question
from medstudy.datasets import phantom
from medstudy.datasets.build import build
from medstudy.errors import DataError
from medstudy.models.prompts import user_text

STAIN = Question("stain", "Which stain is used?", "B", "choice", "stain", ("Pap", "Giemsa stain", "H&E"), 3.0)


def test_in_words_the_question_lists_its_options_and_is_answered_by_one():
    words = formats.in_words(STAIN)
    assert words.text == "Which stain is used: giemsa stain, H&E or pap?"
    assert (words.answer, words.kind, words.options) == ("giemsa stain", "class", ("giemsa stain", "H&E", "pap"))
    assert (words.id, words.task, words.detail_px, words.format) == ("stain", "stain", 3.0, "")


@pytest.mark.parametrize("options, listed", [
    (("12", "3", "7"), "3, 7 or 12"), (("X-ray", "MRI"), "MRI or X-ray"), (("Neither", "Fat"), "fat or neither"),
    (("only",), "only"),
])
def test_options_are_listed_by_number_and_alphabet(options, listed):
    words = formats.in_words(Question("q", "Which?", "A", "choice", "t", options))
    assert words.text == f"Which: {listed}?"


def test_only_choices_have_two_forms():
    closed = Question.closed("nodule", "Is there a nodule?", True, "nodule")
    assert formats.asked((closed, STAIN)) == (closed, formats.in_words(STAIN))
    asked = formats.asked((closed, STAIN), letters=True)
    assert [(question.id, question.kind, question.format) for question in asked] == [
        ("nodule", "closed", ""), ("stain", "class", ""), ("stain_letter", "choice", "letter")
    ]
    assert asked[2].text == STAIN.text and asked[2].options == STAIN.options and asked[2].answer == "B"
    assert formats.asked_as("stain_letter") == "stain"


def test_the_prompt_lists_letters_for_a_choice_alone():
    words, letters = formats.asked((STAIN,), letters=True)
    assert user_text(words) == words.text
    assert user_text(letters).split("\n")[1:4] == ["A. Pap", "B. Giemsa stain", "C. H&E"]


def test_a_question_by_letter_needs_one_in_words():
    words, letters = formats.asked((STAIN,), letters=True)
    assert formats.without_words((words, letters)) is None and formats.without_words((words,)) is None
    for wrong in ((letters,), (words, replace(letters, format="number")), (words, replace(letters, kind="open")),
                  (words, replace(letters, id="stain2_letter")), (replace(words, id="stain_letter_letter"), letters)):
        assert formats.without_words(wrong) is wrong[-1]


def test_a_study_with_a_question_by_letter_alone_stops(tmp_path, monkeypatch):
    lone = next(phantom.load(phantom.Params(test=1, letters=True, families=("pathology",)), "test"))
    lone = replace(lone, questions=lone.questions[1:])
    monkeypatch.setattr(phantom, "load", lambda params, split: [lone] if split == "test" else [])
    with pytest.raises(DataError, match="mitosis_letter.*'choice' and the format 'letter'"):
        build(phantom.Params(train=0, val=0, test=1), tmp_path)


def test_the_answers_that_name_each_option():
    words, letters = formats.asked((STAIN,), letters=True)
    assert formats.candidates(letters) == ("A", "B", "C")
    assert formats.candidates(words) == ("giemsa stain", "H&E", "pap")
    assert formats.candidates(Question.closed("q", "?", True, "t")) == ()


OPTIONS = st.lists(st.text("abcdefghij ", min_size=1, max_size=12).map(str.strip).filter(bool), min_size=2, max_size=6,
                   unique=True)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(OPTIONS, st.data())
def test_of_the_options_in_words_only_the_right_one_scores(options, data):
    right = data.draw(st.integers(0, len(options) - 1))
    words = formats.in_words(Question("q", "Which?", LETTERS[right], "choice", "t", tuple(options)))
    scores = {option: standard_scores.strict_class(option, words.answer, words.options) for option in words.options}
    assert scores.pop(words.answer) == 1 and set(scores.values()) == {0}

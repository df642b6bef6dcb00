"""Which questions are bounded, what is predicted, and why the others are left out."""

import pytest
from PIL import Image

from medstudy.bounds import questions, readings
from medstudy.data.example import Example, Question, Shot
from medstudy.data.formats import LETTER
from medstudy.data.reading_params import Bounds

SETTINGS = Bounds(least=3, answers=3)


def example(number: int, split: str, *asked: Question, context=()) -> Example:
    name = f"{split}-{number}"
    return Example(name, Image.new("RGB", (8, 8)), asked, "mine", split, name, "f", "m", "a", True, "s", "l", context)


def found(ask, n: int = 4, **more):
    data = {split: [example(i, split, ask(i), **more) for i in range(n)] for split in ("train", "val", "test")}
    return questions.units(data, SETTINGS)


def test_of_a_choice_the_text_counts_and_not_the_letter():
    orders = (("red", "blue"), ("blue", "red"))
    units, left = found(lambda i: Question("q", "What colour?", "A", "choice", "colour", orders[i % 2]))
    (unit,) = units
    assert unit.answers("train") == ["red", "blue", "red", "blue"] and left.empty
    assert unit.possible(unit.asked["test"][0]) == ["blue", "red"]


def test_options_in_the_text_do_not_part_a_task():
    texts = ("Which: a or b?", "Which: b or c?")
    units, left = found(lambda i: Question("q", texts[i % 2], "b", "class", "t", (("a", "b"), ("b", "c"))[i % 2]))
    assert len(left) == 1 and "one answer" in left["why"][0]  # one unit, whose answer never changes
    options = (("a", "b"), ("b", "c"))
    ask = lambda i: Question("q", texts[i % 2], options[i % 2][i // 2], "class", "t", options[i % 2])  # noqa: E731
    (unit,), left = found(ask)
    assert unit.text == "Which" and len(unit.asked["train"]) == 4 and left.empty


def test_a_choice_by_letter_besides_words_is_read_once():
    def ask(i):
        return Question("q", "What colour?", "AB"[i % 2], "choice", "colour", ("red", "blue"), format=LETTER)

    units, left = found(ask)
    assert units == [] and left.empty


@pytest.mark.parametrize(
    ("ask", "why"),
    [
        (lambda i: Question("q", "What is it?", f"thing {i}", "description", "t"), "free text"),
        (lambda i: Question("q", "What is it?", f"thing {i}", "open", "t"), "4 different ones in 4 training"),
        (lambda i: Question.closed("q", f"Is {i} there?", i % 2 == 0, "t"), "4 of its 4 test questions fewer than 3"),
        (lambda i: Question.closed("q", "Is it there?", True, "t"), "one answer"),
    ],
)
def test_what_is_not_bounded_says_why(ask, why):
    units, left = found(ask)
    assert units == [] and why in left["why"][0] and left["n_questions"][0] == 4


def test_questions_about_several_images_are_not_bounded():
    shot = Shot(Image.new("RGB", (8, 8)))
    _, left = found(lambda i: Question.closed("q", "Is it there?", i % 2 == 0, "t"), context=(shot,))
    assert "several images" in left["why"][0]


def test_an_open_question_with_few_answers_is_bounded_and_guessing_knows_their_frequency():
    (unit,), _ = found(lambda i: Question("q", "Where?", ("left", "left", "left", "right")[i], "open", "t"))
    rows = list(readings.guesses([unit]))
    assert [row["given"] for row in rows] == ["left"] * 4 and [row["score"] for row in rows] == [1, 1, 1, 0]
    assert {row["chance"] for row in rows} == {0.5}

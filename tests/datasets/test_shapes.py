"""The general corpus: reproducible, balanced, and true to its own pixels."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from random import Random

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import ndimage

from medstudy.data.example import LETTERS, Question
from medstudy.datasets import shapes
from medstudy.datasets.shapes.questions import questions
from medstudy.datasets.shapes.render import render
from medstudy.datasets.shapes.scene import QUADRANTS, Scene, compose
from medstudy.datasets.shapes.words import COLOURS
from medstudy.errors import DataError


def truth(question: Question) -> str:
    """The answer in words for any kind."""
    if question.kind != "choice":
        return question.answer
    return question.options[LETTERS.index(question.answer)]


@pytest.fixture(scope="module")
def asked() -> list[tuple[Scene, tuple[Question, ...]]]:
    """2500 scenes and their questions, not drawn."""
    rngs = [Random(index) for index in range(2500)]
    return [(scene, questions(scene, rng)) for rng in rngs for scene in [compose(rng)]]


@pytest.fixture(scope="module")
def answers(asked) -> dict[str, Counter]:
    tally = defaultdict(Counter)
    for _, each in asked:
        for question in each:
            tally[question.id][truth(question)] += 1
    return tally


def drawn(asked, key: str, wanted, limit: int = 40) -> list[tuple[Scene, np.ndarray, str]]:
    """Scenes with the question `key`, their pixels [H, W, 3] and the answer."""
    found = [(scene, truth(q)) for scene, each in asked for q in each if q.id == key and wanted(scene)]
    assert len(found) >= 5, f"too few scenes ask {key}"
    rng = np.random.default_rng(1)
    return [(scene, np.asarray(render(scene, rng), float), answer) for scene, answer in found[:limit]]


def foreground(pixels: np.ndarray, threshold: float = 25) -> tuple[np.ndarray, int]:
    """Connected parts that differ from the median colour, as labels [H, W] and their number."""
    distance = np.linalg.norm(pixels - np.median(pixels, axis=(0, 1)), axis=2)
    return ndimage.label(distance > threshold, np.ones((3, 3)))


def plain(scene: Scene) -> bool:
    return scene.texture == "smooth" and not scene.items


def test_an_example_depends_on_seed_split_and_index_alone():
    params = shapes.Params(train=4, val=2, test=2, seed=5)
    listed = list(shapes.load(params, "train"))
    alone = shapes.example(5, "train", 3)
    assert listed[3].questions == alone.questions
    assert listed[3].image.tobytes() == alone.image.tobytes()
    others = [shapes.example(6, "train", 3), shapes.example(5, "val", 3), shapes.example(5, "train", 2)]
    assert all(other.image.tobytes() != alone.image.tobytes() for other in others)
    assert len({other.image_id for other in [*others, alone]}) == 4


def test_the_record_is_complete():
    for example in shapes.load(shapes.Params(train=60, seed=1), "train"):
        assert example.image.mode == "RGB" and example.group == example.image_id
        assert all(56 <= side <= 168 and side % 28 == 0 for side in example.image.size)
        assert (example.dataset, example.family, example.modality, example.anatomy, example.license) == (
            "general", "general", "synthetic", "none", "CC0-1.0",
        )


def test_most_images_are_small(asked):
    areas = np.array([scene.height * scene.width for scene, _ in asked])
    assert np.mean(areas <= 112**2) > 0.85 and areas.max() <= 140**2


def test_unknown_splits_and_parameters_are_refused():
    with pytest.raises(DataError, match="validation"):
        shapes.load(shapes.Params(), "validation")
    with pytest.raises(DataError, match="dev"):
        shapes.example(0, "dev", 0)
    with pytest.raises(ValidationError):
        shapes.Params(images=3)


def test_questions_are_well_formed(asked):
    for _, each in asked:
        assert len(each) in (4, 5) and len({question.id for question in each}) == len(each)
        for question in each:
            assert "{" not in question.text and question.text[-1] in "?."
            assert (question.kind == "closed") == (question.answer in ("yes", "no"))
            assert (question.kind == "choice") == bool(question.options)
            assert len(set(question.options)) == len(question.options) and truth(question)


def test_yes_and_no_are_balanced(answers):
    closed = {key: tally for key, tally in answers.items() if set(tally) <= {"yes", "no"}}
    total = sum(closed.values(), Counter())
    assert total["yes"] / total.total() == pytest.approx(0.5, abs=0.03)
    for key, tally in closed.items():
        assert tally["yes"] / tally.total() == pytest.approx(0.5, abs=0.17), (key, tally)


def test_choice_letters_tell_nothing(asked):
    letters = defaultdict(Counter)
    for _, each in asked:
        for question in each:
            letters[len(question.options)][question.answer] += bool(question.options)
    for size in (2, 3, 4):
        shares = np.array([letters[size][letter] for letter in LETTERS[:size]]) / letters[size].total()
        assert np.abs(shares - 1 / size).max() < 0.06


@pytest.mark.parametrize("key, names", [
    ("where", QUADRANTS), ("where_dot", QUADRANTS), ("count_dots", "0123456"), ("count_lines", "01234"),
    ("background_tone", ("bright", "dark")), ("stripe_direction", ("horizontal", "vertical", "diagonal")),
])
def test_open_answers_are_spread_evenly(answers, key, names):
    shares = np.array([answers[key][name] for name in names]) / answers[key].total()
    assert shares.sum() == pytest.approx(1)
    assert shares.max() < 1.8 / len(names) and shares.min() > 0.4 / len(names)


def test_every_word_is_in_the_vocabulary(asked):
    def words(text):
        return set(re.findall(r"\w+|[^\w\s]", text))

    known = set().union(*map(words, shapes.vocabulary()))
    texts = {text for _, each in asked for q in each for text in (q.text, q.answer, *q.options)}
    assert not set().union(*map(words, texts)) - known


def test_nothing_is_biomedical():
    text = " ".join(shapes.vocabulary()).lower()
    biomedical = (
        r"cell|nucle|tissue|lung|nodul|organ\b|bone|scan|x-ray|stain|lesion|tumou?r|mitos|patholog|radiolog"
    )
    assert not re.search(biomedical, text)


def test_pixels_agree_with_the_largest_colour(asked):
    for _, pixels, answer in drawn(asked, "largest_colour", lambda s: s.recipe == "shapes"):
        labels, _ = foreground(pixels, threshold=80)
        boxes = ndimage.find_objects(labels)
        largest = max(range(len(boxes)), key=lambda k: max(side.stop - side.start for side in boxes[k]))
        core = labels == largest + 1
        core = ndimage.binary_erosion(core) if ndimage.binary_erosion(core).any() else core
        mean = np.median(pixels[core], axis=0)
        nearest = min(COLOURS, key=lambda name: np.linalg.norm(mean - COLOURS[name]))
        assert nearest == answer


@pytest.mark.parametrize("key", ["count_dots", "count_lines"])
def test_pixels_agree_with_the_counts(asked, key):
    for _, pixels, answer in drawn(asked, key, plain):
        assert foreground(pixels)[1] == int(answer)


def test_pixels_agree_with_the_place_of_the_dot(asked):
    for scene, pixels, answer in drawn(asked, "where_dot", plain):
        y, x = ndimage.center_of_mass(foreground(pixels)[0] > 0)
        assert answer == QUADRANTS[2 * (y > scene.height / 2) + (x > scene.width / 2)]


def test_dots_have_their_stated_size(asked):
    for scene, pixels, _ in drawn(asked, "where_dot", lambda s: plain(s) and s.dots[0].diameter > 3):
        ink = np.linalg.norm(pixels - np.median(pixels, axis=(0, 1)), axis=2)
        area = ink[ink > 8].sum() / np.linalg.norm(
            np.subtract(scene.marks.rgb, np.median(pixels, axis=(0, 1)))
        )
        assert 2 * (area / np.pi) ** 0.5 == pytest.approx(scene.dots[0].diameter, rel=0.12)


def test_pixels_agree_with_the_brighter_side(asked):
    for _, pixels, answer in drawn(asked, "brighter_side", lambda s: not s.items and not s.word):
        rows, columns = pixels.mean(axis=(1, 2)), pixels.mean(axis=(0, 2))
        side = {"top": rows[0] - rows[-1], "bottom": rows[-1] - rows[0],
                "left": columns[0] - columns[-1], "right": columns[-1] - columns[0]}
        assert max(side, key=side.get) == answer


def test_pixels_agree_with_the_direction_of_the_stripes(asked):
    for _, pixels, answer in drawn(asked, "stripe_direction", lambda s: not s.items and not s.word):
        down, along = (np.abs(np.diff(pixels.mean(axis=2), axis=axis)).mean() for axis in (0, 1))
        measured = "horizontal" if down > 2 * along else "vertical" if along > 2 * down else "diagonal"
        assert measured == answer


def test_pixels_agree_with_the_noise(asked):
    roughness = defaultdict(list)
    for _, pixels, answer in drawn(asked, "noisy", lambda s: not (s.items or s.word or s.lines or s.dots)):
        roughness[answer].append(np.abs(np.diff(pixels.mean(axis=2), axis=1)).mean())
    assert max(roughness["no"]) < min(roughness["yes"])

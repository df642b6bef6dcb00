"""The phantom: reproducible, balanced, and its details vanish with resolution where they should."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from scipy import ndimage, stats

from medstudy.data import formats, located_scores, places
from medstudy.data.example import LETTERS, SPLITS, Example
from medstudy.datasets import phantom
from medstudy.datasets.phantom.drawing import QUADRANTS
from medstudy.errors import DataError

SIDES = {"radiology": (308, 448), "pathology": (252, 392), "subcellular": (252, 364), "cytology": (140, 280)}
# Fingerprints of image 3 of each family in the train split at seed 0, and of its questions, by letter too. No block of
# these images is within 0.03 grey values of the edge of a level. A change here is a change of the data: raise
# phantom.VERSION with it. The images are still those of version 1.
IMAGES = {
    "radiology": "4bcdcf530340d2af8335895952a7e9fdff297225618cadb38795d0dc7a87c6e0",
    "pathology": "daade42dde1305c7e60894ed99db797a2f455e8614256383b7952818f67a7242",
    "subcellular": "5d965092a2c93f11f443791da7cf920993bab6ac7e6ba44466edd4baf3bed9ae",
    "cytology": "43d7afdec878069b1ce20ac57c99ea98be73f6fd5c37f8100fb483d432dfefd4",
}
QUESTIONS = {
    "radiology": "5483c25fda02355839c5ec687287983716165ac47da67711abe7ba21580d83ef",
    "pathology": "0560ff194fa2eb1a80d710fdef611201a10977564ee1a9d95c5a0204a7afef79",
    "subcellular": "b69f4c6a361c0d9e40e91c5dd12b31b6d74f2c05a00bfe3ab7b833beedd23ab1",
    "cytology": "4f00232244064295244eb5ed231fc23f0bb2d72e739254ee18b2207c48219082",
}


def truth(question) -> str:
    """The answer in words for any kind; the cell line of a description."""
    if question.kind == "choice":
        return question.options[LETTERS.index(question.answer)]
    return question.cell_line or question.answer


def fingerprint(image: Image.Image, cells: int = 8, levels: int = 16) -> str:
    """SHA-256 of the size and of an 8 x 8 thumbnail in 16 levels.

    It is coarse because another FFT or SIMD rounds a few pixels in a million to the neighbouring grey value.
    """
    thumbnail = np.floor(means(image, cells) * levels / 256).astype(np.uint8)
    return hashlib.sha256(json.dumps(image.size).encode() + thumbnail.tobytes()).hexdigest()


def asked_hash(example: Example) -> str:
    """SHA-256 of the questions."""
    fields = [{name: value for name, value in asdict(question).items() if name not in ("set_id", "tags", "box")}
              for question in example.questions]
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()


def means(image: Image.Image, cells: int) -> np.ndarray:
    """Mean colours [cells, cells, 3] of a grid of equal blocks."""
    pixels = np.asarray(image, np.float64)
    rows, columns = (np.linspace(0, n, cells + 1).astype(int)[:-1] for n in pixels.shape[:2])
    sums = np.add.reduceat(np.add.reduceat(pixels, rows, 0), columns, 1)
    counts = np.add.reduceat(np.add.reduceat(np.ones(pixels.shape[:2]), rows, 0), columns, 1)
    return sums / counts[..., None]


@pytest.fixture(scope="module")
def plans() -> dict[str, list]:
    """700 plans of each family, not drawn."""
    return {family: [phantom.plan(3, "train", family, i)[0] for i in range(700)] for family in phantom.FAMILIES}


@pytest.fixture(scope="module")
def asked(plans) -> tuple:
    """All questions, choices in words and by letter."""
    questions = (question for scenes in plans.values() for scene in scenes for question in scene.questions())
    return formats.asked(questions, letters=True)


# ------------------------------------------------------------------------------------------ reproducible


def test_an_image_made_alone_equals_the_one_made_in_its_split():
    params = phantom.Params(train=9, val=0, test=0)
    loaded = list(phantom.load(params, "train"))
    alone = phantom.example(0, "train", "radiology", 2)
    assert [example.family for example in loaded] == [*phantom.FAMILIES] * 2 + ["radiology"]
    assert loaded[8].image_id == alone.image_id
    assert loaded[8].questions == alone.questions
    assert loaded[8].image.tobytes() == alone.image.tobytes()


def test_golden_images():
    examples = {family: phantom.example(0, "train", family, 3, letters=True) for family in phantom.FAMILIES}
    assert phantom.VERSION == "2"
    assert {family: fingerprint(example.image) for family, example in examples.items()} == IMAGES
    assert {family: asked_hash(example) for family, example in examples.items()} == QUESTIONS


def test_the_format_of_answers_changes_no_pixel():
    for family in phantom.FAMILIES:
        words, both = (phantom.example(4, "test", family, 1, letters) for letters in (False, True))
        assert words.image.tobytes() == both.image.tobytes()
        assert words.questions == tuple(question for question in both.questions if not question.format)


def test_questions_about_places_change_no_pixel_and_no_other_question():
    for family in phantom.FAMILIES:
        plain, located = (phantom.example(4, "test", family, 1, located=asks) for asks in (False, True))
        assert plain.image.tobytes() == located.image.tobytes()
        assert located.questions[: len(plain.questions)] == plain.questions


def test_the_fingerprint_forgives_rounding_but_not_change():
    example = phantom.example(0, "train", "cytology", 3)
    pixels = np.asarray(example.image).copy()
    pixels[::50, ::50] ^= 1
    nudged = replace(example, image=Image.fromarray(pixels))
    darker = replace(example, image=Image.fromarray(pixels // 2))
    other = replace(example, questions=example.questions[1:])
    same = fingerprint(example.image)
    assert fingerprint(nudged.image) == same != fingerprint(darker.image)
    assert asked_hash(nudged) == asked_hash(example) != asked_hash(other)


def test_splits_seeds_and_families_share_no_image():
    made = [phantom.example(seed, split, "cytology", i) for seed in (0, 1) for split in SPLITS for i in range(4)]
    assert len({example.image.tobytes() for example in made}) == len({e.image_id for e in made}) == len(made)
    assert {example.group for example in made} == {example.image_id for example in made}


def test_params_and_splits_are_strict():
    with pytest.raises(DataError, match="train, val, test"):
        phantom.load(phantom.Params(), "minitrain")
    for wrong in ({"trains": 3}, {"train": -1}, {"train": "3"}, {"families": ()}, {"families": ("chest",)},
                  {"letters": 1}):
        with pytest.raises(ValidationError):
            phantom.Params(**wrong)
    with pytest.raises(ValidationError, match="named only once"):
        phantom.Params(families=("cytology", "cytology"))


# ---------------------------------------------------------------------------------------- what is asked


def test_examples_are_complete():
    for example in phantom.load(phantom.Params(train=8), "train"):
        assert example.image.mode == "RGB"
        assert example.render and example.license == "CC0-1.0" and example.source == f"phantom {phantom.VERSION}"
        assert example.modality and example.anatomy
        assert 4 <= len(example.questions) <= 6
        assert len({question.id for question in example.questions}) == len(example.questions)
        assert {question.detail_px is None for question in example.questions} == {True, False}


def test_sizes_vary_within_their_range(plans):
    for family, (low, high) in SIDES.items():
        shapes = np.array([scene.shape for scene in plans[family]])
        assert shapes.min() >= low and shapes.max() <= high
        assert len({height / width for height, width in shapes}) > 100
    areas = [height * width for scenes in plans.values() for height, width in (scene.shape for scene in scenes)]
    assert 280 < np.sqrt(np.mean(areas)) < 330


def test_every_kind_and_format_is_there(asked):
    assert {question.kind for question in asked} == {"closed", "open", "choice", "class", "description"}
    for question in asked:
        assert question.kind not in ("choice", "class") or 2 <= len(question.options) <= 4
        assert question.kind != "class" or all(option in question.text for option in question.options)
        assert question.detail_px is None or question.kind != "open"  # words in common would be worth half a point
        assert (question.kind == "choice") == (question.format == "letter")
        assert question.kind != "closed" or question.answer in ("yes", "no")
        if question.kind == "description":
            assert all(name in question.answer for name in (question.cell_line, *question.localizations))


def test_a_choice_lists_its_options_in_words_and_is_answered_by_one():
    (example,) = phantom.load(phantom.Params(train=1, families=("pathology",)), "train")
    assert [question.text for question in example.questions] == [
        "Which phase do the mitotic figures show: anaphase, metaphase or no mitosis?",
        "What is the chromatin pattern of the nuclei: smudged, stippled or vesicular?",
        "How is the tissue organized: glands, lymphoid tissue, solid sheets or spindle cell bundles?",
        "Which of these is present in the tissue: fat vacuoles, hemorrhage or neither?",
        "Which stain was used: hematoxylin and eosin or immunohistochemistry?",
    ]
    for question in example.questions:
        assert (question.kind, question.format) == ("class", "")
        assert question.answer in question.options and question.answer in question.text


def test_by_letter_the_same_choices_are_asked_with_shuffled_options():
    (example,) = phantom.load(phantom.Params(train=1, families=("pathology",), letters=True), "train")
    words, letters = example.questions[::2], example.questions[1::2]
    for word, letter in zip(words, letters, strict=True):
        assert (letter.kind, letter.format, letter.id) == ("choice", "letter", f"{word.id}_letter")
        assert (letter.task, letter.detail_px) == (word.task, word.detail_px)
        assert truth(letter).lower() == word.answer and {text.lower() for text in letter.options} == {*word.options}
    assert any([text.lower() for text in letter.options] != [*word.options]
               for word, letter in zip(words, letters, strict=True))


def test_no_prior_answers_a_question(asked):
    words, letters = defaultdict(Counter), defaultdict(Counter)
    for question in asked:
        words[question.text][truth(question)] += 1
        letters[question.text, question.kind][question.answer] += 1
    tallies = [*words.values(), *(tally for (_, kind), tally in letters.items() if kind == "choice")]
    for tally in tallies:
        assert max(tally.values()) < 0.6 * tally.total(), tally
        assert len(tally) > 1


def test_details_span_the_ladder_and_tell_nothing(asked):
    sizes = defaultdict(lambda: defaultdict(list))
    for question in asked:
        if question.detail_px is not None:
            assert 1.5 <= question.detail_px <= 60
            sizes[question.text][truth(question)].append(question.detail_px)
    for text, by_answer in sizes.items():
        if by_answer.keys() == {"yes", "no"}:
            assert stats.ks_2samp(by_answer["yes"], by_answer["no"]).pvalue > 1e-3, text
    every = np.concatenate([group for by_answer in sizes.values() for group in by_answer.values()])
    shares = np.histogram(every, [0, 3, 6, 12, 60])[0] / len(every)
    assert shares.min() > 0.05, shares


# -------------------------------------------------------------------------------- what can be seen where


def drawn(scene, seed: int = 5) -> Image.Image:
    return Image.fromarray(scene.render(np.random.default_rng(seed)))


def shown(image: Image.Image, budget: float = np.inf) -> np.ndarray:
    """The image scaled to at most budget^2 pixels: [h, w], grey."""
    scale = min(1, budget / (image.width * image.height) ** 0.5)
    size = round(image.width * scale), round(image.height * scale)
    return np.asarray(image.resize(size, Image.Resampling.BICUBIC), float).mean(2)


def difference(scene, other, *budgets: float) -> list[np.ndarray]:
    """The difference between two scenes, at native size and then at each budget."""
    one, two = drawn(scene), drawn(other)
    return [shown(one, budget) - shown(two, budget) for budget in (np.inf, *budgets)]


def rms(change: np.ndarray) -> float:
    return float(np.sqrt(np.mean(change**2)))


def first(plans, kind: str, **changes):
    """The first plan of a kind, with changes."""
    return replace(next(s for scenes in plans.values() for s in scenes if type(s).__name__ == kind), **changes)


PAIRS = {  # task: kind of scene, name of its size, what is shared, then the two answers
    "nodule": ("Chest", "nodule_px", {"mesh": False}, {"nodules": True}, {"nodules": False}),
    "mesh": ("Chest", "mesh_px", {}, {"mesh": True}, {"mesh": False}),
    "calcification": ("Mammogram", "calcification_px", {}, {"calcifications": True}, {"calcifications": False}),
    "margin": ("Mammogram", "spicule_px", {}, {"spiculated": True}, {"spiculated": False}),
    "phase": ("Section", "plate_px", {"nucleus_px": 36.0}, {"mitosis": "Metaphase"}, {"mitosis": "Anaphase"}),
    "mitosis": ("Section", "plate_px", {"nucleus_px": 36.0}, {"mitosis": "Metaphase"}, {"mitosis": "No mitosis"}),
    "stippled": ("Section", "grain_px", {"nucleus_px": 36.0}, {"chromatin": "Stippled"}, {"chromatin": "Smudged"}),
    "vesicular": ("Section", "grain_px", {"nucleus_px": 36.0}, {"chromatin": "Vesicular"}, {"chromatin": "Smudged"}),
    "class": ("Smear", "outline_px", {"nucleus_px": 36.0}, {"label": "SCC"}, {"label": "HSIL"}),
    "nucleolus": ("Smear", "nucleolus_px", {"nucleus_px": 30.0}, {"nucleolus": True}, {"nucleolus": False}),
    "bacteria": ("Smear", "bacteria_px", {}, {"bacteria": True}, {"bacteria": False}),
}


@pytest.mark.parametrize("task", PAIRS)
def test_a_fine_answer_is_visible_at_native_size_and_is_lost_by_its_size(plans, task):
    kind, size, shared, one, two = PAIRS[task]
    if kind == "Smear":
        shared = shared | {"shape": (240, 240), "cell_px": 60.0, "cluster": False}
    small, large = (first(plans, kind, **shared, **{size: px}) for px in (2.0, 8.0))
    native, low = difference(replace(small, **one), replace(small, **two), 56)
    assert np.abs(native).max() > 15  # of 255
    assert rms(low) < 0.55 * rms(native)
    large_native, large_low, large_middle = difference(replace(large, **one), replace(large, **two), 56, 224)
    assert rms(large_middle) > 0.85 * rms(large_native)
    assert rms(low) / rms(native) < 0.75 * rms(large_low) / rms(large_native)


@pytest.mark.parametrize(
    "task", ["nodule", "mesh", "calcification", "margin", "phase", "stippled", "nucleolus", "bacteria"]
)
def test_the_sum_of_the_brightness_tells_nothing(plans, task):
    kind, size, shared, one, two = PAIRS[task]
    scene = first(plans, kind, **shared, **{size: 3.0})
    (change,) = difference(replace(scene, **one), replace(scene, **two))
    assert abs(change.sum()) < 0.3 * np.abs(change).sum()


@pytest.mark.parametrize("name", ["nucleoli", "vesicles", "centrosome"])
def test_a_small_localization_is_lost_at_low_resolution(plans, name):
    field = first(plans, "Field", localizations=(name, "cytosol"))
    field = replace(field, sizes=field.sizes | {name: 2.0})
    other = replace(field, localizations=("nucleoplasm", "cytosol") if name == "nucleoli" else ("cytosol",))
    native, low = (np.abs(change).max() for change in difference(field, other, 56))
    assert native > 25 and low < 0.6 * native


@pytest.mark.parametrize(
    ("kind", "one", "two"),
    [
        ("Chest", {"enlarged": True}, {"enlarged": False}),
        ("Chest", {"effusion": "left"}, {"effusion": ""}),
        ("Mammogram", {"dense": True}, {"dense": False}),
        ("Mammogram", {"points": "left"}, {"points": "right"}),
        ("Section", {"change": "Hemorrhage"}, {"change": "Neither"}),
        ("Section", {"change": "Fat vacuoles"}, {"change": "Neither"}),
        ("Section", {"stain": "Immunohistochemistry"}, {"stain": "Hematoxylin and eosin"}),
        ("Section", {"architecture": "Glands"}, {"architecture": "Lymphoid tissue"}),
        ("Field", {"localizations": ("nucleoplasm",)}, {"localizations": ("vesicles",)}),
        ("Field", {"crowded": True}, {"crowded": False}),
        ("Smear", {"cluster": True, "cell_px": 30.0}, {"cluster": False, "cell_px": 60.0}),
        ("Smear", {"colour": "pink"}, {"colour": "orange"}),
    ],
)
def test_a_coarse_answer_survives_the_lowest_rung(plans, kind, one, two):
    native, low = difference(first(plans, kind, **one), first(plans, kind, **two), 56)
    assert rms(low) > 0.55 * rms(native)


@pytest.mark.parametrize("quadrant", QUADRANTS)
def test_a_finding_lies_in_the_quadrant_of_its_answer(plans, quadrant):
    chest = first(plans, "Chest", quadrant=quadrant, nodules=True, nodule_px=6.0, effusion="")
    for points in ("left", "right"):
        other = QUADRANTS[QUADRANTS.index(quadrant) - 1]
        breast = first(plans, "Mammogram", quadrant=quadrant, mass_quadrant=other, points=points, calcifications=True)
        for scene, absent in ((chest, {"nodules": False}), (breast, {"calcifications": False})):
            bright = np.clip(difference(scene, replace(scene, **absent))[0], 12, None) - 12
            y, x = (c / n for c, n in zip(ndimage.center_of_mass(bright), scene.shape, strict=True))
            assert f"{'upper' if y < 0.5 else 'lower'} {'left' if x < 0.5 else 'right'}" == quadrant


def test_the_breast_points_where_it_is_said(plans):
    left, right = (shown(drawn(first(plans, "Mammogram", points=points))) for points in ("left", "right"))
    assert left[:, -15:].mean() > left[:, :15].mean() + 20
    assert right[:, :15].mean() > right[:, -15:].mean() + 20


# An observer who knows nothing but the scale: the energy of what is finer than 1.5 shown pixels.


def energy(image: np.ndarray) -> float:
    return float(np.mean((image - ndimage.gaussian_filter(image, 1.5)) ** 2))


def area_under_curve(present: list[float], absent: list[float]) -> float:
    return float(np.mean([p > a for p in present for a in absent]))


@pytest.mark.parametrize("task", ["mesh", "stippled"])
def test_an_observer_of_fine_texture_needs_the_pixels(plans, task):
    kind, size, shared, one, two = PAIRS[task]
    scenes = [s for scenes in plans.values() for s in scenes if type(s).__name__ == kind][:24]
    images = [
        drawn(replace(scene, **shared, **{size: 2.2}, **(two if i % 2 else one)), seed=i)
        for i, scene in enumerate(scenes)
    ]
    seen = {}
    for budget in (np.inf, 56):
        energies = [energy(shown(image, budget)) for image in images]
        seen[budget] = area_under_curve(energies[::2], energies[1::2])
    assert seen[np.inf] > 0.85 and seen[56] < seen[np.inf] - 0.1, seen


# --- counts, points and boxes


@pytest.fixture(scope="module")
def located() -> list[Example]:
    """Images with questions about places, 14 of each family."""
    return list(phantom.load(phantom.Params(train=56, locate=True), "train"))


def test_every_image_is_asked_about_places_in_its_own_pixels(located):
    kinds = Counter()
    for example in located:
        for question in example.questions:
            places.check_question(question, example.image.height, example.image.width)
            kinds[question.kind] += 1
    assert min(kinds[kind] for kind in ("count", "point", "box")) > 10


def test_counts_agree_with_the_points_of_the_same_image(located):
    for example in located:
        by_id = {question.id: question for question in example.questions}
        for name in ("nodule", "mitosis", "cell"):
            if f"{name}_count" in by_id:
                points = places.reference(by_id[f"{name}_point"].answer, "point").items
                assert len(points) == int(by_id[f"{name}_count"].answer) > 0


def test_a_count_cannot_be_guessed(located):
    counts = defaultdict(Counter)
    for example in located:
        for question in example.questions:
            if question.kind == "count":
                counts[question.id][question.answer] += 1
    for tally in counts.values():
        assert max(tally.values()) < 0.75 * tally.total() and len(tally) > 2


@pytest.mark.parametrize("kind, size, present, absent, name", [
    ("Chest", "nodule_px", {"nodules": True, "nodule_px": 6.0, "effusion": ""}, {"nodules": False}, "nodule"),
    ("Mammogram", "calcification_px", {"calcifications": True, "calcification_px": 5.0}, {"calcifications": False},
     "calcification"),
])
def test_the_places_are_where_the_feature_was_drawn(plans, kind, size, present, absent, name):
    """The box around what differs between an image with the feature and the same one without it."""
    for points in ("left", "right"):
        scene = first(plans, kind, **present, **({"points": points} if kind == "Mammogram" else {}))
        marks = phantom.locate.Marks(scene.shape)
        image = scene.render(np.random.default_rng(5), marks).astype(float).mean(2)
        without = shown(drawn(replace(scene, **absent)))
        y, x = np.nonzero(image - without > 25)
        seen = (x.min(), y.min(), x.max() + 1, y.max() + 1)
        (box,) = places.reference(marks.box(name), "box").items
        assert located_scores.iou(seen, box) > 0.5, (seen, box)


def test_the_marks_of_mitoses_lie_on_dark_plates(plans):
    scene = first(plans, "Section", mitosis="Metaphase", plate_px=4.0, nucleus_px=30.0, stain="Hematoxylin and eosin",
                  chromatin="Smudged", architecture="Solid sheets", change="Neither")
    marks = phantom.locate.Marks(scene.shape)
    image = scene.render(np.random.default_rng(5), marks).astype(float).mean(2)
    places_ = marks.found["mitosis"][:, :2].astype(int)
    assert len(places_) >= 2
    assert max(image[y - 1 : y + 2, x - 1 : x + 2].mean() for x, y in places_) < np.median(image) - 60

"""Questions about a crop of `atlas`, with answers measured from its labels: pure functions over arrays.

Sizes are in native pixels. `detail_px` is the size of the smallest feature that decides the answer: the equivalent
diameter of the smallest nucleus to count, the length of the contact between two nuclei, the distance to the nearest
other tissue. It is None for coarse questions. There are no questions about borderline cases.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.random import Generator
from scipy import ndimage

from medstudy.data.example import LETTERS, Question

MIN_AREA = 40  # a nucleus counts if at least this many pixels are in the crop: 7 px across
CLEAR = 0.12  # a place counts as in a quarter if it is this share of the side away from the midlines
QUARTERS = ("upper left", "upper right", "lower left", "lower right")
MODALITIES = (
    "fluorescence microscopy", "bright-field microscopy of stained tissue", "electron tomography", "fundus photography",
    "magnetic resonance imaging", "ultrasound", "nuclear medicine scan", "X-ray radiograph",
)


def rng_of(crop_id: str) -> Generator:
    """The random generator of a crop: the same on every machine."""
    return np.random.default_rng(zlib.crc32(crop_id.encode()))


def choice(name: str, text: str, right: str, wrong: Sequence[str], rng: Generator, task: str,
           detail: float | None = None) -> Question:
    """A multiple-choice question with its options shuffled; `medstudy.datasets.atlas` asks it in words."""
    options = [right, *wrong]
    options = tuple(options[i] for i in rng.permutation(len(options)))
    return Question(name, text, LETTERS[options.index(right)], "choice", task, options, detail)


def diameter(area: float) -> float:
    """Diameter of the disc of this area, rounded to 0.1 px."""
    return round(2 * float(np.sqrt(area / np.pi)), 1)


def general(modality: str, rng: Generator, both: bool) -> Iterator[Question]:
    """Coarse controls on the modality: a choice, a yes/no question that is true half the time, or both."""
    others = [name for name in MODALITIES if name != modality]
    wrong = [others[i] for i in rng.permutation(len(others))[:3]]
    named = modality if rng.random() < 0.5 else wrong[0]
    questions = (
        choice("modality", "What kind of image is this?", modality, wrong, rng, "modality"),
        Question.closed("modality_is", f"Was this image made by {named}?", named == modality, "modality"),
    )
    yield from questions if both else questions[int(rng.integers(2)) :][:1]


def anatomy(answer: str, wrong: Sequence[str], rng: Generator) -> Iterator[Question]:
    """A coarse control: what the image shows."""
    yield choice("anatomy", "Which structure does this image show?", answer, wrong, rng, "anatomy")


def nuclei(labels: np.ndarray, rng: Generator) -> Iterator[Question]:
    """Questions on number, place and contact, from instance labels [h, w]."""
    areas = visible(labels)
    if not areas:
        return
    smallest = diameter(min(areas.values()))
    text = "How many nuclei are visible, those cut by the edge included?"
    as_number = Question("count", text, str(len(areas)), "open", "counting", detail_px=smallest)
    yield as_number if rng.random() < 0.5 else count_choice(len(areas), smallest, rng)
    kept = np.where(np.isin(labels, list(areas)), labels, 0)
    yield from at_place(kept > 0, rng)
    yield from touching(kept)


def visible(labels: np.ndarray) -> dict[int, int]:
    """Area in pixels of each labelled object that covers at least MIN_AREA pixels of the crop."""
    names, areas = np.unique(labels[labels > 0], return_counts=True)
    return {int(name): int(area) for name, area in zip(names, areas, strict=True) if area >= MIN_AREA}


def count_choice(count: int, detail: float, rng: Generator) -> Question:
    """A choice of four numbers, about a third of the count apart, with the count at a random place among them."""
    step = max(2, round(count / 3))
    place = int(rng.integers(min(3, count // step) + 1))
    numbers = [count + step * (i - place) for i in range(4)]
    letter = LETTERS[numbers.index(count)]
    text = "Which number is the number of nuclei?"
    return Question("count_choice", text, letter, "choice", "counting", tuple(map(str, numbers)), detail_px=detail)


def at_place(inside: np.ndarray, rng: Generator) -> Iterator[Question]:
    """Is the centre of the image or of a quarter in a nucleus? Half of the answers are yes, if any can be.

    Detail: the diameter of the widest disc there with only one answer; discs under 3 px are not used.
    """
    height, width = inside.shape
    quarters = ((y, x) for y in (1, 3) for x in (1, 3))
    points = [(height // 2, width // 2), *((height * y // 4, width * x // 4) for y, x in quarters)]
    names = ("image", *(f"{name} quarter of the image" for name in QUARTERS))
    depth = np.where(inside, *(ndimage.distance_transform_edt(mask) for mask in (inside, ~inside)))
    places = [(name, bool(inside[p]), float(depth[p])) for name, p in zip(names, points, strict=True)]
    clear = [place for place in places if place[2] >= 1.5]
    wanted = bool(rng.random() < 0.5)
    pool = [place for place in clear if place[1] == wanted] or clear
    if pool:
        name, yes, radius = pool[int(rng.integers(len(pool)))]
        text = f"Does the exact centre of the {name} lie inside a nucleus?"
        yield Question.closed("place", text, yes, "presence", round(2 * radius, 1))


def touching(labels: np.ndarray) -> Iterator[Question]:
    """Do two labelled objects share a border? Detail: the longest contact, or else the narrowest gap."""
    contacts: dict[tuple[int, int], int] = {}
    for a, b in ((labels[:, 1:], labels[:, :-1]), (labels[1:], labels[:-1])):
        meet = (a != b) & (a > 0) & (b > 0)
        for pair in zip(np.minimum(a, b)[meet].tolist(), np.maximum(a, b)[meet].tolist(), strict=True):
            contacts[pair] = contacts.get(pair, 0) + 1
    text = "Do any two nuclei touch each other?"
    longest = max(contacts.values(), default=0)
    if longest >= 4:
        yield Question.closed("touch", text, True, "contact", float(longest))
    gap = narrowest_gap(labels)
    if not contacts and gap >= 3:
        yield Question.closed("touch", text, False, "contact", gap)


def narrowest_gap(labels: np.ndarray) -> float:
    """The smallest distance in pixels between two labelled objects; infinite for fewer than two."""
    gaps = [np.inf]
    for name in np.unique(labels[labels > 0]):
        distance = ndimage.distance_transform_edt(labels != name)
        other = distance[(labels > 0) & (labels != name)]
        gaps.append(float(other.min(initial=np.inf)) - 1)
    return round(min(gaps), 1)


def brightest(labels: np.ndarray, grey: np.ndarray) -> Iterator[Question]:
    """Is a nucleus more than twice as bright as the median? No question between 1.6 and 2.2 times."""
    areas = visible(labels)
    means = {name: float(grey[labels == name].mean()) for name in areas}
    name = max(means, key=means.__getitem__)
    ratio = means[name] / np.median(list(means.values()))
    if len(areas) < 4 or 1.6 < ratio < 2.2:
        return
    detail = diameter(areas[name] if ratio > 2 else min(areas.values()))
    text = "Is any nucleus at least twice as bright as most others?"
    yield Question.closed("bright", text, bool(ratio > 2), "brightness", detail)


def mitosis(labels: np.ndarray, dividing: int, absent_px: float, rng: Generator) -> Iterator[Question]:
    """Presence and quarter of the nucleus with the label `dividing`; `absent_px` is its usual size, for "no"."""
    area = int((labels == dividing).sum())
    text = "Is a cell in division visible, its chromosomes condensed and bright?"
    if area >= 2 * MIN_AREA:
        yield Question.closed("mitosis", text, True, "mitosis", diameter(area))
        where = quarter_of(ndimage.center_of_mass(labels == dividing), labels.shape)
        if where:
            wrong = [name for name in QUARTERS if name != where]
            text = "In which quarter of the image is the dividing cell?"
            yield choice("mitosis_where", text, where, wrong, rng, "mitosis", diameter(area))
    if area == 0:
        yield Question.closed("mitosis", text, False, "mitosis", absent_px)


def quarter_of(centre: tuple[float, float], shape: tuple[int, int]) -> str:
    """The quarter that contains (row, column), or "" if it is too near a midline."""
    y, x = (value / side - 0.5 for value, side in zip(centre, shape, strict=True))
    if min(abs(y), abs(x)) < CLEAR / 2:
        return ""
    return f"{'upper' if y < 0 else 'lower'} {'left' if x < 0 else 'right'}"


def layers(labels: np.ndarray, names: Sequence[str], rng: Generator) -> Iterator[Question]:
    """Coarse questions on regions [h, w] with codes 0..len(names)-1: the largest, and whether one is visible."""
    shares = np.bincount(labels.ravel(), minlength=len(names)) / labels.size
    largest = int(shares.argmax())
    if shares[largest] > 0.5:
        wrong = [name for i, name in enumerate(names) if i != largest]
        yield choice("layer", "Which layer fills most of the image?", names[largest], wrong, rng, "layer")
    clear = [i for i, share in enumerate(shares) if share == 0 or share > 0.05]
    i = clear[int(rng.integers(len(clear)))]
    yield Question.closed("layer_is", f"Is {names[i]} visible?", bool(shares[i] > 0), "layer")


def tissue_at_centre(tissue: np.ndarray, rng: Generator) -> Iterator[Question]:
    """The tissue at the centre of a slice with codes (0 other, 1 grey, 2 white), and the larger of the two."""
    names = {1: "grey matter", 2: "white matter"}
    row, column = tissue.shape[0] // 2, tissue.shape[1] // 2
    here = int(tissue[row, column])
    if here in names:
        depth = float(ndimage.distance_transform_edt(tissue == here)[row, column])
        if depth >= 1.5:
            text = "Which tissue lies at the exact centre of the image?"
            detail = round(2 * depth, 1)
            yield choice("centre_tissue", text, names[here], [names[3 - here]], rng, "tissue", detail)
    grey, white = int((tissue == 1).sum()), int((tissue == 2).sum())
    if max(grey, white) > 1.2 * min(grey, white) and min(grey, white) > 0:
        text = "Which tissue fills more of the image?"
        order = (names[1], names[2]) if grey > white else (names[2], names[1])
        yield choice("tissue", text, order[0], [order[1]], rng, "tissue")

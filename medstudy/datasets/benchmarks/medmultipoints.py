"""MedMultiPoints: counts, points and boxes of polyps, instruments and sperm cells (arXiv 2505.16647).

From `SimulaMet/MedMultiPoints`, whose rows have one label each: an image with several labels has several rows. All of
it is called train there. By default all images are for testing; with `test_share` the others are for training. The
source does not say which microscope frames are of one video: its neighbours are near copies of each other, so a study
that trains on it reports leaks. The hub's own questions (instruction_dataset) mix the tasks in one answer; here each
label of an image is asked for its number, its points and its boxes. A label without objects is only counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal

from pydantic import Field

from medstudy.data import places, splits
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.data.readers import grouping, hub
from medstudy.data.readers.dataset_card import Card
from medstudy.data.readers.source import Source
from medstudy.errors import DataError
from medstudy.utils.seeding import uniform

VERSION = "1"
NO_CLAIMS = "frames of one video cannot be told apart, so intervals over images would be too narrow"
CARD = Card(
    url="https://huggingface.co/datasets/SimulaMet/MedMultiPoints",
    license="CC-BY-NC-4.0",
    splits=("test",),
    schema_from="simula/datasets.simula.no: medmultipoints.md; Simula/PointDetectCount: README, create_datasetJSON.py",
    images={"test": 10_600},
    typical=(529, 622),
    typical_from="the sample row of its page",
    words=(6, 4),
)
COLUMNS = {
    "img_size": "width and height of the image",
    "points": "[x, y] of each object",
    "bbox": "[x0, y0, x1, y1] of each object",
    "count": "the number of objects",
    "label": "what they are",
}
IMAGES = ("image", "image_data")  # the page's name of the column, and that of the authors' code
NAMES = {  # label -> its plural in a question
    "polyps": "polyps", "instrument": "instruments", "normal": "normal sperm cells",
    "cluster": "clusters of sperm cells", "pinhead": "pinhead sperm cells",
}


class Params(Source):
    """See `Source`. test_share: of the images."""

    name: Literal["medmultipoints"] = "medmultipoints"
    path: str = "SimulaMet/MedMultiPoints"
    test_share: float = Field(default=1.0, gt=0, le=1)


def load(params: Params, split: str) -> Iterator[Example]:
    """One example per image, with the questions about all of its labels."""
    if split != "test" and params.test_share == 1:
        return
    rows = hub.rows(params.path, "train", COLUMNS, revision=params.revision, images=IMAGES)
    found = grouping.by_image(_named(rows), "MedMultiPoints")
    examples = (_example(*image, split) for image in found if _split(image[0].sha256, params) == split)
    yield from splits.taken(examples, params, split)


def _named(rows: Iterable[dict]) -> Iterator[dict]:
    """Each row with its image as `image`."""
    for row in rows:
        images = [row.pop(name) for name in IMAGES if row.get(name)]
        yield row | {"image": images[0] if images else None}


def _split(name: str, params: Params) -> str:
    if uniform("test", params.seed, name) < params.test_share:
        return "test"
    return "val" if splits.held_out(name[:16], params.val_share, params.seed) else "train"


def _example(picture: Picture, rows: list[grouping.NumberedRow], split: str) -> Example:
    name, first = picture.sha256[:16], rows[0][1]
    organ = first.get("organ") or "unknown"
    modality = "microscopy" if organ == "Microscopy" else "endoscopy"
    return grouping.example(
        CARD, dataset="medmultipoints", split=split, image_id=name, image=picture,
        questions=tuple(question for number, row in rows for question in _questions(number, row, picture)), group=name,
        family=modality, modality=modality, anatomy=organ,
    )


def _questions(number: int, row: dict, picture: Picture) -> Iterator[Question]:
    """How many, where, and in which boxes. Raises DataError for a row whose parts disagree."""
    what, points, boxes = NAMES.get(row["label"], row["label"]), row["points"] or (), row["bbox"] or ()
    size, stated = [picture.width, picture.height], list(row["img_size"])
    if not len(points) == len(boxes) == row["count"] or size != stated:
        raise DataError(
            f"A row of MedMultiPoints has as many points and boxes as it counts, and an image of its img_size, but row "
            f"{number} has {len(points)} points, {len(boxes)} boxes, the count {row['count']}, img_size {stated} and "
            f"an image of {size}. Leave the row out, or pin a revision that agrees."
        )
    tags = grouping.tags(label=row["label"], source=row.get("classification"), method=row.get("collection_method"))
    about = {"kind": "count", "text": f"How many {what} are there in the image?", "answer": f"{row['count']}"}
    yield Question(id=f"{number}-count", task=f"{row['label']} count", tags=tags, **about)
    if points:
        yield Question(f"{number}-point", f"Point to all {what}.", places.written(map(tuple, points)), "point",
                       f"{row['label']} point", tags=tags)
        yield Question(f"{number}-box", f"Draw a box around each of the {what}.", places.written(map(tuple, boxes)),
                       "box", f"{row['label']} box", tags=tags)

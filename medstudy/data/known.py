"""What is known of the images of a split beyond its Arrow file: boxes of questions, and the size of a pixel.

It is a file of its own, SPLIT.known.parquet, which only a split has of which something is known: the Arrow files of all
others stay as they were.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from medstudy.data.example import Example
from medstudy.resolution.sizes import Box

COLUMNS = ["image", "question", "top", "left", "height", "width", "um_per_px"]


def rows(examples: Iterable[Example], start: int = 0) -> Iterator[dict]:
    """A row for each box and each known size of a pixel. image, question: their numbers; question -1: of the image."""
    for number, example in enumerate(examples, start):
        if example.um_per_px is not None:
            yield {"image": number, "question": -1, "um_per_px": example.um_per_px}
        for place, question in enumerate(example.questions):
            if question.box is not None:
                yield {"image": number, "question": place} | question.box._asdict()


def write(known: list[dict], arrow: Path) -> None:
    """Write the rows beside the Arrow file of their split; none: no file."""
    file = file_of(arrow)
    if known:
        pd.DataFrame(known, columns=COLUMNS).to_parquet(file)
    else:
        file.unlink(missing_ok=True)


def added(examples: list[Example], arrow: Path) -> list[Example]:
    """The examples of an Arrow file with what is known of them."""
    if not (file := file_of(arrow)).is_file():
        return examples
    examples = list(examples)
    for number, of_image in pd.read_parquet(file).groupby("image"):
        example, questions = examples[number], list(examples[number].questions)
        for row in of_image[of_image["question"] >= 0].itertuples():
            box = Box(*(int(value) for value in (row.top, row.left, row.height, row.width)))
            questions[row.question] = replace(questions[row.question], box=box)
        spacing = of_image["um_per_px"].dropna()
        own = float(spacing.iloc[0]) if len(spacing) else None
        examples[number] = replace(example, questions=tuple(questions), um_per_px=own)
    return examples


def file_of(arrow: Path) -> Path:
    """SPLIT.arrow -> SPLIT.known.parquet"""
    return arrow.with_suffix(".known.parquet")


def inside(box: tuple[float, float, float, float], height: int, width: int) -> Box:
    """The smallest box of whole pixels around (x0, y0, x1, y1) in pixels, cut to the image; at least one pixel."""
    x0, y0, x1, y1 = box
    top, left = (int(np.clip(np.floor(low), 0, most - 1)) for low, most in ((y0, height), (x0, width)))
    bottom, right = (int(np.clip(np.ceil(high), low + 1, most))
                     for high, low, most in ((y1, top, height), (x1, left, width)))
    return Box(top, left, bottom - top, right - left)

"""A gallery of a data set: a few images of each family, each with one question. Only images that may be shown."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from matplotlib import pyplot
from matplotlib.figure import Figure

from medstudy.data.encoded_image import pil
from medstudy.data.example import Example


def draw(examples: Iterable[Example], columns: int = 4) -> Figure | None:
    """A figure with a row for each family, up to `columns` images each, at native size; None if none may be shown."""
    chosen = choose(examples, columns)
    if not chosen:
        return None
    figure, axes = pyplot.subplots(len(chosen), columns, figsize=(2.6 * columns, 3.2 * len(chosen)), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for row, examples_of_family in zip(axes, chosen.values(), strict=True):
        for axis, example in zip(row, examples_of_family, strict=False):
            axis.imshow(pil(example.image), interpolation="none")
            axis.set_title(_title(example), fontsize=7, loc="left")
    figure.tight_layout()
    return figure


def choose(examples: Iterable[Example], count: int) -> dict[str, list[Example]]:
    """The first `count` images of each family that may be shown, by family."""
    chosen: dict[str, list[Example]] = {}
    for example in examples:
        if example.render and len(chosen.setdefault(example.family, [])) < count:
            chosen[example.family].append(example)
    return chosen


def _title(example: Example) -> str:
    question = example.questions[0]
    size = f"{example.family}, {example.image.width} x {example.image.height} px"
    text = textwrap.shorten(question.text, 90, placeholder=" …")
    return "\n".join([size, *textwrap.wrap(text, 42), f"answer: {textwrap.shorten(question.answer, 40)}"])

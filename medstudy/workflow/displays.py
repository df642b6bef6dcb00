"""What the notebooks show besides their results: an image at each rung, a packed row, images with their answers.

Nothing here writes a file or changes a result. Images, questions and answers appear only if the data set allows them in
a rendered notebook (`Example.render`); sizes and counts appear for every data set.
"""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from huggingface_hub import try_to_load_from_cache
from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image, ImageOps

from medstudy import datasets, models, paths
from medstudy.data import arrow_store
from medstudy.data.encoded_image import pil
from medstudy.data.example import GREEDY, Example
from medstudy.data.perceptual_hash import COLUMNS, fingerprint
from medstudy.engine import shared_prefix, views
from medstudy.engine.batches import plan_views
from medstudy.engine.row_layout import RowLayout
from medstudy.errors import MedstudyError, ResolutionError
from medstudy.models import published_configs
from medstudy.models.family import Family
from medstudy.params import Model, Study
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Single
from medstudy.resolution.sizes import Geometry, Size, View
from medstudy.utils import formatting

HIDDEN = "No image of these data may appear in a rendered notebook."
MASK_SIDE = 800  # pixels of a drawn mask; a longer row is drawn smaller
UNKNOWN = "The model's files are not on this machine, so its sizes are not known here."
COUNTED = 2000  # images whose visual tokens are counted
FIRST = 8  # images; the largest of them is shown at every rung
ANSWERS = 4  # questions shown with their image
PANELS = 3  # rungs in a row
DRAWN_SIDE = 1200  # pixels of a drawn image; of a larger one every second, third, … pixel is drawn
COPIED_SIDE = 1024  # pixels of the image whose copies are compared


def outline(model: Model) -> Family | None:
    """The model without its weights; None if its files are not on this machine, because a display fetches nothing."""
    name = model.id
    if model.server is not None:
        return None
    known = name == "base" or paths.resolve(name).is_dir() or published_configs.outline(name) is not None
    if not known and not isinstance(try_to_load_from_cache(name, "config.json", revision=model.revision), str):
        return None
    try:
        return models.sketch(model)
    except MedstudyError:  # the job `base` loads the model and explains what is wrong with it
        return None


def geometry(model: Model) -> Geometry | None:
    """The sizes that a model can be shown; None if they are not known on this machine."""
    if model.server is not None:
        return model.server.geometry if model.server.factor else None
    family = outline(model)
    try:
        return family and family.geometry
    except MedstudyError:
        return None


def showable(examples: Sequence[Example]) -> Example | None:
    """The largest of the first images that may appear in a rendered notebook; None without any."""
    allowed = [example for example in examples if example.render][:FIRST]
    return max(allowed, key=lambda example: example.image.height * example.image.width, default=None)


def token_table(images: pd.DataFrame, policies: Sequence[Single], geometry: Geometry | None) -> pd.DataFrame | str:
    """What images (columns height and width) take at each rung, one row per rung; a sentence if that is not known.

    Columns: the median size shown (pixels), visual tokens (median and most), the share of images that lose pixels.
    """
    if geometry is None:
        return UNKNOWN
    sizes = [Size(int(height), int(width)) for height, width in images[["height", "width"]].head(COUNTED).to_numpy()]
    rows = []
    for policy in policies:
        if "um_per_px" in policy.reads:  # which the sizes do not say
            continue
        try:
            shown = [plan(policy, size, geometry)[0] for size in sizes]
        except ResolutionError as error:  # the study stops where it shows such an image to a model
            return str(error)
        smaller = [view.detail.pixels < size.pixels for view, size in zip(shown, sizes, strict=True)]
        sides = [(*view.size, view.visual_tokens) for view in shown]
        frame = pd.DataFrame(sides, columns=["height", "width", "tokens"])
        medians = frame.median()
        rows.append({
            "rung": policy.label, "height, median": medians["height"], "width, median": medians["width"],
            "visual tokens, median": medians["tokens"], "most": frame["tokens"].max(),
            "images made smaller, %": 100 * sum(smaller) / len(smaller),
        })
    return pd.DataFrame(rows).set_index("rung").round().astype(int)


def rungs(
    example: Example | None, policies: Sequence[Single], geometry: Geometry | None, interpolation: str
) -> Figure | str:
    """An image as the model sees it at each rung, enlarged to one size; a sentence if no image may be shown."""
    if example is None or geometry is None:
        return HIDDEN if example is None else UNKNOWN
    try:
        shown = [plan_views(policy, example, geometry)[0] for policy in policies]
    except ResolutionError as error:
        return str(error)
    figure, axes = _panels(len(shown))
    for axis, view in zip(axes, shown, strict=True):
        _draw(axis, example, view, interpolation)
        axis.set_title(_size(view.label, view.size, view.visual_tokens), fontsize=8, parse_math=False)
    figure.tight_layout()
    return _closed(figure)


def row_parts(row: shared_prefix.Row, image_token: int, example: Example) -> pd.DataFrame:
    """The parts of a packed row in order, each with its tokens, those of the image, and those that carry the loss."""
    parts = [{"part": "prefix: system text and image", "tokens": len(row.prefix),
              "visual tokens": row.prefix.count(image_token), "answer tokens (the loss)": 0, "text": ""}]
    for number, (question, branch, start) in enumerate(
        zip(example.questions, row.branches, row.answers, strict=True), 1
    ):
        text = f"{question.text} → {question.answer}" if example.render else "(not shown)"
        parts.append({
            "part": f"question {number}", "tokens": len(branch), "visual tokens": branch.count(image_token),
            "answer tokens (the loss)": len(branch) - start, "text": textwrap.shorten(text, 60, placeholder=" …"),
        })
    return pd.DataFrame(parts).set_index("part")


def mask(layout: RowLayout) -> Figure:
    """Which token of a packed row (top to bottom) may attend to which (left to right): dark if it may."""
    # a long row is drawn smaller: the plan with all lengths divided by one number has the same shape
    step = max(1, math.ceil(len(layout) / MASK_SIDE))
    small = RowLayout(
        tuple(math.ceil(length / step) for length in layout.prefixes),
        tuple(tuple(math.ceil(length / step) for length in image) for image in layout.branches),
        tuple(tuple((start // step, math.ceil(end / step)) for start, end in image) for image in layout.bidirectional),
    )
    figure, axis = pyplot.subplots(figsize=(5.5, 5))
    axis.imshow(small.mask.numpy(), cmap="Greys", interpolation="nearest", vmin=0, vmax=1.4)
    # lines between the parts, and the name of each part at its middle
    images, branches = small.prefixes, [length for image in small.branches for length in image]
    named = [(f"image {number}" if len(images) > 1 else "image", length) for number, length in enumerate(images, 1)]
    named += [(f"question {number}", length) for number, length in enumerate(branches, 1)]
    names, lengths = zip(*[(name, length) for name, length in named if length], strict=True)
    edges = [sum(lengths[:count]) for count in range(len(lengths) + 1)]
    for edge in edges[1:-1]:
        axis.axhline(edge - 0.5, color="tab:blue", linewidth=0.6)
        axis.axvline(edge - 0.5, color="tab:blue", linewidth=0.6)
    middles = [(start + end - 1) / 2 for start, end in zip(edges, edges[1:], strict=False)]
    axis.set_yticks(middles, names, fontsize=7)
    axis.set_xticks(middles, names, fontsize=7, rotation=90)
    axis.set(xlabel="is attended to", ylabel="attends")
    figure.tight_layout()
    return _closed(figure)


def answers(predictions: pd.DataFrame, examples: Sequence[Example], interpolation: str) -> Figure | str:
    """Images with question, answer and reference, shown at the lowest and at the highest rung.

    One question per image; those whose two answers differ come first. A sentence if no image may be shown.
    """
    rows = predictions[(predictions["control"] == "none") & (predictions["decoding"] == GREEDY) & predictions["render"]]
    if rows.empty:
        return HIDDEN
    ladder = rows.drop_duplicates("inference").sort_values("budget_pixels")["inference"].tolist()
    ends = list(dict.fromkeys([ladder[0], ladder[-1]]))
    chosen = _questions(rows, ends)
    images = {(example.dataset, example.image_id): example for example in examples if example.render}
    figure = pyplot.figure(figsize=(3.6 * len(ends), 3.3 * len(chosen)), layout="constrained")
    bands = figure.subfigures(len(chosen), 1, squeeze=False)[:, 0]
    for band, key in zip(bands, chosen, strict=True):
        example = images[key[:2]]
        question = next(question for question in example.questions if question.id == key[2])
        heading = textwrap.shorten(f"{question.text} Reference: {question.answer}", 150, placeholder=" …")
        band.suptitle("\n".join(textwrap.wrap(heading, 40 * len(ends))), fontsize=8, parse_math=False)
        for axis, inference in zip(band.subplots(1, len(ends), squeeze=False)[0], ends, strict=True):
            _answered(axis, example, rows, (*key, inference), interpolation)
    return _closed(figure)


def view(rung: str, example: Example, predictions: pd.DataFrame, gflops: pd.Series, interpolation: str) -> Figure:
    """An image at one rung, its cost, and a model's answer to every question; a check mark is a right answer."""
    rows = predictions[(predictions["inference"] == rung) & (predictions["image_id"] == example.image_id)]
    first = rows.iloc[0]
    size = Size(int(first["shown_height"]), int(first["shown_width"]))
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 4))
    _draw(left, example, View(rung, (size,), size, int(first["visual_tokens"])), interpolation)
    cost = f"{_size(rung, size, first['visual_tokens'])}, {gflops[rung]:.2f} GFLOPs"
    left.set_title(cost, fontsize=9, parse_math=False)
    right.set_axis_off()
    given = {(row.question_id, row.decoding): row.raw_text for row in rows.itertuples()}
    lines = []
    for question in example.questions:
        answer = given.get((question.id, GREEDY), "")
        mark = "✓" if answer.strip().lower() == question.answer.strip().lower() else "✗"
        text = "\n".join(textwrap.wrap(question.text, 52))
        lines.append(f"{text}\n   {mark} {textwrap.shorten(answer, 48, placeholder=' …') or '(empty)'}")
    right.text(0, 1, "\n\n".join(lines), va="top", fontsize=9, parse_math=False)
    figure.tight_layout()
    return _closed(figure)


def _questions(rows: pd.DataFrame, ends: list[str]) -> list[tuple[str, str, str]]:
    """(dataset, image, question) of up to `ANSWERS` questions of different images; differing answers come first."""
    key = ["dataset", "image_id", "question_id"]
    table = rows[rows["inference"].isin(ends)].groupby(key, sort=False)["raw_text"].nunique().reset_index()
    table = table.sort_values("raw_text", ascending=False, kind="stable").drop_duplicates(["dataset", "image_id"])
    return list(table.head(ANSWERS)[key].itertuples(index=False, name=None))


def _answered(axis: Axes, example: Example, rows: pd.DataFrame, key: tuple, interpolation: str) -> None:
    """An image at one rung, with the answer that the model gave to one question."""
    axis.set_axis_off()
    same = rows[["dataset", "image_id", "question_id", "inference"]].eq(list(key)).all(axis=1)
    if not same.any():
        return
    row = rows[same].iloc[0]
    size = Size(int(row["shown_height"]), int(row["shown_width"]))
    _draw(axis, example, View(row["inference"], (size,), size, int(row["visual_tokens"])), interpolation)
    answer = textwrap.shorten(str(row["raw_text"]), 60, placeholder=" …") or "(empty)"
    words = f"{_size(row['inference'], size, row['visual_tokens'])}\nanswer: {answer}"
    axis.set_title("\n".join(line for part in words.split("\n") for line in textwrap.wrap(part, 42)), fontsize=8,
                   parse_math=False)


def _draw(axis: Axes, example: Example, view: View, interpolation: str) -> None:
    """The pixels of a view, without smoothing, at the native aspect ratio."""
    axis.set_axis_off()
    if view.visual_tokens:
        pixels = views.render(example.image, view, interpolation).numpy()
        step = math.ceil(max(pixels.shape) / DRAWN_SIDE)
        extent = (0, example.image.width, example.image.height, 0)
        axis.imshow(pixels[::step, ::step], interpolation="nearest", extent=extent)


def _size(label: str, size: Size, visual_tokens: int) -> str:
    return f"{label}\n{size.width} × {size.height} px, {int(visual_tokens)} visual tokens"


def _closed(figure: Figure) -> Figure:
    """The figure as a cell's last value; an open one would be shown a second time by pyplot."""
    pyplot.close(figure)
    return figure


def _panels(count: int) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels without frames, up to `PANELS` in a row."""
    columns = min(count, PANELS)
    lines = math.ceil(count / columns)
    figure, axes = pyplot.subplots(lines, columns, figsize=(3.2 * columns, 3.6 * lines), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    return figure, list(axes.flat)[:count]


def first_data_set(study: Study) -> str:
    """The name of the data set whose claims have ids without a suffix; without claims, of the first one."""
    return next(iter(datasets.with_claims(study.datasets)), datasets.label(study.datasets[0]))


def copies(folders: Sequence[Path]) -> pd.DataFrame:
    """Fingerprints of a test image (in a split `train`), of copies of it and of the last test image (in `test`).

    `leakage.find` takes the table; `image_id` names the copies.
    """
    examples = arrow_store.read_all(folders, "test")
    first, other = (pil(examples[place].image).convert("RGB") for place in (0, -1))
    first.thumbnail((COPIED_SIDE, COPIED_SIDE))
    half = first.resize((max(1, first.width // 2), max(1, first.height // 2)))
    stream = io.BytesIO()
    first.save(stream, format="JPEG", quality=50)
    changed = {
        "the image": first, "at half the size": half, "as a JPEG of quality 50": Image.open(stream).convert("RGB"),
        "mirrored": ImageOps.mirror(first), "turned by 90°": first.rotate(90, expand=True),
        "brighter by a tenth": first.point([min(255, round(1.1 * level)) for level in range(256)] * 3),
        "another image": other,
    }
    rows = [
        {"dataset": "copies", "split": "train" if name == "the image" else "test", "image_id": name, "place": 0,
         "group": name} | asdict(fingerprint(np.asarray(picture)))
        for name, picture in changed.items()
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def file_sizes(folder: Path) -> dict[str, str]:
    """The files of a folder with their sizes."""
    return {file.name: formatting.size(file.stat().st_size) for file in sorted(folder.iterdir())}

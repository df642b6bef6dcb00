"""The same image as each inference policy shows it, with every regime's answer to one question."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from PIL import Image

from medstudy.data.encoded_image import Picture
from medstudy.data.example import LETTERS
from medstudy.report import captions, selections, style
from medstudy.report.study_data import StudyData
from medstudy.resolution.sizes import Size, View

TITLE = "The same image from low to native resolution, with every regime's answer"
PANELS = 5  # rungs drawn; more do not fit a page
LEGEND, HEADING = 0.45, 0.32  # inches, two lines each
WIDTH = 17  # characters of an answer
IMAGES = 6  # rows drawn, first the phantom's families
GLYPHS = dict(zip("osD^v<>PX*dpHh8", "●■◆▲▼◀▶✚✖★♦⬟⬣⬢⬤", strict=True))  # for the markers of `style.regime_style`
COLUMNS = ["dataset", "family", "image_id", "question_id", "task", "question", "detail_px", "answer", "reference",
           "inference", "budget_pixels", "shown_height", "shown_width", "visual_tokens", "interpolation", "regime",
           "given", "correct", "seeds"]


def build(study: StudyData) -> pd.DataFrame:
    """One row per image x rung x regime: the most common answer over seeds, `correct` = seeds scored 0.5 or more.

    One image per family of each data set: among fine questions on images that may be rendered, the one whose detail is
    closest to the family's median (ties: first by id). The choice does not depend on answers.
    """
    rows = selections.plain(study.scores)
    image = rows.groupby(["dataset", "image_id"], sort=False, observed=True).ngroup()
    once = rows.loc[~image.duplicated(), ["dataset", "image_id"]]
    rendered = np.array([pair in study.images for pair in once.itertuples(index=False, name=None)], bool)
    rows = rows[rendered[image] & rows["render"]]
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    families = [
        part
        for name in selections.datasets(rows)
        for _, part in rows[rows["dataset"] == name].groupby("family", observed=True)
    ]
    keys = pd.DataFrame([_typical(part) for part in families])
    keys = keys.head(IMAGES)
    chosen = rows[rows["image_id"].isin(keys["image_id"]) & rows["question_id"].isin(keys["question_id"])]
    chosen = chosen.merge(keys, on=["dataset", "image_id", "question_id"])
    chosen = chosen[chosen["inference"].isin(selections.evenly_spaced(selections.ladder(rows), PANELS))]
    known = _questions(chosen, study.examples)
    references = [_reference(a, o) for a, o in zip(chosen["answer"], known["options"], strict=True)]
    return _answers(chosen.assign(question=known["text"].fillna(chosen["task"]), reference=references))


def _typical(rows: pd.DataFrame) -> dict:
    once = rows.drop_duplicates(["image_id", "question_id"])
    fine = once.dropna(subset="detail_px")
    short = fine[fine["kind"] != "description"]  # an answer that fits under its image
    pool = short if len(short) else fine if len(fine) else once.assign(detail_px=1.0)
    distance = (np.log(pool["detail_px"].clip(lower=1)) - np.log(pool["detail_px"].clip(lower=1).median())).abs()
    best = pool.assign(distance=distance).sort_values(["distance", "image_id", "question_id"]).iloc[0]
    return best[["dataset", "image_id", "question_id"]].to_dict()


def _questions(rows: pd.DataFrame, examples: pd.DataFrame) -> pd.DataFrame:
    """Text and options of each row's question; missing if `examples` lacks them."""
    keys = ["dataset", "image_id", "question_id"]
    if not set(keys) <= set(examples.columns):
        return pd.DataFrame(index=rows.index, columns=["text", "options"])
    known = examples.drop_duplicates(keys).set_index(keys).reindex(columns=["text", "options"])
    return known.reindex(pd.MultiIndex.from_frame(rows[keys])).set_index(rows.index)


def _reference(answer: str, options: object) -> str:
    """The answer; for a choice with its option's text: "B (left lung)"."""
    place = LETTERS.find(answer) if len(answer) == 1 else -1
    return f"{answer} ({options[place]})" if np.ndim(options) and 0 <= place < len(options) else answer


def _answers(rows: pd.DataFrame) -> pd.DataFrame:
    by = [c for c in COLUMNS if c not in ("given", "correct", "seeds")]
    groups = rows.assign(hit=rows["score"] >= 0.5).groupby(by, dropna=False, sort=False, observed=True)
    table = groups.agg(given=("raw_text", _mode), correct=("hit", "sum"), seeds=("seed", "nunique")).reset_index()
    return selections.texts(table)[COLUMNS].sort_values(["family", "budget_pixels", "regime"], ignore_index=True)


def _mode(answers: pd.Series) -> str:
    return answers.value_counts().sort_index().idxmax()


def draw(table: pd.DataFrame, images: Mapping[str, Image.Image | Picture], fig: Figure | None = None) -> Figure:
    """One row per image, one column per rung; below each panel every regime's answer and how many seeds were right."""
    policies = selections.ladder(table)
    questions = pd.concat(
        table[table["dataset"] == name].drop_duplicates(["image_id", "question_id"])
        for name in selections.datasets(table)
    )
    regimes = selections.regimes(table)
    height = 1.42 + 0.135 * len(regimes)
    fig = fig or style.new_figure(style.DOUBLE, LEGEND + (HEADING + height) * len(questions))
    top, *bands = fig.subfigures(
        1 + 2 * len(questions), 1, height_ratios=[LEGEND, *[HEADING, height] * len(questions)]
    )
    handles = [Line2D([], [], linestyle="", label=style.regime_label(r), **style.regime_style(r)) for r in regimes]
    top.legend(handles=handles, loc="center", ncols=min(6, len(handles)), title="answers of models trained at")
    for heading, band, question in zip(bands[::2], bands[1::2], questions.itertuples(), strict=True):
        heading.text(0.01, 0.5, _heading(question), va="center", fontsize=7.5)
        axes = band.subplots(1, len(policies), squeeze=False)[0]
        rows = table[
            (table["dataset"] == question.dataset)
            & (table["image_id"] == question.image_id)
            & (table["question_id"] == question.question_id)
        ]
        image = images[question.dataset, question.image_id]
        for ax, policy in zip(axes, policies, strict=True):
            _panel(ax, rows[rows["inference"] == policy], image, regimes)
    return fig


def _heading(question: Any) -> str:
    detail = "coarse" if pd.isna(question.detail_px) else f"deciding detail {question.detail_px:.3g} px"
    words = f"{question.dataset}, {question.family} ({detail}): {question.question} Reference: {question.reference}"
    return "\n".join(textwrap.wrap(words, 120, max_lines=2, placeholder="…"))


def _panel(ax: Axes, rows: pd.DataFrame, image: Image.Image, regimes: list[str]) -> None:
    ax.set_axis_off()
    if rows.empty:
        return
    first = rows.iloc[0]
    pixels = shown(image, first["shown_height"], first["shown_width"], first["interpolation"])
    ax.imshow(pixels, interpolation="nearest", extent=(0, image.width, image.height, 0))
    size = f"{first['shown_width']}×{first['shown_height']} px, {first['visual_tokens']} tokens"
    ax.set_title(f"{style.rung_label(first['inference'])}\n{size}", fontsize=6.5, pad=2)
    for line, regime in enumerate(regimes):
        for row in rows[rows["regime"] == regime].itertuples():
            _answer(ax, row, line)


def _answer(ax: Axes, row: Any, line: int) -> None:
    """One line below the image: the regime's marker, its answer, and how many of its seeds were right."""
    look = style.regime_style(row.regime)
    words = textwrap.shorten(row.given, WIDTH, placeholder="…") or row.given[: WIDTH - 1] + "…"
    ax.annotate(
        f"{GLYPHS[look['marker']]} {words} {row.correct}/{row.seeds}",
        (0.5, 0),
        (0, -4 - 8.5 * line),
        xycoords="axes fraction",
        textcoords="offset points",
        ha="center",
        va="top",
        fontsize=6.5,
        color=look["color"],
        fontweight="bold" if row.correct * 2 > row.seeds else "normal",
    )


def shown(image: Image.Image | Picture, height: int, width: int, interpolation: str) -> np.ndarray:
    """The pixels that the model receives: uint8 [height, width, 3]."""
    from medstudy.engine import views  # loads torch, which no other figure needs

    size = Size(int(height), int(width))
    return views.render(image, View("", (size,), size, 0), interpolation).numpy()


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What is drawn, n, and how to read it."""
    n = table[["image_id", "question_id"]].drop_duplicates()
    return (
        "**Question.** What is left of an image at each rung, and do the answers change with it? **Method.** One test "
        f"image for each of {n['image_id'].nunique()} families, at up to {PANELS} rungs: the image whose short-answer "
        "fine question depends on a detail closest to the family's median size (a coarse question if the family has no "
        "such question), chosen without looking at any answer. Pixels are drawn as the model receives them, enlarged "
        "without smoothing, at the native aspect ratio. The model's grid rounds both sides to whole visual tokens, so "
        f"pixels are not square at the lowest rungs. **n.** {len(n)} images, one question each, "
        f"{captions.plural(table['seeds'].max(), 'seed')} a regime: illustrations, not measurements, so there are no "
        "intervals. **How to read it.** The pixel budget grows from left to native on the right. Below each panel: "
        "each regime by its marker, its most common answer over seeds, and how many seeds were right (bold: most)."
    )

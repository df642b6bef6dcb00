"""How models write coordinates, as their makers say, so that the prompt, the training answer and the reading agree.

    CONVENTIONS["thousand_pairs"].write("box", [(10, 20, 50, 60)], frame)   # "(25,50),(125,150)"

`BY_MODEL` names the convention of a model by its `model_type` in transformers; a study's `model.coordinates` states
another. A model without one cannot be asked for places: nothing is guessed. LLaVA's is disputed (LLaVA issues 606, 822:
fractions of a padded square for some of its data, of the image for other), Gemma 3 and Idefics3 state none.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from medstudy.data import places
from medstudy.data.example import Question
from medstudy.errors import ModelError
from medstudy.resolution.frames import Frame


@dataclass(frozen=True)
class Convention:
    """How coordinates are written: from 0 to `span` on both axes; None: pixels of the image as the model sees it.

    box, point: one of them, with the places x0, y0, x1, y1 or x, y. around: what encloses all of them. y_first: whether
    y comes before x. decimals: of a number. most: the largest number.
    """

    name: str
    span: float | None
    box: str
    point: str
    around: str = "{}"
    joined: str = ", "
    y_first: bool = False
    decimals: int = 0
    most: float | None = None

    def asks(self, kind: str) -> str:
        """The sentence that a prompt ends with, for a question of kind "point" or "box"."""
        one = (self.point if kind == "point" else self.box).replace(":04d", "")
        form = self.around.format(one.format(**{name: name for name in ("x", "y", "x0", "y0", "x1", "y1")}))
        corners = "" if kind == "point" else " x0, y0 is the upper left corner and x1, y1 the lower right one."
        unit = "in pixels of the image as you see it" if self.span is None else f"from 0 to {self.span:g}"
        whole = "whole numbers" if not self.decimals else "numbers"
        what = "every point" if kind == "point" else "every box"
        return f"Write {what} as {form} and nothing else: {whole} {unit}, x from the left and y from the top.{corners}"

    def write(self, kind: str, items: Sequence[tuple[float, ...]], frame: Frame) -> str:
        """Points (x, y) or boxes (x0, y0, x1, y1) in native pixels, as this convention writes them."""
        if not items:
            return "none"
        parts = []
        for item in items:
            numbers = [self._number(value) for pair in zip(item[::2], item[1::2], strict=True)
                       for value in self._scaled(pair, frame)]
            names = ("x", "y") if kind == "point" else ("x0", "y0", "x1", "y1")
            parts.append((self.point if kind == "point" else self.box).format(**dict(zip(names, numbers, strict=True))))
        return self.around.format(self.joined.join(parts))

    def read(self, kind: str, text: str, frame: Frame) -> tuple[tuple[float, ...], ...] | None:
        """The points or boxes in an answer, x before y, in native pixels; None if nothing can be read."""
        items = places.read(text, kind, self.y_first) if frame.seen else None
        return None if items is None else tuple(self._native(item, frame) for item in items)

    def _native(self, numbers: tuple[float, ...], frame: Frame) -> tuple[float, ...]:
        out: list[float] = []
        width, height = self._spans(frame)
        for pair in zip(numbers[::2], numbers[1::2], strict=True):
            x, y = pair[::-1] if self.y_first else pair
            out += frame.to_native((x * frame.shown.width / width, y * frame.shown.height / height))
        return tuple(out)

    def _spans(self, frame: Frame) -> tuple[float, float]:
        return (self.span, self.span) if self.span else (frame.shown.width, frame.shown.height)

    def _scaled(self, point: tuple[float, float], frame: Frame) -> tuple[float, float]:
        x, y = frame.to_shown(point)
        width, height = self._spans(frame)
        return x * width / frame.shown.width, y * height / frame.shown.height

    def _number(self, value: float) -> float | int:
        value = max(0.0, value if self.most is None else min(self.most, value))
        return round(value, self.decimals) if self.decimals else round(value)


_JSON = {"box": '{{"bbox_2d": [{x0}, {y0}, {x1}, {y1}]}}', "point": '{{"point_2d": [{x}, {y}]}}', "around": "[{}]"}
CONVENTIONS = {convention.name: convention for convention in (
    Convention("thousand", 1000, **_JSON),
    Convention("thousand_pairs", 1000, "({x0},{y0}),({x1},{y1})", "({x},{y})", joined=" "),
    Convention("thousand_box_tag", 1000, "[{x0}, {y0}, {x1}, {y1}]", "[{x}, {y}]", "<box>[{}]</box>"),
    Convention("thousand_y_first", 1000, '{{"box_2d": [{y0}, {x0}, {y1}, {x1}]}}', '{{"point": [{y}, {x}]}}', "[{}]",
               y_first=True),
    Convention("shown_pixels", None, **_JSON),
    Convention("fraction", 1, "[{x0}, {y0}, {x1}, {y1}]", "[{x}, {y}]", decimals=3),
    Convention("percent", 100, "[{x0}, {y0}, {x1}, {y1}]", '<point x="{x}" y="{y}">', decimals=1),
    Convention("location_tokens", 1024, "<loc{y0:04d}><loc{x0:04d}><loc{y1:04d}><loc{x1:04d}>",
               "<loc{y:04d}><loc{x:04d}>", joined=" ; ", y_first=True, most=1023),
)}
Coordinates = Literal[
    "thousand", "thousand_pairs", "thousand_box_tag", "thousand_y_first", "shown_pixels", "fraction", "percent",
    "location_tokens",
]
BY_MODEL = {  # model_type: convention; the source
    "qwen2_vl": "thousand_pairs",  # arXiv 2409.12191, section 2.2.1: [0, 1000), between <|box_start|> tags
    "qwen2_5_vl": "shown_pixels",  # QwenLM/Qwen3-VL issues 676 and 866: absolute, of the image after the processor
    "qwen3_vl": "thousand",  # QwenLM/Qwen3-VL issue 1486 and its cookbook on 2D grounding
    "qwen3_vl_moe": "thousand",
    "internvl": "thousand_box_tag",  # internvl.readthedocs.io, chat data format: <box>[[x1, y1, x2, y2]]</box>, 0-1000
    "glm4v": "thousand",  # zai-org/GLM-V, skills: x = round(x / W · 1000)
    "glm4v_moe": "thousand",
    "paligemma": "location_tokens",  # big_vision's PaliGemma: <loc0000> to <loc1023>, y first
    "molmo": "percent",  # arXiv 2409.17146: <point x="10.0" y="20.0" alt="…">, per cent of the image
}


def of_model(model_type: str, stated: str | None = None) -> str:
    """The name of a model's convention; "" if its makers state none. stated: by the study, before any other."""
    return stated or BY_MODEL.get(model_type, "")


def check_known(datasets: Iterable[Any], models: Iterable[Any]) -> None:
    """Raise ValueError if a data set with `locate` is asked of a family whose coordinates are not known.

    Of family auto they are known once the model is loaded.
    """
    if any(getattr(dataset, "locate", False) for dataset in datasets):
        for model in models:
            if model.family != "auto" and not of_model(model.family, model.coordinates):
                raise ValueError(
                    f"locate asks for points and boxes, but it is not known how models of family {model.family} write "
                    f"coordinates: set model.coordinates to one of {', '.join(CONVENTIONS)}"
                )


NUMBER_ONLY = "Answer with one whole number in digits and nothing else."
OF_THE_WHOLE = "They are coordinates of the whole image, which is shown before its crops."


def asked(question: Question, convention: str, frame: Frame) -> Question:
    """A question as a model is asked it: with the form of its answer, and its reference in the model's coordinates.

    Only counts, points and boxes differ. frame: of the image as shown. Raises ModelError for a point or box if the
    model has no convention.
    """
    if question.kind == "count":
        return replace(question, text=f"{question.text} {NUMBER_ONLY}")
    if question.kind not in places.KINDS:
        return question
    if convention not in CONVENTIONS:
        raise ModelError(
            f"Question {question.id!r} asks for a {question.kind}, but it is not known how this model writes "
            f"coordinates. Set model.coordinates to one of {', '.join(map(repr, CONVENTIONS))}, or leave the data out."
        )
    chosen = CONVENTIONS[convention]
    # A blind model is asked in the same words; it sees no frame that its reference could be written for.
    answer = chosen.write(question.kind, places.reference(question.answer, question.kind).items, frame) \
        if frame.seen else question.answer
    form = " ".join([chosen.asks(question.kind), *([OF_THE_WHOLE] if frame.crops else [])])
    return replace(question, text=f"{question.text} {form}", answer=answer)

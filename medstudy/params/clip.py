"""How a contrastive encoder (`family: clip`) is asked: the texts that an image is compared with."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator

from medstudy.params.strict import Strict

OPTION, QUESTION = "{}", "{question}"
EVERY = "*"  # the name of all tasks that have no entry of their own
_BRACES = re.compile(r"\{[^{}]*\}|[{}]")


def _template(text: str) -> str:
    """A text with one place for the option. Raises ValueError."""
    _statement(text, (OPTION, QUESTION))
    if text.count(OPTION) != 1:
        raise ValueError(f"a template has one {OPTION}, where the text of an option is put, got {text!r}")
    return text


def _statement(text: str, places: tuple[str, ...] = (QUESTION,)) -> str:
    """A text with no other places than these. Raises ValueError."""
    if wrong := [found for found in _BRACES.findall(text) if found not in places]:
        raise ValueError(f"the only braces of this text are {' and '.join(places)}, got {wrong[0]!r} in {text!r}")
    if not text.strip():
        raise ValueError("a text to compare an image with must not be empty")
    return text


def _some(texts: tuple[str, ...]) -> tuple[str, ...]:
    """At least one text. Raises ValueError."""
    if not texts:
        raise ValueError("give at least one text to compare an image with, got none")
    return texts


Template = Annotated[str, AfterValidator(_template)]
Statement = Annotated[str, AfterValidator(_statement)]
Templates = Annotated[tuple[Template, ...], AfterValidator(_some)]
Statements = Annotated[tuple[Statement, ...], AfterValidator(_some)]


class Pair(Strict):
    """What is true of an image if the answer is yes, and what if it is no; {question} stands for the question."""

    if_yes: Statements  # a key `yes` would be a truth value in YAML
    if_no: Statements


class Clip(Strict):
    """The texts of each question. Several texts of one option are averaged as embeddings, as in CLIP's paper.

    {} is where an option's text is put, {question} where the question's is.
    """

    templates: Templates = ("a photo of {}",)  # for the options of a question
    by_task: dict[str, Templates] = {}  # other templates for the questions of a task
    yes_no: dict[str, Pair] = {}  # by task, or "*" for all others: what closed questions compare; none: left out
    captions: tuple[Literal["description", "report", "open"], ...] = ("description", "report")  # kinds to retrieve by

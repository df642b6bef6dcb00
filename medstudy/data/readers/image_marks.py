"""Image marks in texts, such as `<image>` or `<image 2>`: they are read and counted, never dropped silently.

A prompt shows its images first and then the text. So marks at the start of a text, one per image in order, are
redundant and removed. Any other mark becomes "(image 2)", the number of its image in the prompt, as in MMMU. Tokens of
a chat template, such as <|vision_start|>, and marks of other things, such as <ref-object> or <video>, are refused: a
model would take them for commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from medstudy.data.readers.cells import RowError

IMAGE = re.compile(r"<\s*(?:image|img)[\s_-]*(\d*)\s*/?>", re.I)
ENDING = re.compile(rf"\s*{IMAGE.pattern}\s*$", re.I)
LEADING = re.compile(rf"(?:\s*{IMAGE.pattern})+", re.I)
TOKEN = re.compile(
    r"<\|[^<>|]{1,80}\|>|</?s>|<(?:bos|eos)>|</?(?:start|end|begin)_of_\w+>|</?im_(?:start|end|patch)>|\[/?INST\]"
    r"|<</?SYS>>|<(?:IMG_CONTEXT|image_soft_token|fake_token_around_image|global-img|row_\d+_col_\d+)>",
    re.I,
)
UNREAD = re.compile(
    r"</?\s*(?:image|img|images|picture|video|audio|ref|box|bbox|quad|region|mask|point|polygon)\b[^<>]{0,200}>"
    r"|&lt;\s*/?\s*(?:image|img)\b|[\[{]\s*(?:image|img)\s*[\]}]",
    re.I,
)


def count(text: Any) -> int:
    """The number of image marks in a text; 0 for anything else."""
    return len(IMAGE.findall(text)) if isinstance(text, str) else 0


def refuse_tokens(text: str, role: str) -> None:
    """Raise RowError for a chat template's token or an unsupported mark. role: of the text, such as "question"."""
    if token := TOKEN.search(text):
        raise RowError(
            "control token",
            f"A text must not contain tokens of a chat template, but this {role} has {token[0]!r}. Remove it: the "
            "model's own template writes the prompt.",
        )
    if mark := UNREAD.search(IMAGE.sub("", text)):
        raise RowError(
            "unknown mark",
            f"A mark in a text must be <image> or <image 1>, but this {role} has {mark[0]!r}. Replace it by words, or "
            "leave the row out.",
        )


def refuse_marks(text: str, role: str) -> None:
    """`refuse_tokens`, and image marks too, as in answers. Raises RowError."""
    refuse_tokens(text, role)
    if mark := IMAGE.search(text):
        raise RowError("mark in answer", f"The {role} must be text, but has {mark[0]!r}. Write the text alone.")


def numbers(texts: Sequence[str], images: int, before: int = 0) -> list[int]:
    """The image of each mark, from 1, in order; [] without marks. Raises RowError unless marks and images agree.

    Each of the images before + 1 to `images` must have a mark. Numbered marks may repeat, and may name earlier images.
    """
    marks = [number for text in texts for number in IMAGE.findall(text)]
    new = range(before + 1, images + 1)
    if not marks:
        return []
    if not any(marks):  # no mark has a number: they take the new images in order
        if len(marks) != len(new):
            raise _disagreement(len(marks), len(new))
        return list(new)
    if not all(marks):
        raise RowError("image marks", "Either all image marks have numbers or none has, but these are mixed. Fix them.")
    named = [int(number) for number in marks]
    if wrong := [number for number in named if not 1 <= number <= images]:
        raise RowError("image marks", f"A mark must name an image, 1 to {images}, got <image {wrong[0]}>. Fix it.")
    if missing := set(new) - set(named):
        raise RowError(
            "image marks",
            f"Marks must name every image of a row, but none of {len(named)} marks names image {min(missing)} of "
            f"{images}. Add its mark, or remove the image.",
        )
    return named


def placed(question: str, options: Sequence[str], images: int, before: int = 0) -> tuple[str, tuple[str, ...]]:
    """A question and its options with their marks removed or in words; see `numbers`. Raises RowError."""
    for text, role in ((question, "question"), *((option, "option") for option in options)):
        refuse_tokens(text, role)
    named = numbers((question, *options), images, before)
    if not named:
        return question, tuple(options)
    # redundant marks: all new images in order at the start, or a single image's mark at the end
    new = list(range(before + 1, images + 1))
    leading = LEADING.match(question)
    if leading and named == new and count(leading[0]) == len(new):
        return question[leading.end() :].strip(), tuple(options)
    if len(named) == 1 and images == 1 and ENDING.search(question):
        return ENDING.sub("", question).strip(), tuple(options)
    # any others in words
    left = iter(named)
    question, *options = (IMAGE.sub(lambda mark: _in_words(mark, next(left)), text) for text in (question, *options))
    return question.strip(), tuple(option.strip() for option in options)


def conversation(
    turns: Sequence[tuple[str, str]], images: Sequence[str]
) -> list[tuple[tuple[str, ...], str, str]]:
    """(images shown so far, question, answer) of each turn: its marks take images in order. Raises RowError.

    Without any mark, all images come before the first question. A question is about the last image shown so far.
    """
    questions = [question for question, _ in turns]
    for _, answer in turns:
        refuse_marks(answer, "answer")
    if not any(map(count, questions)):
        for question in questions:
            refuse_tokens(question, "question")
        return [(tuple(images), question.strip(), answer) for question, answer in turns]
    numbered = any(number for question in questions for number in IMAGE.findall(question))
    if not numbered and sum(map(count, questions)) != len(images):
        raise _disagreement(sum(map(count, questions)), len(images))
    placed_turns, before = [], 0
    for question, answer in turns:
        # how many images have been shown after this question: up to its highest number, or one per mark
        own = [int(number) for number in IMAGE.findall(question) if number]
        shown = max([before, *own]) if numbered else before + count(question)
        if not shown:
            raise RowError("image marks", f"A question must come after its image, but {question!r:.60} does not.")
        text, _ = placed(question, (), min(shown, len(images)), before)
        placed_turns.append((tuple(images[:shown]), text, answer))
        before = shown
    if before != len(images):
        raise _disagreement(before, len(images))
    return placed_turns


def _disagreement(marks: int, images: int) -> RowError:
    return RowError(
        "image marks",
        f"A row must have one mark per image, or no marks, but has {marks} marks and {images} images. Add or remove "
        "marks or images.",
    )


def _in_words(mark: re.Match, number: int) -> str:
    """(image 2), with a space if it would touch a word."""
    before, after = mark.string[: mark.start()][-1:], mark.string[mark.end() :][:1]
    gap = " " if before and not before.isspace() and before not in "([\"'" else ""
    return f"{gap}(image {number}){' ' if after.isalnum() else ''}"

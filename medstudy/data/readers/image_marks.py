"""Marks of images in texts, as `<image>` or `<image 2>`: they are read and counted, never erased.

A prompt shows its images first and then the text. So marks that lead a text, one an image in order, say what the prompt
does anyway and are taken off; any other becomes "(image 2)", the number of its image in the prompt, as for MMMU.
Tokens of a chat template, as <|vision_start|>, and marks that stand for no image, as <ref-object> or <video>, are
refused: a model would take them for commands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

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


def count(text: str) -> int:
    """How many marks of images a text has."""
    return len(IMAGE.findall(text))


def refuse(text: str, what: str) -> None:
    """Raise RowError for a text with a token of a chat template, or a mark that cannot be read. what: as "question"."""
    if found := TOKEN.search(text):
        raise RowError(
            "control token",
            f"A text holds no token of a chat template, but this {what} has {found[0]!r}. Remove it: the prompt is "
            "written by the model's own template.",
        )
    if found := UNREAD.search(IMAGE.sub("", text)):
        raise RowError(
            "unknown mark",
            f"A mark in a text is <image> or <image 1>, but this {what} has {found[0]!r}. Write what it stands for in "
            "words, or leave the row out.",
        )


def refuse_all(text: str, what: str) -> None:
    """`refuse`, and marks of images too: an answer is text. Raises RowError."""
    refuse(text, what)
    if found := IMAGE.search(text):
        raise RowError("mark in answer", f"An {what} is text, but this one has {found[0]!r}. Write the text alone.")


def numbers(texts: Sequence[str], images: int, before: int = 0) -> list[int]:
    """The image of each mark, from 1, in order; [] without marks. Raises RowError unless marks and images agree.

    Each of the images number before + 1 to `images` has a mark; marks with a number may repeat, and name earlier ones.
    """
    found = [number for text in texts for number in IMAGE.findall(text)]
    new = range(before + 1, images + 1)
    if not found:
        return []
    if not any(found):
        if len(found) != len(new):
            raise _disagree(len(found), len(new))
        return list(new)
    if not all(found):
        raise RowError("image marks", "Marks of images all have a number, or none has, but these differ. Mend them.")
    named = [int(number) for number in found]
    if wrong := [number for number in named if not 1 <= number <= images]:
        raise RowError("image marks", f"A mark names an image of its row, from 1 to {images}, got <image {wrong[0]}>.")
    if missing := set(new) - set(named):
        raise RowError(
            "image marks",
            f"Marks name every image of a row, but none of {len(named)} marks names image {min(missing)} of {images}. "
            "Add its mark, or remove the image.",
        )
    return named


def placed(question: str, options: Sequence[str], images: int, before: int = 0) -> tuple[str, tuple[str, ...]]:
    """A question and its options with their marks read. images, before: see `numbers`. Raises RowError."""
    for text, what in ((question, "question"), *((option, "option") for option in options)):
        refuse(text, what)
    named = numbers((question, *options), images, before)
    if not named:
        return question, tuple(options)
    new = list(range(before + 1, images + 1))
    leading = LEADING.match(question)
    if leading and named == new and count(leading[0]) == len(new):
        return question[leading.end() :].strip(), tuple(options)
    if len(named) == 1 and images == 1 and ENDING.search(question):  # a single image, and its mark ends the text
        return ENDING.sub("", question).strip(), tuple(options)
    left = iter(named)
    spaced = (re.sub(IMAGE, lambda mark: _in_words(mark, next(left)), text).strip() for text in (question, *options))
    question, *options = spaced
    return question, tuple(options)


def conversation(
    turns: Sequence[tuple[str, str]], images: Sequence[str]
) -> list[tuple[tuple[str, ...], str, str]]:
    """(images shown so far, question, answer) of each turn: its marks take images in order. Raises RowError.

    Without any mark all images stand before the first question. The last image that a turn shows is its own.
    """
    asked = [question for question, _ in turns]
    for _, answer in turns:
        refuse_all(answer, "answer")
    if not any(map(count, asked)):
        for question in asked:
            refuse(question, "question")
        return [(tuple(images), question.strip(), answer) for question, answer in turns]
    numbered = [int(number) for text in asked for number in IMAGE.findall(text) if number]
    if not numbered and sum(map(count, asked)) != len(images):
        raise _disagree(sum(map(count, asked)), len(images))
    made, before = [], 0
    for question, answer in turns:
        own = [int(number) for number in IMAGE.findall(question) if number]
        shown = max([before, *own]) if numbered else before + count(question)
        if not shown:
            raise RowError("image marks", f"A question comes after its image, but {question!r:.60} stands before all.")
        text, _ = placed(question, (), min(shown, len(images)), before)
        made.append((tuple(images[:shown]), text, answer))
        before = shown
    if before != len(images):
        raise _disagree(before, len(images))
    return made


def _disagree(marks: int, images: int) -> RowError:
    return RowError(
        "image marks",
        f"A row has a mark for each of its images, or none at all, but {marks} marks stand in the text for {images} "
        "images. Add or remove marks or images.",
    )


def _in_words(mark: re.Match, number: int) -> str:
    """(image 2), with a blank where it would touch a word."""
    before, after = mark.string[: mark.start()][-1:], mark.string[mark.end() :][:1]
    gap = " " if before and not before.isspace() and before not in "([\"'" else ""
    return f"{gap}(image {number}){' ' if after.isalnum() else ''}"

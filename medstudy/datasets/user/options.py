"""The options of a choice, and the one that a row's answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medstudy.data.example import LETTERS
from medstudy.data.readers.cells import RowError, text, unpacked, value

LETTERED = re.compile(r"\(?([A-Ja-j])(?:\s?[).:]|\s-\s)\s*(\S.*)", re.DOTALL)  # A) lung, (A) lung, A. lung, A: lung


@dataclass(frozen=True)
class Options:
    """The texts of a choice's options in the source's order, and their keys in the source; () for a plain list.

    lettered: the texts themselves began with the letters A, B, …, which are now the keys.
    """

    texts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    lettered: bool = False


def read(row: Mapping, names: str | tuple[str, ...] | None) -> Options:
    """A row's options: a list, a mapping of keys to texts, a text (JSON, or parts between |), or one column per option.

    The names of several columns are their keys. Empty options at the end are dropped. Raises RowError for an empty one
    before others, because letters and numbers would then name another option, and for two equal ones.
    """
    if isinstance(names, tuple):
        content = {name.rpartition(".")[2]: value(row, name) for name in names}
        if len(content) < len(names):  # entries of the same name: use the full names
            content = {name: value(row, name) for name in names}
    else:
        content = unpacked(value(row, names))
    content = content.split("|") if isinstance(content, str) else content
    if not isinstance(content, (list, tuple, Mapping, type(None))):
        raise RowError("not a list", f"Options must be a list, a mapping or a text, got {content!r:.60}. Fix the cell.")
    texts = [text(cell) for cell in (content.values() if isinstance(content, Mapping) else content or ())]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise RowError("options", f"Options must have no gap, but number {texts.index('')} of {texts} is empty.")
    _refuse_equal(texts, texts)
    keys = [str(key).strip(" ().:") for key in content][: len(texts)] if isinstance(content, Mapping) else []
    return _by_letters(texts, keys) or Options(tuple(texts), tuple(keys))


def _refuse_equal(texts: list[str], shown: list[str]) -> None:
    if repeated := [option for option in texts if texts.count(option) > 1]:
        raise RowError("options", f"Options must differ, but {repeated[0]!r} is repeated in {shown}. Fix the row.")


def _by_letters(texts: list[str], keys: list[str]) -> Options | None:
    """The options without their letters if each begins with one of its own: "A) lung", "B) liver", in any order.

    None for letters other than A, B, … without a gap: they are parts of names, as in "E. coli". Raises RowError if the
    letters differ from the options' keys.
    """
    matches = [LETTERED.fullmatch(option) for option in texts]
    if len(texts) < 2 or not all(matches):
        return None
    letters = [match[1].upper() for match in matches]
    if sorted(letters) != list(LETTERS[: len(texts)]):
        return None
    if keys and [key.upper() for key in keys] != letters:
        raise RowError("options", f"An option's letter must be its key, but {texts} have the keys {keys}. Fix the row.")
    rest = [match[2] for match in matches]
    _refuse_equal(rest, texts)
    return Options(tuple(rest), tuple(letters), True)


def right(options: Options, answer: Any) -> tuple[int, bool]:
    """(number from 0 of the right option, whether the answer was a bare number). Raises RowError.

    An answer is the key of an option that has keys; else its text, its letter, or a number, which counts from 0. The
    whole table shows whether its numbers do (`rows.survey`).
    """
    texts, said = options.texts, text(answer)
    if not 2 <= len(texts) <= len(LETTERS):
        raise RowError("options", f"A choice must have 2 to {len(LETTERS)} options, one per letter, got {len(texts)}.")
    # by key, first as written, then without the signs around a letter
    if (by_key := _position(options.keys, said)) is not None:
        return by_key, False
    said = _bare(options, said)
    if (by_key := _position(options.keys, said)) is not None:
        return by_key, False
    # else by text, letter or number: exactly one of these must name an option
    lettered_keys = bool(options.keys) and all(len(key) == 1 and key.upper() in LETTERS for key in options.keys)
    by_text = _position(texts, said)
    by_letter = LETTERS[: len(texts)].find(said.upper()) if len(said) == 1 and not lettered_keys else -1
    counted = not isinstance(answer, str) and not any(sign.isdigit() for key in options.keys for sign in key)
    by_number = int(said) if counted and said.isdigit() and int(said) < len(texts) else -1
    positions = {by_text, by_letter, by_number} - {None, -1}
    if len(positions) != 1:
        count = "more than one of them" if positions else "none of them"
        shown = dict(zip(options.keys, texts, strict=True)) if options.keys else list(texts)
        raise RowError(
            "answer not an option",
            f"A choice's answer must be the key, the text, the letter or the number (from 0) of one of its options, "
            f"but {said!r} is {count}: {shown}. Write the option's text.",
        )
    (position,) = positions
    return position, by_text is None and by_letter < 0


def _bare(options: Options, said: str) -> str:
    """A letter without its signs, as in "(A)" or "A."; for a letter with its option's text, "A. lung", that text."""
    letter = said.strip(" ().:")
    if len(letter) == 1 and letter.isalpha() and said not in options.texts:
        return letter
    if (match := LETTERED.fullmatch(said)) and _position(options.texts, said) is None:
        position = _position(options.keys or tuple(LETTERS[: len(options.texts)]), match[1])
        if position is not None and _position((options.texts[position],), match[2]) == 0:
            return options.texts[position]
    return said


def _position(names: tuple[str, ...], said: str) -> int | None:
    """The position of a text in `names`: as written, else the only one that differs in case alone."""
    if said in names:
        return names.index(said)
    alike = [position for position, name in enumerate(names) if name.casefold() == said.casefold()]
    return alike[0] if len(alike) == 1 else None

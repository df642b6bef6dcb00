"""The options of a choice, and which of them a row's answer means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from medstudy.data.example import LETTERS
from medstudy.data.readers.cells import RowError, filled, parsed, text, value

LETTERED = re.compile(r"\(?([A-Ja-j])(?:\s?[).:]|\s-\s)\s*(\S.*)", re.DOTALL)  # A) lung, (A) lung, A. lung, A: lung


@dataclass(frozen=True)
class Options:
    """The texts of a choice's options in the source's order, and what the source calls each; () for a mere list.

    lettered: the texts themselves began with the letters A, B, …, which are the keys.
    """

    texts: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    lettered: bool = False


def read(row: Mapping, names: str | tuple[str, ...] | None) -> Options:
    """A list, a mapping of keys to texts, or text: JSON, or parts between |; or one column an option.

    Options of several columns go by the columns' names. Empty ones at the end go. Raises RowError for an empty one
    before others (letters and numbers would name another option), and for two that are equal.
    """
    if isinstance(names, tuple):
        content = {name.rpartition(".")[2]: value(row, name) for name in names}
        if len(content) < len(names):
            content = {name: value(row, name) for name in names}
    else:
        content = value(row, names)
    if isinstance(content, str):
        content = parsed(content) if content.lstrip()[:1] in ("[", "{") else content.split("|")
    if not isinstance(content, (list, tuple, Mapping, type(None))):
        raise RowError("not a list", f"Options are a list, a mapping of letters or a text, got {content!r:.60}.")
    texts = [text(one) for one in (content.values() if isinstance(content, Mapping) else content or ())]
    while texts and not texts[-1]:
        texts.pop()
    if "" in texts:
        raise RowError("options", f"Options stand without a gap, but number {texts.index('')} of {texts} is empty.")
    if twice := [one for one in texts if texts.count(one) > 1]:
        raise RowError("options", f"Options differ, but {twice[0]!r} stands twice in {texts}. Mend the row.")
    keys = [str(key).strip(" ().:") for key in content][: len(texts)] if isinstance(content, Mapping) else []
    return _by_letters(texts, keys) or Options(tuple(texts), tuple(keys))


def _by_letters(texts: list[str], keys: list[str]) -> Options | None:
    """The options without their letters where each begins with one of its own: "A) lung", "B) liver", in any order.

    Letters that are not A, B, … to the last are parts of names, as in "E. coli". Raises RowError for other letters than
    the options' keys.
    """
    found = [LETTERED.fullmatch(one) for one in texts]
    if len(texts) < 2 or not all(found):
        return None
    letters = [one[1].upper() for one in found]
    if sorted(letters) != list(LETTERS[: len(texts)]):
        return None
    if keys and [key.upper() for key in keys] != letters:
        raise RowError("options", f"An option's letter is its key, but {texts} have the keys {keys}. Mend the row.")
    rest = [one[2] for one in found]
    if twice := [one for one in rest if rest.count(one) > 1]:
        raise RowError("options", f"Options differ, but {twice[0]!r} stands twice in {texts}. Mend the row.")
    return Options(tuple(rest), tuple(letters), True)


def right(options: Options, answer) -> tuple[int, bool]:
    """(number from 0 of the right option, whether the answer was a bare number). Raises RowError.

    An answer is an option's key where the options have keys; else its text, its letter, or a number, which counts from
    0: whether a table's numbers do is seen from all of them (`medstudy.datasets.user.rows.survey`).
    """
    texts, said = options.texts, text(answer)
    if not 2 <= len(texts) <= len(LETTERS):
        raise RowError("options", f"A choice has 2 to {len(LETTERS)} options, one a letter, got {len(texts)}.")
    if (by_key := _alike(options.keys, said)) is not None:
        return by_key, False
    said = _bare(options, said)
    if (by_key := _alike(options.keys, said)) is not None:
        return by_key, False
    named = bool(options.keys) and all(len(key) == 1 and key.upper() in LETTERS for key in options.keys)
    by_text = _alike(texts, said)
    by_letter = LETTERS[: len(texts)].find(said.upper()) if len(said) == 1 and not named else -1  # letters of their own
    counted = not isinstance(answer, str) and not any(sign.isdigit() for key in options.keys for sign in key)
    by_number = int(said) if counted and said.isdigit() and int(said) < len(texts) else -1
    found = {by_text, by_letter, by_number} - {None, -1}
    if len(found) != 1:
        what = "more than one of them" if found else "none of them"
        shown = dict(zip(options.keys, texts, strict=True)) if options.keys else list(texts)
        raise RowError(
            "answer not an option",
            f"A choice's answer is the key, the text, the letter or the number (from 0) of one of its options, but "
            f"{said!r} is {what}: {shown}. Write the option's text.",
        )
    (only,) = found
    return only, by_text is None and by_letter < 0


def _bare(options: Options, said: str) -> str:
    """A letter without its signs, as "(A)" or "A."; of a letter with its own option's text, as "A. lung", that text."""
    letter = said.strip(" ().:")
    if len(letter) == 1 and letter.isalpha() and said not in options.texts:
        return letter
    if (both := LETTERED.fullmatch(said)) and _alike(options.texts, said) is None:
        place = _alike(options.keys or tuple(LETTERS[: len(options.texts)]), both[1])
        if place is not None and _alike((options.texts[place],), both[2]) == 0:
            return options.texts[place]
    return said


def given(row: Mapping, names: str | tuple[str, ...] | None) -> bool:
    """Whether a row has anything where its options stand."""
    return any(filled(value(row, name)) for name in (names if isinstance(names, tuple) else (names,)))


def _alike(names: tuple[str, ...], said: str) -> int | None:
    """Which of `names` a text is: as it is written, else the only one but for its case."""
    if said in names:
        return names.index(said)
    found = [place for place, name in enumerate(names) if name.casefold() == said.casefold()]
    return found[0] if len(found) == 1 else None

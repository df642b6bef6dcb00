"""The number in an answer that counts something. An answer with two different numbers is not read."""

from __future__ import annotations

import re

from medstudy.errors import DataError

_WORDS = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
          "seventeen eighteen nineteen twenty").split()
_CHINESE = dict(zip("零一二三四五六七八九十两", (*range(11), 2), strict=True))
_NUMBER = re.compile(
    rf"(?<![\w.])(\d{{1,3}}(?:,\d{{3}})+|\d+)(\.\d+)?(?![\w]|\.\d)|\b({'|'.join(_WORDS)})\b|([{''.join(_CHINESE)}])(?=个|处|枚|条)"
    r"|(\d+)(?=个|处|枚|条)", re.IGNORECASE,
)
_NONE = re.compile(r"\b(?:none|no \w+|without any)\b|(?:没有|未见|无)\S", re.IGNORECASE)


def reference(text: str) -> int:
    """The count of a reference. Raises DataError for anything but a whole number from 0."""
    if not re.fullmatch(r"\d+(?:\.0+)?", text.strip(), re.ASCII):
        raise DataError(f"The reference of a count is a whole number from 0 in digits, got {text!r:.40}. Write it so.")
    return int(float(text))


def read(text: str) -> int | None:
    """The one number in an answer: 7, "seven", "There are 7 nodules.", "七个"; "no nodules" is 0; None if unclear."""
    numbers = {_value(match) for match in _NUMBER.finditer(text)}
    if not numbers:
        return 0 if _NONE.search(text) else None
    (number, *others) = numbers
    return None if others or number != int(number) else int(number)


def _value(match: re.Match) -> float:
    digits, fraction, word, chinese, counted = match.groups()
    if word:
        return float(_WORDS.index(word.lower()))
    if chinese:
        return float(_CHINESE[chinese])
    return float((digits or counted).replace(",", "") + (fraction or ""))

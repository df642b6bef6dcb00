"""Yes and no in several languages. The reference's own word says which language an answer is read in.

    polarity("是")            # ("zh", "yes")
    given("没有", "zh")        # {"no"}

English is read as before: every "yes" and "no" in the text counts. In a language without spaces a word can be part of
another, so there the word that the text begins with decides, and only without one all that it contains; longer words
come first ("不是" is no "是"). A Spanish or Italian "no" is read as the English one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from medstudy.errors import DataError


class Language(NamedTuple):
    """The words of a language for yes and for no; whether they are written without spaces around them."""

    yes: tuple[str, ...]
    no: tuple[str, ...]
    unspaced: bool = False


LANGUAGES = {
    "en": Language(("yes",), ("no",)),
    "zh": Language(
        ("是的", "是", "有的", "有", "对的", "对", "存在", "正确"),
        ("不是", "不正确", "不存在", "不对", "没有", "并非", "否", "不", "没", "无"),
        True,
    ),
    "ja": Language(("はい", "あります", "ある"), ("いいえ", "ありません", "ない"), True),
    "ko": Language(("예", "네", "있습니다"), ("아니요", "아니오", "없습니다"), True),
    "ar": Language(("نعم",), ("لا",)),
    "ru": Language(("да",), ("нет",)),
    "hi": Language(("हाँ", "हां"), ("नहीं",)),
    "fr": Language(("oui",), ("non",)),
    "de": Language(("ja",), ("nein",)),
    "es": Language(("sí", "si"), ("no",)),
    "pt": Language(("sim",), ("não", "nao")),
    "it": Language(("sì",), ("no",)),
    "nl": Language(("ja",), ("nee",)),
    "tr": Language(("evet",), ("hayır",)),
    "vi": Language(("có", "đúng"), ("không",)),
}
_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")  # of English
_BETWEEN = re.compile(r"[\s.,;:!?()\[\]\"'*_…।،؟«»“”-]+")  # words of the others, whose marks are no letters for `re`


def polarity(answer: str) -> tuple[str, str]:
    """(language, "yes" or "no") of a reference. Raises DataError for any other word."""
    if (found := find(answer)) is None:
        word = answer.lower()
        raise DataError(f"The answer to a closed question is yes or no, got {word!r}. Make it open or class.")
    return found


def find(answer: str) -> tuple[str, str] | None:
    """(language, "yes" or "no") of a text that is one of these words; None for any other."""
    word = answer.strip().rstrip("。.！!").lower()
    for name, language in LANGUAGES.items():
        for meaning in ("yes", "no"):
            if word in getattr(language, meaning):
                return name, meaning
    return None


def given(text: str, language: str) -> set[str]:
    """Which of yes and no a text says: none, one or both."""
    known = LANGUAGES[language]
    meanings = dict.fromkeys(known.no, "no") | dict.fromkeys(known.yes, "yes")
    if not known.unspaced:
        words = _WORD.findall(text.lower()) if language == "en" else _BETWEEN.split(text.lower())
        return {meanings[word] for word in words if word in meanings}
    pattern = re.compile("|".join(sorted(map(re.escape, meanings), key=len, reverse=True)))
    start = re.sub(r"\A[\W_]+", "", text)
    found = [first] if (first := pattern.match(start)) else pattern.finditer(text)
    return {meanings[match[0]] for match in found}

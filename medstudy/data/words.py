"""The words of an answer as the standard scores compare them; differences that matter are kept.

`metrics.normalise`, like VQA evaluations, deletes signs and articles: "ER+" equals "ER-", and nothing is left of "A".
This module ignores only these: case, quotes and brackets, a full stop at the end of a word, a comma or colon outside a
number, emphasis in Markdown, an article before a word, and different characters for a minus or a quote. Chinese and
Japanese have no spaces, so there each character is a word: 左肺 is found in 左肺有结节, and F1 is over characters.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import NamedTuple

NUMBERS = dict(zip("none zero one two three four five six seven eight nine ten".split(),
                   "0 0 1 2 3 4 5 6 7 8 9 10".split(), strict=True))
ARTICLES = frozenset(("a", "an", "the"))
NEGATIONS = frozenset("no not non without neither nor never isn't aren't wasn't cannot 无 未 没 不 非".split())
CARRY = frozenset(  # no evidence of a tumor denies tumor; 未见明显结节 denies 结节
    "any evidence sign signs indication features of for 有 见 发 现 明 显 任 何 的 是 到 示 存 在".split()
)
DENYING = frozenset((("absence", "of"), ("lack", "of"), ("free", "of"), ("negative", "for")))
CONJUNCTIONS = frozenset(("and", "or", "nor", "but", "is", "are", "was", "vs", "versus"))

_TYPED = str.maketrans({  # one character for each sign that is typed in several ways; none for those without width
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"), **dict.fromkeys("\u2018\u2019\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'), **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff"),
    "\u00b5": "\u03bc", "\uff0b": "+", "\u2014": " ",
})
_BREAK = "\ue000"  # a word that marks the end of a clause
_UNSPACED = r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"  # Chinese and Japanese: each character is a word
_RULES = tuple((re.compile(pattern), by) for pattern, by in (
    (r"(?<!\w)(\*{1,3}|_{1,3}|`+)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),  # **B**, `B`; T2* keeps its star
    (r"<=", "≤"), (r">=", "≥"),
    (rf"(?<={_UNSPACED})(?=\S)|(?<=\S)(?={_UNSPACED})", " "),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),  # 1,000
    (r"([<>≤≥±~≈])\s+(?=[\d.])", r"\1"),  # > 5
    (r"(?<=\d)\s+%", "%"),
    (r"(?<=\w)\s([+-])(?=\s*(?:$|[.,;)\n]))", r"\1"),  # ER +
    (r"[\"()\[\]{}|\\`=「」『』（）【】]|(?<!\d)/|/(?!\d)", " "),
    (r"(?:^|(?<=\n))\s*[-*•]\s+(?=[^\W\d_])|(?<=[^\W\d_])\s+-\s+(?=[^\W\d_])", f" {_BREAK} "),  # - a list; left - upper
    (r"(?<!\d)[,:]|[,:](?!\d)|\.(?!\d)|[;?!。，、；：？！…\n]", f" {_BREAK} "),  # 3:1 and .5 keep theirs
    (r"(?<=[\w*])-(?=[^\W\d_])|(?<=[^\W\d_])-(?=\w)|-{2,}|(?<=[^\W_])_(?=[^\W_])", " "),  # x-ray; not 5-10, ER-, -3
))
_LETTERS_ALONE = re.compile(r"[A-Za-z0-9 ]*\Z")  # no rule applies to such a text


class Word(NamedTuple):
    """A word in lower case and as typed; whether it is an article, which may be missing; whether a "not" denies it."""

    text: str
    typed: str
    article: bool = False
    denied: bool = False


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[Word, ...]:
    """The words in order; at least one unless the text is blank."""
    plain = out = text if text.isascii() else unicodedata.normalize("NFC", text).translate(_TYPED)
    for pattern, by in () if _LETTERS_ALONE.match(plain) else _RULES:
        out = pattern.sub(by, out)
    typed = [word for word in map(_unquoted, out.split()) if word]
    # A text of signs only, as "+/-": its words as they are.
    if not set(typed) - {_BREAK}:
        return tuple(Word(word.lower(), word) for word in plain.split() or text.split())
    found, denied = [], False
    for before, word, after in zip([_BREAK, *typed], typed, [*typed[1:], _BREAK], strict=False):
        lower = word.lower()
        article = lower in ARTICLES and (word != "A" or before == _BREAK) and _can_follow(after)
        if word != _BREAK:
            found.append(Word(NUMBERS.get(lower, lower), word, article, denied))
        # A negation denies the next word, through articles and words such as "evidence of".
        denied = (lower in NEGATIONS or (lower, after.lower()) in DENYING
                  or (denied and (article or lower in CARRY)))
    return tuple(found)


def _unquoted(word: str) -> str:
    """The word without quotes around it, as in 'left'; the signs in 5' and Crohn's stay."""
    return word[1:].removesuffix("'") if word.startswith("'") else word


def _can_follow(after: str) -> bool:
    """Whether an article can come before this word. Before anything else, as at the end, "A" is a name: hepatitis A."""
    return after[:1].isalnum() and after.lower() not in CONJUNCTIONS


def comparable(given: str, true: str) -> tuple[list[str], list[str]]:
    """The words of both texts without articles. An article that is a name in the other stays ("hepatitis a virus")."""
    pair = words(given), words(true)
    return _kept(*pair), _kept(*pair[::-1])


def _kept(given: Sequence[Word], other: Iterable[Word]) -> list[str]:
    names = {word.text for word in other if not word.article}
    return [word.text for word in given if not word.article or word.text in names]


def named(text: str, known: Iterable[str]) -> set[str]:
    """The `known` names that the text contains as whole words; names that read the same are contained together.

    A text equal to one name, character by character, contains only that one. A name inside a longer name counts as the
    longer one. A name after "no", "not" or "no evidence of" does not count. Case matters only between names that differ
    by nothing else.
    """
    known = tuple(dict.fromkeys(known))
    if text.strip() in known:
        return {text.strip()}
    given, found = words(text), []
    # Where each name stands and is not denied.
    for name in known:
        found += [(start, end, name) for start, end in _places(given, words(name)) if not given[start].denied]
    # Keep the spans that are not inside a longer one.
    spans = {(start, end) for start, end, _ in found}
    longest = {span for span in spans if not any(_inside(span, other) for other in spans)}
    # Of several names in one span, case decides.
    by_span = [[(name, start, end) for start, end, name in found if (start, end) == span] for span in longest]
    return {name for same in by_span for name in _by_case(same, given)}


def _places(given: Sequence[Word], name: Sequence[Word]) -> list[tuple[int, int]]:
    """Spans (start, end) of the name: its first word, and the word after its last. Articles in between are skipped."""
    wanted = [word.text for word in name if not word.article] or [word.text for word in name]
    found = []
    for start, word in enumerate(given):
        if word.text != wanted[0] or (word.article and len(wanted) == 1):
            continue
        at, place = 0, start
        while place < len(given) and at < len(wanted):
            if given[place].text == wanted[at]:
                at += 1
            elif not given[place].article:
                break
            place += 1
        if at == len(wanted):
            found.append((start, place))
    return found


def _inside(span: tuple[int, int], other: tuple[int, int]) -> bool:
    return span != other and other[0] <= span[0] and span[1] <= other[1]


def _by_case(same: list[tuple[str, int, int]], given: Sequence[Word]) -> list[str]:
    """Of names that differ only by case, the one typed like the text; all of them if none is."""
    _, start, end = same[0]
    typed = [word.typed for word in given[start:end] if not word.article]
    exact = [name for name, *_ in same if [word.typed for word in words(name) if not word.article] == typed]
    return exact or [name for name, *_ in same]

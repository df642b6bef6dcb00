"""The words of an answer as the standard scores compare them: what tells two answers apart is kept.

`metrics.normalise`, as VQA evaluations do, deletes signs and articles: "ER+" equals "ER-", and nothing is left of "A".
Here only these are ignored: case, quotes and brackets, a full stop at a word's end, a comma or colon that is not inside
a number, Markdown's emphasis, an article before a word, and how a minus or a quote is typed.
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
NEGATIONS = frozenset(("no", "not", "non", "without", "neither", "nor", "never", "isn't", "aren't", "wasn't", "cannot"))
CARRY = frozenset("any evidence sign signs indication features of for".split())  # no evidence of a tumor denies tumor
DENYING = frozenset((("absence", "of"), ("lack", "of"), ("free", "of"), ("negative", "for")))
CONJUNCTIONS = frozenset(("and", "or", "nor", "but", "is", "are", "was", "vs", "versus"))

_TYPED = str.maketrans({  # the same sign, typed in several ways; a character of no width is none
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d", "-"), **dict.fromkeys("\u2018\u2019\u02bc", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u00ab\u00bb", '"'), **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff"),
    "\u00b5": "\u03bc", "\uff0b": "+", "\u2014": " ",
})
_BREAK = "\ue000"  # stands as a word where a clause ends
_RULES = tuple((re.compile(pattern), by) for pattern, by in (
    (r"(?<!\w)(\*{1,3}|_{1,3}|`+)(?=\S)(.+?)(?<=\S)\1(?!\w)", r"\2"),  # **B**, `B`; T2* keeps its star
    (r"<=", "≤"), (r">=", "≥"),
    (r"(?<=\d),(?=\d{3}(?!\d))", ""),  # 1,000
    (r"([<>≤≥±~≈])\s+(?=[\d.])", r"\1"),  # > 5
    (r"(?<=\d)\s+%", "%"),
    (r"(?<=\w)\s([+-])(?=\s*(?:$|[.,;)\n]))", r"\1"),  # ER +
    (r"[\"()\[\]{}|\\`=「」『』（）【】]|(?<!\d)/|/(?!\d)", " "),
    (r"(?:^|(?<=\n))\s*[-*•]\s+(?=[^\W\d_])|(?<=[^\W\d_])\s+-\s+(?=[^\W\d_])", f" {_BREAK} "),  # - a list; left - upper
    (r"(?<!\d)[,:]|[,:](?!\d)|\.(?!\d)|[;?!。，、；：？！…\n]", f" {_BREAK} "),  # 3:1 and .5 keep theirs
    (r"(?<=[\w*])-(?=[^\W\d_])|(?<=[^\W\d_])-(?=\w)|-{2,}|(?<=[^\W_])_(?=[^\W_])", " "),  # x-ray; not 5-10, ER-, -3
))
_LETTERS_ALONE = re.compile(r"[A-Za-z0-9 ]*\Z")  # then no rule applies
_THOUGHT = re.compile(r"<(think|thinking|reasoning)>.*?(</\1>|\Z)", re.DOTALL | re.IGNORECASE)
_CLOSED = re.compile(r"\A.*</(?:think|thinking|reasoning)>", re.DOTALL | re.IGNORECASE)


class Word(NamedTuple):
    """A word in lower case and as typed; whether it may be an article, and so be missing; whether a "not" denies it."""

    text: str
    typed: str
    article: bool = False
    denied: bool = False


def final(text: str) -> str:
    """The text without the reasoning before an answer, as in "<think>…</think> B"; "" where it never ends."""
    return _THOUGHT.sub(" ", _CLOSED.sub("", text)).strip() if "<" in text else text.strip()


@lru_cache(maxsize=4096)
def words(text: str) -> tuple[Word, ...]:
    """The words in order; never none unless the text is blank."""
    plain = out = text if text.isascii() else unicodedata.normalize("NFC", text).translate(_TYPED)
    for pattern, by in () if _LETTERS_ALONE.match(plain) else _RULES:
        out = pattern.sub(by, out)
    typed = [one for one in map(_unquoted, out.split()) if one]
    if not set(typed) - {_BREAK}:
        return tuple(Word(one.lower(), one) for one in plain.split())
    made, denied = [], False
    for before, one, after in zip([_BREAK, *typed], typed, [*typed[1:], _BREAK], strict=False):
        lower = one.lower()
        article = lower in ARTICLES and (one != "A" or before == _BREAK) and _can_follow(after)
        if one != _BREAK:
            made.append(Word(NUMBERS.get(lower, lower), one, article, denied))
        denied = (lower in NEGATIONS or (lower, after.lower()) in DENYING
                  or (denied and (article or lower in CARRY)))
    return tuple(made)


def _unquoted(word: str) -> str:
    """Without quotes around it: 'left', not 5' or Crohn's."""
    return word[1:].removesuffix("'") if word.startswith("'") else word


def _can_follow(after: str) -> bool:
    """Whether an article may stand before it. Before anything else, as the end, "A" is a name: hepatitis A."""
    return after[:1].isalnum() and after.lower() not in CONJUNCTIONS


def matched(said: str, true: str) -> tuple[list[str], list[str]]:
    """The words of both, without each one's articles; one that is a name in the other stays ("hepatitis a virus")."""
    pair = words(said), words(true)
    return _kept(*pair), _kept(*pair[::-1])


def _kept(mine: Sequence[Word], other: Iterable[Word]) -> list[str]:
    names = {word.text for word in other if not word.article}
    return [word.text for word in mine if not word.article or word.text in names]


def named(text: str, known: Iterable[str]) -> set[str]:
    """Those of `known` that the text names as whole words; all that cannot be told apart, where it names one of them.

    A text that is one of them, character by character, names it alone. A name inside a longer one is the longer one, a
    name after "no", "not" or "no evidence of" is none, and case counts only between names that differ by nothing else.
    """
    known = tuple(dict.fromkeys(known))
    if text.strip() in known:
        return {text.strip()}
    said, found = words(text), []
    for name in known:
        found += [(start, end, name) for start, end in _places(said, words(name)) if not said[start].denied]
    spans = {(start, end) for start, end, _ in found}
    longest = {one for one in spans if not any(_inside(one, other) for other in spans)}
    by_place = [[(name, start, end) for start, end, name in found if (start, end) == place] for place in longest]
    return {name for same in by_place for name in _by_case(same, said)}


def _places(said: Sequence[Word], name: Sequence[Word]) -> list[tuple[int, int]]:
    """Where the name stands: its first word's place and the one after its last. Articles in between are passed over."""
    wanted = [word.text for word in name if not word.article] or [word.text for word in name]
    found = []
    for start, word in enumerate(said):
        if word.text != wanted[0] or (word.article and len(wanted) == 1):
            continue
        at, place = 0, start
        while place < len(said) and at < len(wanted):
            if said[place].text == wanted[at]:
                at += 1
            elif not said[place].article:
                break
            place += 1
        if at == len(wanted):
            found.append((start, place))
    return found


def _inside(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one != other and other[0] <= one[0] and one[1] <= other[1]


def _by_case(same: list[tuple[str, int, int]], said: Sequence[Word]) -> list[str]:
    """Of names that differ by case alone, the one typed like the text; all of them where none is."""
    _, start, end = same[0]
    typed = [word.typed for word in said[start:end] if not word.article]
    exact = [name for name, *_ in same if [word.typed for word in words(name) if not word.article] == typed]
    return exact or [name for name, *_ in same]

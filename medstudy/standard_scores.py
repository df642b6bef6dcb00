"""The standard scores: one answer and its reference in, a number in [0, 1] out.

A reference scores 1 on itself, and two references differ unless `medstudy.words` ignores all that differs
(`medstudy.identity` checks both). An answer is read without the reasoning before it, as in "<think>…</think> B".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from medstudy import choices
from medstudy.errors import DataError
from medstudy.words import final, matched, named

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def yes_or_no(answer: str) -> str:
    """The answer of a closed question in lower case. Raises DataError for any other than yes and no."""
    if (lower := answer.lower()) not in ("yes", "no"):
        raise DataError(f"the answer of a closed question is yes or no; got {lower!r}: make it open or class")
    return lower


def strict_closed(prediction: str, answer: str) -> float:
    """1 when the answer stands as a word and its opposite does not: "yes and no" is wrong for both."""
    found = {"yes", "no"}.intersection(_WORD.findall(final(prediction).lower()))
    return float(found == {answer.lower()})


def multiset_words(prediction: str, answer: str) -> tuple[float, float, float]:
    """Precision, recall, F1 over multisets of words (as SQuAD does, arXiv 1606.05250); of words: `medstudy.words`."""
    said, true = map(Counter, matched(final(prediction), answer))
    return precision_recall_f1((said & true).total(), said.total(), true.total())


def precision_recall_f1(shared: int, said: int, true: int) -> tuple[float, float, float]:
    """Of counts of words or names; all 0 where none is shared."""
    if not shared:
        return 0.0, 0.0, 0.0
    precision, recall = shared / said, shared / true
    return precision, recall, 2 * precision * recall / (precision + recall)


def exact_match(prediction: str, answer: str) -> float:
    """1 when both texts have the same words in the same order; 0 for a blank prediction."""
    said, true = matched(final(prediction), answer)
    return float(bool(said) and said == true)


def strict_choice(prediction: str, answer: str, options: Sequence[str] = ()) -> float:
    """1 when the prediction names the answer's option, by its letter or its text, and no other: `medstudy.choices`."""
    return float(choices.read(prediction, options).letter == answer)


def strict_class(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 when the answer is the only known class that the prediction names: `words.named` has the rules."""
    return float(named(final(prediction), classes) == {answer})


def strict_localizations(prediction: str, localizations: Sequence[str], known: Sequence[str]) -> float:
    """F1 of the known names that a prediction names (whole words, longest names only): wrong ones are charged for."""
    said, true = named(final(prediction), known), set(localizations)
    return precision_recall_f1(len(said & true), len(said), len(true))[2]

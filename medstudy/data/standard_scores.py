"""The standard scores of one answer: a prediction and its reference in, numbers in [0, 1] out.

A reference scores 1 on itself, and two references differ unless `medstudy.data.words` ignores every difference between
them (checked by `medstudy.data.references`). Reasoning before an answer is skipped, as in "<think>…</think> B".
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from medstudy.data import choices
from medstudy.data.words import comparable, named, without_reasoning
from medstudy.errors import DataError

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?")


def yes_or_no(answer: str) -> str:
    """The answer of a closed question in lower case. Raises DataError for any other than yes and no."""
    if (lower := answer.lower()) not in ("yes", "no"):
        raise DataError(f"The answer to a closed question is yes or no, got {lower!r}. Make it open or class.")
    return lower


def strict_closed(prediction: str, answer: str) -> float:
    """1 if the prediction contains the answer as a word, and not its opposite: "yes and no" is wrong for both."""
    given = {"yes", "no"}.intersection(_WORD.findall(without_reasoning(prediction).lower()))
    return float(given == {answer.lower()})


def multiset_words(prediction: str, answer: str) -> tuple[float, float, float]:
    """Precision, recall, F1 over multisets of words, as in SQuAD (arXiv 1606.05250), on `words.comparable`."""
    given, true = map(Counter, comparable(without_reasoning(prediction), answer))
    return precision_recall_f1((given & true).total(), given.total(), true.total())


def precision_recall_f1(shared: int, given: int, true: int) -> tuple[float, float, float]:
    """From counts of words or names: shared, given, true. All are 0 if none is shared."""
    if not shared:
        return 0.0, 0.0, 0.0
    precision, recall = shared / given, shared / true
    return precision, recall, 2 * precision * recall / (precision + recall)


def exact_match(prediction: str, answer: str) -> float:
    """1 if both texts have the same words in the same order; 0 for a blank prediction."""
    given, true = comparable(without_reasoning(prediction), answer)
    return float(bool(given) and given == true)


def strict_choice(prediction: str, answer: str, options: Sequence[str] = ()) -> float:
    """1 if the prediction names the answer's option, by letter or by text, and no other (see
    `medstudy.data.choices`).
    """
    return float(choices.read(prediction, options).letter == answer)


def strict_class(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 if the answer is the only known class that the prediction names, by the rules of `words.named`."""
    return float(named(without_reasoning(prediction), classes) == {answer})


def strict_localizations(prediction: str, localizations: Sequence[str], known: Sequence[str]) -> float:
    """F1 of the known names in the prediction, as whole words, the longest of nested names: wrong names cost."""
    given, true = named(without_reasoning(prediction), known), set(localizations)
    return precision_recall_f1(len(given & true), len(given), len(true))[2]

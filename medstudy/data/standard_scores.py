"""The standard scores of one answer: a prediction and its reference in, numbers in [0, 1] out.

A reference scores 1 on itself, and two references differ unless `medstudy.data.words` ignores every difference between
them (checked by `medstudy.data.references`). Reasoning before an answer is skipped, and so is
what is around a stated answer (`medstudy.data.final_answer`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from medstudy.data import choices, yes_no
from medstudy.data.final_answer import final
from medstudy.data.words import comparable, named


def yes_or_no(answer: str) -> str:
    """yes or no, of the answer of a closed question in any language of `yes_no`. Raises DataError for any other."""
    return yes_no.polarity(answer)[1]


def strict_closed(prediction: str, answer: str) -> float:
    """1 if the prediction contains the answer as a word, and not its opposite: "yes and no" is wrong for both.

    It is read in the language of the answer (`medstudy.data.yes_no`).
    """
    language, meaning = yes_no.find(answer) or ("en", answer)
    return float(yes_no.given(final(prediction).text, language) == {meaning})


def multiset_words(prediction: str, answer: str) -> tuple[float, float, float]:
    """Precision, recall, F1 over multisets of words, as in SQuAD (arXiv 1606.05250), on `words.comparable`."""
    given, true = map(Counter, comparable(final(prediction).text, answer))
    return precision_recall_f1((given & true).total(), given.total(), true.total())


def precision_recall_f1(shared: int, given: int, true: int) -> tuple[float, float, float]:
    """From counts of words or names: shared, given, true. All are 0 if none is shared."""
    if not shared:
        return 0.0, 0.0, 0.0
    precision, recall = shared / given, shared / true
    return precision, recall, 2 * precision * recall / (precision + recall)


def exact_match(prediction: str, answer: str) -> float:
    """1 if both texts have the same words in the same order; 0 for a blank prediction."""
    given, true = comparable(final(prediction).text, answer)
    return float(bool(given) and given == true)


def strict_choice(prediction: str, answer: str, options: Sequence[str] = ()) -> float:
    """1 if the prediction names the answer's option, by letter or by text, and no other (see
    `medstudy.data.choices`).
    """
    return float(choices.read(prediction, options).letter == answer)


def strict_class(prediction: str, answer: str, classes: Sequence[str]) -> float:
    """1 if the answer is the only known class that the prediction names, by the rules of `words.named`."""
    return float(named(final(prediction).text, classes) == {answer})


def strict_localizations(prediction: str, localizations: Sequence[str], known: Sequence[str]) -> float:
    """F1 of the known names in the prediction, as whole words, the longest of nested names: wrong names cost."""
    given, true = named(final(prediction).text, known), set(localizations)
    return precision_recall_f1(len(given & true), len(given), len(true))[2]

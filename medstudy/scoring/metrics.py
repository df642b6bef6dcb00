"""Scores as others compute them: a prediction and its reference in, numbers in [0, 1] out.

`author_*` follow the public evaluation code of the paper's first author (https://github.com/cliangyu/med_eval:
Qwen2-VL fine-tuned and scored on VQA-RAD, PathVQA, SLAKE, u-Bench, HPA and class data sets). Its oddities are kept, and
each docstring names them.
`llava_med_*` follow https://github.com/microsoft/LLaVA-Med (`llava/eval/run_eval.py` and `eval_metrics`).
The standard scores, which separate effects of these oddities from effects of the model, are in
`medstudy.data.standard_scores`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from medstudy.data.standard_scores import precision_recall_f1, strict_class, strict_localizations
from medstudy.data.words import ARTICLES, NUMBERS
from medstudy.errors import DataError

PUNCTUATION = ";/[]\"{}()=+\\_-><@`,?!"
_DIGIT_COMMA = re.compile(r"\d,\d")
_LONE_PERIOD = re.compile(r"(?<!\d)\.(?!\d)")


def normalise(text: str) -> list[str]:
    """The words of a text as VQA evaluations normalise them (https://visualqa.org/evaluation.html).

    Lower case; number words become digits; articles are removed. A punctuation mark that touches a space anywhere in
    the text, or any mark of a text with a comma inside a number, is deleted everywhere; other marks become spaces.
    Periods are removed unless next to a digit. Departure: no table of contractions (dont -> don't).
    """
    deletes_all = _DIGIT_COMMA.search(text) is not None
    out = text
    for mark in PUNCTUATION:
        if mark in text:
            touches = f"{mark} " in text or f" {mark}" in text
            out = out.replace(mark, "" if deletes_all or touches else " ")
    words = (NUMBERS.get(word, word) for word in _LONE_PERIOD.sub("", out).lower().split())
    return [word for word in words if word not in ARTICLES]


def names(text: str, name: str) -> bool:
    """Whether the text contains the name, case-insensitively, also inside a word (the author's rule)."""
    return name.lower() in text.lower()


# Closed questions

def author_closed(prediction: str, answer: str) -> float:
    """1 if the answer (yes or no) is a substring of the lower-cased prediction, for example "no" in "normal"."""
    return float(answer.lower() in prediction.lower())


def llava_med_closed(prediction: str, answer: str) -> float:
    """LLaVA-Med: 1 if the normalised answer is a substring of the normalised prediction and that contains yes or no.

    For yes/no answers it differs from `author_closed` only by normalisation ("none" becomes "0").
    """
    text = " ".join(normalise(prediction))
    return float(("yes" in text or "no" in text) and " ".join(normalise(answer)) in text)


# Open questions

def author_words(prediction: str, answer: str) -> tuple[float, float, float]:
    """Precision, recall, F1 over normalised words, as LLaVA-Med and the author compute them.

    Oddity: a shared word counts as often as it occurs in the *prediction*, so repeating it raises recall (prediction
    "liver liver", answer "liver spleen": 2 / 3). All are 0 if either text is empty.
    """
    given, true = Counter(normalise(prediction)), Counter(normalise(answer))
    shared = sum(count for word, count in given.items() if word in true)
    missed = sum(count for word, count in true.items() if word not in given)
    return precision_recall_f1(shared, sum(given.values()), shared + missed)


def llava_med_exact_match(prediction: str, answer: str) -> float:
    """LLaVA-Med's "exact match", which is none: distinct shared words / words of the prediction."""
    given = normalise(prediction)
    return len(set(given) & set(normalise(answer))) / len(given) if given else 0.0


# Choice and class

def author_choice(prediction: str, answer: str) -> float:
    """1 if the first non-blank character, in upper case, is the letter: "Benign" counts as B, "(B)" as wrong."""
    return float(prediction.strip().upper()[:1] == answer)


def likelihood(scores: Sequence[float], candidates: Sequence[str], answer: str) -> tuple[float, float]:
    """Whether the answer's option is the most likely: by its log-likelihood, and by that per character of its text.

    1, or a fraction for ties; NaN without log-likelihoods. `candidates` are the texts that were scored, one for each of
    `scores`: letters of a choice, words of a class. These are `acc` and `acc_norm` of lm-evaluation-harness, with two
    departures: it takes the first option of a tie, and it does not score the end of the answer, which here is part of
    every log-likelihood. For letters both are the same. Raises DataError.
    """
    if not len(scores):
        return np.nan, np.nan
    if answer not in candidates or len(scores) != len(candidates) or np.isnan(scores).any():
        raise DataError(
            f"Options need a log-likelihood each, that of the answer {answer!r} included, but for the options "
            f"{list(candidates)} there are {list(scores)}. Evaluate the model again."
        )
    place, sums = list(candidates).index(answer), np.asarray(scores, float)
    best = (values == values.max() for values in (sums, sums / [len(text) for text in candidates]))
    return tuple(float(most[place]) / most.sum() for most in best)


def author_class(prediction: str, answer: str) -> float:
    """1 if the lower-cased prediction contains the answer, as "abnormal" contains "normal"."""
    return float(answer.lower() in prediction.lower())


# Descriptions

def first_cell_line(text: str, known: tuple[str, ...]) -> str | None:
    """The known cell line that the text names first, case-insensitively, also inside a word (the author's rule).

    Oddity: "HEK293" is found in "HEK293T". Of names that begin at the same character, the first of `known` wins.
    Departure: the author iterates over a set, whose order differs from run to run; `known` is sorted.
    """
    places = {name: text.lower().find(name.lower()) for name in known}
    return min((name for name in known if places[name] >= 0), key=places.get, default=None)


def description(
    text: str, cell_line: str | None, localizations: tuple[str, ...], known_lines: tuple[str, ...],
    known_places: tuple[str, ...],
) -> tuple[float, float, float, float]:
    """The author's cell-line hit and localization recall, then strict cell line and localization F1.

    The author's recall is the fraction of true localizations found as substrings, which rewards naming all of them.
    The strict F1 (whole words, longest names only) penalises wrong ones. The author reports recall as a macro mean
    over a test set: `scoring.macro_localization_recall`. NaN without a reference.
    """
    hit = strict_line = recall = strict_f1 = np.nan
    if cell_line:
        hit = float((first_cell_line(text, known_lines) or "").upper() == cell_line.upper())
        strict_line = strict_class(text, cell_line, known_lines)
    if localizations:
        recall = sum(names(text, name) for name in localizations) / len(localizations)
        strict_f1 = strict_localizations(text, localizations, known_places)
    return hit, recall, strict_line, strict_f1

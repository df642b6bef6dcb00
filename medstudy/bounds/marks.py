"""What a task says about resolution, from the readers' answers: by intervals, never by point estimates alone.

Each task gets one of three marks. With R readers at native (`tower` and `pixels`; in a probe study, one for each
training view) every interval is at confidence 1 - (1 - c) / R,
Bonferroni's correction for picking the better reader; intervals cluster by image, as those of all other scores.

visible   Some reader tells the task from chance at native: the lower end of its score is above uniform guessing, and
          the lower end of its gain over `guess` (the most frequent training answer, without an image; paired by
          question) is above 0. A task that is not shown to be visible says nothing about resolution.
fine      The task is visible, and its bound falls at the low rung: some reader for which it is visible beats, at
          native, every reader at the low rung; the lower end of each of these paired differences is above 0. A task
          whose bound is not shown to fall is not a fine one, whatever the size of its detail.

Both marks are conservative: "fine" needs every reader to be beaten (an intersection-union test, which needs no further
correction), and what is not shown stays unmarked. The interval of the fall says how much a fall could have been missed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

import pandas as pd

from medstudy.bounds.questions import TASK
from medstudy.bounds.results import FINE, GUESS, NOT_FINE, UNSEEN
from medstudy.statistics import Difference, mean_interval, paired_difference


def marks(answers: pd.DataFrame, native: str, low: str, confidence: float = 0.95) -> pd.DataFrame:
    """One row per data set and task: visible, fine, mark, the bound's reader and its fall from native to low.

    answers: `readings.table`; native, low: labels of rungs. bound: the reader with the highest score at native; fall:
    its smallest gain at native over any reader at the low rung, with the ends of that interval.
    """
    rows = [
        dict(zip(TASK, task, strict=True)) | {"level": part["level"].iloc[0], "native": native, "low": low}
        | _marked(part, native, low, confidence)
        for task, part in answers.groupby(TASK, sort=False)
    ]
    names = [*TASK, "level", "native", "low", "visible", "fine", "mark", "bound", "fall", "fall_low", "fall_high"]
    return pd.DataFrame(rows, columns=names)


def _marked(part: pd.DataFrame, native: str, low: str, confidence: float) -> dict:
    at = {rung: dict(list(part[part["inference"] == rung].groupby(["reader", "regime"]))) for rung in (native, low)}
    guess = part[part["reader"] == GUESS]
    strict = 1 - (1 - confidence) / max(1, len(at[native]))
    visible = [name for name, rows in at[native].items() if _is_visible(rows, guess, strict)]
    falls = {name: _smallest(at[native][name], at[low].values(), strict) for name in at[native]}
    fine = [name for name in visible if falls[name].low > 0]
    best = max(fine or visible or at[native], key=lambda name: (at[native][name]["score"].mean(), name))
    name = best[0] if len({regime for _, regime in at[native]}) == 1 else " at ".join(best)
    fall = asdict(falls[best])
    return {
        "visible": bool(visible), "fine": bool(fine), "mark": FINE if fine else NOT_FINE if visible else UNSEEN,
        "bound": name, "fall": fall["estimate"], "fall_low": fall["low"], "fall_high": fall["high"],
    }


def _is_visible(rows: pd.DataFrame, guess: pd.DataFrame, confidence: float) -> bool:
    above = mean_interval(rows, confidence=confidence).low > rows["chance"].mean()
    return bool(above and paired_difference(rows, guess, confidence=confidence).low > 0)


def _smallest(rows: pd.DataFrame, others: Iterable[pd.DataFrame], confidence: float) -> Difference:
    """The difference with the smallest lower end between `rows` and each of the others."""
    each = (paired_difference(rows, other, confidence=confidence) for other in others)
    return min(each, key=lambda difference: difference.low)

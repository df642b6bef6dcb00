"""The numbers that the paper's first author's code reports, beside the same with greedy answers and standard scores.

Two things set the author's results apart: answers sampled at a temperature (`medstudy.sampling`) and lenient scores
(`medstudy.metrics`). Both are crossed here, so that the one can be told from the other. No model is needed: all follows
from predictions.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd

from medstudy import scoring
from medstudy.intervals import macro_interval, summarise

KEYS = ["dataset", "regime", "inference"]


@dataclass(frozen=True)
class Metric:
    """One number of the author's report: the questions it is over, its score of a row, and the standard one beside it.

    of: the column each value of which weighs the same, or None for a mean over questions.
    """

    name: str
    kind: str
    author: str
    standard: str
    of: str | None = None


METRICS = (
    Metric("closed accuracy", "closed", "author", "strict"),
    Metric("open recall", "open", "recall", "strict_recall"),
    Metric("open F1", "open", "f1", "strict_f1"),
    Metric("letter accuracy", "choice", "author", "strict"),
    Metric("class accuracy", "class", "author", "strict"),
    Metric("cell-line recall", "description", "cell_line_hit", "strict_cell_line"),
    Metric("localization macro recall", "description", "named", "strict_localization_f1", of="localizations"),
)
COLUMNS = {  # (whose decoding, whose score)
    "author_mode_pct": ("sampled", "author"),
    "sampled_standard_pct": ("sampled", "standard"),
    "greedy_author_pct": ("greedy", "author"),
    "strict_mode_pct": ("greedy", "standard"),
}
ENDS = {"estimate": "", "low": "_low", "high": "_high"}
COUNTS = {"n_questions": "questions", "n_images": "images", "n_seeds": "seeds"}


def table(scores: pd.DataFrame, level: float = 0.95) -> pd.DataFrame:
    """One row a data set x regime x inference policy x metric: `COLUMNS` in %, each with its interval, and the counts.

    `scores` are those of `scoring.score`, of all decodings. A column is NaN where its answers were not asked for.
    """
    decoded = {"greedy": scoring.greedy(scores), "sampled": scoring.sampled(scores)}
    parts = [_part(metric, decoded, level).assign(place=place) for place, metric in enumerate(METRICS)]
    made = pd.concat(parts, ignore_index=True).sort_values([*KEYS, "place"], ignore_index=True)
    numbers = [f"{name}{end}" for name in COLUMNS for end in ENDS.values()]
    return made.reindex(columns=[*KEYS, "metric", *numbers, *COUNTS.values()])


def _part(metric: Metric, decoded: dict[str, pd.DataFrame], level: float) -> pd.DataFrame:
    """The rows of one metric; none where no answer has it."""
    counts = [*COUNTS.values()]
    made = pd.DataFrame(columns=[*KEYS, *counts])
    for name, (whose, score) in COLUMNS.items():
        found = _summary(metric, decoded[whose], score, level)
        if len(found):
            ends = {end: f"{name}{suffix}" for end, suffix in ENDS.items()}
            found = found.assign(**{end: 100 * found[end] for end in ENDS}).rename(columns=ends | COUNTS)
            made = found if made.empty else made.merge(found, on=KEYS, how="outer", suffixes=("", "_again"))
            for count in filter(lambda count: f"{count}_again" in made, counts):
                made[count] = made[count].fillna(made.pop(f"{count}_again")).astype(int)
    return made.assign(metric=metric.name)


def _summary(metric: Metric, rows: pd.DataFrame, score: str, level: float) -> pd.DataFrame:
    """KEYS, estimate, low, high and counts of every cell that has the metric."""
    rows, value = rows[rows["kind"] == metric.kind], getattr(metric, score)
    if metric.of and score == "author":
        cells = scoring.localizations_named(rows).groupby(KEYS, sort=True, observed=True)
        found = [dict(zip(KEYS, key, strict=True)) | asdict(macro_interval(part, metric.of, value, level))
                 for key, part in cells]  # fmt: skip
        return pd.DataFrame(found)
    return summarise(rows, KEYS, value, level) if rows[value].notna().any() else pd.DataFrame()

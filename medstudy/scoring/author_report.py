"""The metrics that the code of the paper's first author reports, next to greedy answers and standard metrics.

The author's results differ in two ways: answers are sampled at a temperature (`medstudy.evaluation.sampling`), and
metrics are
lenient (`medstudy.scoring.metrics`). This table crosses both to separate their effects. It needs predictions, but no
model.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import pandas as pd

from medstudy.scoring import score as scoring_score
from medstudy.statistics.intervals import macro_interval, summarise

KEYS = ["dataset", "regime", "inference"]


@dataclass(frozen=True)
class Metric:
    """A metric of the author's report: its kind of questions, its column of scores, and the standard column.

    of: None for a mean over questions; else the column each value of which has the same weight.
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
COLUMNS = {  # (decoding, whose metric)
    "author_mode_pct": ("sampled", "author"),
    "sampled_standard_pct": ("sampled", "standard"),
    "greedy_author_pct": ("greedy", "author"),
    "strict_mode_pct": ("greedy", "standard"),
}
ENDS = {"estimate": "", "low": "_low", "high": "_high"}
COUNTS = {"n_questions": "questions", "n_images": "images", "n_seeds": "seeds"}


def table(scores: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """One row per data set x regime x inference policy x metric: `COLUMNS` in % with intervals, and counts.

    scores: those of `scoring.score`, of all decodings. A column is NaN if the study has no answers of its decoding.
    """
    decoded = {"greedy": scoring_score.greedy(scores), "sampled": scoring_score.sampled(scores)}
    parts = [_part(metric, decoded, confidence).assign(place=place) for place, metric in enumerate(METRICS)]
    rows = pd.concat(parts, ignore_index=True).sort_values([*KEYS, "place"], ignore_index=True)
    numbers = [f"{name}{end}" for name in COLUMNS for end in ENDS.values()]
    return rows.reindex(columns=[*KEYS, "metric", *numbers, *COUNTS.values()])


def _part(metric: Metric, decoded: dict[str, pd.DataFrame], confidence: float) -> pd.DataFrame:
    """The rows of one metric; empty if no answer has it."""
    counts = [*COUNTS.values()]
    table = pd.DataFrame(columns=[*KEYS, *counts])
    for name, (decoding, score) in COLUMNS.items():
        cells = _summary(metric, decoded[decoding], score, confidence)
        if len(cells):
            # shares as per cent, in columns named after the combination
            ends = {end: f"{name}{suffix}" for end, suffix in ENDS.items()}
            cells = cells.assign(**{end: 100 * cells[end] for end in ENDS}).rename(columns=ends | COUNTS)
            # join with the other combinations; counts of cells that only this one has come from it
            table = cells if table.empty else table.merge(cells, on=KEYS, how="outer", suffixes=("", "_again"))
            for count in filter(lambda count: f"{count}_again" in table, counts):
                table[count] = table[count].fillna(table.pop(f"{count}_again")).astype(int)
    return table.assign(metric=metric.name)


def _summary(metric: Metric, rows: pd.DataFrame, score: str, confidence: float) -> pd.DataFrame:
    """KEYS, estimate, low, high and counts of every cell with the metric."""
    rows, value = rows[rows["kind"] == metric.kind], getattr(metric, score)
    if metric.of and score == "author":
        cells = scoring_score.localizations_named(rows).groupby(KEYS, sort=True, observed=True)
        return pd.DataFrame([
            dict(zip(KEYS, key, strict=True)) | asdict(macro_interval(part, metric.of, value, confidence))
            for key, part in cells
        ])
    return summarise(rows, KEYS, value, confidence) if rows[value].notna().any() else pd.DataFrame()

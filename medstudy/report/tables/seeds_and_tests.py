"""The study's comparisons as one family of tests: paired differences, each seed's, Holm's correction, effect sizes."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections, style
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import holm, paired_difference, pairs

TITLE = "Seeds and tests"
NEEDS_TRAINING = True  # a study without regimes cannot have it


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x level x comparison run: difference (points), each seed's, Cohen's h, p, Holm's p."""
    rows = selections.tested(study.scores)
    comparisons = [
        row
        for name in selections.datasets(rows)
        for level in style.LEVELS
        for row in _rows(rows[(rows["dataset"] == name) & (rows["level"] == level)], name, level, study)
    ]
    table = pd.DataFrame(comparisons)
    if table.empty:
        return table
    return table.assign(p_holm=holm(table["p"])["p_holm"].to_numpy(), tests=len(table))


def _comparisons(rows: pd.DataFrame, low: str | None) -> list[tuple[str, pd.DataFrame, pd.DataFrame]]:
    """(words, a, b): a minus b."""
    blind = rows[(rows["control"] == "blind") & (rows["regime"] == "native")]
    several = [r for r in selections.regimes(rows) if r not in ("native", low, "base")]
    pairs_of = [
        (("native", "native"), (low, low)),
        (("native", low), (low, low)),
        ((low, "native"), ("native", "native")),
    ]
    pairs_of += [((r, i), (i, i)) for r in several for i in ("native", low)]
    of = {key: selections.cell(rows, *key) for pair in pairs_of for key in pair if all(key)}
    cells = [(_words(*a, *b), of[a], of[b]) for a, b in pairs_of if a in of and b in of]
    cells.append(("native minus the same models shown no image", of["native", "native"], blind))
    return [(words, a, b) for words, a, b in cells if len(a) and len(b)]


def _words(trained: str, shown: str, other: str, other_shown: str) -> str:
    names = [style.regime_label(r or "none") for r in (trained, other)]
    if shown == other_shown:
        return f"{names[0]} minus {names[1]}, both shown {style.rung_label(shown or 'none')}"
    return f"{names[0]} minus {names[1]}, each at its own"


def _rows(rows: pd.DataFrame, name: str, level: str, study: StudyData) -> list[dict]:
    return [{"dataset": name, "level": level, "comparison": words} | _test(a, b, study.confidence)
            for words, a, b in _comparisons(rows, study.low)]


def _test(a: pd.DataFrame, b: pd.DataFrame, confidence: float) -> dict:
    difference, both = paired_difference(a, b, confidence=confidence), pairs(a, b)
    seeds = 100 * (both["a"] - both["b"]).groupby(both["run"]).mean()
    return columns.triple(difference, "difference_points") | {
        "each_seed_points": ", ".join(f"{d:+.1f}" for d in seeds),
        "seed_sd_points": float(seeds.std(ddof=1)),
        "cohens_h": difference.effect,
        "questions": difference.n_questions,
        "images": difference.n_images,
        "seeds": difference.n_seeds,
        "p": difference.p,
    }


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        f"Paired differences of the score in percentage points, with {study.confidence:.0%} intervals over image "
        "groups and training seeds. each_seed_points: the difference for every seed alone; seed_sd_points: their "
        "standard deviation; cohens_h: effect size of the two means (0.2 small, 0.5 medium, 0.8 large); p: two-sided, "
        f"from the same variances as the interval; p_holm: Holm's correction over this table's family of {len(table)} "
        "tests."
    )

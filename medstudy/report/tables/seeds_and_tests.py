"""The comparisons of the study in one family of tests: paired differences, seed by seed, Holm's correction, effect."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections, style
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns
from medstudy.statistics import holm, paired_difference, pairs

TITLE = "Seeds and tests"


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x level x comparison that was run: difference (points), p, Holm's p, Cohen's h, each seed."""
    rows = selections.tested(study.scores)
    found = [
        row
        for name in selections.datasets(rows)
        for level in style.LEVELS
        for row in _rows(rows[(rows["dataset"] == name) & (rows["level"] == level)], name, level, study)
    ]
    table = columns.frame(found)
    return table.assign(p_holm=holm(table["p"])["p_holm"].to_numpy(), tests=len(table)) if found else table


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
    return [{"dataset": name, "level": level, "comparison": words} | _test(a, b, study.level)
            for words, a, b in _comparisons(rows, study.low)]


def _test(a: pd.DataFrame, b: pd.DataFrame, level: float) -> dict:
    found, both = paired_difference(a, b, level=level), pairs(a, b)
    seeds = 100 * (both["a"] - both["b"]).groupby(both["run"]).mean()
    counts = {"questions": found.n_questions, "images": found.n_images, "seeds": found.n_seeds}
    return (
        columns.triple(found, "difference_points")
        | {
            "each_seed_points": ", ".join(f"{d:+.1f}" for d in seeds),
            "seed_sd_points": float(seeds.std(ddof=1)),
        }
        | {"cohens_h": found.effect}
        | counts
        | {"p": found.p}
    )


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return (
        f"Paired differences of the main score, percentage points, with {study.level:.0%} intervals over "
        "image groups and training seeds; each_seed_points: the difference of every seed on its own, "
        "seed_sd_points their standard deviation; cohens_h: effect size of the two means (0.2 small, 0.5 "
        "medium, 0.8 large); p: two-sided, from the same variances as the interval; p_holm: Holm's "
        f"correction over this table's family of {len(table)} tests."
    )

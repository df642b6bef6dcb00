"""Main results: every regime at the inference policy that matches its training, by data set and kind of question."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables.columns import percent
from medstudy.statistics import summarise

TITLE = "Main results"
KEYS = ["dataset", "kind", "regime", "inference"]
ALL = "all kinds"


def build(study: StudyData) -> pd.DataFrame:
    """One row a data set x kind (or "all kinds") x regime: the author's and the strict score, % with intervals."""
    rows = selections.aligned(study.scores)
    if rows.empty:
        return pd.DataFrame()
    both = pd.concat([rows.assign(kind=ALL), rows.assign(kind=rows["kind"].astype(str))], ignore_index=True)
    author = percent(summarise(both, KEYS, value="author", level=study.level), "author_pct")
    strict = percent(summarise(both, KEYS, value="strict", level=study.level), "strict_pct")
    table = author.merge(
        strict[[*KEYS, "strict_pct", "strict_pct_low", "strict_pct_high"]], on=KEYS, how="left"
    )
    chosen = rows[rows["kind"] == "choice"]
    if "likelihood" in chosen and chosen["likelihood"].notna().any():
        likely = percent(summarise(chosen, KEYS, "likelihood", study.level), "likelihood_pct")
        ends = ["likelihood_pct", "likelihood_pct_low", "likelihood_pct_high"]
        table = table.merge(selections.texts(likely)[[*KEYS, *ends]], on=KEYS, how="left")
    counts = ["questions", "images", "seeds"]
    return _ordered(table[[c for c in table if c not in counts] + counts])


def _ordered(table: pd.DataFrame) -> pd.DataFrame:
    ranks = {
        "dataset": selections.datasets(table),
        "regime": selections.regimes(table),
        "kind": [ALL, *sorted(set(table["kind"]) - {ALL})],
    }
    places = table[["dataset", "kind", "regime"]].apply(lambda c: c.map(ranks[c.name].index))
    order = places.sort_values(["dataset", "kind", "regime"]).index
    return table.loc[order].reset_index(drop=True)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    likely = (
        "likelihood_pct: of choices, the right option has the highest log-likelihood of all, whatever was written. "
        if "likelihood_pct" in table
        else ""
    )
    return (
        "Each training regime at the inference policy that matches it (native for mixed, added and "
        "curriculum regimes). author_pct: the score as the paper's first author's public code computes "
        "it, bug for bug; strict_pct: the standard one beside it (word-level yes/no, multiset word "
        "recall, the option that is named and no other, the class named and no other), which every other "
        f"figure and table calls the score. {likely}In brackets "
        f"{captions.interval_words(study)}; images counts independent groups."
    )

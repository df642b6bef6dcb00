"""Selections of scores that figures and tables share."""

from __future__ import annotations

import numpy as np
import pandas as pd

from medstudy.report import style

UNITS = {"flops": 1e12, "visual_tokens": 1e3, "seconds": 1.0}  # of training costs


def tested(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split."""
    return _kept(scores, scores["split"] == "test")


def plain(scores: pd.DataFrame) -> pd.DataFrame:
    """The test rows without controls, where each image is shown as its inference policy defines."""
    return _kept(scores, is_plain(scores))


def is_plain(scores: pd.DataFrame) -> pd.Series:
    """Whether each row belongs to the test split and to no control."""
    return (scores["split"] == "test") & (scores["control"] == "none")


def controls(scores: pd.DataFrame) -> pd.DataFrame:
    """The test rows of controls, without those of a down_up regime at its own view."""
    rows = tested(scores)
    return rows[_controlled(rows)]


def _controlled(rows: pd.DataFrame) -> pd.Series:
    return (rows["control"] != "none") & (rows["regime"].astype(object) != rows["inference"].astype(object))


def _kept(scores: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The chosen rows, without a copy if that is all of them."""
    return scores if chosen.all() else scores[chosen]


def cell(scores: pd.DataFrame, regime: str, inference: str) -> pd.DataFrame:
    """The plain rows of one regime at one inference policy; empty if not run."""
    chosen = (scores["regime"] == regime) & (scores["inference"] == inference)
    return scores[chosen & is_plain(scores)]


def arm(scores: pd.DataFrame, policy: str) -> pd.DataFrame:
    """The plain rows of the regime trained and run at a policy; where nothing is trained, of the model run at it."""
    return cell(scores, policy if trained(scores) else "base", policy)


def trained(scores: pd.DataFrame) -> bool:
    """Whether the scores are of models that the study trained, besides the model as it is."""
    return bool((scores["regime"] != "base").any())


def ladder(scores: pd.DataFrame) -> list[str]:
    """Inference policies from the smallest pixel budget to the largest (native last)."""
    rungs = scores[["inference", "budget_pixels"]].drop_duplicates("inference")
    return rungs.sort_values(["budget_pixels", "inference"])["inference"].tolist()


def evenly_spaced(policies: list[str], n: int) -> list[str]:
    """At most n policies, evenly spaced from the lowest to native."""
    places = np.unique(np.linspace(0, len(policies) - 1, min(n, len(policies))).round().astype(int))
    return [policies[i] for i in places]


def aligned_policy(regime: str, policies: list[str]) -> str:
    """The policy that matches a training regime: its own view if that was run, else native."""
    own = style.own_view(regime)
    return own if own in policies else "native"


def aligned(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of each regime at the view that matches its training; of down_up that is a control's."""
    rows = tested(scores)
    rows = _kept(rows, ~_controlled(rows))
    policies = ladder(rows)
    matching = np.logical_or.reduce([
        (rows["regime"] == regime) & (rows["inference"] == aligned_policy(regime, policies))
        for regime in rows["regime"].unique()
    ])
    return rows[matching]


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with categorical columns as texts, so that it can be joined with any other."""
    return table.astype({name: str for name in table.select_dtypes("category")})


def datasets(table: pd.DataFrame) -> list[str]:
    """Data sets in the order of every figure: the phantom first, the others by name."""
    return sorted(table["dataset"].unique(), key=lambda name: (name != "phantom", name))


def regimes(table: pd.DataFrame) -> list[str]:
    """Regimes of a table in the order of every legend."""
    return style.regime_order(table["regime"].unique())


def shown_sizes(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`side_px`, the geometric mean of sqrt(shown height x width), and `tokens`, the mean of visual tokens, by group.

    Each image counts once, however many questions it has.
    """
    once = scores.drop_duplicates([*by, "image_id"])
    log_side = 0.5 * np.log(once["shown_height"].clip(lower=1) * once["shown_width"].clip(lower=1))
    sized = once.assign(side_px=log_side)
    table = sized.groupby(by, observed=True).agg(side_px=("side_px", "mean"), tokens=("visual_tokens", "mean"))
    return texts(table.assign(side_px=np.exp(table["side_px"])).reset_index())


def spent(training: pd.DataFrame) -> pd.DataFrame:
    """Columns regime, cost and spent (in `UNITS`): the cumulative cost at the last step, averaged over runs."""
    last = training.groupby(["regime", "run_id"])[list(UNITS)].max().groupby("regime").mean() / pd.Series(UNITS)
    return last.melt(ignore_index=False, var_name="cost", value_name="spent").reset_index()

"""Columns that tables share: estimates with intervals in per cent or points, named with their unit."""

from __future__ import annotations

import pandas as pd

from medstudy.report import selections
from medstudy.statistics.intervals import Estimate

MEASURED = ("count", "point", "box", "report")  # kinds of questions with a table of their own
COUNTS = {"n_questions": "questions", "n_images": "images", "n_seeds": "seeds"}


def percent(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """estimate, low, high (in [0, 1]) as `name`, `name`_low, `name`_high in per cent or points; counts renamed."""
    ends = {"estimate": name, "low": f"{name}_low", "high": f"{name}_high"}
    scaled = table.assign(**{column: 100 * table[column] for column in ends})
    return scaled.rename(columns=ends | COUNTS)


def triple(estimate: Estimate, name: str) -> dict[str, float]:
    """The same for one Interval, Difference or RelativeChange, as entries of a row."""
    return {name: 100 * estimate.estimate, f"{name}_low": 100 * estimate.low, f"{name}_high": 100 * estimate.high}


def in_order(table: pd.DataFrame, **orders: list[str]) -> pd.DataFrame:
    """The rows sorted by data set and then by these columns, each in the given order of values; ties keep theirs."""
    orders = {"dataset": selections.datasets(table)} | orders
    places = pd.DataFrame({name: table[name].map(order.index) for name, order in orders.items()})
    return table.loc[places.sort_values(list(orders), kind="stable").index].reset_index(drop=True)

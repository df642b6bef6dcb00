"""Scores and costs by regime and rung: means over the right rows, fronts, unknown costs, models compared."""

import numpy as np
import pandas as pd
import pytest

from medstudy.report import inference_cost
from medstudy.report.figures import score_and_cost
from medstudy.report.pages import compare
from medstudy.report.study_data import StudyData
from medstudy.report.tables import inference_costs
from medstudy.statistics import mean_interval
from tests.support.scored_study import study


@pytest.fixture(scope="module")
def small():
    return study()


def test_costs_are_means_a_question_and_sums_an_image(small):
    points = inference_cost.points(small.scores, small.costs, 0.95).set_index(inference_cost.CELL)
    point = points.loc[("phantom", "native", "fixed-84")]
    rows = small.costs[(small.costs["dataset"] == "phantom") & (small.costs["regime"] == "native")
                       & (small.costs["inference"] == "fixed-84") & (small.costs["control"] == "none")]
    assert point["flops"] == pytest.approx(rows["flops"].mean())
    assert point["image_flops"] == pytest.approx(rows["flops"].sum() / (rows["image_id"].nunique() * 2))  # two seeds
    assert point["tokens"] == pytest.approx(rows.drop_duplicates("image_id")["visual_tokens"].mean())
    scores = small.scores[(small.scores["dataset"] == "phantom") & (small.scores["regime"] == "native")
                          & (small.scores["inference"] == "fixed-84")]
    assert point["estimate"] == pytest.approx(mean_interval(scores).estimate)
    table = inference_costs.build(small).set_index(inference_cost.CELL).loc[("phantom", "native", "fixed-84")]
    assert table["gflop_a_question"] == pytest.approx(point["flops"] / 1e9)
    assert table["prefill_ms_a_question"] == pytest.approx(1000 * point["prefill_seconds"])


def test_the_front_is_what_nothing_beats_for_the_same_cost_or_less():
    spent, score = pd.Series([1.0, 2, 2, 3, 4, np.nan]), pd.Series([0.5, 0.4, 0.7, 0.7, 0.9, 1.0])
    assert inference_cost.front(spent, score).tolist() == [True, False, True, False, True, False]


def test_unknown_costs_have_no_row_and_no_column(small):
    elsewhere = small.costs.assign(flops=np.nan, prefill_seconds=np.nan, decode_seconds=np.nan, memory_mb=np.nan)
    data = StudyData(scores=small.scores, costs=elsewhere)
    assert set(score_and_cost.build(data)["cost"]) == {"seconds", "tokens"}
    table = inference_costs.build(data)
    assert "ms_a_question" in table and not {"gflop_a_question", "memory_mb", "decode_ms_a_question"} & set(table)
    assert score_and_cost.build(StudyData(scores=small.scores)).empty
    assert inference_costs.build(StudyData(scores=small.scores)).empty


def test_models_compared_have_a_line_each(small):
    """One of the two does not state its operations."""
    base = small.scores[small.scores["regime"] == "native"].assign(regime="base", model="ours")
    other = base.assign(model="served")
    costs = small.costs[small.costs["regime"] == "native"].assign(regime="base", model="ours")
    both = pd.concat([costs, costs.assign(model="served", flops=np.nan)])
    points = inference_cost.points(pd.concat([base, other]), both, 0.95, ("model", "regime"))
    named = compare.named(points, trained=False)
    assert set(named["series"]) == {"ours", "served"}
    table = score_and_cost.long(named, "series")
    counted = table[table["cost"] == "flops"]
    assert set(counted["series"]) == {"ours"} and set(table["series"]) == {"ours", "served"}
    series = ["ours", "served"]
    figure = score_and_cost.drawn(table, series, compare.looks(series).__getitem__, str, "model")
    assert len(figure.axes) == 3 * 2 and [text.get_text() for text in figure.legends[0].get_texts()] == series
    wide = inference_costs.wide(named, "series")
    assert wide.loc[wide["series"] == "served", "gflop_a_question"].isna().all()
    trained = compare.named(inference_cost.points(small.scores, small.costs, 0.95, ("model", "regime")), trained=True)
    assert "synthetic, fixed 84²" in set(trained["series"])

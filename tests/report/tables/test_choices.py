"""How choices were answered: the share that names no option, or several, rung by rung; likelihoods where scored."""

import numpy as np
import pandas as pd
import pytest

from medstudy.report.study_data import StudyData
from medstudy.report.tables import choices, main_results
from medstudy.scoring import score
from tests.support import synthetic
from tests.support.scored_study import study

SAID = {"fixed-84": ["A or B", "no idea", "**{}**", "The answer is {}."], "native": ["{}", "({})", "{}.", "B, I think"]}


@pytest.fixture(scope="module")
def asked():
    """80 choices at two rungs, in four forms; the likelihoods are right at native alone, and tie below."""
    rows = synthetic.predictions(80, 1, ("native",), tuple(SAID), ())
    rows = rows[rows["kind"] == "choice"].reset_index(drop=True)
    place = rows.groupby("inference").cumcount()
    each = zip(rows["inference"], place, rows["answer"], strict=True)
    said = [SAID[rung][n % 4].format(true) for rung, n, true in each]
    likely = [np.where(np.array(list("ABCD")) == true, -0.1, -3.0) if rung == "native" else [-1.0] * 4
              for rung, true in zip(rows["inference"], rows["answer"], strict=True)]
    scores = score.score(rows.assign(raw_text=said, option_log_likelihoods=likely))
    return StudyData(scores, study={"low": "fixed-84"})


def test_shares_by_rung_with_intervals(asked):
    table = choices.build(asked).set_index("inference")
    assert table["none_pct"].to_dict() == {"fixed-84": 25, "native": 0}
    assert table["several_pct"].to_dict() == {"fixed-84": 25, "native": 0}
    assert table["likelihood_pct"].to_dict() == {"fixed-84": 25, "native": 100}
    assert table.loc["fixed-84", "strict_pct"] == 50
    assert table.loc["fixed-84", "none_pct_low"] < 25 < table.loc["fixed-84", "none_pct_high"]
    assert "acc" in choices.caption(table, asked)


def test_the_main_results_have_the_likelihoods_of_choices_alone(asked):
    table = main_results.build(asked).set_index("kind")
    assert table.loc["choice", "likelihood_pct"] == 100 and np.isnan(table.loc[main_results.ALL, "likelihood_pct"])
    assert "log-likelihood" in main_results.caption(table, asked)
    assert "likelihood_pct" not in main_results.build(study())


def test_a_study_without_choices_has_no_such_table(asked):
    closed = StudyData(asked.scores.assign(kind="closed"))
    assert choices.applies(asked) and not choices.applies(closed) and choices.build(closed).empty
    assert "likelihood_pct" not in choices.build(StudyData(asked.scores.assign(likelihood=pd.NA)))

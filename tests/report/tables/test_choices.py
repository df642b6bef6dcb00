"""The table of choices: shares of answers that name no option or several at each rung; likelihoods if scored."""

import numpy as np
import pandas as pd
import pytest

from medstudy.report.study_data import StudyData
from medstudy.report.tables import choices, main_results
from medstudy.scoring import score
from tests.support import synthetic
from tests.support.scored_study import study

TEXTS = {
    "fixed-84": ["A or B", "no idea", "**{}**", "The answer is {}."], "native": ["{}", "({})", "{}.", "B, I think"]
}


@pytest.fixture(scope="module")
def with_choices():
    """80 choices at two rungs, answered in four forms; likelihoods are right only at native, and tied below."""
    rows = synthetic.predictions(80, 1, ("native",), tuple(TEXTS), ())
    rows = rows[rows["kind"] == "choice"].reset_index(drop=True)
    place = rows.groupby("inference").cumcount()
    each = zip(rows["inference"], place, rows["answer"], strict=True)
    texts = [TEXTS[rung][n % 4].format(true) for rung, n, true in each]
    likely = [np.where(np.array(list("ABCD")) == true, -0.1, -3.0) if rung == "native" else [-1.0] * 4
              for rung, true in zip(rows["inference"], rows["answer"], strict=True)]
    scores = score.score(rows.assign(raw_text=texts, option_log_likelihoods=likely))
    return StudyData(scores, study={"low": "fixed-84"})


def test_shares_by_rung_with_intervals(with_choices):
    table = choices.build(with_choices).set_index("inference")
    assert table["none_pct"].to_dict() == {"fixed-84": 25, "native": 0}
    assert table["several_pct"].to_dict() == {"fixed-84": 25, "native": 0}
    assert table["likelihood_pct"].to_dict() == {"fixed-84": 25, "native": 100}
    assert table.loc["fixed-84", "strict_pct"] == 50
    assert table.loc["fixed-84", "none_pct_low"] < 25 < table.loc["fixed-84", "none_pct_high"]
    assert "acc" in choices.caption(table, with_choices)


def test_main_results_have_likelihoods_only_for_choices(with_choices):
    table = main_results.build(with_choices).set_index("kind")
    assert table.loc["choice", "likelihood_pct"] == 100 and np.isnan(table.loc[main_results.ALL, "likelihood_pct"])
    assert "log-likelihood" in main_results.caption(table, with_choices)
    assert "likelihood_pct" not in main_results.build(study())


def test_without_choices_there_is_no_such_table(with_choices):
    closed = StudyData(with_choices.scores.assign(answer_read=None))
    assert choices.applies(with_choices) and not choices.applies(closed) and choices.build(closed).empty
    unscored = with_choices.scores.assign(likelihood=pd.NA, likelihood_norm=pd.NA)
    assert not {"likelihood_pct", "likelihood_norm_pct"} & set(choices.build(StudyData(unscored)))

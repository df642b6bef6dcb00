"""The parts of native's gain: they add up, planted ones are found, and each says what it compares."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medstudy.claims import arms, ours
from medstudy.claims.study_scores import StudyScores
from medstudy.scoring import score as scoring_score
from medstudy.statistics import gain_parts
from tests.support.synthetic import ARMS, REGIMES, Effects, predictions

ALL = (*REGIMES, *ARMS)
IDS = ["O8", "O9", "O10"]
EQUAL = dict.fromkeys(ALL, 2.5)  # the same acuity, so that regimes differ only by what they are shown
NOTHING = Effects(acuity_px=EQUAL, mismatch_loss=0.0, seed_sd=0.02)


def made(effects=NOTHING, **options):
    rungs = ("fixed-84", "native")
    return scoring_score.score(predictions(**{"n_images": 160, "regimes": ALL, "rungs": rungs} | options,
                                           effects=effects))


@pytest.fixture(scope="module")
def scores():
    return made()


def of(scores, **names):
    study = StudyScores(scores, **names)
    return pd.DataFrame([vars(test(study)) for test in (ours.fine_gain, *arms.CLAIMS)]).set_index("id")


@pytest.mark.parametrize("lost", [0.0, 0.02])
def test_the_three_parts_add_up_to_the_gain(scores, lost):
    """Whatever the number of questions per image, and if some have no score in any arm."""
    key = scores["image_id"] + scores["question_id"]
    gone = key.drop_duplicates().sample(frac=lost, random_state=1)
    table = of(scores.assign(score=scores["score"].where(~key.isin(gone))))
    assert table.loc[IDS, "estimate"].sum() == pytest.approx(table.loc["O1", "estimate"], abs=1e-12)
    assert table.loc["O1", "estimate"] > 5 and table.loc["O8", "why"].endswith("inconclusive.")
    said = {float(part) for part in table.loc["O9", "why"].split(": information ")[1].replace(",", " ").split()
            if part[0] in "+-"}
    assert said == {round(value, 1) for value in table.loc[IDS, "estimate"]}


def test_information_alone_is_found_where_it_alone_was_planted(scores):
    """Native sees detail at a larger scale than down_up; the other three arms have the same information."""
    table = of(scores)
    assert table["verdict"].to_dict() == {"O1": "supported", "O8": "supported", "O9": "inconclusive",
                                          "O10": "inconclusive"}
    assert (table.loc[["O9", "O10"], "low"] < 0).all() and (table.loc[["O9", "O10"], "high"] > 0).all()


@pytest.mark.parametrize("planted, found", [
    ({"native": 1.0, "down_up-84": 1.0}, "O9"),
    ({"native": 1.0, "down_up-84": 1.0, "equal_flops-84": 1.0}, "O10"),
    ({"native": 1.0, "equal_flops-84": 1.0}, "O10"),
])
def test_each_part_is_found_where_it_was_planted(planted, found):
    table = of(made(replace(NOTHING, arms=planted)))
    assert table.loc[found, "verdict"] == "supported"
    if "down_up-84" not in planted:  # native's compute without its tokens: the part between them is negative
        assert table.loc["O9", "verdict"] == "not supported"


def test_a_null_part_is_hardly_ever_called_an_effect():
    few = {"n_images": 60, "regimes": ("fixed-84", *ARMS), "rungs": ("fixed-84",)}
    verdicts = [of(made(seed=seed, **few)).loc[["O9", "O10"], "verdict"] for seed in range(10)]
    assert (pd.concat(verdicts) != "inconclusive").sum() <= 3  # 20 tests at 5 %


def test_each_arm_is_trained_and_run_on_its_own_view(scores):
    cells = gain_parts.arms(scores, "native", "fixed-84")
    own = {name: set(map(tuple, rows[["regime", "inference", "control"]].drop_duplicates().to_numpy()))
           for name, rows in cells.items()}
    assert own == {"native": {("native", "native", "none")}, "low": {("fixed-84", "fixed-84", "none")},
                   "down_up": {("down_up-84", "down_up-84", "down_up")},
                   "equal_flops": {("equal_flops-84", "fixed-84", "none")}}
    assert gain_parts.views("native", "square-112")["equal_flops"] == ("equal_flops_square-112", "square-112")


def test_the_control_of_native_models_is_not_the_arm(scores):
    control = scores[(scores["regime"] != "down_up-84")]
    table = of(control)
    assert table["verdict"].to_dict()["O8"] == table["verdict"].to_dict()["O9"] == "not run"
    assert "needs the regime down_up-84 evaluated at down_up-84" in table.loc["O8", "why"]
    assert table.loc["O10", "verdict"] != "not run" and "add up" not in table.loc["O10", "why"]


@pytest.mark.parametrize("gone, not_run", [("equal_flops-84", ["O9", "O10"]), ("native", ["O8"]),
                                           ("fixed-84", ["O10"])])
def test_a_missing_arm_costs_its_own_parts_alone(scores, gone, not_run):
    table = of(scores[scores["regime"] != gone]).loc[IDS]
    assert table.index[table["verdict"] == "not run"].tolist() == not_run


def test_parts_need_fine_questions_an_image_and_two_seeds(scores):
    coarse = of(scores[scores["level"] == "coarse"])
    assert (coarse.loc[IDS, "verdict"] == "not run").all()
    assert coarse.loc[IDS, "why"].str.contains("needs fine questions").all()
    alone = of(scores[scores["seed"] == 0])
    assert (alone["verdict"] == "inconclusive").all() and alone["why"].str.contains("One training seed").all()
    native = scores[(scores["regime"] == "native") & (scores["inference"] == "native")]
    ignoring = pd.concat([scores[scores["control"] != "blind"], native.assign(inference="blind", control="blind")])
    assert of(ignoring).loc[IDS, "why"].str.contains("No verdict: .* without an image").all()


def test_only_seeds_that_all_arms_have_count(scores):
    fewer = scores[(scores["regime"] != "equal_flops-84") | (scores["seed"] < 2)]
    cells = gain_parts.arms(fewer, "native", "fixed-84")
    assert all(set(rows["seed"]) == {0, 1} for rows in cells.values())
    table = of(fewer)
    means = {arm: rows.loc[rows["level"] == "fine", "score"].mean() for arm, rows in cells.items()}
    assert np.isclose(table.loc[IDS, "estimate"].sum(), 100 * (means["native"] - means["low"]), atol=1e-12)

"""Verdicts follow their rules: known effects are found, absent ones are not, what is missing is not run."""

import numpy as np
import pandas as pd
import pytest

from medstudy import claims
from medstudy.claims.claim import Finding, claim
from medstudy.claims.study_scores import Study
from medstudy.scoring import score as scoring_score
from tests.support.synthetic import REGIMES, Effects, predictions, training

WITH_ADD = (*REGIMES, "add-84")


@pytest.fixture(scope="module")
def scores():
    return scoring_score.score(predictions(n_images=160, regimes=WITH_ADD))


@pytest.fixture(scope="module")
def table(scores):
    return claims.claims_table(scores, training(WITH_ADD)).set_index("id", drop=False)


def one(name, scores, log=None, **names):
    return claims.claims_table(scores, log, **names).set_index("id").loc[name]


def test_the_table_has_every_claim_and_exactly_its_columns(table):
    assert list(table) == ["id", "claim", "source_value", "estimate", "low", "high", "verdict", "why"]
    assert table["id"].tolist()[:5] == ["C1", "C1b", "C2", "C3", "C3b"]
    assert set(table["verdict"]) <= {"reproduced", "not reproduced", "inconclusive", "not run"}
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    assert table["why"].str.contains("Rule: reproduced if").all()
    assert table["why"][:5].str.contains("stand-in").all()


def test_sources_are_quoted_as_they_state_it(table):
    quoted = {"C1": "+0.54 % to +6.8 % per task", "C1b": "+12.7 % average",
              "C2": "down by up to 48.7 %", "C3": "average loss limited to 1.0 %",
              "C3b": "92 % of native performance for +5 % training cost"}
    assert table["source_value"][:5].to_dict() == quoted
    assert "disagree" in table.loc["C1b", "why"]


def test_known_effects_are_found(table):
    verdicts = table["verdict"]
    assert (verdicts[["C1", "C2", "O1", "O3", "O4", "O5", "O6", "O7"]] == "reproduced").all()
    assert table.loc["O2", "low"] < 0 < table.loc["O2", "high"]
    assert table.loc["C2", "why"].startswith("In the stand-in the worst of")
    assert "Per task" in table.loc["C1", "why"] and "Holm over 10 tasks" in table.loc["C1", "why"]


def test_absent_effects_are_not_found():
    none = Effects(acuity_px=dict.fromkeys([*WITH_ADD, "fixed-84"], 0.05), mismatch_loss=0, seed_sd=0.02)
    flat = scoring_score.score(predictions(n_images=160, regimes=WITH_ADD, effects=none, seed=3))
    table = claims.claims_table(flat, training(WITH_ADD)).set_index("id")
    assert (table.loc[["C1", "C2", "O1", "O3", "O4", "O5", "O7"], "verdict"] != "reproduced").all()
    assert table.loc["C1b", "verdict"] == "not reproduced"
    assert table.loc["C3", "low"] < 1 and table.loc["C3b", "verdict"] == "reproduced"


def test_what_models_that_do_not_look_gain_or_keep_is_no_finding(scores):
    native = (scores["regime"] == "native") & (scores["inference"] == "native")
    blind = scores[native].assign(inference="blind", control="blind")
    unseeing = pd.concat([scores[scores["control"] != "blind"], blind])
    table = claims.claims_table(unseeing, training(WITH_ADD)).set_index("id")
    guarded = ["C1b", "C3", "C3b", "O7"]
    assert (table.loc[guarded, "verdict"] == "inconclusive").all()
    assert table.loc[guarded, "why"].str.contains("say nothing").all()


def test_added_cost_beyond_five_per_cent_does_not_pass_for_five(scores):
    log = training(WITH_ADD)
    log.loc[log["regime"] == "add-84", "visual_tokens"] *= 2
    found = one("C3b", scores, log)
    assert found["verdict"] == "not reproduced" and "+110.0 % visual tokens" in found["why"]


@pytest.mark.parametrize("spoil, not_run", [
    (lambda s: s[s["regime"] != "add-84"], {"C3b"}),
    (lambda s: s[s["regime"] != "mixed"], {"C3", "O5"}),
    (lambda s: s[s["control"] == "none"], {"O6", "O7"}),
    (lambda s: s[s["inference"] != "down_up-84"], {"O7"}),
    (lambda s: s[s["level"] == "fine"], {"O2", "O3"}),
    (lambda s: s[s["inference"] != "native"],
     {"C1", "C1b", "C3", "C3b", "O1", "O2", "O3", "O4", "O5", "O6", "O7"}),
])
def test_what_is_missing_is_not_run_and_says_what_it_needs(scores, spoil, not_run):
    table = claims.claims_table(spoil(scores), training(WITH_ADD)).set_index("id")
    missing = table[table["verdict"] == "not run"]
    assert set(missing.index) == not_run
    assert missing[["estimate", "low", "high"]].isna().all(axis=None)
    assert missing["why"].str.startswith("Not run: needs").all()


def test_without_training_logs_only_the_cost_claim_is_not_run(scores):
    table = claims.claims_table(scores)
    assert table.loc[table["verdict"] == "not run", "id"].tolist() == ["C3b"]


def test_one_seed_gives_no_verdict(scores):
    table = claims.claims_table(scores[scores["seed"] == 0], training(WITH_ADD))
    assert set(table["verdict"]) == {"inconclusive"} and table["why"].str.contains("One training seed").all()


def test_the_low_regime_is_a_parameter():
    frame = predictions(n_images=60, regimes=("native", "fixed-112"))
    found = one("C1", scoring_score.score(frame), low="fixed-112")
    assert "aligned fixed-112" in found["why"] and found["verdict"] != "not run"
    assert one("C1", scoring_score.score(frame))["verdict"] == "not run"


def test_only_test_rows_and_uncontrolled_ones_count(scores):
    extra = pd.concat([scores, scores.assign(split="train", score=0.0)])
    pd.testing.assert_frame_equal(claims.claims_table(extra), claims.claims_table(scores))


def test_the_table_is_the_same_twice_and_in_any_row_order(scores, table):
    again = claims.claims_table(scores.sample(frac=1, random_state=2), training(WITH_ADD))
    again, table = again.set_index("id"), table.set_index("id")
    assert (again["verdict"] == table["verdict"]).all()
    close = ["C1", "C1b", "C3", "C3b", "O1", "O2", "O3", "O5", "O6", "O7"]
    np.testing.assert_allclose(again.loc[close, "low"], table.loc[close, "low"])
    pd.testing.assert_frame_equal(claims.claims_table(scores), claims.claims_table(scores))


@pytest.mark.parametrize("numbers, verdict", [
    ((1.0, 0.5, 1.5, True, False), "reproduced"),
    ((1.0, -0.5, 0.4, False, True), "not reproduced"),
    ((1.0, -0.5, 1.5, False, False), "inconclusive"),
])
def test_a_verdict_is_what_the_rule_says(scores, numbers, verdict):
    made = claim("X", "text", "value")(lambda study: Finding(*numbers, "why"))
    assert made(Study(scores)).verdict == verdict


def test_data_sets_are_never_pooled():
    made = scoring_score.score(predictions(n_images=40))
    both = pd.concat([made.assign(dataset="phantom"), made.assign(dataset="atlas", score=0.0)])
    alone = claims.claims_table(made.assign(dataset="phantom"))
    table = claims.by_data_set(both, None, ("phantom", "atlas"))
    pd.testing.assert_frame_equal(table.head(len(alone)), alone)
    assert table["id"].is_unique and table["id"].iloc[len(alone)] == alone["id"].iloc[0] + "/atlas"
    noted = claims.by_data_set(both, None, ("phantom", "atlas"), {"atlas": "Leak: 2 of 9."})["why"]
    assert (noted.str.endswith("Leak: 2 of 9.") == table["id"].str.endswith("/atlas")).all()

"""Verdicts follow their rules: present effects are found, absent ones are not, missing ones are not run."""

import numpy as np
import pandas as pd
import pytest

from medstudy import claims
from medstudy.claims import paper
from medstudy.claims.claim import OURS, Finding, claim
from medstudy.claims.study_scores import StudyScores
from medstudy.scoring import score as scoring_score
from medstudy.statistics import RelativeChange
from tests.support.synthetic import ARMS, REGIMES, Effects, predictions, training

WITH_ADD = (*REGIMES, "add-84", *ARMS)
VERDICTS = {
    "C": {"reproduced", "not reproduced", "inconclusive", "not run"},
    "O": {"supported", "not supported", "inconclusive", "not run"},
}


@pytest.fixture(scope="module")
def scores():
    return scoring_score.score(predictions(n_images=160, regimes=WITH_ADD, effects=Effects(mismatch_loss=0.8)))


@pytest.fixture(scope="module")
def table(scores):
    return claims.claims_table(scores, training(WITH_ADD)).set_index("id", drop=False)


def row_of(name, scores, log=None, **names):
    return claims.claims_table(scores, log, **names).set_index("id").loc[name]


def test_the_table_has_every_claim_and_exactly_its_columns(table):
    assert list(table) == ["id", "claim", "source_value", "estimate", "low", "high", "verdict", "to_settle",
                           "why"]
    assert table["id"].tolist()[:5] == ["C1", "C1b", "C2", "C3", "C3b"]
    assert table["id"].tolist()[5:] == [f"O{number}" for number in range(1, 11)]
    assert all(row.verdict in VERDICTS[row.id[0]] for row in table.itertuples())
    assert (table["low"] <= table["estimate"]).all() and (table["estimate"] <= table["high"]).all()
    assert table["why"][:5].str.contains("Rule: reproduced if .*; not reproduced if .*; else inconclusive.").all()
    assert table["why"][5:].str.contains("Rule: supported if .*; not supported if .*; else inconclusive.").all()


def test_sources_are_quoted(table):
    quoted = {"C1": "+0.54 % to +6.8 % per task", "C1b": "+12.7 % average",
              "C2": "down by up to 48.7 %", "C3": "average loss limited to 1.0 %",
              "C3b": "92 % of native performance for +5 % training cost"}
    assert table["source_value"][:5].to_dict() == quoted
    assert "disagree" in table.loc["C1b", "why"]


def test_known_effects_are_found(table):
    verdicts = table["verdict"]
    assert (verdicts[["C1", "C2"]] == "reproduced").all()
    assert (verdicts[["O1", "O3", "O4", "O5", "O6", "O7"]] == "supported").all()
    assert table.loc["O2", "low"] < 0 < table.loc["O2", "high"]
    assert table.loc["C2", "why"].startswith("The worst of")
    assert "By task" in table.loc["C1", "why"] and "Holm's correction over 10 tasks" in table.loc["C1", "why"]


def test_absent_effects_are_not_found():
    none = Effects(acuity_px=dict.fromkeys([*WITH_ADD, "fixed-84"], 0.05), mismatch_loss=0, seed_sd=0.02)
    flat = scoring_score.score(predictions(n_images=160, regimes=WITH_ADD, effects=none, seed=3))
    table = claims.claims_table(flat, training(WITH_ADD)).set_index("id")
    gains = ["C1", "C2", "O1", "O3", "O4", "O5", "O7", "O8", "O9", "O10"]
    assert not table.loc[gains, "verdict"].isin(["reproduced", "supported"]).any()
    assert table.loc["C1b", "verdict"] == "not reproduced"
    assert table.loc["C3", "low"] < 1 and table.loc["C3b", "verdict"] == "reproduced"


def test_models_that_ignore_the_image_give_no_verdict(scores):
    native = (scores["regime"] == "native") & (scores["inference"] == "native")
    blind = scores[native].assign(inference="blind", control="blind")
    ignoring = pd.concat([scores[scores["control"] != "blind"], blind])
    table = claims.claims_table(ignoring, training(WITH_ADD)).set_index("id")
    others = table.drop(index="O6")
    assert len(others) == 14 and (others["verdict"] == "inconclusive").all()
    assert others["why"].str.contains("No verdict: .* without an image").all()
    assert (others["to_settle"] == "for O6, no practical size: the estimate lies on the bound").all()


def test_added_cost_above_five_per_cent_is_not_reproduced(scores):
    log = training(WITH_ADD)
    log.loc[log["regime"] == "add-84", "visual_tokens"] *= 2
    row = row_of("C3b", scores, log)
    assert row["verdict"] == "not reproduced" and "+110.0 % visual tokens" in row["why"]


def test_an_inconclusive_claim_says_what_would_settle_it_and_no_other_does():
    few = scoring_score.score(predictions(n_images=24))
    table = claims.claims_table(few, training()).set_index("id")
    unsettled = table["verdict"] == "inconclusive"
    assert unsettled.sum() > 2 and (table.loc[~unsettled, "to_settle"] == "").all()
    assert table.loc[unsettled, "to_settle"].str.fullmatch(
        r"about [\d,]+ images and \d+ seeds|no practical size: the estimate lies on the bound").all()
    small = table.loc[unsettled, "why"].str.extract(r"Not decidable at this size: 80% of studies should decide it if "
                                                    r"the effect is as stated; that needs about ([\d,]+) images")[0]
    assert (small.dropna().str.replace(",", "").astype(int) >= 24).all() and small.notna().any()


@pytest.mark.parametrize("change, verdict", [
    ((-0.01, -0.05, 0.03), "reproduced"),  # agrees with a loss of 1.0 % and excludes one of 5.6 %
    ((-0.03, -0.05, -0.009), "reproduced"),
    ((-0.03, -0.05, -0.011), "not reproduced"),  # excludes 1.0 %
    ((-0.02, -0.06, 0.02), "inconclusive"),  # excludes neither
    ((0.02, 0.01, 0.03), "reproduced"),  # a gain
])
def test_mixed_training_must_agree_with_its_source_and_keep_half_of_the_gain(scores, monkeypatch, change, verdict):
    monkeypatch.setattr(paper, "relative_change", lambda *_, **__: RelativeChange(*change, 500, 100, 3))
    assert paper.mixed_recovers(StudyScores(scores)).verdict == verdict


@pytest.mark.parametrize("change, verdict", [
    ((-0.08, -0.11, -0.05), "reproduced"),  # agrees with 92 % and excludes 88.7 %
    ((-0.08, -0.12, -0.05), "inconclusive"),
    ((-0.10, -0.11, -0.09), "not reproduced"),  # excludes 92 %
])
def test_added_variants_must_agree_with_their_source_and_beat_low_training(scores, monkeypatch, change, verdict):
    monkeypatch.setattr(paper, "relative_change", lambda *_, **__: RelativeChange(*change, 500, 100, 3))
    assert paper.added_variants(StudyScores(scores, training(WITH_ADD))).verdict == verdict


@pytest.mark.parametrize("change, verdict", [
    ((-0.4, -0.5, -0.25), "reproduced"), ((-0.4, -0.5, -0.2), "inconclusive"), ((-0.1, -0.2, -0.05), "not reproduced"),
])
def test_the_worst_mismatch_is_compared_with_half_of_what_the_source_states(scores, monkeypatch, change, verdict):
    monkeypatch.setattr(paper, "relative_change", lambda *_, **__: RelativeChange(*change, 500, 100, 3))
    row = paper.worst_mismatch(StudyScores(scores))
    assert row.verdict == verdict and "fixed-84 at native and native at fixed-56" in row.why


def test_a_ratio_to_a_score_that_may_be_0_gives_no_verdict(scores):
    native = (scores["regime"] == "native") & (scores["control"] == "none")
    rare = (scores["image_id"] == scores["image_id"].iloc[0]) & (scores["seed"] < 2)
    spoilt = scores[scores["control"] == "none"].assign(score=scores["score"].where(~native | rare, 0.0))
    table = claims.claims_table(spoilt, training(WITH_ADD)).set_index("id").loc[["C3", "C3b"]]
    assert (table["verdict"] == "inconclusive").all() and np.isfinite(table[["low", "high"]]).all(axis=None)
    assert table["why"].str.contains("No verdict: the interval of the score to compare with includes 0").all()


@pytest.mark.parametrize("spoil, not_run", [
    (lambda s: s[s["regime"] != "add-84"], {"C3b"}),
    (lambda s: s[s["regime"] != "mixed"], {"C3", "O5"}),
    (lambda s: s[s["control"] == "none"], {"O6", "O7", "O8", "O9"}),
    (lambda s: s[s["inference"] != "down_up-84"], {"O7", "O8", "O9"}),
    (lambda s: s[s["level"] == "fine"], {"O2", "O3"}),
    (lambda s: s[s["inference"] != "native"],
     {"C1", "C1b", "C3", "C3b", "O1", "O2", "O3", "O4", "O5", "O6", "O7", "O8"}),
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
    assert (table["to_settle"] == "at least 2 seeds").all()


def test_the_low_regime_is_a_parameter():
    frame = predictions(n_images=60, regimes=("native", "fixed-112"))
    row = row_of("C1", scoring_score.score(frame), low="fixed-112")
    assert "aligned fixed-112" in row["why"] and row["verdict"] != "not run"
    assert row_of("C1", scoring_score.score(frame))["verdict"] == "not run"


def test_only_test_rows_without_controls_count(scores):
    extra = pd.concat([scores, scores.assign(split="train", score=0.0)])
    pd.testing.assert_frame_equal(claims.claims_table(extra), claims.claims_table(scores))


def test_the_table_is_the_same_twice_and_in_any_row_order(scores, table):
    again = claims.claims_table(scores.sample(frac=1, random_state=2), training(WITH_ADD))
    again, table = again.set_index("id"), table.set_index("id")
    assert (again["verdict"] == table["verdict"]).all()
    close = ["C1", "C1b", "C3", "C3b", "O1", "O2", "O3", "O5", "O6", "O7"]
    np.testing.assert_allclose(again.loc[close, "low"], table.loc[close, "low"])
    pd.testing.assert_frame_equal(claims.claims_table(scores), claims.claims_table(scores))


@pytest.mark.parametrize("source_value, holds, fails, reason, verdict", [
    ("+1 %", True, False, "", "reproduced"),
    ("+1 %", False, True, "", "not reproduced"),
    ("+1 %", False, False, "", "inconclusive"),
    (OURS, True, False, "", "supported"),
    (OURS, False, True, "", "not supported"),
    (OURS, False, False, "", "inconclusive"),
    ("+1 %", True, False, "No verdict: because.", "inconclusive"),
])
def test_a_verdict_follows_the_conditions(scores, source_value, holds, fails, reason, verdict):
    test = claim("X", "text", source_value)(lambda study: Finding(1, 0, 2, holds, fails, "Why.", "a", "b", reason))
    row = test(StudyScores(scores))
    assert row.verdict == verdict and row.why.endswith(reason)


def test_data_sets_are_never_pooled():
    scores = scoring_score.score(predictions(n_images=40))
    both = pd.concat([scores.assign(dataset="phantom"), scores.assign(dataset="atlas", score=0.0)])
    alone = claims.claims_table(scores.assign(dataset="phantom"))
    table = claims.by_data_set(both, None, ("phantom", "atlas"))
    pd.testing.assert_frame_equal(table.head(len(alone)), alone)
    assert table["id"].is_unique and table["id"].iloc[len(alone)] == alone["id"].iloc[0] + "/atlas"
    noted = claims.by_data_set(both, None, ("phantom", "atlas"), {"atlas": "Leak: 2 of 9."})["why"]
    assert (noted.str.endswith("Leak: 2 of 9.") == table["id"].str.endswith("/atlas")).all()

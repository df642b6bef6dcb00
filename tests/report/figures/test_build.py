"""The data behind the figures: numbers equal those of `medstudy.statistics` on the right rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

from medstudy import statistics
from medstudy.bounds.results import FINE, UNSEEN
from medstudy.report import captions, figures, selections
from medstudy.report.figures import (
    acuity,
    acuity_by_task,
    controls,
    gain_in_parts,
    information_loss,
    learning_curves,
    mismatch_by_task,
    mismatch_heatmap,
    native_sizes,
    native_vs_fixed,
    resolution_curves,
    size_strata,
    training_cost,
    what_models_see,
)
from medstudy.report.study_data import StudyData
from tests.support.scored_study import study
from tests.support.synthetic import ARMS, REGIMES, Effects


@pytest.fixture(scope="module")
def small():
    return study()


def test_plain_rows_are_of_the_test_split_without_controls(small):
    noisy = small.scores.assign(split=np.where(small.scores["seed"] == 1, "val", "test"))
    rows = selections.plain(noisy)
    assert set(rows["control"]) == {"none"} and set(rows["split"]) == {"test"}


def test_aligned_is_the_rung_of_training_and_native_for_mixed(small):
    pairs = set(map(tuple, selections.aligned(small.scores)[["regime", "inference"]].to_numpy()))
    assert pairs == {("native", "native"), ("fixed-84", "fixed-84"), ("mixed", "native")}


def test_arms_are_aligned_with_their_own_views():
    scores = study((*REGIMES, *ARMS)).scores
    pairs = set(map(tuple, selections.aligned(scores)[["regime", "inference"]].to_numpy()))
    assert pairs == {("native", "native"), ("fixed-84", "fixed-84"), ("mixed", "native"),
                     ("down_up-84", "down_up-84"), ("equal_flops-84", "fixed-84")}
    assert set(selections.controls(scores)["regime"]) == {"native"}


def test_the_parts_of_the_gain_add_up_in_every_cell_and_are_those_of_the_claims():
    arms = study((*REGIMES, *ARMS))
    table = gain_in_parts.build(arms)
    wide = table.pivot(index=["dataset", "level", "task"], columns="part", values="estimate")
    np.testing.assert_allclose(wide.drop(columns="gain").sum(axis=1), wide["gain"], atol=1e-12)
    assert {"fine", "coarse"} == set(table["level"]) and {"phantom", "atlas"} == set(table["dataset"])
    fine = table.query("dataset == 'phantom' and level == 'fine' and task == 'all tasks'").set_index("part")
    claimed = arms.claims.set_index("id")
    for part, name in (("gain", "O1"), ("information", "O8"), ("tokens and scale", "O9"), ("compute", "O10")):
        np.testing.assert_allclose(100 * fine.loc[part, ["estimate", "low", "high"]].astype(float),
                                   claimed.loc[name, ["estimate", "low", "high"]].astype(float))


@pytest.mark.parametrize("gone", ["native", *ARMS, "fixed-84"])
def test_the_parts_of_the_gain_need_all_four_arms(gone):
    arms = study((*REGIMES, *ARMS))
    rows = arms.scores[arms.scores["regime"] != gone]
    assert gain_in_parts.build(dataclasses.replace(arms, scores=rows)).empty


def test_the_ladder_goes_from_the_smallest_budget_to_native(small):
    assert selections.ladder(selections.plain(small.scores)) == [f"fixed-{r}" for r in (56, 84, 112, 168, 224)] + [
        "native"
    ]


def test_shown_sizes_count_each_image_once():
    rows = pd.DataFrame({"inference": "native", "image_id": ["a", "a", "a", "b"], "shown_height": [100, 100, 100, 400],
                         "shown_width": [100, 100, 100, 400], "visual_tokens": [10, 10, 10, 30]})
    shown = selections.shown_sizes(rows, ["inference"]).iloc[0]
    assert shown["side_px"] == pytest.approx(200) and shown["tokens"] == pytest.approx(20)


def test_native_sizes_are_shares_of_images_and_budgets_count_larger_images(small):
    table = native_sizes.build(small)
    bins = table[table["family"] != "budget"]
    assert np.allclose(bins.groupby(["dataset", "family"])["share"].sum(), 1)
    once = small.examples.drop_duplicates(["dataset", "image_id"]).query("dataset == 'phantom'")
    row = table.query("dataset == 'phantom' and policy == 'fixed-224'").iloc[0]
    assert row["share"] == pytest.approx((once["height"] * once["width"] > 224**2).mean())


def test_the_shown_image_does_not_depend_on_answers(small):
    first = what_models_see.build(small)
    flipped = dataclasses.replace(small, scores=small.scores.assign(score=1 - small.scores["score"]))
    keys = ["image_id", "question_id"]
    assert first[keys].equals(what_models_see.build(flipped)[keys])
    assert set(zip(first["dataset"], first["image_id"], strict=True)) <= set(small.images)


def test_only_images_that_may_be_rendered_are_shown(small):
    chosen = what_models_see.build(small)["image_id"].iloc[0]
    forbidden = small.scores.assign(render=small.scores["image_id"] != chosen)
    again = what_models_see.build(dataclasses.replace(small, scores=forbidden))
    assert chosen not in set(again["image_id"])


def test_a_choice_is_shown_with_the_text_of_its_option():
    assert what_models_see._reference("B", ["left", "right"]) == "B (right)"
    assert what_models_see._reference("yes", []) == "yes"


def test_the_gain_of_native_is_the_paired_difference(small):
    table = native_vs_fixed.build(small)
    row = table.query("dataset == 'phantom' and level == 'fine' and task == 'all tasks'").iloc[0]
    rows = small.scores.query("dataset == 'phantom' and level == 'fine'")
    expected = statistics.paired_difference(
        selections.cell(rows, "native", "native"), selections.cell(rows, "fixed-84", "fixed-84")
    )
    assert (row["estimate"], row["low"]) == pytest.approx((expected.estimate, expected.low))


def test_procedural_and_real_images_are_never_pooled(small):
    alone = small.scores[small.scores["dataset"] == "phantom"]
    for module in (mismatch_heatmap, resolution_curves, size_strata, controls, information_loss):
        both = module.build(small).query("dataset == 'phantom'").reset_index(drop=True)
        table = module.build(dataclasses.replace(small, scores=alone)).reset_index(drop=True)
        pd.testing.assert_frame_equal(both, table, check_like=True)


def test_the_heatmap_has_every_cell_and_its_mean(small):
    table = mismatch_heatmap.build(small)
    phantom = table.query("dataset == 'phantom' and panel == 'all families'")
    assert len(phantom) == 3 * 6
    cell = phantom.query("regime == 'mixed' and inference == 'fixed-56'").iloc[0]
    rows = selections.cell(small.scores.query("dataset == 'phantom'"), "mixed", "fixed-56")
    assert cell["estimate"] == pytest.approx(rows["score"].mean())


def test_the_task_heatmap_has_the_three_regimes_of_the_claims():
    many = study(("native", "fixed-84", "fixed-168", "mixed", "curriculum"), 20)
    table = mismatch_by_task.build(many)
    assert set(table["regime"]) == {"native", "fixed-84", "mixed"}
    assert "curriculum" in mismatch_by_task.caption(table, many)


def test_cost_is_that_of_the_last_step_relative_to_seeds(small):
    spent = selections.spent(small.training).query("cost == 'visual_tokens'").set_index("regime")["spent"]
    last = small.training.groupby(["regime", "seed"])["visual_tokens"].last().groupby("regime").mean() / 1e3
    assert spent.to_dict() == pytest.approx(last.to_dict())


def test_the_pareto_front_has_no_regime_that_costs_more_and_is_no_better():
    part = pd.DataFrame({"spent": [1.0, 2.0, 3.0, 2.0], "estimate": [0.5, 0.5, 0.9, 0.7]})
    assert training_cost._front(part).sort_index().tolist() == [True, False, True, True]


def test_a_fit_passes_through_its_threshold(small):
    table = acuity.build(small)
    assert len(table.query("row == 'threshold'").dropna(subset="detail_px"))
    for row in table.query("row == 'threshold'").dropna(subset="detail_px").itertuples():
        curve = table.query("row == 'fit' and dataset == @row.dataset and regime == @row.regime")
        curve = curve.query("inference == @row.inference").sort_values("detail_px")
        at = np.interp(np.log(row.detail_px), np.log(curve["detail_px"]), curve["estimate"])
        assert at == pytest.approx(row.estimate, abs=0.01)


def test_acuity_by_task_finds_the_acuity_that_was_planted():
    """2.5 px of native models, in the pixels that are left; scores at other rungs, and other models, do not count."""
    table = acuity_by_task.build(study(n_images=160)).query("row == 'threshold' and dataset == 'phantom'")
    assert set(table["regime"]) == {"native"}
    whole = table[table["task"] == acuity_by_task.ALL].iloc[0]
    assert whole.low < Effects().acuity_px["native"] < whole.high < 2 * whole.low
    assert set(table["task"]) > {acuity_by_task.ALL, "nodule", "nc_ratio"}


def test_acuity_by_task_leaves_out_tasks_that_no_reader_sees_and_studies_without_down_up(small):
    def tasks(unseen: list[str]) -> set[str]:
        marks = small.bounds.marks.assign(mark=lambda rows: np.where(rows["task"].isin(unseen), UNSEEN, FINE))
        bounds = dataclasses.replace(small.bounds, marks=marks)
        return set(acuity_by_task.build(dataclasses.replace(small, bounds=bounds))["task"])

    assert tasks([]) - tasks(["nodule"]) == {"nodule"}
    plain = dataclasses.replace(small, scores=selections.plain(small.scores))
    assert acuity_by_task.build(plain).empty


@pytest.mark.parametrize("regimes", [REGIMES, (*REGIMES, *ARMS)], ids=["plain", "arms"])
def test_information_loss_keeps_the_native_token_count_in_down_up(regimes):
    table = (
        information_loss.build(study(regimes)).query("dataset == 'phantom' and level == 'fine'").set_index("inference")
    )
    assert set(table.index) == {"native", "down_up-84", "fixed-84"}
    assert set(table["regime"]) == {"native"}


def test_strata_are_thirds_of_each_data_set(small):
    table = size_strata.build(small).query(
        "dataset == 'phantom' and level == 'coarse' and regime == 'native'"
    )
    assert table["order"].tolist() == [0, 1, 2]
    assert table["n_images"].max() - table["n_images"].min() <= 2


def test_learning_curves_average_windows_and_keep_every_validation(small):
    table = learning_curves.build(small)
    curve = table.query("quantity == 'val_loss' and regime == 'native' and seed == '0'")
    assert len(curve) == small.training.query("regime == 'native' and seed == 0")["val_loss"].notna().sum()
    train = table.query("quantity == 'loss' and regime == 'native' and seed == '0'")
    assert len(train) == learning_curves.BINS
    seeds = table.query("quantity == 'val_loss' and regime == 'native' and seed != 'mean'")
    mean = table.query("quantity == 'val_loss' and regime == 'native' and seed == 'mean'")
    assert mean["value"].mean() == pytest.approx(seeds["value"].mean())


def test_controls_show_the_model_with_and_without_its_image(small):
    table = controls.build(small).query("dataset == 'phantom' and level == 'fine' and task == 'all tasks'")
    means = table.set_index("view")["estimate"]
    rows = small.scores.query("dataset == 'phantom' and level == 'fine' and control == 'blind'")
    assert means["blind"] == pytest.approx(rows["score"].mean()) and means["native"] > means["blind"]


def test_every_figure_handles_an_almost_empty_study(small):
    rows = small.scores.query("regime == 'native' and inference == 'native' and control == 'none'")
    bare = StudyData(rows)
    empty = {name for name, entry in figures.REGISTRY.items() if entry.build(bare).empty}
    stems = {name[3:] for name in empty}
    assert {"native_sizes", "native_vs_fixed", "information_loss", "controls", "learning_curves"} <= stems
    assert not {"mismatch_heatmap", "resolution_curves", "size_strata"} & stems


def test_data_sets_may_use_the_same_image_names(small):
    """Each picture and question belongs to its own data set."""
    numbers = small.scores.groupby("dataset")["image_id"].transform(lambda ids: pd.factorize(ids)[0])
    scores = small.scores.assign(image_id=numbers.astype(str))
    pairs = scores.drop_duplicates(["dataset", "image_id"])
    images = {(row.dataset, row.image_id): row.dataset for row in pairs.itertuples()}
    first = what_models_see.build(dataclasses.replace(small, scores=scores, images=images))
    assert set(first["dataset"]) == set(scores["dataset"])


def test_with_adapters_the_tower_counts_as_frozen(small):
    facts = {"training": {"lora": {"rank": 8}, "freeze_vision_tower": False, "cache_features": False}}
    assert captions.tower_words(dataclasses.replace(small, study=facts)) == "The vision tower is frozen."

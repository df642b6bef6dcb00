"""Tables by their values."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from medstudy import statistics
from medstudy.errors import ParamsError
from medstudy.report import selections, tables
from medstudy.report.study_data import StudyData
from medstudy.report.tables import (
    author_scores,
    data_sets,
    main_results,
    mismatch,
    mixed,
    robustness,
    seeds_and_tests,
    tasks,
)
from medstudy.scoring import score
from tests.support.scored_study import LEAKS, study


@pytest.fixture(scope="module")
def small():
    return study()


@pytest.fixture(scope="module")
def phantom(small):
    return small.scores[small.scores["dataset"] == "phantom"]


def test_data_sets_count_each_image_once_and_every_question(small):
    row = data_sets.build(small).query("dataset == 'phantom' and family == 'radiology'").iloc[0]
    rows = small.examples.query("dataset == 'phantom' and family == 'radiology' and split == 'test'")
    assert row["images_test"] == rows["image_id"].nunique() and row["questions_test"] == len(rows)
    assert row["images_val"] == 0 and row["fine_share_pct"] == pytest.approx(
        100 * rows["detail_px"].notna().mean()
    )


def test_tasks_show_the_options_of_a_choice_and_the_answers_of_the_others(small):
    table = tasks.build(small).query("dataset == 'phantom'").set_index(["task", "kind"])
    assert table.loc[("stain", "choice"), "answers"] == "left, lower, right, upper"
    assert table.loc[("mitosis", "closed"), "answers"] == "no, yes"
    assert table.loc[("anatomy", "open"), "answers"] == "left lung, liver, right kidney"
    assert table.loc[("mitosis", "closed"), "level"] == "fine" and table.loc[("stain", "choice"), "level"] == "coarse"
    rows = small.examples.query("dataset == 'phantom' and split == 'test' and task == 'mitosis' and kind == 'closed'")
    assert table.loc[("mitosis", "closed"), "questions"] == len(rows)


def test_main_results_are_author_and_strict_means_at_aligned_inference(small, phantom):
    table = main_results.build(small)
    row = table.query("dataset == 'phantom' and kind == 'closed' and regime == 'fixed-84'").iloc[0]
    rows = selections.cell(phantom, "fixed-84", "fixed-84").query("kind == 'closed'")
    assert row["inference"] == "fixed-84"
    assert row["author_pct"] == pytest.approx(100 * rows["author"].mean())
    assert row["strict_pct"] == pytest.approx(100 * rows["strict"].mean())
    assert row["strict_pct_low"] < row["strict_pct"] < row["strict_pct_high"]


def test_author_s_metrics_are_those_of_scoring(small, phantom):
    table = author_scores.build(small).query("dataset == 'phantom' and regime == 'mixed' and inference == 'native'")
    rows = selections.cell(phantom, "mixed", "native")
    by_metric = table.set_index("metric")
    expected = 100 * score.macro_localization_recall(rows.query("kind == 'description'"))
    assert by_metric.loc["localization macro recall", "greedy_author_pct"] == pytest.approx(expected)
    assert by_metric.loc["open F1", "greedy_author_pct"] == pytest.approx(100 * rows["f1"].mean())
    assert by_metric.loc["open F1", "strict_mode_pct"] == pytest.approx(100 * rows["strict_f1"].mean())
    assert not {"author_mode_pct", "sampled_standard_pct"} & set(table)
    assert "does not use the author's decoding" in author_scores.caption(table, small)


def test_author_mode_adds_columns_and_changes_no_others(small, phantom):
    """All sampled answers are yes: only the author's columns show it."""
    few = replace(small, scores=small.scores[small.scores["inference"].isin(["fixed-84", "native"])])
    bare = phantom.assign(raw_text="yes", decoding="sampled-0.2")
    drawn = score.score(bare.drop(columns=[*score.METRICS, "chance", "level"]))
    both = replace(few, author=drawn)
    table = author_scores.build(both)
    closed = phantom.query("kind == 'closed' and control == 'none' and regime == 'mixed' and inference == 'native'")
    cell = table.query("dataset == 'phantom' and regime == 'mixed' and inference == 'native'").set_index("metric")
    row = cell.loc["closed accuracy"]
    assert row["author_mode_pct"] == pytest.approx(100 * (closed["answer"] == "yes").mean())
    assert row["author_mode_pct_low"] < row["author_mode_pct"] < row["author_mode_pct_high"]
    assert row["greedy_author_pct"] == pytest.approx(100 * closed["author"].mean())
    atlas = table[table["dataset"] == "atlas"]
    assert atlas["author_mode_pct"].isna().all() and atlas["strict_mode_pct"].notna().any()
    assert "(sampled-0.2)" in author_scores.caption(table, both)
    for other in (main_results, tasks):
        pd.testing.assert_frame_equal(other.build(both), other.build(few))


def test_mismatch_compares_a_model_with_itself_at_its_own_resolution(small, phantom):
    table = mismatch.build(small)
    assert set(table["trained"]) == {"native", "fixed-84"}  # mixed has no rung of its own
    row = table.query("dataset == 'phantom' and trained == 'fixed-84' and shown == 'native'").iloc[0]
    away, home = selections.cell(phantom, "fixed-84", "native"), selections.cell(phantom, "fixed-84", "fixed-84")
    assert row["change_points"] == pytest.approx(100 * (away["score"].mean() - home["score"].mean()))
    assert row["relative_pct"] == pytest.approx(100 * (away["score"].mean() / home["score"].mean() - 1))
    assert (table["p_holm"] >= table["p"]).all() and set(table["tests"]) == {len(table)} == {20}


def test_mixed_is_compared_with_the_aligned_model_on_the_same_pixels(small, phantom):
    table = mixed.build(small).query("dataset == 'phantom'").set_index("trained")
    difference = (
        selections.cell(phantom, "mixed", "fixed-84")["score"].mean()
        - selections.cell(phantom, "fixed-84", "fixed-84")["score"].mean()
    )
    assert table.loc["mixed", "minus_aligned_low_points"] == pytest.approx(100 * difference)
    assert pd.isna(table.loc["native", "minus_aligned_native_points"])
    assert table.loc["native", "flops_pct_of_native"] == 100
    assert table.loc["mixed", "visual_tokens_pct_of_native"] == pytest.approx(50)


def test_differences_of_seeds_average_to_the_difference(small):
    table = seeds_and_tests.build(small)
    for row in table.itertuples():
        seeds = [float(x) for x in row.each_seed_points.split(", ")]
        assert len(seeds) == row.seeds == 2
        assert sum(seeds) / 2 == pytest.approx(row.difference_points, abs=0.11)
    assert set(table["tests"]) == {len(table)} and (table["p_holm"] >= table["p"]).all()


def test_robustness_uses_the_ladder_without_controls(small, phantom):
    row = (
        robustness.build(small)
        .query("dataset == 'phantom' and regime == 'native' and measure == 'ACE'")
        .iloc[0]
    )
    rows = selections.plain(phantom).query("regime == 'native'")
    curve = rows.groupby("budget_pixels")["score"].mean().to_numpy()
    assert row["value"] == pytest.approx(statistics.ace(curve))


def test_every_table_is_written_as_numbers_and_as_markdown(small, tmp_path):
    rendered = tables.render_all(replace(small, leaks=LEAKS), tmp_path)
    # this study has no sets, asks no choice by letter too, nor for a place or report, and has no encoder
    assert [item.name[3:] for item in rendered if item.missing] == ["sets", "words_or_letters", "retrieval",
                                                                    "places_and_reports"]
    for item in filter(lambda item: not item.missing, rendered):
        csv, markdown = item.files
        rows = pd.read_csv(csv)
        lines = [line for line in markdown.read_text().splitlines() if line.startswith("|")]
        assert len(lines) == len(rows) + 2 and len({line.count(" | ") for line in lines[2:]}) == 1


def test_tables_without_rows_are_missing_and_do_not_fail(small, tmp_path):
    native = small.scores.query("regime == 'native' and inference == 'native' and control == 'none'")
    missing = {item.name[3:] for item in tables.render_all(StudyData(native), tmp_path) if item.missing}
    without = {"data_sets", "tasks", "mismatch", "robustness", "seeds_and_tests", "claims", "leakage", "sets",
               "by_tag", "words_or_letters", "bounds", "inference_costs", "retrieval", "places_and_reports"}
    assert missing == without


def test_an_unknown_table_is_an_error_that_lists_the_known():
    with pytest.raises(ParamsError, match="03_main_results"):
        tables.render("results", StudyData(None), ".")

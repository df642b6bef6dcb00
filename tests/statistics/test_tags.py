"""Results by tag: paired differences of the right questions, one Holm family per data set, informative labels only."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from medstudy import statistics
from medstudy.report import figures, selections, tables
from medstudy.report.figures import by_tag
from medstudy.report.pages import index_page
from medstudy.report.tables import by_tag as tables_by_tag
from medstudy.statistics import tags
from tests.support.scored_study import study

NAME = "14_by_tag"


@pytest.fixture(scope="module")
def tagged():
    """The small study; each of phantom's questions has a department, two in three a finding, half a second one."""
    small = study()
    rows = small.scores
    keys = rows["image_id"].astype(str) + rows["question_id"].astype(str)
    number = keys.map({key: place for place, key in enumerate(keys.unique())})
    values = [
        [f"department={'ABC'[n % 3]}", *[f"finding=f{n % 2}"] * (n % 3 > 0), *["finding=x=y"] * (n % 4 < 2)]
        if name == "phantom" else [] for n, name in zip(number, rows["dataset"], strict=True)
    ]
    return replace(small, scores=rows.assign(tags=values))


def cells(study, name="phantom"):
    pair = (selections.cell(study.scores, regime, regime) for regime in ("native", "fixed-84"))
    return [rows[rows["dataset"] == name] for rows in pair]


def test_a_row_is_the_paired_difference_of_its_questions(tagged):
    table = tables_by_tag.build(tagged).query("dataset == 'phantom'").set_index(["label", "category", "level"])
    row = table.loc[("finding", "x=y", "fine")]
    fine = [rows[rows["level"] == "fine"] for rows in cells(tagged)]
    of = [rows[rows["tags"].map(lambda tags: "finding=x=y" in tags)] for rows in fine]
    expected = statistics.paired_difference(*of)
    assert row["difference_points"] == pytest.approx(100 * expected.estimate)
    assert row["difference_points_low"] == pytest.approx(100 * expected.low)
    assert row["p"] == pytest.approx(expected.p) and row["images"] == expected.n_images
    assert row["native_pct"] == pytest.approx(100 * of[0]["score"].mean())
    assert row["fixed_pct_low"] == pytest.approx(100 * statistics.mean_interval(of[1]).low)


def test_holm_s_family_is_a_whole_data_set(tagged):
    for _, part in tables_by_tag.build(tagged).groupby("dataset"):
        expected = statistics.holm(part["p"])["p_holm"]
        assert (part["tests"] == len(part)).all() and part["p_holm"].tolist() == pytest.approx(expected.tolist())


def test_a_question_with_two_values_of_a_tag_counts_in_both(tagged):
    rows = cells(tagged)[0]
    long = tags.labelled(rows)
    counts = long[long["label"] == "finding"].groupby("category").size()
    assert counts.to_dict() == {
        value: sum(f"finding={value}" in tags for tags in rows["tags"]) for value in ("f0", "f1", "x=y")
    }
    assert counts.sum() > (long["label"] == "finding").sum() - len(rows)


def test_uninformative_labels_are_left_out(tagged):
    """atlas has no tags; its family divides the questions as its anatomy does; one value is no division."""
    table = tables_by_tag.build(tagged)
    assert set(table.query("dataset == 'atlas'")["label"]) == {"modality", "anatomy"}
    assert set(table.query("dataset == 'phantom'")["label"]) == {"department", "finding", "modality", "anatomy"}
    bare = tagged.scores.assign(tags=[["one=value"]] * len(tagged.scores), modality="x", anatomy="y", family="z")
    assert tables_by_tag.build(replace(tagged, scores=bare)).empty


def test_a_tag_without_a_name_and_rows_without_tags():
    rows = pd.DataFrame({"dataset": "d", "image_id": list("abc"), "question_id": "q", "level": "fine", "score": 1.0,
                         "tags": [["rare"], None, ["common", "common"]]})
    long = tags.labelled(rows)
    assert long[["label", "category"]].to_numpy().tolist() == [["tag", "rare"], ["tag", "common"]]


def test_the_figure_draws_the_largest_values_and_names_the_others(tagged, monkeypatch, tmp_path):
    monkeypatch.setattr(by_tag, "MOST", 2)
    table = by_tag.build(tagged)
    counts = table.groupby(["dataset", "label"])["category"].nunique()
    assert counts.max() == 2 and "finding of phantom (1 more)" in by_tag.caption(table, tagged)
    whole = tables_by_tag.build(tagged)
    assert set(table["family_size"]) == set(whole["tests"])
    rendered = figures.render(NAME, tagged, tmp_path)
    assert not rendered.missing and "Holm's correction" in rendered.caption


def test_filled_points_are_those_that_differ_after_holm(tagged):
    table = by_tag.build(tagged).assign(p_holm=1.0)
    table.loc[0, "p_holm"] = 0.0
    drawn = by_tag.draw(table)
    filled = [line for ax in drawn.axes for line in ax.get_lines()
              if line.get_marker() == "o" and line.get_markerfacecolor() != "white"]
    assert sum(np.isfinite(line.get_xdata()).sum() for line in filled) == 1


def test_without_native_or_low_there_is_no_table_and_the_page_lists_it(tagged, tmp_path):
    native = replace(tagged, scores=tagged.scores[tagged.scores["regime"] == "native"])
    assert by_tag.build(native).empty and not tables_by_tag.applies(native)
    assert figures.render(NAME, native, tmp_path).missing
    assert f"Figure: {by_tag.TITLE}." in index_page.not_run(native, tmp_path)
    assert tables.REGISTRY["13_by_tag"].applies(tagged)

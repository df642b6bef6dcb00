"""The table of sets: shares of sets, not of questions; confusion only for pairs with different references."""

import numpy as np
import pandas as pd
import pytest

from medstudy.report import figures, tables
from medstudy.report.pages import index_page
from medstudy.report.study_data import StudyData
from medstudy.report.tables import sets
from medstudy.scoring import score
from tests.support import synthetic
from tests.support.scored_study import study

NAME = next(entry.name for entry in tables.REGISTRY.values() if entry.title == sets.TITLE)
ANSWERS = {"fixed-84": ("A", "A"), "native": ("A", "B")}  # the same option for both; different options


@pytest.fixture(scope="module")
def with_sets():
    """20 pairs of images with the same question at two rungs, two seeds; at the low one all answers but one are A."""
    rows = synthetic.predictions(20, 2, ("native",), tuple(ANSWERS), ())
    base = rows.drop_duplicates(["inference", "seed"]).to_dict("records")
    rows = [
        cell | dict(dataset="mediconfusion", image_id=f"{pair}-{side}", question_id=f"{pair}-{side}", group=f"{pair}",
                    set_id=f"{pair}", kind="choice", options=["x", "y"], answer="AB"[side],
                    raw_text="neither" if pair == 0 else ANSWERS[cell["inference"]][side])
        for cell in base for pair in range(20) for side in (0, 1)
    ]
    return StudyData(score.score(pd.DataFrame(rows)), study={"confidence": 0.9})


def test_set_accuracy_and_confusion(with_sets):
    table = sets.build(with_sets)
    assert table["inference"].tolist() == ["fixed-84", "native"]  # by the ladder
    assert table["set_accuracy_pct"].tolist() == pytest.approx([0, 95])
    assert table["confusion_pct"].tolist() == pytest.approx([100, 0])
    assert table["question_accuracy_pct"].tolist() == pytest.approx([47.5, 95])
    assert table["guessing_pct"].tolist() == [25, 25]
    assert table["sets"].tolist() == [20, 20] and table["pairs"].tolist() == [19, 19]  # a pair without letters
    assert table["groups"].tolist() == [20, 20] and table["seeds"].tolist() == [2, 2]
    for name in ("set_accuracy_pct", "confusion_pct"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
        assert (table[f"{name}_high"] - table[f"{name}_low"] > 1).all()


def test_it_is_rendered_with_its_counts(with_sets, tmp_path):
    rendered = tables.render(NAME, with_sets, tmp_path)
    text = rendered.files[1].read_text()
    assert "confusion: the share of pairs" in text and "90% intervals" in text and "set_accuracy_pct" in text


def test_sets_without_pairs_have_no_confusion(with_sets):
    answers = np.where(with_sets.scores["answer"] == "A", "yes", "no")
    yes = with_sets.scores.assign(kind="closed", raw_text="yes", answer=answers).drop(columns=list(score.METRICS))
    closed = StudyData(score.score(yes))
    table = sets.build(closed)
    assert "confusion_pct" not in table and (table["set_accuracy_pct"] == 0).all()
    assert "confusion" not in sets.caption(table, closed).replace("MediConfusion", "")


def test_controls_do_not_count(with_sets):
    blind = with_sets.scores.assign(control="blind", strict=1.0)
    both = StudyData(pd.concat([with_sets.scores, blind], ignore_index=True))
    assert sets.build(both)["set_accuracy_pct"].tolist() == pytest.approx([0, 95])


def test_without_sets_it_is_neither_rendered_nor_missing(with_sets, tmp_path):
    small = study()
    assert sets.build(small).empty and tables.REGISTRY[NAME].applies(with_sets)
    figures.render_all(small, tmp_path, only=["01_native_sizes"])
    assert not any(sets.TITLE in line for line in index_page.not_run(small, tmp_path))
    assert any(tables.claims.TITLE in line for line in index_page.not_run(small, tmp_path))

"""Scores of counts, points, boxes and reports as columns: identity, opposite, unread, and the packages of reports."""

import sys
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

from medstudy.data import places
from medstudy.errors import DataError
from medstudy.scoring import located, report_packages, score
from tests.data.test_clinical_labels import OPPOSITE, REPORT

BASE = {"dataset": "d", "image_id": "i", "question_id": "q", "detail_px": np.nan, "height": 300, "width": 400,
        "shown_height": 84, "shown_width": 112, "coordinates": "thousand", "frame": [0.0, 0.0, 112.0, 84.0]}
POINT, BOX = places.written([(100, 60)]), places.written([(40, 30, 200, 150)])
CASES = {  # kind: reference, the right answer, an opposite, one that cannot be read
    "count": ("7", "7", "14", "many"),
    "point": (POINT, '[{"point_2d": [250, 200]}]', '[{"point_2d": [750, 800]}]', "in the middle"),
    "box": (BOX, '[{"bbox_2d": [100, 100, 500, 500]}]', '[{"bbox_2d": [500, 500, 900, 900]}]', "[1, 2]"),
    "report": (REPORT, REPORT, OPPOSITE, "<think>Is there"),
    "closed": ("是", "是的", "不是", "肺"),
    "open": ("左肺", "左肺", "右肾", ""),
}


def scored(*rows: dict) -> pd.DataFrame:
    return score.score(pd.DataFrame([BASE | row for row in rows]))


@pytest.mark.parametrize("kind", CASES)
def test_the_reference_scores_full_and_its_opposite_low(kind):
    answer, right, opposite, unread = CASES[kind]
    table = scored(*({"kind": kind, "answer": answer, "raw_text": text} for text in (right, opposite, unread)))
    assert table["score"].tolist() == [1, 0, 0] and table["unread"].tolist() == [0, 0, 1]
    assert (table["score"] == table["strict"]).all() and table["chance"].eq(0.5 if kind == "closed" else 0).all()


def test_each_kind_has_its_own_columns():
    rows = [{"kind": kind, "answer": case[0], "raw_text": case[1]} for kind, case in CASES.items()]
    table = scored(*rows).set_index(table_kinds := pd.Index(CASES))
    known = table[list(located.METRICS)].notna()
    assert known.loc["count"][known.loc["count"]].index.tolist() == ["count_error", "within_one", "within_ten_pct"]
    assert known.loc["point"][known.loc["point"]].index.tolist() == ["point_hit", "point_f1"]
    assert known.loc["box"][known.loc["box"]].index.tolist() == ["iou", "box_f1"]
    assert not known.loc[["report", "closed", "open"]].any(axis=None) and len(table_kinds) == len(table)
    assert table.loc["report", "clinical_f1"] == 1 and table["author"].notna()[["closed", "open"]].all()


def test_the_error_of_an_unread_count_is_missing_not_zero():
    table = scored(*({"kind": "count", "answer": "7", "raw_text": text} for text in ("many", "9")))
    assert np.isnan(table["count_error"][0]) and table["count_error"][1] == 2


def test_a_report_without_known_findings_is_scored_by_its_words():
    table = scored({"kind": "report", "answer": "A normal gland.", "raw_text": "A normal duct."})
    assert np.isnan(table["clinical_f1"][0]) and table["score"][0] == 0.5  # "a" is an article


def test_the_opposite_of_a_report_has_most_of_its_words():
    """Why words do not score reports."""
    table = scored({"kind": "report", "answer": REPORT, "raw_text": OPPOSITE})
    assert table["strict_recall"][0] > 0.75 and table["score"][0] == 0


def test_places_need_what_was_shown():
    row = {"kind": "box", "answer": BOX, "raw_text": "[1, 2, 3, 4]"}
    with pytest.raises(DataError, match="lack coordinates"):
        score.score(pd.DataFrame([BASE | row]).drop(columns="coordinates"))
    assert scored(row | {"coordinates": None}, row | {"frame": []})["unread"].tolist() == [1, 1]


def test_average_precision_of_rows():
    answer, right, wrong, unread = CASES["box"]
    rows = [BASE | {"kind": "box", "answer": answer, "raw_text": text} for text in (right, wrong, unread, right)]
    assert located.average_precision(pd.DataFrame(rows)) == pytest.approx(0.5 * 2 / 3)


def test_rouge_is_computed_or_said_to_be_missing():
    table = scored({"kind": "report", "answer": REPORT, "raw_text": OPPOSITE})
    why = report_packages.status()["rouge_l"]
    assert np.isnan(table["rouge_l"][0]) == bool(why)
    assert not why or "pip install 'medstudy[reports]'" in why


def test_rouge_l_by_its_package():
    pytest.importorskip("rouge_score", reason="the extra `reports` is not installed")
    pairs = (("a b c d", "a c d"), (REPORT, REPORT))
    table = scored(*({"kind": "report", "answer": answer, "raw_text": text} for answer, text in pairs))
    assert table["rouge_l"].tolist() == [pytest.approx(6 / 7), 1]


@pytest.fixture
def installed(monkeypatch):
    """Stand-ins with the interface of the packages of RadGraph and RaTEScore; what they compute is word overlap."""
    def share(text: str, reference: str) -> float:
        return len(set(text.split()) & set(reference.split())) / len(set(reference.split()))

    class F1RadGraph:
        def __init__(self, reward_level: str, model_type: str):
            assert (reward_level, model_type) == ("partial", "radgraph-xl")

        def __call__(self, hyps: list[str], refs: list[str]):
            each = [share(*pair) for pair in zip(hyps, refs, strict=True)]
            return sum(each) / len(each), each, [], []

    class RaTEScore:
        def __init__(self):
            raise OSError("no weights")

    for name, content in (("radgraph", F1RadGraph), ("RaTEScore", RaTEScore)):
        module = ModuleType(name)
        setattr(module, content.__name__, content)
        module.__spec__ = pytest.__spec__
        monkeypatch.setitem(sys.modules, name, module)
    report_packages._loaded.cache_clear()
    yield
    report_packages._loaded.cache_clear()


def test_packages_that_are_here_are_used_and_those_without_weights_are_listed(installed):
    rows = [{"kind": "report", "answer": "nodule left", "raw_text": text} for text in ("nodule", "", "nodule left")]
    table = scored(*rows)
    assert table["radgraph_f1"].tolist() == [0.5, 0, 1] and table["ratescore"].isna().all()
    assert "no weights" in report_packages.status()["ratescore"] and report_packages.status()["radgraph_f1"] == ""

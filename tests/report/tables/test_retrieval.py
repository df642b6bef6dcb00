"""The table of retrieval: recall and mean rank of both directions, with intervals by independent images."""

import pandas as pd
import pytest

from medstudy.report import tables
from medstudy.report.study_data import StudyData
from medstudy.report.tables import retrieval
from medstudy.scoring import score
from tests.support import synthetic

NAME = next(entry.name for entry in tables.REGISTRY.values() if entry.title == retrieval.TITLE)
RANKS = {"native": [1, 1, 2, 6], "fixed-84": [1, 7, 11, 21], "blind": [11, 11, 11, 11]}


@pytest.fixture(scope="module")
def found():
    rows = [
        {"dataset": "phantom", "inference": inference, "control": "none", "direction": direction, "candidates": 21,
         "image_id": f"{image}-{number}", "group": str(image), "question_id": "caption", "rank": rank, "seed": 0,
         "regime": "base"}
        for inference, ranks in RANKS.items() for direction in ("image to text", "text to image")
        for image in range(10) for number, rank in enumerate(ranks if direction == "image to text" else ranks[::-1])
    ]
    scores = score.score(synthetic.predictions(4, 1, ("native",), ("native", "fixed-84"), ()))
    return StudyData(scores, retrieval=pd.DataFrame(rows), study={"confidence": 0.9})


def test_recall_and_mean_rank(found):
    table = retrieval.build(found)
    assert table["inference"].tolist() == [name for name in ("fixed-84", "native", "blind") for _ in range(2)]
    first = table[table["direction"] == "image to text"].set_index("inference")
    assert first.loc["native", [f"recall_at_{most}_pct" for most in (1, 5, 10)]].tolist() == [50, 75, 100]
    assert first.loc["fixed-84", [f"recall_at_{most}_pct" for most in (1, 5, 10)]].tolist() == [25, 25, 50]
    assert first["mean_rank"].to_dict() == pytest.approx({"native": 2.5, "fixed-84": 10, "blind": 11})
    for name in ("recall_at_5_pct", "mean_rank"):
        assert (table[f"{name}_low"] <= table[name]).all() and (table[name] <= table[f"{name}_high"]).all()
    assert (table["mean_rank_low"] >= 1).all() and (table["mean_rank_high"] <= 21).all()
    # four images of each patient are one cluster: all answers of a patient are alike, so the intervals count ten
    assert (table["queries"] == 40).all() and (table["images"] == 10).all()


def test_it_is_rendered_only_where_captions_were_looked_for(found, tmp_path):
    text = tables.render(NAME, found, tmp_path).files[1].read_text()
    assert "recall_at_k: the right one is among the first k" in text and "90% intervals" in text
    assert tables.REGISTRY[NAME].applies(found) and not tables.REGISTRY[NAME].applies(StudyData(found.scores))
    assert tables.render(NAME, StudyData(found.scores), tmp_path).missing

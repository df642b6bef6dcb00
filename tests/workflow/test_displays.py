"""What notebooks show: of private data only counts, of a long row a smaller mask, of claims the library's numbers."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import nbformat
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from medstudy import claims, params, paths
from medstudy.data import arrow_store, leakage
from medstudy.engine import shared_prefix
from medstudy.engine.batches import plan_views
from medstudy.engine.row_layout import RowLayout
from medstudy.evaluation.evaluate import predict
from medstudy.params import Model
from medstudy.resolution.policies import Fixed, Native
from medstudy.scoring import score
from medstudy.workflow import by_hand as workflow_by_hand
from medstudy.workflow import displays
from tests.support.synthetic import predictions, training

LADDER = (Fixed(side=56), Native(max_pixels=200704))
GFLOPS = pd.Series({"fixed-56": 0.25, "native": 1.0})
TEXT = "Costs $5 or $6 {a}"  # dollars are formulas to matplotlib


@pytest.fixture(scope="module")
def private(pictured):
    return [replace(example, render=False) for example in pictured]


@pytest.fixture(scope="module")
def answered(family, pictured):
    """Predictions for the examples at both rungs."""
    study = params.load("params/tiny.yaml")
    return pd.concat([predict(family, pictured, rung, study) for rung in LADDER])


def texts(figure) -> str:
    return " ".join(text.get_text() for text in figure.findobj(pyplot.Text))


def test_an_image_is_shown_at_every_rung_and_no_private_one(family, pictured, private):
    open_before = pyplot.get_fignums()  # of other tests in this process
    example = displays.showable(pictured)
    assert example is pictured[2]  # the largest
    figure = displays.rungs(example, LADDER, family.geometry, "bicubic")
    sizes = [plan_views(rung, example, family.geometry)[0].size for rung in LADDER]
    assert [axis.images[0].get_array().shape[:2] for axis in figure.axes if axis.images] == [tuple(s) for s in sizes]
    assert "fixed-56" in texts(figure) and "visual tokens" in texts(figure)
    assert displays.rungs(displays.showable(private), LADDER, family.geometry, "bicubic") == displays.HIDDEN
    assert "not known" in displays.rungs(example, LADDER, None, "bicubic")
    wide = replace(example, image=SimpleNamespace(height=30, width=30 * 300))
    assert "aspect" in displays.rungs(wide, LADDER, family.geometry, "bicubic").lower()
    assert pyplot.get_fignums() == open_before  # a notebook would show an open figure a second time


def test_tokens_of_a_data_set_are_counted_at_every_rung(family):
    table = displays.token_table(pd.DataFrame({"height": [56, 112], "width": [56, 112]}), LADDER, family.geometry)
    assert table.index.tolist() == ["fixed-56", "native"]
    assert table["visual tokens, median"].tolist() == [4, 10] and table["most"].tolist() == [4, 16]
    assert table["images made smaller, %"].tolist() == [50, 0]
    wide = pd.DataFrame({"height": [30], "width": [30 * 300]})
    assert "aspect" in displays.token_table(wide, LADDER, family.geometry).lower()
    assert displays.token_table(wide, LADDER, None) == displays.UNKNOWN


def test_the_parts_of_a_row_add_up_and_private_texts_stay_hidden(family, pictured, private):
    view = plan_views(LADDER[1], pictured[0], family.geometry)[0]
    row = shared_prefix.row(family, pictured[0].questions, view, True)
    table = displays.row_parts(row, family.image_token, pictured[0])
    assert table["tokens"].sum() == len(row) and table["visual tokens"].sum() == view.visual_tokens
    assert table["answer tokens (the loss)"].iloc[0] == 0 and (table["answer tokens (the loss)"].iloc[1:] > 0).all()
    assert "Is there a dot?" in table["text"].iloc[1]
    assert set(displays.row_parts(row, family.image_token, private[0])["text"]) == {"", "(not shown)"}


@pytest.mark.parametrize("factor", [1, 100])
def test_a_mask_is_drawn_as_the_plan_defines_it_and_a_long_one_smaller(factor):
    layout = RowLayout((20 * factor, 10 * factor), ((5 * factor, 4 * factor), (3 * factor,)))
    figure = displays.mask(layout)
    drawn = figure.axes[0].images[0].get_array()
    assert drawn.shape[0] <= displays.MASK_SIDE + 5
    if factor == 1:
        assert np.array_equal(drawn, layout.mask.numpy())
    assert "image 2" in texts(figure) and "question 3" in texts(figure)


def test_a_mask_of_separate_sequences_has_no_shared_part():
    figure = displays.mask(RowLayout((0,), ((5, 4),)))
    assert "image" not in texts(figure) and "question 2" in texts(figure)


def test_answers_stand_with_their_image_and_no_private_one(answered, pictured, private):
    figure = displays.answers(answered, pictured, "bicubic")
    shown = texts(figure)
    assert "Reference:" in shown and "answer:" in shown and "fixed-56" in shown and "native" in shown
    assert displays.answers(answered.assign(render=False), private, "bicubic") == displays.HIDDEN
    assert displays.answers(answered.iloc[:0], pictured, "bicubic") == displays.HIDDEN
    assert displays.answers(answered[answered["inference"] == "native"], pictured, "bicubic").axes
    some = answered[~((answered["inference"] == "native") & (answered["image_id"] == pictured[0].image_id))]
    assert displays.answers(some, pictured, "bicubic").axes  # an image without an answer at one rung


def test_texts_are_never_formulas(answered, pictured):
    questions = tuple(replace(question, text=TEXT, answer=TEXT) for question in pictured[0].questions)
    examples = [replace(example, questions=questions) for example in pictured]
    for figure in (
        displays.answers(answered.assign(raw_text=TEXT), examples, "bicubic"),
        displays.view("native", examples[0], answered.assign(raw_text=TEXT), GFLOPS, "bicubic"),
    ):
        figure.canvas.draw()
        assert "$6 {a}" in texts(figure)


def test_a_view_marks_right_answers(answered, pictured):
    right = answered.assign(raw_text=answered["answer"])
    assert texts(displays.view("native", pictured[0], right, GFLOPS, "bicubic")).count("✓") == 3
    wrong = answered.assign(raw_text="")
    assert texts(displays.view("fixed-56", pictured[0], wrong, GFLOPS, "bicubic")).count("✗ (empty)") == 3
    assert "0.25 GFLOPs" in texts(displays.view("fixed-56", pictured[0], wrong, GFLOPS, "bicubic"))


def test_copies_of_an_image_are_found_and_another_image_is_not(tmp_path, pictured):
    examples = [replace(example, split="test") for example in pictured]
    arrow_store.write(examples, tmp_path / "test.arrow")
    found = leakage.leaks(leakage.find(displays.copies([tmp_path])))
    assert "another image" not in set(found["image_b"])
    assert {"mirrored", "turned by 90°"} <= set(found["image_b"])


def test_no_display_looks_for_a_model_elsewhere(monkeypatch):
    monkeypatch.setattr(displays.models, "sketch", lambda _: pytest.fail("a model was looked for"))
    assert displays.outline(Model(id="nobody/no-such-model")) is None
    assert displays.geometry(Model(id="nobody/no-such-model")) is None


def by_hand(scores: pd.DataFrame, table: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """The last value of the cells of 05_claims that compute a claim by hand."""
    cells = nbformat.read(paths.NOTEBOOKS / "05_claims.ipynb", as_version=4).cells
    start = next(place for place, cell in enumerate(cells) if "## One claim by hand" in cell.source)
    study = SimpleNamespace(low="fixed-84", trains=True, intervals=SimpleNamespace(confidence=confidence))
    known = SimpleNamespace(first_data_set=lambda _: scores["dataset"].iloc[0])
    opening = {"scores": scores, "table": table, "study": study, "displays": known, "by_hand": workflow_by_hand}
    exec("import numpy as np\nimport pandas as pd\nfrom scipy import stats", opening)
    *code, last = [cell.source for cell in cells[start:] if cell.cell_type == "code"]
    *lines, value = last.splitlines()
    for source in (*code, "\n".join(lines)):
        exec(source, opening)
    return eval(value, opening)


@pytest.mark.parametrize(("seeds", "verdict"), [(1, "inconclusive"), (3, "reproduced")])
def test_the_claim_by_hand_is_the_librarys(seeds, verdict):
    """To the last digits that float64 keeps; with one seed too, where no verdict is given."""
    scores = score.score(predictions(n_images=160))
    scores = scores[scores["seed"] < seeds]
    found = by_hand(scores, claims.claims_table(scores, training()))
    numbers = found.loc[["estimate", "low", "high"]].astype(float)
    np.testing.assert_allclose(numbers["by hand"], numbers["library"], rtol=1e-10)
    assert found.loc["verdict"].tolist() == [verdict, verdict]


def test_the_claim_by_hand_is_not_run_without_a_native_regime(recwarn):
    scores = score.score(predictions(n_images=40))
    scores = scores[scores["regime"] != "native"]
    found = by_hand(scores, claims.claims_table(scores, training()))
    assert found.loc["verdict"].tolist() == ["not run", "not run"] and found.loc["estimate"].isna().all()
    assert not recwarn.list

"""The estimate of a study without regimes: evaluations alone, by the same work as in a study that trains."""

import pandas as pd
import pytest

from medstudy.costs import estimate, estimate_table
from medstudy.params import Model
from medstudy.params import model as model_params
from medstudy.workflow import resources

ALONE = {"regimes": [], "seeds": [], "training": None, "bounds": None, "controls": {}}


def test_the_evaluation_costs_what_it_costs_in_a_study_that_trains(tiny_study):
    rows = estimate.estimate(tiny_study(controls={}, bounds=None), tflops=1.0).set_index("job")
    alone = estimate.estimate(tiny_study(**ALONE), tflops=1.0).set_index("job")
    numbers = ["images", "questions", "visual_tokens", "turns", "flops", "memory_mb"]
    assert alone.loc["evaluate-base-s0", numbers].tolist() == rows.loc["evaluate-base-s0", numbers].tolist()
    assert not {"train", "bounds"} & set(alone["stage"]) and alone["training_flops"].sum() == 0
    assert estimate.estimate(tiny_study(**ALONE), tflops=1.0).attrs["trained"] == 0


def test_seconds_are_calibrated_by_evaluations_alone(tiny_study):
    frame = estimate.estimate(tiny_study(**ALONE))
    speed = frame.attrs["speed"]
    assert speed["source"] == "calibrated" and "evaluations" in speed["basis"]
    assert frame.set_index("job").loc["evaluate-base-s0", "seconds"] > 0


def test_a_model_whose_work_is_not_known_is_counted_by_its_questions(tiny_study, monkeypatch):
    """With a model that is known, in one study: its requests to a scheduler are the default's."""
    elsewhere = model_params.Abilities(trains=False, bounds=False, counts=False)
    monkeypatch.setitem(model_params.FAMILIES, "gemma3", elsewhere)
    one = tiny_study(**ALONE)
    models = [Model(label="here", id=one.model.id), Model(label="there", id="some/where", family="gemma3")]
    study = one.model_copy(update={"models": tuple(models), "model": Model()})
    frame = estimate.estimate(study, tflops=1.0)
    rows = frame.set_index("job")
    here, there = (rows.loc[f"evaluate-{label}-base-s0"] for label in ("here", "there"))
    assert there["questions"] == here["questions"] > 0 and pd.isna(there["flops"]) and here["flops"] > 0
    assert "compare" in rows.index
    lines = " ".join(estimate_table.summary(frame, estimate.totals(frame, 1)))
    assert "where. Seconds are unknown: the model's work is not known here, only how often it is asked." in lines
    requests = resources.of(study, 1.0)
    known = {name.rsplit("-", 1)[0]: request for name, request in requests.items()}
    assert known["evaluate-there-base-s0"] == resources.DEFAULTS["evaluate"]
    assert known["evaluate-here-base-s0"]["seconds"] > 0


def test_a_study_that_trains_still_needs_images_to_train_on(tiny_study):
    only = [{"name": "phantom", "train": 0, "val": 0, "test": 2, "seed": 1}]
    assert len(estimate.estimate(tiny_study(**ALONE, datasets=only), tflops=1.0))
    with pytest.raises(Exception, match="A training needs images"):
        estimate.estimate(tiny_study(datasets=only), tflops=1.0)

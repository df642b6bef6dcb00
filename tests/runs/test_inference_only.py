"""A study without regimes: nothing is trained, each model is evaluated as it is."""

import copy

import pytest
import yaml

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.params import model as model_params
from medstudy.runs import plan

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
VIEWS = {"views": TINY["controls"]["views"]}
LEFT_OUT = ("seeds", "training", "bounds", "low")


def _content(**changes):
    content = {name: copy.deepcopy(value) for name, value in TINY.items() if name not in LEFT_OUT}
    return content | {"regimes": [], "controls": VIEWS} | changes


def _study(**changes):
    return params.parse(_content(**changes))


def _plan(**changes):
    return {job.name: job for job in plan.plan(_study(**changes))}


def test_nothing_is_trained_and_the_model_is_evaluated_under_the_controls():
    jobs = _plan()
    assert not {job.stage for job in jobs.values()} & {"train", "bounds", "probe"}
    (evaluation,) = (job for job in jobs.values() if job.stage == "evaluate")
    assert (evaluation.name, evaluation.parameters["seed"]) == ("evaluate-base-s0", 0)
    assert [view["policy"] for view in evaluation.parameters["controls"]] == ["down_up", "blind", "shuffled"]
    assert jobs["scores"].needs == ("evaluate-base-s0",) and "report" in jobs


def test_regimes_may_be_left_out():
    content = _content()
    del content["regimes"]
    assert params.parse(content).regimes == () and not params.parse(content).trains


def test_bounds_are_off_unless_they_are_asked_for():
    assert "bounds" not in _plan(low="fixed-84")
    assert _plan(low="fixed-84", bounds={"least": 2})["bounds"].parameters["settings"]["least"] == 2
    with pytest.raises(ParamsError, match="bounds compare native with `low`: name one of the rungs"):
        _study(bounds={})


def test_the_evaluation_of_the_base_model_is_that_of_a_study_that_trains():
    """So a study that adds regimes later asks nothing twice."""
    trained = {job.name: job for job in plan.plan(params.parse(TINY | {"controls": VIEWS | {"of": "base"}}))}
    alone = _plan(study="tiny")
    assert alone["evaluate-base-s0"].identity == trained["evaluate-base-s0"].identity
    stated = {"side": 280, "source": "model card"}
    known = _plan(study="tiny", model=TINY["model"] | {"trained_on": stated})
    assert known["evaluate-base-s0"].identity == alone["evaluate-base-s0"].identity


def test_models_of_different_families_stand_in_one_study():
    content = _content(models=[{"label": "a"}, {"label": "b", "id": "some/where", "family": "auto"}])
    del content["model"]
    names = [job.name for job in plan.plan(params.parse(content))]
    assert {"evaluate-a-base-s0", "evaluate-b-base-s0", "report-a", "report-b"} <= set(names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"training": TINY["training"]}, "`training` needs `regimes`, and there are none"),
        ({"probe": {}}, "`probe` needs `regimes`, and there are none"),
        ({"seeds": [0, 1]}, "trains nothing, so it has one seed or none, got \\(0, 1\\)"),
        ({"low": "mixed"}, "low must name one of the rungs \\['fixed-84', 'native'\\] in a study without regimes"),
        ({"controls": VIEWS | {"of": "native"}}, "controls.of must name one of the regimes \\[\\], or base"),
        ({"model": {"id": "x/y", "family": "vision"}}, "family: vision has no language model"),
        ({"model": {"trained_on": {"source": "card"}}}, "either `side` or `max_pixels`"),
        ({"model": {"trained_on": {"side": 1, "max_pixels": 1, "source": "card"}}}, "either `side` or `max_pixels`"),
        ({"model": {"trained_on": {"side": 336}}}, "trained_on.source: Field required"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_study_without_regimes_cannot_have_is_explained(changes, words):
    with pytest.raises(ParamsError, match=words):
        _study(**changes)


def test_a_study_that_trains_says_what_it_needs():
    with pytest.raises(ParamsError, match="To evaluate a model as it is, set `regimes: \\[\\]`"):
        params.parse({name: value for name, value in TINY.items() if name != "training"})
    stated = {"trained_on": {"side": 336, "source": "card"}}
    with pytest.raises(ParamsError, match="`trained_on` is for a study without regimes"):
        params.parse(TINY | {"model": TINY["model"] | stated})


def test_a_family_that_is_not_trained_here_needs_no_regimes(monkeypatch):
    closed = model_params.Abilities(trains=False, bounds=False, likelihoods=False, counts=False)
    monkeypatch.setitem(model_params.FAMILIES, "gemma3", closed)
    model = {"id": "some/where", "family": "gemma3"}
    with pytest.raises(ParamsError, match="family: gemma3 cannot be trained here, so it needs `regimes: \\[\\]`"):
        params.parse(TINY | {"model": model})
    with pytest.raises(ParamsError, match="gemma3 gives no likelihoods: set `evaluation.option_likelihoods: false`"):
        _study(model=model, evaluation={"option_likelihoods": True})
    with pytest.raises(ParamsError, match="no model has one: set `bounds: null`"):
        _study(model=model, low="fixed-84", bounds={})
    assert _study(model=model).trains is False

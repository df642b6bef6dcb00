"""The texts of a contrastive encoder: strict templates, only for its family, part of what a job is."""

import copy

import pytest
import yaml

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.params import Clip, Model
from medstudy.runs import plan

TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
WITHOUT = ("seeds", "training", "bounds", "low", "controls")


def _study(clip=None, **changes):
    content = {name: copy.deepcopy(value) for name, value in TINY.items() if name not in WITHOUT}
    model = {"id": "some/where", "family": "clip"} | ({} if clip is None else {"clip": clip})
    return params.parse(content | {"regimes": [], "model": model} | changes)


def test_an_encoder_without_texts_has_those_of_clips_paper_and_no_other_family_has_any():
    assert _study().model.clip == Clip() and Clip().templates == ("a photo of {}",)
    assert Model().clip is None and Model(family="gemma3").clip is None
    with pytest.raises(ParamsError, match="model.clip: .*but family is qwen2_vl: remove them"):
        params.parse(copy.deepcopy(TINY) | {"model": {"clip": {}}})


def test_texts_by_task():
    pair = {"if_yes": ["a {question}"], "if_no": ["b"]}
    made = _study({"by_task": {"stain": ["stained with {}"]}, "yes_no": {"*": pair}})
    assert made.model.clip.by_task == {"stain": ("stained with {}",)}
    assert made.model.clip.yes_no["*"].if_no == ("b",)


@pytest.mark.parametrize(
    ("clip", "words"),
    [
        ({"templates": ["a photo"]}, r"one \{\}, where the text of an option is put, got 'a photo'"),
        ({"templates": ["{} or {}"]}, r"one \{\}"),
        ({"templates": ["a {} {class}"]}, r"only braces of this text are \{\} and \{question\}, got '\{class\}'"),
        ({"templates": ["a {} {"]}, "only braces"),
        ({"templates": []}, "at least one text"),
        ({"by_task": {"stain": ["x"]}}, r"by_task.stain.0: .*one \{\}"),
        ({"yes_no": {"stain": {"if_yes": ["a {}"], "if_no": ["b"]}}}, r"braces of this text are \{question\}, got"),
        ({"yes_no": {"stain": {"if_yes": [" "], "if_no": ["b"]}}}, "must not be empty"),
        ({"yes_no": {"stain": {"if_yes": ["a"]}}}, "yes_no.stain.if_no: Field required"),
        ({"yes_no": {"stain": {"if_yes": ["a"], "if_no": ["b"], "maybe": ["c"]}}}, "valid names here: if_no, if_yes"),
        ({"template": ["a {}"]}, "did you mean 'templates'"),
        ({"captions": ["choice"]}, "captions.0"),
    ],
)
def test_wrong_texts_are_explained(clip, words):
    with pytest.raises(ParamsError, match=words):
        _study(clip)


def test_an_encoder_is_not_trained():
    with pytest.raises(ParamsError, match="family: clip cannot be trained here"):
        params.parse(copy.deepcopy(TINY) | {"model": {"id": "some/where", "family": "clip"}})


def test_texts_are_part_of_what_an_evaluation_is_and_other_models_know_none():
    one, other = ({job.name: job.identity for job in plan.plan(study)}
                  for study in (_study(), _study({"templates": ["a scan of {}"]})))
    assert {name for name in one if one[name] != other[name]} >= {"evaluate-base-s0", "scores"}
    assert one["data-phantom"] == other["data-phantom"]
    jobs = {job.name: job for job in plan.plan(_study(model=TINY["model"]))}
    assert "clip" not in jobs["evaluate-base-s0"].parameters["model"]

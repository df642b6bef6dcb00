"""Attention maps equal transformers' own weights; the box is where a question looks more than a description does."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForImageTextToText

from medstudy import params
from medstudy.costs.workload import Counter, trainable
from medstudy.engine import attention_maps
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.views import render
from medstudy.errors import ParamsError
from medstudy.evaluation import evaluate, looking
from medstudy.params import Decoding
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Box, Size, TokenGrid
from medstudy.resolution.zoom import Zoom
from tests.evaluation.test_new_policies import TINY
from tests.support import families
from tests.support.families import own_inputs

LOOK = Zoom(side=150, box="attention")
STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=6, tokens_per_pass=900))


@pytest.fixture(scope="module")
def loud(checkpoints):
    return families.loud(checkpoints, 4)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "gemma3"])
def test_maps_are_the_weights_of_transformers(loud, examples, name):
    family, example = loud(name), examples[2]
    view = LOOK.overview(Size(140, 196), family.geometry)
    ours = looking.looks(ImageInputs(family, "bicubic"), example, view, (looking.GENERAL, *example.questions))
    eager = AutoModelForImageTextToText.from_pretrained(family.model.name_or_path, attn_implementation="eager").eval()
    eager.load_state_dict(family.model.state_dict())
    for number, question in enumerate((looking.GENERAL, *example.questions)):
        inputs = own_inputs(family, family.prompt(question), render(example.image, view, "bicubic"))
        with torch.no_grad():
            layers = eager(**inputs, output_attentions=True).attentions
        weights = torch.stack([layer[0, :, -1].mean(0) for layer in layers[len(layers) // 2 :]]).mean(0)
        theirs = weights[inputs["input_ids"][0] == family.image_token]
        torch.testing.assert_close(ours[number], theirs, atol=1e-5, rtol=1e-3)
    assert ours.shape[1] == view.visual_tokens and (ours[0] - ours[1]).abs().max() > 1e-4


def test_nothing_is_recorded_outside_of_the_block(loud, examples):
    family = loud("qwen2_vl")
    before = evaluate.predict(family, examples[:1], Zoom(side=150, box="attention"), STUDY)
    assert attention_maps._RECORDING.get() is None and len(before) == 3


def test_the_box_is_the_token_whose_neighbourhood_is_looked_at_most():
    grid = TokenGrid(1, 4, 5)
    weights = torch.ones(4, 5)
    weights[2, 3] = 3.0
    weights[2, 2] = 2.5
    assert looking.place(weights.flatten(), grid, Size(100, 200)) == Box(75, 80, 25, 40)  # of equal sums the border's
    weights = torch.ones(4, 5)
    weights[1, 1:4] = 4.0
    assert looking.place(weights.flatten(), grid, Size(100, 200)) == Box(0, 80, 25, 40)
    assert looking.place(torch.ones(6), TokenGrid(1, 2, 3), Size(3, 2)) == Box(0, 0, 1, 1)


@pytest.mark.parametrize("name", ["qwen2_vl", "gemma3"])
def test_each_question_sees_the_window_around_its_own_box(loud, examples, name):
    family = loud(name)
    rows = evaluate.predict(family, examples, LOOK, STUDY)
    assert set(rows["crop_source"]) == {"attention"} and set(rows["crops"]) == {1} and len(rows) == 12
    known = looking.boxed(ImageInputs(family, "bicubic"), examples, LOOK)
    same = evaluate.predict(family, known, Zoom(side=150), STUDY)
    for column in ("raw_text", "prompt", "visual_tokens", "crop_top", "crop_left", "crop_height", "crop_width"):
        assert rows[column].equals(same[column])
    assert {question.box is not None for example in known for question in example.questions} == {True}


def test_an_estimate_counts_both_passes(examples):
    study = params.parse(TINY)
    counter = Counter(study, trainable(study)[0])
    work = counter.evaluation(examples, [Zoom(side=112, box="attention")], 1)
    first, fixed = (counter.evaluation(examples, [Fixed(side=side)], 1) for side in (79, 112))
    assert work.images == len(examples) * (1 + 3) and work.questions == 12
    assert work.visual_tokens > first.visual_tokens + 2.2 * fixed.visual_tokens  # a crop for each of three questions
    assert work.flops > first.flops + 2 * fixed.flops


def test_it_is_a_rung_of_some_families_and_no_regime():
    look = {"policy": "zoom", "side": 112, "box": "attention"}
    assert params.parse(TINY | {"inference": [look]}).inference[0].label == "zoom_attention-112"
    with pytest.raises(ParamsError, match="zoom_attention-112 needs a pass of the model .*move it to `inference`"):
        params.parse(TINY | {"regimes": [*TINY["regimes"], look]})
    with pytest.raises(ParamsError, match="families qwen2_vl, qwen2_5_vl, qwen3_vl, gemma3, got internvl"):
        params.parse(TINY | {"inference": [look], "model": {"id": "x/y", "family": "internvl"}})

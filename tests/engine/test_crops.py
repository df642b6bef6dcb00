"""Crops: their pixels, prompts and rows, and questions of one image that have different boxes."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from medstudy import models
from medstudy.data import arrow_store, known
from medstudy.data.example import Shot
from medstudy.engine import batches, crops, views
from medstudy.engine.batches import plan_views
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ResolutionError
from medstudy.evaluation import evaluate
from medstudy.params import Decoding, Model, Optimisation
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Box, Size
from medstudy.resolution.zoom import Zoom
from medstudy.training import train
from tests.support.families import FAMILIES

STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=8, tokens_per_pass=900))
ZOOM = Zoom(side=112)
BOXES = (Box(10, 20, 8, 8), Box(10, 20, 8, 8), Box(100, 150, 30, 20))


@pytest.fixture(scope="module")
def boxed(examples):
    """The largest example with two boxes, and another without any."""
    first = replace(examples[2], questions=tuple(
        replace(question, box=box) for question, box in zip(examples[2].questions, BOXES, strict=True)))
    return [first, examples[1]]


@pytest.fixture(scope="module")
def loud(checkpoints):
    made = {}

    def load(name):
        if name not in made:
            made[name] = models.load(Model(id=str(checkpoints[name]), family=name))
            for parameter in made[name].model.parameters():
                parameter.data.mul_(5 if parameter.ndim >= 2 else 1)
        return made[name]

    return load


def test_a_crops_pixels_are_those_of_the_image_cut_out(loud, boxed):
    example, geometry = boxed[0], loud("qwen2_vl").geometry
    (overview,) = plan_views(ZOOM, example, geometry)
    (crop,) = overview.crops
    ours = views.render(example.image, crop, "bicubic")
    top, left, height, width = crop.crop
    cut = example.image.crop((left, top, left + width, top + height))
    expected = views.render(cut, Fixed(side=79).view(Size(height, width), geometry), "bicubic")
    assert ours.equal(expected) and ours.shape == (*crop.size, 3)
    assert views.key(SimpleNamespace(sha256="x"), crop, "") != views.key(SimpleNamespace(sha256="x"), overview, "")


@pytest.mark.parametrize("name", FAMILIES)
def test_zoom_with_the_whole_image_equals_the_image_twice(loud, examples, name):
    """An overview and a crop of everything are two images of one prompt, each as `fixed` shows it."""
    if name == "gemma3":
        pytest.skip("writes a text of its own around crops: tests/models/test_gemma3.py")
    family, side = loud(name), 250
    whole = [replace(example, questions=tuple(
        replace(question, box=Box(0, 0, *reversed(example.image.size))) for question in example.questions))
        for example in examples]
    twice = [replace(example, context=(Shot(example.image),)) for example in examples]
    half = next(rung for rung in (Fixed(side=s) for s in range(side, 1, -1)) if rung.budget <= side**2 // 2)
    ours, theirs = evaluate.predict(family, whole, Zoom(side=side), STUDY), evaluate.predict(family, twice, half, STUDY)
    for column in ("prompt", "raw_text", "visual_tokens", "shown_height", "shown_width", "scale"):
        assert ours[column].tolist() == theirs[column].tolist(), column
    assert set(ours["crop_source"]) == {"known"} and len(set(ours["raw_text"])) > 2


def test_questions_of_different_boxes_see_their_own_crop(loud, boxed):
    family = loud("qwen2_vl")
    with pytest.warns(UserWarning, match="zoom-112: 3 of 6 questions have no box"):
        rows = evaluate.predict(family, boxed, ZOOM, STUDY)
    alone = []
    for example in boxed:
        for question in example.questions:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(crops, "check", lambda *_: None)
                alone.append(evaluate.predict(family, [replace(example, questions=(question,))], ZOOM, STUDY))
    alone = pd.concat(alone).sort_values(["dataset", "image_id", "question_id"], ignore_index=True)
    pd.testing.assert_frame_equal(rows, alone)
    assert rows.columns[rows.columns.str.startswith("crop")].tolist() == [
        "crops", "crop_source", "crop_top", "crop_left", "crop_height", "crop_width", "crop_text"]
    with_box, without = (rows[rows["image_id"] == example.image_id].set_index("question_id") for example in boxed)
    assert set(with_box["crop_source"]) == {"known"} and set(with_box["crops"]) == {1}
    window = with_box.loc["dot", ["crop_top", "crop_left", "crop_height", "crop_width"]].tolist()
    assert window == [0, 0, 56, 84] and with_box.loc["colour", "crop_top"] > 50
    assert with_box.loc["dot", "prompt"].count("<|image_pad|>") == 2 and with_box.loc["dot", "visual_tokens"] == 12
    fixed = evaluate.predict(family, boxed[1:], Fixed(side=112), STUDY).set_index("question_id")
    assert set(without["crop_source"]) == {"none"} and without["crop_top"].isna().all()
    for column in ("raw_text", "prompt", "visual_tokens", "shown_height"):
        assert without[column].equals(fixed[column])
    assert fixed["crop_source"].isna().all() and set(fixed["crops"]) == {0}


def test_a_zoom_without_any_box_is_refused(loud, examples):
    with pytest.raises(ResolutionError, match="none of 12 questions has one"):
        evaluate.predict(loud("qwen2_vl"), examples, ZOOM, STUDY)


def test_a_training_shows_each_box_its_crop(loud, boxed):
    family = loud("qwen2_vl")
    inputs = ImageInputs(family, "bicubic")
    options = Optimisation(epochs=1, images_per_step=2, learning_rate=1e-3, validations=1)
    training = batches.FineTuning(inputs, boxed, ZOOM, options, 0)
    shown = training.views(0)
    assert sorted(len(example.questions) for example, _ in shown) == [1, 2, 3]
    (micro,) = training[0]
    assert micro.questions == 6 and micro.visual_tokens == sum(view.all_tokens for _, view in shown)
    assert float(train.loss_of(inputs, micro.content).detach()) > 0
    ledger = batches.ledger(training)
    rows = ledger[ledger["image_id"].str.startswith(boxed[0].image_id)]
    assert len(rows) == 4 and rows["image_id"].str.endswith("#1").sum() == 2
    assert rows.loc[rows["image_id"].str.endswith("#1"), "scale"].max() == 1  # at native scale, of the crop


def test_what_is_known_is_stored_beside_the_arrow_file(boxed, examples, tmp_path):
    boxed = [replace(boxed[0], um_per_px=0.5), boxed[1]]
    arrow_store.write(boxed, tmp_path / "test.arrow")
    stored = arrow_store.read(tmp_path, "test")
    assert [example.questions for example in stored] == [example.questions for example in boxed]
    assert [example.um_per_px for example in stored] == [0.5, None]
    (tmp_path / "plain").mkdir()
    arrow_store.write([examples[2], examples[1]], tmp_path / "plain" / "test.arrow")
    assert (tmp_path / "plain" / "test.arrow").read_bytes() == (tmp_path / "test.arrow").read_bytes()
    assert [file.name for file in (tmp_path / "plain").iterdir()] == ["test.arrow"]


def test_a_box_is_cut_to_whole_pixels_of_its_image():
    assert known.inside((1.2, 3.9, 5.1, 8.0), 10, 10) == Box(3, 1, 5, 5)
    assert known.inside((-4, -4, 2, 50), 10, 10) == Box(0, 0, 10, 2)
    assert known.inside((12, 12, 14, 14), 10, 10) == Box(9, 9, 1, 1)
    assert np.all(np.array(known.inside((3, 3, 3.2, 3.2), 10, 10)) == (3, 3, 1, 1))

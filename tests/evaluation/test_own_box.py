"""Zoom with the model's own box: asked in a first turn, read in its coordinates, with a fallback that is seen."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from medstudy import models, params
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ModelError, ParamsError
from medstudy.evaluation import evaluate, own_box
from medstudy.evaluation.answerer import Answers
from medstudy.evaluation.in_process import InProcess
from medstudy.params import Decoding, Model
from medstudy.resolution.frames import Frame
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Box, Size
from medstudy.resolution.zoom import Zoom
from tests.evaluation.test_new_policies import TINY

OWN = Zoom(side=112, box="own")
STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=8, tokens_per_pass=900))


@dataclass(frozen=True)
class Scripted(InProcess):
    """A model that gives scripted boxes, and answers everything else itself; it keeps what it was asked first."""

    script: tuple[str, ...] = ()
    heard: list = None

    def answers(self, asked):
        if any(question.kind != "box" for example in asked.examples for question in example.questions):
            yield from super().answers(asked)
            return
        self.heard.append(asked)
        for index, example in enumerate(asked.examples):
            yield index, Answers(list(self.script[: len(example.questions)]), [[] for _ in example.questions])


@pytest.fixture(scope="module")
def family(checkpoints):
    made = models.load(Model(id=str(checkpoints["qwen2_vl"])))
    for parameter in made.model.parameters():
        parameter.data.mul_(5 if parameter.ndim >= 2 else 1)
    return made


READ = {
    # answer -> box in an image of 200 x 400, by Qwen2-VL's thousandths
    "(250,500),(500,750)": Box(100, 100, 50, 100),
    "<|box_start|>(0,0),(1000,1000)<|box_end|>": Box(0, 0, 200, 400),
    "<think>(1,1),(2,2)</think>(250,500),(500,750)": Box(100, 100, 50, 100),
    "(250,500),(500,750) (0,0),(10,10)": Box(100, 100, 50, 100),
    "(900,900),(1400,1200)": Box(180, 360, 20, 40),
    "(1100,0),(1200,500)": None,
    "(500,500),(250,250)": None,
    "upper left": None,
    "[]": None,
    "": None,
}


@pytest.mark.parametrize("text", READ)
def test_a_box_is_read_in_the_models_coordinates(text, family):
    view = OWN.overview(Size(200, 400), family.geometry)
    assert own_box.read(text, "thousand_pairs", Frame.of(view, Size(200, 400))) == READ[text]


def test_the_second_turn_shows_each_question_its_own_box(family, examples):
    script = ("(0,0),(200,200)", "(600,700),(700,800)", "I see nothing.")
    model = Scripted(ImageInputs(family, "bicubic"), script, [])
    with pytest.warns(UserWarning, match="zoom_own-112: for 4 of 12 questions the model gave no box"):
        rows = evaluate.ask(model, examples, OWN, STUDY)
    (first,) = model.heard
    asked = first.examples[2].questions[0]
    assert asked.text.startswith("Which part of the image must one look at to answer this question? Is there a dot?")
    assert "({x0},{y0})" not in asked.text and first.shown[2].size == OWN.overview(Size(140, 196), family.geometry).size
    assert not first.shown[2].crops and all(not example.context for example in first.examples)
    of_image = rows[rows["image_id"] == "train-2"].set_index("question_id")
    assert of_image["crop_source"].tolist() == ["none", "own", "own"]  # colour, dot, where
    assert dict(of_image["crop_text"]) == dict(zip(("dot", "where", "colour"), script, strict=True))
    boxes = {"dot": Box(0, 0, 28, 40), "where": Box(98, 117, 14, 21), "colour": None}
    known = replace(examples[2], questions=tuple(
        replace(question, box=boxes[question.id]) for question in examples[2].questions))
    with pytest.warns(UserWarning, match="have no box"):
        same = evaluate.predict(family, [known], Zoom(side=112), STUDY).set_index("question_id")
    for column in ("crop_top", "crop_left", "crop_height", "crop_width", "prompt", "raw_text", "visual_tokens"):
        assert of_image[column].equals(same[column]), column
    fixed = evaluate.predict(family, [examples[2]], Fixed(side=112), STUDY).set_index("question_id")
    assert of_image.loc["colour", "raw_text"] == fixed.loc["colour", "raw_text"]
    assert fixed["crop_text"].isna().all()


def test_the_base_can_be_asked_and_every_unread_box_is_seen(examples):
    family = models.load(Model())
    with pytest.warns(UserWarning, match="gave no box"):
        rows = evaluate.predict(family, examples, OWN, STUDY)
    assert rows["crop_text"].notna().all()
    assert (rows["crop_source"] == "own").equals(rows["crops"] == 1)
    assert set(rows["crop_source"]) <= {"own", "none"}


def test_a_model_whose_coordinates_are_unknown_is_refused(checkpoints, examples):
    family = models.load(Model(id=str(checkpoints["idefics3"]), family="idefics3"))
    with pytest.raises(ModelError, match="Set model.coordinates"):
        evaluate.predict(family, examples, OWN, STUDY)


def test_it_is_a_rung_and_no_regime():
    own = {"policy": "zoom", "side": 112, "box": "own"}
    assert params.parse(TINY | {"inference": [own]}).inference[0].label == "zoom_own-112"
    gemma = {"id": "x/y", "family": "gemma3"}
    with pytest.raises(ParamsError, match="zoom_own-112 asks the model for boxes, .*family: gemma3 writes coordinates"):
        params.parse(TINY | {"inference": [own], "model": gemma})
    params.parse(TINY | {"inference": [own], "model": gemma | {"coordinates": "thousand"}})
    with pytest.raises(ParamsError, match="zoom_own-112 needs a pass of the model .*move it to `inference`"):
        params.parse(TINY | {"regimes": [*TINY["regimes"], own]})

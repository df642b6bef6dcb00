"""Pre-training: both stages on a toy scale, resume and processes, and the base that ships."""

import json
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from medstudy import models, paths
from medstudy.datasets import shapes
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ParamsError, RunError
from medstudy.params import Model
from medstudy.pretraining import pretrain, tiny_qwen2_vl
from medstudy.pretraining import vision as pretraining_vision
from medstudy.pretraining.tower import Tower
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Size
from medstudy.training import loop, train

BASE = yaml.safe_load((paths.ROOT / "params" / "base.yaml").read_text()) | {"start": None}
SIZES = {"width": 64, "layers": 1, "vision_width": 48, "vision_layers": 1}


@pytest.fixture(scope="module")
def small():
    optimisation = BASE["training"] | {"images_per_step": 4, "validations": 2}
    vision = {"steps": 4, "canvases": 2, "tokens": 32, "training": BASE["vision"]["training"]}
    sizes = SIZES | {"vocabulary": 500, "images": 8, "plain": 4, "val_images": 4, "large": 0.5, "side": 140}
    return pretrain.Base.model_validate(BASE | sizes | {"vision": vision, "training": optimisation})


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("untrained") / "model"
    return models.load(Model(id=str(tiny_qwen2_vl.build(shapes.vocabulary(), folder, 500, **SIZES))))


def test_both_stages_give_a_checkpoint_that_loads(small, tmp_path):
    pretrain.pretrain(small, tmp_path / "base", workers=0)
    log = pd.read_csv(tmp_path / "base" / "training.csv")
    assert log["images_seen"].tolist() == [4, 8] and log["val_loss"].notna().all()
    stamp = json.loads((tmp_path / "base" / "medstudy.json").read_text())
    assert stamp["policy"] == {"policy": "fixed", "side": 140, "mode": "budget", "rounding": "exact"}
    family = models.load(Model(id=str(tmp_path / "base")))
    assert (family.geometry.factor, family.geometry.min_pixels) == (28, 784)


def test_a_frozen_tower_keeps_what_the_first_stage_taught(small, tmp_path, monkeypatch):
    weights = {}

    def answering(start, base):
        family = real(start, base)
        weights.update({name: value.clone() for name, value in family.model.state_dict().items()})
        return family

    real = pretrain.answering
    monkeypatch.setattr(pretrain, "answering", answering)
    pretrain.pretrain(small, tmp_path / "base", workers=0)
    after = models.load(Model(id=str(tmp_path / "base"))).model.state_dict()
    changed = {name for name in weights if not torch.equal(weights[name], after[name])}
    assert not [name for name in changed if "visual" in name and "merger" not in name]
    assert [name for name in changed if "merger" in name] and [name for name in changed if "language_model" in name]


@pytest.mark.slow
def test_two_processes_give_the_same_training_as_one(small, tmp_path):
    """Each computes half of every step; the gradients are those of the whole step."""
    blind = small.model_copy(update={"vision": None})
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(blind.model_dump(mode="json")))
    pretrain.pretrain(blind, tmp_path / "one", workers=0)
    log = pretrain.launch(tmp_path / "base.yaml", tmp_path / "two", 2)
    alone = pd.read_csv(tmp_path / "one" / "training.csv")
    same = ["step", "images_seen", "visual_tokens"]
    pd.testing.assert_frame_equal(log[same], alone[same])
    assert log["loss"][0] == pytest.approx(alone["loss"][0], rel=1e-6)
    later = ["loss", "val_loss"]  # two processes add gradients in another order
    np.testing.assert_allclose(log[later], alone[later], rtol=2e-3)


@pytest.mark.slow
def test_a_failed_process_is_an_error(tmp_path):
    with pytest.raises(RunError, match="must end with code 0"):
        pretrain.launch(tmp_path / "none.yaml", tmp_path / "base", 1)


def test_the_corpus_never_repeats_an_image_and_some_are_large(small, untrained):
    corpus = pretrain.Corpus(untrained, "train", small.model_copy(update={"images": 40, "large": 0.4}))
    assert len(corpus) == 10
    first, second = corpus[0], corpus[1]
    assert not torch.equal(first[0].content.images[0][:4], second[0].content.images[0][:4])
    grids = torch.cat([each.content.packed.grids for step in range(1, 10) for each in corpus[step]])
    assert 0.1 < (grids.prod(1) > 4 * 16).float().mean() < 0.9


def test_half_of_the_choices_are_in_words():
    """By a question's text: "…: a, b or c?" with one of them as the answer."""
    asked = [question for index in range(200) for question in shapes.example(0, "train", index).questions]
    told = [question for index in range(200)
            for question in pretrain._some_in_words(shapes.example(0, "train", index), index).questions]
    pairs = [(a, b) for a, b in zip(asked, told, strict=True) if a.kind == "choice"]
    words = [(a, b) for a, b in pairs if b.kind == "class"]
    assert 0.4 < len(words) / len(pairs) < 0.6
    assert all(b.answer == a.options["ABCD".index(a.answer)] and b.answer in b.text for a, b in words)
    assert all(a == b for a, b in zip(asked, told, strict=True) if b.kind != "class")


def test_answers_are_learnt_from_the_images_that_a_study_would_show(untrained, small):
    """The loss of a pass is `train.loss_of` on the same images, one at a time."""
    corpus = pretrain.Corpus(untrained, "train", small)
    (each,) = corpus[0]
    ours = pretrain.loss_of(pretrain.Inputs(untrained, Tower(untrained)), each.content)
    inputs, policy, theirs = ImageInputs(untrained, "bicubic"), Fixed(side=small.side), 0.0
    for index in range(4):
        example = shapes.example(small.seed, "train", index, plain=True)
        view = policy.view(Size(example.image.height, example.image.width), untrained.geometry)
        (single,) = pretrain.batches.micro_batches(inputs, [(example, view)], 8192)
        theirs += train.loss_of(inputs, single.content)
    assert float(ours) == pytest.approx(float(theirs), rel=1e-4)


def test_the_vision_stage_learns_and_resumes_to_the_same_bits(untrained, small, tmp_path):
    options = small.vision.training.model_copy(update={"checkpoint_seconds": 10**6})
    start = {name: value.clone() for name, value in untrained.model.state_dict().items()}

    def fit(folder, batches):
        untrained.model.load_state_dict(start)
        untrained.model.zero_grad()
        torch.manual_seed(0)
        seer = pretraining_vision.Seer(untrained)
        before = new_loss(seer)
        log = loop.fit(seer, batches, None, options, 0, folder, partial(pretraining_vision.loss_of, seer))
        return log, seer.by_patch.weight.detach().clone(), new_loss(seer) / before

    @torch.no_grad()
    def new_loss(seer):
        return sum(float(pretraining_vision.loss_of(seer, each.content)) for each in new)

    new = pretraining_vision.Scenes(untrained, 1, 1, 3, 64)[0]
    scenes = pretraining_vision.Scenes(untrained, 0, 24, 1, 96)
    log, weight, share = fit(tmp_path / "whole", scenes)
    assert share < 0.85

    class Killed(pretraining_vision.Scenes):
        def __getitem__(self, step):
            if step == 14:
                raise KeyboardInterrupt
            return super().__getitem__(step)

    options = options.model_copy(update={"checkpoint_seconds": 1})
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", Killed(untrained, 0, 24, 1, 96))
    resumed, again, _ = fit(tmp_path / "cut", scenes)
    assert resumed["loss"].tolist() == log["loss"].tolist() and torch.equal(weight, again)


def test_invalid_params_are_explained(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE | {"widht": 3}))
    with pytest.raises(ParamsError, match="widht"):
        pretrain.load(tmp_path / "base.yaml")


def test_the_base_that_ships_is_the_one_that_params_describe():
    family = models.load(Model())
    config = family.model.config
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (BASE["width"], BASE["layers"])
    assert (config.vision_config.embed_dim, config.vision_config.depth) == (BASE["vision_width"], BASE["vision_layers"])
    assert (paths.BASE / "model.safetensors").stat().st_size <= 20_000_000
    assert not list(paths.BASE.glob("*.bin"))

"""Pre-training: targets of the vision stage, the corpus, and both stages on a toy scale."""

import json
from functools import partial
from random import Random

import numpy as np
import pandas as pd
import pytest
import torch
import yaml

from medstudy import models, paths
from medstudy.datasets import shapes
from medstudy.datasets.shapes.words import SHAPES
from medstudy.errors import ParamsError, RunError
from medstudy.params import Model
from medstudy.pretraining import pretrain, tiny_qwen2_vl
from medstudy.pretraining import vision as pretraining_vision
from medstudy.training import loop

BASE = yaml.safe_load((paths.ROOT / "params" / "base.yaml").read_text())
BRIGHT = [4 + 2 * index for index in range(len(pretraining_vision.SCALES))]  # columns of bright blobs


def _dot(diameter, at=(42, 14), size=(56, 56)):
    rows, columns = np.indices(size)
    inside = (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= (diameter / 2) ** 2
    return np.repeat((60 + 160 * inside).astype(np.uint8)[..., None], 3, axis=2)


def test_a_dot_is_found_in_its_token_at_its_scale():
    for diameter, scale in ((3, 1.2), (9, 2.7), (17, 6.0)):
        described = pretraining_vision.describe(_dot(diameter), 28)
        blobs = described[:, BRIGHT]
        assert blobs.max(1).values.argmax() == 2  # row 1, column 0 of 2 x 2 tokens
        found = pretraining_vision.SCALES[int(blobs[2].argmax())]
        assert scale / 1.6 <= found <= scale * 1.6, (diameter, found)


def test_targets_describe_colour_contrast_and_edge_direction():
    flat = pretraining_vision.describe(np.full((28, 28, 3), (255, 0, 0), np.uint8), 28)[0]
    assert flat[:3].tolist() == pytest.approx([1, -1, -1]) and flat[3] == pytest.approx(0, abs=1e-5)
    stripes = np.repeat((np.indices((28, 28))[1] // 4 % 2 * 200).astype(np.uint8)[..., None], 3, axis=2)
    down, right, _ = pretraining_vision.describe(stripes, 28)[0, -3:]
    assert right > 5 * abs(down)


def test_centres_mark_the_token_of_every_shape():
    for seed in range(30):
        scene = shapes.compose(Random(seed))
        grid = pretraining_vision.centres(scene, 28)
        assert len(grid) == scene.height * scene.width // 784
        tokens = {int(item.y) // 28 * (scene.width // 28) + int(item.x) // 28 for item in scene.items}
        assert set((grid < len(SHAPES)).nonzero().flatten().tolist()) == tokens


@pytest.fixture(scope="module")
def small():
    optimisation = BASE["training"] | {"images_per_step": 4, "validations": 2}
    vision = {"images": 64, "training": BASE["vision"]["training"] | {"images_per_step": 8}}
    sizes = {"vocabulary": 500, "width": 64, "layers": 1, "vision_width": 48, "vision_layers": 1}
    return pretrain.Base.model_validate(
        BASE | sizes | {"images": 8, "plain": 4, "val_images": 4, "vision": vision, "training": optimisation}
    )


def test_both_stages_give_a_checkpoint_that_loads(small, tmp_path):
    pretrain.pretrain(small, tmp_path / "base", workers=0)
    log = pd.read_csv(tmp_path / "base" / "training.csv")
    assert log["images_seen"].tolist() == [4, 8] and log["val_loss"].notna().all()
    stamp = json.loads((tmp_path / "base" / "medstudy.json").read_text())
    assert stamp["policy"] == {"policy": "fixed", "side": 112, "mode": "budget", "rounding": "exact"}
    family = models.load(Model(id=str(tmp_path / "base")))
    assert (family.geometry.factor, family.geometry.min_pixels) == (28, 784)


@pytest.mark.slow
def test_two_processes_give_the_same_training_as_one(small, tmp_path):
    """Each computes half of every step; the gradients are those of the whole step."""
    blind = small.model_copy(update={"vision": None})  # its loss is a mean over the tokens of a process's share
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


def test_the_vision_stage_learns(small, tmp_path):
    family = _untrained(tmp_path)
    options = small.vision.training
    scenes = pretraining_vision.Scenes(family, 0, 320, options.images_per_step)
    seer = pretraining_vision.Seer(family)
    log = loop.fit(seer, scenes, None, options, 0, tmp_path, partial(pretraining_vision.loss_of, seer))
    assert log["loss"].tail(5).mean() < 0.7 * log["loss"].head(5).mean()


def _untrained(folder):
    sizes = {"width": 64, "layers": 1, "vision_width": 48, "vision_layers": 1}
    return models.load(Model(id=str(tiny_qwen2_vl.build(shapes.vocabulary(), folder, 500, **sizes))))


def test_the_corpus_never_repeats_an_image(small, tmp_path):
    corpus = pretrain.Corpus(_untrained(tmp_path), "train", small)
    first, second = corpus[0], corpus[1]
    assert len(corpus) == 2
    assert not torch.equal(first[0].content.images[0][:1], second[0].content.images[0][:1])


def test_invalid_params_are_explained(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE | {"widht": 3}))
    with pytest.raises(ParamsError, match="widht"):
        pretrain.load(tmp_path / "base.yaml")


def test_the_base_that_ships_is_the_one_that_params_describe():
    family = models.load(Model())
    config = family.model.config
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (BASE["width"], BASE["layers"])
    assert (config.vision_config.embed_dim, config.vision_config.depth) == (BASE["vision_width"], BASE["vision_layers"])
    assert (paths.BASE / "model.safetensors").stat().st_size <= 8_000_000
    assert not list(paths.BASE.glob("*.bin"))

"""The base's recipe: targets of the vision stage, the corpus, and both stages on a toy scale."""

import json

import numpy as np
import pytest
import torch
import yaml

from medstudy import models, paths, pretraining, vision_pretraining
from medstudy.errors import ParamsError
from medstudy.params import Model

BASE = yaml.safe_load((paths.ROOT / "params" / "base.yaml").read_text())
BRIGHT = [4 + 2 * index for index in range(len(vision_pretraining.SCALES))]  # columns of bright blobs


def _dot(diameter, at=(42, 14), size=(56, 56)):
    rows, columns = np.indices(size)
    inside = (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= (diameter / 2) ** 2
    return np.repeat((60 + 160 * inside).astype(np.uint8)[..., None], 3, axis=2)


def test_a_dot_is_found_in_its_token_at_its_scale():
    for diameter, scale in ((3, 1.2), (9, 2.7), (17, 6.0)):
        described = vision_pretraining.describe(_dot(diameter), 28)
        blobs = described[:, BRIGHT]
        assert blobs.max(1).values.argmax() == 2  # row 1, column 0 of 2 x 2 tokens
        found = vision_pretraining.SCALES[int(blobs[2].argmax())]
        assert scale / 1.6 <= found <= scale * 1.6, (diameter, found)


def test_targets_tell_colour_contrast_and_edge_direction():
    flat = vision_pretraining.describe(np.full((28, 28, 3), (255, 0, 0), np.uint8), 28)[0]
    assert flat[:3].tolist() == pytest.approx([1, -1, -1]) and flat[3] == pytest.approx(0, abs=1e-5)
    stripes = np.repeat((np.indices((28, 28))[1] // 4 % 2 * 200).astype(np.uint8)[..., None], 3, axis=2)
    down, right, _ = vision_pretraining.describe(stripes, 28)[0, -3:]
    assert right > 5 * abs(down)


def test_centres_mark_the_token_of_every_shape():
    from random import Random

    from medstudy.datasets import general
    from medstudy.datasets.general.words import SHAPES

    for seed in range(30):
        scene = general.compose(Random(seed))
        grid = vision_pretraining.centres(scene, 28)
        assert len(grid) == scene.height * scene.width // 784
        tokens = {int(item.y) // 28 * (scene.width // 28) + int(item.x) // 28 for item in scene.items}
        assert set((grid < len(SHAPES)).nonzero().flatten().tolist()) == tokens


@pytest.fixture(scope="module")
def small():
    training = BASE["training"] | {"images_per_step": 4, "validations": 2}
    vision = {"images": 64, "images_per_step": 8, "learning_rate": 0.003}
    sizes = {"vocabulary": 500, "width": 64, "layers": 1, "vision_width": 48, "vision_layers": 1}
    return pretraining.Base.model_validate(
        BASE | sizes | {"images": 8, "val_images": 4, "vision": vision, "training": training}
    )


def test_both_stages_make_a_checkpoint_that_loads(small, tmp_path):
    log = pretraining.pretrain(small, tmp_path / "base", workers=0)
    assert log["images_seen"].tolist() == [4, 8] and log["val_loss"].notna().all()
    stamp = json.loads((tmp_path / "base" / "medstudy.json").read_text())
    assert stamp["policy"] == {"policy": "fixed", "side": 112, "mode": "budget"}
    family = models.load(Model(id=str(tmp_path / "base")))
    assert family.geometry == (28, 784)


def test_the_vision_stage_learns(small, tmp_path):
    from medstudy.datasets import general
    from medstudy.models import standin

    folder = standin.build(general.vocabulary(), tmp_path, 500, width=64, layers=1, vision_width=48, vision_layers=1)
    losses = vision_pretraining.pretrain(models.load(Model(id=str(folder))), 0, 320, 8, 3e-3, workers=0)
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_the_corpus_never_repeats_an_image(small, tmp_path):
    from medstudy.datasets import general
    from medstudy.models import standin

    folder = standin.build(general.vocabulary(), tmp_path, 500, width=64, layers=1, vision_width=48, vision_layers=1)
    corpus = pretraining.Corpus(models.load(Model(id=str(folder))), "train", 8, small)
    first, second = corpus[0], corpus[1]
    assert len(corpus) == 2
    assert not torch.equal(first[0].inputs["pixel_values"][:1], second[0].inputs["pixel_values"][:1])


def test_a_wrong_base_is_explained(tmp_path):
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(BASE | {"widht": 3}))
    with pytest.raises(ParamsError, match="widht"):
        pretraining.load(tmp_path / "base.yaml")


def test_the_base_that_ships_is_the_one_that_params_describe():
    family = models.load(Model())
    config = family.model.config
    assert (config.text_config.hidden_size, config.text_config.num_hidden_layers) == (BASE["width"], BASE["layers"])
    assert (config.vision_config.embed_dim, config.vision_config.depth) == (BASE["vision_width"], BASE["vision_layers"])
    assert (paths.BASE / "model.safetensors").stat().st_size <= 8_000_000
    assert not list(paths.BASE.glob("*.bin"))

"""Going on from a checkpoint whose tower gets more blocks."""

import pytest
import torch

from medstudy import models
from medstudy.datasets import shapes
from medstudy.errors import ParamsError
from medstudy.params import Model
from medstudy.pretraining import grow, pretrain, tiny_qwen2_vl, vision
from medstudy.training import optimizers

SIZES = {"width": 64, "layers": 1, "vision_width": 48, "vision_layers": 2}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return str(tiny_qwen2_vl.build(shapes.vocabulary(), tmp_path_factory.mktemp("start") / "model", 500, **SIZES))


def _seen(family, content):
    return family.model.model.visual(family.normalised(vision.patches(content["images"])), grid_thw=content["grids"])


def test_a_new_block_changes_nothing_until_it_is_trained(start, tmp_path):
    before, after = (models.load(Model(id=path)) for path in (start, str(grow.grown(start, tmp_path / "more", 4, 0))))
    assert after.model.config.vision_config.depth == len(after.model.model.visual.blocks) == 4
    content = vision.Scenes(before, 0, 1, 1, 32)[0][0].content
    torch.testing.assert_close(_seen(after, content).pooler_output, _seen(before, content).pooler_output)
    assert after.ids("a red circle") == before.ids("a red circle")
    vision.loss_of(vision.Seer(after), content).backward()
    assert after.model.model.visual.blocks[3].mlp.fc2.weight.grad.abs().max() > 0


def test_fewer_blocks_than_the_start_has_are_an_error(start, tmp_path):
    with pytest.raises(ParamsError, match="at least the 2 blocks"):
        grow.grown(start, tmp_path / "less", 1, 0)


def test_a_tower_is_held_to_the_visual_tokens_of_its_start(start, tmp_path):
    """The same steps with and without `keep`: with it the tokens stay nearer."""
    batches = vision.Scenes(models.load(Model(id=start)), 0, 12, 1, 48)
    options = pretrain.load("params/base.yaml").vision.training
    away = {}
    for keep in (0.0, 20.0):
        family, before = models.load(Model(id=start)), models.load(Model(id=start))
        torch.manual_seed(0)
        seer = vision.Seer(family, before, keep)
        chosen = optimizers.build(seer, options)
        for step in range(12):
            (each,) = batches[step]
            (vision.loss_of(seer, each.content) / each.questions).backward()
            for optimizer in chosen:
                optimizer.step()
                optimizer.zero_grad()
        content = batches[0][0].content
        away[keep] = float(seer(content["images"], content["grids"])[3])
    assert 0 < away[20.0] < 0.6 * away[0.0]

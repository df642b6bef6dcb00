"""Which optimizer moves which parameter, and how the learning rate goes."""

import pytest
import torch

from medstudy import models, optimizers
from medstudy.params import Optimisation


def _options(optimizer):
    return Optimisation(epochs=1, optimizer=optimizer, learning_rate=1e-3, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_is_moved_by_one_optimizer(tiny_model, optimizer):
    model = models.load(tiny_model).model
    made = optimizers.build(model, _options(optimizer))
    held = [id(p) for one in made for group in one.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_muon_moves_the_matrices_inside_and_adamw_embeddings_norms_and_biases(tiny_model):
    model = models.load(tiny_model).model
    adamw, muon = optimizers.build(model, _options("muon"))
    inner = {id(p) for group in muon.param_groups for p in group["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in inner}
    assert "model.language_model.layers.0.self_attn.q_proj.weight" in names
    assert "model.visual.blocks.0.mlp.fc1.weight" in names
    assert not [name for name in names if "embed" in name or "norm" in name or "bias" in name or "lm_head" in name]
    assert [group["weight_decay"] for group in adamw.param_groups] == [0.1, 0.0]


def test_frozen_parameters_are_left_alone(tiny_model):
    model = models.load(tiny_model).model
    model.model.visual.requires_grad_(False)
    made = optimizers.build(model, _options("muon"))
    held = {id(p) for one in made for group in one.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters() if p.requires_grad}


def test_the_rate_rises_linearly_then_falls_to_zero_as_a_cosine():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    schedule = optimizers.schedule(optimizer, 12, warmup=2 / 12)
    rates = []
    for _ in range(12):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates[:3] == pytest.approx([0.5, 1.0, 1.0])
    assert rates[7] == pytest.approx(0.5) and rates[-1] == pytest.approx(0.0245, abs=1e-4)

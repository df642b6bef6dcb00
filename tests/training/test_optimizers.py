"""Which optimizer updates which parameter, the learning-rate schedule, and our Muon against torch's."""

import copy

import pytest
import torch
from torch.optim import _muon

from medstudy import models
from medstudy.params import Optimisation
from medstudy.training import optimizers


def _options(optimizer):
    return Optimisation(epochs=1, optimizer=optimizer, learning_rate=1e-3, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_every_parameter_has_one_optimizer(tiny_model, optimizer):
    model = models.load(tiny_model).model
    made = optimizers.build(model, _options(optimizer))
    held = [id(p) for optimizer_ in made for group in optimizer_.param_groups for p in group["params"]]
    assert sorted(held) == sorted(id(p) for p in model.parameters())


def test_muon_updates_inner_matrices_and_adamw_embeddings_norms_and_biases(tiny_model):
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
    held = {id(p) for optimizer_ in made for group in optimizer_.param_groups for p in group["params"]}
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


class Wide(torch.Tensor):
    """A matrix that keeps its type when torch's Muon asks for bfloat16."""

    def to(self, *args, dtype=None, copy=False, **kwargs):
        assert dtype is torch.bfloat16 and copy
        return self.as_subclass(torch.Tensor).clone()


SHAPES = [(48, 48), (96, 32), (32, 96), (1, 7), (7, 1)]
SETTINGS = ((3.4445, -4.7750, 2.0315), 5, 1e-7)


def _matrices(dtype: torch.dtype) -> list[torch.nn.Parameter]:
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES]
    return [torch.nn.Parameter(matrix.to(dtype)) for matrix in made]


def _step(optimizer: torch.optim.Optimizer, held: list[torch.nn.Parameter], number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    for parameter in held:
        gradient = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.grad = gradient.to(parameter.dtype)
    optimizer.step()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_iteration_is_torchs_without_its_bfloat16(shape, dtype):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)
    theirs = _muon._zeropower_via_newtonschulz(matrix.as_subclass(Wide), *SETTINGS)
    ours = optimizers.orthogonal(matrix, *SETTINGS)
    assert ours.dtype == dtype and torch.equal(ours, theirs)
    assert torch.linalg.svdvals(ours).sub(1).abs().max() < 0.35  # the accuracy of its coefficients, at any scale
    torch.testing.assert_close(optimizers.orthogonal(matrix * 1e4, *SETTINGS), ours, rtol=1e-3, atol=1e-4)


def test_a_matrix_of_zeros_stays_one():
    assert optimizers.orthogonal(torch.zeros(3, 5), *SETTINGS).eq(0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_torchs_up_to_its_bfloat16(dtype):
    """Ten steps with decay and changing rates: ours and torch's end close to each other, but not bit for bit."""
    ours, theirs = _matrices(dtype), _matrices(dtype)
    start = [p.detach().clone() for p in ours]
    own = optimizers.Muon(ours, 0.02, 0.1)
    other = torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw")
    for number in range(10):
        for optimizer, held in ((own, ours), (other, theirs)):
            optimizer.param_groups[0]["lr"] = 0.02 / (1 + number)
            _step(optimizer, held, number)
    for before, one, two in zip(start, ours, theirs, strict=True):
        assert (one - two).norm() < 0.02 * (one - before).norm()
    assert not all(map(torch.equal, ours, theirs))


def test_steps_are_torchs_to_the_bit_without_its_bfloat16(monkeypatch):
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", optimizers.orthogonal)
    ours, theirs = _matrices(torch.float32), _matrices(torch.float32)
    own = optimizers.Muon(ours, 0.02, 0.1)
    other = torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw")
    for number in range(3):
        _step(own, ours, number)
        _step(other, theirs, number)
    for one, two in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-6, atol=1e-7)
    assert all(torch.equal(own.state[a]["momentum_buffer"], other.state[b]["momentum_buffer"])
               for a, b in zip(ours, theirs, strict=True))


def test_its_state_is_torchs_and_goes_both_ways():
    """Either can load the other's state, and the next step is that of the optimizer that loaded it."""
    held = _matrices(torch.float32)
    own = optimizers.Muon(held, 0.02, 0.1)
    _step(own, held, 0)
    other = torch.optim.Muon(_matrices(torch.float32), 0.5, 0.5, adjust_lr_fn="match_rms_adamw")
    other.load_state_dict(copy.deepcopy(own.state_dict()))
    assert other.state_dict()["param_groups"] == own.state_dict()["param_groups"]
    again = copy.deepcopy(held)
    resumed = optimizers.Muon(again, 0.5, 0.5)
    resumed.load_state_dict(copy.deepcopy(other.state_dict()))
    _step(own, held, 1)
    _step(resumed, again, 1)
    assert all(map(torch.equal, held, again))


def test_off_the_cpu_the_step_is_torchs_own(monkeypatch):
    """torch's meta device stands in for a GPU, because only the CPU is treated differently."""
    asked = []
    monkeypatch.setattr(torch.optim.Muon, "step", lambda self, closure=None: asked.append(self))
    optimizer = optimizers.Muon([torch.nn.Parameter(torch.ones(2, 2, device="meta"))], 0.1, 0.0)
    optimizer.step()
    assert asked == [optimizer]
    optimizers.Muon([torch.nn.Parameter(torch.ones(2, 2))], 0.1, 0.0).step()
    assert len(asked) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_the_weights_are_those_of_torchs_muon_to_the_bit():
    ours, theirs = ([torch.nn.Parameter(p.detach().cuda()) for p in _matrices(torch.float32)] for _ in range(2))
    own = optimizers.Muon(ours, 0.02, 0.1)
    other = torch.optim.Muon(theirs, 0.02, 0.1, adjust_lr_fn="match_rms_adamw")
    for number in range(3):
        for optimizer, held in ((own, ours), (other, theirs)):
            for parameter in held:
                generator = torch.Generator("cuda").manual_seed(number)
                parameter.grad = torch.randn(parameter.shape, generator=generator, device="cuda")
            optimizer.step()
    assert all(map(torch.equal, ours, theirs))

"""Mixed precision loses no small update, checkpointing changes no gradient, and both use the predicted memory."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from medstudy import models
from medstudy.costs import memory
from medstudy.costs.job_workload import Pass
from medstudy.engine import attention, batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.evaluation import evaluate
from medstudy.params import Author, Decoding, Lora, Model, Optimisation
from medstudy.resolution.policies import Native
from medstudy.training import distributed, loop, mixed_precision, optimizers, setup
from medstudy.training import train as training_train
from tests.support.families import FAMILIES

NATIVE = Native(max_pixels=10**6)
OPTIONS = Optimisation(epochs=1, images_per_step=4, learning_rate=1e-3, validations=1)
KINDS = {
    "full": {},
    "frozen": {"freeze_vision_tower": True, "cache_features": False},
    "lora": {"lora": Lora(rank=2), "cache_features": False},
}


def _prepared(checkpoints, name="qwen2_vl", dtype="float32", **changes):
    family = models.load(Model(id=str(checkpoints[name]), family=name, dtype=dtype))
    torch.manual_seed(0)
    setup.prepare(family, OPTIONS.model_copy(update=changes))
    family.model.train()
    return family


def _micro(family, examples):
    views = [(example, NATIVE.view(batches.size_of(example), family.geometry)) for example in examples]
    (micro,) = batches.micro_batches(ImageInputs(family, "bicubic"), views, 10**6)
    return micro


def _loss(family, micro):
    return distributed.Objective(family.model, partial(training_train.loss_of, ImageInputs(family,
    "bicubic")))(micro.content)


def _gradient(family) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in family.model.parameters() if p.grad is not None])


def _held(family, micro) -> int:
    """Bytes that torch keeps for the backward pass of one forward pass, without weights and their copies."""
    own = {parameter.untyped_storage().data_ptr() for parameter in family.model.parameters()}
    shapes = {tuple(p.shape) for p in family.model.parameters() if p.ndim > 1}
    copied = {shape[::-1] for shape in shapes} | shapes
    storages = {}

    def keep(tensor):
        storage, cast = tensor.untyped_storage(), tensor.dtype == torch.bfloat16 and tuple(tensor.shape) in copied
        if storage.data_ptr() not in own and not cast:
            storages[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = _loss(family, micro)
    assert loss.requires_grad
    return sum(storage.nbytes() for storage in storages.values())


def _foretold(family, micro, again: bool) -> float:
    packed = micro.content.packed
    size = Pass(len(packed.layout), int(packed.grids.prod(1).sum()), len(packed.at))
    tower = any(parameter.requires_grad for parameter in family.tower)
    return memory.kept(family, size, tower, stored=False, again=again)


@pytest.mark.slow
def test_compiled_layers_change_no_gradient(checkpoints, examples):
    """For rows of several lengths; a plain layer and a compiled one differ in the order of sums alone."""
    found = []
    for compile_layers in (False, True):
        family = _prepared(checkpoints, compile_layers=compile_layers)
        compiled = sum(module._compiled_call_impl is not None for module in family.model.modules())
        gradients = []
        for count in (2, 3):
            family.model.zero_grad()
            _loss(family, _micro(family, examples[:count])).backward()
            gradients.append(_gradient(family))
        found.append(gradients)
    assert compiled == family.shape.layers + family.shape.blocks
    for plain, fused in zip(*found, strict=True):
        assert (plain - fused).norm() <= 1e-4 * plain.norm()


def test_compiled_layers_and_checkpointing_exclude_each_other():
    with pytest.raises(ValueError, match="has no effect"):
        Optimisation(epochs=1, learning_rate=1e-3, compile_layers=True, gradient_checkpointing=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_checkpointing_changes_no_gradient_and_keeps_less(checkpoints, examples, name, kind):
    gradients, held = [], []
    for again in (False, True):
        family = _prepared(checkpoints, name, gradient_checkpointing=again, **KINDS[kind])
        micro = _micro(family, examples)
        held.append(_held(family, micro))
        loss = _loss(family, micro)
        loss.backward()
        gradients.append((float(loss.detach()), _gradient(family)))
    (loss, gradient), (again, recomputed) = gradients
    assert loss == again and torch.equal(gradient, recomputed)
    assert held[1] < (0.6 if kind == "full" else 0.75) * held[0]


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("kind", ["full", "frozen"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("again", [False, True])
def test_a_pass_keeps_what_the_formula_says(checkpoints, examples, name, kind, dtype, again):
    family = _prepared(checkpoints, name, dtype, gradient_checkpointing=again, **KINDS[kind])
    micro = _micro(family, examples)
    assert _foretold(family, micro, again) == pytest.approx(_held(family, micro), rel=0.35)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FAMILIES)
def test_trained_weights_are_float32_and_computed_in_bfloat16(checkpoints, examples, name, kind):
    """Losses, and gradients as a whole, equal those in float32 up to bfloat16's 8 bits."""
    found = []
    for dtype in ("float32", "bfloat16"):
        family = _prepared(checkpoints, name, dtype, **KINDS[kind])
        loss = _loss(family, _micro(family, examples))
        loss.backward()
        found.append((float(loss.detach()), _gradient(family)))
    types = {(p.requires_grad, p.dtype) for p in family.model.parameters()}
    assert types <= {(True, torch.float32), (False, torch.bfloat16)} and (True, torch.float32) in types
    assert kind == "full" or (False, torch.bfloat16) in types
    (loss, gradient), (mixed, rounded) = found
    assert mixed != loss and mixed == pytest.approx(loss, rel=0.02)
    assert rounded.dtype == torch.float32
    assert torch.nn.functional.cosine_similarity(gradient, rounded, dim=0) > 0.99


def test_an_update_below_the_resolution_of_bfloat16_is_not_lost(checkpoints, examples, tmp_path):
    """Twenty steps of at most 1e-6 on weights of about 0.02, where bfloat16 has a spacing of about 1e-4."""
    family = _prepared(checkpoints, dtype="bfloat16")
    options = OPTIONS.model_copy(update={"epochs": 20, "learning_rate": 1e-6, "weight_decay": 0.0})
    supply = ImageInputs(family, "bicubic")
    steps = batches.FineTuning(supply, examples[:1], NATIVE, options, 0)
    before = {name: p.detach().clone() for name, p in family.model.named_parameters()}
    loop.fit(family.model, steps, None, options, 0, tmp_path, partial(training_train.loss_of, supply))
    name = "model.language_model.layers.0.mlp.gate_proj.weight"
    moved = dict(family.model.named_parameters())[name].detach() - before[name]
    assert moved.ne(0).float().mean() > 0.99
    spacing = torch.finfo(torch.bfloat16).eps * before[name].abs()
    assert (moved.abs() < spacing / 2).float().mean() > 0.8  # even the sum of all steps is too small for bfloat16
    plain = models.load(Model(id=str(checkpoints["qwen2_vl"]), dtype="bfloat16"))
    for parameter in plain.model.parameters():  # the negative control: AdamW on the weights in bfloat16
        parameter.grad = torch.ones_like(parameter)
    (optimizer,) = optimizers.build(plain.model, options)
    start = dict(plain.model.named_parameters())[name].detach().clone()
    optimizer.step()
    assert dict(plain.model.named_parameters())[name].eq(start).float().mean() > 0.9


def test_memory_of_states_is_predicted_in_their_types(checkpoints, examples, tmp_path):
    family = _prepared(checkpoints, dtype="bfloat16", **KINDS["frozen"])
    number = sum(p.numel() for p in family.model.parameters() if p.requires_grad)
    frozen = sum(p.numel() for p in family.model.parameters() if not p.requires_grad)
    assert memory.weights(family.model) == 4 * number + 2 * frozen
    assert memory.trained(family.model) == 4 * number and memory.copies(family.model) == 2 * number
    assert memory.optimizer_states(family.model, OPTIONS) == 8 * number
    assert memory.element(family) == 2
    sketch = models.sketch(Model(id=str(checkpoints["qwen2_vl"]), dtype="bfloat16"))
    setup.prepare(sketch, OPTIONS.model_copy(update=KINDS["frozen"]))
    assert memory.weights(sketch.model) == memory.weights(family.model)
    assert memory.element(sketch) == 2 and mixed_precision.is_mixed(sketch.model)
    both = OPTIONS.model_copy(update={"processes": 2, "sharding": "fsdp"})
    alone = memory.training(family, OPTIONS, False, ())
    shared = memory.training(family, both, False, ())
    assert shared - memory.together(family) == pytest.approx((alone - memory.copies(family.model)) / 2)


def test_features_of_a_frozen_tower_are_those_of_the_model_that_is_evaluated(checkpoints, pictured, tmp_path):
    """The tower stays in bfloat16 while the rest is trained in float32: one key, one set of features."""
    kept = [ImageInputs(family, "bicubic", features=TensorCache(tmp_path)).tower for family in (
        _prepared(checkpoints, dtype="bfloat16", freeze_vision_tower=True),
        models.load(Model(id=str(checkpoints["qwen2_vl"]), dtype="bfloat16")),
    )]
    assert kept[0] == kept[1]


def test_kernels_get_one_type_under_autocast():
    """Rotated queries and keys are float32 there, values bfloat16, and flash kernels need one type."""
    parts = (torch.ones(2), torch.ones(2), torch.ones(2, dtype=torch.bfloat16))
    assert attention._computed(*parts) == parts
    with torch.autocast("cpu", torch.bfloat16):
        assert {part.dtype for part in attention._computed(*parts)} == {torch.bfloat16}


def test_float32_and_float64_are_computed_as_they_are(checkpoints):
    family = _prepared(checkpoints)
    for model in (family.model, family.model.double()):
        with mixed_precision.autocast(model):
            assert not torch.is_autocast_enabled("cpu")


HALF = (torch.float16, torch.bfloat16)


class Halves(TorchDispatchMode):
    """Records each operation with 16-bit inputs or outputs on a CPU, and the number of all operations."""

    def __init__(self):
        super().__init__()
        self.count, self.found = 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        self.count += 1
        for value in tree_leaves((args, kwargs, made)):
            if isinstance(value, torch.Tensor) and value.device.type == "cpu" and value.dtype in HALF:
                self.found.add(str(function))
        return made


def _halves(family, examples, folder, optimizer: str) -> Halves:
    """The operations of a training of one step with its validation, and of an evaluation with sampled answers."""
    options = OPTIONS.model_copy(update={"optimizer": optimizer})
    setup.prepare(family, options)
    supply = ImageInputs(family, "bicubic")
    train, validate = (batches.FineTuning(supply, some, NATIVE, options, 0) for some in (examples[:2], examples[2:3]))
    answers = Decoding(max_new_tokens=2, option_likelihoods=True, author=Author(temperature=0.2, max_new_tokens=2))
    study = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=answers)
    with Halves() as seen:
        log = loop.fit(family.model, train, validate, options, 0, folder, partial(training_train.loss_of, supply))
        rows = evaluate.predict(family, examples[:1], NATIVE, study)
    assert log["val_loss"].notna().any() and len(rows) > len(examples[0].questions) and seen.count > 1000
    return seen


OPTIMIZERS = get_args(Optimisation.model_fields["optimizer"].annotation)
OTHERS = [pytest.param(name, "muon", marks=pytest.mark.slow) for name in FAMILIES if name != "qwen2_vl"]


@pytest.mark.parametrize(("name", "optimizer"), [*(("qwen2_vl", name) for name in OPTIMIZERS), *OTHERS])
def test_no_half_precision_on_a_cpu_in_a_study_of_float32(checkpoints, examples, tmp_path, name, optimizer):
    """bfloat16 is tens of times slower than float32 on CPUs without instructions for it, and CPUs round differently."""
    family = models.load(Model(id=str(checkpoints[name]), family=name, dtype="float32"))
    assert not _halves(family, examples, tmp_path, optimizer).found


def test_torchs_own_muon_would_be_detected(checkpoints, examples, tmp_path, monkeypatch):
    """The negative control: for the optimizer alone, and for a model in bfloat16."""
    family = models.load(Model(id=str(checkpoints["qwen2_vl"]), dtype="float32"))
    with monkeypatch.context() as patched:
        patched.setattr(optimizers.Muon, "step", torch.optim.Muon.step)
        found = _halves(family, examples, tmp_path / "muon", "muon").found
    assert "aten.mm.default" in found and "aten.addmm.default" in found
    family = models.load(Model(id=str(checkpoints["qwen2_vl"]), dtype="bfloat16"))
    assert _halves(family, examples, tmp_path / "model", "adamw").found

"""Predicted memory is close to what torch keeps, and grows with the image."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from medstudy import models
from medstudy.costs import memory, workload
from medstudy.costs.job_workload import Pass
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.params import Model
from medstudy.resolution.policies import Native
from medstudy.training import train as training_train
from tests.conftest import make_example
from tests.support.costs import LARGE, sized


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("kind", ["full", "frozen"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pass_keeps_what_the_formula_says(checkpoints, examples, name, kind, dtype):
    family = models.load(Model(id=str(checkpoints[name]), family=name, dtype=dtype))
    if kind == "frozen":
        family.freeze_tower()
    inputs = ImageInputs(family, "bicubic")
    views = [(one, LARGE.view(batches.size_of(one), family.geometry)) for one in examples]
    (micro,) = batches.micro_batches(inputs, views, 10**6)
    own = {parameter.untyped_storage().data_ptr() for parameter in family.model.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    family.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = training_train.loss_of(inputs, micro.content)
    held = sum(storage.nbytes() for storage in storages.values())
    packed = micro.content.packed
    work = Pass(len(packed.layout), int(packed.grids.prod(1).sum()), len(packed.at))
    assert loss.requires_grad
    assert memory.kept(family, work, kind == "full", stored=False) == pytest.approx(held, rel=0.3)
    family.model.eval()


def test_more_pixels_never_cost_less(tiny_study):
    study, examples_ = tiny_study(), sized([make_example(index, (400, 300 + index)) for index in range(3)])
    counter, last = workload.Counter(study, models.sketch(study.model)), None
    for side in (84, 140, 224, 336):
        policy = Native(max_pixels=side**2)
        train = counter.training({"train": examples_, "val": examples_}, policy, 0)
        test = counter.evaluation(examples_, [policy])
        options = study.training
        costs = (train.flops, train.visual_tokens, test.flops, test.visual_tokens,
                 memory.training(counter.family, options, False, train.passes),
                 memory.evaluation(counter.family, False, test))
        assert last is None or all(now > before for now, before in zip(costs, last, strict=True))
        last = costs


def test_the_largest_passes_decide_whatever_the_weight_of_each_number():
    rng = np.random.default_rng(0)
    passes = {Pass(*map(int, row)) for row in rng.integers(0, 30, (400, 3))}
    largest = memory.largest(passes)
    assert set(largest) < passes and len(largest) < 100
    for weights in rng.random((50, 3)) * (rng.random((50, 3)) < 0.8):
        most, again = (max(weights @ (work.tokens, work.patches, work.scores) for work in group)
                       for group in (passes, largest))
        assert most == again
    assert memory.largest([]) == []

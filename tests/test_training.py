"""Training: a regime's views, exact resume, the resume point, cost."""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import pytest
import torch

from medstudy import models, training
from medstudy.errors import RunError
from medstudy.params import Optimisation
from medstudy.resolution import Add, Curriculum, Fixed, Mixed, Native

OPTIONS = Optimisation(epochs=2, images_per_step=2, learning_rate=1e-3, validations=2, checkpoint_seconds=1)
NATIVE = Native(max_pixels=10**6)


def _batches(family, examples, policy, seed=0):
    return training.FineTuning(family, examples, policy, "bicubic", 2, 2, seed)


def _weights(family):
    return torch.cat([p.detach().flatten() for p in family.model.parameters()]).clone()


@dataclass(frozen=True)
class Killed:
    """Batches that die before a given step."""

    inner: object
    at: int

    def __len__(self):
        return len(self.inner)

    def __getitem__(self, step):
        if step == self.at:
            raise KeyboardInterrupt
        return self.inner[step]


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_equals_uninterrupted_to_the_bit(tiny_model, examples, tmp_path, optimizer):
    options = replace_options(checkpoint_seconds=0, optimizer=optimizer)
    whole = models.load(tiny_model)
    log = training.fit(whole.model, _batches(whole, examples, NATIVE), None, options, 0, tmp_path / "a")
    parts = models.load(tiny_model)
    with pytest.raises(KeyboardInterrupt):
        training.fit(parts.model, Killed(_batches(parts, examples, NATIVE), 3), None, options, 0, tmp_path / "b")
    again = models.load(tiny_model)
    resumed = training.fit(again.model, _batches(again, examples, NATIVE), None, options, 0, tmp_path / "b")
    assert torch.equal(_weights(whole), _weights(again))
    assert not torch.equal(_weights(whole), _weights(models.load(tiny_model)))
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), resumed.drop(columns="seconds"))


def replace_options(**changes):
    """The options with changes; `checkpoint_seconds` 0 saves after every step, which a study may not ask for."""
    return OPTIONS.model_copy(update=changes)


def test_another_seed_trains_another_model(tiny_model, examples, tmp_path):
    made = []
    for seed in (0, 1):
        family = models.load(tiny_model)
        training.fit(family.model, _batches(family, examples, NATIVE, seed), None, OPTIONS, seed, tmp_path / str(seed))
        made.append(_weights(family))
    assert not torch.equal(*made)


def test_training_learns_the_answers(tiny_model, examples, tmp_path):
    family = models.load(tiny_model)
    options = OPTIONS.model_copy(update={"epochs": 20, "learning_rate": 3e-3})
    batches = replace(_batches(family, examples, Fixed(side=56)), epochs=20)
    log = training.fit(family.model, batches, None, options, 0, tmp_path)
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, examples, tmp_path):
    family = models.load(tiny_model)
    with torch.no_grad():
        next(family.model.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="must stay finite"):
        training.fit(family.model, _batches(family, examples, NATIVE), None, OPTIONS, 0, tmp_path)


def test_an_epoch_sees_every_image_once_in_another_order(family, examples):
    batches = _batches(family, examples, NATIVE)
    seen = [sum(micro.images for micro in batches[step]) for step in range(len(batches))]
    assert seen == [2, 2, 2, 2]
    orders = [tuple(np.random.default_rng([seed, 0]).permutation(4)) for seed in range(6)]
    assert len(set(orders)) > 1


def test_the_same_step_is_the_same_batch(family, examples):
    one, two = (_batches(family, examples, NATIVE)[1] for _ in range(2))
    for first, second in zip(one, two, strict=True):
        for name, tensor in first.inputs.items():
            assert torch.equal(tensor, second.inputs[name])


def test_add_keeps_every_native_sample_and_adds_the_variant(family, examples):
    policy = Add(native=NATIVE, variants=(Fixed(side=56),))
    native = sum(m.visual_tokens for m in _batches(family, examples, NATIVE)[0])
    both = sum(m.visual_tokens for m in _batches(family, examples, policy)[0])
    low = sum(m.visual_tokens for m in _batches(family, examples, Fixed(side=56))[0])
    assert both == native + low


def test_the_ledger_records_what_was_shown(family, examples):
    policy = Mixed(choices=(Fixed(side=56), NATIVE))
    batches = replace(_batches(family, examples, policy), epochs=8)
    ledger = training.ledger(batches)
    assert len(ledger) == 8 * len(examples)
    assert set(ledger["policy"]) == {"fixed-56", "native"}
    assert (ledger.loc[ledger["policy"] == "fixed-56", "visual_tokens"] <= 4).all()
    first = ledger[(ledger["epoch"] == 0)].set_index("image_id")["visual_tokens"]
    seen = sum(micro.visual_tokens for step in range(2) for micro in batches[step])
    assert first.sum() == seen


def test_the_curriculum_of_the_ledger_rises(family, examples):
    batches = replace(_batches(family, examples, Curriculum(stages=(Fixed(side=56), NATIVE))), epochs=2)
    ledger = training.ledger(batches)
    assert ledger.groupby("epoch")["policy"].unique().map(list).to_dict() == {0: ["fixed-56"], 1: ["native"]}


def test_micro_batches_keep_the_token_budget(family, examples):
    policy_views = [(one, view) for one in examples * 10 for view in _batches(family, [one], NATIVE).views(one, 0, 0)]
    micros = training.micros(family, policy_views, "bicubic")
    assert len(micros) > 1
    assert all(micro.inputs["input_ids"].numel() <= training.ROW_TOKENS for micro in micros)
    assert sum(micro.images for micro in micros) == 40


def test_a_saved_checkpoint_loads_again_with_its_stamp(family, tiny_model, tmp_path):
    training.save(family, tmp_path / "checkpoint", {"regime": "native"})
    loaded = models.load(tiny_model, tmp_path / "checkpoint")
    assert torch.equal(_weights(family), _weights(loaded))
    assert '"regime": "native"' in (tmp_path / "checkpoint" / "medstudy.json").read_text()


def test_a_frozen_tower_stays_as_it_was_and_the_rest_learns(tiny_model, examples, tmp_path):
    family, before = models.load(tiny_model), models.load(tiny_model)
    family.freeze_tower()
    training.fit(family.model, _batches(family, examples, NATIVE), None, OPTIONS, 0, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(family.tower, before.tower, strict=True))
    merger = family.model.model.visual.merger.ln_q.weight
    assert not torch.equal(merger, before.model.model.visual.merger.ln_q.weight)

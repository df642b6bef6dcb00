"""Training: a regime's views, exact resume, the resume point, cost."""

from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from medstudy import models
from medstudy.engine.batches import FineTuning, micro_batches, size_of, train_and_val, validation_steps
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import DataError, ParamsError, ResolutionError, RunError
from medstudy.models import lora
from medstudy.models.qwen_vl import QwenVL
from medstudy.params import Lora, Optimisation
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Add, Curriculum, DownUp, EqualFlops, Fixed, Mixed, Native
from medstudy.training import loop, setup, train
from medstudy.training.checkpoints import save
from tests.support.parallel_cases import Killed

OPTIONS = Optimisation(epochs=2, images_per_step=2, learning_rate=1e-3, validations=2, checkpoint_seconds=1)
NATIVE = Native(max_pixels=10**6)
LORA = Lora(rank=4)


def _batches(family, examples, policy, seed=0, options=OPTIONS):
    return FineTuning(ImageInputs(family, "bicubic"), examples, policy, options, seed)


def _fit(family, seen, options, scratch, seed=0):
    return loop.fit(family.model, seen, None, options, seed, scratch, partial(train.loss_of, ImageInputs(family, "")))


def _prepared(model, options):
    """A loaded model as a training prepares it; the first values of adapters are always the same."""
    torch.manual_seed(0)
    family = models.load(model)
    setup.prepare(family, options)
    return family


def _weights(family):
    return torch.cat([p.detach().flatten() for p in family.model.parameters()]).clone()


@pytest.mark.parametrize("adapters", [None, LORA], ids=["full", "lora"])
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_resumed_equals_uninterrupted_to_the_bit(tiny_model, examples, tmp_path, optimizer, adapters):
    options = replace_options(checkpoint_seconds=0, optimizer=optimizer, lora=adapters)
    whole = _prepared(tiny_model, options)
    log = _fit(whole, _batches(whole, examples, NATIVE), options, tmp_path / "a")
    parts = _prepared(tiny_model, options)
    with pytest.raises(KeyboardInterrupt):
        _fit(parts, Killed(_batches(parts, examples, NATIVE), 3), options, tmp_path / "b")
    again = _prepared(tiny_model, options)
    resumed = _fit(again, _batches(again, examples, NATIVE), options, tmp_path / "b")
    assert torch.equal(_weights(whole), _weights(again))
    assert not torch.equal(_weights(whole), _weights(_prepared(tiny_model, options)))
    pd.testing.assert_frame_equal(log.drop(columns="seconds"), resumed.drop(columns="seconds"))


def test_a_resume_point_that_cannot_be_read_is_named(tiny_model, examples, tmp_path):
    family = models.load(tiny_model)
    _fit(family, _batches(family, examples, NATIVE), replace_options(checkpoint_seconds=0), tmp_path)
    file = tmp_path / "resume.pt"
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(RunError, match="resume.pt cannot be read .* Delete it"):
        _fit(family, _batches(family, examples, NATIVE), OPTIONS, tmp_path)


@pytest.mark.parametrize(("count", "at"), [(1, {9}), (2, {0, 9}), (3, {0, 4, 9}), (30, set(range(10)))])
def test_validations_are_spread_and_the_last_step_is_one(count, at):
    assert validation_steps(10, count) == at


def replace_options(**changes):
    """The options with changes; `checkpoint_seconds` 0 saves after every step, which a study cannot ask for."""
    return OPTIONS.model_copy(update=changes)


def test_another_seed_trains_another_model(tiny_model, examples, tmp_path):
    made = []
    for seed in (0, 1):
        family = models.load(tiny_model)
        _fit(family, _batches(family, examples, NATIVE, seed), OPTIONS, tmp_path / str(seed), seed)
        made.append(_weights(family))
    assert not torch.equal(*made)


def test_training_learns_the_answers(tiny_model, examples, tmp_path):
    family = models.load(tiny_model)
    options = OPTIONS.model_copy(update={"epochs": 20, "learning_rate": 3e-3})
    batches = _batches(family, examples, Fixed(side=56), options=options)
    log = _fit(family, batches, options, tmp_path)
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]


def test_a_loss_that_is_not_finite_stops_the_run(tiny_model, examples, tmp_path):
    family = models.load(tiny_model)
    with torch.no_grad():
        next(family.model.parameters()).fill_(float("nan"))
    with pytest.raises(RunError, match="must stay finite"):
        _fit(family, _batches(family, examples, NATIVE), OPTIONS, tmp_path)


def test_training_on_data_sets_for_evaluation_only_is_refused(examples):
    train.check_data({"train": examples, "val": []}, "mine")
    with pytest.raises(DataError, match="every data set of mine is for evaluation only"):
        train.check_data({"train": [], "val": []}, "mine")


def test_an_epoch_sees_every_image_once_in_another_order(family, examples):
    batches = _batches(family, examples, NATIVE)
    seen = [sum(micro.images for micro in batches[step]) for step in range(len(batches))]
    assert seen == [2, 2, 2, 2]
    orders = [tuple(np.random.default_rng([seed, 0]).permutation(4)) for seed in range(6)]
    assert len(set(orders)) > 1


def test_the_same_step_gives_the_same_batch(family, examples):
    one, two = (_batches(family, examples, NATIVE)[1] for _ in range(2))
    for first, second in zip(one, two, strict=True):
        for name, part in vars(first.content.packed).items():
            other = getattr(second.content.packed, name)
            assert torch.equal(part, other) if isinstance(part, torch.Tensor) else part == other
        assert all(torch.equal(*pair) for pair in zip(first.content.images, second.content.images, strict=True))


def test_add_keeps_every_native_sample_and_adds_the_variant(family, examples):
    policy = Add(native=NATIVE, variants=(Fixed(side=56),))
    native = sum(m.visual_tokens for m in _batches(family, examples, NATIVE)[0])
    both = sum(m.visual_tokens for m in _batches(family, examples, policy)[0])
    low = sum(m.visual_tokens for m in _batches(family, examples, Fixed(side=56))[0])
    assert both == native + low


def test_the_ledger_records_what_was_shown(family, examples):
    policy = Mixed(choices=(Fixed(side=56), NATIVE))
    batches = _batches(family, examples, policy, options=OPTIONS.model_copy(update={"epochs": 8}))
    ledger = train.ledger(batches)
    assert len(ledger) == 8 * len(examples)
    assert set(ledger["policy"]) == {"fixed-56", "native"}
    assert (ledger.loc[ledger["policy"] == "fixed-56", "visual_tokens"] <= 4).all()
    first = ledger[(ledger["epoch"] == 0)].set_index("image_id")["visual_tokens"]
    seen = sum(micro.visual_tokens for step in range(2) for micro in batches[step])
    assert first.sum() == seen


def test_the_curriculum_of_the_ledger_rises(family, examples):
    batches = _batches(family, examples, Curriculum(stages=(Fixed(side=56), NATIVE)))
    ledger = train.ledger(batches)
    assert ledger.groupby("epoch")["policy"].unique().map(list).to_dict() == {0: ["fixed-56"], 1: ["native"]}


def test_a_curriculum_that_changes_within_an_epoch_is_in_the_ledger(family, examples):
    """Three stages in two epochs of two steps: the second stage begins in the middle of an epoch."""
    stages = (Fixed(side=28), Fixed(side=56), NATIVE)
    batches = _batches(family, examples, Curriculum(stages=stages))
    ledger = train.ledger(batches)
    assert ledger["policy"].tolist() == ["fixed-28"] * 4 + ["fixed-56"] * 2 + ["native"] * 2
    assert ledger["visual_tokens"].sum() == sum(m.visual_tokens for step in range(4) for m in batches[step])


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("frozen", [False, True])
def test_equal_flops_ends_at_the_step_nearest_to_the_flops_of_native(tiny_model, pictured, tmp_path, frozen, ranks):
    family = models.load(tiny_model)
    if frozen:
        family.freeze_tower()
    options = replace_options(epochs=4, images_per_step=3)  # the last step of an epoch has one image
    shelf = TensorCache(tmp_path) if frozen else None
    inputs, data = ImageInputs(family, "bicubic", features=shelf), {"train": pictured, "val": pictured[:3]}

    def steps_of(policy):
        """FLOPs of each step, of all processes together, and the steps of a validation."""
        each = [train_and_val(inputs, data, policy, options, 1, rank, ranks) for rank in range(ranks)]
        flops = [[sum(micro.flops for micro in training[step]) for step in range(len(training))]
                 for training, _ in each]
        return np.sum(flops, axis=0), len(each[0][1])

    (native, once), (low, once_low) = map(steps_of, (NATIVE, EqualFlops(low=Fixed(side=56), native=NATIVE)))
    assert len(native) == 8 < len(low) and len(low) % 2  # not whole epochs
    assert abs(low.sum() - native.sum()) <= min(low.max() / 2, abs(low[:-1].sum() - native.sum()))
    assert once == once_low == 1


def test_equal_flops_repeats_the_images_of_the_low_regime_and_decays_once(tiny_model, examples, tmp_path):
    policy, family = EqualFlops(low=Fixed(side=56), native=NATIVE), models.load(tiny_model)
    inputs, data = ImageInputs(family, "bicubic"), {"train": examples, "val": examples}
    longer, low = (train_and_val(inputs, data, shown, OPTIONS, 0)[0] for shown in (policy, policy.low))
    assert len(longer) > len(low)
    assert [longer.views(step) for step in range(len(low))] == [low.views(step) for step in range(len(low))]
    ledger = train.ledger(longer)
    assert set(ledger["policy"]) == {"fixed-56"} and ledger["epoch"].max() == (len(longer) - 1) // 2
    log = _fit(family, longer, OPTIONS, tmp_path)
    assert len(log) == len(longer) and log["images_seen"].iloc[-1] == len(ledger)


def test_down_up_trains_on_as_many_tokens_as_native(family, examples):
    native, down_up = (_batches(family, examples, shown) for shown in (NATIVE, DownUp(side=56, native=NATIVE)))
    (seen,), (lost,) = native[0], down_up[0]
    assert seen.visual_tokens == lost.visual_tokens and seen.flops == lost.flops
    changed = [not torch.equal(*pair) for pair in zip(seen.content.images, lost.content.images, strict=True)]
    assert any(changed)


def test_passes_stay_within_the_token_budget_and_lose_nothing(family, examples):
    seen = [(example, view) for example in examples * 10 for view in plan(NATIVE, size_of(example), family.geometry)]
    passes = micro_batches(ImageInputs(family, "bicubic"), seen, 700)
    assert len(passes) > 1
    assert all(micro.content.packed.ids.numel() <= 700 for micro in passes)
    assert sum(micro.images for micro in passes) == 40 and sum(micro.questions for micro in passes) == 120


def test_gradients_do_not_depend_on_how_a_step_is_cut_into_passes(family, examples):
    """Accumulated over many small passes or from one: always the mean over the step's questions."""
    supply = ImageInputs(family, "bicubic")
    gradients = []
    for budget in (200, 10**6):
        seen = [(example, plan(NATIVE, size_of(example), family.geometry)[0]) for example in examples]
        passes = micro_batches(supply, seen, budget)
        family.model.zero_grad()
        for micro in passes:
            (train.loss_of(supply, micro.content) / sum(part.questions for part in passes)).backward()
        gradients.append((len(passes), torch.cat([p.grad.flatten() for p in family.model.parameters()])))
    (many, one_by_one), (single, together) = gradients
    assert many > single == 1
    assert (one_by_one - together).norm() <= 1e-5 * together.norm()


def test_an_image_too_long_for_a_pass_stops_the_training_before_its_first_step(family, examples):
    options = OPTIONS.model_copy(update={"tokens_per_pass": 150})
    with pytest.raises(ResolutionError, match="image train-2 of .* at 140x196 takes 1"):
        train.prepare([_batches(family, examples, NATIVE, options=options)])


def test_a_frozen_towers_features_are_computed_once_for_all_trainings(tiny_model, pictured, tmp_path, monkeypatch):
    made = []
    original = QwenVL.features
    monkeypatch.setattr(QwenVL, "features", lambda self, *a: made.append(1) or original(self, *a))
    for seed in (0, 1):
        family = models.load(tiny_model)
        family.freeze_tower()
        supply = ImageInputs(family, "bicubic", features=TensorCache(tmp_path / "features"))
        seen = FineTuning(supply, pictured, NATIVE, OPTIONS, seed)
        train.prepare([seen], None)
        loss = partial(train.loss_of, supply)
        loop.fit(family.model, seen, None, OPTIONS, seed, tmp_path / str(seed), loss)
    assert len(made) == len(pictured)
    family.model.model.visual.blocks[0].mlp.fc1.weight.data += 1  # another tower, so no cached feature may be used
    assert ImageInputs(family, "bicubic").tower != supply.tower


def test_lora_trains_adapters_alone_and_loads_merged(tiny_model, examples, tmp_path):
    options = OPTIONS.model_copy(update={"lora": Lora(rank=2), "epochs": 8, "learning_rate": 1e-2})
    family, before = models.load(tiny_model), models.load(tiny_model)
    adapter = lora.add(family, options.lora)
    trained = {name for name, p in family.model.named_parameters() if p.requires_grad}
    assert trained and all("lora_" in name and "language_model" in name for name in trained)
    log = _fit(family, _batches(family, examples, NATIVE, options=options), options, tmp_path)
    assert log["loss"].iloc[-1] < log["loss"].iloc[0]
    save(family, tmp_path / "checkpoint", {"regime": "native"}, adapter)
    files = {file.name for file in (tmp_path / "checkpoint").iterdir()}
    assert "adapter_model.safetensors" in files and "model.safetensors" not in files
    loaded = models.load(tiny_model, tmp_path / "checkpoint")
    assert loaded.revision not in (before.revision, family.revision)
    supply = ImageInputs(family, "bicubic")
    (micro,) = micro_batches(supply, [(examples[0], plan(NATIVE, size_of(examples[0]), family.geometry)[0])], 10**6)
    with torch.no_grad():
        ours, theirs, base = (
            float(train.loss_of(ImageInputs(each, "bicubic"), micro.content)) for each in (family, loaded, before)
        )
    assert ours == pytest.approx(theirs, abs=1e-4) and abs(ours - base) > 1e-2


def test_an_unknown_target_of_adapters_is_named(tiny_model):
    with pytest.raises(ParamsError, match="down_proj, .* got 'vproj'"):
        lora.add(models.load(tiny_model), Lora(targets=("q_proj", "vproj")))


def test_a_saved_checkpoint_loads_again_with_its_stamp(family, tiny_model, tmp_path):
    save(family, tmp_path / "checkpoint", {"regime": "native"})
    loaded = models.load(tiny_model, tmp_path / "checkpoint")
    assert torch.equal(_weights(family), _weights(loaded))
    assert '"regime": "native"' in (tmp_path / "checkpoint" / "medstudy.json").read_text()


def test_a_frozen_tower_does_not_change_and_the_rest_learns(tiny_model, examples, tmp_path):
    family, before = models.load(tiny_model), models.load(tiny_model)
    family.freeze_tower()
    _fit(family, _batches(family, examples, NATIVE), OPTIONS, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(family.tower, before.tower, strict=True))
    merger = family.model.model.visual.merger.ln_q.weight
    assert not torch.equal(merger, before.model.model.visual.merger.ln_q.weight)

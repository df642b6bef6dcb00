"""Predicted views, passes and FLOPs are those of the jobs, to the digit."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medstudy import models
from medstudy.costs import estimate, workload
from medstudy.costs.job_workload import JobWorkload
from medstudy.data.example import Shot
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import RowLayout
from medstudy.engine.tensor_cache import TensorCache
from medstudy.evaluation import controls, in_process
from medstudy.evaluation import passes as evaluation_passes
from medstudy.models import summary
from medstudy.params import Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Fixed, Native, Shuffled
from medstudy.resolution.sizes import Size
from medstudy.training import loop
from medstudy.training import train as training_train
from tests.support.costs import LARGE, REGIMES, optimisation, sized


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("changes", [{}, {"freeze_vision_tower": True}, {"lora": {"rank": 1}},
                                     {"freeze_vision_tower": True, "cache_features": False}], ids=str)
def test_training_flops_are_those_that_a_training_logs(tiny_study, pictured, tmp_path, regime, changes):
    study = optimisation(tiny_study, **changes)
    policy = REGIMES[regime]
    family, _ = workload.trainable(study, "cpu")
    torch.manual_seed(0)
    shelf = TensorCache(tmp_path / "shelf") if study.training.keeps_features else None
    inputs, split = ImageInputs(family, "bicubic", features=shelf), {"train": pictured, "val": pictured[:1]}
    steps, _ = batches.train_and_val(inputs, split, policy, study.training, 5)
    loss = partial(training_train.loss_of, inputs)
    log = loop.fit(family.model, steps, None, study.training, 0, tmp_path, loss)
    counter = workload.Counter(study, workload.trainable(study)[0])
    job = counter.training({"train": sized(pictured), "val": sized(pictured[:1])}, policy, 5)
    assert job.training_flops == pytest.approx(log["flops"].iloc[-1], rel=1e-12)
    once = len(plan(policy, batches.size_of(pictured[0]), family.geometry))
    assert job.images == log["images_seen"].iloc[-1] + 2 * once  # two validations of one image
    micros = [micro for number in range(len(steps)) for micro in steps[number]]
    passes = {(micro.visual_tokens, len(micro.content.packed.layout)) for micro in micros}
    assert {(work.patches // 4, work.tokens) for work in job.passes} == passes


@pytest.mark.parametrize("name", ["qwen2_vl", "internvl"])
def test_prompts_of_several_images_are_counted_as_they_are_made(tiny_study, checkpoints, pictured, name):
    study = optimisation(tiny_study, tokens_per_pass=4096)
    study = study.model_copy(update={"model": Model(id=str(checkpoints[name]), family=name)})
    family, _ = workload.trainable(study, "cpu")
    first, second, third, fourth = pictured
    several = [replace(first, context=(Shot(third.image, "Where?", "here"), Shot(fourth.image))), second]
    seen, sizes = ([(one, batches.plan_views(LARGE, one, family.geometry)[0]) for one in some]
                   for some in (several, sized(several)))
    (micro,) = batches.micro_batches(ImageInputs(family, "bicubic"), seen, 10**6)
    counter = workload.Counter(study, workload.trainable(study)[0])
    assert sum(counter.training_flops(*view) for view in sizes) == pytest.approx(micro.flops, rel=1e-12)
    job = JobWorkload()
    job.add(sizes)
    assert job.visual_tokens == micro.visual_tokens and len(job.views) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["llava_onevision", "internvl", "idefics3", "gemma3"])
def test_families_of_tiles_are_counted_and_calibrated_too(tiny_study, checkpoints, pictured, tmp_path, name, stored):
    """With an overview, LLaVA's reduced plane of tokens, Idefics3's marks of tiles, Gemma 3's two-way attention."""
    study = optimisation(tiny_study, freeze_vision_tower=stored, tokens_per_pass=4096)
    study = study.model_copy(update={"model": Model(id=str(checkpoints[name]), family=name)})
    family, _ = workload.trainable(study, "cpu")
    counter = workload.Counter(study, workload.trainable(study)[0])
    inputs = ImageInputs(family, "bicubic", features=TensorCache(tmp_path / "shelf") if stored else None)
    for one in pictured:
        shown = plan(LARGE, batches.size_of(one), family.geometry)[0]
        (micro,) = batches.micro_batches(inputs, [(one, shown)], 10**6)
        assert counter.training_flops(one, shown) == pytest.approx(micro.flops, rel=1e-12)
        rows = sum(family.feature_counts(family.grid(shown.size)))
        assert not stored or micro.content.images[0].shape == (rows, family.feature_width)
    assert 0 < summary.weights(family)["tower"] < sum(p.numel() for p in family.model.parameters())
    frame = estimate.estimate(study)
    assert frame.attrs["speed"]["source"] == "calibrated" and frame["cache_mb"].sum() > 0


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("policy", [LARGE, Fixed(side=56), Blind(), Shuffled(native=LARGE)], ids=lambda p: p.label)
def test_passes_of_an_evaluation_are_the_real_ones(tiny_study, family, examples, policy, options):
    study = tiny_study(evaluation={"max_new_tokens": 3, "tokens_per_pass": 500, "option_likelihoods": options})
    job = workload.Counter(study, models.sketch(study.model)).evaluation(sized(examples), [policy])
    sources = controls.swapped(examples) if policy.policy == "shuffled" else examples
    shown = [plan(policy, Size(one.image.height, one.image.width), family.geometry)[0] for one in sources]
    passes = evaluation_passes.Passes(ImageInputs(family, "bicubic"), examples, sources, shown, study.evaluation)
    real = [passes[number] for number in range(len(passes))]
    assert {work.tokens for work in job.passes} == {len(prompts.layout) for _, prompts, _, _ in real}
    assert {work.scores for work in job.passes} == {len(prompts.last) for _, prompts, _, _ in real}
    assert {work.scores for work in job.scored} == {len(offered.at) for _, _, offered, _ in real if offered}
    assert job.turns == len(passes) * (1 + options + 2)  # every longest answer has two tokens after its first
    assert job.images == len(examples) and job.questions == 3 * len(examples)


@pytest.mark.parametrize("options", [False, True])
def test_evaluation_flops_are_what_torch_counts(tiny_study, family, examples, options, monkeypatch):
    """Including the masked pairs that the kernel on a CPU computes; those of decoded tokens explain the rest."""
    monkeypatch.setattr(RowLayout, "pairs", property(_computed))
    study = tiny_study(evaluation={"max_new_tokens": 4, "option_likelihoods": options})
    group, policy = examples[2:3], Native(max_pixels=84**2)
    job = workload.Counter(study, models.sketch(study.model)).evaluation(sized(group), [policy], length=4)
    shown = [plan(policy, batches.size_of(one), family.geometry)[0] for one in group]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        inputs = ImageInputs(family, "bicubic")
        ((_, (texts, scored, *_)),) = in_process.answers(inputs, group, group, shown, study.evaluation)
    assert len(texts) == 3 and bool(scored[2]) == options
    assert job.flops == pytest.approx(counter.get_total_flops(), rel=0.03)


def _computed(layout: RowLayout) -> int:
    return sum(p**2 + sum(b) * (p + sum(b)) for p, b in zip(layout.prefixes, layout.branches, strict=True))


@pytest.mark.parametrize("regime", sorted(set(REGIMES) - {"equal_flops"}))
def test_equal_questions_and_views_are_counted_once(tiny_study, pictured, monkeypatch, regime):
    """Forty examples of two kinds and two sizes: one count for each kind and view, and the sums of forty."""
    study = optimisation(tiny_study, tokens_per_pass=4096)
    first, second, *_ = sized(pictured)
    second = replace(second, questions=second.questions[:2])
    many = [replace(one, image_id=f"{number}", group=f"{number}") for number in range(20) for one in (first, second)]
    counted = []
    for name in ("_count", "_tokens", "_workload"):
        plain = getattr(workload.Counter, name)
        monkeypatch.setattr(workload.Counter, name, lambda self, *given, plain=plain, name=name: (
            counted.append(name) or plain(self, *given)))
    counter = workload.Counter(study, workload.trainable(study)[0])
    job = counter.training({"train": many, "val": many[:2]}, REGIMES[regime], 3)
    seen = {(id(shown), len(one.questions)) for step in range(4) for one, shown in batches.FineTuning(
        ImageInputs(counter.family, ""), many, REGIMES[regime], study.training, 3).views(step * 6)}
    assert counted.count("_tokens") == 2 and len(seen) <= counted.count("_workload") <= 2 * 2
    assert job.questions == 2 * 20 * 5 * (2 if regime == "add" else 1) + 2 * 5 * (2 if regime == "add" else 1)
    counted.clear()
    whole = counter.evaluation(many, [LARGE, Fixed(side=56)])
    assert counted.count("_count") == 2 * 2 and "_tokens" not in counted
    alone = [workload.Counter(study, counter.family).evaluation([one], [LARGE, Fixed(side=56)]) for one in many]
    assert whole.flops == pytest.approx(sum(one.flops for one in alone), rel=1e-12)
    assert whole.questions == sum(one.questions for one in alone) and len(whole.views) == 2 * len(many)


def test_rungs_add_up_to_the_evaluation_of_all(tiny_study, pictured):
    study = tiny_study()
    rungs = [LARGE, Fixed(side=56), Blind(), Shuffled(native=LARGE)]
    counter = workload.Counter(study, models.sketch(study.model))
    whole = counter.evaluation(sized(pictured), rungs)
    parts = [counter.evaluation(sized(pictured), [rung]) for rung in rungs]
    total = parts[0] + parts[1] + parts[2] + parts[3]
    assert total.flops == pytest.approx(whole.flops, rel=1e-12)
    for name in ("images", "questions", "visual_tokens", "turns", "passes", "scored", "views"):
        assert getattr(total, name) == getattr(whole, name), name

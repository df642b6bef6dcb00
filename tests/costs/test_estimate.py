"""What is foretold is what happens: FLOPs, weights, passes and files to the digit, memory and seconds within bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from medstudy import models, paths
from medstudy import params as study_params
from medstudy.cli import main
from medstudy.costs import device_rate, disk, estimate, memory, throughput, workload
from medstudy.costs.job_workload import JobWorkload, Pass
from medstudy.data.example import Shot
from medstudy.datasets.build import build
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import RowLayout
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError, ParamsError, ResolutionError
from medstudy.evaluation import controls
from medstudy.evaluation import evaluate as evaluation_evaluate
from medstudy.evaluation import passes as evaluation_passes
from medstudy.models import summary
from medstudy.params import Model, Optimisation
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Add, Blind, Curriculum, Fixed, Mixed, Native, Shuffled
from medstudy.resolution.sizes import Size
from medstudy.runs import plan as runs_plan
from medstudy.training import loop
from medstudy.training import train as training_train
from medstudy.training.checkpoints import save
from tests.conftest import make_example
from tests.support.studies import write_study

LARGE = Native(max_pixels=10**6)
REGIMES = {
    "native": LARGE,
    "fixed": Fixed(side=84),
    "mixed": Mixed(choices=(Fixed(side=84), Native(max_pixels=20000))),
    "add": Add(native=LARGE, variants=(Fixed(side=56),)),
    "curriculum": Curriculum(stages=(Fixed(side=56), LARGE)),
}


@pytest.fixture
def tiny_study(tiny_model, tmp_path):
    """Makes the tiny study with the test's model, writing below tmp_path."""

    def make(**changes):
        small = [{"name": "phantom", "train": 4, "val": 2, "test": 2, "seed": 1}]
        content = {"datasets": small, "model": {"id": tiny_model.id}, "seeds": [0]} | changes
        return study_params.load(write_study(tmp_path, **content))

    return make


def sized(examples):
    """The examples without their pixels."""

    def size(image):
        return Size(image.height, image.width)

    def shot(one):
        return replace(one, image=size(one.image))

    return [replace(one, image=size(one.image), context=tuple(map(shot, one.context))) for one in examples]


def optimisation(tiny_study, **changes):
    options = {"epochs": 2, "images_per_step": 3, "learning_rate": 1e-4, "validations": 2, "tokens_per_pass": 400}
    return tiny_study(training=options | changes)


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("changes", [{}, {"freeze_vision_tower": True}, {"lora": {"rank": 1}},
                                     {"freeze_vision_tower": True, "cache_features": False}], ids=str)
def test_training_flops_are_those_that_a_training_logs(tiny_study, pictured, tmp_path, regime, changes):
    study = optimisation(tiny_study, **changes)
    policy = REGIMES[regime]
    family, _ = workload.trainable(study, "cpu")
    torch.manual_seed(0)
    shelf = TensorCache(tmp_path / "shelf") if study.training.keeps_features else None
    steps = batches.FineTuning(ImageInputs(family, "bicubic", features=shelf), pictured, policy, study.training, 5)
    loss = partial(training_train.loss_of, steps.inputs)
    log = loop.fit(family.model, steps, None, study.training, 0, tmp_path, loss)
    counter = workload.Counter(study, workload.trainable(study)[0])
    found = counter.training({"train": sized(pictured), "val": sized(pictured[:1])}, policy, 5)
    assert found.training_flops == pytest.approx(log["flops"].iloc[-1], rel=1e-12)
    once = len(plan(policy, batches.size_of(pictured[0]), family.geometry))
    assert found.images == log["images_seen"].iloc[-1] + 2 * once  # two validations of one image
    micros = [micro for number in range(len(steps)) for micro in steps[number]]
    passes = {(micro.visual_tokens, len(micro.content.packed.layout)) for micro in micros}
    assert {(one.patches // 4, one.tokens) for one in found.passes} == passes


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
    found = JobWorkload()
    found.add(sizes)
    assert found.visual_tokens == micro.visual_tokens and len(found.views) == 4


@pytest.mark.slow
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("name", ["llava_onevision", "internvl", "idefics3", "gemma3"])
def test_families_of_tiles_are_counted_and_calibrated_too(tiny_study, checkpoints, pictured, tmp_path, name, stored):
    """Their towers see an overview beside the tiles, and LLaVA's plane of tokens may be smaller than they are.

    Idefics3 marks every tile, and Gemma 3's visual tokens look both ways.
    """
    study = optimisation(tiny_study, freeze_vision_tower=stored, tokens_per_pass=4096)
    study = study.model_copy(update={"model": Model(id=str(checkpoints[name]), family=name)})
    family, _ = workload.trainable(study, "cpu")
    counter = workload.Counter(study, workload.trainable(study)[0])
    supply = ImageInputs(family, "bicubic", features=TensorCache(tmp_path / "shelf") if stored else None)
    for one in pictured:
        shown = plan(LARGE, batches.size_of(one), family.geometry)[0]
        (micro,) = batches.micro_batches(supply, [(one, shown)], 10**6)
        assert counter.training_flops(one, shown) == pytest.approx(micro.flops, rel=1e-12)
        rows = sum(family.feature_counts(family.grid(shown.size)))
        assert not stored or micro.content.images[0].shape == (rows, family.feature_width)
    assert 0 < summary.weights(family)["tower"] < sum(p.numel() for p in family.model.parameters())
    frame = estimate.estimate(study)
    assert frame.attrs["speed"]["source"] == "calibrated" and frame["cache_mb"].sum() > 0


@pytest.mark.parametrize("options", [False, True])
@pytest.mark.parametrize("policy", [LARGE, Fixed(side=56), Blind(), Shuffled(native=LARGE)], ids=lambda p: p.label)
def test_the_passes_of_an_evaluation_are_the_evaluations(tiny_study, family, examples, policy, options):
    study = tiny_study(evaluation={"max_new_tokens": 3, "tokens_per_pass": 500, "option_likelihoods": options})
    found = workload.Counter(study, models.sketch(study.model)).evaluation(sized(examples), [policy])
    sources = controls.swapped(examples) if policy.policy == "shuffled" else examples
    shown = [plan(policy, Size(one.image.height, one.image.width), family.geometry)[0] for one in sources]
    passes = evaluation_passes.Passes(ImageInputs(family, "bicubic"), examples, sources, shown, study.evaluation)
    made = [passes[number] for number in range(len(passes))]
    assert {one.tokens for one in found.passes} == {len(asked.layout) for _, asked, _, _ in made}
    assert {one.scores for one in found.passes} == {len(asked.last) for _, asked, _, _ in made}
    assert {one.scores for one in found.scored} == {len(offered.at) for _, _, offered, _ in made if offered}
    assert found.turns == len(passes) * (1 + options + 2)  # every longest answer has two tokens after its first
    assert found.images == len(examples) and found.questions == 3 * len(examples)


@pytest.mark.parametrize("options", [False, True])
def test_evaluation_flops_are_what_torch_counts(tiny_study, family, examples, options, monkeypatch):
    """With the masked pairs that the kernel on a CPU computes too; what is left are decoded tokens' masked ones."""
    monkeypatch.setattr(RowLayout, "pairs", property(_computed))
    study = tiny_study(evaluation={"max_new_tokens": 4, "option_likelihoods": options})
    some, policy = examples[2:3], Native(max_pixels=84**2)
    found = workload.Counter(study, models.sketch(study.model)).evaluation(sized(some), [policy], length=4)
    shown = [plan(policy, batches.size_of(one), family.geometry)[0] for one in some]
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        inputs = ImageInputs(family, "bicubic")
        ((_, (said, scored, _)),) = evaluation_evaluate.answers(inputs, some, some, shown, study.evaluation)
    assert len(said) == 3 and bool(scored[2]) == options
    assert found.flops == pytest.approx(counter.get_total_flops(), rel=0.03)


def _computed(layout: RowLayout) -> int:
    return sum(p**2 + sum(b) * (p + sum(b)) for p, b in zip(layout.prefixes, layout.branches, strict=True))


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_sketch_is_the_loaded_model_without_its_weights(checkpoints, examples, name, tmp_path):
    asked = Model(id=str(checkpoints[name]), family=name)
    loaded, sketch = models.load(asked), models.sketch(asked)
    assert summary.weights(sketch) == summary.weights(loaded)
    assert {parameter.device.type for parameter in sketch.model.parameters()} == {"meta"}
    assert (sketch.shape, sketch.geometry, sketch.end) == (loaded.shape, loaded.geometry, loaded.end)
    question = examples[0].questions[0]
    assert sketch.ids(sketch.prompt(question)) == loaded.ids(loaded.prompt(question))
    assert torch.equal(sketch.grid(Size(96, 64)), loaded.grid(Size(96, 64)))
    pixels = torch.zeros((4 * loaded.geometry.factor, loaded.geometry.factor, 3), dtype=torch.uint8)
    made = loaded.features(loaded.patches(pixels), loaded.grid(Size(*pixels.shape[:2])))
    assert made.shape[1] == sketch.feature_width


def test_a_sketch_needs_no_weights_and_explains_what_it_needs(tiny_model, tmp_path):
    for file in paths.Path(tiny_model.id).iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert models.sketch(Model(id=str(tmp_path))).revision == "no weights"
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.sketch(Model(id=str(tmp_path / "nothing")))
    with pytest.raises(ModelError, match="Family qwen2_5_vl needs its own"):
        models.sketch(Model(id=str(tmp_path), family="qwen2_5_vl"))


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_files_are_as_large_as_foretold(tiny_study, pictured, tmp_path, optimizer, lora):
    changes = {"optimizer": optimizer, "lora": lora, "checkpoint_seconds": 1, "epochs": 1}
    study = optimisation(tiny_study, **changes)
    family, adapter = workload.trainable(study, "cpu")
    save(family, tmp_path / "checkpoint", {}, adapter)
    files = list((tmp_path / "checkpoint").iterdir())
    (weights,) = (file.stat().st_size for file in files if file.suffix == ".safetensors")
    sketch = workload.trainable(study)[0]
    assert disk.weights(sketch.model, lora is not None) == pytest.approx(weights, rel=0.02)
    whole = sum(file.stat().st_size for file in files if file.name != "README.md")  # the card of peft
    assert disk.checkpoint(sketch, lora is not None) == pytest.approx(whole, rel=0.02, abs=2000)
    supply = ImageInputs(family, "bicubic")
    steps = batches.FineTuning(supply, pictured, LARGE, study.training, 0)
    often = study.training.model_copy(update={"checkpoint_seconds": 0})
    loop.fit(family.model, steps, None, often, 0, tmp_path, partial(training_train.loss_of, supply))
    foretold = memory.trained(sketch.model) + memory.optimizer_states(sketch.model, study.training)
    names = sum(parameter.requires_grad for parameter in sketch.model.parameters())
    assert 0 < (tmp_path / "resume.pt").stat().st_size - foretold < 1500 * names


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
@pytest.mark.parametrize("kind", ["full", "frozen"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_pass_keeps_what_the_formula_says(checkpoints, examples, name, kind, dtype):
    family = models.load(Model(id=str(checkpoints[name]), family=name, dtype=dtype))
    if kind == "frozen":
        family.freeze_tower()
    supply = ImageInputs(family, "bicubic")
    views = [(one, LARGE.view(batches.size_of(one), family.geometry)) for one in examples]
    (micro,) = batches.micro_batches(supply, views, 10**6)
    own = {parameter.untyped_storage().data_ptr() for parameter in family.model.parameters()}
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            storages[storage.data_ptr()] = storage
        return tensor

    family.model.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = training_train.loss_of(supply, micro.content)
    held = sum(storage.nbytes() for storage in storages.values())
    packed = micro.content.packed
    one = Pass(len(packed.layout), int(packed.grids.prod(1).sum()), len(packed.at))
    assert loss.requires_grad
    assert memory.kept(family, one, kind == "full", stored=False) == pytest.approx(held, rel=0.3)
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


def test_a_view_that_fits_in_no_pass_is_named_before_anything_runs(tiny_study):
    study = optimisation(tiny_study, tokens_per_pass=20)
    with pytest.raises(ResolutionError, match="Raise tokens_per_pass"):
        estimate.estimate(study, tflops=1.0)


def test_a_study_too_large_for_this_device_asks_for_a_rate(tiny_study, monkeypatch):
    monkeypatch.setattr(throughput, "PASS_FLOPS", {"cpu": 1e3, "cuda": 1e3})
    with pytest.raises(ParamsError, match="--tflops"):
        estimate.estimate(tiny_study())
    frame = estimate.estimate(tiny_study(), tflops=0.5)
    row = frame.set_index("job").loc["train-native-s0"]
    turn = throughput.LAYER_SECONDS * 2
    assert row["seconds"] == pytest.approx(throughput.OVERHEAD_SECONDS + turn * row["turns"] + row["flops"] / 0.5e12)
    assert frame.attrs["speed"]["source"] == "stated" and "0.5 TFLOP/s" in frame.attrs["speed"]["basis"]


def test_a_frozen_towers_features_are_counted_once_a_study(tiny_study):
    frozen = {"epochs": 1, "images_per_step": 4, "learning_rate": 1e-3, "freeze_vision_tower": True}
    study = tiny_study(training=frozen, seeds=[0, 1])
    rows = estimate.estimate(study, tflops=1.0).set_index("job")
    for stage in ("train", "evaluate"):
        first, second = (rows.loc[f"{stage}-native-s{seed}"] for seed in (0, 1))
        assert first["cache_mb"] > 0 == second["cache_mb"]
        assert first["flops"] > second["flops"] and first["training_flops"] == second["training_flops"]
    loose = estimate.estimate(tiny_study(training=frozen | {"cache_features": False}, seeds=[0, 1]), tflops=1.0)
    assert rows["flops"].sum() < loose["flops"].sum()


def test_calibration_really_runs(tiny_study):
    frame = estimate.estimate(tiny_study())
    pace = frame.attrs["speed"]
    assert pace["source"] == "calibrated" and "random weights" in pace["basis"]
    assert pace["train"]["turn"] > 0 and pace["evaluate"]["turn"] > 0
    assert frame.loc[frame["stage"] == "train", "seconds"].between(0.1, 600).all()


@pytest.fixture
def finished(tiny_study):
    """A study whose data and first training are done; the training went at 2 s a step + FLOPs at 10 GFLOP/s."""
    study = tiny_study()
    for job in runs_plan.plan(study):
        if job.stage == "data":
            build(study.datasets[0], job.dir)
            _record(job, 1.0)
    rows = estimate.estimate(study, tflops=1.0).set_index("job").loc["train-native-s0"]
    job = runs_plan.job(study, "train-native-s0")
    steps = int(rows["turns"])
    flops = pd.Series([(index + 1) ** 2 for index in range(steps)], dtype=float)
    flops *= rows["training_flops"] / flops.sum()
    job.dir.mkdir(parents=True)
    pd.DataFrame({"seconds": (2 + flops / 1e10).cumsum(), "flops": flops.cumsum()}).to_parquet(
        job.dir / "training.parquet"
    )
    _record(job, 2 * steps + rows["flops"] / 1e10 + 3)
    return study


def _record(job, seconds: float) -> None:
    job.record.write_text(json.dumps({"seconds": seconds, "peak_memory_mb": 1000, "files": {}}))


def test_finished_jobs_set_the_pace_and_stand_beside_it(finished):
    frame = estimate.estimate(finished)
    pace = frame.attrs["speed"]
    assert pace["source"] == "measured" and "1 trainings and 0 evaluations" in pace["basis"]
    assert pace["train"] == pytest.approx({"overhead": 3, "turn": 2, "rate": 1e10}, rel=1e-3)
    row = frame.set_index("job").loc["train-native-s0"]
    assert row["state"] == "done" and row["seconds_ratio"] == pytest.approx(1, rel=1e-3)
    assert row["measured_tflops"] == pytest.approx(row["flops"] / row["measured_seconds"] / 1e12)
    assert row["memory_ratio"] == pytest.approx(1000 / row["memory_mb"])
    assert row["data_mb"] > 0
    others = frame[frame["state"] != "done"]
    assert others["measured_seconds"].isna().all() and others["seconds_ratio"].isna().all()
    totals = estimate.totals(frame, 2)
    assert totals["seconds_left"] == pytest.approx(totals["seconds"] - row["seconds"])


def test_the_data_set_and_its_built_table_give_the_same_estimate(finished, tiny_study, tmp_path):
    built = estimate.estimate(finished, tflops=1.0)
    unbuilt = estimate.estimate(finished.model_copy(update={"root": tmp_path / "other"}), tflops=1.0)
    names = ["job", "images", "questions", "visual_tokens", "turns", "flops", "cache_mb"]
    pd.testing.assert_frame_equal(built[names], unbuilt[names])
    assert unbuilt["data_mb"].isna().all()


def test_wall_time_waits_for_what_a_job_needs():
    jobs = [("a", "", 10.0), ("b", "", 4.0), ("c", "b", 4.0), ("d", "a, c", 1.0)]
    frame = pd.DataFrame(jobs, columns=["job", "needs", "seconds"])
    assert estimate._wall(frame, 1) == 19 and estimate._wall(frame, 2) == 11 and estimate._wall(frame, 9) == 11
    assert estimate._wall(frame[:0], 2) == 0


def test_the_columns_are_those_that_are_documented(tiny_study):
    assert list(estimate.estimate(tiny_study(), tflops=1.0).columns) == list(estimate.COLUMNS)


def test_the_command_prints_jobs_and_totals(tiny_study, capsys, monkeypatch, tmp_path):
    tiny_study(seeds=[0, 1])
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["estimate", str(tmp_path / "study.yaml"), "--tflops", "1", "--cores", "3"]) == 0
    said = capsys.readouterr().out
    assert "train-native" in said and "at 3 jobs at once" in said and "Seconds are stated, from 1 TFLOP/s" in said
    assert "Disk" in said and "Weights: tower" in said
    assert main(["estimate", str(tmp_path / "study.yaml"), "--tflops", "1", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["totals"]["jobs"] == len(printed["jobs"]) and printed["about"]["weights"]["tower"] > 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["0", "-1", "fast", "inf", "nan"])
def test_a_rate_is_a_number_above_zero(capsys, value):
    with pytest.raises(SystemExit):
        main(["estimate", "params/tiny.yaml", f"--tflops={value}"])
    assert "a number above 0 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_processes_share_the_work_and_under_fsdp_the_states(tiny_study, monkeypatch, sharding):
    """At a stated rate two devices take half as long; calibrated on a CPU the memory is that of both processes."""
    monkeypatch.setattr(throughput, "LAYER_SECONDS", 0.0)
    asked = {"epochs": 1, "images_per_step": 4, "learning_rate": 1e-3}
    alone = estimate.estimate(tiny_study(training=asked), tflops=1e-3).set_index("job").loc["train-native-s0"]
    both = tiny_study(training=asked | {"processes": 2, "sharding": sharding})
    row = estimate.estimate(both, tflops=1e-3).set_index("job").loc["train-native-s0"]
    assert row["flops"] == alone["flops"] and row["images"] == alone["images"]
    work = alone["seconds"] - throughput.OVERHEAD_SECONDS
    assert row["seconds"] - throughput.OVERHEAD_SECONDS == pytest.approx(work / 2)
    states = [memory.training(workload.trainable(study)[0], study.training, False, ()) for study in (tiny_study(),
    both)]
    assert states[1] == states[0] if sharding == "ddp" else states[1] < states[0] + 4 * estimate.MB
    held, alone = row["memory_mb"], alone["memory_mb"]
    assert held < alone  # of each device, whose passes are smaller
    on_cpu = estimate.estimate(both).set_index("job").loc["train-native-s0", "memory_mb"]
    assert on_cpu == pytest.approx(2 * (held + memory.PROCESS / estimate.MB))


def test_lora_trains_its_adapters_alone(tiny_study):
    study = optimisation(tiny_study, lora={"rank": 2}, tokens_per_pass=8192)
    frame = estimate.estimate(study, tflops=1.0)
    trained = sum(p.numel() for p in workload.trainable(study, "cpu")[0].model.parameters() if p.requires_grad)
    assert frame.attrs["trained"] == trained and frame.attrs["adapters"]


def test_a_frozen_tower_in_bfloat16_is_calibrated(tiny_study, tiny_model):
    """The evaluation's model has no float32 masters beside its tower."""
    study = optimisation(tiny_study, freeze_vision_tower=True, tokens_per_pass=4096)
    study = study.model_copy(update={"model": tiny_model.model_copy(update={"dtype": "bfloat16"})})
    assert estimate.estimate(study).attrs["speed"]["source"] == "calibrated"


def test_the_pace_is_of_the_kind_of_device_that_did_most(monkeypatch):
    devices = {"train-a": "H100", "train-b": "cpu", "train-c": "H100", "evaluate-a": "cpu"}
    done = [(SimpleNamespace(name=name, stage=name.partition("-")[0]), None) for name in [*devices, "train-d"]]
    monkeypatch.setattr(throughput, "_device", lambda job: devices.get(job.name, "H100"))
    monkeypatch.setattr(throughput, "_of_logs", lambda trains: seen.extend(job.name for job, _ in trains) or pace)
    seen, pace = [], throughput.Pace(1.0, 0.0, 1e12)
    assert "of 3 trainings and 0 evaluations" in throughput.measured(done).basis
    assert seen == ["train-a", "train-c", "train-d"]


@pytest.mark.parametrize("regime", REGIMES)
def test_what_is_alike_is_counted_once(tiny_study, pictured, monkeypatch, regime):
    """Forty examples of two kinds and two sizes: as many counts as kinds at views; the sums are those of forty."""
    study = optimisation(tiny_study, tokens_per_pass=4096)
    first, second, *_ = sized(pictured)
    second = replace(second, questions=second.questions[:2])
    many = [replace(one, image_id=f"{number}", group=f"{number}") for number in range(20) for one in (first, second)]
    counted = []
    for name in ("_count", "_text", "_workload"):
        plain = getattr(workload.Counter, name)
        monkeypatch.setattr(workload.Counter, name, lambda self, *given, plain=plain, name=name: (
            counted.append(name) or plain(self, *given)))
    counter = workload.Counter(study, workload.trainable(study)[0])
    found = counter.training({"train": many, "val": many[:2]}, REGIMES[regime], 3)
    seen = {(id(shown), len(one.questions)) for step in range(4) for one, shown in batches.FineTuning(
        ImageInputs(counter.family, ""), many, REGIMES[regime], study.training, 3).views(step * 6)}
    assert counted.count("_text") == 2 and len(seen) <= counted.count("_workload") <= 2 * 2
    assert found.questions == 2 * 20 * 5 * (2 if regime == "add" else 1) + 2 * 5 * (2 if regime == "add" else 1)
    counted.clear()
    asked = counter.evaluation(many, [LARGE, Fixed(side=56)])
    assert counted.count("_count") == 2 * 2 and "_text" not in counted
    alone = [workload.Counter(study, counter.family).evaluation([one], [LARGE, Fixed(side=56)]) for one in many]
    assert asked.flops == pytest.approx(sum(one.flops for one in alone), rel=1e-12)
    assert asked.questions == sum(one.questions for one in alone) and len(asked.views) == 2 * len(many)


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


def test_the_largest_passes_are_enough_whatever_a_number_weighs():
    rng = np.random.default_rng(0)
    passes = {Pass(*map(int, row)) for row in rng.integers(0, 30, (400, 3))}
    some = memory.largest(passes)
    assert set(some) < passes and len(some) < 100
    for weights in rng.random((50, 3)) * (rng.random((50, 3)) < 0.8):
        most = [max(weights @ (one.tokens, one.patches, one.scores) for one in those) for those in (passes, some)]
        assert most[0] == most[1]
    assert memory.largest([]) == []


def test_a_devices_rates_are_measured_once_and_kept(tmp_path, monkeypatch):
    calls, measured = [], device_rate.measured
    monkeypatch.setattr(device_rate, "measured", lambda device: calls.append(1) or measured(device, 64, 2**12, 2))
    first, again = (device_rate.kept(torch.device("cpu"), tmp_path) for _ in range(2))
    assert first == again and len(calls) == 1 and first.flops > 0 and first.bytes > 0
    (file,) = tmp_path.iterdir()
    assert torch.__version__.split("+")[0] in file.name
    file.write_text("{}")  # of another version
    device_rate.kept(torch.device("cpu"), tmp_path)
    assert len(calls) == 2


def test_a_gpu_is_estimated_from_its_own_rates(tiny_study, monkeypatch):
    """No GPU is needed for it: rates as a GPU would give them, instead of a calibration."""
    study = tiny_study()
    rates = device_rate.Rates(flops=8e14, bytes=3e12, device="a GPU", torch="2")
    monkeypatch.setattr(throughput, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(throughput.device_rate, "kept", lambda device, folder: rates)
    frame = estimate.estimate(study)
    pace = frame.attrs["speed"]
    assert pace["source"] == "rated" and "800 TFLOP/s" in pace["basis"]
    train = frame[frame["stage"] == "train"].iloc[0]
    spent = pace["train"]["overhead"] + pace["train"]["turn"] * train["turns"] + train["flops"] / 4e14
    assert train["seconds"] == pytest.approx(spent)


def test_a_large_models_steps_and_tokens_take_as_long_as_their_bytes(tiny_model):
    """A step moves weights, gradients and AdamW's two states in and out: eight times what a decoded token reads."""
    family = models.load(tiny_model)
    slow = device_rate.Rates(flops=8e14, bytes=1e3, device="a GPU", torch="2")
    train, evaluate = throughput.paces(family, Optimisation(epochs=1, learning_rate=1e-3), slow)
    assert evaluate.turn == pytest.approx(memory.weights(family.model) / 1e3)
    assert train.turn == pytest.approx(8 * evaluate.turn)

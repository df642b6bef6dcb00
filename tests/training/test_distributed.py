"""Several processes give the same training as one: two CPU processes (gloo), with DDP and FSDP, also resumed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from medstudy import models, paths
from medstudy import params as study_params
from medstudy.datasets.build import build
from medstudy.engine import batches, bin_packing
from medstudy.engine.batches import MicroBatch
from medstudy.errors import ParamsError, ResolutionError, RunError
from medstudy.params import Model, Optimisation
from medstudy.runs import plan
from medstudy.training import launch, loop, train, worker
from tests.support import parallel_cases
from tests.support.studies import write_study

TOLERANCE = 1e-5  # relative: losses of every step, and all final weights by their norm, in float32
OTHERS = ("llava_onevision",)  # it has weights that no pass uses
SAME = ["step", "images_seen", "visual_tokens", "flops"]


@pytest.fixture(scope="module")
def folder(tiny_model, checkpoints, tmp_path_factory):
    """Every case, trained by two processes and by this one."""
    folder = tmp_path_factory.mktemp("parallel")
    launch.launch("tests.support.parallel_cases", [tiny_model.id, folder, *(f"{n}={checkpoints[n]}" for n in OTHERS)],
    2)
    for kind in parallel_cases.CHANGES:
        parallel_cases.train(tiny_model, kind, "ddp", folder / "one" / kind)
    for name in OTHERS:
        parallel_cases.train(Model(id=str(checkpoints[name]), family=name), "full", "ddp", folder / "one" / name)
    return folder


def _weights(case: Path) -> dict[str, torch.Tensor]:
    (file,) = (case / "checkpoint").glob("*.safetensors")
    return {name: tensor.double() for name, tensor in load_file(file).items()}


def _apart(one: dict[str, torch.Tensor], two: dict[str, torch.Tensor]) -> float:
    assert one.keys() == two.keys()
    joined = [torch.cat([weights[name].flatten() for name in one]) for weights in (one, two)]
    return float((joined[0] - joined[1]).norm() / joined[0].norm())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sharding", "kind"), [(sharding, kind) for sharding, kinds in parallel_cases.CASES.items() for kind in kinds]
)
def test_two_processes_give_the_same_training_as_one(folder, tiny_model, sharding, kind):
    tolerance = 5e-3 if kind == "bf16" else TOLERANCE  # between layers FSDP passes bfloat16, autocast float32
    alone, both = (pd.read_parquet(folder / part / kind / "log.parquet") for part in ("one", sharding))
    pd.testing.assert_frame_equal(alone[SAME], both[SAME])
    pd.testing.assert_frame_equal(alone[["loss", "val_loss"]], both[["loss", "val_loss"]], rtol=tolerance)
    made = _weights(folder / "one" / kind)
    assert _apart(made, _weights(folder / sharding / kind)) < tolerance
    if kind != "lora":
        start = {name: tensor.double() for name, tensor in load_file(Path(tiny_model.id, "model.safetensors")).items()}
        assert _apart(start, made) > 100 * TOLERANCE  # training changed far more than the tolerance


@pytest.mark.slow
@pytest.mark.parametrize("sharding", parallel_cases.CASES)
@pytest.mark.parametrize("name", OTHERS)
def test_other_families_too(folder, sharding, name):
    alone, both = (pd.read_parquet(folder / part / name / "log.parquet") for part in ("one", sharding))
    pd.testing.assert_frame_equal(alone[["loss", "val_loss"]], both[["loss", "val_loss"]], rtol=TOLERANCE)
    assert _apart(_weights(folder / "one" / name), _weights(folder / sharding / name)) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("sharding", parallel_cases.CASES)
def test_a_killed_and_resumed_training_ends_with_the_same_bits(folder, sharding):
    whole, resumed = (folder / sharding / kind for kind in ("full", "killed"))
    assert _apart(_weights(whole), _weights(resumed)) == 0
    logs = [pd.read_parquet(case / "log.parquet").drop(columns="seconds") for case in (whole, resumed)]
    pd.testing.assert_frame_equal(*logs)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "bf16"])
def test_a_gathered_checkpoint_is_in_the_hubs_format(folder, kind):
    """transformers loads it, and tied embeddings are one tensor; all processes wrote to one folder."""
    loaded = AutoModelForImageTextToText.from_pretrained(folder / "fsdp" / kind / "checkpoint")
    assert loaded.dtype == (torch.bfloat16 if kind == "bf16" else torch.float32)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    kept = _weights(folder / "fsdp" / kind)
    assert not any("lm_head" in name for name in kept)
    assert sum(tensor.numel() for tensor in kept.values()) == sum(p.numel() for p in loaded.parameters())
    assert not list((folder / "fsdp" / kind).glob(".checkpoint*"))


@pytest.mark.slow
def test_the_resume_point_is_whole_for_any_number_of_processes(folder):
    """Same names and shapes as of one process, so a training can resume with another number of processes."""
    states = [torch.load(folder / part / "full" / "scratch" / "resume.pt") for part in ("one", "ddp", "fsdp")]
    shapes = [{name: tensor.shape for name, tensor in state["model"].items()} for state in states]
    assert shapes[0] == shapes[1] == shapes[2]
    moments = [{name: values["exp_avg"].shape for name, values in state["optimizers"]["state"].items()}
               for state in states]
    assert moments[0] == moments[1] == moments[2]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_shares_hold_every_view_once_in_equally_many_passes(family, ranks):
    whole = parallel_cases.steps(family, parallel_cases.OPTIONS)
    parts = [parallel_cases.steps(family, parallel_cases.OPTIONS, rank, ranks) for rank in range(ranks)]
    uneven = 0
    for step in range(len(whole)):
        made, alone = [part[step] for part in parts], whole[step]
        assert len({len(passes) for passes in made}) == 1
        for name in ("questions", "images", "visual_tokens"):
            total = sum(getattr(micro, name) for part in made for micro in part)
            assert total == sum(getattr(micro, name) for micro in alone)
        assert [[micro.questions for micro in part] for part in made] == [[micro.questions for micro in part[step]]
                                                                      for part in parts]
        uneven += any(not micro.questions for part in made for micro in part)
        assert all(micro.content.images for part in made for micro in part)
    assert bool(uneven) == (ranks > 1)  # some passes have no weight


def test_shares_are_balanced_and_keep_their_order():
    lengths = [5, 900, 20, 700, 300, 10, 40]
    shares = bin_packing.shares(lengths, 2)
    assert sorted(index for share in shares for index in share) == list(range(7))
    assert all(share == sorted(share) for share in shares)
    sums = [sum(lengths[index] for index in share) for share in shares]
    assert max(sums) - min(sums) <= min(lengths) * 5
    assert bin_packing.shares(lengths, 1) == [list(range(7))]


def test_an_image_too_long_is_named_in_every_process():
    with pytest.raises(ResolutionError, match="b takes 30"):
        batches.passes([10, 30, 10], 20, "abc", 2)


def test_uneven_passes_are_an_error_and_no_deadlock(monkeypatch):
    """The totals of two processes, if this one makes a pass and the other none."""
    accelerator = Accelerator(cpu=True)
    monkeypatch.setattr(Accelerator, "num_processes", 2)
    monkeypatch.setattr(loop, "_sum", lambda local, _: local + torch.tensor([0.0] * 6 + [1]))
    with pytest.raises(RunError, match="makes 1 of 1 in 2 processes"):
        loop._counts([MicroBatch(None, 1, 1, 1, 1.0)], accelerator, "ddp")
    monkeypatch.setattr(loop, "_sum", lambda local, _: local + torch.tensor([3.0, 1, 1, 1, 2, 4, 0]))
    with pytest.raises(RunError, match="makes 1 of 3 in 2 processes"):
        loop._counts([MicroBatch(None, 1, 1, 1, 1.0)], accelerator, "fsdp")
    assert loop._counts([MicroBatch(None, 1, 1, 1, 1.0)], accelerator, "ddp")["questions"] == 4


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"sharding": "fsdp"}, "processes must be at least 2"),
        ({"sharding": "fsdp", "processes": 2, "optimizer": "muon"}, "muon needs whole matrices"),
        ({"sharding": "none"}, "sharding"),
        ({"processes": 0}, "processes"),
    ],
)
def test_what_is_not_supported_is_refused(tmp_path, changes, said):
    training_ = {"epochs": 1, "learning_rate": 1e-3} | changes
    with pytest.raises(ParamsError, match=said):
        study_params.load(write_study(tmp_path, training=training_))


def test_more_processes_than_gpus_are_refused(monkeypatch, tmp_path):
    study = study_params.load(write_study(tmp_path, training={"epochs": 1, "learning_rate": 1e-3, "processes": 3}))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ParamsError, match="got 3 processes and 1 devices"):
        launch.train(study, plan.job(study, "train-native-s0"))


SMALL = {
    "datasets": [{"name": "phantom", "train": 6, "val": 2, "test": 2, "seed": 1}],
    "training": {
        "epochs": 12, "images_per_step": 2, "learning_rate": 5e-4, "validations": 1, "checkpoint_seconds": 1,
        "processes": 2, "sharding": "fsdp", "freeze_vision_tower": True,
    },
}


@pytest.mark.slow
def test_a_study_trains_in_processes_that_end_with_it_and_resume(tmp_path, tiny_model):
    """After a kill no process remains; resumed, it gives the same result as one process."""
    made = {}
    for processes in (2, 1):
        root = tmp_path / str(processes)
        root.mkdir()
        changed = {"processes": 1, "sharding": "ddp"} if processes == 1 else {}
        changes = {"training": SMALL["training"] | changed, "model": {"id": tiny_model.id}}
        study = study_params.load(write_study(root, **SMALL | changes))
        data, job = (plan.job(study, name) for name in ("data-phantom", "train-native-s0"))
        build(study.datasets[0], data.dir)
        data.record.write_text("{}")
        job.dir.mkdir()
        if processes == 2:
            _killed_once_it_can_resume(root / "study.yaml", job)
            assert not (job.dir / "checkpoint").exists()
        log = train.train(study, job, progress=False)
        made[processes] = log[[*SAME, "loss", "val_loss"]], _weights(job.dir)
        assert {file.name for file in job.dir.iterdir()} == {"checkpoint", "ledger.parquet", "training.parquet"}
        assert not (paths.scratch(job.dir) / "resume.pt").exists()
    pd.testing.assert_frame_equal(made[1][0], made[2][0], rtol=1e-4)
    assert _apart(made[1][1], made[2][1]) < 1e-4
    assert models.load(study.model, job.dir / "checkpoint").revision


def _killed_once_it_can_resume(file: Path, job) -> None:
    code = (
        "import sys; from medstudy import params; from medstudy.runs import plan; from medstudy.training import train;"
        "study = params.load(sys.argv[1]); train.train(study, plan.job(study, sys.argv[2]))"
    )
    run = subprocess.Popen([sys.executable, "-c", code, str(file), job.name], cwd=paths.ROOT, stdout=subprocess.DEVNULL)
    while not (paths.scratch(job.dir) / "resume.pt").exists():
        assert run.poll() is None
        time.sleep(0.02)
    started = psutil.Process(run.pid).children(recursive=True)
    assert len(started) >= 3  # torchrun and its two processes
    run.kill()
    run.wait()
    _, alive = psutil.wait_procs(started, timeout=60)
    assert not alive


def test_an_error_of_a_process_is_the_error_of_the_training(tmp_path, monkeypatch):
    """Process 0 leaves it in a file, and the process that started them raises it, whatever they printed."""
    study = study_params.load(write_study(tmp_path, **SMALL))
    launch.write(tmp_path / launch.TRAINING, study, plan.job(study, "train-native-s0"))

    def fail(study, job):
        raise ResolutionError(f"{job.name} is too long. Raise tokens_per_pass.")

    monkeypatch.setattr(train, "process", fail)
    monkeypatch.setattr(launch, "end_with_parent", lambda how=None: None)
    with pytest.raises(ResolutionError):
        worker.main(tmp_path / launch.TRAINING)
    fault = tmp_path / launch.FAULT
    with pytest.raises(ResolutionError, match="train-native-s0 is too long"):
        launch.launch("medstudy.nothing", [], 1, fault)


def test_one_process_is_the_default():
    options = Optimisation(epochs=1, learning_rate=1e-3)
    assert (options.processes, options.sharding, options.gradient_checkpointing) == (1, "ddp", False)

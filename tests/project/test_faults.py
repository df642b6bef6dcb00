"""Faults appear early and with one message; a killed study ends the same when it is started again."""

from __future__ import annotations

import shutil
import time

import pandas as pd
import psutil
import pytest

from medstudy import params, paths
from medstudy.errors import ModelError
from medstudy.runs import lock, plan
from medstudy.workflow import run, snakemake
from tests.support.studies import kill_tree, killable, medstudy, start, write_study

SMALL = killable(epochs=20)
TRAIN, EVALUATE = "train-native-s0", "evaluate-native-s0"


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """A study whose data, one training and its evaluation ran without faults."""
    file = write_study(tmp_path_factory.mktemp("straight"), **SMALL)
    for name in ("data-phantom", TRAIN, EVALUATE):
        done = medstudy(*alone(file, name))
        assert done.returncode == 0, done.stderr
    return params.load(file)


def alone(file, name: str) -> list:
    """Arguments of one job."""
    job = plan.job(params.load(file), name)
    return ["notebook", job.notebook, "--out", job.dir, "-p", "study", file, "-p", "run", name]


def kill_when(condition, process) -> None:
    """SIGKILL to the process and its kernel once `condition()` holds; fails if it ended before."""
    while not condition():
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    kill_tree(process)


@pytest.mark.slow
def test_killed_in_training_and_in_evaluation_it_ends_the_same(straight, tmp_path):
    file = write_study(tmp_path, **SMALL)
    study = params.load(file)
    data, train, evaluate = (plan.job(study, name) for name in ("data-phantom", TRAIN, EVALUATE))
    shutil.copytree(plan.job(straight, "data-phantom").dir, data.dir)

    kill_when((paths.scratch(train.dir) / "resume.pt").exists, start(*alone(file, TRAIN)))
    assert not train.done
    assert medstudy(*alone(file, TRAIN)).returncode == 0
    weights = "checkpoint/model.safetensors"
    assert (train.dir / weights).read_bytes() == (plan.job(straight, TRAIN).dir / weights).read_bytes()
    logs = [pd.read_parquet(plan.job(one, TRAIN).dir / "training.parquet") for one in (study, straight)]
    pd.testing.assert_frame_equal(*[log.drop(columns="seconds") for log in logs])

    scratch = paths.scratch(evaluate.dir)
    kill_when(lambda: any(scratch.glob("*.parquet")), start(*alone(file, EVALUATE)))
    assert not evaluate.done
    assert medstudy(*alone(file, EVALUATE)).returncode == 0
    pd.testing.assert_frame_equal(
        *[pd.read_parquet(plan.job(one, EVALUATE).dir / "predictions.parquet") for one in (study, straight)]
    )


def test_a_kernel_does_not_outlive_its_killed_run(tmp_path):
    file = write_study(tmp_path, **SMALL)
    job = plan.job(params.load(file), "data-phantom")
    process = start(*alone(file, "data-phantom"))
    while not (kernels := psutil.Process(process.pid).children(recursive=True)):
        time.sleep(0.05)
    assert lock.running(job.dir)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(kernels, timeout=60)
    assert not alive and not lock.running(job.dir)
    assert run.state(job) == "stopped"


@pytest.mark.slow
def test_a_killed_kernel_is_one_message(tmp_path):
    file = write_study(tmp_path, **SMALL)
    folder = plan.job(params.load(file), "data-phantom").dir
    process = start(*alone(file, "data-phantom"))
    while not folder.exists():
        time.sleep(0.02)
    kernels = psutil.Process(process.pid).children(recursive=True)
    for kernel in kernels:
        kernel.kill()
    _, said = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "died" in said and "Traceback" not in said


def test_a_missing_model_stops_before_anything_is_made(tmp_path):
    study = params.load(write_study(tmp_path, model={"id": str(tmp_path / "nowhere")}))
    with pytest.raises(ModelError, match="nowhere has no \\*.safetensors"):
        run.run(study, "unused", snakemake.RunOptions(1), console=None)
    assert not study.runs.exists()


@pytest.mark.slow
def test_a_bad_image_stops_the_study_before_training_and_nothing_else(tmp_path):
    """In a copy of the package, one bundled image is truncated; after a repair only the failed job is made again."""
    for name in ("medstudy", "notebooks", "params", "workflow"):
        shutil.copytree(paths.ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    image = min(path for path in (tmp_path / "medstudy/datasets/atlas/crops").rglob("*") if path.suffix in IMAGES)
    whole = image.read_bytes()
    image.write_bytes(whole[:200])
    file = write_study(tmp_path, datasets=[{"name": "atlas"}, SMALL["datasets"][0]])
    done = medstudy("run", file, root=tmp_path)
    assert done.returncode == 2
    assert "data-atlas" in done.stderr and image.name in done.stderr and "Traceback" not in done.stderr
    assert "Failed jobs of tiny: 1; jobs that wait for them: 37." in done.stderr
    assert "Alone: " in done.stderr and "notebook 01_data --out" in done.stderr
    made = {folder.name.rpartition("-")[0] for folder in (tmp_path / "runs").glob("*-*")}
    assert made == {"data-atlas", "data-phantom", "base"}  # of data-atlas a folder without a record
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "runs").glob("*/record.json")}
    assert {file.parent.name.rpartition("-")[0] for file in before} == {"data-phantom", "base"}

    image.write_bytes(whole)
    again = medstudy("retry", file, root=tmp_path)
    assert again.returncode == 0 and "Done: data-atlas" in again.stdout, again.stderr
    assert len(list((tmp_path / "runs").glob("*/record.json"))) == 3
    assert all(file.stat().st_mtime_ns == time for file, time in before.items())
    assert "none of these jobs has failed" in medstudy("retry", file, root=tmp_path).stdout


IMAGES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp")

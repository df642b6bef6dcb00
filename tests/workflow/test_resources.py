"""Requests of jobs to a scheduler follow from the estimate, by numbers that can be checked by hand."""

from __future__ import annotations

import math
import subprocess
import sys

import pandas as pd
import pytest
import yaml

from medstudy import params, paths
from medstudy.costs import memory
from medstudy.errors import RunError
from medstudy.runs import plan
from medstudy.workflow import resources
from tests.support.studies import write_study

MB = 2**20
MILLION = {"tower": 2 * MB // 4, "merger": 0, "language": 100 * MB // 4}  # 102 MB at 4 bytes a weight


@pytest.fixture
def study(tmp_path):
    return params.load(write_study(tmp_path, seeds=[0]))


@pytest.fixture
def estimated(monkeypatch):
    """Makes `estimate` return given rows for the jobs of a stage; the list that it returns holds its calls."""

    def say(device: str, **stages) -> list:
        asked = []

        def estimate(study, tflops=None, progress=False, known=None):
            asked.append(tflops)
            nothing = {"seconds": math.nan, "memory_mb": math.nan, "resume_mb": math.nan}
            rows = [{"job": job.name} | nothing | stages.get(job.stage, {}) for job in plan.plan(study)]
            frame = pd.DataFrame(rows)
            frame.attrs |= {"device": device, "weights": MILLION}
            return frame

        monkeypatch.setattr("medstudy.costs.estimate.estimate", estimate)
        return asked

    return say


def by_stage(study, asked: dict) -> dict:
    """The request that all jobs of a stage share."""
    found: dict[str, dict] = {}
    for job in plan.plan(study):
        assert found.setdefault(job.stage, asked[job.dir.name]) == asked[job.dir.name]
    return found


def test_on_a_cpu_memory_is_the_estimate_and_time_is_twice_the_estimate(study, estimated):
    told = estimated(
        "cpu",
        train={"seconds": 601.0, "memory_mb": 2000.0, "resume_mb": 999.0},
        evaluate={"seconds": 3.0, "memory_mb": 1000.0},
    )
    found = by_stage(study, resources.of(study, 5.0))
    assert told == [5.0]
    # 1.5 x 2000 + 700; 2 x 601 s = 20.03 min, and 10
    assert found["train"] == {"mem_mb": 3700, "runtime": 31, "seconds": 601}
    assert found["evaluate"] == {"mem_mb": 2200, "runtime": 11, "seconds": 3}  # 1.5 x 1000 + 700
    assert found["base"] == {"mem_mb": 2100, "runtime": 60}  # 1.5 x (800 + 102) + 700 = 2053
    assert found["data"] == {"mem_mb": 4000, "runtime": 480}
    assert found["scores"] == found["report"] == {"mem_mb": 1200, "runtime": 60}


def test_on_a_gpu_host_memory_is_requested_for_every_process(tmp_path, estimated):
    training = params.load(write_study(tmp_path)).training.model_dump() | {"processes": 2}
    study = params.load(write_study(tmp_path, seeds=[0], training=training))
    estimated(
        "stated",
        train={"seconds": 60.0, "memory_mb": 70000.0, "resume_mb": 300.0},
        evaluate={"seconds": 60.0, "memory_mb": 70000.0},
    )
    found = by_stage(study, resources.of(study))
    assert found["train"]["mem_mb"] == 12900  # 1.5 x (2 x (800 + 3000 + 102) + 300) + 700 = 12856
    assert found["evaluate"]["mem_mb"] == 6600  # 1.5 x 3902 + 700 = 6553


def test_each_model_has_its_own_requests_and_shared_jobs_request_the_most(tmp_path, monkeypatch):
    models = [{"id": "base", "family": "qwen2_vl", "label": name} for name in ("small", "large")]
    content = yaml.safe_load(write_study(tmp_path, seeds=[0], models=models).read_text())
    study = params.parse({name: value for name, value in content.items() if name != "model"})

    def estimate(study, tflops=None, progress=False, known=None):
        known.add(study.model.label)
        size = {"small": 1000.0, "large": 9000.0}[study.model.label]
        frame = pd.DataFrame([
            {"job": job.name, "seconds": size, "memory_mb": size, "resume_mb": 0.0} for job in plan.plan(study)
        ])
        frame.attrs |= {"device": "cpu", "weights": MILLION}
        assert study.model.label != "large" or known == {"small", "large"}
        return frame

    monkeypatch.setattr("medstudy.costs.estimate.estimate", estimate)
    asked = resources.of(study)
    memory = {job.name: resources.of_job(job, asked)["mem_mb"] for job in plan.plan(study)}
    assert memory["evaluate-small-base-s0"] == 2200 and memory["evaluate-large-base-s0"] == 14200
    assert memory["data-phantom"] == 14200


def test_written_requests_are_read_until_the_study_changes(study, estimated, tmp_path):
    estimated("cpu", train={"seconds": 60.0, "memory_mb": 1000.0})
    assert resources.read(study) == {}
    file = resources.write(study)
    assert file == study.runs / "logs" / "tiny.requests.json" and [*file.parent.iterdir()] == [file]
    assert resources.read(study) == resources.of(study)

    training = study.training.model_dump() | {"learning_rate": 0.123}
    changed = params.load(write_study(tmp_path, seeds=[0], training=training))
    names = {job.dir.name: job.stage for job in plan.plan(changed)}
    read = resources.read(changed)
    assert read and {names[name] for name in read} <= {"data", "leakage", "base", "bounds", "evaluate"}
    train = plan.job(changed, "train-native-s0")
    assert resources.of_job(train, read) == {"mem_mb": 1800, "runtime": 60}
    assert resources.of_job(plan.job(study, "train-native-s0"), resources.read(study))["runtime"] == 12


def test_a_broken_file_is_named(study, estimated):
    file = resources._file(study)
    file.parent.mkdir(parents=True)
    file.write_text("{")
    with pytest.raises(RunError, match="tiny.requests.json must be json"):
        resources.read(study)


def test_reading_requests_does_not_import_torch():
    """Every job on a cluster reads the Snakefile."""
    imports = "from medstudy import params; from medstudy.runs import plan; from medstudy.workflow import resources"
    code = f"import sys; {imports}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT).returncode == 0


def test_the_size_of_a_process_equals_the_estimates():
    assert resources.PROCESS_MB == memory.PROCESS / MB


def test_tasks_of_an_array_request_the_most_of_their_stage(study):
    jobs = plan.plan(study)
    first, second, *_ = trainings = [job.dir.name for job in jobs if job.stage == "train"]
    known = {
        first: {"mem_mb": 9000, "runtime": 11, "seconds": 5},
        second: {"mem_mb": 2000, "runtime": 90, "seconds": 7},
        **{name: {"mem_mb": 100, "runtime": 1} for name in trainings[2:]},
    }
    made = resources.alike(jobs, known, ["train", ""])
    assert {(one["mem_mb"], one["runtime"]) for one in map(made.get, trainings)} == {(9000, 90)}
    assert [made[name]["seconds"] for name in (first, second)] == [5, 7]
    assert set(made) == set(trainings) and known[first]["runtime"] == 11
    assert resources.alike(jobs, known, [""]) == known

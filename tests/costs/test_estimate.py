"""The estimate of a study: one row per job, totals, and the command that prints them."""

from __future__ import annotations

import json

import pandas as pd
import pytest

from medstudy.cli import main
from medstudy.costs import estimate, memory, throughput, workload
from medstudy.datasets.build import build
from medstudy.errors import ResolutionError
from medstudy.runs import plan as runs_plan
from tests.support.costs import optimisation


def test_a_view_that_fits_in_no_pass_is_named_before_any_job_runs(tiny_study):
    study = optimisation(tiny_study, tokens_per_pass=20)
    with pytest.raises(ResolutionError, match="Raise tokens_per_pass"):
        estimate.estimate(study, tflops=1.0)


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


@pytest.fixture
def finished(tiny_study):
    """A study whose data and first training are done; the training took 2 s a step and ran at 10 GFLOP/s."""
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


def test_finished_jobs_set_the_pace_and_are_shown_with_their_ratios(finished):
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


def test_columns_are_the_documented_ones(tiny_study):
    assert list(estimate.estimate(tiny_study(), tflops=1.0).columns) == list(estimate.COLUMNS)


def test_the_command_prints_jobs_and_totals(tiny_study, capsys, monkeypatch, tmp_path):
    tiny_study(seeds=[0, 1])
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["estimate", str(tmp_path / "study.yaml"), "--tflops", "1", "--cores", "3"]) == 0
    printed = capsys.readouterr().out
    assert "train-native" in printed and "with 3 jobs at once" in printed and "Weights: tower" in printed
    assert "Seconds are stated, from 1 TFLOP/s" in printed and "for the largest 3 jobs" in printed
    assert main(["estimate", str(tmp_path / "study.yaml"), "--tflops", "1", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["totals"]["jobs"] == len(content["jobs"]) and content["about"]["weights"]["tower"] > 0
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("value", ["0", "-1", "fast", "inf", "nan"])
def test_a_rate_is_a_number_above_zero(capsys, value):
    with pytest.raises(SystemExit):
        main(["estimate", "params/tiny.yaml", f"--tflops={value}"])
    assert "a number above 0 is needed" in capsys.readouterr().err


@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
def test_processes_share_the_work_and_under_fsdp_the_states(tiny_study, monkeypatch, sharding):
    """Two devices take half the time at the stated rate; calibrated on a CPU, memory is that of both processes."""
    monkeypatch.setattr(throughput, "LAYER_SECONDS", 0.0)
    options = {"epochs": 1, "images_per_step": 4, "learning_rate": 1e-3}
    alone = estimate.estimate(tiny_study(training=options), tflops=1e-3).set_index("job").loc["train-native-s0"]
    both = tiny_study(training=options | {"processes": 2, "sharding": sharding})
    row = estimate.estimate(both, tflops=1e-3).set_index("job").loc["train-native-s0"]
    assert row["flops"] == alone["flops"] and row["images"] == alone["images"]
    work = alone["seconds"] - throughput.OVERHEAD_SECONDS
    assert row["seconds"] - throughput.OVERHEAD_SECONDS == pytest.approx(work / 2)
    states = [memory.training(workload.trainable(study)[0], study.training, False, ()) 
              for study in (tiny_study(), both)]
    assert states[1] == states[0] if sharding == "ddp" else states[1] < states[0] + 4 * estimate.MB
    held, alone = row["memory_mb"], alone["memory_mb"]
    assert held < alone  # of each device, whose passes are smaller
    on_cpu = estimate.estimate(both).set_index("job").loc["train-native-s0", "memory_mb"]
    assert on_cpu == pytest.approx(2 * (held + memory.PROCESS / estimate.MB))


def test_only_the_adapters_of_lora_are_trained(tiny_study):
    study = optimisation(tiny_study, lora={"rank": 2}, tokens_per_pass=8192)
    frame = estimate.estimate(study, tflops=1.0)
    trained = sum(p.numel() for p in workload.trainable(study, "cpu")[0].model.parameters() if p.requires_grad)
    assert frame.attrs["trained"] == trained and frame.attrs["adapters"]

"""The pace of jobs, from each of its sources."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from medstudy import models
from medstudy.costs import device_rate, estimate, memory, throughput
from medstudy.errors import ParamsError
from medstudy.params import Optimisation
from tests.support.costs import optimisation


def test_a_study_too_large_for_this_device_asks_for_a_rate(tiny_study, monkeypatch):
    monkeypatch.setattr(throughput, "PASS_FLOPS", {"cpu": 1e3, "cuda": 1e3})
    with pytest.raises(ParamsError, match="--tflops"):
        estimate.estimate(tiny_study())
    frame = estimate.estimate(tiny_study(), tflops=0.5)
    row = frame.set_index("job").loc["train-native-s0"]
    turn = throughput.LAYER_SECONDS * 2
    assert row["seconds"] == pytest.approx(throughput.OVERHEAD_SECONDS + turn * row["turns"] + row["flops"] / 0.5e12)
    assert frame.attrs["speed"]["source"] == "stated" and "0.5 TFLOP/s" in frame.attrs["speed"]["basis"]


def test_calibration_really_runs(tiny_study):
    frame = estimate.estimate(tiny_study())
    pace = frame.attrs["speed"]
    assert pace["source"] == "calibrated" and "random weights" in pace["basis"]
    assert pace["train"]["turn"] > 0 and pace["evaluate"]["turn"] > 0
    assert frame.loc[frame["stage"] == "train", "seconds"].between(0.1, 600).all()


def test_a_frozen_tower_in_bfloat16_is_calibrated(tiny_study, tiny_model):
    """The evaluated model has no float32 master weights."""
    study = optimisation(tiny_study, freeze_vision_tower=True, tokens_per_pass=4096)
    study = study.model_copy(update={"model": tiny_model.model_copy(update={"dtype": "bfloat16"})})
    assert estimate.estimate(study).attrs["speed"]["source"] == "calibrated"


def test_the_pace_is_that_of_the_device_that_did_most_jobs(monkeypatch):
    devices = {"train-a": "H100", "train-b": "cpu", "train-c": "H100", "evaluate-a": "cpu"}
    done = [(SimpleNamespace(name=name, stage=name.partition("-")[0]), None) for name in [*devices, "train-d"]]
    monkeypatch.setattr(throughput, "_device", lambda job: devices.get(job.name, "H100"))
    monkeypatch.setattr(throughput, "_of_logs", lambda trains: seen.extend(job.name for job, _ in trains) or pace)
    seen, pace = [], throughput.Pace(1.0, 0.0, 1e12)
    assert "of 3 trainings and 0 evaluations" in throughput.measured(done).basis
    assert seen == ["train-a", "train-c", "train-d"]


def test_a_gpu_is_estimated_from_its_own_rates(tiny_study, monkeypatch):
    """Needs no GPU: the rates are given, in place of a calibration."""
    study = tiny_study()
    rates = device_rate.Rates(flops=8e14, bytes=3e12, device="a GPU", torch="2")
    monkeypatch.setattr(throughput, "default_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(throughput.device_rate, "kept", lambda device, folder: rates)
    frame = estimate.estimate(study)
    pace = frame.attrs["speed"]
    assert pace["source"] == "rated" and "800 TFLOP/s" in pace["basis"]
    train = frame[frame["stage"] == "train"].iloc[0]
    rate = throughput.RATE_SHARE * rates.flops
    expected = pace["train"]["overhead"] + pace["train"]["turn"] * train["turns"] + train["flops"] / rate
    assert train["seconds"] == pytest.approx(expected)


def test_a_large_models_steps_and_tokens_take_as_long_as_their_bytes(tiny_model):
    """A step reads and writes weights, gradients and AdamW's two states: eight times what a decoded token reads."""
    family = models.load(tiny_model)
    slow = device_rate.Rates(flops=8e14, bytes=1e3, device="a GPU", torch="2")
    train, evaluate = throughput.paces(family, Optimisation(epochs=1, learning_rate=1e-3), slow)
    assert evaluate.turn == pytest.approx(memory.weights(family.model) / 1e3)
    assert train.turn == pytest.approx(8 * evaluate.turn)

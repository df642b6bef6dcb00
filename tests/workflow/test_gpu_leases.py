"""Real processes lease made-up GPU ids: no GPU twice, all or none, and free again after kill -9."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time

import pytest

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import devices
from medstudy.workflow import gpu_leases

HOLD = """
import json, os, sys, time
from pathlib import Path
from medstudy.workflow import gpu_leases
gpu_leases.POLL_SECONDS = 0.02
count, folder, seconds, file = int(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), Path(sys.argv[4])
with gpu_leases.lease(count, folder) as ids:
    start = time.monotonic()
    file.write_text(json.dumps([ids, os.environ["CUDA_VISIBLE_DEVICES"], start, 0]))
    time.sleep(seconds)
    file.write_text(json.dumps([ids, os.environ["CUDA_VISIBLE_DEVICES"], start, time.monotonic()]))
"""


def hold(count: int, folder, seconds: float, file, ids: str = "0,1") -> subprocess.Popen:
    """A process that leases `count` of `ids`, writes them to `file`, and holds them for some seconds."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ids, "PYTHONPATH": str(paths.ROOT)}
    command = [sys.executable, "-c", HOLD, str(count), str(folder), str(seconds), str(file)]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def wait(true, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_no_gpu_is_leased_twice_at_once(tmp_path):
    files = [tmp_path / f"{number}.json" for number in range(6)]
    processes = [hold(1 + number % 2, tmp_path, 0.2, file) for number, file in enumerate(files)]
    assert [process.wait(60) for process in processes] == [0] * 6
    rows = [json.loads(file.read_text()) for file in files]
    assert [len(ids) for ids, *_ in rows] == [1, 2] * 3
    assert all(seen == ",".join(ids) for ids, seen, *_ in rows)
    for card in "01":
        held = sorted((start, end) for ids, _, start, end in rows if card in ids)
        assert len(held) >= 3
        assert all(end <= start for (_, end), (start, _) in zip(held, held[1:], strict=False))


def test_a_killed_process_frees_its_gpus_for_the_next_which_says_that_it_waits(tmp_path):
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    killed = hold(2, tmp_path, 600, first)
    wait(first.exists)
    waiting = hold(1, tmp_path, 0, second)
    time.sleep(0.5)
    assert not second.exists() and waiting.poll() is None
    killed.kill()
    killed.wait()
    assert waiting.wait(30) == 0 and json.loads(second.read_text())[0] in (["0"], ["1"])  # whichever is free first
    assert waiting.stderr.read() == "Waiting for 1 free of the GPUs 0, 1.\n"


def test_two_processes_that_wait_for_two_of_three_gpus_hold_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    files = [tmp_path / f"{number}.json" for number in range(2)]
    with gpu_leases.lease(2, tmp_path) as held:
        processes = [hold(2, tmp_path, 0.1, file, "0,1,2") for file in files]
        for process in processes:
            assert process.stderr.readline().startswith("Waiting for 2 free")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
        with gpu_leases.lease(1, tmp_path) as rest:
            assert (held, rest) == (["0", "1"], ["2"])
    assert [process.wait(30) for process in processes] == [0, 0]


def test_the_environment_is_restored(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-ab12-cd")
    with pytest.raises(KeyError), gpu_leases.lease(2, tmp_path) as ids:
        assert ids == ["4", "GPU-ab12-cd"] and os.environ["CUDA_VISIBLE_DEVICES"] == "4,GPU-ab12-cd"
        raise KeyError
    with gpu_leases.lease(1, tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "4"
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "4,GPU-ab12-cd"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(devices, "_present", lambda: ["0"])
    with gpu_leases.lease(1, tmp_path):
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
    assert "CUDA_VISIBLE_DEVICES" not in os.environ


@pytest.mark.parametrize(("visible", "count"), [("0,1", None), ("", 1)])
def test_without_gpus_or_a_count_nothing_changes(visible, count, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    with gpu_leases.lease(count, tmp_path) as ids:
        assert ids == [] and os.environ["CUDA_VISIBLE_DEVICES"] == visible
    assert list(tmp_path.iterdir()) == []


def test_a_job_without_gpus_sees_none(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with gpu_leases.lease(0, tmp_path) as ids:
        assert ids == [] and os.environ["CUDA_VISIBLE_DEVICES"] == "" and not devices.visible()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_more_gpus_than_visible_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(ParamsError, match=r"at most .* 2 \(0, 1\), got 3"), gpu_leases.lease(3, tmp_path):
        pass


@pytest.mark.parametrize(
    ("output", "ids"),
    [
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("0", ["0"]),
        ("2, 0", ["2", "0"]),
        ("0,-1,1", ["0"]),
        ("0,0", ["0"]),
        ("GPU-1a-2b,MIG-3c", ["GPU-1a-2b", "MIG-3c"]),
    ],
)
def test_visible_reads_the_variable_as_cuda_does(output, ids, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", output)
    assert devices.visible() == ids


def test_gpus_are_listed_as_the_driver_lists_them():
    whole = "GPU 0: NVIDIA H100 (UUID: GPU-11)\nGPU 1: NVIDIA H100 (UUID: GPU-22)\n"
    cut = whole + "  MIG 1g.10gb     Device  0: (UUID: MIG-aa)\n  MIG 1g.10gb     Device  1: (UUID: MIG-bb)\n"
    assert devices._listed(whole) == ["0", "1"]
    assert devices._listed(cut) == ["0", "MIG-aa", "MIG-bb"]
    assert devices._listed("No devices found.\n") == []


def test_the_locks_are_open_to_every_user_whatever_the_umask(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_leases, "SHARED", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    before = os.umask(0o077)
    try:
        with gpu_leases.lease(1):
            pass
        monkeypatch.setenv("SLURM_JOB_ID", "7")
        with gpu_leases.lease(1):
            pass
    finally:
        os.umask(before)
    shared = tmp_path / "medstudy-cards"
    for folder in (shared, shared / "host", shared / "7"):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o1777
    locks = list(tmp_path.rglob("*.lock"))
    assert {lock.name for lock in locks} == {"gate.lock", "0.lock"} and len(locks) == 4
    assert {stat.S_IMODE(lock.stat().st_mode) for lock in locks} == {0o666}

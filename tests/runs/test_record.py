"""What a record says about the machine."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from types import SimpleNamespace

from medstudy import params, paths
from medstudy.runs import plan, record
from tests.support.studies import write_study


def test_every_record_says_where_it_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-1a")
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    monkeypatch.delenv("SLURM_ARRAY_JOB_ID", raising=False)
    cuda = SimpleNamespace(is_available=lambda: True, get_device_name=lambda: "NVIDIA H100")
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    study = params.load(write_study(tmp_path))
    job = plan.plan(study)[0]
    with record.recorded(study, job):
        pass
    output = {"host": platform.node(), "device": "NVIDIA H100", "cards": ["3", "GPU-1a"], "slurm_job": "4711"}
    assert record.read(job)["machine"] == output


def test_an_arrays_task_has_slurms_name(monkeypatch):
    for name, value in {"SLURM_JOB_ID": "4714", "SLURM_ARRAY_JOB_ID": "4711", "SLURM_ARRAY_TASK_ID": "3"}.items():
        monkeypatch.setenv(name, value)
    assert record.machine()["slurm_job"] == "4711_3"


def test_without_a_gpu_the_device_is_cpu_and_torch_is_not_imported():
    code = (
        "import json, sys; from medstudy.runs import record; "
        "print(json.dumps(record.machine()), 'torch' in sys.modules)"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    environment |= {"CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(paths.ROOT)}
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    content, imported = output.stdout.rsplit(" ", 1)
    assert json.loads(content) == {"host": platform.node(), "device": "cpu", "cards": None, "slurm_job": None}
    assert imported.strip() == "False"


def test_the_commit_is_whole_says_when_files_differ_and_is_none_without_git(tmp_path):
    assert record.commit(tmp_path) is None
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "file").write_text("one")
    for words in (["init", "-q"], ["add", "file"], ["commit", "-qm", "first"], ["tag", "v1"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert record.commit(tmp_path) == head
    (tmp_path / "file").write_text("two")
    assert record.commit(tmp_path) == f"{head}-dirty"

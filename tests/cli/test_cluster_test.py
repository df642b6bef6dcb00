"""The cluster test itself is run by `make cluster-test`; here: where it must not run, and what it reads."""

from __future__ import annotations

import subprocess
import sys

import pytest

from medstudy import params, paths
from tests.cluster import faults, slurm
from tests.support.studies import write_study


@pytest.fixture
def possible(tmp_path, monkeypatch):
    """A machine with Slurm's daemons, where we are root and /etc/slurm is `tmp_path`."""
    monkeypatch.setattr(slurm, "CONFIG", tmp_path)
    monkeypatch.setattr(slurm, "_binary", lambda name: f"/usr/sbin/{name}")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return tmp_path


def test_it_does_not_run_next_to_another_slurm(possible):
    assert slurm.why_not() is None
    (possible / "slurm.conf").write_text(slurm.MARK + "ClusterName=medstudy\n")  # left by a killed run
    assert slurm.why_not() is None
    (possible / "slurm.conf").write_text("ClusterName=ours\n")
    assert slurm.why_not() == f"{possible}/slurm.conf is of a Slurm that is in use"


def test_it_says_what_is_missing(possible, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "root" in slurm.why_not()
    monkeypatch.setattr(slurm, "_binary", lambda name: None)
    assert slurm.why_not() == "Slurm is not installed; on Debian and Ubuntu: apt install slurm-wlm munge"


def test_without_slurm_it_ends_well():
    code = "from tests.cluster import slurm, __main__ as m; slurm.why_not = lambda: 'no'; raise SystemExit(m.main())"
    done = subprocess.run([sys.executable, "-c", code], cwd=paths.ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "skipped: no\n"), done.stderr


def test_where_a_training_went_on_is_read_from_its_log(tmp_path):
    job = next(job for job in faults.plan.plan(params.load(write_study(tmp_path))) if job.stage == "train")
    log = paths.logs(job.dir) / "log.txt"
    log.parent.mkdir(parents=True)
    started = f"\r{job.name}:  35%|###5      | 28/80 [00:00<?, ?step/s]"
    log.write_text(f"Loading weights: 100%|###| 9/9\n{started}\r{job.name}: 100%|#| 80/80 [00:09<00:00, 8step/s]\n")
    assert faults.resumed_at(job) == 28
    log.write_text(f"{job.name}:   0%|          | 0/80 [00:00<?, ?step/s]\n")
    assert faults.resumed_at(job) == 0

"""The tiny study through Snakemake, end to end: killed once in the middle, started again, then looked at."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import nbformat
import pandas as pd
import pytest

from medstudy import grid, params, paths, workflow
from tests.studies import kill_tree, medstudy, start, write_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(study, its file, what the last run printed): every notebook was executed, the first start was killed."""
    root = tmp_path_factory.mktemp("study")
    file = write_study(root)
    study = params.load(file)
    first = start("run", file)
    wait_for(lambda: any(job.done for job in grid.plan(study)), first)
    kill_tree(first)
    done = medstudy("run", file)
    assert done.returncode == 0, done.stderr + done.stdout
    return study, file, done.stdout


def wait_for(true, process: subprocess.Popen, seconds: float = 900) -> None:
    """Until `true()`; fails when the process ends before."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_every_job_is_done_and_its_notebook_executed(finished):
    study, _, _ = finished
    jobs = grid.plan(study)
    assert {job.notebook for job in jobs} == set(grid.NOTEBOOK.values())
    for job in jobs:
        assert f"{paths.ROOT}/" not in (job.dir / "notebook.ipynb").read_text()
        cells = nbformat.read(job.dir / "notebook.ipynb", as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
        assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


def test_the_run_ends_with_the_claims_and_where_to_look(finished):
    study, _, said = finished
    claims = pd.read_csv(study.figures / "claims.csv")
    columns = ["id", "claim", "source_value", "estimate", "low", "high", "verdict", "why"]
    assert list(claims.columns) == columns and len(claims)
    assert all(name in said for name in claims["id"])
    assert "Read on:" in said and (study.figures / "README.md").is_file()


def test_timing_has_every_stage_and_the_wall_clock(finished):
    study, _, _ = finished
    timing = pd.read_csv(study.figures / "timing.csv")
    assert list(timing.columns) == ["stage", "seconds"]
    assert {*grid.NOTEBOOK, "wall clock"} <= set(timing["stage"])
    assert (timing["seconds"] >= 0).all() and timing.set_index("stage").loc[["train", "evaluate"], "seconds"].min() > 0


def test_a_record_says_what_made_the_run(finished):
    study, _, _ = finished
    job = grid.job(study, "train-fixed-84-s1")
    record = json.loads(job.record.read_text())
    assert record["parameters"]["seed"] == 1 and record["identity"] == job.identity
    assert record["versions"]["torch"] and record["peak_memory_mb"] > 0
    assert f"runs/{job.dir.name}/training.parquet" in record["files"]
    assert not paths.scratch(job.dir).exists()


def test_a_second_run_makes_nothing(finished):
    study, file, _ = finished
    before = {job.name: job.record.stat().st_mtime_ns for job in grid.plan(study)}
    again = medstudy("run", file)
    assert again.returncode == 0 and f"all {len(before)} jobs are done" in again.stdout
    assert {job.name: job.record.stat().st_mtime_ns for job in grid.plan(study)} == before


def test_snakemake_by_hand_finds_everything_done(finished):
    study, file, _ = finished
    command = [*workflow.command(study, str(file), workflow.How(1)), "--dry-run"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0 and "Nothing to be done" in said.stdout + said.stderr


def test_status_says_done(finished):
    _, file, _ = finished
    said = medstudy("status", file).stdout
    assert "train-mixed-s1" in said and "done" in said and "waiting" not in said and "failed" not in said


def test_verify_passes_then_names_a_changed_file(finished):
    study, file, _ = finished
    assert "unchanged, and claims.csv follows from the predictions" in medstudy("verify", file).stdout
    changed = grid.job(study, "train-native-s0").dir / "training.parquet"
    content = changed.read_bytes()
    changed.write_bytes(content + b" ")
    try:
        said = medstudy("verify", file)
    finally:
        changed.write_bytes(content)
    assert said.returncode == 2
    assert f"{changed.relative_to(study.root)} has changed" in said.stderr and "Traceback" not in said.stderr


def test_a_deleted_figure_is_drawn_again_and_nothing_else(finished):
    study, file, _ = finished
    before = {job.name: job.record.stat().st_mtime_ns for job in grid.plan(study)}
    figure = min(study.figures.glob("*.png"))
    content = figure.read_bytes()
    figure.unlink()
    assert medstudy("run", file).returncode == 0
    assert figure.read_bytes() == content
    after = {job.name: job.record.stat().st_mtime_ns for job in grid.plan(study)}
    assert {name for name in before if before[name] != after[name]} == {"report"}


def test_jobs_at_once_are_limited_by_the_cards_where_there_are_any(tmp_path, monkeypatch):
    study = params.load(write_study(tmp_path))
    monkeypatch.setattr("medstudy.leases.visible", lambda: [])
    assert not any("gpu=" in word for word in workflow.command(study, "params/tiny.yaml", workflow.How(16)))
    monkeypatch.setattr("medstudy.leases.visible", lambda: ["0", "2", "5"])
    assert "gpu=3" in workflow.command(study, "params/tiny.yaml", workflow.How(16))


def test_jobs_here_are_limited_by_cores_and_free_memory(tmp_path):
    study = params.load(write_study(tmp_path))
    command = workflow.command(study, "params/tiny.yaml", workflow.How(3))
    assert command[command.index("--cores") + 1] == "3"
    assert any(word.startswith("mem_mb=") for word in command)
    assert command[:3] == [sys.executable, "-m", "snakemake"]

"""The tiny study through Snakemake: its scheduler is killed halfway, then two schedulers finish it together."""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
import yaml

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.runs import lock, plan, stages
from medstudy.workflow import run as workflow_run
from medstudy.workflow import snakemake
from tests.support.studies import medstudy, start, words_on_stderr, write_study


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(study, its file, what a run printed): the first scheduler was killed, then two made the rest together."""
    root = tmp_path_factory.mktemp("study")
    file = write_study(root)
    study = params.load(file)
    jobs, seen = plan.plan(study), {}

    def look() -> dict[str, int]:
        """When each record was first seen, by its time of writing."""
        for job in jobs:
            if job.name not in seen and job.done:
                seen[job.name] = job.record.stat().st_mtime_ns
        return seen

    first = start("run", file)
    wait_for(lambda: any(name.startswith("train-") for name in look()), first)
    first.kill()
    first.communicate()
    both = [start("run", file), start("run", file)]
    with ThreadPoolExecutor() as pool:
        ends = [pool.submit(one.communicate) for one in both]
        while not all(end.done() for end in ends):
            look()
            time.sleep(0.05)
    outs = [end.result() for end in ends]
    assert [one.returncode for one in both] == [0, 0], outs
    assert {job.name: job.record.stat().st_mtime_ns for job in jobs} == look()  # no run was made twice
    return study, file, outs[0][0]


def wait_for(true, process: subprocess.Popen, seconds: float = 900) -> None:
    """Wait until `true()`; fails if the process ends before."""
    end = time.monotonic() + seconds
    while not true():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.05)


def planned(study_file) -> set[str]:
    """The runs that Snakemake would make, by name."""
    command = [*snakemake.command(params.load(study_file), str(study_file), snakemake.RunOptions(1)), "--dry-run"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    folders = re.findall(r"output: \S*/(\S+) ", (said.stdout + said.stderr).replace("\n", " "))
    return {job.name for job in plan.plan(params.load(study_file)) if job.dir.name in folders}


def test_every_job_is_done_and_its_notebook_executed(finished):
    study, _, _ = finished
    jobs = plan.plan(study)
    assert {job.notebook for job in jobs} == {*stages.NOTEBOOK.values()} - {"04_probe", "09_compare"}
    for job in jobs:
        assert f"{paths.ROOT}/" not in (job.dir / "notebook.ipynb").read_text()
        cells = nbformat.read(job.dir / "notebook.ipynb", as_version=4).cells
        code = [cell for cell in cells if cell.cell_type == "code"]
        assert all(cell.execution_count for cell in code)
        assert not any(output.output_type == "error" for cell in code for output in cell.outputs)


def test_no_notebook_warns(finished):
    """IProgress: tqdm's warning in a notebook without ipywidgets."""
    study, _, _ = finished
    for job in plan.plan(study):
        assert words_on_stderr(job.dir / "notebook.ipynb") == [], job.name
        assert "IProgress" not in (job.dir / "notebook.ipynb").read_text(), job.name


def test_the_run_ends_with_the_claims_and_where_to_look(finished):
    study, _, said = finished
    claims = pd.read_csv(study.figures / "claims.csv")
    columns = ["id", "claim", "source_value", "estimate", "low", "high", "verdict", "to_settle", "why"]
    assert list(claims.columns) == columns and len(claims)
    assert all(name in said for name in claims["id"])
    assert "Read on:" in said and (study.figures / "README.md").is_file()


def test_timing_has_every_stage_and_the_wall_clock(finished):
    study, _, _ = finished
    timing = pd.read_csv(study.figures / "timing.csv")
    assert list(timing.columns) == ["stage", "seconds"]
    assert {*stages.NOTEBOOK, "wall clock"} - {"probe"} <= set(timing["stage"])
    assert (timing["seconds"] >= 0).all() and timing.set_index("stage").loc[["train", "evaluate"], "seconds"].min() > 0


def test_a_record_says_what_made_the_run(finished):
    study, _, _ = finished
    job = plan.job(study, "train-fixed-84-s1")
    record = json.loads(job.record.read_text())
    assert record["parameters"]["seed"] == 1 and record["identity"] == job.identity
    assert record["versions"]["torch"] and record["peak_memory_mb"] > 0
    assert f"runs/{job.dir.name}/training.parquet" in record["files"]
    assert not paths.scratch(job.dir).exists()


def test_a_second_run_makes_nothing(finished):
    study, file, _ = finished
    before = {job.name: job.record.stat().st_mtime_ns for job in plan.plan(study)}
    again = medstudy("run", file)
    assert again.returncode == 0 and f"all {len(before)} jobs are done" in again.stdout
    assert {job.name: job.record.stat().st_mtime_ns for job in plan.plan(study)} == before


def test_snakemake_by_hand_finds_everything_done(finished):
    _, file, _ = finished
    assert planned(file) == set()


def test_snakemake_makes_exactly_what_a_change_touches(finished, tmp_path):
    """Another learning rate, then more seeds: checked with Snakemake's own list of jobs."""
    study, file, _ = finished
    content = yaml.safe_load(file.read_text())
    before = {job.name for job in plan.plan(study)}
    last = {"scores", "claims", "tables", "report", *(name for name in before if name.startswith("figure-"))}

    changed = tmp_path / "rate.yaml"
    changed.write_text(yaml.safe_dump(content | {"training": content["training"] | {"learning_rate": 0.0007}}))
    trained = {name for name in before if name.startswith(("train-", "evaluate-"))} - {"evaluate-base-s0"}
    assert planned(changed) == trained | last

    changed.write_text(yaml.safe_dump(content | {"seeds": [0, 1, 7]}))
    assert planned(changed) - last == {
        f"{stage}-{regime}-s7" for stage in ("train", "evaluate") for regime in ("native", "fixed-84", "mixed")
    }


def test_a_scheduler_that_does_not_know_of_a_finished_run_takes_it(finished):
    study, file, _ = finished
    job = plan.job(study, "train-native-s0")
    before = job.record.stat().st_mtime_ns
    target = snakemake.markers(study) / job.dir.name
    within = target.relative_to(study.root)
    command = [*snakemake.command(study, str(file), snakemake.RunOptions(1), [within]), "--forcerun", "train"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0 and "rule train" in said.stderr + said.stdout
    assert job.record.stat().st_mtime_ns == before and target.exists()


def test_markers_follow_records(finished, tmp_path):
    study, _, _ = finished
    jobs = plan.plan(study)
    snakemake.mark(jobs[1:], tmp_path)
    (tmp_path / "of-a-run-whose-record-is-gone").touch()
    snakemake.mark(jobs[:3], tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {job.dir.name for job in jobs[:3]}


def test_status_says_done(finished):
    _, file, _ = finished
    said = medstudy("status", file).stdout
    assert "train-mixed-s1" in said and "done" in said and "waiting" not in said and "failed" not in said


@pytest.mark.slow
def test_verify_passes_then_names_a_changed_file(finished):
    study, file, _ = finished
    assert "unchanged, and claims.csv follows from the predictions" in medstudy("verify", file).stdout
    changed = plan.job(study, "train-native-s0").dir / "training.parquet"
    content = changed.read_bytes()
    changed.write_bytes(content + b" ")
    try:
        said = medstudy("verify", file)
    finally:
        changed.write_bytes(content)
    assert said.returncode == 2
    assert f"{changed.relative_to(study.root)} has changed" in said.stderr and "Traceback" not in said.stderr


@pytest.mark.slow
def test_a_deleted_figure_is_drawn_again_and_nothing_else(finished):
    study, file, _ = finished
    before = {job.name: job.record.stat().st_mtime_ns for job in plan.plan(study)}
    figure = min(study.figures.glob("*.png"))
    content = figure.read_bytes()
    figure.unlink()
    assert medstudy("run", file).returncode == 0
    assert figure.read_bytes() == content
    after = {job.name: job.record.stat().st_mtime_ns for job in plan.plan(study)}
    assert {name for name in before if before[name] != after[name]} == {"report"}
    (study.figures / "claims.csv").write_text("of other params")  # as a run of them leaves it
    workflow_run.forget_damaged(study, plan.plan(study))
    assert {job.name for job in plan.plan(study) if not job.done} == {"report"}


def test_a_copied_profile_of_this_machine_is_local_and_its_resources_count(tmp_path):
    study = params.load(write_study(tmp_path))
    shutil.copytree(snakemake.profile("local"), tmp_path / "mine")
    how = snakemake.RunOptions(3, str(tmp_path / "mine"))
    assert how.local and "--resources" in snakemake.command(study, "params/tiny.yaml", how)
    with open(tmp_path / "mine" / "config.yaml", "a") as stream:
        stream.write("resources: [mem_mb=1000, gpu=1]\n")
    command = snakemake.command(study, "params/tiny.yaml", how)
    assert "--resources" not in command and command[command.index("--cores") + 1] == "3"


AWKWARD = "-a #b: {x} 50% $H 'q' \"d\" é \\n [y]* -z"


def test_snakemake_gets_no_name_that_it_could_misread(tmp_path):
    """It reads --config as YAML, and braces in outputs as wildcards."""
    folder = tmp_path / AWKWARD
    folder.mkdir()
    study = params.load(write_study(folder))
    words = snakemake.command(study, folder / "study.yaml", snakemake.RunOptions(1), kernels=str(folder / "socket"))
    for name, value in (word.split("=", 1) for word in words[words.index("--config") + 1 :]):
        assert yaml.safe_load(value) == value and not set(value) & set(" #{}:'\"$*[]\\"), name
    said = dict(word.split("=", 1) for word in words[words.index("--config") + 1 :])
    assert unquote(said["study"]) == str(folder / "study.yaml") and unquote(said["kernels"]) == str(folder / "socket")


def test_the_command_of_a_single_job_is_one_line_of_shell(tmp_path):
    job = plan.job(params.load(write_study(tmp_path)), "data-atlas")
    words = shlex.split(workflow_run.alone(job, f"{AWKWARD}.yaml"))
    assert words[-6:] == ["-p", "study", f"{AWKWARD}.yaml", "-p", "run", "data-atlas"]


@pytest.mark.slow
def test_a_study_of_any_name_runs_from_any_folder(tmp_path):
    """File, folder and root have the name; the command runs in that folder with a relative path."""
    folder = tmp_path / AWKWARD
    folder.mkdir()
    file = write_study(folder).rename(folder / f"{AWKWARD}.yaml")
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | {"root": f"-o {AWKWARD}"}))
    asked = ["run", f"./{AWKWARD}.yaml", "--only", "data-atlas", "--cores", "1"]
    environment = os.environ | {"PYTHONPATH": str(paths.ROOT)}
    made = subprocess.run(
        [sys.executable, "-m", "medstudy", *asked], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    (run,) = (folder / f"-o {AWKWARD}" / "runs").glob("data-atlas-*")
    assert (run / paths.RECORD).is_file() and (run / "notebook.ipynb").is_file()


def test_leftovers_of_killed_schedulers_are_deleted(tmp_path):
    here, dead, other = (f"tiny-{node}-{pid}" for node, pid in (
        (platform.node(), os.getpid()), (platform.node(), 2**22 + 1), ("elsewhere", 2**22 + 1)))
    for name in (here, dead, other):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}.txt").touch()
    workflow_run._forget_sessions(tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {here, f"{here}.txt", other, f"{other}.txt"}


def test_jobs_at_once_are_limited_by_visible_gpus(tmp_path, monkeypatch):
    study = params.load(write_study(tmp_path))
    monkeypatch.setattr("medstudy.utils.devices.visible", lambda: [])
    assert not any("gpu=" in word for word in snakemake.command(study, "params/tiny.yaml", snakemake.RunOptions(16)))
    monkeypatch.setattr("medstudy.utils.devices.visible", lambda: ["0", "2", "5"])
    assert "gpu=3" in snakemake.command(study, "params/tiny.yaml", snakemake.RunOptions(16))


def test_chosen_jobs_come_with_all_that_they_need(tmp_path):
    jobs = plan.plan(params.load(write_study(tmp_path)))
    names = [job.name for job in workflow_run.chosen(jobs, ["evaluate-mixed-*"])]
    pairs = [f"{stage}-mixed-s{seed}" for stage in ("train", "evaluate") for seed in (0, 1)]
    assert set(names) == {"data-phantom", "data-atlas", "leakage", "base", *pairs}
    assert workflow_run.chosen(jobs, []) == jobs
    with pytest.raises(ParamsError, match="'evaluate-9' matches none"):
        workflow_run.chosen(jobs, ["train-*", "evaluate-9"])


def test_a_profile_is_a_shipped_one_or_a_folder(tmp_path):
    assert snakemake.profile("local").name == "local"
    (tmp_path / "config.yaml").write_text("keep-going: true")
    assert snakemake.profile(str(tmp_path)) == tmp_path
    with pytest.raises(ParamsError, match="A profile is one of .*local.*, or a folder"):
        snakemake.profile("nowhere")


def test_arrays_are_refused_where_the_plugin_would_wait_forever(tmp_path):
    snakemake.check_arrays(snakemake.RunOptions(1, "slurm-arrays"), 5000)
    snakemake.check_arrays(snakemake.RunOptions(1, "slurm", jobs=2), 5000)
    arrays = snakemake.RunOptions(1, "slurm-arrays"), snakemake.RunOptions(1, "slurm-arrays", jobs=5)
    for how, jobs in zip(arrays, (5001, 6), strict=True):
        with pytest.raises(ParamsError, match=f"{jobs} jobs must be submittable at once.*got {jobs - 1}"):
            snakemake.check_arrays(how, jobs)
    (tmp_path / "config.yaml").write_text("jobs: unlimited\nslurm-array-jobs: train")
    snakemake.check_arrays(snakemake.RunOptions(1, str(tmp_path)), 100)
    with pytest.raises(ParamsError, match="got 100"):
        snakemake.check_arrays(snakemake.RunOptions(1, str(tmp_path)), 101)


def test_snakemake_gets_the_stages_that_are_arrays(tmp_path):
    study = params.load(write_study(tmp_path))
    words = snakemake.command(study, "params/tiny.yaml", snakemake.RunOptions(1, "slurm-arrays"))
    assert words[words.index("--config") :][-1] == "arrays=train,evaluate"
    plain = snakemake.command(study, "params/tiny.yaml", snakemake.RunOptions(1, "slurm"))
    assert not any("arrays=" in word for word in plain)


def test_runs_of_other_processes_are_waited_for_before_a_second_pass(tmp_path):
    """If another process makes a job's run, the jobs that need it are made in a second pass."""
    jobs = {job.name: job for job in plan.plan(params.load(write_study(tmp_path)))}
    data, leakage = jobs["data-phantom"], jobs["leakage"]
    few = [data, jobs["data-atlas"], leakage]
    paths.logs(data.dir).mkdir(parents=True)
    assert not workflow_run._again(few, before=0)  # nothing was done: Snakemake itself failed
    with lock.alone(data.dir):
        assert workflow_run._again(few, before=0)
    for one in few[:2]:
        one.dir.mkdir(parents=True)
        one.record.write_text("{}")
    assert workflow_run._again(few, before=1)
    (paths.logs(leakage.dir)).mkdir(parents=True)
    (paths.logs(leakage.dir) / lock.ERROR).write_text("an error")
    assert not workflow_run._again(few, before=1)


def test_local_jobs_are_limited_by_cores_and_free_memory(tmp_path):
    study = params.load(write_study(tmp_path))
    command = snakemake.command(study, "params/tiny.yaml", snakemake.RunOptions(3))
    assert command[command.index("--cores") + 1] == "3"
    assert any(word.startswith("mem_mb=") for word in command)
    assert command[:3] == [sys.executable, "-m", "snakemake"]

"""`medstudy clean` lists what it would free and why; runs that a study plans or a process holds stay."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime

import nbformat
import pytest
import yaml

from medstudy import params, paths
from medstudy.runs import plan as runs_plan
from medstudy.workflow import cleanup
from tests.support.studies import write_study
from tests.support.sweeps import command, finish, log, running


@pytest.fixture
def shared(tmp_path):
    """(root, file): all runs of a study are done, and three of the same study with another learning rate."""
    file = write_study(tmp_path)
    content = yaml.safe_load(file.read_text())
    older = params.parse(content | {"training": content["training"] | {"learning_rate": 0.007}})
    for job in [*runs_plan.plan(older)[-3:], *runs_plan.plan(params.load(file))]:
        finish(job)
        (job.dir / "result.parquet").write_bytes(b"x" * 1000)
        log(job, "a line\n")
    return tmp_path, file


def names(found) -> set[tuple[str, str]]:
    return {(item.kind, item.path.name.rsplit("-", 1)[0]) for item in found.items}


def everything(root) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.name != "lock"}


def test_superseded_runs_are_listed_then_freed_and_nothing_else(shared, capsys):
    root, file = shared
    before = everything(root)
    found = cleanup.find([file])
    assert {kind for kind, _ in names(found)} == {"run", "log"} and len(found.items) == 6
    assert all("an earlier tiny: its params or code" in item.why for item in found.items if item.kind == "run")
    assert command("clean", file) == 0
    assert "--yes frees them" in capsys.readouterr().out and everything(root) == before
    assert command("clean", file, "--yes") == 0
    gone = {item.path.relative_to(root) for item in found.items}
    assert all(any(str(path).startswith(str(one)) for one in gone) for path in before - everything(root))
    assert not any((root / one).exists() for one in gone)
    assert all(job.done for job in runs_plan.plan(params.load(file)))
    assert capsys.readouterr().out.splitlines()[-1] == f"Freed {found.bytes / 1000:.3g} kB."
    assert list((root / "runs" / ".trash").iterdir()) == [] and cleanup.find([file]).items == []


def test_runs_that_a_neighbouring_study_plans_stay(shared):
    root, file = shared
    content = yaml.safe_load(file.read_text())
    rate = content["training"] | {"learning_rate": 0.007}
    (root / "other.yaml").write_text(yaml.safe_dump(content | {"study": "other", "training": rate}))
    kept = {job.dir for job in runs_plan.plan(params.load(root / "other.yaml"))}
    assert not kept & {item.path for item in cleanup.find([file]).items}


def test_runs_of_other_studies_stay(shared):
    root, file = shared
    alien = root / "runs" / "train-native-s0-0123456789ab"
    alien.mkdir()
    (alien / "record.json").write_text(json.dumps({"study": "elsewhere"}))
    unknown = root / "runs" / "train-native-s0-ba9876543210"
    unknown.mkdir()
    assert {alien, unknown}.isdisjoint(item.path for item in cleanup.find([file]).items)


@pytest.mark.parametrize("broken", ["study: [", "study: x\nunknown: 1\n"])
def test_a_params_file_that_cannot_be_planned_keeps_all_runs(shared, broken, capsys):
    root, file = shared
    (root / "broken.yaml").write_text(broken)
    before = everything(root)
    assert command("clean", file, "--yes") == 0
    output = capsys.readouterr().out
    assert "all runs: broken.yaml cannot be planned" in output and "Freed 0 B" in output and everything(root) == before


def test_a_study_whose_model_is_not_mounted_keeps_its_own_runs(shared):
    root, file = shared
    content = yaml.safe_load(file.read_text())
    (root / "other.yaml").write_text(yaml.safe_dump(content | {"study": "x", "model": {"id": "/nowhere/model"}}))
    (root / "note.yaml").write_text("name: not a study\n")
    own = root / "runs" / "train-native-s0-0123456789ab"
    own.mkdir()
    (own / "record.json").write_text(json.dumps({"study": "x"}))
    found = cleanup.find([file, root / "other.yaml"])
    assert len(found.items) == 6 and own not in {item.path for item in found.items}
    assert found.held == ["the runs of x: their names depend on folders that are missing: /nowhere/model"]


def test_a_running_run_stays_and_so_does_what_it_may_need(shared):
    root, file = shared
    old = next(item.run for item in cleanup.find([file]).items)
    found = cleanup.find([file])
    job = runs_plan.Job("x", "x", old, (), "x", {}, "x")
    with running(job, "at work"):
        assert cleanup.free(found) < found.bytes and old.is_dir()
        now = cleanup.find([file])
    assert now.items == [] and old.name in now.held[0]


def test_resume_points_of_complete_and_of_unplanned_runs_are_freed(shared):
    root, file = shared
    done, waiting = (runs_plan.job(params.load(file), name) for name in ("train-native-s0", "train-native-s1"))
    shutil.rmtree(waiting.dir)
    for job in (done, waiting):
        paths.scratch(job.dir).mkdir(parents=True)
    for name, output in (("train-old-s0-0123456789ab", file), ("train-old-s1-0123456789ab", root / "gone.yaml"),
                       ("train-far-s0-0123456789ab", paths.ROOT / "params" / "tiny.yaml")):
        (root / "runs" / ".partial" / name).mkdir()
        started(root / "runs" / name, output)
    (root / "runs" / ".partial" / "train-mystery-s0-0123456789ab").mkdir()
    found = {item.path.name for item in cleanup.find([file]).items if item.kind == "resume point"}
    assert found == {done.dir.name, "train-old-s0-0123456789ab", "train-old-s1-0123456789ab"}


def test_caches_are_freed_on_request_and_never_while_a_job_runs(shared):
    root, file = shared
    (root / "runs" / ".cache" / "pixels").mkdir(parents=True)
    assert "cache" not in {item.kind for item in cleanup.find([file]).items}
    assert ("cache", "pixels") in names(cleanup.find([file], caches=True))
    with running(runs_plan.job(params.load(file), "scores"), "at work"):
        found = cleanup.find([file], caches=True)
    assert "cache" not in {item.kind for item in found.items} and "in use by scores" in found.held[0]


def test_a_clean_that_was_stopped_is_finished_by_the_next(shared):
    root, file = shared
    (root / "runs" / ".trash" / "left").mkdir(parents=True)
    found = cleanup.find([file])
    assert ("trash", "left") in names(found)
    cleanup.free(found)
    assert not (root / "runs" / ".trash" / "left").exists()


def started(run, study) -> None:
    """Leave the log of a run whose job was killed."""
    paths.logs(run).mkdir(parents=True)
    about = {"parameters": {"study": str(study), "run": "x"}, "start_time": datetime.now(UTC).isoformat()}
    book = nbformat.v4.new_notebook(metadata={"papermill": about})
    nbformat.write(book, paths.logs(run) / "notebook.ipynb")


def test_runs_of_older_code_are_named_as_such_and_stay_until_they_are_freed(tmp_path):
    """As after a change of the library, when every job has a new identity; `slower` has other params."""
    file = write_study(tmp_path)
    study = params.load(file)
    content = yaml.safe_load(file.read_text())
    slower = params.parse(content | {"training": content["training"] | {"learning_rate": 0.007}})
    for plan in (study, slower):
        for job in runs_plan.plan(plan):
            if job.stage in ("base", "train", "evaluate") and (plan is study or job.stage == "train"):
                old = replace(job, dir=job.dir.with_name(f"{job.name}-{job.identity[12:24]}"))
                finish(old, parameters=json.loads(json.dumps(job.parameters, default=str)), needs=list(job.needs))
    finish(replace(runs_plan.job(study, "leakage"), name="gone", dir=study.runs / "gone-0123456789ab"), parameters={})
    found = cleanup.find([file])
    why = {item.path.name: item.why for item in found.items}
    assert why[old_name(study, "base")] == "of an earlier tiny: made by other code"
    assert why[old_name(study, "train-native-s0")] == "of an earlier tiny: made by other code"
    assert why[old_name(slower, "train-native-s0")] == "of an earlier tiny: made with other params"
    assert why[old_name(study, "evaluate-base-s0")] == "of an earlier tiny: made by other code"
    assert why[old_name(study, "evaluate-native-s0")].endswith("made by other code, or from runs with other params")
    assert why["gone-0123456789ab"] == "of an earlier tiny: no longer one of its runs"
    assert all(item.path.is_dir() for item in found.items)
    assert cleanup.free(found) == found.bytes and not any(item.path.exists() for item in found.items)


def old_name(study, name) -> str:
    job = runs_plan.job(study, name)
    return f"{name}-{job.identity[12:24]}"


def test_runs_of_a_study_without_a_params_file_are_named_and_stay(shared):
    root, file = shared
    job = replace(runs_plan.job(params.load(file), "base"), dir=root / "runs" / "base-0123456789ab")
    finish(job, study="elsewhere")
    found = cleanup.find([file])
    assert "runs of elsewhere, 1: no params file here has that study" in found.held
    assert job.dir not in {item.path for item in found.items}


def test_two_params_files_of_one_name_keep_the_runs_of_both(shared):
    root, file = shared
    content = yaml.safe_load(file.read_text())
    rate = content["training"] | {"learning_rate": 0.007}
    (root / "copy.yaml").write_text(yaml.safe_dump(content | {"training": rate}))
    assert cleanup.find([file]).items == []

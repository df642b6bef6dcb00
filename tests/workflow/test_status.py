"""`medstudy status`, from prepared records and locks: in a terminal, a log, JSON and a real notebook."""

from __future__ import annotations

import io
import json
import math
import tempfile
import threading
import time
from dataclasses import replace

import nbclient
import nbformat
import pytest
from rich.console import Console

from medstudy import params, paths
from medstudy.runs import plan
from medstudy.workflow import notebooks, status
from tests.support.studies import write_study
from tests.support.sweeps import command, finish, log, running


@pytest.fixture
def half(tmp_path):
    """(study, file, jobs by name): two trainings of native done, one job running, one failed."""
    file = write_study(tmp_path, seeds=[0, 1, 2])
    study = params.load(file)
    jobs = {job.name: job for job in plan.plan(study)}
    finish(jobs["data-phantom"], seconds=3.0)
    finish(jobs["train-native-s0"], seconds=100.0, machine={"host": "node7"})
    finish(jobs["train-native-s1"], seconds=140.0)
    log(jobs["data-atlas"], "reading\n\nDataError: no such file [bold]\n", failed=True)
    with running(jobs["train-native-s2"], "start\r 10%|#\r 50%|#####", seconds=30):
        yield study, file, jobs


def row(rows, name):
    return rows.set_index("job").loc[name]


def test_each_job_has_a_row_with_state_time_host_and_newest_line(half):
    study, _, jobs = half
    rows = status.table(study)
    assert list(rows.columns) == ["job", "stage", "state", "seconds", "left", "processes", "host", "newest"]
    assert list(rows["job"]) == list(jobs)
    done, busy = row(rows, "train-native-s0"), row(rows, "train-native-s2")
    assert (done.state, done.seconds, done.left, done.host, done.newest) == ("done", 100.0, 0.0, "node7", "")
    assert busy.state == "running" and 30 <= busy.seconds < 40 and busy.newest == " 50%|#####"
    assert busy.left == pytest.approx(120 - busy.seconds)
    failed = row(rows, "data-atlas")
    assert failed.state == "failed" and failed.newest == "DataError: no such file [bold]" and math.isnan(failed.seconds)
    assert row(rows, "evaluate-native-s0").state == "waiting" and math.isnan(row(rows, "evaluate-native-s0").left)


def test_a_job_is_predicted_from_other_seeds_else_from_its_regime_else_from_the_estimate(half):
    study, _, jobs = half
    records = {"train-native-s0": {"seconds": 100.0}, "train-native-s1": {"seconds": 140.0}}
    seconds = status.predicted(jobs.values(), records, {"train-mixed-s0": 7.0, "train-native-s2": 1.0})
    assert seconds["train-native-s2"] == 120.0 and seconds["train-mixed-s0"] == 7.0
    assert math.isnan(seconds["train-fixed-84-s0"])
    slower = {**jobs["train-native-s2"].parameters, "training": {"learning_rate": 1.0}}
    other = replace(jobs["train-native-s2"], name="other", parameters=slower)
    assert status.predicted([*jobs.values(), other], records)["other"] == 120.0
    own = {"other": {"seconds": 9.0}} | records
    assert status.predicted([*jobs.values(), other], own)["train-native-s2"] == 120.0


def test_the_estimate_for_a_scheduler_is_used_where_nothing_else_is_known(half):
    study, _, jobs = half
    folder = jobs["evaluate-native-s0"].dir.name
    asked = {folder: {"mem_mb": 1, "runtime": 60, "seconds": 50}, "gone": {"seconds": 1}, "x": {"mem_mb": 2}}
    (study.runs / "logs" / "tiny.requests.json").write_text(json.dumps(asked))
    assert row(status.table(study), "evaluate-native-s0").left == 50.0
    (study.runs / "logs" / "tiny.requests.json").write_text("{")
    assert math.isnan(row(status.table(study), "evaluate-native-s0").left)


def test_the_summary_adds_known_times_and_counts_unknown_ones(half):
    study, _, jobs = half
    rows = status.table(study)
    total = status.summary(rows)
    assert (total["done"], total["running"], total["failed"]) == (3, 1, 1) and total["jobs"] == len(jobs)
    assert total["waiting"] == len(jobs) - 5
    left = row(rows, "train-native-s2").left
    assert total["work_seconds"] == pytest.approx(left) == total["seconds_left"]
    assert total["unknown"] == len(jobs) - 4
    assert total["device_hours"] == pytest.approx(left / 3600)
    two = rows.assign(processes=2)
    assert status.summary(two)["device_hours"] == pytest.approx(2 * left / 3600)
    output = status.sentence(total)
    assert output.startswith(f"3 of {len(jobs)} jobs done, 1 running, 1 failed, {total['waiting']} waiting.")
    assert f"(unknown for {total['unknown']} jobs)" in output
    assert "with 1 at once" in output and "device-hours" in output


def test_the_time_left_is_at_least_that_of_the_longest_job(half):
    study, _, _ = half
    rows = status.table(study)
    rows.loc[rows["state"] == "waiting", "left"] = 10.0
    rows.loc[rows["stage"] == "train", "state"] = "running"
    rows.loc[rows["stage"] == "train", "left"] = 100.0
    total = status.summary(rows)
    assert total["seconds_left"] == pytest.approx(max(total["work_seconds"] / total["running"], 100.0))
    assert status.summary(rows[rows["state"] == "done"])["seconds_left"] is None
    unknown = status.summary(rows.assign(left=float("nan")))
    assert unknown["seconds_left"] is None and " at once" not in status.sentence(unknown)


def test_a_record_is_read_once_and_a_broken_one_does_not_stop_the_rest(half, monkeypatch):
    study, _, jobs = half
    read, known = [], {}
    original = status.runs_record.read
    monkeypatch.setattr(status.runs_record, "read", lambda job: read.append(job.name) or original(job))
    status.table(study, records=known)
    status.table(study, records=known)
    assert sorted(read) == ["data-phantom", "train-native-s0", "train-native-s1"]
    jobs["data-phantom"].record.write_text("{")
    broken = row(status.table(study), "data-phantom")
    assert broken.state == "done" and "must be json" in broken.newest and math.isnan(broken.seconds)


def test_the_command_shows_jobs_and_json(half, capsys):
    study, file, jobs = half
    assert command("status", file) == 0
    output = capsys.readouterr().out
    assert all(name in output for name in jobs) and "DataError: no such file [bold]" in output
    assert command("status", file, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["summary"]["done"] == 3 and len(told["jobs"]) == len(jobs)
    assert next(one for one in told["jobs"] if one["job"] == "evaluate-native-s0")["left"] is None


def test_a_large_study_shows_stages_and_what_runs_or_failed(half):
    study, _, _ = half
    text = io.StringIO()
    Console(file=text, width=150).print(status.render(status.table(study), limit=5))
    output = text.getvalue()
    assert "train-native-s2" in output and "data-atlas" in output and "evaluate-native-s0" not in output
    assert [line.split()[:2] for line in output.splitlines() if line.startswith("train ")] == [["train", "9"]]


def test_paths_of_this_machine_are_not_shown(half):
    study, _, jobs = half
    log(jobs["data-atlas"], f"RunError: {paths.ROOT}/runs/x is missing")
    assert row(status.table(study), "data-atlas").newest == "RunError: ./runs/x is missing"


def test_in_a_log_watch_prints_only_changes_and_ends_when_all_is_done(half):
    study, _, jobs = half
    text = io.StringIO()
    watching = threading.Thread(target=status.watch, args=(study, Console(file=text, width=60), 0.02))
    watching.start()
    time.sleep(0.3)
    for job in jobs.values():
        finish(job, seconds=2.0)
    watching.join(20)
    assert not watching.is_alive()
    lines = text.getvalue().splitlines()
    assert lines[0].startswith("3 of ") and lines[-1] == f"{len(jobs)} of {len(jobs)} jobs done."
    assert lines.count("evaluate-native-s0: done 2.0 s") == 1 and "\x1b" not in text.getvalue()
    assert len(lines) < len(jobs) * 2 + 4


def test_watching_ends_when_nothing_runs(tmp_path):
    study = params.load(write_study(tmp_path))
    assert len(list(status.follow(study, every=0.01, patience=0.05))) >= 2


def test_a_notebook_shows_the_status_and_follows_it_in_place(half):
    study, file, jobs = half
    shown = study.root / "shown"
    cells = [
        "from medstudy.workflow import status",
        f"status.show({str(file)!r})",
        f"open({str(shown)!r}, 'w').close(); status.show({str(file)!r}, live=True, every=0.1)",
    ]
    book = nbformat.v4.new_notebook(cells=list(map(nbformat.v4.new_code_cell, cells)))

    def end() -> None:
        while not shown.exists():
            time.sleep(0.05)
        time.sleep(1)
        for job in jobs.values():
            finish(job)

    ending = threading.Thread(target=end, daemon=True)
    ending.start()
    with tempfile.TemporaryDirectory(prefix="medstudy-") as sockets:
        where = {"metadata": {"path": str(paths.ROOT)}}
        nbclient.NotebookClient(book, timeout=60, resources=where, config=notebooks._ipc(sockets)).execute()
    first, last = book.cells[1].outputs, book.cells[2].outputs
    assert "train-native-s2" in first[0].data["text/html"] and "3 of" in first[0].data["text/plain"]
    assert [one.output_type for one in last] == ["display_data"]
    assert f"{len(jobs)} of {len(jobs)} jobs done" in last[0].data["text/html"]
    assert "<script" not in first[0].data["text/html"]

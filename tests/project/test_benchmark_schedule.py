"""Stages in a process that outlives them: time limits, failures, a process that dies, what a cut run leaves, resume."""

import json
import os
import sys
import textwrap
import time
from functools import partial

import psutil
import pytest

from benchmarks import gpu
from benchmarks.runner import NotRun
from benchmarks.schedule import Results, Stage, Worker, run

FAKE = """
    import json, os, subprocess, sys, time

    events = os.fdopen(int(sys.argv[sys.argv.index("--events") + 1]), "w")

    def emit(**event):
        events.write(json.dumps(event) + "\\n")
        events.flush()

    def line(name, **more):
        emit(line={"name": name, "peer_name": "p", "unit": "s", "ours": float(os.getpid()), "peer": 1.0, "ratio": 1.0,
                   "goal": None, "floor": None, **more})

    for request in map(json.loads, sys.stdin):
        stage = request["stage"]
        if stage == "refused":
            emit(refused="no GPU")
            break
        line(stage, done=request["done"])
        emit(task="first", state="done")
        if stage == "slow":
            child = subprocess.Popen(["sleep", "600"])
            line("child", pid=child.pid)
            time.sleep(600)
        if stage == "dies":
            print("out of luck", flush=True)
            os._exit(7)
        if stage == "fails":
            emit(task="second", state="failed: ValueError: too large")
        line(stage, second_round=True)
        emit(end=True, spent=stage == "spent")
"""


@pytest.fixture
def start(tmp_path):
    script = tmp_path / "fake.py"
    script.write_text(textwrap.dedent(FAKE))
    return partial(Worker, [sys.executable, str(script)], tmp_path / "log")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "gpu.json"


def stages(*names, seconds=20.0, least=0.0):
    return [Stage(name, seconds, least) for name in names]


def process(results, name):
    """The number of the process that made a line."""
    return next(line["ours"] for line in results.lines if line["name"] == name)


def test_stages_share_a_process_and_lines_are_kept_with_their_stage(start, file):
    results = Results(file, {"device": "a GPU", "commit": "abc"})
    run(stages("one", "two"), 60, start, results, say=lambda text: None)
    assert process(results, "one") == process(results, "two")
    kept = json.loads(file.read_text())
    assert [(line["stage"], line["device"], line["commit"]) for line in kept] == [
        ("one", "a GPU", "abc"), ("two", "a GPU", "abc")
    ]
    assert all(line["second_round"] for line in kept)  # a later line of the same name takes the place of the first
    about = json.loads(file.with_suffix(".about.json").read_text())
    assert about["device"] == "a GPU" and [one["state"] for one in about["stages"].values()] == ["done", "done"]


def test_a_stage_over_its_limit_is_killed_with_all_it_started_and_the_next_one_runs(start, file):
    results = Results(file, {})
    run([Stage("slow", 2, 0), *stages("next")], 60, start, results, say=lambda text: None)
    assert results.stages["slow"]["state"] == "cut" and "limit of 2 s" in results.stages["slow"]["why"]
    child = next(line["pid"] for line in results.lines if line["name"] == "child")
    deadline = time.monotonic() + 10
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert results.done("next") and process(results, "next") != process(results, "slow")


@pytest.mark.parametrize(("name", "state", "why"), [
    ("dies", "failed", "status 7: out of luck"),
    ("fails", "failed", "second: ValueError: too large"),
    ("spent", "done", None),
])
def test_what_fails_is_listed_and_does_not_stop_the_next(start, file, name, state, why):
    results = Results(file, {})
    run(stages(name, "next"), 60, start, results, say=lambda text: None)
    assert results.stages[name]["state"] == state and (why or "") in results.stages[name].get("why", "")
    assert results.done("next")
    assert (process(results, "next") == process(results, name)) == (name == "fails")  # the others need a fresh process


def test_resume_does_what_is_missing_and_no_more(start, file):
    run(stages("one", "fails"), 60, start, Results(file, {}), say=lambda text: None)
    results, heard = Results(file, {}), []
    before = process(results, "one")
    run(stages("one", "fails", "new"), 60, start, results, resume=True, say=heard.append)
    assert process(results, "one") == before and "one: done before" in heard
    again = next(line for line in results.lines if line["name"] == "fails")
    assert again["second_round"] and results.stages["fails"]["tasks"]["first"] == "done"
    assert results.done("new")
    asked = Results(file, {}).tasks("fails")
    assert asked == ["first"]  # what a stage has done already is not asked for again


def test_without_resume_a_stage_starts_from_nothing(start, file):
    run(stages("fails"), 60, start, Results(file, {}), say=lambda text: None)
    results = Results(file, {})
    results.add("fails", {"name": "old", "peer_name": "p", "ours": 1})
    run(stages("fails"), 60, start, results, say=lambda text: None)
    assert [line["name"] for line in results.lines] == ["fails"]


def test_where_nothing_can_run_the_results_of_an_earlier_run_stay(start, file):
    results = Results(file, {})
    results.add("refused", {"name": "old", "peer_name": "p", "ours": 1})
    before = file.read_text()
    with pytest.raises(SystemExit, match="no GPU"):
        run(stages("refused"), 60, start, Results(file, {}), say=lambda text: None)
    assert file.read_text() == before


def test_a_stage_that_does_not_fit_is_listed_and_a_smaller_one_still_runs(start, file):
    results = Results(file, {})
    run([Stage("large", 100, 61), Stage("small", 100, 1)], 60, start, results, say=lambda text: None)
    assert results.stages["large"]["state"] == "not run" and "at least 61" in results.stages["large"]["why"]
    assert results.done("small")


def test_a_stage_gets_no_more_than_the_time_that_is_left(start, file):
    results, started = Results(file, {}), time.monotonic()
    run([Stage("slow", 600, 0), Stage("late", 10, 5)], 3, start, results, say=lambda text: None)
    assert time.monotonic() - started < 20
    assert [results.stages[name]["state"] for name in ("slow", "late")] == ["cut", "not run"]


def test_a_run_that_is_stopped_leaves_what_it_has_and_no_process(start, file):
    results, workers = Results(file, {}), []

    def stop(text):
        if "two" in text and "(" in text:
            raise KeyboardInterrupt

    def begin():
        workers.append(start())
        return workers[0]

    with pytest.raises(KeyboardInterrupt):
        run(stages("one", "two", "three"), 60, begin, results, say=stop)
    assert workers[0].process.returncode is not None
    kept = Results(file, {})
    assert [line["name"] for line in kept.lines] == ["one", "two"]
    assert kept.done("one") and kept.stages["two"]["state"] == "cut" and "three" not in kept.stages


def test_a_stage_alone_has_a_process_of_its_own(start, file):
    results = Results(file, {})
    run([*stages("one"), Stage("two", 20, 0, alone=True), *stages("three")], 60, start, results, say=lambda text: None)
    assert len({process(results, name) for name in ("one", "two", "three")}) == 3


def events_of(task):
    heard = []
    lost = gpu.attempt("a task", task, lambda **event: heard.append(event))
    return heard, lost


def test_a_task_reports_its_lines_even_when_it_fails_later():
    def task():
        yield {"name": "x"}
        raise ValueError("too large")

    heard, lost = events_of(task)
    assert heard[0] == {"line": {"name": "x"}} and not lost
    assert heard[1]["line"]["not_run"] == "ValueError: too large" and heard[1]["line"]["ours"] is None
    assert heard[2]["state"] == "failed: ValueError: too large"


def test_what_cannot_run_here_is_no_failure_and_a_lost_device_is_noticed():
    def absent():
        raise NotRun("no such package")
        yield

    def lost():
        raise RuntimeError("CUDA error: an illegal memory access was encountered")
        yield

    heard, spent = events_of(absent)
    assert heard[-1] == {"task": "a task", "state": "not run: no such package"} and not spent
    assert events_of(lost)[1]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="Linux lists open files there")
def test_a_worker_that_is_killed_leaves_no_pipe(start, tmp_path):
    """A worker that is killed leaves no pipe behind."""
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        start().kill()
    assert len(os.listdir("/proc/self/fd")) == before

"""`medstudy logs`: finding a run by name, the newest state of progress bars, new lines as they appear."""

from __future__ import annotations

import threading
import time

import pytest

from medstudy import params
from medstudy.errors import ParamsError
from medstudy.runs import plan
from medstudy.workflow import logs
from tests.support.studies import write_study
from tests.support.sweeps import command, log, running


@pytest.fixture
def study(tmp_path):
    return params.load(write_study(tmp_path))


def test_a_run_is_given_by_name_folder_unique_part_or_pattern(study):
    job = plan.job(study, "train-native-s0")
    assert [one.name for one in logs.find(study, "train-native-s0")] == ["train-native-s0"]
    assert logs.find(study, job.dir.name) == [job]
    assert [one.name for one in logs.find(study, "phantom")] == ["data-phantom"]
    several = ["train-native-s1", "train-fixed-84-s1", "train-mixed-s1"]
    assert [one.name for one in logs.find(study, "train-*-s1")] == several


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("-native-s", "but 4 names contain it. Similar: train-native-s0, evaluate-native-s0"),
        ("train-nativ-s0", "but no name contains it. Similar: train-native-s0"),
        ("no-*", "but no name contains it"),
    ],
)
def test_other_names_are_an_error_that_lists_similar_ones(study, name, output):
    with pytest.raises(ParamsError, match=output):
        logs.find(study, name)


def test_of_a_progress_bar_the_newest_state_is_shown(study):
    job = plan.job(study, "data-phantom")
    log(job, "first\n\n 0%|\r 50%|##\r100%|####\nlast\r\n")
    assert logs.last(logs.file(job)) == ["first", "100%|####", "last"]
    assert logs.last(logs.file(job), 2) == ["100%|####", "last"]


def test_the_last_lines_of_a_long_log_are_whole(study, monkeypatch):
    monkeypatch.setattr(logs, "CHUNK", 16)
    job = plan.job(study, "data-phantom")
    log(job, "".join(f"line number {number}\n" for number in range(1000)))
    assert logs.last(logs.file(job), 3) == [f"line number {number}" for number in (997, 998, 999)]
    log(job, "\r".join(["x" * 20] * 1000) + "\nend\n")
    assert logs.last(logs.file(job), 5) == ["x" * 20, "end"]


def test_following_ends_with_the_run_and_misses_no_line(study):
    job = plan.job(study, "data-phantom")
    lock, got = running(job, "one\n"), []
    reading = threading.Thread(target=lambda: got.extend(logs.follow(job, every=0.02)))
    reading.start()
    for text in ("two\n", " 1%|\r 2%|", "\r 3%|\nthr", "ee\nend"):
        time.sleep(0.1)
        with open(logs.file(job), "a") as stream:
            stream.write(text)
    lock.release()
    reading.join(10)
    assert not reading.is_alive() and got == ["one", "two", " 1%|", " 3%|", "three", "end"]


def test_the_command_prints_the_log_and_slurms_log(study, capsys):
    file, job = study.root / "study.yaml", plan.job(study, "train-native-s0")
    assert command("logs", file, "train-native-s0") == 0
    assert "train-native-s0 has no log" in capsys.readouterr().out
    log(job, "a\nb\n")
    slurm = study.runs / "logs" / "slurm" / "rule_train" / job.dir.name / "17.log"
    slurm.parent.mkdir(parents=True)
    slurm.write_text("slurmstepd: error: CANCELLED\n")
    assert command("logs", file, "train-native-s0", "-n", "1") == 0
    assert capsys.readouterr().out == f"b\n-- Slurm ({slurm})\nslurmstepd: error: CANCELLED\n"


def test_slurms_log_of_an_arrays_task_is_found_by_the_run_that_it_names(study):
    folder = study.runs / "logs" / "slurm" / "rule_train"
    folder.mkdir(parents=True)
    for task, name in enumerate(("train-native-s0", "train-native-s1"), start=1):
        (folder / f"7_{task}.log").write_text(f"rule train: wildcards: run={plan.job(study, name).dir.name}\n{name}\n")
    assert logs.slurm(study, plan.job(study, "train-native-s1"), 1) == (folder / "7_2.log", ["train-native-s1"])

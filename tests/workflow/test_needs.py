"""A notebook that a person opens makes what its job needs, says so, and leaves a complete run unchanged."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import nbformat
import pytest

from medstudy import params, paths
from medstudy.errors import ParamsError, RunError
from medstudy.runs import lock, plan, record, stages
from medstudy.workflow import needs
from medstudy.workflow import run as workflow_run
from tests.support.studies import medstudy, words_on_stderr, write_study


@pytest.fixture
def study(tmp_path):
    return write_study(tmp_path)


def finish(job):
    """Make a job complete, with no files."""
    job.dir.mkdir(parents=True)
    job.record.write_text(json.dumps({"files": {}}))


@pytest.fixture
def made(monkeypatch):
    """Completes jobs instead of running them; the list of requested jobs."""
    asked = []

    def run(study, file, how, console):
        asked.append(how.only)
        for job in workflow_run.chosen(plan.plan(study), how.only):
            if not job.done:
                finish(job)

    monkeypatch.setattr(workflow_run, "run", run)
    return asked


def test_what_a_job_needs_is_made_first_and_named(study, made, capsys):
    settings, job = needs.prepare(str(study), "evaluate-native-s0")
    assert made == [job.needs] and not job.done
    output = capsys.readouterr().out
    assert "needs 5 jobs that are not done: data-phantom, data-atlas, leakage, base, train-native-s0" in output
    assert len(job.inputs("train")) == 1
    needs.prepare(str(study), "evaluate-native-s0")
    assert len(made) == 1 and capsys.readouterr().out == ""


def test_a_job_that_needs_nothing_makes_nothing(study, made, capsys):
    needs.prepare(str(study), "data-phantom")
    assert made == [] and capsys.readouterr().out == ""


def test_a_complete_run_is_shown_and_one_that_lost_a_file_made_again(study, made, capsys):
    job = plan.job(params.load(study), "data-phantom")
    finish(job)
    needs.prepare(str(study), "data-phantom")
    assert "data-phantom is done: what follows is read from" in capsys.readouterr().out
    job.record.write_text(json.dumps({"files": {f"runs/{job.dir.name}/questions.parquet": "0"}}))
    needs.prepare(str(study), "data-phantom")
    assert not job.done and capsys.readouterr().out == ""


def test_a_kernel_that_was_started_for_a_run_makes_nothing_before_it(study, made, monkeypatch):
    monkeypatch.setenv(lock.HELD, "/runs/evaluate-native-s0")
    settings, job = needs.prepare(str(study), "evaluate-native-s0")
    assert made == []
    with pytest.raises(RunError, match="needs train-native-s0, which is not complete"):
        job.inputs("train")


def test_an_unknown_run_is_explained(study, made):
    with pytest.raises(ParamsError, match="is one of data-phantom"):
        needs.prepare(str(study), "train-native-s9")


def test_recorded_leaves_a_complete_run_unchanged_unless_its_kernel_was_started_for_it(study, monkeypatch):
    settings = params.load(study)
    job = plan.job(settings, "leakage")
    with record.recorded(settings, job) as new:
        assert new
        (job.dir / "made.txt").write_text("once")
    with record.recorded(settings, job) as new:
        assert not new and (job.dir / "made.txt").read_text() == "once"
    monkeypatch.setenv(lock.HELD, str(job.dir))
    with lock.alone(job.dir), record.recorded(settings, job) as new:
        assert new and not (job.dir / "made.txt").exists()


def test_two_kernels_at_once_make_a_run_once(study):
    settings = params.load(study)
    job = plan.job(settings, "leakage")

    def work(_):
        with record.recorded(settings, job) as new:
            return new

    with ThreadPoolExecutor() as pool:
        assert sorted(pool.map(work, range(2))) == [False, True]


def executing(monkeypatch, cell: str):
    """Pretend to be a kernel that executes this cell."""
    shell = SimpleNamespace(user_ns={"In": ["", "earlier", cell]})
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(get_ipython=lambda: shell))


def test_an_edited_cell_cannot_make_a_run_in_the_notebooks_name(study, monkeypatch):
    settings = params.load(study)
    job = plan.job(settings, "train-native-s0")
    cells = nbformat.read(paths.NOTEBOOKS / "02_train.ipynb", as_version=4).cells
    cell = next(cell.source for cell in cells if "train(study, job)" in cell.source)
    executing(monkeypatch, f"# a comment\n{cell}")
    record.check_code(settings, job)
    executing(monkeypatch, cell.replace("train(study, job)", "train(study, job, False)"))
    with pytest.raises(RunError, match="is not in notebooks/02_train.ipynb"), record.recorded(settings, job):
        pytest.fail("the work started")
    assert not job.dir.exists()
    monkeypatch.setenv(lock.HELD, str(job.dir))
    record.check_code(settings, job)  # what is executed is the committed notebook


def test_changed_params_cannot_make_a_run_in_anothers_name(study, monkeypatch):
    settings = params.load(study)
    job = plan.job(settings, "train-native-s0")
    cells = nbformat.read(paths.NOTEBOOKS / "02_train.ipynb", as_version=4).cells
    executing(monkeypatch, next(cell.source for cell in cells if "train(study, job)" in cell.source))
    other = settings.model_copy(update={"interpolation": "bilinear"})
    with pytest.raises(RunError, match="this study has others than the notebook was opened with"):
        record.check_code(other, job)


@pytest.mark.slow
def test_every_notebook_by_bare_papermill_from_an_empty_folder_and_a_run_finds_all_done(study, tmp_path):
    """Each notebook is opened before those that it needs; two kernels open the report at once."""
    from papermill import execute_notebook

    def opened(name: str, number: int = 0):
        return execute_notebook(
            paths.NOTEBOOKS / f"{name}.ipynb", tmp_path / f"{name}-{number}.ipynb", {"study": str(study)},
            cwd=tmp_path, kernel_name="python3", progress_bar=False,
        )

    names = ["03_evaluate", "02_train", "05_claims", "08_report", "01_leakage", "01_model", "01_data", "04_scores",
             "04_bounds", "06_figure", "07_tables"]
    assert set(names) == set(stages.NOTEBOOK.values()) - {"04_probe", "09_compare"}
    for name in names[:3]:
        opened(name)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda number: opened("08_report", number), range(2)))
    jobs = plan.plan(params.load(study))
    before = {job.name: job.record.stat().st_mtime_ns for job in jobs}
    for name in names[4:]:
        opened(name)
    assert {job.name: job.record.stat().st_mtime_ns for job in jobs} == before
    for file in tmp_path.glob("*.ipynb"):
        output = [line for line in words_on_stderr(file) if "made by another process; waiting for it" not in line]
        assert output == []
    again = medstudy("run", study)
    assert again.returncode == 0 and f"all {len(jobs)} jobs are done" in again.stdout

"""The notebooks are committed without outputs; their parameters are checked from outside and from inside."""

from __future__ import annotations

import ast
import math
import time
from concurrent.futures import ThreadPoolExecutor

import nbformat
import pandas as pd
import pytest
import yaml

from medstudy import models, params, paths
from medstudy.cli import main
from medstudy.errors import ParamsError, RunError
from medstudy.runs import lock, plan, record, stages
from medstudy.utils import redact
from medstudy.workflow import notebooks, parameters
from medstudy.workflow.open_job import open_job, overridden
from tests.support.studies import write_study

NOTEBOOKS = sorted(paths.NOTEBOOKS.rglob("[!.]*.ipynb"))
TRAIN = paths.NOTEBOOKS / "02_train.ipynb"


def cells_of(file, kind: str) -> list:
    return [cell for cell in nbformat.read(file, as_version=4).cells if cell.cell_type == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda file: file.stem)
def file(request):
    return request.param


def test_committed_without_outputs_and_valid(file):
    nbformat.validate(nbformat.read(file, as_version=4))
    for cell in cells_of(file, "code"):
        assert cell.outputs == [] and cell.execution_count is None


def test_opens_with_title_and_purpose_then_parameters_then_the_check(file):
    cells = nbformat.read(file, as_version=4).cells
    title, purpose = cells[0].source.splitlines()[:2]
    assert title.startswith("# ") and len(purpose) > 20
    assert cells[1].metadata["tags"] == ["parameters"]
    opens = {"explore": "study = load_study(globals())", "00_base": "check(globals())"}
    assert opens.get(file.parent.name, opens.get(file.stem, "study, job = open_job(globals())")) in cells[2].source


def test_cells_are_short_and_define_nothing(file):
    for cell in cells_of(file, "code"):
        lines = [line for line in cell.source.splitlines() if line and not line.startswith(("import ", "from "))]
        assert len(lines) <= 12
        defined = (ast.FunctionDef, ast.ClassDef, ast.Lambda)
        assert not any(isinstance(node, defined) for node in ast.walk(ast.parse(cell.source)))


def test_every_parameter_has_a_literal_default_and_a_help(file):
    declared = parameters.declared(file)
    assert declared and all(parameter.help for parameter in declared.values())


def test_every_stage_has_a_notebook_whose_defaults_are_a_job_of_a_tiny_study():
    for name in stages.NOTEBOOK.values():
        defaults = parameters.declared(paths.NOTEBOOKS / f"{name}.ipynb")
        own = {"04_probe": "params/probe-tiny.yaml", "09_compare": "params/models-tiny.yaml"}
        study = own.get(name, "params/tiny.yaml")
        assert defaults["study"].default == study
        jobs = {job.name: job for job in plan.plan(params.load(study))}
        assert jobs[defaults["run"].default].notebook == name


def test_values_from_a_command_line_are_read_as_the_declared_type():
    read = parameters.checked(paths.NOTEBOOKS / "00_base.ipynb", {"processes": "2", "out": "7"})
    assert read == {"processes": 2, "out": "7"}


def test_unknown_and_mistyped_parameters_are_all_named():
    base = paths.NOTEBOOKS / "00_base.ipynb"
    with pytest.raises(ParamsError, match=r"no parameter 'process'; there are: params, out, processes") as error:
        parameters.checked(base, {"process": 2, "processes": "two"})
    assert "processes must be int, got str 'two'" in str(error.value)
    with pytest.raises(ParamsError, match="processes must be int, got bool True"):
        parameters.checked(base, {"processes": True})


def test_a_wrong_parameter_stops_before_a_kernel_starts(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "_papermill", lambda *_: pytest.fail("a kernel was started"))
    with pytest.raises(ParamsError, match="no parameter 'sede'"):
        notebooks.execute("02_train", tmp_path / "run", {"sede": "1"})
    assert "no parameter 'sede'" in (tmp_path / "logs" / "run" / "log.txt").read_text()
    with pytest.raises(ParamsError, match="no notebook '2_train'; there are: 00_base, 01_data"):
        notebooks.execute("2_train", tmp_path / "run", {})


@pytest.mark.parametrize(
    "cell", ["a = 1  # no type", "a: int = 1 + 1  # derived", "a: list = []  # a type", "import os", "a: int = '1'"]
)
def test_a_parameters_cell_holds_typed_literals_only(tmp_path, cell):
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell, metadata={"tags": ["parameters"]})])
    nbformat.write(made, tmp_path / "one.ipynb")
    with pytest.raises(ParamsError, match="a parameter is a line"):
        parameters.declared(tmp_path / "one.ipynb")


def test_check_inside_a_notebook_knows_what_papermill_injected():
    namespace = {"study": "a.yaml", "seed": 3, "__annotations__": {"study": str, "seed": "int"}, "later": object()}
    parameters.check(namespace | {"In": ["", "# Parameters\nstudy = 'a.yaml'\n", "check(globals())"]})
    with pytest.raises(ParamsError, match="no parameter 'sede'; there are: study, seed"):
        parameters.check(namespace | {"In": ["", "# Parameters\nsede = 3\n"]})
    with pytest.raises(ParamsError, match="seed must be int, got str '3'"):
        parameters.check(namespace | {"seed": "3"})


def test_check_inside_a_notebook_knows_what_was_typed_by_hand():
    """In JupyterLab only the executed cells tell what the parameters cell held."""
    kinds = dict.fromkeys(("study", "run", "overrides"), str)
    opened = {"study": "a.yaml", "run": "base", "overrides": "", "__annotations__": kinds}
    cell = "study: str = 'a.yaml'  # a study\nrun: str = 'base'\noverrides: str = ''"
    parameters.check(opened | {"In": ["", "%matplotlib inline", cell, "import os", "check(globals())"]})
    typed = opened | {"stuyd": "b", "__annotations__": kinds | {"stuyd": str}}
    with pytest.raises(ParamsError, match="no parameter 'stuyd'; there are: study, run, overrides"):
        parameters.check(typed | {"In": ["", cell, cell.replace("study:", "stuyd:"), "check(globals())"]})
    parameters.check(typed | {"In": ["", cell.replace("study:", "stuyd:"), cell, "check(globals())"]})  # corrected
    fresh = {name: value for name, value in typed.items() if name != "study"}
    fresh["__annotations__"] = dict.fromkeys(("stuyd", "run", "overrides"), str)
    with pytest.raises(ParamsError, match="there are: study, run, overrides; study is missing"):
        parameters.check(fresh | {"In": ["", cell.replace("study:", "stuyd:")]})
    with pytest.raises(ParamsError, match="run must be str, got int 3"):
        parameters.check(opened | {"run": 3, "In": ["", cell.replace("'base'", "3")]})


@pytest.mark.slow
def test_bare_papermill_is_stopped_by_the_notebook_itself(tmp_path):
    """papermill only warns of an unknown parameter."""
    from papermill import execute_notebook
    from papermill.exceptions import PapermillExecutionError

    with pytest.raises(PapermillExecutionError, match="no parameter 'sede'") as error:
        execute_notebook(
            TRAIN, tmp_path / "out.ipynb", {"sede": 1}, cwd=paths.ROOT, progress_bar=False, kernel_name="python3"
        )
    assert error.value.ename == "ParamsError"


@pytest.mark.slow
def test_the_base_notebook_makes_a_checkpoint_that_loads(tmp_path):
    """Executed with its defaults; the notebooks of a study are executed in test_run."""
    made = notebooks.execute("00_base", tmp_path / "run", {"out": str(tmp_path / "base")})
    cells = [cell for cell in nbformat.read(made, as_version=4).cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in cells) and any("image/png" in str(cell.outputs) for cell in cells)
    assert models.load(params.Model(id=str(tmp_path / "base"))).revision
    assert len((tmp_path / "base" / "training.csv").read_text().splitlines()) == 1 + 16 // 8  # images a step


def test_a_run_is_made_by_one_process_at_a_time_and_the_other_takes_its_result(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr(notebooks, "_papermill", lambda *_: pytest.fail("the run was made twice"))
    run = tmp_path / "run"
    run.mkdir()
    paths.logs(run).mkdir(parents=True)
    assert not lock.running(run)
    with ThreadPoolExecutor() as pool:
        with lock.alone(run) as waited:
            assert not waited and lock.running(run)
            other = pool.submit(notebooks.execute, "02_train", run, {})
            while "waiting for it" not in capfd.readouterr().err:
                time.sleep(0.01)
            assert not other.done()
            (run / "record.json").write_text("{}")
        assert other.result(timeout=30) == run / "notebook.ipynb"
    assert not lock.running(run)


def test_once_takes_a_complete_run_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "_papermill", lambda *_: pytest.fail("the run was made twice"))
    run = tmp_path / "run"
    run.mkdir()
    (run / "record.json").write_text("{}")
    assert notebooks.execute("02_train", run, {}, once=True) == run / "notebook.ipynb"


def test_inside_slurm_a_job_does_not_wait_for_another(tmp_path, monkeypatch, capsys):
    """Waiting would waste the allocation; the exit status means: try again later."""
    monkeypatch.setattr(notebooks, "_papermill", lambda *_: pytest.fail("the run was made twice"))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    run = tmp_path / "run"
    paths.logs(run).mkdir(parents=True)
    with lock.alone(run):
        assert main(["notebook", "02_train", "--out", str(run), "--once", "-p", "run", "train-native-s0"]) == 75
    assert "being made by another process" in capsys.readouterr().err


def test_a_job_whose_study_changed_since_it_was_planned_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "_papermill", lambda *_: None)  # it made a run of another name
    run = tmp_path / "train-native-s0-0123"
    with pytest.raises(RunError, match="params or code changed since this job was planned"):
        notebooks.execute("02_train", run, {}, once=True)
    assert not run.exists() and "changed since" in (paths.logs(run) / "log.txt").read_text()


def test_a_notebook_by_itself_takes_the_lock_of_the_run_that_it_makes(tmp_path, monkeypatch):
    study = params.parse({**yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text()), "root": str(tmp_path)})
    job = plan.job(study, "leakage")
    with record.recorded(study, job):
        assert lock.running(job.dir)
    assert job.done and not lock.running(job.dir)
    monkeypatch.setenv(lock.HELD, str(job.dir))  # the process that started the kernel holds it
    with lock.alone(job.dir), record.recorded(study, job):
        pass
    assert job.done


def test_a_study_is_named_from_where_the_command_runs_not_the_kernel(tmp_path, monkeypatch):
    """The kernel works in the repository, where the same relative name may be another file."""
    (tmp_path / "params").mkdir()
    (tmp_path / "params" / "tiny.yaml").write_text("study: mine")
    given = []
    monkeypatch.setattr(notebooks, "_papermill", lambda source, target, values, *_: given.append(values["study"]))
    monkeypatch.chdir(tmp_path)
    for study in ("params/tiny.yaml", "params/offline.yaml", "params/none.yaml"):
        with pytest.raises(OSError):  # no notebook was made to be moved
            (tmp_path / "run").mkdir(exist_ok=True)
            notebooks.execute("01_data", tmp_path / "run", {"study": study, "run": "data-atlas"})
    assert given == [
        str(tmp_path / "params" / "tiny.yaml"), str(paths.ROOT / "params" / "offline.yaml"), "params/none.yaml"
    ]


def test_a_value_on_the_command_line_is_yaml_of_the_same_version():
    read, is_ = parameters._read, parameters._is
    assert read("1e-5", float) == 1e-5 and read("010", int) == 10 and read("2", float) == 2.0
    assert not is_(read("yes", bool), bool) and not is_(read("1:30", int), int) and not is_(read(".inf", float), float)
    assert parameters._mistyped("rate", math.inf, float) == "rate must be a finite float, got float inf"
    with pytest.raises(ParamsError, match="A value on the command line, '\\[1',"):
        read("[1", int)


def test_relative_places_that_a_study_names_are_not_in_its_notebooks(tmp_path):
    (tmp_path / "alice" / "scans").mkdir(parents=True)
    (tmp_path / "bob").mkdir()
    study = tmp_path / "bob" / "mine.yaml"
    study.write_text("study: mine\ndatasets: [{path: ../alice/scans}]\n")
    assert notebooks._places({"study": str(study)})[tmp_path / "alice"] == "…"
    study.write_text("a: 1\na: 2\n")
    assert tmp_path / "bob" in notebooks._places({"study": str(study)})  # its reader says what is wrong


def test_folders_that_a_study_names_are_not_in_its_notebooks(tmp_path):
    study = tmp_path / "secret-project" / "mine.yaml"
    study.parent.mkdir()
    study.write_text(yaml.safe_dump({"study": "mine", "model": {"id": "/scratch/alice/qwen"}}))
    text = f"{study} /scratch/alice/qwen and {paths.ROOT}/runs"
    shown = redact.text(text, notebooks._places({"study": str(study), "run": "train-native-s0"}))
    assert shown == "…/mine.yaml …/qwen and ./runs"


def test_the_opening_cell_may_run_twice_and_sees_new_parameters(capsys, monkeypatch):
    """It replaces the text `study` by the study itself; the parameters cell, run again, counts as typed."""
    monkeypatch.setenv(lock.HELD, "none")  # needs are left as they are
    cell = {"study": "params/tiny.yaml", "run": "base", "__annotations__": {"study": str, "run": str}}
    study, job = open_job(cell)
    assert cell["study"] is study and job.name == "base"
    assert capsys.readouterr().out.startswith("base of the study tiny: base-")
    assert open_job(cell)[1] == job
    cell |= {"study": "params/tiny.yaml", "run": "scores"}
    assert open_job(cell)[1].name == "scores"
    cell["study"] = 3
    with pytest.raises(ParamsError, match="study must be str, got int 3"):
        open_job(cell)


@pytest.mark.parametrize("overrides", ["", "  \n", "# nothing"])
def test_without_overrides_a_study_is_its_own_file(overrides):
    assert overridden("params/tiny.yaml", overrides) == "params/tiny.yaml"


def test_overrides_make_a_study_of_their_own_beside_the_first(tmp_path):
    file = str(write_study(tmp_path))
    changes = "training.learning_rate: 1e-3\ndatasets.0.train: 4\nevaluation.author.temperature: 0.5"
    changed, plain = params.load(overridden(file, changes)), params.load(file)
    assert changed.training.learning_rate == 1e-3 and changed.datasets[0].train == 4
    assert changed.evaluation.author.temperature == 0.5 and plain.evaluation.author is None
    assert changed.study.startswith("tiny-") and changed.figures != plain.figures and changed.runs == plain.runs
    assert overridden(file, changes) == overridden(file, changes)
    restored = {name: getattr(plain, name) for name in ("study", "training", "datasets", "evaluation")}
    assert changed.model_copy(update=restored) == plain
    before, after = ({job.name: job.identity for job in plan.plan(study)} for study in (plain, changed))
    assert before["data-atlas"] == after["data-atlas"] and before["data-phantom"] != after["data-phantom"]
    assert before["train-native-s0"] != after["train-native-s0"]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ("trainig.epochs: 2", "trainig: no such parameter; .*did you mean 'training'"),
        ("training.epoch: 2", "training.epoch: no such parameter; .*did you mean 'epochs'"),
        ("training.epochs: two", "training.epochs: .*valid integer.*got 'two'"),
        ("datasets.7.train: 4", "by its position, 0 to 1, got '7'"),
        ("datasets.phantom.train: 4", "by its position, 0 to 1, got 'phantom'"),
        ("low.side: 4", "low.side must name a setting, but 'fixed-84' has no setting 'side'"),
        ("low.side.more: 4", "'fixed-84' has no setting 'side'"),
        ("training.epochs", "`name: value` pairs such as `training.learning_rate: 0.001`, got 'training.epochs'"),
        ("seeds: [0", "overrides must be valid yaml"),
    ],
)
def test_wrong_overrides_are_explained(tmp_path, overrides, message):
    with pytest.raises(ParamsError, match=message):
        overridden(str(write_study(tmp_path)), overrides)
    assert not (tmp_path / "runs").exists()


def test_open_job_opens_the_changed_study(tmp_path, monkeypatch):
    monkeypatch.setenv(lock.HELD, "none")
    kinds = dict.fromkeys(("study", "run", "overrides"), str)
    cell = {"study": str(write_study(tmp_path)), "run": "train-native-s0", "overrides": "training.epochs: 2"}
    study, job = open_job(cell | {"__annotations__": kinds})
    assert study.training.epochs == 2 and job.parameters["training"]["epochs"] == 2


@pytest.mark.slow
def test_a_notebook_with_overrides_makes_runs_of_its_own_and_keeps_those_of_the_study(tmp_path):
    """By bare papermill: what the job needs is made from the changed study too."""
    from papermill import execute_notebook

    study = str(write_study(tmp_path))
    for overrides in ("", "datasets.0.train: 6\nleakage.distance: 9"):
        parameters = {"study": study, "run": "leakage", "overrides": overrides}
        execute_notebook(paths.NOTEBOOKS / "01_leakage.ipynb", tmp_path / "out.ipynb", parameters, cwd=tmp_path,
                         kernel_name="python3", progress_bar=False)
    changed = params.load(overridden(study, overrides))
    jobs = {(name, job.dir) for name in ("leakage", "data-phantom", "data-atlas")
            for job in (plan.job(params.load(study), name), plan.job(changed, name))}
    assert len(jobs) == 5  # the atlas is the same
    assert all((folder / "record.json").is_file() for _, folder in jobs)
    assert len(pd.read_parquet(plan.job(changed, "data-phantom").dir / "questions.parquet")["image_id"].unique()) == 18

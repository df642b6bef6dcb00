"""The plan: every combination once, in order, and named by everything that its result depends on."""

import importlib
import json
import shutil

import pytest
import yaml

from medstudy import params, paths
from medstudy.errors import ParamsError, RunError
from medstudy.report import figures
from medstudy.runs import identity, plan, stages

FIGURES = {f"figure-{name}" for name in stages.FIGURES}
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())


def _plan(tmp_path, **changes):
    return {job.name: job for job in plan.plan(params.parse(TINY | {"root": str(tmp_path)} | changes))}


def _changed(before, after):
    return {name for name in before if before[name].identity != after[name].identity}


def test_the_plan_has_regimes_by_seeds_and_the_base_model(tmp_path):
    jobs = _plan(tmp_path)
    trained = {name for name in jobs if name.startswith("train-")}
    assert trained == {f"train-{regime}-s{seed}" for regime in ("native", "fixed-84", "mixed") for seed in (0, 1)}
    evaluated = {name for name in jobs if name.startswith("evaluate-")}
    assert evaluated == {name.replace("train", "evaluate") for name in trained} | {"evaluate-base-s0"}
    assert {job.stage for job in jobs.values()} == set(stages.NOTEBOOK) - {"probe", "compare"}


def test_every_job_comes_after_those_it_needs(tmp_path):
    seen = set()
    for job in _plan(tmp_path).values():
        assert set(job.needs) <= seen
        seen.add(job.name)


def test_every_notebook_exists(tmp_path):
    assert all((paths.NOTEBOOKS / f"{job.notebook}.ipynb").is_file() for job in _plan(tmp_path).values())


def test_a_new_seed_adds_runs_and_changes_none(tmp_path):
    before, after = _plan(tmp_path), _plan(tmp_path, seeds=[0, 1, 2])
    changed = _changed(before, after)
    assert changed == {"scores", "claims", "tables", "report", *FIGURES}
    assert len(set(after) - set(before)) == 6


def test_arms_add_runs_and_change_no_other(tmp_path):
    """So a study without them keeps the names of its runs."""
    native = TINY["regimes"][0]
    arms = [{"policy": "down_up", "side": 84, "native": native},
            {"policy": "equal_flops", "low": {"side": 84}, "native": native}]
    before, after = _plan(tmp_path), _plan(tmp_path, regimes=TINY["regimes"] + arms)
    assert _changed(before, after) == {"scores", "claims", "tables", "report", *FIGURES}
    added = {f"{stage}-{arm}-s{seed}" for stage in ("train", "evaluate") for arm in ("down_up-84", "equal_flops-84")
             for seed in (0, 1)}
    assert set(after) - set(before) == added
    views = {name: [view["policy"] for view in job.parameters["controls"]] for name, job in after.items()
             if job.stage == "evaluate"}
    assert views["evaluate-native-s0"] == ["down_up", "blind", "shuffled"]
    assert views["evaluate-down_up-84-s0"] == ["down_up"]  # its own view
    assert views["evaluate-equal_flops-84-s0"] == views["evaluate-mixed-s0"] == []


def test_a_regime_of_the_controls_sees_its_own_view_once(tmp_path):
    native = TINY["regimes"][0]
    down_up = {"policy": "down_up", "side": 84, "native": native}
    jobs = _plan(tmp_path, regimes=TINY["regimes"] + [down_up], controls=TINY["controls"] | {"of": "down_up-84"})
    assert [view["policy"] for view in jobs["evaluate-down_up-84-s0"].parameters["controls"]] == [
        "down_up", "blind", "shuffled"]


def test_the_learning_rate_changes_training_and_what_follows_only(tmp_path):
    after = _plan(tmp_path, training=TINY["training"] | {"learning_rate": 0.9})
    changed = _changed(_plan(tmp_path), after)
    trained = {name for name in after if name.startswith(("train-", "evaluate-"))} - {"evaluate-base-s0"}
    assert changed == {*trained, "scores", "claims", "tables", "report", *FIGURES}


def _several(tmp_path, **changes):
    content = {name: value for name, value in TINY.items() if name != "model"}
    models = [{"label": "small"}, {"label": "other", "id": "some/where", "family": "qwen3_vl"}]
    return params.parse(content | {"root": str(tmp_path), "models": models} | changes)


def test_several_models_share_the_data_and_nothing_else(tmp_path):
    study = _several(tmp_path)
    jobs = {job.name: job for job in plan.plan(study)}
    alone = _plan(tmp_path)
    assert len(jobs) == 2 * len(alone) - 3 + 1  # two of data, one of leakage; one that compares the models
    assert jobs["data-phantom"].identity == alone["data-phantom"].identity
    small, job = plan.find(study, "train-small-native-s0")
    other, _ = plan.find(study, "claims-other")
    assert (small.model.id, other.model.id) == ("base", "some/where")
    assert [one.figures.name for one in study.each()] == ["small", "other"] and small.figures != study.figures
    assert jobs["evaluate-other-mixed-s1"].needs == ("data-phantom", "data-atlas", "train-other-mixed-s1")
    assert {one.name for one in plan.plan(small)} < set(jobs) and job == jobs["train-small-native-s0"]


def test_several_models_need_names(tmp_path):
    with pytest.raises(ParamsError, match="needs its own label, got \\['a', 'a'\\]"):
        _several(tmp_path, models=[{"label": "a"}, {"label": "a", "id": "b"}])
    with pytest.raises(ParamsError, match="needs its own label, got \\[None\\]"):
        _several(tmp_path, models=[{"id": "b"}])
    with pytest.raises(ParamsError, match="one `model` or several `models`"):
        _several(tmp_path, model={"id": "base"})


def test_more_resamples_never_retrain(tmp_path):
    after = _plan(tmp_path, intervals={"confidence": 0.95, "resamples": 51, "seed": 0})
    assert _changed(_plan(tmp_path), after) == {"claims", "tables", "report", *FIGURES}


def test_the_order_of_the_data_sets_counts(tmp_path):
    """Claims of the first data set have plain names, and a training reads the data sets in that order."""
    changed = _changed(_plan(tmp_path), _plan(tmp_path, datasets=TINY["datasets"][::-1]))
    assert {"train-native-s0", "claims", "report"} <= changed and "data-phantom" not in changed


def test_every_file_of_a_models_folder_counts(tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(paths.BASE, folder)
    before = _plan(tmp_path, model={"id": str(folder)})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"anything": 1}))
    changed = _changed(before, _plan(tmp_path, model={"id": str(folder)}))
    assert "base" in changed and "train-native-s0" in changed and "data-phantom" not in changed


def test_allowing_a_leak_retrains_nothing_and_the_check_precedes_every_model(tmp_path):
    before = _plan(tmp_path)
    after = _plan(tmp_path, leakage={"allow": [{"evaluated": "atlas", "reason": "crops of one slide"}]})
    assert _changed(before, after) == {"leakage", "claims", "tables", "report", *FIGURES}
    assert all("leakage" in job.needs for job in before.values() if job.stage == "train")
    assert "leakage" in before["evaluate-base-s0"].needs


def test_the_root_is_not_part_of_the_identity(tmp_path):
    assert not _changed(_plan(tmp_path / "a"), _plan(tmp_path / "b"))


def test_library_code_counts_by_stage(tmp_path, monkeypatch):
    before = _plan(tmp_path)
    for stage, kept in (
        ("tables", {"data", "train", "evaluate", "scores", "claims", "figure"}),
        ("scores", {"data", "train"}),
    ):
        monkeypatch.setattr(
            identity,
            "stage_code",
            lambda of, *own, stage=stage, real=identity.stage_code: "new" if of == stage else real(of, *own),
        )
        changed = {before[name].stage for name in _changed(before, _plan(tmp_path))}
        assert stage in changed and not changed & kept
        monkeypatch.undo()


def test_the_figures_in_reading_order_are_all_files_of_figures():
    files = (paths.PACKAGE / "report" / "figures").glob("[a-z]*.py")
    modules = {file.stem for file in files if hasattr(_module(file), "draw")}
    assert {stages.module(name) for name in figures.REGISTRY} == modules


def _module(file):
    return importlib.import_module(f"medstudy.report.figures.{file.stem}")


def test_every_library_file_that_a_stage_names_exists():
    for patterns in identity.SOURCES.values():
        for pattern in patterns:
            assert list(paths.PACKAGE.glob(pattern)), pattern


def test_an_unknown_run_and_a_missing_upstream_are_explained(tmp_path):
    study = params.parse(TINY | {"root": str(tmp_path)})
    with pytest.raises(ParamsError, match="is one of data-phantom"):
        plan.job(study, "train-native-s9")
    with pytest.raises(RunError, match="needs train-native-s0, which is not complete"):
        plan.job(study, "evaluate-native-s0").inputs("train")

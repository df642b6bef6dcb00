"""The notebooks of notebooks/explore/: executed before any study was run, and the front door on a tiny study."""

from __future__ import annotations

import json

import matplotlib
import nbformat
import numpy as np
import pytest

from medstudy import params, paths
from medstudy.errors import ParamsError
from medstudy.runs import plan
from medstudy.workflow import explore
from tests.support.studies import words_on_stderr, write_study

FOLDER = paths.NOTEBOOKS / "explore"


def run(name: str, **parameters) -> dict:
    """The names that a notebook defines, after its cells were executed in this process with these parameters."""
    matplotlib.use("agg")
    names: dict = {}
    for cell in nbformat.read(FOLDER / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type == "code":
            exec(cell.source, names)
            if "parameters" in cell.metadata.get("tags", ()):
                names |= parameters
    matplotlib.pyplot.close("all")
    return names


@pytest.fixture
def study(tmp_path):
    """A tiny study without any run."""
    return str(write_study(tmp_path))


def test_resolution_shows_fewer_tokens_and_operations_at_a_lower_rung(study, tmp_path):
    names = run("resolution", study=study, image=1)
    assert names["costs"].index.tolist() == ["fixed-84", "native"]
    assert names["costs"]["visual tokens"].is_monotonic_increasing and names["costs"]["GFLOPs"].is_monotonic_increasing
    assert names["answers"].shape == (len(names["example"].questions), 2)
    assert not (tmp_path / "runs").exists() and not (tmp_path / "figures").exists()


def test_resolution_says_what_to_run_for_a_trained_model(study, capsys):
    settings = params.load(study)
    family = explore.model(settings, "native")
    assert "--only train-native-s0" in capsys.readouterr().out and family.revision
    with pytest.raises(ParamsError, match="is one of"):
        explore.model(settings, "nativ")
    elsewhere = settings.model_copy(update={"model": params.Model(id="nobody/no-such-model")})
    assert explore.model(elsewhere, "base").revision == family.revision
    assert "no-such-model are not on this machine" in capsys.readouterr().out


def test_resolution_takes_the_checkpoint_that_was_trained(study, monkeypatch, tmp_path):
    settings = params.load(study)
    job = plan.job(settings, "train-native-s0")
    job.dir.mkdir(parents=True)
    job.record.write_text(json.dumps({"files": {}}))
    loaded = []
    monkeypatch.setattr(explore.models, "load", lambda model, checkpoint=None, shown=(): loaded.append(checkpoint))
    explore.model(settings, "native")
    assert loaded == [job.dir / "checkpoint"]


def test_shared_prefix_gives_the_same_loss_and_a_wrong_mask_another(study):
    names = run("shared_prefix", study=study, image=3)
    assert names["together"] == pytest.approx(sum(names["alone"]), rel=1e-5)
    assert abs(names["wrong"] - names["together"]) > 0.05
    assert len(names["times"]) == 2
    work = names["work"]
    assert (work.loc[1] == 1).all() and (work.loc[20] > work.loc[5]).all() and work.loc[10].is_monotonic_increasing


def test_intervals_that_know_their_clusters_cover_and_the_naive_one_does_not(study):
    names = run("intervals", study=study, repeats=120, images=60)
    naive = np.abs(names["means"] - names["TRUTH"]) <= 1.96 * np.sqrt(0.25 / names["scores"][0].size)
    both = np.mean([interval.low <= names["TRUTH"] <= interval.high for interval in names["both"]])
    assert naive.mean() < 0.8 and both > 0.9
    assert "no scores yet" in explore.widths(names["study"])


def test_coverage_states_its_own_error():
    table = explore.coverage({"half": np.array([True, False] * 50), "all": np.ones(100, bool)})
    assert table.loc["half"].tolist() == [50, 5] and table.loc["all"].tolist() == [100, 0]


@pytest.mark.slow
def test_the_front_door_runs_the_study_and_shows_it_and_the_others_follow(study, tmp_path):
    """By papermill, in kernels of their own, from a folder that is not the repository's."""
    from papermill import execute_notebook

    for name in ("study", "resolution", "shared_prefix", "intervals"):
        target = tmp_path / f"{name}.ipynb"
        parameters = {"study": study} | ({"regime": "native"} if name == "resolution" else {})
        execute_notebook(FOLDER / f"{name}.ipynb", target, parameters, cwd=tmp_path, kernel_name="python3",
                         progress_bar=False)
        assert words_on_stderr(target) == []
        assert "image/png" in target.read_text()
    assert all(job.done for job in plan.plan(params.load(study)))
    assert "The answers are those of train-native-s0-" in (tmp_path / "resolution.ipynb").read_text()
    assert "independent images" in (tmp_path / "intervals.ipynb").read_text()

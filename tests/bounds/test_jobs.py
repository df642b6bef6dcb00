"""The jobs on a small phantom, and what the report makes of their results."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest
import yaml

from medstudy import params, paths
from medstudy.bounds import jobs, ladder, readings, results
from medstudy.datasets.build import build
from medstudy.errors import DataError, ParamsError
from medstudy.report import figures, probe_page, tables
from medstudy.resolution.policies import Fixed, Mixed, Native
from medstudy.resolution.sizes import Geometry
from medstudy.runs import plan
from tests.support import scored_study

PROBE = yaml.safe_load((paths.ROOT / "params" / "probe-tiny.yaml").read_text())
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
DATA = [{"name": "phantom", "train": 24, "val": 8, "test": 16, "seed": 1, "families": ["cytology"]}]


def made(content: dict, stage: str):
    """The study and the job, whose data are built."""
    study = params.parse(content)
    planned = plan.plan(study)
    for job in planned:
        if job.stage == "data":
            build(study.datasets[0], job.dir)
            job.record.write_text("{}")
    (job,) = (job for job in planned if job.stage == stage)
    job.dir.mkdir(parents=True)
    return study, job


@pytest.fixture(scope="module")
def bounded(tmp_path_factory):
    """The results of the job `bounds`."""
    root = tmp_path_factory.mktemp("bounds")
    study, job = made(TINY | {"datasets": DATA, "root": str(root)}, "bounds")
    jobs.bounds(study, job, progress=False)
    return results.read([job.dir])


def test_each_reader_answers_each_question_once_at_each_rung(bounded):
    answers = bounded.answers
    read = answers[answers["reader"] != results.GUESS]
    assert set(answers["reader"]) == {"tower", "pixels", "guess"} and (read["regime"] == read["inference"]).all()
    counts = answers.groupby(["reader", "inference"])["question_id"].size()
    assert counts.nunique() == 1 and len(counts) == 5
    assert not answers.duplicated(["reader", "inference", "image_id", "question_id"]).any()
    assert set(bounded.marks["task"]) == set(answers["task"])


def test_what_any_eye_sees_is_read(bounded):
    """The color of the cytoplasm fills the image: both readers know it at both rungs, and guessing does not."""
    color = bounded.answers[bounded.answers["task"] == "cytoplasm color"]
    share = color.groupby(["reader", "inference"])["score"].mean()
    assert share.drop("guess", level=0).min() > 0.8 > share["guess"].max()


def test_figure_and_table_show_bounds_beside_the_models(bounded, tmp_path):
    scored = scored_study.study()
    tasks = scored.scores.loc[scored.scores["dataset"] == "phantom", "task"].unique()
    answers = bounded.answers[bounded.answers["task"] == "nucleolus"].assign(task=tasks[0])
    marks = bounded.marks[bounded.marks["task"] == "nucleolus"].assign(task=tasks[0])
    left = pd.DataFrame([{"dataset": "phantom", "task": tasks[1], "kind": "open", "n_questions": 3, "why": "rare"}])
    data = replace(scored, bounds=results.Results(answers, marks, left))
    figure = figures.render(next(name for name in figures.REGISTRY if name.endswith("_bounds")), data, tmp_path)
    cells = pd.read_csv(figure.files[2])
    assert set(cells["reader"]) == {"model", "tower", "pixels"}
    assert f"in the table of bounds: {tasks[1]} (phantom)" in figure.caption
    own = scored.scores.query("dataset == 'phantom' and split == 'test' and control == 'none'")
    own = own[(own["task"] == tasks[0]) & (own["regime"] == "native") & (own["inference"] == "native")]
    model = cells[(cells["reader"] == "model") & (cells["end"] == "native")]
    assert model["estimate"].iloc[0] == pytest.approx(own["score"].mean(), rel=1e-4)
    table = tables.REGISTRY[next(name for name in tables.REGISTRY if name.endswith("_bounds"))].build(data)
    assert table["mark"].tolist() == [marks["mark"].iloc[0], "not bounded: rare"]
    assert table["tower_native_pct"].iloc[0] == pytest.approx(
        100 * answers.query("reader == 'tower' and inference == 'native'")["score"].mean())


def test_a_study_without_bounds_says_so(tmp_path):
    name = next(name for name in figures.REGISTRY if name.endswith("_bounds"))
    assert "no rows" in figures.render(name, scored_study.study(), tmp_path).missing
    study = params.parse(TINY | {"bounds": None, "root": str(tmp_path)})
    assert not [job for job in plan.plan(study) if job.stage == "bounds"]


def test_the_probe_writes_a_figure_a_table_and_a_page(tmp_path):
    study, job = made(PROBE | {"datasets": DATA, "root": str(tmp_path)}, "probe")
    answers = jobs.probe(study, job, progress=False)
    read = answers[answers["reader"] == results.TOWER]
    assert set(zip(read["regime"], read["inference"], strict=True)) == {
        (regime, rung) for regime in ("native", "fixed-84", "mixed") for rung in ("native", "fixed-84")}
    probe_page.publish(study, job)
    table = pd.read_csv(study.figures / "tasks.csv")
    color = table[(table["task"] == "cytoplasm color") & (table["regime"] == "native")].iloc[0]
    aligned = read.query("task == 'cytoplasm color' and regime == 'native' and inference == 'native'")
    assert color["native_pct"] == pytest.approx(100 * aligned["score"].mean(), rel=1e-4)
    assert color["native_pct_low"] <= color["native_pct"] <= color["native_pct_high"]
    assert (study.figures / "resolution.png").is_file() and "## Tasks" in (study.figures / "README.md").read_text()


def test_a_probe_of_data_without_finite_answers_says_why(tmp_path):
    study, job = made(PROBE | {"datasets": DATA, "root": str(tmp_path), "probe": {"least": 1000}}, "probe")
    with pytest.raises(DataError, match="fewer than 1000 times"):
        jobs.probe(study, job, progress=False)


def test_a_study_is_trained_or_probed_and_plain_encoders_are_probed():
    with pytest.raises(ParamsError, match="either `training` or"):
        params.parse(PROBE | {"training": TINY["training"]})
    with pytest.raises(ParamsError, match="either `training` or"):
        params.parse({name: value for name, value in TINY.items() if name != "training"})
    with pytest.raises(ParamsError, match="needs `probe`, not `training`"):
        params.parse(TINY | {"model": {"id": "some/where", "family": "vision"}})


def test_views_of_training_images():
    example = type("Example", (), {"image": type("Image", (), {"height": 60, "width": 90}), "dataset": "d",
                                   "image_id": "i"})
    geometry, native = Geometry(28, 28**2), Native(max_pixels=10**6)
    mixed = Mixed(choices=(Fixed(side=28), Fixed(side=56), native), weights=(1.0, 1.0, 2.0))
    labels = {view.label for view in readings.train_views(mixed, example, geometry, draws=30)}
    assert labels == {"fixed-28", "fixed-56", "native"}
    assert [view.label for view in readings.train_views(native, example, geometry)] == ["native"]


def test_the_low_regime_is_read_even_if_it_is_no_rung():
    inference = [rung for rung in TINY["inference"] if rung["policy"] == "native"]
    study = params.parse(TINY | {"inference": inference})
    assert [rung.label for rung in ladder.rungs(study)] == ["fixed-84", "native"]
    assert ladder.ends(study) == ("native", "fixed-84")

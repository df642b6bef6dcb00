"""A study without regimes, of the shipped base, the same behind a server on the loopback interface, and an encoder.

It ends in reports with claims, figures and costs, offline.
"""

from __future__ import annotations

import pandas as pd
import pytest
import yaml

pytest.importorskip("openai", reason="the extra `server` is not installed")

from medstudy import params, paths
from medstudy.report import study_data
from medstudy.report.pages.verify import verify
from medstudy.runs import inputs, plan
from medstudy.workflow import status
from tests.support import contrastive
from tests.support.base_server import BaseServer
from tests.support.studies import medstudy, words_on_stderr

pytestmark = pytest.mark.slow
NATIVE = {"policy": "native", "max_pixels": 78400}
CONTROLS = {"views": [{"policy": "down_up", "side": 84, "native": {"max_pixels": 78400}}, {"policy": "blind"},
                      {"policy": "shuffled", "native": {"max_pixels": 78400}}]}
LABELS = {"shipped", "served", "encoder"}
PAIR = {"*": {"if_yes": ["{question} yes"], "if_no": ["{question} no"]}}
NEEDS_TRAINING = ("03_native_vs_fixed", "07_training_cost", "12_learning_curves", "15_gain_in_parts")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The study after `medstudy run`; its data have test images alone."""
    root = tmp_path_factory.mktemp("as-they-are")
    contrastive.clip(root / "model")
    content = {
        "study": "as-they-are", "root": str(root), "regimes": [], "low": "fixed-84", "controls": CONTROLS,
        "datasets": [{"name": "phantom", "train": 0, "val": 0, "test": 12, "seed": 1}],
        "models": [
            {"label": "shipped", "trained_on": {"side": 280, "source": "its page"}},
            {"label": "served", "id": "base", "family": "openai"},
            {"label": "encoder", "id": "model", "family": "clip", "clip": {"yes_no": PAIR}},
        ],
        "inference": [{"policy": "fixed", "side": 84}, NATIVE],
        "evaluation": {"max_new_tokens": 4}, "intervals": {"resamples": 50},
    }
    file = root / "study.yaml"
    with BaseServer() as server:
        content["models"][1]["server"] = {"base_url": server.url, "factor": 28, "max_requests": 1000}
        file.write_text(yaml.safe_dump(content))
        done = medstudy("run", file, "--offline")
    assert done.returncode == 0, done.stdout + done.stderr
    return params.load(file), file, done.stdout


def test_every_model_has_claims_and_those_without_training_have_intervals(finished):
    study, _, said = finished
    for one in study.each():
        claims = pd.read_csv(one.figures / "claims.csv").set_index("id")
        needing = claims[claims["why"].str.startswith("Not run: needs training")]
        assert list(needing.index) == ["C1", "C1b", "C3", "C3b", "O4", "O5", "O8", "O9", "O10"]
        asked = claims.loc[["O1", "O2", "O3", "O6", "O7", "I1", "I2", "I3"]]
        assert asked[["estimate", "low", "high"]].notna().all(axis=None)
        assert asked["why"].str.contains("for this one model").all()
    assert said.count("I1 ") >= 3
    known, unknown, _ = (pd.read_csv(one.figures / "claims.csv").set_index("id") for one in study.each())
    assert known.loc["C2", "verdict"] != "not run" and "its page: 280² pixels" in known.loc["C2", "why"]
    assert "neither its stamp nor" in unknown.loc["C2", "why"]


def test_the_served_base_answers_as_the_shipped_one(finished):
    study, _, _ = finished
    key, rows = ["inference", "image_id", "question_id"], {}
    for one in study.each()[:2]:
        (job,) = inputs.by_stage(one)["evaluate"]
        rows[one.model.label] = pd.read_parquet(job.dir / "predictions.parquet").set_index(key)["raw_text"].sort_index()
    assert rows["served"].equals(rows["shipped"]) and rows["served"].nunique() > 3


def test_what_needs_training_is_listed_and_the_rest_is_drawn(finished):
    study, _, _ = finished
    for one in study.each():
        drawn = {file.stem for file in one.figures.glob("*.png")}
        assert {"02_what_models_see", "06_resolution_curves", "13_controls", "17_score_and_cost"} <= drawn
        assert not drawn & set(NEEDS_TRAINING[1:])
        page = (one.figures / "README.md").read_text()
        assert "Training: the study has no regimes." in page and "nothing is trained" in page
        assert "it needs training, and the study has no regimes" in (one.figures / "report.html").read_text()


def test_costs_are_kept_for_each_question_and_compared_over_models_and_rungs(finished):
    study, _, _ = finished
    for one in study.each():
        job = inputs.by_stage(one)["evaluate"][0]
        costs, rows = pd.read_parquet(job.dir / study_data.COSTS), pd.read_parquet(job.dir / "predictions.parquet")
        shown = costs[costs["control"] == "none"]
        assert len(costs) == len(rows) and (shown["seconds"] > 0).all()
        assert (shown["flops"] > 0).all() or one.model.label == "served" and shown["flops"].isna().all()
    figure = pd.read_csv(study.compared / "score_and_cost.csv")
    assert set(zip(figure["series"], figure["inference"], strict=True)) == {
        (label, rung) for label in LABELS for rung in ("fixed-84", "native")}
    assert figure["n_questions"].nunique() == 1  # those that all models answer
    assert set(figure["cost"]) == {"flops", "seconds", "tokens"} and figure["front"].any()
    shipped = figure[(figure["series"] == "shipped") & (figure["cost"] == "flops")].set_index("inference")["spent"]
    assert shipped["native"] > 2 * shipped["fixed-84"]
    claims = pd.read_csv(study.compared / "claims_table.csv").set_index("id")
    assert LABELS < set(claims) and (claims.loc["C3", sorted(LABELS)] == "not run").all()
    page = (study.compared / "README.md").read_text()
    assert "that every model answers are compared" in page and "Operations are unknown for served" in page
    assert "score_and_cost.png" in page and (study.compared / "score_and_cost.png").is_file()


def test_no_notebook_warns_and_none_has_a_local_path(finished):
    study, _, _ = finished
    for job in plan.plan(study):
        assert words_on_stderr(job.dir / "notebook.ipynb") == [], job.name
        assert f"{paths.ROOT}/" not in (job.dir / "notebook.ipynb").read_text()


def test_the_other_commands_work_with_it(finished):
    study, file, _ = finished
    assert verify(study) > 100
    assert (status.table(study)["state"] == "done").all()
    estimate = medstudy("estimate", file, "--tflops", "1")
    assert estimate.returncode == 0 and "0 of" in estimate.stdout, estimate.stderr
    again = medstudy("run", file)
    assert again.returncode == 0 and "jobs are done" in again.stdout

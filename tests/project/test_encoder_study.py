"""A whole study of a contrastive encoder, without training: from the data to the report."""

import json

import nbformat
import pandas as pd
import pytest
import yaml

from medstudy import paths
from tests.support import contrastive
from tests.support.studies import medstudy

STUDY = {
    "study": "encoder",
    "datasets": [{"name": "phantom", "train": 4, "val": 2, "test": 24, "seed": 1}],
    "regimes": [],
    "inference": [{"policy": "fixed", "side": 84}, {"policy": "native", "max_pixels": 50176}],
    "controls": {"views": [{"policy": "down_up", "side": 84, "native": {"max_pixels": 50176}}, {"policy": "blind"},
                           {"policy": "shuffled", "native": {"max_pixels": 50176}}]},
    "evaluation": {"option_likelihoods": True},
    "intervals": {"resamples": 50},
}
PAIR = {"*": {"if_yes": ["{question} yes"], "if_no": ["{question} no"]}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    root = tmp_path_factory.mktemp("encoder")
    contrastive.clip(root / "model")
    model = {"id": "model", "family": "clip", "clip": {"yes_no": PAIR}}
    (root / "study.yaml").write_text(yaml.safe_dump(STUDY | {"model": model, "root": str(root)}))
    run = medstudy("run", root / "study.yaml", "--offline")
    assert run.returncode == 0, run.stderr + run.stdout
    return root


def folder(root, stage):
    (found,) = (root / "runs").glob(f"{stage}-*")
    return found


@pytest.mark.slow
def test_it_ends_in_a_report(done):
    page = (done / "figures" / "encoder" / "README.md").read_text()
    assert "native" in page and (folder(done, "report") / paths.RECORD).is_file()
    scores = pd.read_parquet(folder(done, "scores") / "scores.parquet")
    assert set(scores["kind"]) == {"closed", "class"} and scores["score"].between(0, 1).all()
    assert set(scores["control"]) == {"none", "down_up", "blind", "shuffled"}
    claims = pd.read_csv(next((done / "figures" / "encoder").rglob("claims.csv")))
    assert len(claims)
    (table,) = (done / "figures" / "encoder").rglob("*_retrieval.csv")
    assert {"recall_at_1_pct", "mean_rank", "candidates"} <= set(pd.read_csv(table))


@pytest.mark.slow
def test_what_was_left_out_is_in_the_record_and_the_notebook(done):
    evaluation = folder(done, "evaluate-base-s0")
    counts = pd.read_csv(evaluation / "left_out.csv").set_index("kind")
    questions = pd.read_parquet(folder(done, "data-phantom") / "questions.parquet").query("split == 'test'")
    asked = questions["kind"].value_counts()
    assert counts["left_out"].to_dict() == {kind: asked[kind] for kind in ("description", "open")}
    files = json.loads((evaluation / paths.RECORD).read_text())["files"]
    assert any(name.endswith("left_out.csv") for name in files)
    cells = nbformat.read(evaluation / "notebook.ipynb", as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert f"cannot answer {counts['left_out'].sum()} of the questions" in said

"""A study of a contrastive encoder, without training: from the data to the tables, with what it cannot answer."""

import json

import nbformat
import pandas as pd
import pytest
import yaml

from medstudy import params, paths
from medstudy.report.study_data import study_data
from tests.support import contrastive
from tests.support.studies import medstudy

pytestmark = pytest.mark.slow
NATIVE = {"policy": "native", "max_pixels": 50176}
STUDY = {
    "study": "encoder",
    "datasets": [{"name": "phantom", "train": 4, "val": 2, "test": 24, "seed": 1}],
    "regimes": [],
    "inference": [{"policy": "fixed", "side": 84}, NATIVE],
    "controls": {"views": [{"policy": "blind"}, {"policy": "shuffled", "native": {"max_pixels": 50176}}]},
    "evaluation": {"option_likelihoods": True},
    "intervals": {"resamples": 50},
}
PAIR = {"*": {"if_yes": ["{question} yes"], "if_no": ["{question} no"]}}


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """The study, its tables made, and where it is."""
    root = tmp_path_factory.mktemp("encoder")
    contrastive.clip(root / "model")
    model = {"id": "model", "family": "clip", "clip": {"yes_no": PAIR}}
    file = root / "study.yaml"
    file.write_text(yaml.safe_dump(STUDY | {"model": model, "root": str(root)}))
    run = medstudy("run", file, "--offline", "--only", "tables")
    assert run.returncode == 0, run.stderr + run.stdout
    return params.load(file), root


def folder(root, stage):
    (found,) = (root / "runs").glob(f"{stage}-*")
    return found


def test_questions_with_texts_are_scored_and_captions_retrieved(done):
    _, root = done
    scores = pd.read_parquet(folder(root, "scores") / "scores.parquet")
    assert set(scores["kind"]) == {"closed", "class"} and scores["score"].between(0, 1).all()
    assert set(scores["control"]) == {"none", "blind", "shuffled"}
    (table,) = folder(root, "tables").rglob("*_retrieval.csv")
    retrieved = pd.read_csv(table)
    assert set(retrieved["inference"]) == {"fixed-84", "native", "blind", "shuffled"}
    assert retrieved[["recall_at_1_pct", "mean_rank_low", "mean_rank_high"]].notna().all(axis=None)


def test_what_was_left_out_is_in_the_record_the_notebook_and_the_report(done):
    study, root = done
    evaluation = folder(root, "evaluate-base-s0")
    counts = pd.read_csv(evaluation / "left_out.csv").set_index("kind")
    questions = pd.read_parquet(folder(root, "data-phantom") / "questions.parquet").query("split == 'test'")
    asked = questions["kind"].value_counts()
    assert counts["left_out"].to_dict() == {kind: asked[kind] for kind in ("description", "open")}
    files = json.loads((evaluation / paths.RECORD).read_text())["files"]
    assert any(name.endswith("left_out.csv") for name in files)
    cells = nbformat.read(evaluation / "notebook.ipynb", as_version=4).cells
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    assert f"cannot answer {counts['left_out'].sum()} of the questions" in said
    listed = study_data(study).study["not_run"]
    assert any(f"{asked['open']} open questions of phantom: the model cannot answer them" in line for line in listed)

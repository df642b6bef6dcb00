"""All public data sets through the whole chain, from tiny fixtures in the formats of their sources."""

import pandas as pd
import pytest

from medstudy import datasets
from medstudy.data import references
from medstudy.data.example import SPLITS
from medstudy.errors import DataError
from medstudy.runs import identity
from medstudy.scoring import score
from tests.support import chain, data_sets

STANDARD = ("strict", "exact", "strict_precision", "strict_recall", "strict_f1", "strict_cell_line",
            "strict_localization_f1")
AUTHORS = {"closed", "open", "choice", "class", "description"}  # the kinds that the author has metrics for
SHOWN = {"height": 60, "width": 80, "shown_height": 60, "shown_width": 80, "coordinates": "shown_pixels"}  # natively
PUBLIC = {name for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")}


@pytest.fixture(params=data_sets.MAKERS)
def params(request, tmp_path):
    return data_sets.MAKERS[request.param](tmp_path / "source")


def test_every_public_data_set_has_a_fixture():
    assert {name.split("-")[0] for name in data_sets.MAKERS} == PUBLIC


def test_the_files_that_a_data_set_names_are_there(params):
    """A study's plan hashes these files."""
    assert identity.files(*datasets.sources(params))


def test_from_load_to_figures(params, tiny_model, tmp_path):
    done = chain.run(params, tiny_model, tmp_path)
    splits = {split: len(examples) for split, examples in done.examples.items()}
    assert splits["test"] and bool(splits["train"]) == bool(splits["val"])
    if splits["train"]:
        assert done.training["loss"].gt(0).all() and done.training.groupby("regime")["val_loss"].last().notna().all()
    asked = sum(len(one.questions) for one in done.examples["test"])
    runs = done.scores.groupby(["regime", "inference"]).size()
    assert len(runs) == (4 if splits["train"] else 2) and (runs == asked).all()
    assert done.scores["score"].between(0, 1).all() and set(done.scores["dataset"]) == {datasets.label(params)}
    for one in done.drawn:
        if one.name == "04_author_scores" and not set(done.scores["kind"]) & AUTHORS:
            assert one.missing
        else:
            assert any(datasets.label(params) in file.read_text() for file in one.files if _text(file)), one.missing


def _text(file):
    return file.suffix in (".csv", ".md")


def test_the_reference_itself_scores_full_marks(params):
    """The scores accept the answers of the source, for all kinds and splits."""
    rows = [
        vars(question) | {"dataset": one.dataset, "image_id": one.image_id, "question_id": question.id}
        for split in SPLITS
        for one in datasets.load(params, split)
        for question in one.questions
    ]
    frame = pd.DataFrame(rows).astype({"detail_px": float}).assign(**SHOWN)
    scores = score.score(frame.assign(raw_text=frame["answer"], frame=[[0.0, 0.0, 80.0, 60.0]] * len(frame)))
    assert (scores[["score", "strict"]] == 1).all(axis=None)
    assert (scores.loc[scores["kind"].isin(AUTHORS), "author"] == 1).all()
    assert (scores[[*STANDARD]].stack().dropna() == 1).all() and references.check(frame).empty


def test_splits_share_no_image_and_keep_their_order(params):
    found = {split: list(datasets.load(params, split)) for split in SPLITS}
    ids = {split: [one.image_id for one in examples] for split, examples in found.items()}
    assert len({name for names in ids.values() for name in names}) == sum(map(len, ids.values()))
    assert all(ids[split] == [one.image_id for one in datasets.load(params, split)] for split in SPLITS)
    assert all(one.split == split and one.dataset == params.name for split in SPLITS for one in found[split])
    capped = list(datasets.load(params.model_copy(update={"test": 1}), "test"))
    assert len(capped) == 1 and capped[0].image_id in ids["test"]


def test_a_card_and_a_folder_without_the_files(params, tmp_path):
    card = datasets.card(params)
    assert card.url.startswith("https://") and card.license and card.schema_from
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        list(datasets.load(params.model_copy(update={"path": str(tmp_path / "empty")}), "test"))

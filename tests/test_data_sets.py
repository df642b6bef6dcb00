"""Every public data set through the whole chain, from a tiny fixture in its source's own format."""

import pytest

from medstudy import datasets, scoring
from medstudy.errors import DataError
from tests import chain, data_sets

PUBLIC = [name for name, module in datasets.REGISTRY.items() if hasattr(module, "CARD")]


def test_every_public_data_set_has_a_fixture():
    assert sorted(data_sets.MAKERS) == sorted(PUBLIC)


@pytest.mark.parametrize("name", data_sets.MAKERS)
def test_from_load_to_figures(name, tiny_model, tmp_path):
    params = data_sets.MAKERS[name](tmp_path / "source")
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
        assert not one.missing and any(datasets.label(params) in file.read_text() for file in one.files[-2:])


@pytest.mark.parametrize("name", data_sets.MAKERS)
def test_the_reference_itself_scores_full_marks(name, tmp_path):
    """What a source calls its answer is one that the scores accept, of every kind and split."""
    params = data_sets.MAKERS[name](tmp_path)
    rows = [
        vars(question) | {"dataset": one.dataset, "image_id": one.image_id, "question_id": question.id}
        for split in ("train", "val", "test")
        for one in datasets.load(params, split)
        for question in one.questions
    ]
    frame = scoring.pd.DataFrame(rows).assign(raw_text=[row["answer"] for row in rows]).astype({"detail_px": float})
    scores = scoring.score(frame)
    assert (scores[["score", "author", "strict"]] == 1).all(axis=None)


@pytest.mark.parametrize("name", data_sets.MAKERS)
def test_cards_and_what_is_not_there(name, tmp_path):
    params = data_sets.MAKERS[name](tmp_path / "source")
    card = datasets.card(params)
    assert card.url.startswith("https://") and card.license and card.schema_from
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        list(datasets.load(params.model_copy(update={"path": str(tmp_path / "empty")}), "test"))

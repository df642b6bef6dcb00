"""VQA-RAD from a folder in the hub's layout: columns, kinds, grouping by image, validation share, caps."""

import pytest
from datasets import Features, Image, Value

from medstudy import datasets
from medstudy.datasets.paper import vqa_rad
from medstudy.errors import DataError
from tests.support import hub

FEATURES = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})


def rows(images, questions=2, first=0):
    return [
        {"image": hub.encoded(first + i), "question": f"is {q} there?", "answer": ["Yes", "left lung"][q % 2]}
        for q in range(questions)
        for i in range(images)
    ]


@pytest.fixture
def params(tmp_path):
    folder = hub.repository(tmp_path, {"train": rows(12), "test": rows(3, first=10)}, FEATURES)
    return vqa_rad.Params(path=str(folder), val_share=0.3)


def test_an_image_has_all_its_questions_and_validation_shares_no_image(params):
    found = {split: list(datasets.load(params, split)) for split in ("train", "val", "test")}
    assert sum(map(len, (found["train"], found["val"]))) == 12 and found["val"] and len(found["test"]) == 3
    assert not {one.group for one in found["train"]} & {one.group for one in found["val"]}
    first = found["train"][0]
    assert [(q.kind, q.answer) for q in first.questions] == [("closed", "Yes"), ("open", "left lung")]
    assert (first.image.height, first.image.width) == (60, 80)
    ids = [one.id for part in found["train"] for one in part.questions]
    assert len(set(ids)) == len(ids)


def test_other_columns_are_named(tmp_path):
    other = Features({"image": Image(), "query": Value("string"), "answer": Value("string")})
    made = [{"image": hub.encoded(0), "query": "a?", "answer": "b"}]
    folder = hub.repository(tmp_path, {"train": made, "test": made}, other)
    with pytest.raises(DataError, match="Missing: question: its text"):
        list(datasets.load(vqa_rad.Params(path=str(folder)), "test"))


def test_two_folders_with_one_name_have_different_versions(tmp_path):
    for place, images in (("a", 2), ("b", 5)):
        folder = hub.repository(tmp_path / place / "same", {"train": rows(9), "test": rows(images)}, FEATURES)
        assert len(list(datasets.load(vqa_rad.Params(path=str(folder)), "test"))) == images

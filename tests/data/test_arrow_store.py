"""Examples on disk: they are read as written, also by the hub's loader; bad rows stop the build."""

import hashlib
import io
import json
import pickle
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets as hub
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch

from medstudy import datasets, imaging
from medstudy.data import arrow_store
from medstudy.data.encoded_image import Picture
from medstudy.data.example import SPLITS, Shot
from medstudy.datasets.build import build
from medstudy.errors import DataError, ImageError
from tests.conftest import make_example
from tests.support.data_sets import MAKERS


class Made:
    name = "made"


class Lenient(Made):
    on_unreadable = "skip"


def _serve(monkeypatch, splits):
    monkeypatch.setattr(datasets, "load", lambda params, split, processes=1: iter(splits[split]))


def _splits():
    return {split: [make_example(i, (30, 40), split) for i in range(3)] for split in ("train", "val", "test")}


def test_the_commit_of_a_source_stands_with_what_was_made_of_it(tmp_path, monkeypatch):
    from medstudy.data.readers import hub as source

    found = SimpleNamespace(dataset_info=lambda path, revision: SimpleNamespace(sha=f"{path}@{revision}"))
    monkeypatch.setattr(source, "HfApi", lambda: found)
    assert source.commit("some/set", "main") == "some/set@main"
    assert source.commit(str(tmp_path), "main") == "a folder"
    monkeypatch.setattr(source, "HfApi", lambda: SimpleNamespace())  # no network
    assert [source.commit("some/set", revision) for revision in ("abc", None)] == ["abc", "unknown"]
    params = MAKERS["slake"](tmp_path / "slake")
    build(params, tmp_path / "built")
    source_json = json.loads((tmp_path / "built" / "source.json").read_text())
    assert source_json == {"path": Path(params.path).name, "commit": "a folder"}


def test_prompts_of_several_images_are_planned_from_the_table_as_from_the_examples(tmp_path):
    from medstudy.costs.examples import examples_of

    build(MAKERS["smmile"](tmp_path / "source"), tmp_path / "built")
    table = pd.read_parquet(tmp_path / "built" / "questions.parquet")
    planned = {one.image_id: one for one in examples_of(table, "test")}
    built = arrow_store.read(tmp_path / "built", "test")
    assert any(len(one.context) > 1 for one in built) and len(planned) == len(built)
    for one in built:
        seen = [(shot.image.height, shot.image.width, shot.question, shot.answer) for shot in one.context]
        assert [(*shot.image, shot.question, shot.answer) for shot in planned[one.image_id].context] == seen


def test_round_trip(monkeypatch, tmp_path):
    splits = _splits()
    _serve(monkeypatch, splits)
    build(Made(), tmp_path)
    for split, examples in splits.items():
        for wrote, read in zip(examples, arrow_store.read(tmp_path, split), strict=True):
            assert np.array_equal(np.asarray(wrote.image), read.image.pixels())
            assert replace(wrote, image=None) == replace(read, image=None)


def test_the_hubs_own_loader_reads_it(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    build(Made(), tmp_path)
    loaded = hub.load_dataset("arrow", data_files=str(tmp_path / "test.arrow"), cache_dir=str(tmp_path / "cache"))
    row = loaded["train"][0]
    assert row["image"].size == (40, 30)
    assert row["questions"][2]["options"] == ["red", "blue"] and row["context"] == []


def test_the_table_has_a_row_a_question(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    table = build(Made(), tmp_path)
    assert len(table) == 3 * 3 * 3
    assert set(table["height"]) == {30} and set(table["width"]) == {40}
    assert table["detail_px"].isna().sum() == 9


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda s: s.update(test=[]), "test of made is empty"),
        (lambda s: s.update(val=[]), "val of made is empty and train is not"),
        (lambda s: s["test"].append(s["test"][0]), "must be unique"),
        (lambda s: s["test"].append(s["train"][1]), "has the split train"),
        (
            lambda s: s["test"].append(
                replace(s["test"][0], image_id="x", questions=(replace(s["test"][0].questions[0], answer=" "),))
            ),
            "needs a text and an answer",
        ),
        (lambda s: s["test"].append(replace(s["test"][0], image_id="x", questions=())), "image x of made test has no"),
        (
            lambda s: s["test"].append(
                replace(
                    s["test"][0],
                    image_id="x",
                    questions=(replace(s["test"][0].questions[2], options=tuple("abcdefghijk")),),
                )
            ),
            "at most 10 options, .* has 11",
        ),
    ],
    ids=["no test", "train without val", "repeated id", "wrong split", "no answer", "no question", "eleven options"],
)
def test_bad_data_stops_the_build(monkeypatch, tmp_path, break_it, words):
    splits = _splits()
    break_it(splits)
    _serve(monkeypatch, splits)
    with pytest.raises(DataError, match=words):
        build(Made(), tmp_path)


def test_a_damaged_file_names_the_image(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    build(Made(), tmp_path)
    read = arrow_store.read(tmp_path, "test")
    picture = read[1].image
    file, content = picture.file, bytearray(picture.file.read_bytes())
    content[picture.start + 60 : picture.start + picture.length] = bytes(picture.length - 60)
    file.write_bytes(content)
    with pytest.raises(ImageError, match="test-1"):
        picture.pixels()
    file.write_bytes(content[: picture.start + 5])
    with pytest.raises(DataError, match="test-1 of made must be in .* truncated"):
        picture.pixels()
    file.unlink()
    with pytest.raises(DataError, match="test-1 of made must be in .*No such file"):
        picture.pixels()


def test_an_image_without_bytes_is_named(tmp_path):
    row = arrow_store._row(make_example(0, (30, 40))) | {"image": {"bytes": None, "path": "scan.png"}}
    table = pa.Table.from_pylist([row], schema=arrow_store.FEATURES.arrow_schema)
    with pa.OSFile(str(tmp_path / "test.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    with pytest.raises(ImageError, match="train-0 of made must have bytes"):
        arrow_store.read(tmp_path, "test")


def test_an_unreadable_picture_stops_the_build(monkeypatch, tmp_path):
    splits = _splits()
    whole = Picture.of(splits["val"][1].image, "scan")
    splits["val"][1] = replace(splits["val"][1], image=replace(whole, data=whole.data[:-60]))
    _serve(monkeypatch, splits)
    with pytest.raises(ImageError, match="scan"):
        build(Made(), tmp_path)


def test_an_unreadable_picture_may_be_left_out_and_is_listed(monkeypatch, tmp_path):
    splits = _splits()
    broken = Picture(b"no image", "scan")
    splits["train"][1] = replace(splits["train"][1], image=broken)
    splits["test"][0] = replace(splits["test"][0], context=(Shot(broken),))
    _serve(monkeypatch, splits)
    table = build(Lenient(), tmp_path)
    assert [one.image_id for one in arrow_store.read(tmp_path, "train")] == ["train-0", "train-2"]
    assert table["image_id"].nunique() == 7 and not {"train-1", "test-0"} & set(table["image_id"])
    lost = pd.read_csv(tmp_path / "unreadable.csv")
    assert lost[["split", "image_id"]].values.tolist() == [["train", "train-1"], ["test", "test-0"]]
    assert lost["error"].str.contains("scan").all()
    prints = pd.read_parquet(tmp_path / "fingerprints.parquet")
    assert set(prints["image_id"]) == set(table["image_id"])
    splits["test"] = splits["test"][:1]
    with pytest.raises(DataError, match="test of made is empty. 2 rows or images could not be used"):
        build(Lenient(), tmp_path)


def test_a_data_set_may_be_for_evaluation_only(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits() | {"train": [], "val": []})
    table = build(Made(), tmp_path)
    assert set(table["split"]) == {"test"} and table["detail_px"].dtype == float
    assert [len(arrow_store.read(tmp_path, split)) for split in SPLITS] == [0, 0, 3]


def test_context_sets_and_tags_come_back(monkeypatch, tmp_path):
    splits = _splits()
    earlier, plain = (make_example(index, (20, 24 + index)).image for index in (7, 8))
    one = splits["test"][1]
    asked = (replace(one.questions[0], set_id="pair", tags=("department=radiology", "level=2")),)
    context = (Shot(earlier, "Is there a dot?", "no"), Shot(Picture.of(plain, "plain")))
    splits["test"][1] = replace(one, questions=asked, context=context)
    _serve(monkeypatch, splits)
    table = build(Made(), tmp_path)
    read = arrow_store.read(tmp_path, "test")
    assert read[1].questions == asked and [len(other.context) for other in read] == [0, 2, 0]
    first, second = read[1].context
    assert (first.question, first.answer, second.question, second.answer) == ("Is there a dot?", "no", "", "")
    assert np.array_equal(first.image.pixels(), np.asarray(earlier))
    assert (first.image.height, first.image.width) == (20, 31)
    assert np.array_equal(second.image.pixels(), np.asarray(plain))
    assert np.array_equal(read[2].image.pixels(), np.asarray(splits["test"][2].image))
    assert table["set_id"].dropna().tolist() == ["pair"]
    prints = pd.read_parquet(tmp_path / "fingerprints.parquet")
    assert prints.loc[prints["image_id"] == "test-1", "place"].tolist() == [0, 1, 2]


def test_neither_building_nor_reading_holds_a_splits_images(monkeypatch, tmp_path):
    made = []

    def noise(params, split, processes=1):
        """Pictures of half a megabyte, made on demand."""
        for index in range(40 if split == "train" else 1):
            one = make_example(index, (400, 400), split)
            picture = Picture.of(one.image, one.image_id)
            made.append(weakref.ref(picture))
            alive.append(sum(one() is not None for one in made))
            yield replace(one, image=picture)

    alive = []
    monkeypatch.setattr(datasets, "load", noise)
    monkeypatch.setattr(arrow_store, "BATCH_BYTES", 2**20)
    build(Made(), tmp_path)
    assert (tmp_path / "train.arrow").stat().st_size > 19e6
    assert max(alive) <= 5, "a batch of a megabyte is three of them"
    read = arrow_store.read(tmp_path, "train")
    assert len(read) == 40 and read[-1].image_id == "train-39" and len(pickle.dumps(read)) < 100_000
    assert read[31].image.sha256 == hashlib.sha256(read[31].image.data).hexdigest()
    assert not any(isinstance(part, bytes) for one in read for part in vars(one.image).values())


class Sums(torch.utils.data.Dataset):
    def __init__(self, examples):
        self.examples = examples

    def __len__(self):
        return len(self.examples)

    def __getitem__(self, index):
        return int(self.examples[index].image.pixels().sum())


def test_other_processes_read_the_same(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    build(Made(), tmp_path)
    read = arrow_store.read(tmp_path, "train")
    here = [int(one.image.pixels().sum()) for one in read]
    loader = torch.utils.data.DataLoader(Sums(read), batch_size=None, num_workers=1, multiprocessing_context="fork")
    assert list(loader) == here
    sent = pickle.loads(pickle.dumps(Sums(read)))  # as spawn sends it
    assert [sent[index] for index in range(3)] == here
    assert [one.image for one in sent.examples] == [one.image for one in read]


def test_a_picture_is_stored_as_it_came(monkeypatch, tmp_path):
    splits = _splits()
    buffer = io.BytesIO()
    splits["test"][0].image.save(buffer, "JPEG")
    splits["test"][0] = replace(splits["test"][0], image=Picture(buffer.getvalue(), "photo"))
    _serve(monkeypatch, splits)
    build(Made(), tmp_path)
    assert arrow_store.read(tmp_path, "test")[0].image.data == buffer.getvalue()


def test_reading_decodes_no_image(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    build(Made(), tmp_path)
    monkeypatch.setattr(imaging, "read_array", None)
    read = arrow_store.read(tmp_path, "train")
    assert [(example.image.height, example.image.width) for example in read] == [(30, 40)] * 3


def test_a_split_that_was_not_built_is_named(tmp_path):
    with pytest.raises(DataError, match="there is none"):
        arrow_store.read(tmp_path, "test")

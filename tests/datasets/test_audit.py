"""The audit: a folder with all planted faults, a clean folder, a study; tables, text, JSON and exit status."""

import json
import re
import weakref

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from medstudy import params
from medstudy.cli import data as cli_data
from medstudy.cli import main
from medstudy.data.example import SPLITS
from medstudy.datasets import audit
from tests.support import own
from tests.support.studies import write_study

# planted faults: image -> (table, name in the table)
PLANTED = {
    "leak.png": ("problems", "leak (exact)"),
    "flipped.jpg": ("problems", "leak (near)"),
    "corrupt.png": ("problems", "unreadable"),
    "truncated.jpg": ("problems", "unreadable"),
    "gone.png": ("problems", "missing"),
    "/etc/hosts": ("problems", "absolute path"),
    "mute.png": ("problems", "empty answer"),
    "long.png": ("problems", "aspect"),
    "grey16.png": ("notices", "16-bit"),
    "press.jpg": ("notices", "CMYK"),
    "turned.jpg": ("notices", "EXIF-rotated"),
    "glass.png": ("notices", "transparent"),
    "moving.gif": ("notices", "several frames"),
    "float.tif": ("notices", "float"),
    "twice.png": ("repeats", "exact"),
}


def absolute(folder, text):
    """Whether a text has the absolute path of a folder. Messages use a relative one, as ../../data."""
    return re.search(rf"(?<!\.){re.escape(str(folder))}", text)


def write(folder, rows):
    return own.lines(folder / "rows.jsonl", [{"question": "What?", "answer": "it"} | row for row in rows])


def clean(folder):
    """Two images in each split, without faults."""
    names = [f"{split}{i}.png" for split in ("train", "val", "test") for i in (0, 1)]
    own.photos(folder, names, size=(300, 400))
    rows = [{"image": name, "split": name[:-5], "question": text} for name in names for text in ("What?", "Where?")]
    write(folder, rows)
    return rows


def faulty(folder):
    """`clean` with every fault of PLANTED."""
    rows = clean(folder)
    (folder / "leak.png").write_bytes((folder / "train0.png").read_bytes())
    ImageOps.mirror(Image.open(folder / "train1.png")).save(folder / "flipped.jpg", quality=90)
    (folder / "corrupt.png").write_bytes(b"no image at all")
    whole = own.photo(folder / "truncated.jpg", 30, (300, 400)).read_bytes()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    own.photo(folder / "mute.png", 31)
    own.photo(folder / "long.png", 32, (3, 900))
    values = np.random.default_rng(0).integers(0, 4096, (6, 8)).astype(np.uint16)
    Image.fromarray(np.kron(values, np.ones((20, 20), np.uint16))).save(folder / "grey16.png")
    own.photo(folder / "press.jpg", 33, mode="CMYK")
    exif = Image.Exif()
    exif[0x0112] = 6
    own.photo(folder / "turned.jpg", 34, exif=exif)
    own.photo(folder / "glass.png", 35, mode="RGBA")
    frames = [Image.new("RGB", (80, 60), colour) for colour in ("red", "blue")]
    own.photo(folder / "moving.gif", 36, save_all=True, append_images=frames)
    Image.fromarray(np.random.default_rng(1).random((60, 80), np.float32)).save(folder / "float.tif")
    (folder / "twice.png").write_bytes((folder / "test0.png").read_bytes())
    answers = {"mute.png": None}
    planted = [{"image": name, "split": "test", "answer": answers.get(name, "it")} for name in PLANTED]
    write(folder, rows + planted)
    return rows


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "faulty"
    folder.mkdir()
    faulty(folder)
    return folder, audit.data([own.params(folder, label="data")])


def test_every_planted_fault_is_listed_and_nothing_else(found):
    _, report = found
    listed = {
        *(("problems", row.image, row.problem) for row in report.problems.itertuples()),
        *(("notices", row.image, row.notice) for row in report.notices.itertuples()),
        *(("repeats", row.image_b, row.kind) for row in report.repeats.itertuples()),
    }
    assert listed == {(table, image, name) for image, (table, name) in PLANTED.items()}
    assert report.stops and report.problems["stops"].all()


def test_messages_say_why_and_where_from(found):
    folder, report = found
    problems = report.problems.set_index("image")
    assert "train0.png in train" in problems.loc["leak.png", "message"] and problems.loc["leak.png", "split"] == "test"
    assert "train1.png in train" in problems.loc["flipped.jpg", "message"]
    assert problems.loc["corrupt.png", "where"].startswith("rows.jsonl row ")
    assert "3 x 900" in problems.loc["long.png", "message"]
    text = json.dumps(report.to_dict())
    assert not absolute(folder.parent, text) and "base64" not in text


def test_a_clean_folder_lists_nothing(tmp_path):
    clean(tmp_path)
    report = audit.data([own.params(tmp_path)])
    assert report.problems.empty and report.notices.empty and report.repeats.empty and report.leaks.empty
    assert not report.stops
    counts = report.splits.set_index("split")
    assert list(counts.index) == ["train", "val", "test"]
    assert (counts["images"] == 2).all() and (counts["questions"] == 4).all() and (counts["groups"] == 2).all()
    assert (counts["questions_an_image"] == 2).all() and (counts["further_images"] == 0).all()


def test_rungs_count_changed_images_and_tokens(tmp_path):
    """300 x 400 pixels are 11 x 14 tokens of 28 pixels; 224² pixels hold at most 64 of them."""
    clean(tmp_path)
    own.photo(tmp_path / "train0.png", 40, (100, 100))
    report = audit.data([own.params(tmp_path)])
    rungs = report.rungs.set_index("rung")
    assert list(rungs.index) == ["fixed-224", "fixed-448", "fixed-672", "fixed-896", "native"]
    assert rungs.loc["fixed-224", "changed"] == 5 and rungs.loc["fixed-448", "changed"] == 0
    assert rungs.loc["native", "median_tokens"] == 154 and rungs.loc["native", "most_tokens"] == 154
    assert rungs.loc["fixed-224", "median_tokens"] <= 64
    sizes = report.sizes.set_index(["split", "native_px"])["images"]
    assert sizes["train", "up to 224²"] == 1 and sizes["train", "224² to 448²"] == 1 and sizes.sum() == 6


def test_the_json_equals_the_tables_and_the_text_has_their_rows(found, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    folder, report = found
    assert main(["data", "check", str(folder), "--json"]) == 1
    content = json.loads(capsys.readouterr().out)
    assert content == report.to_dict() and content["stops"] is True
    for name in audit.TABLES:
        table = getattr(report, name)
        assert len(content[name]) == len(table)
        if len(table):
            pd.testing.assert_frame_equal(pd.DataFrame(content[name]), table.reset_index(drop=True), check_dtype=False)
    assert main(["data", "check", str(folder)]) == 1
    printed = " ".join(capsys.readouterr().out.split())
    assert "8 findings would stop a study" in printed and "leak (exact)" in printed and "Notices, counted" in printed


def test_a_clean_folder_ends_with_0_and_options_reach_the_table(tmp_path, capsys):
    own.photos(tmp_path, ["a.png", "b.png", "c.png"])
    rows = [{"file": f"{name}.png", "a": "it", "split": split} for name, split in zip("abc", SPLITS, strict=True)]
    own.lines(tmp_path / "t.jsonl", rows)
    options = ["--columns", "image=file", "answer=a", "--ask", "What?", "--sides", "56", "112"]
    assert main(["data", "check", str(tmp_path / "t.jsonl"), *options]) == 0
    printed = capsys.readouterr().out
    assert "Nothing found that would stop a study" in printed and "fixed-56" in printed and "fixed-224" not in printed
    assert main(["data", "check", str(tmp_path / "t.jsonl"), "--columns", "picture=file"]) == 2
    assert "picture: no such parameter" in capsys.readouterr().err


def test_faults_that_are_skipped_do_not_stop(tmp_path):
    rows = clean(tmp_path)
    write(tmp_path, rows + [{"image": "gone.png", "split": "train"}])
    report = audit.data([own.params(tmp_path, on_unreadable="skip")])
    assert list(report.problems["problem"]) == ["missing"] and not report.stops


def test_a_table_that_cannot_be_read_is_a_finding(tmp_path):
    (tmp_path / "t.jsonl").write_text("{broken\n")
    report = audit.data([own.params(tmp_path)])
    assert list(report.problems["problem"]) == ["cannot be loaded"] and report.stops
    assert not absolute(tmp_path, report.problems["message"][0])


def test_a_study_is_checked_at_its_own_rungs(tmp_path):
    few = [{"name": "atlas", "train": 1, "val": 1, "test": 1}]
    rungs = [{"policy": "fixed", "side": side} for side in (84, 800)] + [{"policy": "native", "max_pixels": 200704}]
    file = write_study(tmp_path, datasets=few, inference=rungs, regimes=rungs, controls={"views": []})
    study = params.load(file)
    report = audit.study(study, *cli_data._geometry(study.model))
    assert list(report.rungs["rung"]) == ["fixed-84", "fixed-800", "native"] and len(report.splits) == 3
    assert list(report.problems["problem"]) == ["no effect"] and "fixed-800" in report.problems["message"][0]
    assert report.stops and "of base" in report.about["geometry"]


def test_an_image_and_a_group_in_two_splits_are_leaks(tmp_path):
    rows = [row | {"patient": row["image"]} for row in clean(tmp_path)]
    rows += [{"image": "train0.png", "split": "test", "patient": "train0.png"}]
    rows = [row | {"patient": "p"} if row["image"] in ("val1.png", "test1.png") else row for row in rows]
    write(tmp_path, rows)
    report = audit.data([own.params(tmp_path, columns={"group": "patient"})])
    found = {(row.problem, row.split, row.image) for row in report.problems.itertuples()}
    assert found == {("leak (exact)", "test", "train0.png"), ("leak (group)", "test", "test1.png")}
    assert len(report.leaks) == 2 and report.stops


def test_empty_splits_stop(tmp_path):
    own.photos(tmp_path, ["a.png"])
    write(tmp_path, [{"image": "a.png", "split": "val"}])
    assert list(audit.data([own.params(tmp_path)]).problems["split"]) == ["test"]


def test_pixels_are_held_one_image_at_a_time(tmp_path, monkeypatch):
    clean(tmp_path)
    made, held = [], []

    def pil(picture):
        held.append(sum(one() is not None for one in made))
        image = Image.fromarray(picture.pixels())
        made.append(weakref.ref(image))
        return image

    monkeypatch.setattr(audit, "_decoded", pil)
    audit.data([own.params(tmp_path)])
    assert len(held) == 6 and max(held) <= 1  # the one before may still be waiting to be let go


@pytest.mark.parametrize("kind, answers, table", [
    ("class", ("Benign", "benign"), "problems"), ("auto", ("Liver", "liver"), "notices"),
    ("class", ("ER+", "ER-"), None),
])
def test_references_that_count_as_the_same_answer_are_named(tmp_path, kind, answers, table):
    own.photos(tmp_path, [f"{n}.png" for n in range(6)])
    rows = [{"image": f"{n}.png", "split": SPLITS[n // 2], "answer": answers[n % 2]} for n in range(6)]
    write(tmp_path, rows)
    one = params.data({"name": "local", "label": "x", "path": str(tmp_path), "kind": kind})
    report = audit.data([one])
    found = {name: getattr(report, name) for name in ("problems", "notices")}
    named = {name for name, rows in found.items() if "references alike" in rows[name.removesuffix("s")].tolist()}
    assert named == ({table} if table else set()) and report.stops == (table == "problems")
    if table:
        assert all(repr(one) in found[table].to_csv() for one in answers)

"""The user's own data: every form, every way to split, contents of cells, and rows that cannot be used."""

import json
import os

import numpy as np
import pandas as pd
import pytest
from datasets import ClassLabel, Features, Image, List, Value, load_dataset
from PIL import Image as Pil

from medstudy import datasets, imaging, params
from medstudy.data import arrow_store
from medstudy.data.example import SPLITS
from medstudy.datasets.build import build
from medstudy.datasets.user import folder as user_folder
from medstudy.datasets.user import hub as hub_columns
from medstudy.errors import DataError, ParamsError
from medstudy.runs import plan
from tests.support import hub, own
from tests.support.studies import write_study

ROW = {"image": "a.png", "question": "Is it seen?", "answer": "Yes", "split": "test"}


def table(tmp_path, *changes, name="rows.jsonl", **more):
    """A table whose rows are ROW with changes, and the images a.png to d.png."""
    own.photos(tmp_path, ["a.png", "b.png", "c.png", "d.png"])
    own.lines(tmp_path / name, [ROW | change for change in changes])
    return own.params(tmp_path, **more)


def only(made):
    (one,) = own.found(made)
    return one


def question(tmp_path, **change):
    return only(table(tmp_path, change)).questions[0]


def test_a_table_becomes_examples_with_all_their_questions(tmp_path):
    choice = {"question": "Which?", "options": ["x", "y"], "answer": "y"}
    where = {"question": "Where?", "answer": " left lung "}
    made = table(tmp_path, {}, where, {"image": "b.png", "split": "train"}, choice)
    (b, a) = own.found(made)
    assert (a.split, b.split, a.image_id, a.dataset, a.family) == ("test", "train", "a.png", "mine", "mine")
    assert [(q.kind, q.answer) for q in a.questions] == [("closed", "Yes"), ("open", "left lung"), ("choice", "B")]
    assert [q.task for q in a.questions] == ["mine closed", "mine open", "mine choice"]
    assert a.image.data == (tmp_path / "a.png").read_bytes() and not a.render and a.license == "not stated"
    assert len({q.id for q in a.questions}) == 3


@pytest.mark.parametrize("kind", ["csv", "tsv", "semicolons", "jsonl", "json", "parquet"])
def test_every_kind_of_table_gives_the_same_questions(tmp_path, kind):
    rows = [
        {"image": "a.png", "question": "Groß, wo?", "answer": "NA", "options": "", "split": "test"},
        {"image": "b.png", "question": "Wie viele?", "answer": "3", "options": "2|3", "split": "test"},
    ]
    own.photos(tmp_path, ["a.png", "b.png"])
    frame = pd.DataFrame(rows)
    if kind in ("csv", "tsv", "semicolons"):
        frame.to_csv(tmp_path / f"t.{kind[:3].replace('sem', 'csv')}", index=False,
                     sep={"csv": ",", "tsv": "\t", "semicolons": ";"}[kind])
    elif kind == "parquet":
        frame.assign(answer=["NA", 3]).astype({"answer": str}).to_parquet(tmp_path / "t.parquet")
    elif kind == "json":
        (tmp_path / "t.json").write_text(json.dumps(rows))
    else:
        own.lines(tmp_path / "t.jsonl", rows)
    asked = [one.questions[0] for one in own.found(own.params(tmp_path))]
    assert [(q.text, q.answer, q.options) for q in asked] == [("Groß, wo?", "NA", ()), ("Wie viele?", "B", ("2", "3"))]


def test_ms_swift_rows_of_both_forms(tmp_path):
    own.photos(tmp_path, ["a.png", "b.png"])
    said = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "a cell"}]
    own.lines(tmp_path / "test.jsonl", [
        {"query": "<image>Seen?", "response": "no", "images": ["a.png"]},
        {"query": "Again?", "response": "yes", "images": ["a.png"], "history": None},
        {"messages": said, "images": ["b.png"]},
    ])
    a, b = own.found(own.params(tmp_path))
    assert [(q.text, q.answer, q.kind) for q in a.questions] == [("Seen?", "no", "closed"), ("Again?", "yes", "closed")]
    assert [(q.text, q.answer, q.kind) for q in b.questions] == [("What?", "a cell", "open")]


def test_llava_turns_are_questions_of_one_image(tmp_path):
    own.photos(tmp_path / "pictures", ["a.png"])
    said = [("human", "<image>\nWhat?"), ("gpt", "a cell"), ("human", "Alive?"), ("gpt", "Yes")]
    row = {"id": "7", "image": "a.png", "patient": 4, "conversations": [{"from": who, "value": v} for who, v in said]}
    (tmp_path / "llava.json").write_text(json.dumps([row]))
    made = own.params(tmp_path / "llava.json", images=str(tmp_path / "pictures"), test_share=1.0,
                      columns={"group": "patient"})
    one = only(made)
    assert [(q.text, q.answer) for q in one.questions] == [("What?", "a cell"), ("Alive?", "Yes")]
    assert (one.group, one.split) == ("4", "test")
    broken = row | {"conversations": row["conversations"][:3]}
    (tmp_path / "llava.json").write_text(json.dumps([broken]))
    with pytest.raises(DataError, match="human, gpt, human, gpt"):
        own.found(made)


def test_image_folders_with_metadata(tmp_path):
    for split in ("train", "validation", "test"):
        own.photo(tmp_path / split / "x.png", len(split))
        own.sheet(tmp_path / split / "metadata.csv", [{"file_name": "x.png", "question": "What?", "answer": split}])
    made = own.found(own.params(tmp_path))
    assert [one.image_id for one in made] == ["train/x.png", "validation/x.png", "test/x.png"]
    assert [(one.split, one.questions[0].answer) for one in made] == [
        ("train", "train"), ("val", "validation"), ("test", "test")]
    assert len({one.group for one in made}) == 3


def test_files_by_split_and_validation_held_out_of_training(tmp_path):
    names = own.photos(tmp_path, [f"{i}.png" for i in range(40)])
    rows = [{"image": name, "question": "What?", "answer": "it"} for name in names]
    own.lines(tmp_path / "train.jsonl", rows[:30])
    own.lines(tmp_path / "test.jsonl", rows[30:])
    made = own.found(own.params(tmp_path, val_share=0.3))
    counts = pd.Series([one.split for one in made]).value_counts()
    assert counts["test"] == 10 and counts["train"] + counts["val"] == 30 and 4 <= counts["val"] <= 15


def test_shares_keep_groups_together_and_do_not_depend_on_the_order(tmp_path):
    names = own.photos(tmp_path, [f"{i}.png" for i in range(60)])
    rows = [{"image": name, "question": "What?", "answer": "it", "patient": i // 3} for i, name in enumerate(names)]
    made = own.params(tmp_path, columns={"group": "patient"}, test_share=0.3, val_share=0.2)
    splits = []
    for order in (rows, rows[::-1]):
        own.lines(tmp_path / "t.jsonl", order)
        splits.append({one.image_id: one.split for one in own.found(made)})
    assert splits[0] == splits[1] and set(splits[0].values()) == {"train", "val", "test"}
    assert all(len({splits[0][name] for name in names[i : i + 3]}) == 1 for i in range(0, 60, 3))
    other = own.params(tmp_path, columns={"group": "patient"}, test_share=0.3, val_share=0.2, seed=1)
    assert {one.image_id: one.split for one in own.found(other)} != splits[0]


def test_several_images_are_context_and_one_group(tmp_path):
    made = table(tmp_path, {"image": None, "images": ["a.png", "b.png"]}, {"image": None, "images": ["c.png", "b.png"]},
                 {"image": None, "images": ["d.png"]}, split="shares", columns={"images": "images"})
    found = {one.image_id: one for one in own.found(made)}
    first = found["a.png+b.png"]
    assert [shot.image.data for shot in first.context] == [(tmp_path / "a.png").read_bytes()]
    assert first.image.data == (tmp_path / "b.png").read_bytes()
    assert first.group == found["c.png+b.png"].group != found["d.png"].group


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"answer": "a"}, ("choice", "A")),  # a letter
        ({"answer": "Blue"}, ("choice", "B")),  # a text in any case
        ({"answer": 0}, ("choice", "A")),  # a number from 0
        ({"options": {"A": "red", "B": "blue", "C": ""}, "answer": "blue"}, ("choice", "B")),
        ({"options": '["red", "blue"]', "answer": "red"}, ("choice", "A")),
        ({"options": [], "answer": "no"}, ("closed", "no")),
        ({"options": None, "answer": 3.0}, ("open", "3")),
        ({"kind": "class", "options": None, "answer": "red"}, ("class", "red")),
        ({"answer": "(B)"}, ("choice", "B")),  # a letter with its signs
        ({"answer": "b."}, ("choice", "B")),
        ({"answer": "B: blue"}, ("choice", "B")),  # a letter with its own option's text
        ({"options": ["B) blue", "A) red"], "answer": "A"}, ("choice", "B")),  # the option that has this letter
        ({"options": ["A. red", "B. blue"], "answer": "blue"}, ("choice", "B")),
        ({"options": {"A": "A. red", "B": "B. blue"}, "answer": "B. blue"}, ("choice", "B")),
        ({"options": ["E. coli", "S. aureus"], "answer": "E. coli"}, ("choice", "A")),
    ],
)
def test_what_an_answer_means(tmp_path, change, expected):
    made = question(tmp_path, **{"question": "Which?", "options": ["red", "blue"]} | change)
    assert (made.kind, made.answer) == expected


def test_a_class_question_has_one_id_for_all_images(tmp_path):
    made = table(tmp_path, {"answer": "x"}, {"image": "b.png", "answer": "y"}, kind="class")
    assert len({one.questions[0].id for one in own.found(made)}) == 1


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"question": None}, "no question"),
        ({"answer": " "}, "empty answer"),
        ({"answer": None}, "empty answer"),
        ({"answer": True}, "not a text"),
        ({"image": None}, "no image"),
        ({"image": "/etc/hosts"}, "absolute path"),
        ({"image": "C:\\scans\\a.png"}, "absolute path"),
        ({"image": "https://example.org/a.png"}, "absolute path"),
        ({"image": "../outside.png"}, "outside the folder"),
        ({"image": "link.png"}, "outside the folder"),
        ({"image": "z.png"}, "missing"),
        ({"options": ["B", "A"], "answer": "A"}, "answer not an option"),
        ({"options": ["x", "y"], "answer": "z"}, "answer not an option"),
        ({"options": ["x"], "answer": "x"}, "options"),
        ({"options": ["x", "y"], "answer": "B. x"}, "answer not an option"),
        ({"options": {"A": "B) x", "B": "A) y"}, "answer": "A"}, "options"),
        ({"options": ["A) x", "B) x"], "answer": "A"}, "options"),
        ({"answer": '["CT", "computed tomography"]'}, "several answers"),
        ({"answer": "['CT', 'MR']"}, "several answers"),
        ({"image": "iVBORw0KGgo" * 40}, "not a path"),
        ({"image": "/9j/" + "4AAQSkZJRg/" * 200}, "not a path"),
        ({"kind": "essay"}, "unknown kind"),
        ({"kind": "closed", "answer": "left"}, "not yes or no"),
        ({"split": "later"}, "unknown split"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_row_that_cannot_be_used_stops_or_is_left_out(tmp_path, change, problem, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside = tmp_path / "data"
    own.photo(tmp_path / "outside.png")
    inside.mkdir()
    os.symlink(tmp_path / "outside.png", inside / "link.png")
    made = table(inside, {}, {"image": "b.png"} | change)
    (fault,) = user_folder.survey(made).faults
    assert (fault.problem, fault.where) == (problem, "rows.jsonl row 2")
    assert str(tmp_path) not in fault.message
    with pytest.raises(DataError, match=f"rows.jsonl row 2: {problem}"):
        own.found(made)
    with pytest.warns(UserWarning, match=problem):
        assert only(own.params(inside, on_unreadable="skip")).image_id == "a.png"


def test_an_unreadable_image_is_left_out_if_the_params_allow(tmp_path):
    made = table(tmp_path, {}, {"image": "b.png"}, on_unreadable="skip")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:300])
    with pytest.warns(UserWarning, match="Left out of mine test: rows.jsonl row 2: b.png"):
        assert only(made).image_id == "a.png"


def test_a_stated_prefix_is_removed_from_absolute_paths(tmp_path):
    changes = {"image": "/cluster/ann/scans/a.png"}, {"image": "b.png"}
    made = own.found(table(tmp_path, *changes, strip="/cluster/ann/scans"))
    assert [one.image_id for one in made] == ["a.png", "b.png"]
    (fault,) = user_folder.survey(table(tmp_path, {"image": "/cluster/../../a.png"}, strip="/cluster")).faults
    assert fault.problem == "outside the folder"
    with pytest.raises(DataError, match="`images` must be a folder, but there is none at nowhere"):
        own.found(own.params(tmp_path, images="nowhere"))


def test_a_repeated_id_and_a_second_group_are_faults(tmp_path):
    rows = [{"key": "1", "group": "p"}, {"key": "1", "group": "p"}, {"key": "2", "group": "q"}]
    made = table(tmp_path, *rows, columns={"id": "key"})
    assert [fault.problem for fault in user_folder.survey(made).faults] == ["repeated question", "two groups"]


def test_columns_by_other_names_nested_ones_and_tags(tmp_path):
    own.photos(tmp_path, ["a.png"])
    row = {"pic": {"file": "a.png"}, "q": "Which?", "right": "y", "A": "x", "B": "y", "C": None, "sex": "f", "age": 7}
    own.lines(tmp_path / "t.jsonl", [row])
    columns = {"image": "pic.file", "question": "q", "answer": "right", "options": ["A", "B", "C"]}
    columns["tags"] = ["sex", "age"]
    made = only(own.params(tmp_path, columns=columns, test_share=1.0, modality="MR")).questions[0]
    assert (made.text, made.answer, made.options, made.tags) == ("Which?", "B", ("x", "y"), ("sex=f", "age=7"))
    with pytest.raises(DataError, match="question is 'query' and .* has pic, q, right, A, B, C, sex, age"):
        own.found(own.params(tmp_path, columns=columns | {"question": "query"}))
    with pytest.raises(DataError, match="needs a column `question`, but .* has pic, q"):
        own.found(own.params(tmp_path, columns={"image": "pic.file", "answer": "right"}))
    asked = only(own.params(tmp_path, columns={"image": "pic.file", "answer": "sex"}, ask="Sex?", test_share=1.0))
    assert (asked.questions[0].text, asked.questions[0].answer) == ("Sex?", "f")


def test_quirks_of_files(tmp_path):
    """A byte-order mark, Windows line ends and separators, accents in either form, a comma, a line break in a cell."""
    composed, apart = "caf\u00e9.png", "cafe\u0301.png"
    own.photos(tmp_path / "imgs", [apart, "b c.png"])
    rows = [
        {"image": f"imgs\\{composed}", "question": 'Wo, "genau"?\nHier?', "answer": "ja", "split": "Test"},
        {"image": "imgs/b c.png", "question": "What\u2028now?", "answer": "None", "split": "test"},
    ]
    own.sheet(tmp_path / "t.csv", rows, "utf-8-sig", "\r\n")
    made = own.found(own.params(tmp_path))
    assert [(one.image_id, one.questions[0].text, one.questions[0].answer) for one in made] == [
        (f"imgs/{apart}", 'Wo, "genau"?\nHier?', "ja"), ("imgs/b c.png", "What\u2028now?", "None")]
    (tmp_path / "t.csv").write_bytes("image,question,answer\nimgs/b c.png,Größe?,1\n".encode("latin-1"))
    with pytest.raises(DataError, match="in UTF-8, but t.csv is not"):
        own.found(own.params(tmp_path))


def test_a_dicom_is_kept_as_a_png_and_a_row_states_how_to_read_it(tmp_path):
    from pydicom.data import get_testdata_file

    data = open(get_testdata_file("CT_small.dcm", download=False), "rb").read()
    (tmp_path / "ct.dcm").write_bytes(data)
    rows = [ROW | {"image": "ct.dcm", "low_high": window} for window in (None, "[0, 400]", [-100, 2000])]
    own.lines(tmp_path / "t.jsonl", rows)
    made = own.params(tmp_path, columns={"reading": {"window": "low_high"}})
    first, narrow, wide = own.found(made)
    assert first.image.data[:4] == b"\x89PNG" and b"CompressedSamples" not in first.image.data
    assert first.image.facts.kind == "DICOM"
    assert len({one.image_id for one in (first, narrow, wide)}) == 3 and first.group == wide.group
    assert narrow.image.pixels().mean() > wide.image.pixels().mean()
    general = own.found(own.params(tmp_path, reading={"window": [0, 400]}))
    assert np.array_equal(general[0].image.pixels(), narrow.image.pixels())
    own.lines(tmp_path / "t.jsonl", [ROW | {"image": "ct.dcm", "low_high": "wide"}])
    with pytest.raises(DataError, match="reading.window"):
        own.found(made)


def test_slices_of_a_volume_are_images_of_one_group(tmp_path):
    import nibabel

    values = np.random.default_rng(2).normal(size=(9, 8, 3)).astype(np.float32)
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "head.nii.gz")
    own.lines(tmp_path / "t.jsonl", [ROW | {"image": "head.nii.gz", "z": z} for z in (0, 2, 7)])
    made = own.params(tmp_path, columns={"reading": {"slice": "z"}}, reading={"axis": "axial"}, on_unreadable="skip")
    with pytest.warns(UserWarning, match="row 3: head.nii.gz: .*slice"):
        bottom, top = own.found(made)
    assert bottom.group == top.group and bottom.image_id == "head.nii.gz slice=0"
    assert np.array_equal(top.image.pixels(), imaging.read_array(tmp_path / "head.nii.gz", slice=2))
    assert not np.array_equal(top.image.pixels(), bottom.image.pixels())


def test_the_version_changes_with_tables_and_images_and_nothing_else(tmp_path):
    made = table(tmp_path, {})
    before = datasets.version(made)
    (tmp_path / "notes.txt").write_text("unrelated")
    assert datasets.version(made) == before
    own.lines(tmp_path / "rows.jsonl", [ROW | {"answer": "no"}])
    changed = datasets.version(made)
    assert changed != before
    user_folder._hash.cache_clear()  # as in a new process
    own.photo(tmp_path / "a.png", 5)
    assert datasets.version(made) != changed


def test_a_study_builds_the_data_and_a_changed_row_makes_another_job(tmp_path):
    splits = [{"image": f"{name}.png", "split": split} for name, split in zip("abc", SPLITS, strict=True)]
    made = table(tmp_path / "data", *splits)
    study = params.load(write_study(tmp_path, datasets=[json.loads(made.model_dump_json())]))
    (job,) = [one for one in plan.plan(study) if one.stage == "data"]
    assert job.name == "data-mine"
    built = build(made, tmp_path / "built")
    assert list(built["question"]) == ["Is it seen?"] * 3 and set(built["split"]) == set(SPLITS)
    (one,) = arrow_store.read(tmp_path / "built", "val")
    assert one.image_id == "b.png" and one.image.data == (tmp_path / "data" / "b.png").read_bytes()
    table(tmp_path / "data", *splits, {"question": "More?"})
    (changed,) = [one for one in plan.plan(study) if one.stage == "data"]
    assert changed.name == job.name and changed.dir != job.dir


@pytest.mark.parametrize(
    ("files", "more", "words"),
    [
        ((), {}, "has neither tables nor folders"),
        (("a.csv", "b.csv"), {}, "has a.csv, b.csv"),
        (("train.csv", "train.jsonl"), {}, "train.csv, train.jsonl belong to the same"),
        (("a.csv",), {"split": "files"}, "but there are a.csv"),
        (("a.csv",), {"split": "column"}, "needs a column `split`"),
    ],
)
def test_an_error_lists_what_a_folder_without_one_table_has(tmp_path, files, more, words):
    for name in files:
        (tmp_path / name).write_text("image,question,answer\na.png,x,y\n")
    with pytest.raises(DataError, match=words):
        own.found(own.params(tmp_path, **more))


def test_params_are_strict():
    study = {"datasets": [{"name": "local", "label": "My Data", "path": "x", "forms": "csv"}]}
    with pytest.raises(ParamsError, match="(?s)label: String should match.*forms: no such parameter"):
        params.parse(study)


# --- any data set of the hub's

FEATURES = Features(
    {"pic": Image(), "more": List(Image()), "qa": {"ask": Value("string"), "say": Value("string")},
     "organ": ClassLabel(names=["lung", "liver"]), "patient": Value("int64")}
)


def hub_rows(first, count):
    return [
        {"pic": hub.encoded(first + i // 2), "more": [hub.encoded(50 + i), hub.encoded(first + i)],
         "qa": {"ask": f"What {i}?", "say": ["Yes", "it"][i % 2]}, "organ": i % 2, "patient": first + i // 2}
        for i in range(count)
    ]


QA = {"image": "pic", "question": "qa.ask", "answer": "qa.say"}


@pytest.fixture
def repository(tmp_path):
    return hub.repository(tmp_path / "repo", {"train": hub_rows(0, 24), "test": hub_rows(20, 4)}, FEATURES)


def hub_params(path, **more):
    content = {"name": "hub", "label": "theirs", "path": str(path)} | more
    return own.ADAPTER.validate_json(json.dumps(content))


def test_hub_columns_of_any_name(repository):
    columns = QA | {"group": "patient", "tags": ["organ"]}
    made = hub_params(repository, columns=columns, val_share=0.3)
    found = {split: list(datasets.load(made, split)) for split in ("train", "val", "test")}
    assert len(found["train"]) + len(found["val"]) == 12 and found["val"] and len(found["test"]) == 2
    one = found["test"][0]
    assert [(q.text, q.answer, q.kind, q.tags) for q in one.questions] == [
        ("What 0?", "Yes", "closed", ("organ=lung",)), ("What 1?", "it", "open", ("organ=liver",))]
    assert one.image.data == hub.encoded(20)["bytes"] and one.group == "20" and one.dataset == "theirs"


def test_hub_classes_by_name_and_several_images(repository):
    made = hub_params(repository, columns={"images": "more", "answer": "organ"}, ask="Which organ?", kind="class")
    one = next(datasets.load(made, "test"))
    assert (one.questions[0].answer, one.questions[0].kind) == ("lung", "class")
    assert one.context[0].image.data == hub.encoded(50)["bytes"] and one.image.data == hub.encoded(20)["bytes"]


def test_a_hub_data_set_with_one_split_is_split_by_group(tmp_path):
    folder = hub.repository(tmp_path / "one", {"train": hub_rows(0, 80)}, FEATURES)
    made = hub_params(folder, splits={"train": "train", "test": None}, test_share=0.3, val_share=0.2, columns=QA)
    counts = pd.Series([one.split for one in own.found(made)]).value_counts()
    assert counts.sum() == 40 and set(counts.index) == {"train", "val", "test"}


def test_missing_hub_columns_and_splits_are_named(repository):
    with pytest.raises(DataError, match="image is 'img' and .*has pic, more, qa, organ, patient"):
        list(datasets.load(hub_params(repository, columns={"image": "img"}), "test"))
    with pytest.raises(DataError, match="validation of .* cannot be"):
        list(datasets.load(hub_params(repository, splits={"val": "validation"}, columns=QA), "test"))


def test_a_hub_image_folder_and_paths_outside_it(tmp_path):
    folder = tmp_path / "pictures"
    own.photo(folder / "train" / "a.png")
    own.sheet(folder / "train" / "metadata.csv", [{"file_name": "a.png", "question": "What?", "answer": "it"}])
    one = only(hub_params(folder, splits={"test": None}, test_share=1.0))
    assert one.image_id == "train/a.png" and one.image.data == (folder / "train" / "a.png").read_bytes()
    own.photo(tmp_path / "secret.png")
    features = Features({"image": Value("string"), "question": Value("string"), "answer": Value("string")})
    names = (str(tmp_path / "secret.png"), "../secret.png")
    rows = [{"image": name, "question": "What?", "answer": "it"} for name in names]
    paths = hub.repository(tmp_path / "leads", {"test": rows}, features)
    made = hub_params(paths, splits={"train": None})
    faults = hub_columns.survey(made).faults
    assert [fault.problem for fault in faults] == ["absolute path", "malformed"]


def test_folders_with_equal_names_are_not_confused(tmp_path, monkeypatch):
    """`datasets` caches what it loaded, features included, under the last part of the folder's path."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    other = FEATURES | {"organ": ClassLabel(names=["bone", "skin"])}
    rows = {"train": hub_rows(0, 2), "test": hub_rows(0, 2)}
    first = hub.repository(tmp_path / "one" / "data", rows, Features(other))
    assert load_dataset(str(first), split="test", cache_dir=tmp_path / "cache")[0]["organ"] == 0
    second = hub.repository(tmp_path / "two" / "data", {"train": hub_rows(4, 2), "test": hub_rows(4, 2)}, FEATURES)
    made = hub_params(second, columns={"image": "pic", "answer": "organ"}, ask="Which organ?", kind="open")
    one = next(datasets.load(made, "test"))
    assert one.questions[0].answer == "lung" and one.image.data == hub.encoded(4)["bytes"]


def test_a_damaged_shard_gives_one_error(repository):
    (shard,) = repository.glob("data/test*.parquet")
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(DataError, match="repo"):
        list(datasets.load(hub_params(repository, columns=QA), "test"))


def test_hub_splits_redrawn_by_group(tmp_path):
    folder = hub.repository(tmp_path / "anew", {"train": hub_rows(0, 40), "test": hub_rows(10, 20)}, FEATURES)
    made = hub_params(folder, columns=QA | {"group": "patient"}, test_share=0.3, val_share=0.2)
    apart = hub_columns.survey(made)
    assert len({(one.split, one.group) for one in apart.entries}) > len({one.group for one in apart.entries})
    together = hub_columns.survey(Changed(**dict(made) | {"split": "group"}))
    assert len({(one.split, one.group) for one in together.entries}) == len({one.group for one in together.entries})


class Changed(hub_columns.Params):
    """Params that allow `split: group`."""

    split: str = "group"


def test_images_are_read_one_at_a_time(tmp_path, monkeypatch):
    made = table(tmp_path, {}, {"image": "b.png"}, {"image": "c.png"})
    read, encoded = [], user_folder.examples.encoded
    monkeypatch.setattr(user_folder.examples, "encoded", lambda *which: read.append(which[1]) or encoded(*which))
    one = datasets.load(made, "test")
    next(one)
    assert read == ["a.png"]


def test_the_fixture_writes_an_image(tmp_path):
    assert Pil.open(own.photo(tmp_path / "a.png")).size == (80, 60)


@pytest.mark.parametrize("row, columns", [
    ({"answer": "C", "A": "w", "B": "", "C": "y", "D": "z"}, {"options": ["A", "B", "C", "D"]}),
    ({"answer": "C", "options": {"A": "w", "B": None, "C": "y"}}, {}),
    ({"answer": 2, "options": ["w", "", "y"]}, {}),
], ids=["columns", "mapping", "list"])
def test_an_empty_option_before_others_is_never_skipped(tmp_path, row, columns):
    """If it were skipped, later letters would name other options than the source means."""
    own.photos(tmp_path, ["a.png"])
    own.lines(tmp_path / "rows.jsonl", [{"image": "a.png", "question": "which?"} | row])
    with pytest.raises(DataError, match="Options must have no gap"):
        own.found(own.params(tmp_path, columns=columns, test_share=0.98, val_share=0.01))


def test_empty_options_at_the_end_are_dropped(tmp_path):
    own.photos(tmp_path, ["a.png"])
    row = {"image": "a.png", "question": "which?", "answer": "B", "A": "w", "B": "x", "C": "", "D": ""}
    own.lines(tmp_path / "rows.jsonl", [row])
    named = {"options": ["A", "B", "C", "D"]}
    (one,) = own.found(own.params(tmp_path, columns=named, test_share=0.98, val_share=0.01))
    assert (one.questions[0].options, one.questions[0].answer) == (("w", "x"), "B")


def test_an_image_without_a_group_is_in_the_group_of_its_prompt(tmp_path):
    own.photos(tmp_path, ["a.png", "b.png"])
    rows = [{"images": ["a.png", "b.png"], "question": "new?", "answer": "yes", "group": "p1"},
            {"images": ["b.png"], "question": "old?", "answer": "no", "group": ""}]
    own.lines(tmp_path / "rows.jsonl", rows)
    assert {one.group for one in own.found(own.params(tmp_path))} == {"p1"}


def test_symbolic_links_are_followed_inside_the_folder_and_refused_outside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    inside, store_ = tmp_path / "data", tmp_path / "store"
    own.photos(inside / "all", ["a.png"])
    own.photos(store_, ["b.png"])
    for link, target in (("linked", inside / "all"), ("out", store_), ("all/gone.png", inside / "nowhere.png")):
        os.symlink(target, inside / link)
    own.lines(inside / "rows.jsonl", [ROW | {"image": f"{name}.png"} for name in ("linked/a", "out/b", "all/gone")])
    found = user_folder.survey(own.params(inside))
    assert [entry.images[0][1] for entry in found.entries] == ["linked/a.png"]
    out, gone = found.faults
    assert out.problem == "outside the folder" and "the symbolic link 'out' leads out of the folder" in out.message
    assert gone.problem == "missing" and "symbolic link to a file that is not there" in gone.message
    assert str(store_) not in out.message


def test_letters_before_options_are_keys_shown_once_and_counted(tmp_path):
    """With them, a prompt would read "A. B) liver", and the answer "liver" would not match its option."""
    own.photos(tmp_path, ["a.png"])
    rows = [{"options": ["B) liver", "A) lung"], "answer": "A"}, {"options": ["E. coli", "S. aureus"], "answer": "A"}]
    asked = [{"image": "a.png", "question": f"which {number}?"} | row for number, row in enumerate(rows)]
    own.lines(tmp_path / "rows.jsonl", asked)
    found = user_folder.survey(own.params(tmp_path))
    (entry,) = found.entries
    assert [row.question.options for row in entry.rows] == [("liver", "lung"), ("E. coli", "S. aureus")]
    (note,) = [one["how"] for one in found.bindings if one["role"] == "options" and one["table"] == "all"]
    assert note.startswith("in 1 questions")


@pytest.mark.parametrize("names", [["A", "B"], ["option_a", "option_b"], ["opa", "opb"], ["Choice 1", "Choice 2"]])
def test_options_in_columns_that_are_not_stated_are_an_error(tmp_path, names):
    own.photos(tmp_path, ["a.png"])
    row = ROW | {"answer": "liver"} | dict(zip(names, ["lung", "liver"], strict=True))
    own.lines(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError, match="State `columns: {options: "):
        own.found(own.params(tmp_path))
    assert only(own.params(tmp_path, columns={"unused": names})).questions[0].kind == "open"
    assert only(own.params(tmp_path, columns={"options": names})).questions[0].options == ("lung", "liver")


@pytest.mark.parametrize("name", ["choices", "Choice", "candidates", "answer_choices"])
def test_options_under_another_name_are_an_error(tmp_path, name):
    made = table(tmp_path, {"answer": "B", name: ["lung", "liver"]})
    with pytest.raises(DataError, match="State `columns: {options: "):
        own.found(made)


@pytest.mark.parametrize("columns", [{"question": "q", "answer": "q"}, {"tags": ["sex", "sex"]}])
def test_a_column_has_one_role(tmp_path, columns):
    """A question column used as the answer would give the answer away."""
    with pytest.raises(ParamsError, match="a column has one role"):
        params.data({"name": "local", "label": "mine", "path": str(tmp_path), "columns": columns})


def test_spaces_after_commas_do_not_keep_quotes(tmp_path):
    own.photos(tmp_path, ["a.png"])
    (tmp_path / "metadata.csv").write_text('image, question, answer\na.png, "Is it, or not?", yes\n')
    assert only(own.params(tmp_path)).questions[0].text == "Is it, or not?"


@pytest.mark.parametrize("text, where", [
    ('a.png,Q1,"yes\na.png,Q2,no\n', "line 3"), ('a.png,"5" lesion?,yes\n', "line 2"),
], ids=["never closed", "text behind"])
def test_a_stray_quote_in_a_csv_does_not_swallow_text(tmp_path, text, where):
    """By default Python's reader takes all remaining rows as one answer, and drops the question's quote."""
    own.photos(tmp_path, ["a.png"])
    (tmp_path / "metadata.csv").write_text("image,question,answer\n" + text)
    with pytest.raises(DataError, match=f"in the row that ends in {where}"):
        own.found(own.params(tmp_path))


def test_images_without_a_group_are_counted_if_others_have_one(tmp_path):
    made = table(tmp_path, {"group": "p1"}, {"image": "b.png", "group": None}, {"image": "c.png", "group": " "})
    (note,) = [one["how"] for one in user_folder.survey(made).bindings if one["role"] == "groups"]
    assert note.endswith("; 2 images state none, and each is a group of its own")


@pytest.mark.parametrize("said", [[{"type": "text", "text": "yes"}], {"text": "yes"}, True])
def test_a_turn_of_llava_is_text(tmp_path, said):
    own.photos(tmp_path, ["a.png"])
    turns = [{"from": "human", "value": "<image>Is it?"}, {"from": "gpt", "value": said}]
    own.lines(tmp_path / "rows.jsonl", [{"image": "a.png", "conversations": turns}])
    (fault,) = user_folder.survey(own.params(tmp_path)).faults
    assert fault.problem == "not a text"


def test_hub_rows_without_a_label_are_faults(tmp_path):
    """`datasets` writes -1 for a missing label, as in a test split whose answers are withheld."""
    rows = [one | {"organ": -1} if number == 2 else one for number, one in enumerate(hub_rows(0, 4))]
    folder = hub.repository(tmp_path / "repo", {"train": rows, "test": hub_rows(20, 4)}, FEATURES)
    made = hub_params(folder, columns={"image": "pic", "answer": "organ"}, ask="Which organ?", kind="class")
    faults = datasets.REGISTRY["hub"].survey(made).faults
    assert ("empty answer", "train row 3") in [(one.problem, one.where) for one in faults]


def test_float32_answers_are_read_as_they_were_written(tmp_path):
    own.photos(tmp_path, ["a.png"])
    frame = pd.DataFrame([{"image": "a.png", "question": "How much?", "answer": np.float32(0.1)}])
    frame.astype({"answer": "float32"}).to_parquet(tmp_path / "rows.parquet")
    assert only(own.params(tmp_path)).questions[0].answer == "0.1"

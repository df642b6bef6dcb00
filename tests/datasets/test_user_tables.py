"""Mistakes in a user's table: names, repeats, marks, options, sizes, conflicts; and the phantom as a table."""

import csv
import json
from dataclasses import asdict

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Features, Image, Value
from PIL import Image as Picture

from medstudy import claims, datasets
from medstudy.data import arrow_store, table_export
from medstudy.data.example import SPLITS
from medstudy.data.readers import archives
from medstudy.datasets import audit, phantom
from medstudy.datasets.build import build
from medstudy.datasets.user import column_names, columns
from medstudy.datasets.user import folder as user_folder
from medstudy.datasets.user import hub as hub_columns
from medstudy.errors import DataError
from medstudy.scoring import score
from tests.support import hub, own, synthetic
from tests.support.image_files import dicom

ROW = {"image": "a.png", "question": "Which side?", "answer": "left", "options": "left|right", "kind": "choice",
       "group": "p1", "split": "test"}
# other spellings of a name: read, and noted
RESPELT = [str.title, str.upper, lambda name: f" {name} ", lambda name: f"\ufeff{name}", lambda name: f"{name}\u200b",
           lambda name: "".join(chr(ord(sign) + 0xFEE0) for sign in name)]
# near misses of a name: an error
NEAR = [lambda name: name[:-1], lambda name: f"{name}x", lambda name: name[1] + name[0] + name[2:],
        lambda name: f"{name[:2]}#{name[3:]}", lambda name: f"{name.title()}x "]


def write(folder, rows, kind="csv"):
    """A table of a supported kind, and the images a.png to c.png."""
    own.photos(folder, ["a.png", "b.png", "c.png"])
    names = list(dict.fromkeys(name for row in rows for name in row))
    if kind in ("csv", "tsv"):
        with (folder / f"t.{kind}").open("w", encoding="utf-8", newline="") as out:
            made = csv.DictWriter(out, names, delimiter={"csv": ",", "tsv": "\t"}[kind])
            made.writeheader()
            made.writerows(rows)
    elif kind == "parquet":
        pd.DataFrame(rows).to_parquet(folder / "t.parquet")
    elif kind == "json":
        (folder / "t.json").write_text(json.dumps(rows))
    else:
        own.lines(folder / "t.jsonl", rows)
    return own.params(folder)


def renamed(name, spelt):
    return {spelt if one == name else one: content for one, content in ROW.items()}


def faults(made):
    return [one.problem for one in datasets.REGISTRY[made.name].survey(made).faults]


def asked(folder, *rows, **more):
    """The survey of rows that are a closed question about a.png with changes."""
    base = {"image": "a.png", "question": "Is it?", "answer": "yes"}
    own.photos(folder, ["a.png", "b.png", "c.png"])
    own.lines(folder / "rows.jsonl", [base | row for row in rows])
    return user_folder.survey(own.params(folder, test_share=1.0, **more))


def texts(found):
    return [(one.question.text, [name for _, name in one.images]) for entry in found.entries for one in entry.rows]


# --- names of columns


@pytest.mark.parametrize("role", [name for names in columns.NAMES.values() for name in names if name !=
"images"])
@pytest.mark.parametrize("spell", RESPELT, ids=range(len(RESPELT)))
def test_another_spelling_of_a_column_is_read_and_noted(tmp_path, role, spell):
    row = {("file_name" if one == "image" and role == "file_name" else one): said for one, said in ROW.items()}
    made = write(tmp_path, [{spell(role) if name == role else name: said for name, said in row.items()}], "jsonl")
    found = user_folder.survey(made)
    (entry,) = found.entries
    assert (entry.split, entry.group, entry.rows[0].question.kind) == ("test", "p1", "choice")
    (one,) = [one for one in found.bindings if one["how"] == column_names.RESPELT]
    assert one["role"] == ("image" if role == "file_name" else role)
    report = audit.data([made])
    assert list(report.notices["notice"]) == ["column name"]


@pytest.mark.parametrize("role", ["question", "answer", "options", "kind", "group", "split"])
@pytest.mark.parametrize("spell", NEAR, ids=range(len(NEAR)))
def test_a_near_miss_is_an_error_that_names_the_column_and_the_role(tmp_path, role, spell):
    row = renamed(role, spell(role))
    made = write(tmp_path, [row if role != "options" else {name: row[name] for name in row if name != "kind"}])
    with pytest.raises(DataError, match=f"(?s){role}.*{spell(role)!r}"):
        user_folder.survey(made)
    free = own.params(tmp_path, columns={"unused": [spell(role)]})
    if role in ("question", "answer"):
        with pytest.raises(DataError, match=f"needs a column `{role}`"):
            user_folder.survey(free)
    else:
        assert user_folder.survey(free).entries


@pytest.mark.parametrize("kind", ["csv", "tsv", "json", "jsonl", "parquet"])
def test_near_misses_in_every_kind_of_table(tmp_path, kind):
    with pytest.raises(DataError, match="the split must be named 'split'.*'splits'"):
        user_folder.survey(write(tmp_path, [renamed("split", "splits")], kind))
    assert user_folder.survey(write(tmp_path, [renamed("split", "Split")], kind)).entries[0].split == "test"


def test_two_columns_with_nearly_equal_names_are_an_error(tmp_path):
    with pytest.raises(DataError, match="'split', 'Split'"):
        user_folder.survey(write(tmp_path, [ROW | {"Split": "train"}]))
    with pytest.raises(DataError, match="one column of images"):
        user_folder.survey(write(tmp_path, [ROW | {"images": "b.png"}]))


def test_a_row_that_spells_a_column_differently_is_a_fault(tmp_path):
    strange = {"image": "b.png", "question": "Which side?", "answer": "left", "option": "left|right", "split": "test"}
    assert faults(write(tmp_path, [ROW, strange], "jsonl")) == ["column name"]


def test_a_column_similar_to_the_stated_one_is_suggested(tmp_path):
    write(tmp_path, [ROW | {"patient ": "p"}])
    with pytest.raises(DataError, match="Is it 'patient '"):
        user_folder.survey(own.params(tmp_path, columns={"group": "patient"}))


def test_an_entry_that_no_row_has_is_an_error(tmp_path):
    """For an optional column, such as the group, it would otherwise be empty in every row."""
    row = {"meta": {"who": {"patient": "p"}}}
    with pytest.raises(DataError, match="The group is entry 'patiant' of who, but who of meta of .* has patient"):
        asked(tmp_path, row, columns={"group": "meta.who.patiant"})
    with pytest.raises(DataError, match="The group is entry 'patient' of meta, but meta of .* has who"):
        asked(tmp_path, row, columns={"group": "meta.patient"})
    assert asked(tmp_path, row, {"meta": None}, columns={"group": "meta.who.patient"}).entries[0].group == "p"


def test_near_misses_of_hub_columns(tmp_path):
    rows = [{"image": hub.encoded(0), "Question": "Is it?", "answer": "yes", "option": "x"}]
    features = Features({"image": Image(), "Question": Value("string"), "answer": Value("string"),
                         "option": Value("string")})
    folder = hub.repository(tmp_path / "repo", {"test": rows}, features)
    content = {"name": "hub", "label": "theirs", "path": str(folder), "splits": {"train": None}}
    with pytest.raises(DataError, match="the options must be named 'options'.*'option'"):
        faults(own.ADAPTER.validate_json(json.dumps(content)))
    made = own.ADAPTER.validate_json(json.dumps(content | {"columns": {"unused": ["option"]}}))
    found = hub_columns.survey(made)
    how = [one["how"] for one in found.bindings if one["role"] == "question"]
    assert found.entries and how == [column_names.RESPELT]


@pytest.mark.parametrize("row", [
    {"query": "Is it?", "response": "yes", "Images": ["a.png"]},
    {"query": "Is it?", "response": "yes", "image": "a.png", "histroy": [["Is it?", "no"]]},
    {"image": "a.png", "Conversations": [], "conversations": [{"from": "human", "value": "Q"},
                                                              {"from": "gpt", "value": "A"}]},
])
def test_near_misses_of_the_keys_of_conversations(tmp_path, row):
    own.photos(tmp_path, ["a.png"])
    own.lines(tmp_path / "rows.jsonl", [row])
    with pytest.raises(DataError, match="A row's keys must be"):
        user_folder.survey(own.params(tmp_path))


@pytest.mark.parametrize("row, message", [
    ({"query": "Is it?", "response": "yes", "images": ["a.png"], "image": "b.png"}, "has both"),
    ({"query": "Is it?", "response": "yes", "images": ["a.png"], "messages": [{"role": "user"}]}, "has both"),
])
def test_a_row_with_two_forms_of_one_field_is_a_fault(tmp_path, row, message):
    own.photos(tmp_path, ["a.png", "b.png"])
    own.lines(tmp_path / "rows.jsonl", [row])
    (fault,) = user_folder.survey(own.params(tmp_path)).faults
    assert message in fault.message


# --- equal names


@pytest.mark.parametrize("name, content", [
    ("t.csv", "image,question,answer,answer\na.png,Is it?,yes,no\n"),
    ("t.tsv", "image\tquestion\tanswer\tanswer\na.png\tIs it?\tyes\tno\n"),
    ("t.jsonl", '{"image": "a.png", "question": "Is it?", "answer": "yes", "answer": "no"}\n'),
    ("t.jsonl", '{"image": "a.png", "question": "Q", "answer": "x", "options": {"A": "x", "B": "y", "B": "z"}}\n'),
    ("t.json", '[{"image": "a.png", "question": "Is it?", "answer": "yes", "answer": "no"}]'),
])
def test_repeated_names_are_an_error(tmp_path, name, content):
    own.photos(tmp_path, ["a.png"])
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match="repeated|2 times"):
        user_folder.survey(own.params(tmp_path))


def test_repeated_keys_in_a_cell_are_a_fault(tmp_path):
    row = ROW | {"options": '{"A": "left", "B": "x", "B": "y"}'}
    assert faults(write(tmp_path, [row])) == ["not a list"]


@pytest.mark.parametrize("nested", [False, True])
def test_repeated_names_in_parquet_are_an_error(tmp_path, nested):
    own.photos(tmp_path, ["a.png"])
    names = ["image", "question", "answer", "answer"]
    arrays = [pa.array([text]) for text in ("a.png", "Is it?", "yes", "no")]
    if nested:
        inner = pa.StructArray.from_arrays(arrays[2:], fields=[pa.field("say", pa.string())] * 2)
        names, arrays = ["image", "question", "answer"], [*arrays[:2], inner]
    pq.write_table(pa.Table.from_arrays(arrays, names=names), tmp_path / "t.parquet")
    with pytest.raises(DataError, match="2 times"):
        user_folder.survey(own.params(tmp_path))


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_repeated_names_in_a_hub_data_set_are_an_error(tmp_path, kind):
    folder = tmp_path / "repo"
    own.photos(folder, ["a.png"])
    if kind == "csv":
        (folder / "test.csv").write_text("image,question,answer,answer\na.png,Is it?,yes,no\n")
    elif kind == "parquet":
        arrays = [pa.array([text]) for text in ("a.png", "Is it?", "yes", "no")]
        table = pa.Table.from_arrays(arrays, names=["image", "question", "answer", "answer"])
        pq.write_table(table, folder / "test.parquet")
    else:
        (folder / "test.jsonl").write_text('{"image": "a.png", "question": "Q", "answer": "yes", "answer": "no"}\n')
    content = {"name": "hub", "label": "theirs", "path": str(folder), "splits": {"train": None}}
    with pytest.raises(DataError):
        hub_columns.survey(own.ADAPTER.validate_json(json.dumps(content)))


def test_repeated_names_in_tables_of_public_data_sets_are_an_error(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,b\n1,2,3\n")
    with pytest.raises(DataError, match="'b' 2 times"):
        list(archives.table(tmp_path / "t.csv", {"a": "it"}))


@pytest.mark.parametrize("line", ["a.png,Is it?,yes", "a.png,Is it?,yes,train,more", "a.png,Is it?"])
def test_a_row_must_have_one_cell_per_column(tmp_path, line):
    own.photos(tmp_path, ["a.png"])
    (tmp_path / "t.csv").write_text(f"image,question,answer,group\n{line}\n")
    assert faults(own.params(tmp_path)) == ["cells"]


def test_columns_without_a_name(tmp_path):
    """As in a pandas index or in Excel's empty columns; cells in several of them are a fault."""
    own.photos(tmp_path, ["a.png"])
    (tmp_path / "t.csv").write_text(",image,question,answer,\n0,a.png,Is it?,yes,\n")
    found = user_folder.survey(own.params(tmp_path, test_share=1.0))
    assert found.entries and not found.faults
    (tmp_path / "t.csv").write_text(",image,question,answer,\n0,a.png,Is it?,yes,no\n")
    assert faults(own.params(tmp_path)) == ["cells"]


# --- marks


@pytest.mark.parametrize("question, images, expected", [
    ("<image>\nIs it?", ["a.png"], "Is it?"),
    ("Is it? <img>", ["a.png"], "Is it?"),
    ("<image 1> Is it?", ["a.png"], "Is it?"),
    ("Is <image> it?", ["a.png"], "Is (image 1) it?"),
    ("<image>\n<image> Alike?", ["a.png", "b.png"], "Alike?"),
    ("First:<image> Second: <IMAGE/>. Alike?", ["a.png", "b.png"], "First: (image 1) Second: (image 2). Alike?"),
    ("Is <image_2>like <image_1>?", ["a.png", "b.png"], "Is (image 2) like (image 1)?"),
    ("Alike?", ["a.png", "b.png"], "Alike?"),
    ("Is it <5 mm and >2 mm?", ["a.png"], "Is it <5 mm and >2 mm?"),
])
def test_marks_place_images(tmp_path, question, images, expected):
    found = asked(tmp_path, {"image": None, "images": images, "question": question}, columns={"images": "images"})
    assert texts(found) == [(expected, images)] and not found.faults


@pytest.mark.parametrize("row, problem", [
    ({"question": "<image><image> Is it?"}, "image marks"),
    ({"question": "<image 2> Is it?"}, "image marks"),
    ({"question": "<image 0> Is it?"}, "image marks"),
    ({"question": "<image>Is it?", "image": ["a.png", "b.png"]}, "image marks"),
    ({"question": "<image 2>Is it?", "image": ["a.png", "b.png"]}, "image marks"),
    ({"question": "<image><image 2>Is it?", "image": ["a.png", "b.png"]}, "image marks"),
    ({"question": "<|vision_start|><|image_pad|><|vision_end|>Is it?"}, "control token"),
    ({"question": "Is it?<|im_end|>"}, "control token"),
    ({"question": "<start_of_image>Is it?"}, "control token"),
    ({"question": "[INST] Is it?"}, "control token"),
    ({"question": "Find <ref-object>"}, "unknown mark"),
    ({"question": "<img>a.png</img> Is it?"}, "unknown mark"),
    ({"question": "<video>Is it?"}, "unknown mark"),
    ({"question": "&lt;image&gt; Is it?"}, "unknown mark"),
    ({"answer": "yes <image>"}, "mark in answer"),
    ({"answer": "yes<|endoftext|>"}, "control token"),
    ({"options": ["x", "y <image>"], "answer": "x", "question": "<image>Which?"}, "image marks"),
    ({"question": "<image>"}, "no question"),
])
def test_marks_that_do_not_match_the_images_are_faults(tmp_path, row, problem):
    found = asked(tmp_path, {"question": "Fine?", "image": "c.png"}, row)
    assert [(one.problem, one.where) for one in found.faults] == [(problem, "rows.jsonl row 2")]


def turns(*said):
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(said)]


def llava(*said):
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(said)]


TWO = ("<image>What?", "lung", "<image>And this?", "liver", "Are both normal?", "yes")


@pytest.mark.parametrize("row", [
    {"messages": turns(*TWO), "images": ["a.png", "b.png"]},
    {"query": TWO[4], "response": "yes", "history": [TWO[:2], TWO[2:4]], "images": ["a.png", "b.png"]},
    {"conversations": llava(*TWO), "image": ["a.png", "b.png"]},
], ids=["messages", "history", "llava"])
def test_a_turn_is_about_the_images_shown_so_far(tmp_path, row):
    own.photos(tmp_path, ["a.png", "b.png"])
    own.lines(tmp_path / "rows.jsonl", [row])
    found = user_folder.survey(own.params(tmp_path, test_share=1.0))
    assert texts(found) == [
        ("What?", ["a.png"]), ("And this?", ["a.png", "b.png"]), ("Are both normal?", ["a.png", "b.png"])]
    assert len({one.group for one in found.entries}) == 1
    (marked,) = [one["how"] for one in found.bindings if one["role"] == "marks"]
    assert marked.startswith("2 marks of images in 2 questions")


@pytest.mark.parametrize("said, images", [
    (("<image><image>Alike?", "no"), ["a.png"]),
    (("<image>Seen?", "no"), ["a.png", "b.png"]),
    (("Seen?", "no", "<image>And now?", "yes"), ["a.png"]),
    (("<image>Seen?", "<image>no"), ["a.png"]),
    (("<image>Seen?", "no"), []),
])
def test_marks_in_conversations_that_do_not_match_are_faults(tmp_path, said, images):
    own.photos(tmp_path, ["a.png", "b.png"])
    rows = {"swift": {"messages": turns(*said), "images": images}, "llava": {"conversations": llava(*said),
                                                                            "image": images}}
    for name, row in rows.items():
        own.lines(tmp_path / name / "rows.jsonl", [row])
        found = user_folder.survey(own.params(tmp_path / name, images=str(tmp_path)))
        assert len(found.faults) == 1 and not found.entries


# --- options and answers


@pytest.mark.parametrize("options, answer, right", [
    ({"1": "lung", "2": "liver", "3": "heart"}, 2, "liver"),
    ({"1": "lung", "2": "liver", "3": "heart"}, "2", "liver"),
    ({"0": "lung", "1": "liver"}, 1, "liver"),
    ({"B": "lung", "A": "liver"}, "B", "lung"),
    ({"B": "lung", "A": "liver"}, "a", "liver"),
    ({"a)": "lung", "b)": "liver"}, "b", "liver"),
    ({"10": "ten", "9": "nine", "8": "eight"}, 9, "nine"),
    ({"1": "2", "2": "1"}, 1, "2"),
    ({"x": "lung", "y": "liver"}, "B", "liver"),
    ({"1": "lung", "2": "liver"}, "B", "liver"),
    ('{"1": "lung", "2": "liver"}', "1", "lung"),
    (["Co", "CO"], "CO", "CO"),
])
def test_an_answer_is_first_compared_with_the_options_keys(tmp_path, options, answer, right):
    found = asked(tmp_path, {"options": options, "answer": answer})
    made = found.entries[0].rows[0].question
    assert made.options["ABC".index(made.answer)] == right
    assert list(made.options) == list((json.loads(options) if isinstance(options, str) else options).values()
                                      if not isinstance(options, list) else options)


@pytest.mark.parametrize("options, answer", [
    ({"1": "lung", "2": "liver"}, 0),
    ({"A": "lung", "C": "liver"}, "B"),
    ({"option1": "lung", "option2": "liver"}, 1),
    (["lung", "lung", "liver"], "C"),
    (["lung", "liver"], "1"),
])
def test_an_answer_that_is_not_an_option_is_a_fault(tmp_path, options, answer):
    assert len(asked(tmp_path, {"options": options, "answer": answer}).faults) == 1


def test_numbers_count_from_0_only_if_one_is_0(tmp_path):
    rows = [{"options": ["x", "y", "z"], "answer": answer, "question": f"Which {answer}?"} for answer in (1, 2)]
    found = asked(tmp_path, *rows)
    assert [one.problem for one in found.faults] == ["number from 0 or 1"] * 2 and not found.entries
    found = asked(tmp_path, *rows, {"options": ["x", "y"], "answer": 0})
    assert [one.question.answer for one in found.entries[0].rows] == ["B", "C", "A"] and not found.faults


def test_names_of_option_columns_are_keys(tmp_path):
    named = {"options": ["B", "A"]}
    found = asked(tmp_path, {"A": "lung", "B": "liver", "answer": "A"}, columns=named)
    made = found.entries[0].rows[0].question
    assert (made.options, made.answer) == (("liver", "lung"), "B")


@pytest.mark.parametrize("ids, expected", [
    (("organ", "organ", "stain"), {"organ", "stain"}),
    (("1", "2", "3"), {"Organ?", "3"}),
    (("1", "1", "1"), {"Organ?", "Stain?"}),
])
def test_a_class_question_has_its_own_id(tmp_path, ids, expected):
    """Its classes are the answers of all rows with its id: two questions with one id would mix them."""
    rows = zip(ids, ("a.png", "b.png", "c.png"), ("Organ?", "Organ?", "Stain?"), strict=True)
    found = asked(tmp_path, *({"key": key, "image": image, "question": text} for key, image, text in rows),
                  kind="class", columns={"id": "key"})
    made = [one.question for entry in found.entries for one in entry.rows]
    assert {question.id for question in made} == expected
    assert len({(question.id, question.text) for question in made}) == 2


# --- questions asked twice


def contradicting(folder, split="test", **more):
    rows = [{"answer": "yes", "split": split}, {"answer": "no", "split": split},
            {"image": "b.png", "split": "val"}, {"image": "c.png", "split": "test"}]
    asked(folder, *rows)
    return own.params(folder, **more)


def test_contradicting_test_questions_stop_the_check_and_the_study(tmp_path):
    made = contradicting(tmp_path)
    report = audit.data([made])
    assert list(report.problems["problem"]) == ["contradiction"] and report.stops
    with pytest.raises(DataError, match="1 of mine contradict another.*on_contradiction: keep"):
        build(made, tmp_path / "built")
    kept = contradicting(tmp_path, on_contradiction="keep")
    assert not audit.data([kept]).stops
    build(kept, tmp_path / "kept")
    assert list(pd.read_csv(tmp_path / "kept" / "conflicts.csv")["conflict"]) == ["contradiction"]


def test_contradicting_training_questions_are_listed(tmp_path):
    made = contradicting(tmp_path, "train")
    report = audit.data([made])
    assert list(report.problems["problem"]) == ["contradiction"] and not report.stops
    build(made, tmp_path / "built")
    (row,) = pd.read_csv(tmp_path / "built" / "conflicts.csv").itertuples()
    assert (row.conflict, row.answer, row.other_answer, row.split) == ("contradiction", "no", "yes", "train")


@pytest.mark.parametrize("rows, problems, notices", [
    ([{"options": ["x", "y"], "answer": "x"}, {"options": ["y", "x"], "answer": "y"}], ["contradiction"], []),
    ([{"options": ["x", "y"], "answer": "x"}, {"options": ["x", "z"], "answer": "z"}], [], []),
    ([{"kind": "class"}, {"kind": "class", "answer": "y", "question": "is  IT?"}], ["contradiction"], []),
    ([{"answer": "a nodule"}, {"answer": "a mass"}], [], ["several answers"]),
    ([{}, {"answer": "Yes."}], [], ["repeated question"]),
    ([{}, {"answer": "YES "}], [], ["repeated question"]),
    ([{}, {"question": "Where?", "answer": "left"}], [], []),
])
def test_contradictions_and_repeats(tmp_path, rows, problems, notices):
    asked(tmp_path, *[row | {"split": "test"} for row in rows])
    report = audit.data([own.params(tmp_path)])
    assert list(report.problems["problem"]) == problems and list(report.notices["notice"]) == notices


def test_an_image_under_another_name_can_contradict(tmp_path):
    asked(tmp_path, {"split": "test"}, {"image": "copy.png", "answer": "no", "split": "test"})
    (tmp_path / "copy.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert list(audit.data([own.params(tmp_path)]).problems["problem"]) == ["contradiction"]


# --- what data check prints


def test_data_check_states_the_role_of_every_column_and_how_splits_arose(tmp_path):
    about = {"Options": "", "age_group": 7, "note": "x"}
    rows = [about | {"q": f"Where {i}?", "size": 3.5 if i else None} for i in (0, 1)]
    asked(tmp_path, *rows, {"q": "<image>Which?", "Options": "x|y", "answer": "x", "age_group": 7, "image": "b.png"})
    made = own.params(tmp_path, test_share=1.0, columns={"question": "q", "detail": "size", "unused": ["question"]})
    report = audit.data([made])
    said = {(row.role, row.column): row.how for row in report.columns.itertuples()}
    assert said[("question", "q")] == said[("detail", "size")] == "stated"
    assert said[("options", "Options")] == column_names.RESPELT and said[("image", "image")] == "by its name"
    assert said[("", "note")] == "not read" and "if it is the group" in said[("", "age_group")]
    assert "drawn by group (test_share 1.0" in said[("splits", "")]
    assert said[("marks", "")].startswith("1 marks of images in 1 questions")
    kinds = {(row.split, row.kind): (row.questions, row.fine) for row in report.kinds.itertuples()}
    assert kinds == {("test", "closed"): (2, 1), ("test", "choice"): (1, 0)}
    assert report.to_dict()["columns"] and report.to_dict()["kinds"]


def test_how_splits_arose(tmp_path):
    def how(folder, **more):
        (one,) = [one["how"] for one in user_folder.survey(own.params(folder, **more)).bindings if one["role"] ==
        "splits"]
        return one

    asked(tmp_path / "column", {"split": "train"}, {"image": "b.png", "split": "test"})
    assert how(tmp_path / "column").startswith("the column of the split")
    assert how(tmp_path / "column", split="shares").startswith("drawn by group")
    own.photos(tmp_path / "files", ["a.png", "b.png"])
    for split, name in (("train", "a.png"), ("test", "b.png")):
        own.lines(tmp_path / "files" / f"{split}.jsonl", [{"image": name, "question": "Q", "answer": "x"}])
    assert how(tmp_path / "files", val_share=0.98, test_share=0.01).startswith(
        "the names of files or folders; val is drawn from the groups of train (val_share 0.98")


def test_the_data_job_lists_every_row_that_it_leaves_out(tmp_path):
    rows = [{"split": split, "image": f"{name}.png"} for split, name in zip(SPLITS, "abc", strict=True)]
    asked(tmp_path, *rows, {"image": "z.png", "split": "test"}, {"answer": None, "split": "train"},
          {"image": "broken.png", "split": "train"})
    (tmp_path / "broken.png").write_bytes((tmp_path / "a.png").read_bytes()[:300])
    with pytest.warns(UserWarning, match="z.png"):
        build(own.params(tmp_path, on_unreadable="skip"), tmp_path / "built")
    lost = pd.read_csv(tmp_path / "built" / "unreadable.csv")
    assert sorted(lost["problem"]) == ["empty answer", "missing", "unreadable"]
    assert set(pd.read_csv(tmp_path / "built" / "columns.csv")["role"]) >= {"image", "split", "splits"}


# --- the size of the deciding detail


@pytest.mark.parametrize("row, columns, expected", [
    ({"d": 3.5}, {"detail": "d"}, 3.5),
    ({"d": "12"}, {"detail": "d"}, 12.0),
    ({"d": ""}, {"detail": "d"}, None),
    ({"b": [10, 20, 40, 25.5]}, {"box": "b"}, 5.5),
    ({"b": "[10, 20, 40, 25]"}, {"box": "b"}, 5.0),
    ({"b": [0, 0, 80, 60]}, {"box": "b"}, 60.0),
    ({"b": None}, {"box": "b"}, None),
    ({"l": 1, "t": "2", "r": 9, "u": 5}, {"box": ["l", "t", "r", "u"]}, 3.0),
])
def test_the_size_of_the_deciding_detail(tmp_path, row, columns, expected):
    found = asked(tmp_path, row, columns=columns)
    assert found.entries[0].rows[0].question.detail_px == expected and not found.faults


@pytest.mark.parametrize("row, problem", [
    ({"d": 0}, "detail"), ({"d": -3}, "detail"), ({"d": "NaN"}, "detail"), ({"d": "inf"}, "detail"),
    ({"d": "5 mm"}, "detail"), ({"d": "3,5"}, "detail"), ({"d": 81}, "detail"), ({"d": True}, "not a text"),
    ({"b": [10, 20, 5, 25]}, "box"), ({"b": [10, 20, 40, 20]}, "box"), ({"b": [10, 20, 40]}, "box"),
    ({"b": [[1, 2, 3, 4], [5, 6, 7, 8]]}, "box"), ({"b": "10 20 40 25"}, "box"), ({"b": [1, 2, "nan", 4]}, "box"),
    ({"b": [-1, 0, 5, 5]}, "box outside"), ({"b": [10, 20, 81, 25]}, "box outside"),
    ({"b": [10, 20, 40, 60.5]}, "box outside"), ({"d": 3, "b": [1, 2, 5, 6]}, "two sizes"),
])
def test_an_impossible_size_is_a_fault_of_its_row(tmp_path, row, problem):
    fill = {"d": None, "b": None, "split": "test"}
    asked(tmp_path, fill, fill | row | {"question": "And this?"})
    made = {"columns": {"detail": "d", "box": "b"}}
    report = audit.data([own.params(tmp_path, **made)])
    assert list(report.problems[["problem", "where"]].itertuples(index=False)) == [(problem, "rows.jsonl row 2")]
    with pytest.raises(DataError, match="rows.jsonl row 2"):
        own.found(own.params(tmp_path, **made))
    with pytest.warns(UserWarning, match="rows.jsonl row 2"):
        (one,) = own.found(own.params(tmp_path, on_unreadable="skip", **made))
    assert len(one.questions) == 1


def test_a_box_and_the_size_of_a_pixel_reach_the_stored_examples(tmp_path):
    """The box as whole pixels; the size from the column, else from the file."""
    header = {"PixelSpacing": [0.4, 0.4]}
    (tmp_path / "scan.dcm").write_bytes(dicom(np.arange(4800, dtype=np.int16).reshape(1, 60, 80), **header))
    asked(tmp_path, {"b": [10, 20.5, 40, 25.5], "um": 0.5, "split": "test"},
          {"image": "scan.dcm", "split": "test", "b": None, "um": None, "question": "And this?"})
    build(own.params(tmp_path, columns={"box": "b", "um_per_px": "um"}), tmp_path / "built")
    first, scan = sorted(arrow_store.read(tmp_path / "built", "test"), key=lambda one: one.um_per_px)
    assert first.questions[0].box == (20, 10, 6, 30) and first.um_per_px == 0.5
    assert scan.questions[0].box is None and scan.um_per_px == 400


@pytest.mark.parametrize("rows, problem", [
    (({"um": 0},), "um_per_px"), (({"um": "fine"},), "um_per_px"),
    (({"um": 0.5}, {"um": 0.25, "question": "And this?"}), "two spacings"),
])
def test_an_impossible_size_of_a_pixel_is_a_fault(tmp_path, rows, problem):
    found = asked(tmp_path, *rows, columns={"um_per_px": "um"})
    assert [fault.problem for fault in found.faults] == [problem]


# --- the phantom as a table


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The phantom's examples, and those that `local` reads from the phantom exported as images and a table."""
    folder = tmp_path_factory.mktemp("exported")
    params = phantom.Params(train=4, val=4, test=24, letters=True)
    made = [one for split in SPLITS for one in phantom.load(params, split)]
    table_export.write(made, folder)
    read = own.found(own.params(folder, label="phantom", columns=table_export.COLUMNS, render=True))
    return made, read


def test_the_phantom_as_a_table_has_equal_examples(pair):
    made, read = pair
    assert len(made) == len(read) == 32
    for one, other in zip(made, read, strict=True):
        assert [asdict(question) for question in one.questions] == [asdict(question) for question in other.questions]
        assert np.array_equal(np.asarray(one.image), other.image.pixels())
        assert other.image_id == f"{one.split}/{one.image_id}.png"
        for name in ("split", "group", "family", "modality", "anatomy", "dataset", "render"):
            assert getattr(one, name) == getattr(other, name), name
    assert {question.kind for one in made for question in one.questions} == {
        "closed", "open", "choice", "class", "description"}


def test_counts_points_and_boxes_come_back_from_a_table(tmp_path):
    made = [one for split in SPLITS for one in phantom.load(phantom.Params(train=4, val=4, test=8, locate=True), split)]
    table_export.write(made, tmp_path)
    read = own.found(own.params(tmp_path, label="phantom", columns=table_export.COLUMNS, render=True))
    assert [one.questions for one in read] == [one.questions for one in made]
    assert {question.kind for one in read for question in one.questions} >= {"count", "point", "box"}


@pytest.mark.parametrize("kind, answer, message", [
    ("count", "three", "whole number"), ("count", "2.5", "whole number"), ("point", "12, 30", "JSON list of"),
    ("point", "[[1, 2, 3]]", "JSON list of"), ("box", "[[5, 5, 2, 9]]", "x0 < x1"), ("box", "[1, 2]", "JSON list of"),
    ("box", "[0, 0, 9, 99]", "must lie in its image"), ("point", "[[-1, 2]]", "must lie in its image"),
])
def test_a_reference_of_the_wrong_form_names_its_row(tmp_path, kind, answer, message):
    Picture.new("RGB", (28, 28)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": "Where?", "answer": answer, "kind": kind, "split": "test"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(DataError, match=message) as error:
        own.found(own.params(tmp_path))
    assert "rows.jsonl row 1" in str(error.value)


@pytest.mark.parametrize("kind, answer, kept", [
    ("count", 3, "3"), ("count", 3.0, "3"), ("point", [[3, 4]], "[[3, 4]]"), ("point", "[3, 4]", "[3, 4]"),
    ("point", {"points": [[3, 4]], "radius": 2}, '{"points": [[3, 4]], "radius": 2}'),
    ("box", [1, 2, 5, 9], "[1, 2, 5, 9]"), ("report", "No nodule.", "No nodule."), ("closed", "是", "是"),
    ("closed", "Oui", "Oui"),
])
def test_references_of_every_kind_are_read(tmp_path, kind, answer, kept):
    Picture.new("RGB", (28, 28)).save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": "Where?", "answer": answer, "kind": kind, "split": "test"}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ((question,),) = [one.questions for one in own.found(own.params(tmp_path))]
    assert (question.kind, question.answer) == (kind, kept)


def test_the_phantom_as_a_table_gives_equal_claims(pair):
    tables = [_claims([one for one in examples if one.split == "test"]) for examples in pair]
    pd.testing.assert_frame_equal(*tables)
    verdicts = tables[0].set_index("id")["verdict"]
    assert (verdicts[["O1", "O3", "O7"]] != "not run").all()
    without = _claims([one for one in pair[1] if one.split == "test"], detail_px=np.nan).set_index("id")["verdict"]
    assert (without[["O1", "O3", "O7"]] == "not run").all()


def _claims(examples, **changes):
    """Claims from made-up predictions that are right if a detail is large enough at the rung."""
    items = arrow_store.questions(examples).assign(prompt="", image_effect=0.0, chance=0.0,
    wrong="none").assign(**changes)
    items = items.drop(columns=["question", "context", "image_id"]).assign(image_id=items["group"])
    effects, rng = synthetic.Effects(), np.random.default_rng(0)
    rungs = ("fixed-84", "fixed-224", "native")
    cells = [(regime, rung, "none") for regime in synthetic.REGIMES for rung in rungs]
    cells += [("native", "blind", "blind"), ("native", "down_up-84", "down_up")]
    frames = [synthetic._cell(items, *cell, s, 0.0, effects, rng) for s in range(3) for cell in cells]
    rows = pd.concat(frames, ignore_index=True).drop(columns=["image_effect", "chance", "wrong"])
    return claims.claims_table(score.score(rows), synthetic.training())

"""Rows of ms-swift: both forms, nulls, any text, and errors that name the row."""

import json

import pytest

from medstudy.data.readers import conversations
from medstudy.errors import DataError
from tests.support import hub


def read(tmp_path, *rows, name="rows.jsonl", **options):
    file = tmp_path / name
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    file.write_text(json.dumps(rows) if name.endswith(".json") else "\n".join(lines), encoding="utf-8")
    return list(conversations.swift_rows(file, **options))


def turn(role, content):
    return {"role": role, "content": content}


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.json"])
def test_query_and_response(tmp_path, name):
    asked = {"query": "is β\u2028 high? <image>", "response": " no ", "images": ["a.png"]}  # U+2028 within it
    later = {"query": "q", "response": "r", "images": "b.png", "history": [["p", "o"]]}
    first, second = read(tmp_path, asked, later, name=name)
    assert first.turns == ((("a.png",), "is β\u2028 high?", "no"),) and first.where == "Row 0 of " + name
    assert second.images == ("b.png",) and second.where == "Row 1 of " + name
    assert second.turns == ((("b.png",), "p", "o"), (("b.png",), "q", "r"))


def test_messages_end_with_the_question(tmp_path):
    messages = [turn("system", "s"), turn("user", "<image>a?"), turn("assistant", "b"), turn("user", "<image>c?"),
                turn("assistant", "d")]
    (one,) = read(tmp_path, {"messages": messages, "images": [{"bytes": None, "path": "x.png"}, "y.png"]})
    assert one.turns == ((("x.png",), "a?", "b"), (("x.png", "y.png"), "c?", "d"))
    assert (one.query, one.response) == ("c?", "d")
    assert one.images == ("x.png", "y.png")


@pytest.mark.parametrize("images", [None, [], "absent"])
def test_rows_may_lack_an_image_until_it_is_read(tmp_path, images):
    row = {"query": "q", "response": "r"} | ({} if images == "absent" else {"images": images})
    (one,) = read(tmp_path, row)
    assert one.images == ()
    with pytest.raises(DataError, match="Row 0 of rows.jsonl must name an image"):
        conversations.row_picture(one, tmp_path)


@pytest.mark.parametrize("row, message", [
    ({"query": "q", "images": ["a.png"]}, "Row 0 of rows.jsonl must have query, response.*Missing: response"),
    ({"query": None, "response": "r"}, "a text as `query`, got None"),
    ({"query": "q", "response": "r", "images": [None]}, "paths as `images`, got None"),
    ({"query": "q", "response": "r", "history": [["p"]]}, "pairs of question and answer"),
    ({"messages": [turn("user", "q")]}, "end with an answer, got .'user'."),
    ({"messages": [turn("user", [{"type": "text"}]), turn("assistant", "r")]}, "a text as `content`"),
    ({"query": "q", "response": "r", "history": 5}, "a list of pairs as `history`, got 5"),
    ([1], "must be an object, got list"),
])
def test_errors_name_what_is_wrong(tmp_path, row, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, row)


def test_an_invalid_line_of_json_is_named(tmp_path):
    (tmp_path / "rows.jsonl").write_text('{"query": "q", "response": "r"}\n{"query":\n')
    with pytest.raises(DataError, match="line 2 must be valid json"):
        list(conversations.swift_rows(tmp_path / "rows.jsonl"))


def test_paths_are_below_the_folder_and_lose_the_stated_prefix(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(hub.encoded(0, kind="PNG")["bytes"])
    (one,) = read(tmp_path, {"query": "q", "response": "r", "images": "/lab/in/a.png"}, strip="/lab")
    assert conversations.row_picture(one, tmp_path).height == 60
    (other,) = read(tmp_path, {"query": "q", "response": "r", "images": "/lab/in/a.png"})
    with pytest.raises(DataError, match="Row 0 of rows.jsonl: .*relative paths"):
        conversations.row_picture(other, tmp_path)


def test_rows_about_the_same_images_are_together(tmp_path):
    rows = [{"query": f"q{i}", "response": "r", "images": [name]} for i, name in enumerate("aba")]
    groups = conversations.rows_by_images(read(tmp_path, *rows))
    assert [[row.query for row in group] for group in groups] == [["q0", "q2"], ["q1"]]

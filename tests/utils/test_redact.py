"""What others may read names no folder of this machine, and loses nothing else."""

import base64
import html
import json
from pathlib import Path

import nbformat
import pytest

from medstudy import paths
from medstudy.utils import redact


def test_of_local_paths_in_parameters_the_last_part_stays():
    tree = {"path": "/data/mine", "files": ("~/x.csv", "./y", "org/model", "what/ever"), "n": 3}
    assert redact.tree(tree) == {"path": "mine", "files": ["x.csv", "y", "org/model", "what/ever"], "n": 3}


def test_of_parameters_that_name_a_job_only_the_fields_of_paths_change():
    tree = [{"id": "/models/qwen", "prompt": "/no path", "deep": {"path": "../mine", "images": None}}]
    expected = [{"id": "qwen", "prompt": "/no path", "deep": {"path": "mine", "images": None}}]
    assert redact.tree(tree, redact.FIELDS) == expected


def test_a_hub_id_is_public_and_a_folder_is_not(tmp_path, monkeypatch):
    (tmp_path / "org" / "local").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    models = ("org/model", "org/local", "/models/qwen", "~/qwen", "./qwen", "base")
    assert [redact.hub_id(model) for model in models] == ["org/model", *[None] * 5]


PLACES = {Path("/an/old"): "~", Path("/an/old/a&b"): ".", Path("/"): "/", Path("/top"): "…"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("at /an/old/a&amp;b/runs, /an/old/a&b/x and /an/old.", "at ./runs, ./x and ~."),  # whole, HTML or not
        ("/an/old-2 x/an/old/y AB+/an/old/zz== ./an/old", None),  # parts of other words
        ("https://hub.org/top/model ~/top", None),  # a URL and a short name
        ("file:///an/old/x path=/an/old/x (/an/old)", "file://~/x path=~/x (~)"),
        ("\x1b[32m/an/old\x1b[0m", "\x1b[32m~\x1b[0m"),  # a terminal's colours
        (json.dumps("line\n/an/old\t/top/x"), json.dumps("line\n~\t…/x", ensure_ascii=False)),
    ],
)
def test_folders_in_a_text_are_replaced_by_their_short_names(text, expected):
    assert redact.text(text, PLACES) == (expected or text)


def test_an_embedded_image_stays_whole():
    data = base64.b64encode(bytes(range(256)) * 3).decode()
    image = f"{data[:600]}+/an/old/{data[608:]}"
    assert redact.text(f'<img src="data:image/png;base64,{image}"> /an/old', PLACES) == (
        f'<img src="data:image/png;base64,{image}"> ~'
    )


def test_an_executed_notebook_names_neither_the_repository_nor_the_home_folder(tmp_path):
    home, place = Path.home(), html.escape(str(paths.ROOT))
    text = f"{paths.ROOT}/params/a.yaml, {paths.ROOT}-other/b, {home}/.cache, in {home}. File \x1b[32m{place}\x1b[0m"
    output = nbformat.v4.new_output("stream", text=text)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1", outputs=[output])]), tmp_path / "a")
    (tmp_path / "b").write_text(redact.text((tmp_path / "a").read_text()))
    shown = nbformat.read(tmp_path / "b", as_version=4).cells[0].outputs[0].text
    other = f"{paths.ROOT}-other".replace(f"{home}/", "~/")
    assert shown == f"./params/a.yaml, {other}/b, ~/.cache, in ~. File \x1b[32m.\x1b[0m"

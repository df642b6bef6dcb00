"""The hash of code is independent of words, layout, the version of Python and what JupyterLab saves."""

import json

import nbformat
import pytest

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import syntax

PLAIN = '''
"""A docstring."""
from __future__ import annotations
import os
from medstudy import grid, paths as places


class A:
    """Words."""

    size: int = 3
    def f(self, x, *, y=None, **more):
        """More words."""
        return f"{x!r:>{y}} and {'a' 'b'}" + u"ü" if x else (yield)
'''
OTHERWISE = """
from __future__ import annotations
import os  # a comment
from medstudy import (
    grid,
    paths as places,
)
class A:
    'Other words.'
    size: int = 3

    def f(self, x, *, y = None, **more):
        # a comment
        return (f'{x!r:>{y}}' f" and {'ab'}" + 'ü' if x else (yield))
"""


def _read(tmp_path, text):
    file = tmp_path / "code.py"
    file.write_text(text, encoding="utf-8")
    return syntax.read(file)


def test_words_and_layout_do_not_count(tmp_path):
    assert _read(tmp_path, PLAIN) == _read(tmp_path, OTHERWISE)
    assert _read(tmp_path, PLAIN.replace("\n", "\r\n")) == _read(tmp_path, PLAIN)


@pytest.mark.parametrize(
    "change",
    [("= 3", "= 4"), ("= 3", "= 3.0"), ("size: int", "size: float"), ("!r", "!s"), (" and ", " or "), ("y=None", "y=0"),
     ("*, y", "y"), ("grid,", "grid as g,"), ("if x", "if not x"), (">{y}", "<{y}"), ("class A", "class B")],
)
def test_every_change_of_code_counts(tmp_path, change):
    assert change[0] in PLAIN
    assert _read(tmp_path, PLAIN.replace(*change)).digest != _read(tmp_path, PLAIN).digest


def test_the_digest_is_the_same_on_every_python(tmp_path):
    """This digest is from Python 3.11; a version with another digest would rename every run."""
    assert _read(tmp_path, PLAIN).digest == "3d7f65ff306a42973a12ebe6807420d46c6fbf613b372791e53b41dbf2c83056"


def test_imports_are_read_wherever_they_stand(tmp_path):
    code = _read(tmp_path, "import a.b\ndef f():\n    from c.d import e as f, g\n    from . import h\n")
    assert code.imports == {("a.b", None), ("c.d", "e"), ("c.d", "g"), (".", "h")}


def test_a_registered_module_counts_by_its_own_file(tmp_path):
    one = "from a import b, used\nfrom x import y\nREGISTRY = {'b': b, 'y': y, 'used': used}\nused()\n"
    other = "from a import used\nREGISTRY = {'used': used}\nused()\n"
    assert _read(tmp_path, one) == _read(tmp_path, other)
    assert _read(tmp_path, one).imports == {("a", "used")}
    assert _read(tmp_path, one + "b()\n").digest != _read(tmp_path, one).digest


def test_invalid_python_is_named(tmp_path):
    with pytest.raises(ParamsError, match="code.py must be valid Python"):
        _read(tmp_path, "def f(:\n")


TRAIN = paths.NOTEBOOKS / "02_train.ipynb"


def _digest(tmp_path, change):
    """Of 02_train after a change to its notebook."""
    made = nbformat.read(TRAIN, as_version=4)
    change(made)
    nbformat.write(made, tmp_path / "changed.ipynb")
    return syntax.notebook(tmp_path / "changed.ipynb").digest


def _code(made):
    return [cell for cell in made.cells if cell.cell_type == "code"]


def executed(made):
    """As papermill or JupyterLab saves it."""
    for count, cell in enumerate(_code(made), start=1):
        cell.execution_count = count
        cell.metadata["execution"] = {"iopub.status.busy": "2026-11-27T20:00:00Z"}
        cell.outputs = [nbformat.v4.new_output("stream", text="words\n")]
    injected = nbformat.v4.new_code_cell("# Parameters\nrun = 'x'\n", metadata={"tags": ["injected-parameters"]})
    made.cells.insert(2, injected)
    made.metadata["widgets"] = {"state": {}}
    made.metadata["language_info"]["version"] = "3.13.1"


def parameters(made):
    _code(made)[0].source = 'study: str = "mine.yaml"  # mine\nrun: str = "train-mixed-s1"'


def words(made):
    made.cells[0].source += " One more word."
    made.cells.append(nbformat.v4.new_markdown_cell("A note."))


def empty(made):
    made.cells += [nbformat.v4.new_code_cell(""), nbformat.v4.new_code_cell("# to do")]


def comments(made):
    _code(made)[2].source = "# a comment\n\n" + _code(made)[2].source + "  # another"


def semicolon(made):
    _code(made)[-1].source += ";"


def split(made):
    """At a line of its own, as Ctrl+Shift+Minus does."""
    first, _, rest = _code(made)[1].source.partition("\n")
    place = made.cells.index(_code(made)[1])
    made.cells[place : place + 1] = [nbformat.v4.new_code_cell(first), nbformat.v4.new_code_cell(rest)]


@pytest.mark.parametrize("change", [executed, parameters, words, empty, comments, semicolon, split])
def test_what_jupyterlab_saves_does_not_count(tmp_path, change):
    assert _digest(tmp_path, change) == syntax.notebook(TRAIN).digest


def test_code_in_a_notebook_counts_magics_by_their_text(tmp_path):
    plain = syntax.notebook(TRAIN).digest
    lines = ["x = 1", "%matplotlib inline\nx = 1", "%matplotlib widget\nx = 1", "!ls", "%%time\nx = 1", "x?"]
    made = [_digest(tmp_path, lambda nb, line=line: nb.cells.append(nbformat.v4.new_code_cell(line))) for line in lines]
    assert len({plain, *made}) == 1 + len(lines)
    spaced = _digest(tmp_path, lambda nb: nb.cells.append(nbformat.v4.new_code_cell("\n!ls  \n")))
    assert spaced == made[3]
    assert _digest(tmp_path, lambda nb: nb.cells.pop()) != plain


@pytest.mark.parametrize("text", ["", "<<<<<<< HEAD", "[]", "{}", json.dumps({"cells": [{"source": "x"}]})])
def test_a_file_that_is_not_a_notebook_is_named(tmp_path, text):
    (tmp_path / "broken.ipynb").write_text(text)
    with pytest.raises(ParamsError, match="broken.ipynb must be a notebook of format 4"):
        syntax.notebook(tmp_path / "broken.ipynb")

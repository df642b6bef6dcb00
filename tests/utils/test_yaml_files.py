"""YAML is read by version 1.2, each name once; anything else is an error with its line."""

import codecs
import math
import re

import pytest

from medstudy import paths
from medstudy.errors import ParamsError
from medstudy.utils import yaml_files

SCALARS = {  # https://yaml.org/spec/1.2.2/#103-core-schema, and texts that YAML 1.1 reads differently
    "1e-5": 1e-5, ".5": 0.5, "1E3": 1000.0, "1.": 1.0, "+12": 12, "-0": 0, "12e03": 12000.0, "-.inf": -math.inf,
    "010": 10, "0o10": 8, "0x1F": 31, "0b11": "0b11", "-0o7": "-0o7", "0o9": "0o9", "1_000": "1_000",
    "1:30": "1:30", "190:20:30": "190:20:30", "2001-01-01": "2001-01-01", "2001-12-14t21:59:43.10-05:00":
    "2001-12-14t21:59:43.10-05:00", "yes": "yes", "No": "No", "on": "on", "off": "off", "y": "y", "=": "=", "<<": "<<",
    "true": True, "FALSE": False, "tRue": "tRue", "~": None, "": None, "null": None, "NULL": None, "nUll": "nUll",
    "'010'": "010", '"1e-5"': "1e-5", "!!str 010": "010", "!!float 3": 3.0, "nan": "nan", "inf": "inf",
}


@pytest.mark.parametrize("text", SCALARS)
def test_a_scalar_is_read_by_yaml_1_2(text):
    found = yaml_files.loads(f"- {text}\n")
    assert found == [SCALARS[text]] and type(found[0]) is type(SCALARS[text])


def test_not_a_number_is_a_float_and_a_name_is_text_as_written():
    assert math.isnan(yaml_files.loads(".nan"))
    assert yaml_files.loads("{010: a, true: b, ~: c, 1e-5: d}") == {"010": "a", "true": "b", "~": "c", "1e-5": "d"}


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n" for before, name in zip("abcdefg", "bcdefgh", strict=True)
)
WRONG = {  # the text, and part of its error
    "repeated": ("a: 1\nb: 2\na: 3\n", "line 3, column 1: 'a' is given twice, first in line 1"),
    "repeated below": ("a:\n  b: 1\n  b: 1\n", "line 3, column 3: 'b' is given twice, first in line 2"),
    "repeated in braces": ("{a: 1, 'a': 2}", "line 1, column 8: 'a' is given twice"),
    "repeated in a list": ("- {a: 1}\n- a: 1\n  a: 1\n", "line 3"),
    "repeated merge": ("a: &a {b: 1}\nc:\n  <<: *a\n  <<: *a\n", "line 4"),
    "two documents": ("a: 1\n---\nb: 1\n", "line 2, column 1: expected a single document"),
    "tab": ("a:\n\tb: 1\n", "line 2, column 1"),
    "not closed": ("a: [1", "line 1"),
    "colon": ("a: b: c\n", "line 1, column 5"),
    "python": ("a: !!python/object/apply:os.system [x]\n", "line 1, column 4: the tag .*python.* is not supported"),
    "own tag": ("a: !mine x\n", "the tag '!mine' is not supported"),
    "binary": ("a: !!binary aGk=\n", "binary"),
    "set": ("a: !!set {b}\n", "set"),
    "no int": ("a: !!int x\n", "'x' is not a valid int"),
    "list for int": ("a: !!int [1]\n", "line 1, column 4"),
    "a list as a name": ("? [a]\n: b\n", "a name must be text"),
    "bomb": (BOMB, "at most 20,000 values"),
    "deep": ("[" * 3000, "at most 50 deep"),
    "in itself": ("a: &a [*a]\n", "an alias must not be inside its own anchor"),
    "no such alias": ("a: *b\n", "undefined alias 'b'"),
    "merge of a number": ("a: {<<: 3}\n", "`<<` takes over names"),
    "YAML 1.1": ("%YAML 1.1\n---\na: 010\n", "line 1, column 1: files are read as YAML 1.2"),
    "null character": ("a: x\nb: \0\n", r"line 2 holds the character U\+0000"),
    "escaped null character": ('a: "\\0"\n', "null character"),
    "half a pair": ('a: "\\ud800"\n', "surrogate"),
    "thousands of digits": ("a: " + "9" * 5000, "4300 digits"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_file_is_explained_with_its_line(name):
    text, words = WRONG[name]
    with pytest.raises(ParamsError, match=words) as error:
        yaml_files.loads(text, "mine.yaml")
    assert str(error.value).startswith("mine.yaml must be valid yaml: ")


def test_aliases_and_merges_work():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: &c {y: 4, z: 5}\nd: {<<: [*a, *c]}\ne: [*a]\n"
    found = yaml_files.loads(text)
    assert found["b"] == {"x": 1, "y": 3} and found["d"] == {"x": 1, "y": 2, "z": 5} and found["e"] == [found["a"]]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_unicode_is_read_with_and_without_a_byte_order_mark(tmp_path, encoding):
    (tmp_path / "a.yaml").write_text("a: é µ 中 😀\n", encoding=encoding)
    assert yaml_files.load(tmp_path / "a.yaml") == {"a": "é µ 中 😀"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a: 1\nb: é\n".encode("latin-1"), "must be text in UTF-8, but line 2 holds the byte 0xe9"),
        ("a: é\n".encode("utf-16-le"), "line 1 holds"),
        (codecs.BOM_UTF16_LE + b"a\0:", "UTF-8"),
        ("a: 1\n".encode("utf-32"), r"U\+0000"),
        (b"\x93NUMPY\x01\x00", "line 1"),
    ],
    ids=["latin-1", "utf-16 without a mark", "cut utf-16", "utf-32", "binary"],
)
def test_another_encoding_is_an_error_that_names_the_file(tmp_path, content, words):
    (tmp_path / "a.yaml").write_bytes(content)
    with pytest.raises(ParamsError, match=words) as error:
        yaml_files.load(tmp_path / "a.yaml")
    assert "a.yaml" in str(error.value)


def test_a_file_that_cannot_be_read_is_explained(tmp_path):
    with pytest.raises(ParamsError, match="cannot be read"):
        yaml_files.load(tmp_path, "this folder")


def test_written_yaml_is_read_equally_by_both_versions():
    import yaml

    texts = ["1e-5", "010", "0o10", "yes", "1:30", "2001-01-01", "null", "~", ".5", "<<", "=", "a #b", "a: b", "é"]
    content = {"texts": texts, "numbers": [1e-5, 1e22, 0.1, 8, -3], "rest": [True, None]}
    written = yaml_files.dump(content)
    assert yaml_files.loads(written) == content == yaml.safe_load(written)


def test_no_other_module_reads_yaml():
    """Any other reader of YAML would read another language."""
    files = [file for file in paths.PACKAGE.rglob("*.py") if file.name != "yaml_files.py"]
    readers = re.compile(r"^\s*(import|from) (yaml|ruamel|omegaconf)\b", re.M)
    assert len(files) > 50 and not [file for file in files if readers.search(file.read_text(encoding="utf-8"))]

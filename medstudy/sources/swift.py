"""Rows as ms-swift trains on them: a question, its answer and its images, in .jsonl or a .json list.

Two forms, as its documentation on custom data sets has them: {"query", "response", "images"} (with "history", earlier
pairs), and {"messages": [{"role", "content"}, …], "images"}. `images` is a list, one text, or null.
https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from medstudy.errors import DataError
from medstudy.pictures import Picture
from medstudy.sources import files, marks
from medstudy.sources.cells import RowError

KEYS = ("query", "response", "history", "messages", "system", "images", "image")
COLUMNS = {"query": "the question", "response": "its answer", "images": "paths of images"}


@dataclass(frozen=True)
class Row:
    """One row: the question and answer that it ends with, the paths of its images, and all that the file says.

    `earlier` are the (question, answer) pairs before the last one, and `shown` how many of the images each turn has
    seen (see `marks.conversation`). `where` names the row in errors.
    """

    number: int  # in the file, from 0
    query: str
    response: str
    images: tuple[str, ...]
    earlier: tuple[tuple[str, str], ...]
    fields: Mapping
    where: str
    shown: tuple[int, ...] = ()

    def turns(self) -> Iterator[tuple[tuple[str, ...], str, str]]:
        """(images, question, answer) of each turn."""
        pairs = [*self.earlier, (self.query, self.response)]
        for count, (query, response) in zip(self.shown, pairs, strict=True):
            yield self.images[:count], query, response


def rows(file: Path, strip: str = "") -> Iterator[Row]:
    """The rows of a file, in its order. Raises DataError naming the row that lacks something.

    strip: what image paths begin with and is taken off, as the folder in which the file was written.
    """
    for number, content in enumerate(files.jsonl(file)):
        yield row(content, number, f"Row {number} of {file.name}", strip)


def row(content: Mapping, number: int, where: str, strip: str = "") -> Row:
    """One parsed row of either form. Raises DataError."""
    if not isinstance(content, Mapping):
        raise DataError(f"{where} must be an object, got {type(content).__name__}.")
    if content.get("messages") and content.get("query"):
        raise DataError(f"{where} must have `messages` or a `query`, but has both. Remove one of them.")
    turns = _messages(content["messages"], where) if content.get("messages") else _pairs(content, where)
    images = tuple(name.removeprefix(strip).lstrip("/") if strip else name for name in _images(content, where))
    try:
        marks.refuse_all(str(content.get("system") or ""), "system message")
        placed = marks.conversation(turns, images)
    except RowError as error:
        raise RowError(error.problem, f"{where}: {error}") from error
    *earlier, (query, response) = ((query, response) for _, query, response in placed)
    return Row(number, query, response, images, tuple(earlier), content, where, tuple(len(one) for one, _, _ in placed))


def picture(found: Row, root: Path, place: int = 0) -> Picture:
    """The image number `place` of a row, read below `root` and not decoded. Raises DataError naming the row."""
    if not found.images:
        raise DataError(f"{found.where} must name an image, but its `images` is empty. Add its path, or drop the row.")
    try:
        data = files.below(root, found.images[place]).read_bytes()
    except DataError as error:
        raise DataError(f"{found.where}: {error}") from error
    return Picture(data, found.images[place])


def by_images(found: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows that show the same images together, in order of first appearance; no image is read."""
    together: dict[tuple[str, ...], list[Row]] = {}
    for one in found:
        together.setdefault(one.images, []).append(one)
    yield from together.values()


def _pairs(content: Mapping, where: str) -> list[tuple[str, str]]:
    """(question, answer) of a query/response row, its history first."""
    files.need(content, {name: COLUMNS[name] for name in ("query", "response")}, where)
    history = content.get("history") or []
    if not isinstance(history, list):
        raise DataError(f"{where} must have a list of pairs as `history`, got {history!r:.60}.")
    if wrong := [pair for pair in history if not isinstance(pair, list) or len(pair) != 2]:
        raise DataError(f"{where} must have pairs of question and answer as `history`, got {wrong[0]!r}.")
    pairs = [*history, (content["query"], content["response"])]
    return [(_text(query, "query", where), _text(response, "response", where)) for query, response in pairs]


def _messages(messages: list, where: str) -> list[tuple[str, str]]:
    """(question, answer) of a messages row, its system message left out: a study has its own."""
    if not isinstance(messages, list) or not all(isinstance(one, Mapping) for one in messages):
        raise DataError(f"{where} must have a list of {{role, content}} as `messages`, got {messages!r:.60}. Mend it.")
    turns = [one for one in messages if one.get("role") != "system"]
    for one in (one for one in messages if one.get("role") == "system"):
        marks.refuse_all(_text(one.get("content"), "content", where), "system message")
    roles = [one.get("role") for one in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise DataError(f"{where} must have messages that go user, assistant, … and end with an answer, got {roles}.")
    texts = [_text(one.get("content"), "content", where) for one in turns]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _text(value, name: str, where: str) -> str:
    """A text with the marks of its images. Raises DataError for a null, or a list of parts."""
    if not isinstance(value, str):
        raise DataError(f"{where} must have a text as `{name}`, got {value!r}. Fill it in, or remove the row.")
    return value.strip()


def _images(content: Mapping, where: str) -> list[str]:
    """Paths of a row's images: a list of texts or of {"path"}, one text, or null."""
    if content.get("images") and content.get("image"):
        raise DataError(f"{where} must name its images as `images` or `image`, but has both. Remove one of them.")
    value = content.get("images") or content.get("image")
    found = value if isinstance(value, list) else [] if value is None else [value]
    names = [one.get("path") if isinstance(one, Mapping) else one for one in found]
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise DataError(f"{where} must have paths as `images`, got {wrong[0]!r}. Remove it, or give the file's path.")
    return names

"""Rows of conversations about images, as ms-swift and LLaVA train on them, in .jsonl or a .json list.

ms-swift has two forms: {"query", "response", "images"} (with "history", the earlier pairs), and {"messages":
[{"role", "content"}, …], "images"}; `images` is a list, one text, or null.
https://swift.readthedocs.io/en/latest/Customization/Custom-dataset.html
LLaVA has {"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, …]}.
https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from medstudy.data.encoded_image import Picture
from medstudy.data.readers import files, image_marks
from medstudy.data.readers.cells import RowError, text
from medstudy.errors import DataError

KEYS = {
    "swift": ("query", "response", "history", "messages", "system", "images", "image"),
    "llava": ("image", "images", "conversations"),
}
LLAVA_USERS, LLAVA_MODELS = ("human", "user"), ("gpt", "assistant")
Turn = tuple[tuple[str, ...], str, str]  # (images shown so far, question, answer)


@dataclass(frozen=True)
class SwiftRow:
    """One row of ms-swift: the paths of its images, and its turns. where: names the row in errors."""

    images: tuple[str, ...]
    turns: tuple[Turn, ...]
    where: str

    @property
    def query(self) -> str:
        """The last question."""
        return self.turns[-1][1]

    @property
    def response(self) -> str:
        """The last answer."""
        return self.turns[-1][2]


def form_of(row: Mapping) -> str:
    """ "llava", "swift" or "table": the form of a row, by its keys."""
    return "llava" if "conversations" in row else "swift" if {"messages", "query"} & row.keys() else "table"


def turns(row: Mapping, form: str) -> Sequence[Turn]:
    """(images, question, answer) of each turn of a row of either form. Raises DataError."""
    return swift_row(row, "The row").turns if form == "swift" else llava_turns(row)


def questions(row: Mapping, form: str) -> Iterator[str]:
    """The texts of a conversation's questions as they are written, marks of images included."""
    if form == "swift" and not row.get("messages"):
        yield from (query for query, _ in [*(row.get("history") or []), (row["query"], "")])
        return
    for turn in row["messages" if form == "swift" else "conversations"]:
        if turn.get("role", turn.get("from")) in ("user", *LLAVA_USERS):
            yield str(turn.get("content", turn.get("value")))


# --- ms-swift


def swift_rows(file: Path, strip: str = "") -> Iterator[SwiftRow]:
    """The rows of a file, in its order. Raises DataError naming the row that lacks something.

    strip: a prefix to remove from image paths, such as the folder in which the file was written.
    """
    for number, content in enumerate(files.jsonl(file)):
        yield swift_row(content, f"Row {number} of {file.name}", strip)


def swift_row(content: Any, where: str, strip: str = "") -> SwiftRow:
    """One parsed row of either form. Raises DataError."""
    if not isinstance(content, Mapping):
        raise DataError(f"{where} must be an object, got {type(content).__name__}.")
    if content.get("messages") and content.get("query"):
        raise DataError(f"{where} must have `messages` or a `query`, but has both. Remove one of them.")
    pairs = _message_pairs(content["messages"], where) if content.get("messages") else _query_pairs(content, where)
    images = tuple(name.removeprefix(strip).lstrip("/") if strip else name for name in _image_paths(content, where))
    try:
        image_marks.refuse_marks(str(content.get("system") or ""), "system message")
        return SwiftRow(images, tuple(image_marks.conversation(pairs, images)), where)
    except RowError as error:
        raise RowError(error.problem, f"{where}: {error}") from error


def row_picture(row: SwiftRow, root: Path, place: int = 0) -> Picture:
    """The image number `place` of a row, read below `root` and not decoded. Raises DataError naming the row."""
    if not row.images:
        raise DataError(f"{row.where} must name an image, but its `images` is empty. Add its path, or drop the row.")
    try:
        data = files.below(root, row.images[place]).read_bytes()
    except DataError as error:
        raise DataError(f"{row.where}: {error}") from error
    return Picture(data, row.images[place])


def rows_by_images(rows: Iterable[SwiftRow]) -> Iterator[list[SwiftRow]]:
    """The rows of each set of images together, in order of first appearance; no image is read."""
    by_images: dict[tuple[str, ...], list[SwiftRow]] = {}
    for row in rows:
        by_images.setdefault(row.images, []).append(row)
    yield from by_images.values()


def _query_pairs(content: Mapping, where: str) -> list[tuple[str, str]]:
    """(question, answer) pairs of a query/response row, its history first."""
    files.need(content, {"query": "the question", "response": "its answer"}, where)
    history = content.get("history") or []
    if not isinstance(history, list):
        raise DataError(f"{where} must have a list of pairs as `history`, got {history!r:.60}.")
    if wrong := [pair for pair in history if not isinstance(pair, list) or len(pair) != 2]:
        raise DataError(f"{where} must have pairs of question and answer as `history`, got {wrong[0]!r}.")
    pairs = [*history, (content["query"], content["response"])]
    return [(_text(query, "query", where), _text(response, "response", where)) for query, response in pairs]


def _message_pairs(messages: Any, where: str) -> list[tuple[str, str]]:
    """(question, answer) pairs of a messages row, without its system message: a study has its own."""
    if not isinstance(messages, list) or not all(isinstance(message, Mapping) for message in messages):
        raise DataError(f"{where} must have a list of {{role, content}} as `messages`, got {messages!r:.60}. Fix it.")
    for message in messages:
        if message.get("role") == "system":
            image_marks.refuse_marks(_text(message.get("content"), "content", where), "system message")
    turns = [message for message in messages if message.get("role") != "system"]
    roles = [turn.get("role") for turn in turns]
    if not turns or roles != ["user", "assistant"] * (len(turns) // 2):
        raise DataError(f"{where} must have messages that go user, assistant, … and end with an answer, got {roles}.")
    texts = [_text(turn.get("content"), "content", where) for turn in turns]
    return list(zip(texts[::2], texts[1::2], strict=True))


def _text(value: Any, name: str, where: str) -> str:
    """A text with the marks of its images. Raises DataError for a null, or a list of parts."""
    if not isinstance(value, str):
        raise DataError(f"{where} must have a text as `{name}`, got {value!r}. Fill it in, or remove the row.")
    return value.strip()


def _image_paths(content: Mapping, where: str) -> list[str]:
    """Paths of a row's images: a list of texts or of {"path"}, one text, or null."""
    if content.get("images") and content.get("image"):
        raise DataError(f"{where} must name its images as `images` or `image`, but has both. Remove one of them.")
    value = content.get("images") or content.get("image")
    entries = value if isinstance(value, list) else [] if value is None else [value]
    names = [entry.get("path") if isinstance(entry, Mapping) else entry for entry in entries]
    if wrong := [name for name in names if not isinstance(name, str) or not name]:
        raise DataError(f"{where} must have paths as `images`, got {wrong[0]!r}. Remove it, or give the file's path.")
    return names


# --- LLaVA


def llava_turns(row: Mapping) -> list[Turn]:
    """(images, question, answer) of each turn, in order; see `image_marks.conversation`. Raises DataError."""
    turns = row.get("conversations")
    if not isinstance(turns, list) or not turns or not all(isinstance(turn, Mapping) for turn in turns):
        raise DataError(f"`conversations` must be a list of {{from, value}}, got {type(turns).__name__} {turns!r:.60}.")
    if row.get("image") and row.get("images"):
        raise DataError("A row names its images as `image` or as `images`, but this one has both. Remove one of them.")
    if turns[0].get("from") == "system":
        image_marks.refuse_marks(str(turns[0].get("value") or ""), "system message")
        turns = turns[1:]
    speakers = [turn.get("from") for turn in turns]
    paired = list(zip(speakers[::2], speakers[1::2], strict=False))
    if len(speakers) % 2 or not all(asks in LLAVA_USERS and says in LLAVA_MODELS for asks, says in paired):
        raise DataError(f"`conversations` must go human, gpt, human, gpt …, and end with an answer; got {speakers}.")
    texts = [text(turn.get("value")) for turn in turns]
    content = row.get("image") or row.get("images") or []
    images = content if isinstance(content, list) else [content]
    return image_marks.conversation(list(zip(texts[::2], texts[1::2], strict=True)), images)

"""Rows as LLaVA trains on them: {"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, …]}.

https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md
"""

from __future__ import annotations

from collections.abc import Mapping

from medstudy.errors import DataError
from medstudy.sources import marks
from medstudy.sources.cells import text

KEYS = ("image", "images", "conversations")
ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")


def turns(row: Mapping) -> list[tuple[tuple, str, str]]:
    """(images, question, answer) of a conversation's turns, in order; see `marks.conversation`. Raises DataError."""
    said = row.get("conversations")
    if not isinstance(said, list) or not said or not all(isinstance(one, Mapping) for one in said):
        raise DataError(f"`conversations` must be a list of {{from, value}}, got {type(said).__name__} {said!r:.60}.")
    if row.get("image") and row.get("images"):
        raise DataError("A row names its images as `image` or as `images`, but this one has both. Remove one of them.")
    if said[0].get("from") == "system":
        marks.refuse_all(str(said[0].get("value") or ""), "system message")
        said = said[1:]
    who = [one.get("from") for one in said]
    if len(who) % 2 or not all(a in ASKS and b in ANSWERS for a, b in zip(who[::2], who[1::2], strict=True)):
        raise DataError(f"`conversations` must go human, gpt, human, gpt …, and end with an answer; got {who}.")
    texts = [text(one.get("value")) for one in said]
    content = row.get("image") or row.get("images") or []
    images = content if isinstance(content, list) else [content]
    return marks.conversation(list(zip(texts[::2], texts[1::2], strict=True)), images)

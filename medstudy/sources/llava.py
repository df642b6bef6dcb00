"""Rows as LLaVA trains on them: {"id", "image", "conversations": [{"from": "human" | "gpt", "value"}, …]}.

https://github.com/haotian-liu/LLaVA/blob/main/docs/Finetune_Custom_Data.md
"""

from __future__ import annotations

from collections.abc import Mapping

from medstudy.errors import DataError
from medstudy.sources.swift import TAG

ASKS, ANSWERS = ("human", "user"), ("gpt", "assistant")


def turns(row: Mapping) -> list[tuple[str, str]]:
    """(question, answer) of a conversation, in order, without the marks of the image. Raises DataError."""
    said = row.get("conversations")
    if not isinstance(said, list) or not said or not all(isinstance(one, Mapping) for one in said):
        raise DataError(f"`conversations` must be a list of {{from, value}}, got {type(said).__name__} {said!r:.60}.")
    said = said[1:] if said[0].get("from") == "system" else said
    who = [one.get("from") for one in said]
    if len(who) % 2 or not all(a in ASKS and b in ANSWERS for a, b in zip(who[::2], who[1::2], strict=True)):
        raise DataError(f"`conversations` must go human, gpt, human, gpt …, and end with an answer; got {who}.")
    texts = [str(one.get("value") or "").replace(TAG, "").strip() for one in said]
    return list(zip(texts[::2], texts[1::2], strict=True))

"""Prompts: the system text and a question's user text, in the author's words."""

from __future__ import annotations

from medstudy.data.example import LETTERS, Question

SYSTEM = "You are a biomedical expert."  # the author's evaluation prompt
LETTER_ONLY = "Answer with a single letter, no extra details."


def user_text(question: Question) -> str:
    """The author's prompt: the question, its options as "A. …", and for those the request for one letter."""
    letters = LETTERS[: len(question.options)]
    options = [f"{letter}. {text}" for letter, text in zip(letters, question.options, strict=True)]
    return "\n".join([question.text, *options, *([LETTER_ONLY] if options else [])])


def _text(content: str) -> dict:
    return {"type": "text", "text": content}

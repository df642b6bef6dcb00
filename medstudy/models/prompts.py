"""The author's prompt, and the conversation that a chat template is given."""

from __future__ import annotations

from collections.abc import Sequence

from medstudy.data.example import LETTERS, Question, Shot

SYSTEM = "You are a biomedical expert."  # the author's evaluation prompt
LETTER_ONLY = "Answer with a single letter, no extra details."


def user_text(question: Question) -> str:
    """The author's prompt: the question, and of a choice its options as "A. …" and the request for a letter."""
    if question.kind != "choice" or not question.options:
        return question.text
    letters = LETTERS[: len(question.options)]
    options = [f"{letter}. {text}" for letter, text in zip(letters, question.options, strict=True)]
    return "\n".join([question.text, *options, LETTER_ONLY])


def messages(question: Question, image: bool, context: Sequence[Shot], crops: Sequence[int] = ()) -> list[dict]:
    """The turns of a conversation: an answered shot is a turn of its own, any other precedes the next image.

    crops: for each image, the question's last, how many crops follow it as images of their own; (): none. Every content
    is a list of parts: LLaVA-OneVision's template drops a content that is a plain string.
    """
    mark = [{"type": "image"}] if image else []
    marks = iter([mark * (1 + count) for count in crops or [0] * (len(context) + 1)])
    turns, parts = [{"role": "system", "content": [_text(SYSTEM)]}], []
    for shot in context:
        parts += [*next(marks), *([_text(shot.question)] if shot.question else [])]
        if shot.answer:
            turns += [{"role": "user", "content": parts}, {"role": "assistant", "content": [_text(shot.answer)]}]
            parts = []
    return [*turns, {"role": "user", "content": [*parts, *next(marks), _text(user_text(question))]}]


def _text(content: str) -> dict[str, str]:
    return {"type": "text", "text": content}

"""Which option an answer to a choice names, by its letter or by its text. Nothing is guessed.

The rules, in order: the answer is an option's text; it states which letter is the answer ("The answer is B",
\\boxed{B}); it names letters; it names options by their texts. A letter counts if it stands alone in a position that is
usual for answers: first, in brackets, after a sign, after words such as "option" or "is". "A nodule", "hepatitis B" and
"Not B" name none. Reasoning is skipped (`medstudy.data.final_answer`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medstudy.data.example import LETTERS
from medstudy.data.final_answer import final
from medstudy.data.words import NEGATIONS, comparable, named, words

_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94)}
_DRESS = tuple((re.compile(pattern, re.IGNORECASE), by) for pattern, by in (
    (r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r"\nAnswer: \1\n"), (r"<answer>", "\nAnswer: "), (r"</answer>", "\n"),
    (r"</?\w+>", " "), (r"\\(?:text|mathrm|mathbf|textbf)\b", " "), (r"(?<!\w)'([a-j])'(?!\w)", r"\1"),
    (r"[*`\"“”$\\{}_#]", " "),
))
_ALONE = re.compile(r"(?<![A-Za-z0-9'’+-])(?<![a-z]\.)([A-J]|[a-j](?!\.[a-z]))(?![A-Za-z0-9'’+]|-\w)")
_AFTER_BREAK = re.compile(r"(?:^|[\n.,;:!?()\[\]/&=>|]|[-–—+]\s)\s*\Z|[^\x00-\x7f]\s*\Z")
_WORDED = re.compile(r"\w")
_WORD_BEFORE = re.compile(r"([A-Za-z']+)\s*\Z")
_WORD_AFTER = re.compile(r"[ \t]+([A-Za-z']{2,})")
_ANSWER = re.compile(
    r"(?:\b(?:answer|solution)\b(?:[^.!?\n]*\b(?:is|be)\b)?|答案(?:是|为)?"
    r"|\b(?:correct|right|best)\s+(?:option|choice|letter)\b(?:[^.!?\n]*\b(?:is|be)\b)?)"
    r"[^\w.!?\n]*(?:(?:the\s+)?(?:option|choice|letter)[^\w.!?\n]*)?\Z", re.IGNORECASE,
)
_OPTION = frozenset(("option", "choice", "letter", "answer"))  # a letter after these counts, whatever follows it
_LEADS = _OPTION | NEGATIONS | frozenset(
    "is be it's are options choices choose chose pick select selected with therefore thus so hence or and to either "
    "both think believe say guess definitely probably likely maybe perhaps only just vs versus but out exclude "
    "eliminate".split()
)
_FOLLOWS = frozenset(
    "is was are and or because since as for due based but not would seems appears would vs versus only".split()
)
_DENIED_BEFORE = re.compile(
    r"(?:\b(?:not|neither|nor|cannot|never|than|except|without)|n't|\brul\w+ out|\b(?:exclud|eliminat)\w+)"
    r"(?:\s+(?:be|the|option|choice|answer))*[\s(\[]*\Z", re.IGNORECASE,
)
_DENIED_AFTER = re.compile(
    r"[)\]]?\s*(?:(?:is|was|are|were|can|cannot|would|could)\b\s*)?(?:(?:also|both|all)\s+)?"
    r"(?:not\b|isn't|wasn't|can't|wrong|incorrect|false|excluded|eliminated|ruled out|unlikely)", re.IGNORECASE,
)
_JOINS = re.compile(r"[\s)\].:]*(?:,|/|&|\band\b|\bor\b)[\s,/&(\[]*(?:(?:and|or|option|choice)\b[\s(\[]*)*\Z|\s+\Z")


@dataclass(frozen=True)
class Read:
    """The letter if an answer names exactly one option, else None; and whether it names one, none or several."""

    letter: str | None
    how: str


def read(text: str, options: Sequence[str] = ()) -> Read:
    """The option that the text names. Without `options` only letters are read, from A to J."""
    answer = final(text)
    plain = _undressed(answer.text)
    # What is stated as the answer is read as such: "\\boxed{B, not A}" as "Answer: B, not A".
    stated = _undressed("\n".join(f"Answer: {part}" for part in answer.parts)) if answer.shape else plain
    letters = _whole(plain, options) or _by_letter(stated, options) or _by_text(stated, options)
    if len(letters) == 1:
        return Read(*letters, "one")
    return Read(None, "several" if letters else "none")


def same_text(options: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of a question's options whose texts read the same, so that only their letters differ."""
    pairs = ((earlier, option) for place, option in enumerate(options) for earlier in options[:place])
    return [pair for pair in pairs if _same(*pair)]


def _undressed(text: str) -> str:
    """The text without Markdown, quotes, LaTeX and tags, and with full-width letters as plain ones."""
    plain = text.translate(_FULL_WIDTH)
    for pattern, by in _DRESS:
        plain = pattern.sub(by, plain)
    return plain.strip()


def _whole(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options that the text is equal to."""
    worded = _worded(options)
    exact = {letter for letter, option in worded.items() if option == text}
    return exact or {letter for letter, option in worded.items() if _same(text, option)}


def _worded(options: Sequence[str]) -> dict[str, str]:
    """The options by letter, without those whose text would itself be read as a letter."""
    return {letter: option for letter, option in zip(LETTERS, options, strict=False) if not _is_letter(option)}


def _is_letter(option: str) -> bool:
    read_as = words(option)
    return len(read_as) == 1 and read_as[0].text.upper() in tuple(LETTERS)


def _same(text: str, other: str) -> bool:
    words_, others = comparable(text, other)
    return bool(words_) and words_ == others


def _by_letter(text: str, options: Sequence[str]) -> set[str]:
    """The letters that the text states as the answer, else all that it names; and an option whose text contradicts."""
    # Letters that are labels of options, without those that the text denies.
    labels = [label for label in _ALONE.finditer(text) if _is_label(label, text, options)]
    mentions = [label for label in labels if not _denied(_joined(labels, label, text), text)]
    # Letters after "the answer is", with the rest of their list; else letters on lines of their own; else all.
    stated = [label for label in mentions if _ANSWER.search(text[: label.start()])]
    lines = [label for label in mentions if _is_line(label, text, options)]
    if stated:
        first = [label for label in lines[:1] if not text[: label.start()].strip(" (-") and _rest(label, text) == ""]
        chosen = first + [label for start in stated for label in _joined(mentions, start, text)]
    else:
        chosen = lines or mentions
    # What is left of the text may be the text of another option: the answer then names both.
    parts = [part for label in chosen for part in (text[: label.start()], text[label.end() :])]
    others = (_whole(part, options) for part in parts if _WORDED.search(part))
    return {label[1].upper() for label in chosen}.union(*others)


def _is_label(label: re.Match, text: str, options: Sequence[str]) -> bool:
    """Whether a letter that stands alone is the letter of an option; see the docstring of the module."""
    before, after, letter = text[: label.start()], text[label.end() :], label[1].upper()
    if letter not in LETTERS[: len(options) or None]:
        return False
    last, following = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
    lead = last[1].lower() if last else ""
    own = letter in _worded(options) and _starts(after, options[LETTERS.index(letter)])
    if own and label[1].isupper():
        return True
    if not (_AFTER_BREAK.search(before) or lead in _LEADS or (len(lead) == 1 and lead.upper() in LETTERS)):
        return False
    if following is None:
        return True
    if label[1].islower():
        return following[1].lower() in ("and", "or")
    stated = lead in _OPTION or (letter not in "AI" and bool(_ANSWER.search(before)))
    return stated or (letter != "I" and following[1].lower() in _FOLLOWS)


def _starts(after: str, option: str) -> bool:
    """Whether the text after a letter begins with the text of its option."""
    rest = after.lstrip(" \t.):,-–—(").lower()
    return rest.startswith(option.lower()) and not rest[len(option) : len(option) + 1].isalnum()


def _rest(label: re.Match, text: str) -> str:
    """The words after a letter on its line."""
    return text[label.end() :].partition("\n")[0].strip(" \t.,;:!?()[]-–—")


def _is_line(label: re.Match, text: str, options: Sequence[str]) -> bool:
    """Whether a letter, with or without the text of its option, is a whole line."""
    before = text[: label.start()].rpartition("\n")[2].strip(" \t([-–—>")
    rest = _rest(label, text)
    own = options[LETTERS.index(label[1].upper()) :][:1]
    return not before and (not rest or any(_same(rest, option) for option in own))


def _denied(joined: Sequence[re.Match], text: str) -> bool:
    """Whether a "not" before, or an "is wrong" after, denies letters that are listed together."""
    before, after = text[: joined[0].start()], text[joined[-1].end() :]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))


def _joined(mentions: Sequence[re.Match], label: re.Match, text: str) -> list[re.Match]:
    """All letters of the list that contains `label`, as in "A, B or C"; only itself if there is no list."""
    lists: list[list[re.Match]] = []
    for mention in mentions:
        if lists and _JOINS.match(text[lists[-1][-1].end() : mention.start()]):
            lists[-1].append(mention)
        else:
            lists.append([mention])
    return next(labels for labels in lists if label in labels)


def _by_text(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options whose texts the text contains."""
    worded = _worded(options)
    texts = named(text, worded.values()) if worded else set()
    return {letter for letter, option in worded.items() if option in texts}

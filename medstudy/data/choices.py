"""Which option an answer to a choice names: by its letter, or by its text. One function reads all; none is guessed.

The rules, in order: the answer is an option's text; it says which letter is the answer ("The answer is B", \\boxed{B});
it names letters; it names options by their texts. A letter counts where it stands alone and in a place where answers
put it: first, in brackets, after a sign, after words such as "option" or "is". "A nodule", "hepatitis B" and "Not B"
name none. Reasoning in <think> is left out.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from medstudy.data.example import LETTERS
from medstudy.data.words import NEGATIONS, final, matched, named, words

HOW = ("one", "none", "several")  # options that an answer names

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
_OPTION = frozenset(("option", "choice", "letter", "answer"))  # whatever follows a letter after these
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
    """The letter of the one option that an answer names, else None; and whether it names one, none or several."""

    letter: str | None
    how: str


def read(text: str, options: Sequence[str] = ()) -> Read:
    """The option that the text names. Without `options` only letters are read, A to J."""
    plain = _undressed(final(text))
    found = _whole(plain, options) or _by_letter(plain, options) or _by_text(plain, options)
    if len(found) == 1:
        return Read(*found, "one")
    return Read(None, "several" if found else "none")


def alike(options: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of one question's options whose texts read the same, so that only their letters differ."""
    pairs = ((one, other) for place, one in enumerate(options) for other in options[:place])
    return [(other, one) for one, other in pairs if _same(one, other)]


def _undressed(text: str) -> str:
    """Without Markdown, quotes, LaTeX and tags, full-width letters as plain ones."""
    plain = text.translate(_FULL_WIDTH)
    for pattern, by in _DRESS:
        plain = pattern.sub(by, plain)
    return plain.strip()


def _whole(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options that the text is, from its first word to its last."""
    worded = _worded(options)
    exact = {letter for letter, option in worded.items() if option == text}
    return exact or {letter for letter, option in worded.items() if _same(text, option)}


def _worded(options: Sequence[str]) -> dict[str, str]:
    """The options by letter, without those whose text would be read as a letter: the letter comes first."""
    return {letter: option for letter, option in zip(LETTERS, options, strict=False) if not _is_letter(option)}


def _is_letter(option: str) -> bool:
    found = words(option)
    return len(found) == 1 and found[0].text.upper() in tuple(LETTERS)


def _same(one: str, other: str) -> bool:
    said, true = matched(one, other)
    return bool(said) and said == true


def _by_letter(text: str, options: Sequence[str]) -> set[str]:
    """The letters that are said to be the answer, else all that are named; and an option whose text belies a letter."""
    labels = [one for one in _ALONE.finditer(text) if _is_label(one, text, options)]
    mentions = [one for one in labels if not _denied(_joined(labels, one, text), text)]
    said = [place for place, one in enumerate(mentions) if _ANSWER.search(text[: one.start()])]
    lines = [one for one in mentions if _is_line(one, text, options)]
    if said:
        first = [one for one in lines[:1] if not text[: one.start()].strip(" (-") and _rest(one, text) == ""]
        chosen = first + [one for place in said for one in _joined(mentions, mentions[place], text)]
    else:
        chosen = lines or mentions
    parts = [part for one in chosen for part in (text[: one.start()], text[one.end() :])]
    return {one[1].upper() for one in chosen}.union(*(_whole(part, options) for part in parts if _WORDED.search(part)))


def _is_label(one: re.Match, text: str, options: Sequence[str]) -> bool:
    """Whether a letter that stands alone is an option's; see the module."""
    before, after, letter = text[: one.start()], text[one.end() :], one[1].upper()
    if letter not in LETTERS[: len(options) or None]:
        return False
    last, following = _WORD_BEFORE.search(before), _WORD_AFTER.match(after)
    lead = last[1].lower() if last else ""
    own = letter in _worded(options) and _starts(after, options[LETTERS.index(letter)])
    if own and one[1].isupper():
        return True
    if not (_AFTER_BREAK.search(before) or lead in _LEADS or (len(lead) == 1 and lead.upper() in LETTERS)):
        return False
    if following is None:
        return True
    if one[1].islower():
        return following[1].lower() in ("and", "or")
    said = lead in _OPTION or (letter not in "AI" and bool(_ANSWER.search(before)))
    return said or (letter != "I" and following[1].lower() in _FOLLOWS)


def _starts(after: str, option: str) -> bool:
    """Whether what follows a letter is its option's text."""
    rest = after.lstrip(" \t.):,-–—(").lower()
    return rest.startswith(option.lower()) and not rest[len(option) : len(option) + 1].isalnum()


def _rest(one: re.Match, text: str) -> str:
    """The words after a letter on its line."""
    return text[one.end() :].partition("\n")[0].strip(" \t.,;:!?()[]-–—")


def _is_line(one: re.Match, text: str, options: Sequence[str]) -> bool:
    """Whether a letter, with its option's text or without, is a whole line."""
    before = text[: one.start()].rpartition("\n")[2].strip(" \t([-–—>")
    rest = _rest(one, text)
    own = options[LETTERS.index(one[1].upper()) :][:1]
    return not before and (not rest or any(_same(rest, option) for option in own))


def _denied(joined: Sequence[re.Match], text: str) -> bool:
    """Whether a "not" stands before, or an "is wrong" behind, letters that are listed together."""
    before, after = text[: joined[0].start()], text[joined[-1].end() :]
    return bool(_DENIED_BEFORE.search(before) or _DENIED_AFTER.match(after))


def _joined(mentions: Sequence[re.Match], one: re.Match, text: str) -> list[re.Match]:
    """All letters of the list that contains one, as in "A, B or C"; that one alone where there is no list."""
    lists: list[list[re.Match]] = []
    for mention in mentions:
        if lists and _JOINS.match(text[lists[-1][-1].end() : mention.start()]):
            lists[-1].append(mention)
        else:
            lists.append([mention])
    return next(found for found in lists if one in found)


def _by_text(text: str, options: Sequence[str]) -> set[str]:
    """Letters of the options whose texts occur in the text."""
    worded = _worded(options)
    found = named(text, worded.values()) if worded else set()
    return {letter for letter, option in worded.items() if option in found}

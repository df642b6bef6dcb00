"""Checks that references can be scored: each is right by itself, and different references count as different.

    findings = references.check(questions)   # a table, one row for each finding

The standard scores ignore case, articles and similar differences (`medstudy.data.words`), so two references that differ
by nothing else count as one answer. Between classes this is an error, because an answer would be right or wrong by its
typing. Between open answers it is a notice, as it is for options of one question that differ only by their letters.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple

import pandas as pd

from medstudy.data import choices, counts, located_scores
from medstudy.data import standard_scores as standard
from medstudy.data.example import KINDS
from medstudy.data.places import reference as place_reference
from medstudy.data.words import ARTICLES, words
from medstudy.errors import DataError

COLUMNS = ["stops", "problem", "dataset", "kind", "question_id", "references", "message"]
ITSELF, ALIKE = "not right by itself", "references alike"
OPTIONS_ALIKE = "options alike"
NUMBER = re.compile(r"[+-]?\d+(?:\.\d*)?")  # classes 1 and 1.0 are the same class, written in two ways
NAMED = 5  # at most this many findings in an error


def check(questions: pd.DataFrame) -> pd.DataFrame:
    """The findings on references, columns `COLUMNS`; `stops` marks findings that would make scores wrong.

    questions: one row for each question of one or several data sets, with dataset, question_id, kind, answer, and for
    some kinds options, cell_line and localizations: the questions.parquet of a data job, or predictions. Blank answers
    are skipped: scoring refuses them.
    """
    parts = _distinct(questions).groupby(["dataset", "kind"], sort=True)
    findings = [finding for _, part in parts for finding in (*_itself(part), *_alike(part))]
    return pd.DataFrame(findings, columns=COLUMNS).astype({"stops": bool})


def refuse(findings: pd.DataFrame, name: str) -> None:
    """Raise DataError naming the first findings that would make scores wrong."""
    wrong = findings[findings["stops"]]
    if len(wrong):
        lines = [f"  {row.kind} {row.question_id}: {row.message}" for row in wrong.head(NAMED).itertuples()]
        more = [f"  and {len(wrong) - NAMED} more"] if len(wrong) > NAMED else []
        rule = f"Every reference must be right by itself and unlike all others, but {len(wrong)} of {name} fail:"
        raise DataError("\n".join([rule, *lines, *more]))


def _distinct(questions: pd.DataFrame) -> pd.DataFrame:
    """Each reference of each question once."""
    key = [name for name in ("dataset", "image_id", "question_id", "answer") if name in questions]
    rows = questions.drop_duplicates(key) if "image_id" in key else questions
    lists = {name: rows[name].map(_tuple) if name in rows else [()] * len(rows)
             for name in ("options", "localizations")}
    lines = rows["cell_line"].astype(object) if "cell_line" in rows else pd.Series(None, rows.index, dtype=object)
    rows = rows.assign(**lists, cell_line=lines.where(lines.notna(), None))
    blank = rows["answer"].isna() | (rows["answer"].astype(str).str.strip() == "")
    rows = rows[~blank].astype({"dataset": str, "kind": str, "answer": object})
    reference = ["dataset", "question_id", "kind", "answer", "options", "localizations", "cell_line"]
    return rows[reference].drop_duplicates()


def _tuple(value: Sequence[str] | float | None) -> tuple[str, ...]:
    """The items of a list; empty for a missing value."""
    return () if value is None or isinstance(value, float) else tuple(value)


def _itself(rows: pd.DataFrame) -> Iterator[dict]:
    """References, all of one data set and kind, that do not score 1 on themselves by every standard score."""
    occurring = {question: tuple(same) for question, same in rows.groupby("question_id")["answer"]}
    lines, places = rows["cell_line"].dropna().unique(), rows["localizations"].explode().dropna().unique()
    try:
        classes = [row.options or occurring[row.question_id] for row in rows.itertuples()]
        scores = [_on_itself(row, known, lines, places) for row, known in zip(rows.itertuples(), classes, strict=True)]
    except DataError as error:
        yield _finding(rows.iloc[0], True, ITSELF, rows["answer"].iloc[:0], str(error))
        return
    for row, score in zip(rows.itertuples(), scores, strict=True):
        if score < 1:
            why = f"the reference {row.answer!r} scores {score:.2g} on itself. {_advice(row)}"
            yield _finding(row, True, ITSELF, [row.answer], why)


def _on_itself(row: NamedTuple, classes: Sequence[str], lines: Sequence[str], places: Sequence[str]) -> float:
    """The least standard score of a reference as an answer to itself. Raises DataError for one that has no score."""
    answer = row.answer
    match row.kind:
        case "closed":
            standard.yes_or_no(answer)
            return standard.strict_closed(answer, answer)
        case "open":
            return min(*standard.multiset_words(answer, answer), standard.exact_match(answer, answer))
        case "choice":
            return standard.strict_choice(answer, answer, row.options)
        case "class":
            return min(standard.strict_class(answer, answer, classes), standard.exact_match(answer, answer))
        case "description":
            if not row.cell_line and not row.localizations:
                raise DataError(
                    "The reference of a description needs a cell line or localizations, but a row has neither."
                )
            line = standard.strict_class(answer, row.cell_line, lines) if row.cell_line else 1.0
            place = standard.strict_localizations(answer, row.localizations, places) if row.localizations else 1.0
            return min(line, place)
        case "count":
            return located_scores.count(answer, str(counts.reference(answer))).score
        case "point" | "box":
            place_reference(answer, row.kind)
            return 1.0
        case "report":
            return standard.exact_match(answer, answer)
    raise DataError(f"a question's kind is one of {', '.join(KINDS)}; got {row.kind!r}")


def _advice(row: NamedTuple) -> str:
    if row.kind == "choice":
        return f"A choice's answer is the letter of one of its {len(row.options)} options, from A on."
    if row.kind == "class" and row.options and row.answer not in row.options:
        return f"It is one of the question's options, written like it: {_listed(row.options)}."
    if row.kind == "description":
        return "A description's text names its cell line and its localizations, and no others: correct one of the two."
    return "Write it in words that an answer can repeat."


def _alike(rows: pd.DataFrame) -> Iterator[dict]:
    """References that differ but read the same, by the rule of their kind."""
    return _ALIKE.get(rows["kind"].iloc[0], lambda _: iter(()))(rows)


def _open(rows: pd.DataFrame) -> Iterator[dict]:
    where = rows.drop_duplicates("answer").set_index("answer", drop=False)
    for same in _groups(rows["answer"], lambda text: tuple(word for word in _texts(text) if word not in ARTICLES)):
        while same:
            together = [text for text in same if text == same[0] or standard.exact_match(text, same[0])]
            same = [text for text in same if text not in together]
            if len(together) > 1:
                message = f"{_listed(together)} count as the same answer"
                yield _finding(where.loc[together[0]], False, ALIKE, together, message)


def _class(rows: pd.DataFrame) -> Iterator[dict]:
    for _, part in rows.groupby("question_id", sort=False):
        classes = {*part["answer"], *part["options"].explode().dropna()}
        for same in _groups(classes, lambda text: float(text) if NUMBER.fullmatch(text) else _texts(text)):
            message = f"the classes {_listed(same)} read the same, so no answer can name only one. Give them one name."
            yield _finding(part.iloc[0], True, ALIKE, same, message)


def _choice(rows: pd.DataFrame) -> Iterator[dict]:
    for row in rows.drop_duplicates(["question_id", "options"]).itertuples():
        for pair in choices.same_text(row.options):
            message = f"the options {_listed(pair)} differ by letter alone"
            yield _finding(row, False, OPTIONS_ALIKE, pair, message)


def _description(rows: pd.DataFrame) -> Iterator[dict]:
    for known in (rows["cell_line"].dropna(), rows["localizations"].explode().dropna()):
        for same in _groups(known, _texts):
            yield _finding(rows.iloc[0], False, ALIKE, same, f"the names {_listed(same)} read the same")


_ALIKE = {"open": _open, "class": _class, "choice": _choice, "description": _description}


def _texts(text: str) -> tuple[str, ...]:
    return tuple(word.text for word in words(text))


def _groups(texts: Iterable[str], key: Callable[[str], Hashable]) -> list[list[str]]:
    """Groups of different texts that have the same key."""
    by_key: dict[Hashable, list[str]] = defaultdict(list)
    for text in sorted(set(texts)):
        by_key[key(text)].append(text)
    return [same for same in by_key.values() if len(same) > 1]


def _listed(texts: Iterable[str]) -> str:
    return ", ".join(map(repr, texts))


def _finding(row: NamedTuple | pd.Series, stops: bool, problem: str, references: Iterable[str], message: str) -> dict:
    about = (row.dataset, row.kind, row.question_id)
    return dict(zip(COLUMNS, (stops, problem, *about, list(references), message), strict=True))

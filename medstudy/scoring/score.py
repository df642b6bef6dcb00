"""Scores of predictions: standard metrics, and those of the paper's first author, bug for bug.

`score` turns predictions into scores, one row per question. Every metric is in [0, 1] (but `count_error`, a number of
things), and NaN only where it does not apply. A blank prediction scores 0. The metrics of one answer are pure functions
in `medstudy.scoring.metrics`.

The column that figures and claims average, `score`, holds the standard metric of each kind of question. The author's
metrics do not qualify: a reference may score 0 on itself ("A" for an open question; HEK293T where HEK293 is known too),
and the answer "ER-" scores 1 where "ER+" is right.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd

from medstudy.data import choices, formats, standard_scores, yes_no
from medstudy.data.example import GREEDY, LETTERS
from medstudy.data.final_answer import final
from medstudy.data.words import named
from medstudy.errors import DataError
from medstudy.scoring import located, metrics, reports
from medstudy.scoring.columns import frame as _frame
from medstudy.scoring.columns import mapped as _map
from medstudy.scoring.columns import texts as _texts

METRICS = ("score", "author", "strict", "precision", "recall", "f1", "strict_precision", "strict_recall",
           "strict_f1", "exact", "llava_med", "cell_line_hit", "localization_recall", "strict_cell_line",
           "strict_localization_f1", "likelihood", "likelihood_norm", *located.METRICS, *reports.METRICS, "unread")
READ = ("answer_read", "answer_letter")  # how many options the answer names; of a choice, the letter of the one
NEEDED = ("dataset", "image_id", "question_id", "kind", "answer", "raw_text", "detail_px")
LEFT_OUT = ("prompt", "options", *READ)


def score(predictions: pd.DataFrame) -> pd.DataFrame:
    """Every row of predictions with its metrics, `READ`, `chance` (of guessing right) and `level` (see `levels`).

    `score` equals `strict`; `author` is the author's metric. Known classes are the question's options; without them, as
    for cell lines and localizations, those of the references of the same data set. `likelihood` and `likelihood_norm`
    are set where there are `option_log_likelihoods`.
    """
    _check(predictions)
    out = predictions.drop(columns=[c for c in LEFT_OUT if c in predictions]).reset_index(drop=True)
    source = predictions.reset_index(drop=True)
    source = source.assign(raw_text=_texts(source["raw_text"]), answer=_texts(source["answer"]))
    parts = [_SCORERS[kind](rows) for kind, rows in source.groupby("kind", sort=False)]
    columns = pd.concat(parts) if parts else pd.DataFrame(columns=["strict"], dtype=float)
    columns = columns.assign(score=columns["strict"]).reindex(index=out.index, columns=[*METRICS, "chance", *READ])
    columns = columns.astype({name: object for name in READ}).where(lambda table: table.notna(), None)
    return pd.concat([out, columns.astype({name: float for name in [*METRICS, "chance"]})], axis=1).assign(
        level=levels(out)
    )


def greedy(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of predictions or scores with greedy answers, which figures and claims use; without `decoding`, all.

    As in `sampled`, without the questions that are also asked in another form: those are in `by_letter`.
    """
    return rows[(_decoding(rows) == GREEDY) & (_format(rows) == "")]


def sampled(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows sampled at a temperature, as the author's are; only the table of author scores uses them."""
    return rows[(_decoding(rows) != GREEDY) & (_format(rows) == "")]


def by_letter(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with greedy answers to choices asked by letter besides in words; only one table uses them."""
    return rows[(_decoding(rows) == GREEDY) & (_format(rows) == formats.LETTER)]


def _decoding(rows: pd.DataFrame) -> pd.Series:
    return rows["decoding"].fillna(GREEDY) if "decoding" in rows else pd.Series(GREEDY, rows.index)


def _format(rows: pd.DataFrame) -> pd.Series:
    return rows["format"].fillna("") if "format" in rows else pd.Series("", rows.index)


def levels(rows: pd.DataFrame) -> np.ndarray:
    """The level of each question, by what is known of the size of its deciding detail.

    fine: the size is known. coarse: it is not, but known for others of the data set, so the question is a control.
    unknown: it is not known for any question of the data set, as in all public data sets.
    """
    known = rows["detail_px"].notna()
    has_fine = known.groupby(rows["dataset"], observed=True).transform("any")
    return np.select([known, has_fine], ["fine", "coarse"], "unknown")


def _check(predictions: pd.DataFrame) -> None:
    missing = [c for c in NEEDED if c not in predictions]
    if missing:
        raise DataError(f"Predictions need the columns {', '.join(NEEDED)}, but lack {', '.join(missing)}.")
    unknown = set(predictions["kind"]) - set(_SCORERS)
    if unknown:
        raise DataError(f"A question's kind is one of {', '.join(_SCORERS)}, got {sorted(map(str, unknown))}.")
    blank = _texts(predictions["answer"]).str.strip() == ""
    if blank.any():
        first = predictions.loc[blank.idxmax()]
        raise DataError(
            f"Every question needs a reference answer, but {int(blank.sum())} have none, the first is "
            f"{first['question_id']} of {first['image_id']} in {first['dataset']}. Leave them out."
        )


def _closed(rows: pd.DataFrame) -> pd.DataFrame:
    answers = rows["answer"].map(standard_scores.yes_or_no)
    author = _map(metrics.author_closed, rows["raw_text"], answers)
    strict = _map(standard_scores.strict_closed, rows["raw_text"], rows["answer"])
    llava_med = _map(metrics.llava_med_closed, rows["raw_text"], answers)
    unread = _map(_unclear, rows["raw_text"], rows["answer"])
    return _frame(rows, author=author, strict=strict, llava_med=llava_med, unread=unread, chance=0.5)


def _unclear(text: str, answer: str) -> float:
    """1 if a text says neither yes nor no, or both."""
    return float(len(yes_no.given(final(text).text, yes_no.polarity(answer)[0])) != 1)


def _blank(texts: pd.Series) -> np.ndarray:
    """1 where no answer is left without the reasoning."""
    return _map(lambda text: float(not final(text).text), texts)


def _open(rows: pd.DataFrame) -> pd.DataFrame:
    pair = rows["raw_text"], rows["answer"]
    author = _map(metrics.author_words, *pair)
    strict = _map(lambda text, true: (*standard_scores.multiset_words(text, true),
                                      standard_scores.exact_match(text, true)), *pair)
    return _frame(rows, author=author[:, 1], strict=strict[:, 1], precision=author[:, 0],
                  recall=author[:, 1], f1=author[:, 2], strict_precision=strict[:, 0],
                  strict_recall=strict[:, 1], strict_f1=strict[:, 2], exact=strict[:, 3],
                  llava_med=_map(metrics.llava_med_exact_match, *pair), unread=_blank(rows["raw_text"]), chance=0.0)


def _choice(rows: pd.DataFrame) -> pd.DataFrame:
    texts, answers, options = rows["raw_text"], rows["answer"], _options(rows)
    # read each distinct answer once
    table = {pair: choices.read(*pair) for pair in set(zip(texts, options, strict=True))}
    read = [table[pair] for pair in zip(texts, options, strict=True)]
    letters = pd.Series([reading.letter for reading in read], rows.index, dtype=object)
    likely = _likelihoods(rows, options.map(lambda listed: tuple(LETTERS[: len(listed)])))
    counts = options.map(len)
    return _frame(rows, author=_map(metrics.author_choice, texts, answers), strict=letters == answers, **likely,
                  unread=letters.isna(), chance=1 / counts.where(counts > 0)).assign(
        answer_read=[reading.how for reading in read], answer_letter=letters
    )


def _options(rows: pd.DataFrame) -> pd.Series:
    """The options of each row; empty if it has none."""
    if "options" not in rows:
        return pd.Series([()] * len(rows), rows.index, dtype=object)
    return rows["options"].map(lambda listed: tuple(listed) if np.ndim(listed) else ())


def _likelihoods(rows: pd.DataFrame, candidates: pd.Series) -> dict[str, np.ndarray]:
    """`likelihood` and `likelihood_norm` of rows; NaN where options were not scored."""
    logs = rows.get("option_log_likelihoods", pd.Series(None, rows.index))
    logs = logs.map(lambda value: tuple(map(float, value)) if np.ndim(value) else ())
    both = _map(metrics.likelihood, logs, candidates, rows["answer"])
    return {"likelihood": both[:, 0], "likelihood_norm": both[:, 1]}


def _class(rows: pd.DataFrame) -> pd.DataFrame:
    texts, answers, options = rows["raw_text"], rows["answer"], _options(rows)
    # without options, the classes are all answers to the questions with the same id
    questions = [rows["dataset"].astype(str), rows["question_id"].astype(str)]
    occurring = {key: tuple(sorted(same.unique())) for key, same in answers.groupby(questions, sort=False)}
    known = [listed or occurring[name, id] for name, id, listed in zip(*questions, options, strict=True)]
    read = [_named(*row) if row[1] else None for row in zip(texts, options, strict=True)]
    unread = [_named(*row) != "one" for row in zip(texts, known, strict=True)]
    return _frame(rows, author=_map(metrics.author_class, texts, answers),
                  strict=_map(standard_scores.strict_class, texts, answers, known),
                  exact=_map(standard_scores.exact_match, texts, answers), **_likelihoods(rows, options),
                  unread=unread, chance=[1 / len(classes) for classes in known]).assign(answer_read=read)


@cache
def _named(text: str, classes: tuple[str, ...]) -> str:
    """How many of the classes a text names: none, one or several."""
    return ("none", "one", "several")[min(2, len(named(final(text).text, classes)))]


def _description(rows: pd.DataFrame) -> pd.DataFrame:
    places = rows["localizations"].map(lambda names: tuple(names) if np.ndim(names) else ())
    lines = rows["cell_line"].astype(object).where(rows["cell_line"].notna(), None)
    if (lines.isna() & (places.map(len) == 0)).any():
        raise DataError("The reference of a description needs a cell line or localizations, but a row has neither.")
    parts = []
    for _, same in rows.groupby("dataset", sort=False):
        known_lines = tuple(sorted(lines[same.index].dropna().unique()))
        known_places = tuple(sorted({name for names in places[same.index] for name in names}))
        four = _map(lambda text, line, names, ks=known_lines, ps=known_places:
                    metrics.description(text, line, names, ks, ps),
                    same["raw_text"], lines[same.index], places[same.index])
        author, strict = _row_mean(four[:, :2]), _row_mean(four[:, 2:])
        parts.append(_frame(same, author=author, strict=strict, cell_line_hit=four[:, 0],
                            localization_recall=four[:, 1], strict_cell_line=four[:, 2],
                            strict_localization_f1=four[:, 3], unread=_blank(same["raw_text"]), chance=0.0))
    return pd.concat(parts)


def _row_mean(columns: np.ndarray) -> np.ndarray:
    """The mean of each row without NaN; `_description` rejects rows with NaN alone."""
    return np.nanmean(columns, axis=1)


_SCORERS = {
    "closed": _closed, "open": _open, "choice": _choice, "class": _class, "description": _description,
    "count": located.count, "point": located.point, "box": located.box, "report": reports.report,
}


# Scores of several rows together

def macro_localization_recall(rows: pd.DataFrame) -> float:
    """The author's recall: for each localization the fraction of its true rows that name it, averaged.

    rows: descriptions among predictions or scores (raw_text, localizations). A text names a localization if it
    contains it, case-insensitively, also inside a word. NaN if no row has a localization.
    """
    named = localizations_named(rows)
    return float(named["named"].groupby(named["localizations"]).mean().mean()) if len(named) else float("nan")


def localizations_named(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each true localization of each row, with `named`: 1 if the text contains it, else 0."""
    exploded = rows.explode("localizations").dropna(subset=["localizations"])
    named = _map(metrics.names, _texts(exploded["raw_text"]), exploded["localizations"])
    return exploded.assign(named=named)


RUN = ("study", "dataset", "split", "model", "regime", "seed", "inference", "control")


def set_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of sets of questions that count only as a whole, one row per set and run; empty without sets.

    As in MediConfusion and ProbMed, whose sets make guessing unprofitable. Columns: those of `RUN` that exist; set_id,
    also as image_id and question_id, so that intervals count sets; the group of the set's first image; `questions`;
    `score`, 1 if every answer is right by the strict metric; `chance`, of that by guessing; `accuracy`, the mean of the
    strict scores; `confused`, for choices with different references: 1 if all answers name the same option. As in
    MediConfusion's code, a pair with an answer that names no option is wrong, and not part of confusion.
    """
    if "set_id" not in scores or scores["set_id"].isna().all():
        return pd.DataFrame(columns=[*RUN, "set_id", "score", "confused"])
    rows = scores[scores["set_id"].notna()]
    letters = rows["answer_letter"]
    rows = rows.assign(lettered=letters.notna() & rows["kind"].eq("choice"), letter=letters)
    run = [name for name in RUN if name in rows]
    sets = rows.groupby([*run, "set_id"], sort=False, observed=True, dropna=False).agg(
        group=("group", "first"), questions=("strict", "size"), score=("strict", "min"), accuracy=("strict", "mean"),
        chance=("chance", "prod"), answers=("answer", "nunique"), letters=("letter", "nunique"),
        lettered=("lettered", "all"),
    ).reset_index()
    # confusion applies to sets of choices that all name an option and whose references all differ
    comparable = sets["lettered"] & (sets["answers"] == sets["questions"]) & (sets["questions"] > 1)
    sets["confused"] = (sets["letters"] == 1).astype(float).where(comparable)
    sets["score"] = (sets["score"] >= 1).astype(float)
    names = sets["set_id"].astype(str)
    return sets.drop(columns=["answers", "letters", "lettered"]).assign(image_id=names, question_id=names)


"""Scores from predictions alone, without a model: of a study, of files of another machine, of other runners' tables.

A file is read by its columns, the first of these that fit:

| rows of | columns | questions of kind |
| --- | --- | --- |
| this package (parquet, jsonl) | `OWN` | as they say |
| `medstudy export` (jsonl) | medstudy, target, filtered_resps | as they say |
| the author's infer_eval.py | question, answer, prediction | closed (yes or no), else open |
| the same on u-Bench | question, options, correct_letter, question_type, prediction | choice |
| eval_hussain.py | query, response, image_path, prediction | class |
| infer_eval_subcellular.py | true_cell_line, true_localizations, raw_prediction | description |

The author's files (https://github.com/cliangyu/med_eval) are named DATASET_MAXPIXELS.jsonl and say nothing else: the
data set and the rung are taken from the name, and a row without an image's name counts as an image of its own, so that
intervals are too narrow where images have several questions. Their answers were sampled at temperature 0.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from rich.table import Table

from medstudy import author_mode, scoring
from medstudy.errors import DataError, RunError
from medstudy.records import GREEDY
from medstudy.sources.files import jsonl

AUTHORS = "sampled-0.2"
OWN = tuple(name for name in scoring.NEEDED if name != "detail_px")  # which most data sets do not know
FILLED = {  # what a row is taken to be that does not say
    "split": "test", "control": "none", "regime": "unknown", "seed": 0, "inference": "unknown", "budget_pixels": 0,
    "decoding": GREEDY, "detail_px": float("nan"), "task": "unknown", "cell_line": None, "model": "unknown",
}  # fmt: skip


@dataclass(frozen=True)
class Format:
    """Rows of a runner: the columns by which they are known, and one row as that of a prediction."""

    columns: tuple[str, ...]
    row: Callable[[dict], dict]


def _vqa(row: dict) -> dict:
    kind = "closed" if str(row["answer"]).lower() in ("yes", "no") else "open"
    return {"kind": kind, "question_id": row["question"], "answer": row["answer"], "raw_text": row["prediction"]}


def _choice(row: dict) -> dict:
    return {"kind": "choice", "question_id": row["question"], "task": row["question_type"], "options": row["options"],
            "answer": row["correct_letter"].strip().upper(), "raw_text": row["prediction"]}  # fmt: skip


def _class(row: dict) -> dict:
    image = re.split(r"[/\\]", row["image_path"])[-1]
    return {"kind": "class", "question_id": row["query"], "image_id": image, "answer": row["response"],
            "raw_text": row["prediction"]}  # fmt: skip


def _description(row: dict) -> dict:
    named = ", ".join([row["true_cell_line"] or "", *row["true_localizations"]])
    return {"kind": "description", "question_id": "description", "answer": named, "cell_line": row["true_cell_line"],
            "localizations": row["true_localizations"], "raw_text": row["raw_prediction"]}  # fmt: skip


def _exported(row: dict) -> dict:
    said = row["filtered_resps"]
    return row["medstudy"] | {"answer": row["target"], "raw_text": said if isinstance(said, str) else said[0]}


EXPORTED = Format(("medstudy", "target", "filtered_resps"), _exported)
AUTHOR = (
    Format(("question", "options", "correct_letter", "question_type", "prediction"), _choice),
    Format(("question", "answer", "prediction"), _vqa),
    Format(("query", "response", "image_path", "prediction"), _class),
    Format(("true_cell_line", "true_localizations", "raw_prediction"), _description),
)


def find(what: Sequence[str | Path]) -> list[Path]:
    """The prediction files of params files (their studies' evaluations), folders and files. Raises DataError, RunError.

    A folder stands for every predictions.parquet and every exported file of samples below it.
    """
    files = [file for one in what for file in _files(Path(one))]
    if not files:
        raise DataError(
            f"A folder must hold a predictions.parquet or exported samples, but {', '.join(map(str, what))} has none."
        )
    return files


def _files(place: Path) -> list[Path]:
    if place.suffix in (".yaml", ".yml"):
        return _of_study(place)
    if not place.is_dir():
        return [place]
    return sorted([*place.rglob("predictions.parquet"), *place.rglob("*samples_*.jsonl")])


def _of_study(file: Path) -> list[Path]:
    from medstudy import grid, params

    jobs = [job for job in grid.plan(params.load(file)) if job.stage == "evaluate"]
    for job in jobs:
        if not job.done:
            raise RunError(f"{job.name} is not complete: there is no {job.record}. Run the study first.")
    return [job.dir / "predictions.parquet" for job in jobs]


def read(file: Path) -> pd.DataFrame:
    """One row a question as `scoring.score` takes them; see the module's table. Raises DataError."""
    table = _loaded(file)
    if set(OWN) <= set(table):
        return _filled(table, {})
    fitting = [one for one in (EXPORTED, *AUTHOR) if set(one.columns) <= set(table)]
    if not fitting:
        known = "; ".join(", ".join(columns) for columns in (OWN, *(one.columns for one in (EXPORTED, *AUTHOR))))
        raise DataError(
            f"Predictions are known by their columns, but {file} has {', '.join(map(str, table)) or 'none'}. Name them "
            f"as one of: {known}."
        )
    made = pd.DataFrame([_row(fitting[0], row, f"{file} row {number}") for number, row in
                         enumerate(table.to_dict("records"), 1)])  # fmt: skip
    return _filled(made, {} if fitting[0] is EXPORTED else _named(file) | {"decoding": AUTHORS})


def _row(format: Format, row: dict, where: str) -> dict:
    """A runner's row as that of a prediction. Raises DataError for values of other kinds than the runner's."""
    try:
        return format.row(row)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        names = ", ".join(format.columns)
        raise DataError(f"{where} has the columns {names}, but not values of their kinds ({error}).") from error


def _loaded(file: Path) -> pd.DataFrame:
    if file.suffix != ".parquet":
        rows = list(jsonl(file))
        if wrong := [row for row in rows if not isinstance(row, dict)]:
            raise DataError(f"A row of predictions is an object of column: value, but {file} has {wrong[0]!r:.60}.")
        return pd.DataFrame(rows)
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow's own are of both kinds
        raise DataError(f"{file} cannot be read as parquet ({error}). Is the path right, the file whole?") from error


def _named(file: Path) -> dict:
    """What the author's name for a file says: DATASET_MAXPIXELS.jsonl."""
    dataset, _, pixels = file.stem.rpartition("_")
    if not (dataset and pixels.isdigit()):
        return {"dataset": file.stem}
    return {"dataset": dataset, "budget_pixels": int(pixels), "inference": f"at most {pixels} pixels"}


def _filled(rows: pd.DataFrame, known: dict) -> pd.DataFrame:
    """The rows with every column that scores and tables need."""
    rows = rows.assign(**{name: value for name, value in (FILLED | known).items() if name not in rows})
    if "image_id" not in rows:
        rows["image_id"] = [f"row {number}" for number in range(1, len(rows) + 1)]
    for name in ("options", "localizations"):
        rows[name] = rows[name].map(_listed) if name in rows else [[] for _ in range(len(rows))]
    return rows if "group" in rows else rows.assign(group=rows["image_id"])


def _listed(value) -> list:
    """A list of texts, also where a row has none or holds it as JSON. Raises DataError."""
    found = value
    if isinstance(value, str):
        try:
            found = json.loads(value)
        except ValueError as error:
            raise DataError(f"A list in a file of predictions is a list or its JSON, got {value!r:.60}.") from error
    if found is None or found is pd.NA or isinstance(found, float):
        return []
    if not isinstance(found, (list, tuple, np.ndarray)):
        raise DataError(f"Options and localizations are lists of texts, got {found!r:.60}.")
    return [str(one) for one in found]


def rescore(files: Sequence[Path], level: float = 0.95) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of the predictions of all files, one row a question, and the table of `author_mode` for each model.

    Raises DataError.
    """
    scores = scoring.score(pd.concat([read(file) for file in files], ignore_index=True))
    plain = scores[(scores["split"] == "test") & (scores["control"] == "none")]
    tables = [author_mode.table(rows, level).assign(model=model) for model, rows in plain.groupby("model", sort=True)]
    table = pd.concat(tables, ignore_index=True)
    return scores, table[["model", *table.columns.drop("model")]]


def write(scores: pd.DataFrame, table: pd.DataFrame, out: Path) -> list[Path]:
    """scores.parquet and author_scores.csv in the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "scores.parquet", out / "author_scores.csv"]
    scores.to_parquet(files[0])
    table.to_csv(files[1], index=False, float_format="%.6g", lineterminator="\n")
    return files


def printed(table: pd.DataFrame) -> Table:
    """The table for a terminal: every number with its interval, and a dash where the answers were not asked for."""
    names = [name.removesuffix("_pct") for name in author_mode.COLUMNS]
    shown = Table("model, data\ntrained, shown", "metric", *names, "n")
    for row in table.to_dict("records"):
        place = f"{row['model']}, {row['dataset']}\n{row['regime']}, {row['inference']}"
        numbers = [_number(row, name) for name in author_mode.COLUMNS]
        shown.add_row(place, row["metric"], *numbers, str(row["questions"]))
    return shown


def _number(row: dict, name: str) -> str:
    if pd.isna(row[name]):
        return "–"
    return f"{row[name]:.1f}\n[{row[name + '_low']:.1f}, {row[name + '_high']:.1f}]"

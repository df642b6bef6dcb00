"""Scores from existing predictions, without a model: of a study, of another machine, or of another evaluation code.

A file's format is recognised by its columns; the first that fits wins:

| written by | columns | kind of question |
| --- | --- | --- |
| this package (parquet, jsonl) | `OWN` | column kind |
| `medstudy export` (jsonl) | medstudy, target, filtered_resps | column kind |
| the author's infer_eval.py | question, answer, prediction | closed (yes or no), else open |
| the same on u-Bench | question, options, correct_letter, question_type, prediction | choice |
| eval_hussain.py | query, response, image_path, prediction | class |
| infer_eval_subcellular.py | true_cell_line, true_localizations, raw_prediction | description |

The author's files (https://github.com/cliangyu/med_eval) are named DATASET_MAXPIXELS.jsonl, which gives data set and
rung. Most name no image, so each row counts as its own image, and intervals are too narrow where images have several
questions. Their answers were sampled at temperature 0.2.
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

from medstudy.data.example import GREEDY
from medstudy.data.readers.files import jsonl
from medstudy.errors import DataError, RunError
from medstudy.scoring import author_report, score

AUTHORS = "sampled-0.2"
OWN = tuple(name for name in score.NEEDED if name != "detail_px")  # unknown for most data sets
DEFAULTS = {  # values of columns that a file lacks
    "split": "test", "control": "none", "regime": "unknown", "seed": 0, "inference": "unknown", "budget_pixels": 0,
    "decoding": GREEDY, "format": "", "detail_px": float("nan"), "task": "unknown", "cell_line": None,
    "model": "unknown",
}


@dataclass(frozen=True)
class Format:
    """A file format: the columns that identify it, and the function that turns its row into a row of predictions."""

    columns: tuple[str, ...]
    row: Callable[[dict], dict]


def _vqa(row: dict) -> dict:
    kind = "closed" if str(row["answer"]).lower() in ("yes", "no") else "open"
    return {"kind": kind, "question_id": row["question"], "answer": row["answer"], "raw_text": row["prediction"]}


def _choice(row: dict) -> dict:
    return {"kind": "choice", "question_id": row["question"], "task": row["question_type"], "options": row["options"],
            "answer": row["correct_letter"].strip().upper(), "raw_text": row["prediction"]}


def _class(row: dict) -> dict:
    image = re.split(r"[/\\]", row["image_path"])[-1]
    return {"kind": "class", "question_id": row["query"], "image_id": image, "answer": row["response"],
            "raw_text": row["prediction"]}


def _description(row: dict) -> dict:
    answer = ", ".join([row["true_cell_line"] or "", *row["true_localizations"]])
    return {"kind": "description", "question_id": "description", "answer": answer, "cell_line": row["true_cell_line"],
            "localizations": row["true_localizations"], "raw_text": row["raw_prediction"]}


def _exported(row: dict) -> dict:
    text = row["filtered_resps"]
    return row["medstudy"] | {"answer": row["target"], "raw_text": text if isinstance(text, str) else text[0]}


EXPORTED = Format(("medstudy", "target", "filtered_resps"), _exported)
AUTHOR = (
    Format(("question", "options", "correct_letter", "question_type", "prediction"), _choice),
    Format(("question", "answer", "prediction"), _vqa),
    Format(("query", "response", "image_path", "prediction"), _class),
    Format(("true_cell_line", "true_localizations", "raw_prediction"), _description),
)


def find(places: Sequence[str | Path]) -> list[Path]:
    """The prediction files of params files (their studies' evaluations), folders and files. Raises DataError, RunError.

    A folder means every predictions.parquet and every exported file of samples below it.
    """
    files = [file for place in places for file in _files(Path(place))]
    if not files:
        raise DataError(
            f"A folder needs a predictions.parquet or exported samples below it, but {', '.join(map(str, places))} has "
            "none."
        )
    return files


def _files(place: Path) -> list[Path]:
    if place.suffix in (".yaml", ".yml"):
        return _of_study(place)
    if not place.is_dir():
        return [place]
    return sorted([*place.rglob("predictions.parquet"), *place.rglob("*samples_*.jsonl")])


def _of_study(file: Path) -> list[Path]:
    from medstudy import params
    from medstudy.runs import plan

    jobs = [job for job in plan.plan(params.load(file)) if job.stage == "evaluate"]
    for job in jobs:
        if not job.done:
            raise RunError(f"{job.name} is not complete: there is no {job.record}. Run the study first.")
    return [job.dir / "predictions.parquet" for job in jobs]


def read(file: Path) -> pd.DataFrame:
    """Predictions for `scoring.score`, one row per question, from a file of any format above. Raises DataError."""
    table = _loaded(file)
    if set(OWN) <= set(table):
        return _filled(table, {})
    format = next((format for format in (EXPORTED, *AUTHOR) if set(format.columns) <= set(table)), None)
    if format is None:
        known = "; ".join(", ".join(columns) for columns in (OWN, *(format.columns for format in (EXPORTED, *AUTHOR))))
        raise DataError(
            f"Predictions are recognised by their columns, but {file} has {', '.join(map(str, table)) or 'none'}. "
            f"Rename them to one of: {known}."
        )
    records = enumerate(table.to_dict("records"), 1)
    rows = pd.DataFrame([_row(format, row, f"{file} row {number}") for number, row in records])
    return _filled(rows, {} if format is EXPORTED else _from_name(file) | {"decoding": AUTHORS})


def _row(format: Format, row: dict, where: str) -> dict:
    """A row of another format as a row of predictions. Raises DataError for values that the format does not allow."""
    try:
        return format.row(row)
    except (TypeError, ValueError, AttributeError, KeyError, IndexError) as error:
        names = ", ".join(format.columns)
        raise DataError(f"{where} has the columns {names}, but values of other types ({error}).") from error


def _loaded(file: Path) -> pd.DataFrame:
    if file.suffix != ".parquet":
        rows = list(jsonl(file))
        if wrong := [row for row in rows if not isinstance(row, dict)]:
            raise DataError(f"Each line of predictions is a JSON object, but {file} has {wrong[0]!r:.60}.")
        return pd.DataFrame(rows)
    try:
        return pd.read_parquet(file)
    except (OSError, ValueError) as error:  # pyarrow raises both
        raise DataError(f"{file} cannot be read as parquet ({error}). Check the path, or copy it again.") from error


def _from_name(file: Path) -> dict:
    """Data set and rung from the author's file name, DATASET_MAXPIXELS.jsonl."""
    dataset, _, pixels = file.stem.rpartition("_")
    if not (dataset and pixels.isdigit()):
        return {"dataset": file.stem}
    return {"dataset": dataset, "budget_pixels": int(pixels), "inference": f"at most {pixels} pixels"}


def _filled(rows: pd.DataFrame, known: dict) -> pd.DataFrame:
    """The rows with every column that scores and tables need."""
    rows = rows.assign(**{name: value for name, value in (DEFAULTS | known).items() if name not in rows})
    if "image_id" not in rows:
        rows["image_id"] = [f"row {number}" for number in range(1, len(rows) + 1)]
    for name in ("options", "localizations"):
        rows[name] = rows[name].map(_listed) if name in rows else [[] for _ in range(len(rows))]
    return rows if "group" in rows else rows.assign(group=rows["image_id"])


def _listed(value: object) -> list[str]:
    """A list of texts, from a list, its JSON, or a missing value. Raises DataError."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise DataError(f"Options and localizations are a list or its JSON, got {value!r:.60}.") from error
    if value is None or value is pd.NA or isinstance(value, float):
        return []
    if not isinstance(value, (list, tuple, np.ndarray)):
        raise DataError(f"Options and localizations are lists of texts, got {value!r:.60}.")
    return list(map(str, value))


def rescore(files: Sequence[Path], confidence: float = 0.95) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The scores of all files, one row per question, and each model's `author_report.table`. Raises DataError."""
    scores = score.score(pd.concat([read(file) for file in files], ignore_index=True))
    plain = scores[(scores["split"] == "test") & (scores["control"] == "none")]
    models = plain.groupby("model", sort=True)
    tables = [author_report.table(rows, confidence).assign(model=model) for model, rows in models]
    table = pd.concat(tables, ignore_index=True)
    return scores, table[["model", *table.columns.drop("model")]]


def write(scores: pd.DataFrame, table: pd.DataFrame, out: Path) -> list[Path]:
    """Write scores.parquet and author_scores.csv into the folder `out`."""
    out.mkdir(parents=True, exist_ok=True)
    files = [out / "scores.parquet", out / "author_scores.csv"]
    scores.to_parquet(files[0])
    table.to_csv(files[1], index=False, float_format="%.6g", lineterminator="\n")
    return files


def printed(table: pd.DataFrame) -> Table:
    """The table for a terminal: every number with its interval, a dash if there are no answers for it."""
    names = [name.removesuffix("_pct") for name in author_report.COLUMNS]
    shown = Table("model, data\ntrained, shown", "metric", *names, "n")
    for row in table.to_dict("records"):
        place = f"{row['model']}, {row['dataset']}\n{row['regime']}, {row['inference']}"
        numbers = [_number(row, name) for name in author_report.COLUMNS]
        shown.add_row(place, row["metric"], *numbers, str(row["questions"]))
    return shown


def _number(row: dict, name: str) -> str:
    if pd.isna(row[name]):
        return "–"
    return f"{row[name]:.1f}\n[{row[name + '_low']:.1f}, {row[name + '_high']:.1f}]"

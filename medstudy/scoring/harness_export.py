"""Export of predictions in the file formats of other evaluation harnesses, for their viewers and readers.

Adapted from https://github.com/EvolvingLMMs-Lab/lmms-eval (75571cf: lmms_eval/loggers/evaluation_tracker.py,
evaluator.py, evaluator_utils.py, utils.py) and https://github.com/EleutherAI/lm-evaluation-harness (034ab03:
lm_eval/loggers/evaluation_tracker.py). Both write into a folder named after the model:

    lmms-eval   DATE_results.json   DATE_samples_TASK.jsonl   DATE as 20261122_224800
    lm-eval     results_DATE.json   samples_TASK_DATE.jsonl   DATE as 2026-11-22T22-48-00

Here each run has a folder MODEL@REGIME-sSEED with one results file. A task is DATASET_RUNG, with the decoding if it is
not greedy and the format if questions are asked in another, so no rung overwrites another. Fields that the formats lack
are under an additional key of each sample, `medstudy`, from which `medstudy.scoring.rescore` makes the same scores.
Images, questions and groups are named by hashes and a model's folder by its last part: no image, path or name of a
person is written unless an answer contains one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

from medstudy import __version__, paths
from medstudy.data.example import GREEDY
from medstudy.errors import DataError, ParamsError
from medstudy.scoring import rescore, score

RUN = ["model", "regime", "seed"]
TASK = ["dataset", "inference", "decoding", "format"]
DOC = ["dataset", "image_id", "question_id"]
HASHED = ("image_id", "group", "question_id", "set_id")
FIELDS = (  # columns of predictions that scores, intervals and tables read
    "study", "model", "model_revision", "regime", "seed", "inference", "control", "mismatch", "budget_pixels",
    "interpolation", "decoding", "dataset", "split", "image_id", "group", "question_id", "set_id", "tags",
    "format", "family", "modality", "anatomy", "task", "kind", "options", "option_log_likelihoods", "cell_line",
    "localizations", "detail_px", "height", "width", "shown_height", "shown_width", "visual_tokens", "scale",
    "coordinates", "frame", "thinking_tokens",
)


@dataclass(frozen=True)
class Layout:
    """A harness's format: its dates, the names of its two kinds of files, and prompt and answer in a sample."""

    date: Callable[[datetime], str]
    results: str
    samples: str
    sample: Callable[[str, str], dict]


LAYOUTS = {
    "lmms-eval": Layout(
        lambda at: at.strftime("%Y%m%d_%H%M%S"),
        "{date}_results.json",
        "{date}_samples_{task}.jsonl",
        lambda prompt, text: {"input": prompt, "filtered_resps": text},
    ),
    "lm-eval": Layout(
        lambda at: at.strftime("%Y-%m-%dT%H-%M-%S"),
        "results_{date}.json",
        "samples_{task}_{date}.jsonl",
        lambda prompt, text: {
            "arguments": {"gen_args_0": {"arg_0": prompt}},
            "resps": [[text]],
            "filtered_resps": [text],
            "filter": "none",
        },
    ),
}


def export(
    files: Sequence[Path], out: Path, to: str, date: str | None = None, commit: str | None = None
) -> list[Path]:
    """Write every run of these predictions into `out`; returns the files written. Raises ParamsError, DataError.

    The date comes from the record next to a file, else from `date` (ISO 8601, UTC without a zone), so the same input
    gives the same bytes. commit: of the code, as from `provenance.commit`.
    """
    if to not in LAYOUTS:
        raise ParamsError(f"Results can be exported to {', '.join(LAYOUTS)}; got {to!r}.")
    layout, texts = LAYOUTS[to], {}
    for file in files:
        record, scores = _record(file), score.score(_with_prompt(rescore.read(file)))
        at = layout.date(_date(file, record, date))
        for (model, regime, seed), rows in scores.groupby(RUN, sort=True):
            name = f"{_model(model)}@{regime}-s{seed}"
            folder, tasks = out / _safe(name), _tasks(rows)
            about = _about(name, model, regime, seed, record, at, commit)
            content = _results(tasks, about, record)
            texts |= _new(texts, folder / layout.results.format(date=at), json.dumps(content, indent=2) + "\n")
            for task, part in tasks.items():
                lines = "".join(json.dumps(sample, ensure_ascii=False) + "\n" for sample in _samples(part, layout))
                texts |= _new(texts, folder / layout.samples.format(date=at, task=task), lines)
    for file, text in texts.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return list(texts)


def task_name(dataset: str, inference: str, decoding: str, format: str = "") -> str:
    """DATASET_RUNG, the decoding if it is not greedy, and the format if there is one."""
    parts = [dataset, inference, decoding if decoding != GREEDY else "", format]
    return _safe("_".join(filter(None, parts)))


def _new(texts: dict[Path, str], file: Path, text: str) -> dict[Path, str]:
    """The text of a file that must be new. Raises DataError."""
    if file in texts or file.exists():
        raise DataError(
            f"An export overwrites no file, but {file} exists: from an earlier export, or another run of the same "
            "model, regime and seed. Choose another folder, or export the runs one by one."
        )
    return {file: text}


def _record(file: Path) -> dict:
    """The record of the run that made the file; empty without one."""
    record = file.parent / paths.RECORD
    return json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}


def _date(file: Path, record: dict, given: str | None) -> datetime:
    text = record.get("started") or given
    if text is None:
        raise ParamsError(f"{file} needs a date, but has no record with one. Give it, for instance --date 2026-11-22.")
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ParamsError(f"A date is written like 2026-11-22T22:48:00, got {text!r}.") from None
    return at.astimezone(UTC) if at.tzinfo else at


def _model(model: str) -> str:
    """A model's hub id, or the last part of its folder's path."""
    hub = re.fullmatch(r"[\w.-]+(/[\w.-]+)?", model) and not model.startswith(".") and not Path(model).is_dir()
    return model if hub else re.split(r"[/\\]", model.rstrip("/\\"))[-1]


def _safe(name: str) -> str:
    """A name as part of a file name, as the harnesses do (`sanitize_model_name`); spaces are replaced too."""
    return re.sub(r"[\"<>:/|\\?*\[\]\s]+", "__", name)


def _with_prompt(predictions: pd.DataFrame) -> pd.DataFrame:
    """Predictions with copies of prompt and options, which `scoring.score` drops and samples need."""
    prompts = predictions["prompt"] if "prompt" in predictions else ""
    return predictions.assign(shown_prompt=prompts, shown_options=predictions["options"])


def _tasks(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    return {task_name(*key): part for key, part in rows.groupby(TASK, sort=True)}


def _samples(rows: pd.DataFrame, layout: Layout) -> Iterable[dict]:
    """One entry of a samples file a question."""
    named = rows.drop(columns="options", errors="ignore").rename(columns={"shown_options": "options"})
    fields = [name for name in FIELDS if name in named]
    for number, row in enumerate(named.to_dict("records")):
        text = "" if pd.isna(row["raw_text"]) else str(row["raw_text"])
        about = {name: _plain(_named(row, name)) for name in fields}
        yield {
            "doc_id": number, "target": str(row["answer"]), **layout.sample(str(row["shown_prompt"]), text),
            "doc_hash": _hash(*(str(row[name]) for name in DOC)), "prompt_hash": _hash(str(row["shown_prompt"])),
            "target_hash": _hash(str(row["answer"])),
            **{name: float(row[name]) for name in score.METRICS if pd.notna(row[name])},
            "medstudy": about,
        }


def _named(row: dict, name: str) -> object:
    """A field of a row, with identifiers hashed and the model without its path."""
    if name == "model":
        return _model(row[name])
    return _hash(row["dataset"], str(row[name]))[:16] if name in HASHED and pd.notna(row[name]) else row[name]


def _task_hash(rows: pd.DataFrame) -> str:
    """The hash that the harnesses compute of all documents of a task."""
    docs = zip(*(rows[name].astype(str) for name in DOC), strict=True)
    return _hash("".join(f"sample_{number}{_hash(*doc)}" for number, doc in enumerate(docs)))


def _plain(value: object) -> object:
    """A value for JSON: a list of texts or numbers, a text, a number, or None if missing."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return [float(item) if isinstance(item, (float, np.floating)) else str(item) for item in value]
    if pd.isna(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def _about(name: str, model: str, regime: str, seed: int, record: dict, at: str, commit: str | None) -> dict:
    """The fields next to the results: what ran, when, with which code."""
    arguments = f"pretrained={name},model={_model(model)},regime={regime},seed={seed}"
    return {
        "config": {
            "model": "medstudy", "model_args": arguments, "batch_size": None, "device": None, "limit": None,
            "random_seed": int(seed), "environment": record.get("versions", {}),
        },
        "git_hash": commit, "medstudy_version": __version__, "date": at, "model_source": "medstudy",
        "model_name": name, "model_name_sanitized": _safe(name), "fewshot_as_multiturn": False,
        "total_evaluation_time_seconds": str(record["seconds"]) if "seconds" in record else None,
    }


def _results(tasks: dict[str, pd.DataFrame], about: dict, record: dict) -> dict:
    names = sorted(tasks)
    return {
        "results": {task: {"alias": task} | _metrics(tasks[task]) for task in names},
        "group_subtasks": {task: [] for task in names},
        "configs": {task: _config(task, tasks[task], record) for task in names},
        "versions": dict.fromkeys(names, 1),
        "n-shot": dict.fromkeys(names, 0),
        "higher_is_better": {task: dict.fromkeys(_measured(tasks[task]), True) for task in names},
        "n-samples": {task: dict.fromkeys(("original", "effective"), len(tasks[task])) for task in names},
        "task_hashes": {task: _task_hash(tasks[task]) for task in names},
    } | about


def _measured(rows: pd.DataFrame) -> list[str]:
    return [name for name in score.METRICS if rows[name].notna().any()]


def _metrics(rows: pd.DataFrame) -> dict:
    """Mean and standard errors of every metric; without bootstrap, hence "N/A", as the harnesses write it."""
    fields, clusters = {}, pd.factorize(rows["group"])[0]
    for name in _measured(rows):
        known = rows[name].notna().to_numpy()
        values = rows[name].to_numpy()[known]
        fields |= {f"{name},none": float(values.mean()), f"{name}_stderr,none": "N/A"}
        for kind, error in zip(("clt", "clustered"), _errors(values, clusters[known]), strict=True):
            fields[f"{name}_stderr_{kind},none"] = float(error) if np.isfinite(error) else "N/A"
    return fields


def _errors(values: np.ndarray, clusters: np.ndarray) -> tuple[float, float]:
    """Standard errors of a mean: for independent rows, and for rows in clusters (arXiv 2411.00640, equation 4)."""
    n, off = len(values), values - values.mean()
    if n < 2:
        return np.nan, np.nan
    independent = (off**2).sum() / (n - 1) / n
    between = (np.bincount(clusters, off) ** 2).sum() - (off**2).sum()
    several = len(np.unique(clusters)) > 1
    return np.sqrt(independent), np.sqrt(max(0.0, independent + between / n**2)) if several else np.nan


def _config(task: str, rows: pd.DataFrame, record: dict) -> dict:
    """The task's settings: the resolution policy and the decoding."""
    first = rows.iloc[0]
    tokens = {"visual_tokens_mean": float(rows["visual_tokens"].mean())} if "visual_tokens" in rows else {}
    return {
        "task": task, "dataset_path": first["dataset"], "test_split": first["split"], "output_type": "generate_until",
        "generation_kwargs": _decoding(first["decoding"], record.get("parameters", {}).get("evaluation", {})),
        "repeats": 1, "num_fewshot": 0,
        "metadata": {"version": 1, "policy": first["inference"], "control": first["control"],
                     "max_pixels": int(first["budget_pixels"])} | tokens,
    }


def _decoding(name: str, options: dict) -> dict:
    if name == GREEDY:
        limit, how = options.get("max_new_tokens"), {"do_sample": False, "temperature": 0.0}
    else:
        limit = (options.get("author") or {}).get("max_new_tokens")
        how = {"do_sample": True, "temperature": float(name.removeprefix("sampled-"))}
    return how | ({"max_new_tokens": limit} if limit else {})

"""What answering costs at each rung: tokens, operations, seconds and memory, a question and an image."""

from __future__ import annotations

import pandas as pd

from medstudy.report import captions, inference_cost, selections
from medstudy.report.study_data import StudyData
from medstudy.report.tables import columns

TITLE = "What an answer costs"
KNOWN = {  # column of `inference_cost.points`: column of the table, and its unit
    "tokens": ("visual_tokens_an_image", 1.0), "prompt_tokens": ("prompt_tokens", 1.0),
    "answer_tokens": ("answer_tokens", 1.0), "flops": ("gflop_a_question", 1e9),
    "image_flops": ("gflop_an_image", 1e9), "prefill_seconds": ("prefill_ms_a_question", 1e-3),
    "decode_seconds": ("decode_ms_a_question", 1e-3), "seconds": ("ms_a_question", 1e-3),
    "image_seconds": ("seconds_an_image", 1.0), "memory_mb": ("memory_mb", 1.0),
}


def applies(study: StudyData) -> bool:
    """Whether the evaluations kept their costs."""
    return not study.costs.empty


def build(study: StudyData) -> pd.DataFrame:
    """One row per data set x regime x rung: the score in %, and the costs in the units of their names."""
    table = wide(inference_cost.points(study.scores, study.costs, study.confidence), "regime")
    return table if table.empty else columns.in_order(table, regime=selections.regimes(table))


def wide(points: pd.DataFrame, series: str) -> pd.DataFrame:
    """The rows of `inference_cost.points`, from the smallest pixel budget to the largest."""
    if points.empty:
        return points
    points = points.sort_values(["dataset", series, "budget_pixels", "inference"], ignore_index=True)
    score = {"score_pct": "estimate", "score_pct_low": "low", "score_pct_high": "high"}
    cells = {name: 100 * points[old] for name, old in score.items()}
    cells |= {name: points[old] / unit for old, (name, unit) in KNOWN.items() if points[old].notna().any()}
    counts = {new: points[old] for old, new in columns.COUNTS.items() if old in points}
    return points[["dataset", series, "inference"]].assign(**cells, **counts)


def caption(table: pd.DataFrame, study: StudyData) -> str:
    """What the columns are."""
    return f"Every regime at every rung. {about(study)} In brackets {captions.interval_words(study)}."


def about(study: StudyData) -> str:
    """What the columns of costs are."""
    tower = f"{captions.tower_words(study)} " if captions.tower_words(study) else ""
    return (
        f"{inference_cost.RULE} {tower}memory_mb: the highest peak of a pass; on CUDA the device's memory, on a CPU "
        "the whole process. What no model states has no column, and an en dash is unknown. Costs are means over "
        "questions, or images, and seeds."
    )

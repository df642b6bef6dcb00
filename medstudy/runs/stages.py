"""The stages of a study, each with its notebook, and the figures in reading order.

Names only: planning a study imports no drawing library.
"""

from __future__ import annotations

NOTEBOOK = {
    "data": "01_data",
    "leakage": "01_leakage",
    "base": "01_model",
    "train": "02_train",
    "evaluate": "03_evaluate",
    "bounds": "04_bounds",
    "probe": "04_probe",
    "scores": "04_scores",
    "claims": "05_claims",
    "figure": "06_figure",
    "tables": "07_tables",
    "report": "08_report",
    "compare": "09_compare",
}
_ORDER = (
    "native_sizes",
    "what_models_see",
    "native_vs_fixed",
    "mismatch_heatmap",
    "mismatch_by_task",
    "resolution_curves",
    "training_cost",
    "acuity",
    "acuity_thresholds",
    "information_loss",
    "size_strata",
    "learning_curves",
    "controls",
    "by_tag",
    "gain_in_parts",
    "bounds",
    "score_and_cost",
    "acuity_by_task",
)
FIGURES = tuple(f"{number:02d}_{module}" for number, module in enumerate(_ORDER, start=1))


def module(figure: str) -> str:
    """The module of a figure by its numbered name."""
    return figure.partition("_")[2]

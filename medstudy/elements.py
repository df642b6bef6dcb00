"""The figures in reading order, by the number and the module of each.

Names alone: planning a study imports no drawing library.
"""

from __future__ import annotations

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
)
FIGURES = tuple(f"{number:02d}_{module}" for number, module in enumerate(_ORDER, start=1))


def module(figure: str) -> str:
    """The module of a figure by its numbered name."""
    return figure.partition("_")[2]

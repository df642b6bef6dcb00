"""The figures in reading order. Each is one module: `build(study) -> DataFrame`, `draw(table) -> Figure`, `caption`.

    rendered = figures.render_all(StudyData(scores=...), "figures/offline")

A figure whose rows are missing from the study is not drawn; `Rendered.missing` says so, and the index lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
from matplotlib.figure import Figure

from medstudy.errors import ParamsError
from medstudy.figures import (
    acuity,
    acuity_thresholds,
    controls,
    information_loss,
    learning_curves,
    mismatch_by_task,
    mismatch_heatmap,
    native_sizes,
    native_vs_fixed,
    resolution_curves,
    saving,
    size_strata,
    style,
    training_cost,
    what_models_see,
)
from medstudy.figures.data import StudyData

__all__ = ["REGISTRY", "Entry", "Rendered", "StudyData", "render", "render_all"]


@dataclass(frozen=True)
class Entry:
    """A figure by its numbered name: `build` makes exactly the rows that `draw` draws and `caption` quotes."""

    name: str
    title: str
    build: Callable[[StudyData], pd.DataFrame]
    draw: Callable[[pd.DataFrame, StudyData], Figure]
    caption: Callable[[pd.DataFrame, StudyData], str]


@dataclass(frozen=True)
class Rendered:
    """What became of a figure: its caption and files, or why there is none."""

    name: str
    title: str
    caption: str = ""
    files: tuple[Path, ...] = ()
    missing: str = ""


def _entry(number: int, module: ModuleType) -> Entry:
    name = f"{number:02d}_{module.__name__.rsplit('.', 1)[-1]}"
    draw = _with_images if module is what_models_see else lambda table, study: module.draw(table)
    return Entry(name, module.TITLE, module.build, draw, module.caption)


def _with_images(table: pd.DataFrame, study: StudyData) -> Figure:
    return what_models_see.draw(table, study.images)


_ORDER = (
    native_sizes,
    what_models_see,
    native_vs_fixed,
    mismatch_heatmap,
    mismatch_by_task,
    resolution_curves,
    training_cost,
    acuity,
    acuity_thresholds,
    information_loss,
    size_strata,
    learning_curves,
    controls,
)
REGISTRY = {entry.name: entry for entry in (_entry(i, module) for i, module in enumerate(_ORDER, start=1))}


def render(name: str, study: StudyData, out_dir: str | Path) -> Rendered:
    """Draw one figure and write its PDF, PNG, CSV and caption. Raises ParamsError for a name that is not registered."""
    if name not in REGISTRY:
        raise ParamsError(
            f"A figure is named by its number and file, got {name!r}. Choose from {', '.join(REGISTRY)}."
        )
    entry = REGISTRY[name]
    table = entry.build(study)
    if table.empty:
        return Rendered(name, entry.title, missing="the study has no rows for it")
    caption = f"{entry.caption(table, study)} {study.leak_words}".rstrip()
    with style.context():
        figure = entry.draw(table, study)
        page = style.footnote(figure, study.leak_words)
        files = saving.save(figure, table, entry.title, caption, Path(out_dir), name, page)
    return Rendered(name, entry.title, caption, tuple(files))


def render_all(study: StudyData, out_dir: str | Path, only: Iterable[str] | None = None) -> list[Rendered]:
    """Every figure (or those named in `only`) in reading order."""
    return [render(name, study, out_dir) for name in (REGISTRY if only is None else only)]

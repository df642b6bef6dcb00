"""The figures in reading order, each one module: `build(study) -> DataFrame`, `draw(table) -> Figure`, `caption`.

    rendered = figures.render_all(StudyData(scores=...), "figures/offline")

If the study lacks the rows of a figure, it is not drawn: `Rendered.missing` gives the reason, and the pages list it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from importlib import import_module
from inspect import signature
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from medstudy import elements
from medstudy.errors import ParamsError
from medstudy.figures import saving, style
from medstudy.figures.data import StudyData
from medstudy.figures.saving import Rendered


@dataclass(frozen=True)
class Entry:
    """A figure with its numbered name: `build` makes exactly the rows that `draw` draws and `caption` quotes."""

    name: str
    title: str
    build: Callable[[StudyData], pd.DataFrame]
    draw: Callable[[pd.DataFrame, StudyData], Figure]
    caption: Callable[[pd.DataFrame, StudyData], str]


def _entry(name: str) -> Entry:
    module = import_module(f"medstudy.figures.{elements.module(name)}")
    images = "images" in signature(module.draw).parameters

    def draw(table: pd.DataFrame, study: StudyData) -> Figure:
        return module.draw(table, study.images) if images else module.draw(table)

    return Entry(name, module.TITLE, module.build, draw, module.caption)


REGISTRY = {name: _entry(name) for name in elements.FIGURES}


def render(name: str, study: StudyData, out_dir: str | Path) -> Rendered:
    """Draw one figure and write its PDF, PNG, CSV and caption. Raises ParamsError for an unknown name."""
    if name not in REGISTRY:
        raise ParamsError(
            f"A figure is named by its number and module, got {name!r}. Choose from {', '.join(REGISTRY)}."
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
    """Draw every figure (or those named in `only`), in reading order."""
    return [render(name, study, out_dir) for name in (REGISTRY if only is None else only)]

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

from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.report import save, style
from medstudy.report.save import Rendered, keep
from medstudy.report.study_data import StudyData, study_data
from medstudy.runs import plan, stages


@dataclass(frozen=True)
class Entry:
    """A figure with its numbered name: `build` makes exactly the rows that `draw` draws and `caption` quotes."""

    name: str
    title: str
    build: Callable[[StudyData], pd.DataFrame]
    draw: Callable[[pd.DataFrame, StudyData], Figure]
    caption: Callable[[pd.DataFrame, StudyData], str]
    needs_training: bool = False


def _entry(name: str) -> Entry:
    module = import_module(f"medstudy.report.figures.{stages.module(name)}")
    images = "images" in signature(module.draw).parameters

    def draw(table: pd.DataFrame, study: StudyData) -> Figure:
        return module.draw(table, study.images) if images else module.draw(table)

    return Entry(name, module.TITLE, module.build, draw, module.caption, getattr(module, "NEEDS_TRAINING", False))


REGISTRY = {name: _entry(name) for name in stages.FIGURES}


def render(name: str, study: StudyData, out_dir: str | Path) -> Rendered:
    """Draw one figure and write its PDF, PNG, CSV and caption. Raises ParamsError for an unknown name."""
    if name not in REGISTRY:
        raise ParamsError(
            f"A figure is named by its number and module, got {name!r}. Choose from {', '.join(REGISTRY)}."
        )
    entry = REGISTRY[name]
    table = entry.build(study)
    if table.empty:
        return Rendered(name, entry.title, missing=study.why_missing(entry.needs_training))
    caption = f"{entry.caption(table, study)} {study.leak_words}".rstrip()
    with style.context():
        figure = entry.draw(table, study)
        page = style.footnote(figure, study.leak_words)
        files = save.save(figure, table, entry.title, caption, Path(out_dir), name, page)
    return Rendered(name, entry.title, caption, tuple(files))


def render_all(study: StudyData, out_dir: str | Path, only: Iterable[str] | None = None) -> list[Rendered]:
    """Draw every figure (or those named in `only`), in reading order."""
    return [render(name, study, out_dir) for name in (REGISTRY if only is None else only)]


def draw(study: Study, job: plan.Job) -> Rendered:
    """Draw the figure of a job into its folder."""
    figure = render(job.parameters["element"], study_data(study, claimed=False), job.dir)
    keep([figure], job)
    return figure

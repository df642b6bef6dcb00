"""The tables in reading order, each one module: TITLE, `build(study) -> DataFrame` (units in the column names) and
`caption(table, study)`; `applies(study)` for tables that only some studies have.

    tables.render_all(StudyData(scores=...), "figures/offline")   # writes figures/offline/tables/NN_name.{csv,md}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd

from medstudy.errors import ParamsError
from medstudy.params import Study
from medstudy.report import save
from medstudy.report.save import Rendered, keep
from medstudy.report.study_data import StudyData, study_data
from medstudy.report.tables import (
    author_scores,
    bounds,
    by_tag,
    choices,
    claims,
    data_sets,
    inference_costs,
    leakage,
    main_results,
    mismatch,
    mixed,
    places_and_reports,
    retrieval,
    robustness,
    seeds_and_tests,
    sets,
    tasks,
    unread,
    words_or_letters,
)
from medstudy.runs import plan


def tabulate(study: Study, job: plan.Job) -> list[Rendered]:
    """Write every table into the folder of the job."""
    rendered = render_all(study_data(study), job.dir)
    keep(rendered, job)
    return rendered


@dataclass(frozen=True)
class Entry:
    """A table with its numbered name."""

    name: str
    title: str
    build: Callable[[StudyData], pd.DataFrame]
    caption: Callable[[pd.DataFrame, StudyData], str]
    applies: Callable[[StudyData], bool]  # whether the pages mention it if it is missing
    needs_training: bool = False


def _entry(number: int, module: ModuleType) -> Entry:
    name = f"{number:02d}_{module.__name__.rsplit('.', 1)[-1]}"
    applies = getattr(module, "applies", lambda study: True)
    return Entry(name, module.TITLE, module.build, module.caption, applies, getattr(module, "NEEDS_TRAINING", False))


_ORDER = (
    data_sets, tasks, main_results, author_scores, mismatch, mixed, seeds_and_tests, robustness, claims, leakage, sets,
    choices, by_tag, words_or_letters, bounds, inference_costs, retrieval, unread, places_and_reports,
)
REGISTRY = {entry.name: entry for entry in (_entry(i, module) for i, module in enumerate(_ORDER, start=1))}


def render(name: str, study: StudyData, out_dir: str | Path) -> Rendered:
    """Write out_dir/tables/NAME.csv and .md. Raises ParamsError for an unknown name."""
    if name not in REGISTRY:
        raise ParamsError(
            f"A table is named by its number and module, got {name!r}. Choose from {', '.join(REGISTRY)}."
        )
    entry = REGISTRY[name]
    table = entry.build(study)
    if table.empty:
        return Rendered(name, entry.title, missing=study.why_missing(entry.needs_training))
    caption = f"{entry.caption(table, study)} {study.leak_words}".rstrip()
    files = [Path(out_dir) / "tables" / f"{name}{suffix}" for suffix in (".csv", ".md")]
    save.write_csv(table, files[0])
    files[1].write_text(f"# {entry.title}\n\n{caption}\n\n{save.markdown(table)}\n", encoding="utf-8")
    return Rendered(name, entry.title, caption, tuple(files))


def render_all(study: StudyData, out_dir: str | Path) -> list[Rendered]:
    """Write every table, in reading order."""
    return [render(name, study, out_dir) for name in REGISTRY]

"""What is read of scores.parquet suffices, as categoricals too, and an element's code is its own."""

from __future__ import annotations

import ast
import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import medstudy
from medstudy import claims
from medstudy.report import figures, tables
from medstudy.report.pages import index_page
from medstudy.report.study_data import SCORES
from medstudy.utils import parquet
from tests.support.scored_study import study

PACKAGE = Path(medstudy.__file__).parent
SHARED = {"data", "style", "saving", "StudyData", "Rendered"}  # what an element may import of medstudy.report.figures
INDEXES = {"figures": {"__init__", "index", *SHARED}, "tables": {"__init__"}}


@pytest.fixture(scope="module")
def whole():
    """The study with sets, so that every table has rows, and one answer in ten sampled."""
    made = study()
    scores = made.scores.assign(set_id=np.where(made.scores["kind"] == "choice", made.scores["group"], None))
    sampled = scores[scores["regime"] == "native"].assign(decoding="temperature 0.2")
    return dataclasses.replace(made, scores=scores.assign(decoding="greedy"), author=sampled)


@pytest.fixture(scope="module")
def read(whole, tmp_path_factory):
    """The same from disk, as a report reads it."""
    folder = tmp_path_factory.mktemp("scores")
    found = {}
    for name in ("scores", "author"):
        half = len(getattr(whole, name)) // 2
        parts = getattr(whole, name)[:half], getattr(whole, name)[half:]
        files = [folder / f"{name}{place}.parquet" for place in range(2)]
        for part, file in zip(parts, files, strict=True):
            part.to_parquet(file)
        found[name] = parquet.read(files, SCORES)
    return dataclasses.replace(whole, **found)


def test_only_the_columns_asked_for_are_read_and_texts_as_categoricals(whole, read):
    assert set(read.scores) == set(SCORES) & set(whole.scores) < set(whole.scores)
    assert isinstance(read.scores["image_id"].dtype, pd.CategoricalDtype)
    assert read.scores["image_id"].cat.categories.is_monotonic_increasing
    assert read.scores["raw_text"].tolist() == whole.scores["raw_text"].tolist()
    assert list(map(list, read.scores["localizations"])) == list(map(list, whole.scores["localizations"]))


@pytest.mark.parametrize("entry", [*figures.REGISTRY.values(), *tables.REGISTRY.values()], ids=lambda entry: entry.name)
def test_figures_and_tables_are_the_same_from_what_is_read(entry, whole, read):
    expected, found = entry.build(whole), entry.build(read)
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    if len(expected):
        assert entry.caption(found, read) == entry.caption(expected, whole)


def test_claims_and_page_are_the_same_from_what_is_read(whole, read, tmp_path):
    expected, found = (
        claims.by_data_set(one.scores, one.training, ("phantom", "atlas"), low="fixed-84") for one in (whole, read)
    )
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    pages = [index_page.write(one, tmp_path).read_text(encoding="utf-8") for one in (whole, read)]
    assert pages[0] == pages[1]


def _imported(file: Path, package: str) -> set[str]:
    """The names that a module imports from medstudy.PACKAGE or from modules in it, at its top or in a function."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        parts = [path.split(".") for path in paths]
        found |= {part[2] if len(part) > 2 else "*" for part in parts if part[:2] == ["medstudy", package]}
    return found


@pytest.mark.parametrize("package", ["figures", "tables"])
def test_no_figure_or_table_imports_another(package):
    """So that a comment in one of them makes only that one anew."""
    files = [file for file in (PACKAGE / package).glob("*.py") if file.stem not in INDEXES[package]]
    assert len(files) > 10
    for file in files:
        assert _imported(file, "figures") <= SHARED, file
        assert _imported(file, "tables") <= ({"columns"} if package == "tables" else set()), file


def test_what_figures_share_imports_none_of_them():
    for name in SHARED & {file.stem for file in (PACKAGE / "figures").glob("*.py")}:
        assert _imported(PACKAGE / "figures" / f"{name}.py", "figures") <= SHARED, name

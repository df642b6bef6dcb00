"""The columns read from scores.parquet suffice, also as categoricals; figures and tables share no code of their own."""

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
from tests.support.synthetic import ARMS, REGIMES

REPORT = Path(medstudy.__file__).parent / "report"


@pytest.fixture(scope="module")
def whole():
    """The study with sets, so that every table has rows, and one answer in ten sampled."""
    plain = study((*REGIMES, *ARMS))
    scores = plain.scores.assign(set_id=np.where(plain.scores["kind"] == "choice", plain.scores["group"], None))
    sampled = scores[scores["regime"] == "native"].assign(decoding="temperature 0.2")
    return dataclasses.replace(plain, scores=scores.assign(decoding="greedy"), author=sampled)


@pytest.fixture(scope="module")
def read(whole, tmp_path_factory):
    """The same from disk, as a report reads it."""
    folder = tmp_path_factory.mktemp("scores")
    tables_read = {}
    for name in ("scores", "author"):
        half = len(getattr(whole, name)) // 2
        parts = getattr(whole, name)[:half], getattr(whole, name)[half:]
        files = [folder / f"{name}{place}.parquet" for place in range(2)]
        for part, file in zip(parts, files, strict=True):
            part.to_parquet(file)
        tables_read[name] = parquet.read(files, SCORES)
    return dataclasses.replace(whole, **tables_read)


def test_only_the_given_columns_are_read_and_texts_as_categoricals(whole, read):
    assert set(read.scores) == set(SCORES) & set(whole.scores) < set(whole.scores)
    assert isinstance(read.scores["image_id"].dtype, pd.CategoricalDtype)
    assert read.scores["image_id"].cat.categories.is_monotonic_increasing
    assert read.scores["raw_text"].tolist() == whole.scores["raw_text"].tolist()
    assert list(map(list, read.scores["localizations"])) == list(map(list, whole.scores["localizations"]))


@pytest.mark.parametrize("entry", [*figures.REGISTRY.values(), *tables.REGISTRY.values()], ids=lambda entry: entry.name)
def test_figures_and_tables_are_the_same_from_the_columns_read(entry, whole, read):
    expected, actual = entry.build(whole), entry.build(read)
    pd.testing.assert_frame_equal(actual, expected, check_exact=True)
    if len(expected):
        assert entry.caption(actual, read) == entry.caption(expected, whole)


def test_claims_and_page_are_the_same_from_the_columns_read(whole, read, tmp_path):
    expected, actual = (
        claims.by_data_set(data.scores, data.training, ("phantom", "atlas"), low="fixed-84") for data in (whole, read)
    )
    pd.testing.assert_frame_equal(actual, expected, check_exact=True)
    pages = [index_page.write(data, tmp_path).read_text(encoding="utf-8") for data in (whole, read)]
    assert pages[0] == pages[1]


def _imported(file: Path) -> set[str]:
    """What a file imports of medstudy.report, at its top or in a function: "figures.acuity", "style", ..."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("medstudy.report.") for name in names if name.startswith("medstudy.report.")}


def _of(imported: set[str], *packages: str) -> set[str]:
    return {name for name in imported if name.split(".")[0] in packages}


@pytest.mark.parametrize("package, allowed", [("figures", set()), ("tables", {"tables.columns"})])
def test_no_figure_or_table_imports_another(package, allowed):
    """A change of one of them then remakes only that one."""
    files = [file for file in (REPORT / package).glob("*.py") if file.stem != "__init__"]
    assert len(files) > 10
    for file in files:
        assert _of(_imported(file), "figures", "tables", "pages") <= allowed, file


def test_shared_files_import_no_figure_table_or_page():
    files = list(REPORT.glob("*.py"))
    assert {"captions", "save", "selections", "study_data", "style"} <= {file.stem for file in files}
    for file in files:
        assert not _of(_imported(file), "figures", "tables", "pages"), file

"""The README's tables, written from result files, so that none of their numbers is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medstudy import paths
from medstudy.claims.claim import OURS
from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.report import save

SHOWN = {"06_resolution_curves": "Score against inference resolution, one line per training regime"}


def update(study: Study, readme: Path = paths.ROOT / "README.md") -> Path:
    """Write the study's results into the README. Raises RunError without marks or results."""
    if study.models:
        raise RunError(f"The README shows the results of one model, but {study.study} has {len(study.models)}.")
    return replace("results", results(study.figures, paths.ROOT), readme)


def replace(name: str, content: str, readme: Path = paths.ROOT / "README.md") -> Path:
    """Replace the text between the marks of this name. Raises RunError without marks."""
    text, (begin, end) = readme.read_text(encoding="utf-8"), marks(name)
    if text.count(begin) != 1 or text.count(end) != 1:
        raise RunError(f"{readme.name} needs one {begin} and one {end}. Put them around the {name}.")
    before, rest = text.split(begin)
    readme.write_text(f"{before}{begin}\n{content}\n{end}{rest.split(end)[1]}", encoding="utf-8")
    return readme


def marks(name: str) -> tuple[str, str]:
    return f"<!-- {name} -->", f"<!-- /{name} -->"


def results(figures: Path, root: Path) -> str:
    """The claims on the study's first data set as a table, then a figure, as Markdown relative to `root`."""
    file = figures / "claims.csv"
    if not file.is_file():
        raise RunError(f"The README shows a study that has run, but there is no {file}. Run the study first.")
    claims = pd.read_csv(file)
    claims = claims[~claims["id"].str.contains("/")]  # C1/atlas: the same claim on another data set
    table = pd.DataFrame({
        "": claims["id"],
        "claim": claims["claim"].str.replace("^Ours: (.)", lambda match: match[1].upper(), regex=True),
        "the paper": claims["source_value"].replace(OURS, None),
        "here_points": claims["estimate"],
        "here_points_low": claims["low"],
        "here_points_high": claims["high"],
        "verdict": claims["verdict"],
    })
    if "to_settle" in claims and claims["to_settle"].notna().any():
        table["would settle it"] = claims["to_settle"]
    place = figures.relative_to(root).as_posix()
    drawn = [f"![{words}]({place}/{name}.png)" for name, words in SHOWN.items() if (figures / f"{name}.png").is_file()]
    return "\n\n".join([save.markdown(table).replace("here_points", "here", 1), *drawn])

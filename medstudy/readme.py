"""The README's results, written from a study's files: no number in it is typed by hand."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from medstudy import paths
from medstudy.errors import RunError
from medstudy.figures import saving
from medstudy.params import Study

BEGIN, END = "<!-- results -->", "<!-- /results -->"
SHOWN = ("03_native_vs_fixed", "06_resolution_curves")  # figures that the README opens with


def update(study: Study, readme: Path = paths.ROOT / "README.md") -> Path:
    """Replace what stands between the two marks by the study's results. Raises RunError without marks or results."""
    text = readme.read_text(encoding="utf-8")
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise RunError(f"{readme.name} needs one {BEGIN} and one {END}; put them around the results.")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{results(study.figures, paths.ROOT)}\n{END}{after}", encoding="utf-8")
    return readme


def results(figures: Path, root: Path) -> str:
    """Claims as a table, then the figures that say most, as Markdown relative to `root`."""
    file = figures / "claims.csv"
    if not file.is_file():
        raise RunError(f"The README shows a study that has run, but there is no {file}. Run the study first.")
    claims = pd.read_csv(file).rename(columns={"low": "estimate_low", "high": "estimate_high"}).drop(columns="why")
    place = figures.relative_to(root).as_posix()
    drawn = [f"![{name}]({place}/{name}.png)" for name in SHOWN if (figures / f"{name}.png").is_file()]
    return "\n\n".join([saving.markdown(claims), *drawn])

"""Write a study's report and index, and how long the study took."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd

from medstudy import paths
from medstudy.params import Study
from medstudy.report.pages import index_page
from medstudy.report.save import Rendered, kept
from medstudy.report.study_data import claims_file, study_data
from medstudy.runs import plan, record, wall_clock
from medstudy.runs.inputs import by_stage, complete

INSTALLED = paths.ROOT / ".venv" / "install.json"  # written by the Makefile


def publish(study: Study) -> list[Rendered]:
    """Collect figures, tables and claims in figures/STUDY and write the pages that show them; in reading order."""
    stages, rendered = by_stage(study), []
    for job in complete([*stages["figure"], *stages["tables"]]):
        for item in kept(job):
            files = [study.figures / file.relative_to(job.dir) for file in item.files]
            for source, target in zip(item.files, files, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            rendered.append(replace(item, files=tuple(files)))
    shutil.copyfile(claims_file(study), study.figures / "claims.csv")
    data = study_data(study)
    index_page.write(data, study.figures)
    from medstudy.report.pages import html_page  # loads torch through the model card, which figures do not need

    html_page.write(study, data, rendered, plan.plan(study), study.figures)
    return rendered


def timing(study: Study) -> pd.DataFrame:
    """Columns stage, seconds: of the installation, of each stage (the sum over its jobs), and by the wall clock."""
    rows = [("install", json.loads(INSTALLED.read_text())["seconds"])] if INSTALLED.is_file() else []
    rows += [(stage, sum(record.read(job)["seconds"] for job in jobs)) for stage, jobs in by_stage(study).items()]
    wall = wall_clock.read(study)
    rows += [("wall clock", wall)] if wall is not None else []
    return pd.DataFrame(rows, columns=["stage", "seconds"]).round(1)


def finish(study: Study) -> Path:
    """Write timing.csv next to the figures. Raises RunError if a job is not complete."""
    for jobs in by_stage(study).values():
        complete(jobs)
    file = study.figures / "timing.csv"
    with paths.atomic(file) as temporary:
        timing(study).to_csv(temporary, index=False, lineterminator="\n")
    return file

"""Reading the results of other runs: tables of several runs as one, and jobs by stage."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.runs.plan import Job, plan
from medstudy.runs.stages import NOTEBOOK
from medstudy.utils import parquet


def gather(jobs: Iterable[Job], file: str, columns: Collection[str] | None = None) -> pd.DataFrame:
    """One parquet file of several runs as one table; columns: only these, as `parquet.read` reads them."""
    files = [job.dir / file for job in jobs]
    if columns is not None:
        return parquet.read(files, columns)
    return pd.concat([pd.read_parquet(path) for path in files], ignore_index=True)


def by_stage(study: Study) -> dict[str, list[Job]]:
    """The jobs of the study by stage."""
    jobs = plan(study)
    return {stage: [job for job in jobs if job.stage == stage] for stage in NOTEBOOK}


def complete(jobs: list[Job]) -> list[Job]:
    """These jobs. Raises RunError naming the first that is not complete."""
    for job in jobs:
        if not job.done:
            raise RunError(f"{job.name} is not complete: there is no {job.record}. Run the study first.")
    return jobs

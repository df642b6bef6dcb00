"""What a job reads of the runs that it stands on."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import pandas as pd

from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.runs import plan
from medstudy.runs import stages as runs_stages
from medstudy.runs.plan import Job
from medstudy.utils import parquet


def gather(jobs: Iterable[Job], file: str, columns: Collection[str] | None = None) -> pd.DataFrame:
    """One parquet file of several runs, as one table; of large ones only `columns`, as `parquet.read` reads them."""
    files = [item.dir / file for item in jobs]
    if columns is not None:
        return parquet.read(files, columns)
    return pd.concat([pd.read_parquet(one) for one in files], ignore_index=True)


def by_stage(study: Study) -> dict[str, list[plan.Job]]:
    """The jobs of the study by stage."""
    jobs = plan.plan(study)
    return {stage: [job for job in jobs if job.stage == stage] for stage in runs_stages.NOTEBOOK}


def complete(jobs: list[plan.Job]) -> list[plan.Job]:
    """These jobs. Raises RunError naming the first that is not complete."""
    for job in jobs:
        if not job.done:
            raise RunError(f"{job.name} is not complete: there is no {job.record}. Run the study first.")
    return jobs

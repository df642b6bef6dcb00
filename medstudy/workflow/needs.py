"""Makes what a job needs before a person's notebook makes or shows the job's run.

Snakemake and `medstudy notebook` make what a run needs and lock the run before they start its kernel. In JupyterLab and
bare papermill neither did, so the notebook does it itself, as `medstudy run --only` would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from rich.console import Console

from medstudy import params
from medstudy.params import Study
from medstudy.runs import lock, plan
from medstudy.utils import devices, redact
from medstudy.workflow import run as workflow_run
from medstudy.workflow.snakemake import RunOptions

LISTED = 6  # names of jobs in a message


def prepare(file: str, name: str) -> tuple[Study, plan.Job]:
    """The study of a params file and its job of this name, after what the job needs was made, with progress.

    A kernel that was started for a run makes nothing. Raises ParamsError for an unknown name, and RunError that
    explains each job that failed.
    """
    whole = params.load(file)
    study, job = plan.find(whole, name)
    if lock.HELD not in os.environ:
        _make_needs(whole, file, job)
    return study, job


def make(study: Study, file: str, only: Sequence[str] = ()) -> None:
    """Make what is missing of a study, or of the jobs `only`, with a line for each job that is done."""
    console = Console(file=sys.stdout, force_terminal=False, force_jupyter=False)
    workflow_run.run(study, file, RunOptions(devices.cores(), only=only), console)


def _make_needs(study: Study, file: str, job: plan.Job) -> None:
    """Make the missing jobs that `job` needs, and say so; say whether its own run is there."""
    needs = workflow_run.chosen(plan.plan(study), job.needs) if job.needs else []
    workflow_run.forget_damaged(study, [*needs, job])
    missing = [need.name for need in needs if not need.done]
    if missing:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        listed = ", ".join(missing[:LISTED]) + more
        print(f"{job.name} needs {len(missing)} jobs that are not done: {listed}. Making them:", flush=True)
        make(study, file, job.needs)
    if job.done:
        folder = redact.text(str(job.dir))
        print(f"{job.name} is done: what follows is read from {folder}. Delete that folder to make it again.")

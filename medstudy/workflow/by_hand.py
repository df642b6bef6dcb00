"""A notebook that a person opens: the job that it makes or shows, and first all that this job needs.

Snakemake and `medstudy notebook` hold the lock of the run that they start a kernel for, and make what it needs before;
where neither did (JupyterLab, bare papermill), the notebook does so itself, by the same way as `medstudy run --only`.
"""

from __future__ import annotations

import os
import sys

from medstudy import params
from medstudy.params import Study
from medstudy.runs import lock, plan
from medstudy.utils import devices, redact

LISTED = 6  # jobs by name


def job(study: str, run: str) -> tuple[Study, plan.Job]:
    """The study in that params file and its job of that name, after what the job needs was made, with progress.

    Raises ParamsError for a name that is none, RunError that explains each job that failed. When this kernel was
    started for a run, nothing is made.
    """
    every = params.load(study)
    settings, item = plan.find(every, run)
    if lock.HELD not in os.environ:
        _make(every, study, item)
    return settings, item


def _make(study: Study, file: str, item: plan.Job) -> None:
    """Make what `item` needs and is missing; say what, and whether the run itself is there."""
    from rich.console import Console

    from medstudy.workflow import run as workflow_run
    from medstudy.workflow import snakemake

    needs = workflow_run.chosen(plan.plan(study), item.needs) if item.needs else []
    workflow_run.forget_damaged(study, [*needs, item])
    missing = [one.name for one in needs if not one.done]
    if missing:
        more = f" and {len(missing) - LISTED} more" if len(missing) > LISTED else ""
        listed = ", ".join(missing[:LISTED]) + more
        print(f"{item.name} needs {len(missing)} jobs that are not done: {listed}. Making them:", flush=True)
        how = snakemake.How(devices.cores(), only=item.needs)
        workflow_run.run(study, file, how, Console(file=sys.stdout, force_terminal=False, force_jupyter=False))
    if item.done:
        folder = redact.text(str(item.dir))
        print(f"{item.name} is done: what follows is read from {folder}. Delete that folder to make it again.")

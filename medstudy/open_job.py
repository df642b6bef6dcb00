"""The first line of a notebook: `study, job = open_job(globals())`.

It checks the parameters cell, loads the study, finds the job, makes what the job needs where a person opened the
notebook, and prints a header. What follows gets `study` (the settings of one model's study) and `job` (its name,
parameters, folder and inputs) and plans nothing again. The cell that makes the run locks it and writes its record:
`with recorded(study, job) as new:`.
"""

from __future__ import annotations

from typing import Any

from medstudy import by_hand, notebook
from medstudy.grid import Job
from medstudy.params import Study

GIVEN = "_given"  # in a notebook: its parameters as they were before `study` became an object


def open_job(namespace: dict[str, Any]) -> tuple[Study, Job]:
    """The study and the job that a notebook's parameters `study` and `run` name.

    The cell may run again: parameters that are still set as an earlier call read them count as they were.
    Raises ParamsError for a wrong parameter, RunError that explains each job that the run needs and that failed.
    """
    values = namespace | _given(namespace)
    notebook.check(values)
    study, job = by_hand.job(values["study"], values["run"])
    namespace[GIVEN] = {"study": values["study"], "object": study}
    namespace["study"] = study
    print(f"{job.name} of the study {study.title}: {job.dir.name}")
    return study, job


def _given(namespace: dict[str, Any]) -> dict[str, str]:
    """The text of `study`, where an earlier call replaced it by the study itself."""
    given = namespace.get(GIVEN)
    return {"study": given["study"]} if given and namespace.get("study") is given["object"] else {}

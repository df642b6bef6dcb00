"""The estimate of a model whose work does not follow from a configuration here: how often it is asked, and no more.

Such are models behind a server, and encoders (`Abilities.counts` in `medstudy.params.model`).
"""

from __future__ import annotations

from collections.abc import Sequence

from medstudy.costs.examples import examples, origins
from medstudy.data.example import Example
from medstudy.params import Study
from medstudy.runs.plan import Job, plan, views_of

NOT_KNOWN = "the model's work is not known here, only how often it is asked"


def rows(study: Study, jobs: Sequence[Job], data: dict[str, list[Example]]) -> dict[str, dict]:
    """By job: images shown and questions asked, in evaluations."""
    images, questions = len(data["test"]), sum(len(example.questions) for example in data["test"])
    counted = {}
    for job in jobs:
        counted[job.name] = {"job": job.name, "stage": job.stage, "needs": ", ".join(job.needs)}
        if job.stage == "evaluate":
            views = len(study.inference) + len(views_of(study, job.parameters["regime"]))
            counted[job.name] |= {"images": views * images, "questions": views * questions}
    return counted


def counted(study: Study, data: dict[str, list[Example]] | None) -> tuple[list[Job], dict[str, dict], list[dict]]:
    """The jobs, `rows`, and where the data's numbers come from."""
    jobs = plan(study)
    data = examples(study, jobs) if data is None else data
    return jobs, rows(study, jobs, data), origins(study, jobs, data)

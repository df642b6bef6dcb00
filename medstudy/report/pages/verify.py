"""Verification of a finished study: recorded files have their hashes, and the claims follow from the predictions."""

from __future__ import annotations

import tempfile
from itertools import zip_longest
from pathlib import Path

from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.report import save, study_data
from medstudy.runs import inputs, plan, record
from medstudy.scoring import score


def verify(study: Study) -> int:
    """The number of files checked. Raises RunError listing every difference."""
    jobs = plan.plan(study)
    wrong = [f"{job.name} has not run" for job in jobs if not job.done]
    checked = 0
    for job in filter(lambda job: job.done, jobs):
        files = record.read(job)["files"]
        checked += len(files)
        wrong += [problem for name, digest in files.items() if (problem := _compare(study, name, digest))]
    if not wrong:
        wrong = [line for one_model in study.each() for line in _claims(one_model)]
    if wrong:
        raise RunError(f"{study.study} is not what its records say:\n" + "\n".join(f"  {line}" for line in wrong))
    return checked


def _compare(study: Study, name: str, digest: str) -> str | None:
    file = study.root / name
    if not file.is_file():
        return f"{name} is missing"
    return None if record.sha256(file) == digest else f"{name} has changed"


def _claims(study: Study) -> list[str]:
    """Recompute claims.csv from the predictions; the rows that differ from the published file."""
    stages = inputs.by_stage(study)
    scores = score.score(score.greedy(inputs.gather(stages["evaluate"], "predictions.parquet")))
    published = (study.figures / "claims.csv").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as folder:
        save.write_csv(study_data.claims_of(study, scores), Path(folder) / "claims.csv")
        again = (Path(folder) / "claims.csv").read_text(encoding="utf-8").splitlines()
    differ = [(old, new) for old, new in zip_longest(published, again, fillvalue="nothing") if old != new]
    return [f"claims.csv says {old!r}, its predictions say {new!r}" for old, new in differ]

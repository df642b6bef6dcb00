"""One element of the reporting stage in this process: `python -m benchmarks.reporting_element NAME FOLDER [ROWS]`.

Prints JSON: seconds (reading and working), of which read; imports; peak_mb.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()


def main(name: str, folder: str, rows: str = "0") -> dict:
    """Do the element NAME of the study under FOLDER; "study" makes it, "names" says what its figures are."""
    if name == "study":
        from benchmarks import large_study

        large_study.make(Path(folder), int(rows))
        return {}
    from medstudy import params, report

    study = params.load(Path(folder) / "large.yaml").model_copy(update={"root": Path(folder)})
    if name == "names":
        from medstudy import figures

        return {"names": list(figures.REGISTRY)}
    imported = time.perf_counter()
    made = {"scores": _scores, "claims": _claims}.get(name, _element)(study, name, report)
    return {
        "seconds": time.perf_counter() - imported, "imports": imported - STARTED, "peak_mb": _peak()
    } | made  # fmt: skip


def _jobs(study, stage: str) -> list:
    from medstudy import report

    jobs = report.by_stage(study)[stage]
    for job in jobs:
        job.dir.mkdir(parents=True, exist_ok=True)
    return jobs


def _scores(study, name, report) -> dict:
    from medstudy import grid, scoring

    predictions = grid.gather(_jobs(study, "evaluate"), "predictions.parquet")
    read = time.perf_counter()
    both = scoring.score(predictions)
    (job,) = _jobs(study, "scores")
    scoring.greedy(both).to_parquet(job.dir / "scores.parquet")
    scoring.sampled(both).to_parquet(job.dir / "author.parquet")
    _complete(job)
    return {"rows": len(predictions)}


def _claims(study, name, report) -> dict:
    from medstudy import grid
    from medstudy.figures import saving

    scores = grid.gather(_jobs(study, "scores"), "scores.parquet", report.SCORES)
    (job,) = _jobs(study, "claims")
    saving.write_csv(report.claims_of(study, scores), job.dir / "claims.csv")
    _complete(job)
    return {}


def _element(study, name, report) -> dict:
    from medstudy import figures, tables
    from medstudy.figures import index

    started = time.perf_counter()
    data = report.study_data(study)
    read = time.perf_counter() - started
    if name == "tables":
        tables.render_all(data, study.figures)
    elif name == "page":
        index.write(data, study.figures)
    else:
        figures.render(name, data, study.figures)
    return {"read": read}


def _complete(job) -> None:
    job.record.write_text('{"seconds": 0}', encoding="utf-8")


def _peak() -> float:
    from medstudy import provenance

    return provenance._peak_memory() / 2**20


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))

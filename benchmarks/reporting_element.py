"""One element of the reporting stage, alone in this process: `python -m benchmarks.reporting_element NAME FOLDER`.

NAME: scores, claims, a figure, tables or page. Prints JSON: seconds of reading and working, of them read; imports;
peak_mb; rows of scores.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

STARTED = time.perf_counter()


def main(name: str, folder: Path) -> dict:
    """Do the element of the study under `folder`, as its notebook does."""
    from medstudy import params  # here, so that what they take is measured
    from medstudy.report import study_data
    from medstudy.scoring import score

    study = params.load(folder / "large.yaml").model_copy(update={"root": folder})
    work = {"scores": _scores, "claims": _claims}.get(name, _shown)
    started = time.perf_counter()
    read, rows = work(name, study, study_data, score)
    ended = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": ended - started, "read": read - started, "imports": started - STARTED,
            "peak_mb": peak / 2**20, "rows": rows}


def _scores(name, study, report, scoring) -> tuple[float, int]:
    predictions = report.grid.gather(report.by_stage(study)["evaluate"], "predictions.parquet")
    read = time.perf_counter()
    both = scoring.score(predictions)
    (job,) = report.by_stage(study)["scores"]
    job.dir.mkdir(parents=True, exist_ok=True)
    scoring.greedy(both).to_parquet(job.dir / "scores.parquet")
    scoring.sampled(both).to_parquet(job.dir / "author.parquet")
    return _complete(job, read, predictions)


def _claims(name, study, report, scoring) -> tuple[float, int]:
    scores = report.grid.gather(report.by_stage(study)["scores"], "scores.parquet", report.SCORES)
    read = time.perf_counter()
    (job,) = report.by_stage(study)["claims"]
    report.figures.saving.write_csv(report.claims_of(study, scores), job.dir / "claims.csv")
    return _complete(job, read, scores)


def _shown(name, study, report, scoring) -> tuple[float, int]:
    data = report.study_data(study)
    read = time.perf_counter()
    if name == "tables":
        report.tables.render_all(data, study.figures)
    elif name == "page":
        report.index.write(data, study.figures)
    else:
        report.figures.render(name, data, study.figures)
    return read, len(data.scores)


def _complete(job, read: float, table) -> tuple[float, int]:
    job.record.write_text('{"seconds": 0}', encoding="utf-8")
    return read, len(table)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))

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
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # imports are measured
    from medstudy.params import Study
    from medstudy.runs.plan import Job

STARTED = time.perf_counter()


def main(name: str, folder: Path) -> dict:
    """Do the element of the study under `folder`, as its notebook does."""
    from medstudy import params  # here, as in the functions below, so that imports are measured

    study = params.load(folder / "large.yaml").model_copy(update={"root": folder})
    work = {"scores": _scores, "claims": _claims}.get(name, _shown)
    reading, read, ended, rows = work(name, study)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return {"seconds": ended - reading, "read": read - reading, "imports": reading - STARTED,
            "peak_mb": peak / 2**20, "rows": rows}


def _scores(name: str, study: Study) -> tuple[float, float, float, int]:
    from medstudy.runs import inputs
    from medstudy.scoring import score

    reading = time.perf_counter()
    predictions = inputs.gather(inputs.by_stage(study)["evaluate"], "predictions.parquet")
    read = time.perf_counter()
    both = score.score(predictions)
    (job,) = inputs.by_stage(study)["scores"]
    job.dir.mkdir(parents=True, exist_ok=True)
    score.greedy(both).to_parquet(job.dir / "scores.parquet")
    score.sampled(both).to_parquet(job.dir / "author.parquet")
    score.by_letter(both).to_parquet(job.dir / "letters.parquet")
    return reading, read, _complete(job), len(predictions)


def _claims(name: str, study: Study) -> tuple[float, float, float, int]:
    from medstudy.report import save, study_data
    from medstudy.runs import inputs

    reading = time.perf_counter()
    scores = inputs.gather(inputs.by_stage(study)["scores"], "scores.parquet", study_data.SCORES)
    read = time.perf_counter()
    (job,) = inputs.by_stage(study)["claims"]
    save.write_csv(study_data.claims_of(study, scores), job.dir / "claims.csv")
    return reading, read, _complete(job), len(scores)


def _shown(name: str, study: Study) -> tuple[float, float, float, int]:
    from medstudy.report import figures, study_data, tables
    from medstudy.report.pages import index_page

    reading = time.perf_counter()
    data = study_data.study_data(study)
    read = time.perf_counter()
    if name == "tables":
        tables.render_all(data, study.figures)
    elif name == "page":
        index_page.write(data, study.figures)
    else:
        figures.render(name, data, study.figures)
    return reading, read, time.perf_counter(), len(data.scores)


def _complete(job: Job) -> float:
    """Mark a job as done; the time at which its work ended."""
    ended = time.perf_counter()
    job.record.write_text('{"seconds": 0}', encoding="utf-8")
    return ended



if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], Path(sys.argv[2]))))

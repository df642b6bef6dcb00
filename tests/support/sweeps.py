"""A partly finished study: records, logs and locks as jobs leave them, without running any."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import nbformat
from filelock import FileLock

from medstudy import cli, paths
from medstudy.runs import lock, plan


def finish(job: plan.Job, study: str = "tiny", seconds: float = 10.0, **more) -> None:
    """Give a job a record, as if it had run."""
    job.dir.mkdir(parents=True, exist_ok=True)
    record = {"run": job.dir.name, "stage": job.stage, "name": job.name, "study": study, "seconds": seconds}
    job.record.write_text(json.dumps(record | {"files": {}} | more))


def log(job: plan.Job, text: str, failed: bool = False) -> None:
    """Write a job's log; failed: and its error."""
    paths.logs(job.dir).mkdir(parents=True, exist_ok=True)
    (paths.logs(job.dir) / "log.txt").write_text(text)
    if failed:
        (paths.logs(job.dir) / lock.ERROR).write_text("an error")


def running(job: plan.Job, text: str, seconds: float = 0.0) -> FileLock:
    """Pretend that a job has been running for some seconds; releasing the returned lock ends it."""
    log(job, text)
    start = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {"start_time": start}}), _notebook(job))
    lock = FileLock(paths.logs(job.dir) / "lock")
    lock.acquire()
    return lock


def command(*words) -> int:
    """Run one command in this process."""
    options = cli.parser().parse_args(list(map(str, words)))
    return options.command(options) or 0


def _notebook(job: plan.Job):
    return paths.logs(job.dir) / "notebook.ipynb"

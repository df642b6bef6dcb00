"""A study half made: records, logs and locks as its jobs leave them, without running one."""

from __future__ import annotations

import argparse
import json
from datetime import UTC, datetime, timedelta

import nbformat
from filelock import FileLock

from medstudy import paths
from medstudy.cli import sweeps
from medstudy.runs import lock, plan


def finish(job: plan.Job, study: str = "tiny", seconds: float = 10.0, **more) -> None:
    """Give a job a record, as if it had run."""
    job.dir.mkdir(parents=True, exist_ok=True)
    record = {"run": job.dir.name, "stage": job.stage, "name": job.name, "study": study, "seconds": seconds}
    job.record.write_text(json.dumps(record | {"files": {}} | more))


def log(job: plan.Job, text: str, failed: bool = False) -> None:
    """Let a job have said something; failed: and ended with an error."""
    paths.logs(job.dir).mkdir(parents=True, exist_ok=True)
    (paths.logs(job.dir) / "log.txt").write_text(text)
    if failed:
        (paths.logs(job.dir) / lock.ERROR).write_text("an error")


def running(job: plan.Job, text: str, seconds: float = 0.0) -> FileLock:
    """Let a job run since some seconds, until the lock that is returned is released."""
    log(job, text)
    start = (datetime.now(UTC) - timedelta(seconds=seconds)).isoformat()
    nbformat.write(nbformat.v4.new_notebook(metadata={"papermill": {"start_time": start}}), _notebook(job))
    lock = FileLock(paths.logs(job.dir) / "lock")
    lock.acquire()
    return lock


def command(*words) -> int:
    """One command of `cli_sweeps`, in this process."""
    parser = argparse.ArgumentParser()
    sweeps.add(parser.add_subparsers(required=True))
    options = parser.parse_args(list(map(str, words)))
    return options.command(options) or 0


def _notebook(job: plan.Job):
    return paths.logs(job.dir) / "notebook.ipynb"

"""The progress of a study: the state of every job and the time that it took or needs, read from records and locks.

    from medstudy.workflow import status
    status.show("params/offline.yaml")             # in a notebook; live=True follows it until nothing runs

Records are read once, and logs of complete runs never: in a study of thousands of jobs each costs one `stat`.
"""

from __future__ import annotations

import html
import json
import math
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from medstudy import params, paths
from medstudy.errors import RunError
from medstudy.params import Study
from medstudy.runs import plan
from medstudy.runs import record as runs_record
from medstudy.utils import redact
from medstudy.utils.formatting import duration
from medstudy.workflow import logs
from medstudy.workflow import run as workflow_run

STATES = ("done", "running", "failed", "stopped", "waiting")
NOTABLE = ("running", "failed", "stopped")
COLOURS = {"done": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "waiting": "dim"}
HUES = {"done": "#2a9d5c", "running": "#2b8cbe", "failed": "#c0392b", "stopped": "#b9770e", "waiting": "#9aa0a6"}
WITH_MODEL = ("base", "train", "evaluate", "bounds", "probe")
LISTED = 100  # jobs; a larger study is shown by stage, with the jobs that run or failed
AROUND = 18  # lines of a terminal for the stages and the summary
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 60.0  # nothing may run for a while, as when jobs are queued
LINE = 160  # characters of a log line
HEAD = ("job", "state", "seconds", "left", "host", "newest line of its log")


def table(study: Study, jobs: list[plan.Job] | None = None, records: dict[str, dict] | None = None) -> pd.DataFrame:
    """One row per job: job, stage, state, seconds, left, processes, host, newest.

    seconds: how long it took or has been running; left: predicted, NaN where unknown; newest: the newest log line of a
    job that runs or failed. jobs: the study's jobs, if planned already. records: the records read so far, by run
    folder; new ones are added.
    """
    jobs = plan.plan(study) if jobs is None else jobs
    records = {} if records is None else records
    states = {job.name: workflow_run.state(job) for job in jobs}
    done = {job.name: _record(job, records) for job in jobs if states[job.name] == "done"}
    needed = predicted(jobs, done, estimates(study, jobs))
    rows = [_row(job, states[job.name], done.get(job.name, {}), needed[job.name]) for job in jobs]
    return pd.DataFrame(rows).astype({"seconds": float, "left": float})


def predicted(
    jobs: Iterable[plan.Job], records: Mapping[str, dict], known: Mapping[str, float] | None = None
) -> dict[str, float]:
    """The seconds that each job takes, by name: the mean of similar jobs that are done. NaN where unknown.

    Jobs are similar if they differ only by seed, else if they share stage, regime and model. Without a similar job,
    `known` has the seconds.
    """
    jobs, known = list(jobs), known or {}
    took: dict[tuple, list[float]] = defaultdict(list)
    for job in jobs:
        seconds = records.get(job.name, {}).get("seconds")
        for kind in _kinds(job) if seconds is not None else ():
            took[kind].append(seconds)
    means = {kind: sum(seconds) / len(seconds) for kind, seconds in took.items()}
    return {
        job.name: next((means[kind] for kind in _kinds(job) if kind in means), known.get(job.name, math.nan))
        for job in jobs
    }


def estimates(study: Study, jobs: Iterable[plan.Job]) -> dict[str, float]:
    """Seconds by job name, as estimated for a scheduler (`seconds` in runs/logs/STUDY.requests.json)."""
    try:
        text = (study.runs / "logs" / f"{study.study}.requests.json").read_text(encoding="utf-8")
        requests = json.loads(text)
        seconds = {run: request["seconds"] for run, request in requests.items() if request.get("seconds") is not None}
    except (OSError, ValueError, AttributeError):
        return {}
    return {job.name: float(seconds[job.dir.name]) for job in jobs if job.dir.name in seconds}


def summary(rows: pd.DataFrame) -> dict[str, float | int | None]:
    """The number of jobs in each state, the work left in seconds and in device-hours, and the time that it takes.

    seconds_left: the time with as many jobs at once as now; None if nothing runs or nothing is known. unknown,
    device_unknown: the number of jobs, and of jobs with a model, whose time is unknown and not in the sums.
    """
    counts = {state: int((rows["state"] == state).sum()) for state in STATES}
    rest = rows[rows["state"] != "done"]
    models = rest[rest["stage"].isin(WITH_MODEL)]
    work, at_once = float(rest["left"].sum()), counts["running"]
    known = bool(rest["left"].notna().any())
    return counts | {
        "jobs": len(rows),
        "work_seconds": work,
        "unknown": int(rest["left"].isna().sum()),
        "seconds_left": max(work / at_once, float(rest["left"].max())) if at_once and known else None,
        "device_hours": float((models["left"] * models["processes"]).sum()) / 3600,
        "device_unknown": int(models["left"].isna().sum()),
    }


def sentence(total: Mapping) -> str:
    """A summary in words."""
    counts = ", ".join(f"{total[state]} {state}" for state in STATES[1:] if total[state])
    states = f"{total['done']} of {total['jobs']} jobs done{', ' if counts else ''}{counts}."
    if total["done"] == total["jobs"]:
        return states
    if total["unknown"] == total["jobs"]:
        return f"{states} The time left is known once a job of each kind has run."
    parts = [_known(f"{duration(total['work_seconds'])} of work", total["unknown"], total["work_seconds"])]
    if total["seconds_left"] is not None:
        parts.append(f"{duration(total['seconds_left'])} with {total['running']} at once")
    hours = f"{total['device_hours']:.2f} device-hours"
    parts.append(_known(hours, total["device_unknown"], total["device_hours"] or not total["device_unknown"]))
    return f"{states} Left: {'; '.join(parts)}."


def render(rows: pd.DataFrame, limit: int | None = LISTED) -> Group:
    """For a terminal: jobs and summary. Of more than `limit` jobs: the stages, and the jobs that run or failed."""
    parts = [_stages(rows)] if _large(rows, limit) else []
    jobs = Table(*HEAD, box=None, pad_edge=False)
    for row in _shown(rows, limit).itertuples():
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        times = (_number(row.seconds), _left(row))
        jobs.add_row(escape(row.job), state, *times, escape(row.host), escape(row.newest))
    return Group(*parts, *([jobs] if jobs.row_count else []), sentence(summary(rows)))


def follow(study: Study, every: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS) -> Iterator[pd.DataFrame]:
    """Yield the table every few seconds, until all is done or nothing has run for `patience` seconds."""
    jobs, records, idle = plan.plan(study), {}, time.monotonic()
    while True:
        rows = table(study, jobs, records)
        yield rows
        if (rows["state"] == "running").any():
            idle = time.monotonic()
        if (rows["state"] == "done").all() or time.monotonic() - idle >= patience:
            return
        time.sleep(every)


def watch(study: Study, console: Console, every: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS) -> None:
    """Follow a study in a terminal; elsewhere print a line for every change of a job's state. Ends as `follow` does."""
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            for rows in follow(study, every, patience):
                live.update(render(rows, max(console.height - AROUND, 3)), refresh=True)
        return
    before: dict[str, str] = {}
    for rows in follow(study, every, patience):
        now = dict(zip(rows["job"], rows["state"], strict=True))
        for row in rows.itertuples() if before else ():
            if before[row.job] != row.state:
                took = f" {row.seconds:.1f} s" if row.state == "done" else f" {row.newest}" if row.newest else ""
                console.print(f"{row.job}: {row.state}{took}", highlight=False, markup=False, soft_wrap=True)
        if now != before:
            console.print(sentence(summary(rows)), highlight=False, soft_wrap=True)
        before = now


@dataclass(frozen=True)
class View:
    """The progress of a study as a notebook displays it."""

    name: str
    rows: pd.DataFrame

    def __repr__(self) -> str:
        return f"{self.name}: {sentence(summary(self.rows))}"

    def _repr_html_(self) -> str:
        rows, text = _shown(self.rows, LISTED), html.escape(sentence(summary(self.rows)))
        cells = {
            "job": rows["job"].map(html.escape),
            "state": [f"<span style='color:{HUES[state]}'>{state}</span>" for state in rows["state"]],
            "seconds": rows["seconds"].map(_number),
            "left": [_left(row) for row in rows.itertuples()],
            "host": rows["host"].map(html.escape),
            "newest line of its log": rows["newest"].map(html.escape),
        }
        jobs = pd.DataFrame(cells).to_html(index=False, border=0, escape=False, justify="left") if len(rows) else ""
        return f"<div><b>{html.escape(self.name)}</b>{_bar(self.rows)}<p style='margin:4px 0'>{text}</p>{jobs}</div>"


def show(file: str | Path, live: bool = False, every: float = POLL_SECONDS,
         patience: float = PATIENCE_SECONDS) -> View | None:
    """The progress of a study in a notebook cell; live: updated in place until all is done or nothing runs."""
    study = params.load(file)
    if not live:
        return View(study.study, table(study))
    from IPython.display import display

    output = display(display_id=True)
    for rows in follow(study, every, patience):
        output.update(View(study.study, rows))
    return None


def _row(job: plan.Job, state: str, record: dict, needed: float) -> dict:
    """needed: the predicted seconds of the whole job."""
    passed = _running_for(job) if state == "running" else record.get("seconds", math.nan)
    left = needed
    if state == "done":
        left = 0.0
    elif state == "running" and not math.isnan(passed):
        left = max(needed - passed, 0.0)
    newest = logs.newest(job) if state in NOTABLE else record.get("unreadable", "")
    host = record.get("machine", {}).get("host", "")
    return {
        "job": job.name, "stage": job.stage, "state": state, "seconds": passed, "left": left,
        "processes": job.processes, "host": host, "newest": _short(newest),
    }


def _record(job: plan.Job, records: dict[str, dict]) -> dict:
    name = job.dir.name
    if name not in records:
        try:
            records[name] = runs_record.read(job)
        except RunError as error:
            return {"unreadable": str(error)}
    return records[name]


def _kinds(job: plan.Job) -> list[tuple]:
    """The groups of similar jobs that a job is in: equal but for the seed; of its regime and model; of its figure."""
    but_seed = {name: value for name, value in job.parameters.items() if name != "seed"}
    kinds: list[tuple] = [(job.stage, json.dumps(but_seed, sort_keys=True, default=str))]
    if (regime := job.parameters.get("label", job.parameters.get("regime"))) is not None:
        kinds.append((job.stage, regime, str(job.parameters.get("model"))))
    if (element := job.parameters.get("element")) is not None:
        kinds.append((job.stage, element, ""))
    return kinds


def _running_for(job: plan.Job) -> float:
    """Seconds since papermill started the notebook of a run; NaN before that."""
    try:
        text = (paths.logs(job.dir) / "notebook.ipynb").read_text(encoding="utf-8")
        started = datetime.fromisoformat(json.loads(text)["metadata"]["papermill"]["start_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return math.nan
    return max((datetime.now(UTC) - started).total_seconds(), 0.0)


def _short(line: str) -> str:
    """A log line of at most `LINE` characters, without the folders of this machine."""
    line = redact.text(line)
    return line if len(line) <= LINE else f"{line[: LINE - 1]}…"


def _large(rows: pd.DataFrame, limit: int | None) -> bool:
    return limit is not None and len(rows) > limit


def _shown(rows: pd.DataFrame, limit: int | None) -> pd.DataFrame:
    return rows[rows["state"].isin(NOTABLE)].head(limit) if _large(rows, limit) else rows


def _stages(rows: pd.DataFrame) -> Table:
    table = Table("stage", "jobs", *STATES, "left", box=None, pad_edge=False)
    for stage, jobs in rows.groupby("stage", sort=False):
        counts = [str(int((jobs["state"] == state).sum()) or "") for state in STATES]
        left, unknown = jobs["left"].sum(), int(jobs["left"].isna().sum())
        table.add_row(stage, str(len(jobs)), *counts, _known(duration(left), unknown, left))
    return table


def _bar(rows: pd.DataFrame) -> str:
    """A bar with the share of each state."""
    parts = []
    for state in STATES:
        share = 100 * float((rows["state"] == state).mean())
        parts.append(f"<div title='{state}' style='width:{share:.2f}%;background:{HUES[state]}'></div>")
    return f"<div style='display:flex;height:10px;max-width:640px;margin:4px 0'>{''.join(parts)}</div>"


def _number(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:.1f}"


def _left(row: NamedTuple) -> str:
    return _number(row.left) if row.state != "done" else ""


def _known(text: str, unknown: int, some: float) -> str:
    """A sum in words, with the number of jobs that it leaves out; some: whether it includes any job."""
    if not unknown:
        return text
    rest = f"unknown for {unknown} {'job' if unknown == 1 else 'jobs'}"
    return f"{text} ({rest})" if some else f"{rest}{' with a model' if 'device' in text else ''}"

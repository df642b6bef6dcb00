"""How far a study is: every job with its state and the time it took or has left, from the records and locks alone.

    from medstudy import status
    status.show("params/offline.yaml")             # in a notebook; live=True follows it until nothing runs

A record is read once and no log of a complete run: thousands of jobs are one `stat` each.
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

import pandas as pd
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from medstudy import grid, logs, params, paths, provenance, redact, workflow
from medstudy.errors import RunError
from medstudy.formatting import duration
from medstudy.params import Study

STATES = ("done", "running", "failed", "stopped", "waiting")
NOTABLE = ("running", "failed", "stopped")
COLOURS = {"done": "green", "running": "cyan", "failed": "red", "stopped": "yellow", "waiting": "dim"}
HUES = {"done": "#2a9d5c", "running": "#2b8cbe", "failed": "#c0392b", "stopped": "#b9770e", "waiting": "#9aa0a6"}
WITH_MODEL = ("base", "train", "evaluate")
LISTED = 100  # jobs; of a larger study, the stages and the jobs that run or failed
AROUND = 18  # lines of a terminal that the stages and the summary take
POLL_SECONDS = 2.0
PATIENCE_SECONDS = 60.0  # between two jobs nothing may run for a while, as in a queue
LINE = 160  # characters of a log line


def table(study: Study, jobs: list[grid.Job] | None = None, records: dict[str, dict] | None = None) -> pd.DataFrame:
    """One row a job: job, stage, state, seconds, left, processes, host, newest.

    seconds: it took, or has run for; left: predicted, NaN where unknown; newest: line of the log of what runs or
    failed. jobs: the study's, when planned already. records: those read so far by the run's folder, to be added to.
    """
    jobs = grid.plan(study) if jobs is None else jobs
    records = {} if records is None else records
    states = {job.name: workflow.state(job) for job in jobs}
    done = {job.name: _record(job, records) for job in jobs if states[job.name] == "done"}
    needed = predicted(jobs, done, estimates(study, jobs))
    rows = [_row(job, states[job.name], done.get(job.name, {}), needed[job.name]) for job in jobs]
    return pd.DataFrame(rows).astype({"seconds": float, "left": float})


def predicted(jobs: Iterable[grid.Job], records: Mapping[str, dict], known: Mapping[str, float] | None = None) -> dict:
    """The seconds that each job takes by name, NaN where unknown: as its likes took that are done.

    Its likes are those that differ by the seed alone, else those of its stage, regime and model, else as `known` says.
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


def estimates(study: Study, jobs: Iterable[grid.Job]) -> dict[str, float]:
    """Seconds by job name where they were estimated for a scheduler (`seconds` in runs/logs/STUDY.requests.json)."""
    try:
        text = (study.runs / "logs" / f"{study.study}.requests.json").read_text(encoding="utf-8")
        said = {name: asked["seconds"] for name, asked in json.loads(text).items() if asked.get("seconds") is not None}
    except (OSError, ValueError, AttributeError):
        return {}
    return {job.name: float(said[job.dir.name]) for job in jobs if job.dir.name in said}


def summary(rows: pd.DataFrame) -> dict[str, float | int | None]:
    """Jobs by state, the work left in seconds, how long that takes with as many at once as now, and device-hours.

    unknown, device_unknown: how many jobs, and how many of those with a model, the sums leave out. seconds_left: None
    when nothing runs, or nothing is known.
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
    said = f"{total['done']} of {total['jobs']} jobs done{', ' if counts else ''}{counts}."
    if total["done"] == total["jobs"]:
        return said
    if total["unknown"] == total["jobs"]:
        return f"{said} What is left is known once a job of each kind has run."
    parts = [_known(f"{duration(total['work_seconds'])} of work", total["unknown"], total["work_seconds"])]
    if total["seconds_left"] is not None:
        parts.append(f"{duration(total['seconds_left'])} with {total['running']} at once")
    hours = f"{total['device_hours']:.2f} device-hours"
    parts.append(_known(hours, total["device_unknown"], total["device_hours"] or not total["device_unknown"]))
    return f"{said} Left: {'; '.join(parts)}."


def render(rows: pd.DataFrame, limit: int | None = LISTED) -> Group:
    """For a terminal: the jobs, or of more than `limit` the stages and what runs or failed, and the summary below."""
    parts = [_stages(rows)] if _large(rows, limit) else []
    shown = Table("job", "state", "seconds", "left", "host", "newest line of its log", box=None, pad_edge=False)
    for row in _shown(rows, limit).itertuples():
        state = f"[{COLOURS[row.state]}]{row.state}[/]"
        times = (_number(row.seconds), _number(row.left) if row.state != "done" else "")
        shown.add_row(escape(row.job), state, *times, escape(row.host), escape(row.newest))
    return Group(*parts, *([shown] if shown.row_count else []), sentence(summary(rows)))


def follow(study: Study, every: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS) -> Iterator[pd.DataFrame]:
    """The table again and again, until all is done or nothing has run for `patience` seconds."""
    jobs, records, idle = grid.plan(study), {}, time.monotonic()
    while True:
        rows = table(study, jobs, records)
        yield rows
        if (rows["state"] == "running").any():
            idle = time.monotonic()
        if (rows["state"] == "done").all() or time.monotonic() - idle >= patience:
            return
        time.sleep(every)


def watch(study: Study, console: Console, every: float = POLL_SECONDS, patience: float = PATIENCE_SECONDS) -> None:
    """Follow a study on a terminal; elsewhere print a line for every job whose state changes. Ends as `follow`."""
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
    """The state of a study as a notebook shows it."""

    name: str
    rows: pd.DataFrame

    def __repr__(self) -> str:
        return f"{self.name}: {sentence(summary(self.rows))}"

    def _repr_html_(self) -> str:
        shown = "".join(_html_row(row) for row in _shown(self.rows, LISTED).itertuples())
        head = "".join(f"<th style='text-align:left;padding:2px 12px 2px 0'>{name}</th>" for name in HEAD)
        text = html.escape(sentence(summary(self.rows)))
        jobs = f"<table style='border-collapse:collapse'><tr>{head}</tr>{shown}</table>" if shown else ""
        return f"<div><b>{html.escape(self.name)}</b>{_bar(self.rows)}<p style='margin:4px 0'>{text}</p>{jobs}</div>"


HEAD = ("job", "state", "seconds", "left", "host", "newest line of its log")


def show(file: str | Path, live: bool = False, every: float = POLL_SECONDS,
         patience: float = PATIENCE_SECONDS) -> View | None:  # fmt: skip
    """The state of a study in a notebook cell; live: updated in place until all is done or nothing runs any more."""
    study = params.load(file)
    if not live:
        return View(study.study, table(study))
    from IPython.display import display

    place = None
    for rows in follow(study, every, patience):
        if place is None:
            place = display(View(study.study, rows), display_id=True)
        else:
            place.update(View(study.study, rows))
    return None


def _row(job: grid.Job, state: str, record: dict, needed: float) -> dict:
    passed = _running_for(job) if state == "running" else record.get("seconds", math.nan)
    left = {"done": 0.0, "running": max(needed - passed, 0.0) if not math.isnan(passed) else needed}.get(state, needed)
    newest = logs.newest(job) if state in NOTABLE else record.get("unreadable", "")
    host = record.get("machine", {}).get("host", "")
    return {
        "job": job.name, "stage": job.stage, "state": state, "seconds": passed, "left": left,
        "processes": job.processes, "host": host, "newest": _short(newest),
    }  # fmt: skip


def _record(job: grid.Job, records: dict[str, dict]) -> dict:
    name = job.dir.name
    if name not in records:
        try:
            records[name] = provenance.read(job)
        except RunError as error:
            return {"unreadable": str(error)}
    return records[name]


def _kinds(job: grid.Job) -> list[tuple]:
    """Of what a job is one: those that differ by the seed alone; those of its regime and model, or of its figure."""
    alike = {name: value for name, value in job.parameters.items() if name != "seed"}
    kinds: list[tuple] = [(job.stage, json.dumps(alike, sort_keys=True, default=str))]
    if (regime := job.parameters.get("label", job.parameters.get("regime"))) is not None:
        kinds.append((job.stage, regime, str(job.parameters.get("model"))))
    if (element := job.parameters.get("element")) is not None:
        kinds.append((job.stage, element, ""))
    return kinds


def _running_for(job: grid.Job) -> float:
    """Seconds since papermill started the notebook of a run; NaN before it did."""
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
    made = Table("stage", "jobs", *STATES, "left", box=None, pad_edge=False)
    for stage, own in rows.groupby("stage", sort=False):
        counts = [str(int((own["state"] == state).sum()) or "") for state in STATES]
        left, unknown = own["left"].sum(), int(own["left"].isna().sum())
        made.add_row(stage, str(len(own)), *counts, _known(duration(left), unknown, left))
    return made


def _bar(rows: pd.DataFrame) -> str:
    """A bar of the states' shares."""
    parts = []
    for state in STATES:
        share = 100 * float((rows["state"] == state).mean())
        parts.append(f"<div title='{state}' style='width:{share:.2f}%;background:{HUES[state]}'></div>")
    return f"<div style='display:flex;height:10px;max-width:640px;margin:4px 0'>{''.join(parts)}</div>"


def _html_row(row) -> str:
    left = _number(row.left) if row.state != "done" else ""
    cells = (row.job, f"<span style='color:{HUES[row.state]}'>{row.state}</span>", _number(row.seconds), left)
    cells = (html.escape(cells[0]), *cells[1:], html.escape(row.host), html.escape(row.newest))
    return f"<tr>{''.join(f'<td style=text-align:left;padding-right:12px>{cell}</td>' for cell in cells)}</tr>"


def _number(seconds: float) -> str:
    return "" if math.isnan(seconds) else f"{seconds:.1f}"


def _known(text: str, unknown: int, some: float) -> str:
    """A sum in words, and of how many jobs it knows nothing; some: whether it sums anything."""
    if not unknown:
        return text
    rest = f"unknown for {unknown} {'job' if unknown == 1 else 'jobs'}"
    return f"{text} ({rest})" if some else f"{rest}{' with a model' if 'device' in text else ''}"

"""The report of a study: report.html, one file that opens offline, and a page for each executed notebook.

    page.write(study, data, rendered, jobs, study.figures)   # once figures, tables and claims are in that folder

The same runs give the same bytes: all times come from their records.
"""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from medstudy import datasets, paths
from medstudy.params import Study
from medstudy.report import figures, save, selections, tables
from medstudy.report.pages import index_page, markdown, notebook_page
from medstudy.report.save import Rendered
from medstudy.report.study_data import StudyData
from medstudy.runs import plan, record
from medstudy.utils import formatting, redact, yaml_files

MARKS = {
    "reproduced": "✓", "supported": "✓", "not reproduced": "✕", "not supported": "✕",
    "inconclusive": "≈", "not run": "–",
}
FOLDED = 15  # tables with more rows are folded
MADE_HERE = "report"  # the stage that writes this page, whose own time is not known yet
PREDICTIONS = "predictions.parquet"


@dataclass(frozen=True)
class Run:
    """A complete job with its record, as a row of the report."""

    job: plan.Job
    record: dict[str, Any]

    @property
    def seconds(self) -> float:
        return self.record["seconds"]

    @property
    def work(self) -> float:
        """Seconds summed over its processes (one device each)."""
        return self.seconds * self.job.processes

    @property
    def device(self) -> str:
        return (self.record.get("machine") or {}).get("device") or "not recorded"

    @property
    def notebook(self) -> Path:
        return self.job.dir / "notebook.ipynb"

    @property
    def link(self) -> str | None:
        return f"notebooks/{self.job.name}.html" if self.notebook.is_file() else None

    @property
    def ended(self) -> datetime:
        return self.started + timedelta(seconds=self.seconds)

    @property
    def started(self) -> datetime:
        return datetime.fromisoformat(self.record["started"])


def write(study: Study, data: StudyData, rendered: list[Rendered], jobs: list[plan.Job], folder: Path) -> Path:
    """Write folder/report.html and folder/notebooks/NAME.html for each complete run; returns the report's path.

    Figures, tables and captions are read from `folder`; rendered: why others are missing. The report holds no images
    but these figures, a notebook's page those of the executed notebook.
    """
    runs = [Run(job, record.read(job)) for job in jobs if job.done and job.stage != MADE_HERE]
    shutil.rmtree(folder / "notebooks", ignore_errors=True)
    environment = _environment()
    places = redact.places(study.root)
    convert = notebook_page.converter() if any(run.link for run in runs) else None
    for run in runs:
        if run.link:
            body = Markup(convert(run.notebook))
            text = environment.get_template("notebook.html.jinja").render(run=run, body=body, study=study.title)
            _put(folder / run.link, redact.text(text, places))
    text = environment.get_template("report.html.jinja").render(
        _context(study, data, rendered, runs, len([job for job in jobs if job.stage != MADE_HERE]), folder)
    )
    return _put(folder / "report.html", redact.text(text, places))


def _put(file: Path, text: str) -> Path:
    with paths.atomic(file) as temporary:
        temporary.write_text(text, encoding="utf-8")
    return file


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("medstudy.report.pages", "templates"), autoescape=True, trim_blocks=True,
        lstrip_blocks=True, undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "markdown": lambda text: Markup(markdown.render(text)),
        "inline": lambda text: Markup(markdown.inline(text)),
        "duration": formatting.duration,
        "memory": lambda megabytes: formatting.size(megabytes * 2**20),
    }
    return environment


def _context(
    study: Study, data: StudyData, rendered: list[Rendered], runs: list[Run], planned: int, folder: Path
) -> dict[str, Any]:
    return {
        "title": index_page.title(data),
        "question": index_page.QUESTION,
        "facts": facts(study, data, runs, planned),
        "verdicts": _verdicts(data.claims),
        "marks": MARKS,
        "method": index_page.method(data),
        "leaks": index_page.leaks(data) if data.leak_words else [],
        "claims": claims(study, data),
        "claims_caption": tables.claims.caption(tables.claims.build(data), data),
        "figures": [figure(folder, entry) for entry in index_page.drawn(folder)],
        "tables": [table(folder, entry) for entry in index_page.written(folder)],
        "limits": index_page.limits(data),
        "not_run": index_page.not_run(data, folder) or [index_page.ALL_RUN],
        "missing": [item for item in rendered if item.missing],
        "runs": runs,
        "unfinished": planned - len(runs),
        "stages": stages(runs),
        "made_by": index_page.made_by(data) + _machines(runs),
        "differing": differing(runs),
        "checkpoints": index_page.checkpoints(data.scores),
        "parameters": _parameters(study),
        "other_files": [name for name in ("claims.csv", "README.md") if (folder / name).is_file()],
        "hashes": [
            (run.job.name, Path(file).name, digest)
            for run in runs
            for file, digest in sorted(run.record["files"].items())
            if Path(file).name == PREDICTIONS
        ],
    }


def facts(study: Study, data: StudyData, runs: list[Run], planned: int) -> list[tuple[str, str, str]]:
    """The facts at the top of the report: each a name, a number and a line about it."""
    tested = selections.tested(data.scores)
    questions = tested.drop_duplicates(["dataset", "image_id", "question_id"])
    names = selections.datasets(tested)
    images = questions.drop_duplicates(["dataset", "image_id"]).groupby("dataset").size()[names]
    longest = sorted(stages(runs), key=lambda row: -row["seconds"])[:3]
    rows = [
        ("Runs", f"{len(runs)}", "and this report" if len(runs) == planned else f"of {planned} planned"),
        _trainings(study),
        ("Test images", f"{images.sum():,}", ", ".join(f"{name} {n:,}" for name, n in images.items())),
        ("Test questions", f"{len(questions):,}", f"{len(tested):,} scored answers"),
    ]
    if runs:
        span = (max(run.ended for run in runs) - min(run.started for run in runs)).total_seconds()
        rows += [
            ("First start to last end", formatting.duration(span),
             f"pauses included, from {min(run.started for run in runs):%d %B %Y, %H:%M} UTC"),
            ("Work", formatting.duration(sum(run.work for run in runs)),
             ", ".join(f"{row['stage']} {formatting.duration(row['seconds'])}" for row in longest)),
        ]
    return rows


def _trainings(study: Study) -> tuple[str, str, str]:
    rungs = f"{len(study.inference)} rungs"
    if not study.trains:
        return "Models", "1", f"as it is, nothing trained; {rungs}"
    return "Seeds", f"{len(study.seeds)}", f"per regime; {len(study.regimes)} regimes, {rungs}"


def _verdicts(claims: pd.DataFrame) -> list[tuple[str, int]]:
    """The number of claims with each verdict, in the order of MARKS."""
    counts = Counter() if claims.empty else Counter(claims["verdict"])
    return [(verdict, counts[verdict]) for verdict in [*MARKS, *sorted(set(counts) - set(MARKS))] if counts[verdict]]


def claims(study: Study, data: StudyData) -> list[tuple[str, list[dict]]]:
    """The claims by data set, in the study's order: rows of claims.csv with `ours`, the estimate and its interval."""
    parts: dict[str, list[dict]] = {}
    for row in data.claims.to_dict("records"):
        _, _, name = row["id"].partition("/")
        row["to_settle"] = save.text(row.get("to_settle"))
        row["ours"] = save.interval(row["estimate"], row["low"], row["high"], 2)
        parts.setdefault(name or datasets.with_claims(study.datasets)[0], []).append(row)
    return list(parts.items())


def figure(folder: Path, entry: figures.Entry) -> dict[str, Any]:
    """A figure's number, title, picture, alternative text and caption in parts."""
    parts = caption_parts(index_page.body(folder / f"{entry.name}.md"))
    question = next((text for name, text in parts if name == "Question"), "")
    return {
        "name": entry.name,
        "number": int(entry.name[:2]),
        "title": entry.title,
        "picture": markdown.embedded(folder / f"{entry.name}.png"),
        "alt": markdown.plain(f"{entry.title}. {question}"),
        "parts": parts,
    }


def caption_parts(caption: str) -> list[tuple[str, str]]:
    """A caption "**Question.** … **Method.** …" as pairs (heading, text); without headings it is one part."""
    before, *rest = re.split(r"\*\*([^*]+)\.\*\* ", caption)
    parts = [("", before.strip())] if before.strip() else []
    return parts + [(name, text.strip()) for name, text in zip(rest[::2], rest[1::2], strict=True)]


def table(folder: Path, entry: tables.Entry) -> dict[str, Any]:
    """A table's number, title, caption and rows; the table of claims is shown with the claims."""
    caption, rows = index_page.caption_and_rows(folder, entry)
    count = max(0, len(rows.splitlines()) - 2)
    return {
        "name": entry.name,
        "number": int(entry.name[:2]),
        "title": entry.title,
        "caption": caption,
        "rows": markdown.literal(rows),
        "count": count,
        "folded": count > FOLDED,
        "shown_above": entry.name.endswith("_claims"),
    }


def stages(runs: list[Run]) -> list[dict[str, Any]]:
    """One row per stage in the order of work: its runs, device time, share of the total, peak memory and devices."""
    parts: dict[str, list[Run]] = {}
    for run in runs:
        parts.setdefault(run.job.stage, []).append(run)
    total = sum(run.work for run in runs) or 1
    return [
        {
            "stage": stage,
            "runs": len(own),
            "seconds": sum(run.work for run in own),
            "share": sum(run.work for run in own) / total,
            "peak": max(run.record["peak_memory_mb"] for run in own),
            "devices": ", ".join(sorted({run.device for run in own})),
        }
        for stage, own in parts.items()
    ]


def differing(runs: Iterable[Run]) -> list[str]:
    """The software whose version differs between runs."""
    versions: dict[str, Counter] = {}
    for run in runs:
        for name, version in run.record.get("versions", {}).items():
            versions.setdefault(name, Counter())[version] += 1
    return [
        f"{name}: " + ", ".join(f"{version} in {index_page.plural(n, 'run')}" for version, n in sorted(counts.items()))
        for name, counts in versions.items()
        if len(counts) > 1
    ]


def _machines(runs: list[Run]) -> list[str]:
    """The machines that the runs used, without their names, and the code's commits if known."""
    known = [run.record["machine"] for run in runs if run.record.get("machine")]
    lines = []
    if known:
        hosts = len({machine.get("host") for machine in known})
        devices = Counter(run.device for run in runs if run.record.get("machine"))
        listed = ", ".join(f"{device} ({index_page.plural(n, 'run')})" for device, n in sorted(devices.items()))
        lines.append(f"{index_page.plural(hosts, 'machine')}. Devices: {listed}")
    commits = sorted({run.record["commit"] for run in runs if run.record.get("commit")})
    if commits:
        lines.append("Code of the runs: commit " + ", ".join(f"`{commit}`" for commit in commits))
    here = record.commit()
    return lines + ([f"Code of this page: commit `{here}`"] if here else [])


def _parameters(study: Study) -> str:
    """All parameters as YAML, defaults included; of local paths only the last part."""
    settings = redact.tree(study.model_dump(mode="json", exclude={"root"}))
    return yaml_files.dump(settings)

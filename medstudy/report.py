"""A study's report: its data gathered from runs, its figures and tables made and published, its claims printed."""

from __future__ import annotations

import json
import math
import shutil
import textwrap
from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from safetensors import safe_open

from medstudy import claims, datasets, figures, formatting, grid, leakage, paths, provenance, redact, tables, wall_clock
from medstudy.datasets import store
from medstudy.errors import RunError
from medstudy.figures import index
from medstudy.figures.data import SCORES, StudyData
from medstudy.figures.saving import Rendered
from medstudy.params import Study

INSTALLED = paths.ROOT / ".venv" / "install.json"  # written by the Makefile
KEPT = "rendered.json"  # in the folder of a figure or table job: title, caption and files of each, or why it is missing
COLUMNS = {"id": "id", "claim": "claim", "source_value": "source", "estimate": "ours", "verdict": "verdict"}


def study_data(study: Study, claimed: bool = True) -> StudyData:
    """Everything that figures and tables use. Raises RunError naming a job that is not complete.

    claimed: include the claims, which figures do not need.
    """
    stages = by_stage(study)
    images = {
        (example.dataset, example.image_id): example.image
        for job in complete(stages["data"])
        for example in store.read(job.dir, "test")
        if example.render
    }
    return StudyData(
        scores=grid.gather(complete(stages["scores"]), "scores.parquet", SCORES),
        author=grid.gather(complete(stages["scores"]), "author.parquet", SCORES),
        training=grid.gather(complete(stages["train"]), "training.parquet"),
        examples=grid.gather(complete(stages["data"]), "questions.parquet").rename(columns={"question": "text"}),
        claims=pd.read_csv(claims_file(study)) if claimed else pd.DataFrame(),
        leaks=leaks(stages),
        images=images,
        study=_facts(study, stages["train"][0]),
    )


def _facts(study: Study, trained: grid.Job) -> dict:
    """Facts of the study for captions and pages."""
    return {
        "name": study.title,
        "command": f"python -m medstudy run params/{study.study}.yaml",
        "low": study.low,
        "resamples": study.intervals.resamples,
        "level": study.intervals.confidence,
        "seed": study.intervals.seed,
        "parameters": _size(study, trained.dir / "checkpoint"),
        "training": study.training.model_dump(),
        "data_versions": {datasets.label(item): f"version {datasets.version(item)}" for item in study.datasets},
        "versions": provenance.versions(),
    } | ({} if study.model.id == "base" else {"model": redact.last(study.model.id)})


def _size(study: Study, folder: Path) -> int:
    """The model's number of parameters; a checkpoint of adapters does not hold all of them."""
    if study.training.lora:
        from medstudy import models  # loads torch and transformers, which only a study with adapters needs here

        return sum(weight.numel() for weight in models.sketch(study.model).model.parameters())
    return sum(parameters(file) for file in folder.glob("*.safetensors"))


def parameters(file: Path) -> int:
    """The number of parameters in a safetensors file, from its header."""
    with safe_open(file, framework="np") as weights:
        return sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())


def claims_file(study: Study) -> Path:
    """claims.csv of the study's claims job."""
    return complete(by_stage(study)["claims"])[0].dir / "claims.csv"


def claims_of(study: Study, scores: pd.DataFrame) -> pd.DataFrame:
    """The claims for each data set of the study, from scores and training logs."""
    stages = by_stage(study)
    training = grid.gather(complete(stages["train"]), "training.parquet")
    names = {"low": study.low, "level": study.intervals.confidence, "seed": study.intervals.seed}
    notes = {name: " ".join(lines) for name, lines in leakage.sentences(leaks(stages)).items()}
    return claims.by_data_set(scores, training, tuple(map(datasets.label, study.datasets)), notes, **names)


def leaks(stages: dict[str, list[grid.Job]]) -> pd.DataFrame:
    """`leakage.overview` of the study."""
    return grid.gather(complete(stages["leakage"]), "leaks.parquet")


def draw(study: Study, job: grid.Job) -> Rendered:
    """Draw the figure of a job into its folder."""
    figure = figures.render(job.parameters["element"], study_data(study, claimed=False), job.dir)
    keep([figure], job)
    return figure


def tabulate(study: Study, job: grid.Job) -> list[Rendered]:
    """Write every table into the folder of the job."""
    rendered = tables.render_all(study_data(study), job.dir)
    keep(rendered, job)
    return rendered


def publish(study: Study) -> list[Rendered]:
    """Collect figures, tables and claims in figures/STUDY and write the pages that show them; in reading order."""
    stages, rendered = by_stage(study), []
    for job in complete([*stages["figure"], *stages["tables"]]):
        for item in kept(job):
            files = [study.figures / file.relative_to(job.dir) for file in item.files]
            for source, target in zip(item.files, files, strict=True):
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, target)
            rendered.append(replace(item, files=tuple(files)))
    shutil.copyfile(claims_file(study), study.figures / "claims.csv")
    data = study_data(study)
    index.write(data, study.figures)
    from medstudy import page  # loads torch through the model card, which figures do not need

    page.write(study, data, rendered, grid.plan(study), study.figures)
    return rendered


def kept(job: grid.Job) -> list[Rendered]:
    """What a complete figure or table job rendered."""
    items = json.loads((job.dir / KEPT).read_text(encoding="utf-8"))
    return [Rendered(**item | {"files": tuple(job.dir / name for name in item["files"])}) for item in items]


def keep(rendered: Iterable[Rendered], job: grid.Job) -> None:
    """Record in the job's folder what it rendered, for the report."""
    items = [asdict(item) | {"files": [str(file.relative_to(job.dir)) for file in item.files]} for item in rendered]
    (job.dir / KEPT).write_text(json.dumps(items, indent=1) + "\n", encoding="utf-8")


def by_stage(study: Study) -> dict[str, list[grid.Job]]:
    """The jobs of the study by stage."""
    jobs = grid.plan(study)
    return {stage: [job for job in jobs if job.stage == stage] for stage in grid.NOTEBOOK}


def complete(jobs: list[grid.Job]) -> list[grid.Job]:
    """These jobs. Raises RunError naming the first that is not complete."""
    for job in jobs:
        if not job.done:
            raise RunError(f"{job.name} is not complete: there is no {job.record}. Run the study first.")
    return jobs


def timing(study: Study) -> pd.DataFrame:
    """Columns stage, seconds: of the installation, of each stage (the sum over its jobs), and by the wall clock."""
    rows = [("install", json.loads(INSTALLED.read_text())["seconds"])] if INSTALLED.is_file() else []
    rows += [(stage, sum(provenance.read(job)["seconds"] for job in jobs)) for stage, jobs in by_stage(study).items()]
    wall = wall_clock.read(study)
    rows += [("wall clock", wall)] if wall is not None else []
    return pd.DataFrame(rows, columns=["stage", "seconds"]).round(1)


def finish(study: Study) -> Path:
    """Write timing.csv next to the figures. Raises RunError if a job is not complete."""
    for jobs in by_stage(study).values():
        complete(jobs)
    file = study.figures / "timing.csv"
    with paths.atomic(file) as temporary:
        timing(study).to_csv(temporary, index=False, lineterminator="\n")
    return file


def show(study: Study, console: Console, short: bool = False) -> None:
    """Print the claims, the time and where the report is; short: one line a claim. Raises RunError without claims."""
    file = study.figures / "claims.csv"
    if not file.is_file():
        raise RunError(f"{study.title} has no claims yet: there is no {file}. Run the study first.")
    table, confidence = pd.read_csv(file), study.intervals.confidence
    console.print(claims_lines(table, confidence, console.width) if short else claims_table(table, confidence))
    times = study.figures / "timing.csv"
    if times.is_file():
        console.print(_sentence(pd.read_csv(times)), highlight=False)
    console.print(f"Why: {file}", highlight=False, soft_wrap=True)
    pages = [study.figures / name for name in ("report.html", "README.md")]
    console.print(f"Read on: {next(filter(Path.is_file, pages))}", highlight=False, soft_wrap=True)


def claims_lines(claims: pd.DataFrame, confidence: float, width: int) -> Table:
    """claims.csv for a terminal, one line a claim, its text cut to the width."""
    title = f"Claims, with {100 * confidence:g} % intervals"
    table = Table("id", "ours", "verdict", "claim", title=title, title_justify="left", box=None, pad_edge=False)
    rows = [(row["id"], _interval(row).replace("\n", " "), row["verdict"], row["claim"])
            for row in claims.to_dict("records")]  # fmt: skip
    used = sum(max(map(len, column)) + 2 for column in list(zip(*rows, strict=True))[:3])  # width of other columns
    for *cells, claim in rows:
        table.add_row(*cells, textwrap.shorten(claim, max(width - used, 12), placeholder="…"))
    return table


def claims_table(claims: pd.DataFrame, confidence: float) -> Table:
    """claims.csv for a terminal, one row a claim, our estimate with its interval."""
    table = Table(title=f"Claims, with {100 * confidence:g} % intervals", title_justify="left", show_lines=True)
    for column, heading in COLUMNS.items():
        table.add_column(heading, no_wrap=column in ("id", "verdict"), min_width=16 if column == "estimate" else None)
    for row in claims.to_dict("records"):
        row["estimate"] = _interval(row)
        table.add_row(*[_text(row.get(column)) for column in COLUMNS])
    return table


def _interval(row: dict) -> str:
    if pd.isna(row["estimate"]):
        return "–"
    return "{}\n[{}, {}]".format(*(_signed(row[name]) for name in ("estimate", "low", "high")))


def _signed(x: float) -> str:
    value = round(x, 2)
    return f"{value:+.2f}" if value else "0.00"


def _text(value: object) -> str:
    return "–" if pd.isna(value) else str(value)


def _sentence(times: pd.DataFrame) -> str:
    seconds = dict(zip(times["stage"], times["seconds"], strict=True))
    parts = [f"{what} {formatting.duration(seconds[what])}" for what in ("install", "wall clock") if what in seconds]
    return "Time: " + ", ".join(parts) + "."

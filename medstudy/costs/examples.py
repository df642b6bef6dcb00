"""The examples that an estimate counts: as the jobs read them, but each image is only its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from medstudy import datasets
from medstudy.data import known
from medstudy.data.example import SPLITS, Example, Question, Shot
from medstudy.datasets import published_sizes
from medstudy.params import Study
from medstudy.resolution.sizes import Size
from medstudy.runs.plan import Job
from medstudy.utils.progress import track


def examples(study: Study, jobs: Sequence[Job]) -> dict[str, list[Example]]:
    """The examples of each split, all data sets in order.

    From questions.parquet if the data job is done, else from the data set itself. For a data set that is not on this
    machine, as many as are published (`medstudy.datasets.published_sizes`).
    """
    by_split: dict[str, list[Example]] = {split: [] for split in SPLITS}
    for params, job in _data_jobs(study, jobs):
        table = pd.read_parquet(job.dir / "questions.parquet") if job.done else None
        for split in SPLITS:
            if table is not None:
                by_split[split] += known.added(examples_of(table, split), job.dir / f"{split}.arrow")
            elif published_sizes.is_missing(params):
                by_split[split] += published_sizes.examples(params, split)
            else:
                loaded = track(datasets.load(params, split), f"{datasets.label(params)} {split}", unit="image")
                by_split[split] += map(_sized, loaded)
    return by_split


def origins(study: Study, jobs: Sequence[Job], data: dict[str, list[Example]]) -> list[dict]:
    """For each data set: images and questions by split, and where these numbers come from."""
    rows = []
    for params, job in _data_jobs(study, jobs):
        name = datasets.label(params)
        own = {split: [example for example in part if example.dataset == name] for split, part in data.items()}
        needed = published_sizes.is_missing(params)
        rows.append({
            "dataset": name,
            "images": {split: len(part) for split, part in own.items()},
            "questions": {split: sum(len(example.questions) for example in part) for split, part in own.items()},
            "from": "built" if job.done else published_sizes.origin(params) if needed else "counted",
        })
    return rows


def examples_of(table: pd.DataFrame, split: str) -> list[Example]:
    """The examples of a split of questions.parquet, in their order; labels are left out."""
    examples = []
    for image_id, rows in table[table["split"] == split].groupby("image_id", sort=False):
        questions = tuple(
            Question(row.question_id, row.question, row.answer, row.kind, row.task, tuple(row.options))
            for row in rows.itertuples()
        )
        first = rows.iloc[0]
        size = Size(int(first["height"]), int(first["width"]))
        context = tuple(Shot(Size(shot["height"], shot["width"]), shot["question"], shot["answer"])
                        for shot in first["context"])
        about = {name: first[name] for name in ("dataset", "group", "family", "modality", "anatomy", "source")}
        about |= {"split": split, "render": False, "license": "", "context": context}
        examples.append(Example(image_id, size, questions, **about))
    return examples


def _data_jobs(study: Study, jobs: Sequence[Job]) -> zip:
    return zip(study.datasets, (job for job in jobs if job.stage == "data"), strict=True)


def _sized(example: Example) -> Example:
    """An example whose images are their sizes."""
    context = tuple(replace(shot, image=Size(shot.image.height, shot.image.width)) for shot in example.context)
    return replace(example, image=Size(example.image.height, example.image.width), context=context)

"""What the notebooks in notebooks/explore/ compute: a model to ask, losses and times of rows, coverage of intervals.

These notebooks are not jobs. They work before any study has run, with the base model of the package and the phantom,
and state what to run if they could show more.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from medstudy import models
from medstudy.data.example import Example
from medstudy.datasets import label
from medstudy.datasets import phantom as phantom_data
from medstudy.engine import flops, shared_prefix
from medstudy.engine.batches import Batch
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import PackedRow, Row, RowLayout
from medstudy.models.family import Family
from medstudy.params import Model, Study
from medstudy.report import save, study_data
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Fixed
from medstudy.resolution.sizes import Size, View
from medstudy.runs import inputs
from medstudy.runs import plan as runs_plan
from medstudy.statistics import mean_interval
from medstudy.training.train import loss_of
from medstudy.utils import redact
from medstudy.workflow import displays

PHANTOM_SEED = 2026
QUESTION_TOKENS, ANSWER_TOKENS = 30, 5  # of a question with its answer, where work is counted without a text
PROMPT_TOKENS = 30  # before and after the image
REPEATS = 3  # of a timed pass
CELLS = ["regime", "inference"]


def model(study: Study, regime: str) -> Family:
    """The model trained under a regime (first seed); the base model, with a notice, if there is none.

    Raises ParamsError for a regime that is not in the study.
    """
    study = study.each()[0]
    if displays.outline(study.model) is None:
        name = redact.last(study.model.id)
        print(f"The files of {name} are not on this machine. The base model of medstudy answers instead.")
        return models.load(Model())
    if regime == "base" or not study.trains:
        return models.load(study.model)
    name = runs_plan.job_name("train", study.model.label, f"{regime}-s{study.seeds[0]}")
    job = runs_plan.job(study, name)
    if not job.done:
        print(f"{name} has not been trained yet, so the base model answers. Train it: run_study, or")
        print(f"  python -m medstudy run PARAMS --only {name}")
        return models.load(study.model)
    print(f"The answers are those of {job.dir.name}.")
    return models.load(study.model, job.dir / "checkpoint", [rung.label for rung in study.inference])


def phantom(index: int) -> Example:
    """One test image of the phantom with its questions."""
    families = list(phantom_data.FAMILIES)
    return phantom_data.example(PHANTOM_SEED, "test", families[index % len(families)], index // len(families))


def loss(supply: ImageInputs, packed: PackedRow, example: Example, view: View) -> torch.Tensor:
    """The loss of a packed row about one image; see `training.train.loss_of`."""
    return loss_of(supply, Batch(packed, [supply(example.image, view)]))


def seconds(supply: ImageInputs, rows: Sequence[Row], example: Example, view: View) -> float:
    """Seconds for a forward and backward pass over rows about one image, one after the other: the best of `REPEATS`."""
    best = float("inf")
    for _ in range(REPEATS):
        supply.family.model.zero_grad()
        started = time.perf_counter()
        for row in rows:
            loss(supply, shared_prefix.pack(supply.family, [row]), example, view).backward()
        best = min(best, time.perf_counter() - started)
    return best


def work_saved(model: str, sides: Sequence[int], questions: Sequence[int]) -> pd.DataFrame:
    """Operations of separate sequences divided by those of one row: by number of questions and by image size."""
    family = models.sketch(Model(id=model))
    table = {}
    for side in sides:
        tokens = plan(Fixed(side=side), Size(side, side), family.geometry)[0].visual_tokens
        alone = _work(family, tokens, 1)
        table[f"{side}², {tokens} visual tokens"] = [n * alone / _work(family, tokens, n) for n in questions]
    return pd.DataFrame(table, index=pd.Index(questions, name="questions"))


def _work(family: Family, visual_tokens: int, questions: int) -> float:
    """Operations of one training pass over a row about one image."""
    layout = RowLayout((PROMPT_TOKENS + visual_tokens,), ((QUESTION_TOKENS,) * questions,))
    patches = (visual_tokens * family.shape.merge,)
    work = flops.RowWork(patches, len(layout), layout.pairs, ANSWER_TOKENS * questions)
    return flops.training_flops(family.shape, work)


def rows(images: int, questions: int, seeds: int) -> pd.DataFrame:
    """One row per image, question and seed, in that order, with all columns that `statistics` needs but the score."""
    names = ["image_id", "question_id", "seed"]
    frame = pd.MultiIndex.from_product(map(range, (images, questions, seeds)), names=names).to_frame(index=False)
    return frame.assign(dataset="simulated", group=frame["image_id"])


def coverage(hits: dict[str, np.ndarray]) -> pd.DataFrame:
    """How often the intervals contained the truth, in %, with the standard error of that percentage."""
    return pd.DataFrame({
        "covers (%)": {name: 100 * hit.mean() for name, hit in hits.items()},
        "± (%)": {name: 100 * (hit.mean() * (1 - hit.mean()) / len(hit)) ** 0.5 for name, hit in hits.items()},
    }).round(1)


def widths(study: Study) -> pd.DataFrame | str:
    """The width of the study's interval and of the naive one, in points, by regime, rung and data set.

    A sentence that states what to run if there are no scores.
    """
    study = study.each()[0]
    jobs = [job for job in runs_plan.plan(study) if job.stage == "scores"]
    if not all(job.done for job in jobs):
        return "This study has no scores yet. Run it: notebooks/explore/study.ipynb, or python -m medstudy run PARAMS"
    scores = inputs.gather(jobs, "scores.parquet", study_data.SCORES)
    plain = scores[(scores["control"] == "none") & (scores["split"] == "test")]
    table = []
    for (regime, rung, dataset), cell in plain.groupby([*CELLS, "dataset"], observed=True):
        interval = mean_interval(cell, confidence=study.intervals.confidence)
        naive = 2 * 1.96 * (interval.estimate * (1 - interval.estimate) / len(cell)) ** 0.5
        width = interval.high - interval.low
        table.append((regime, rung, dataset, len(cell), interval.n_images, interval.n_seeds, 100 * naive, 100 * width))
    columns = ["regime", "rung", "data set", "answers", "independent images", "seeds", "naive width", "width"]
    return pd.DataFrame(table, columns=columns).set_index(columns[:3]).round(1)


def data_sets(study: Study) -> list[str]:
    """The names of a study's data sets."""
    return list(map(label, study.datasets))


def claims(study: Study) -> pd.DataFrame:
    """The claims of a finished study, model by model. Raises RunError if it is not finished."""
    tables = [pd.read_csv(study_data.claims_file(part)).assign(model=part.model.label or redact.last(part.model.id))
              for part in study.each()]
    return pd.concat(tables, ignore_index=True)


def figures(study: Study) -> list[save.Rendered]:
    """The figures of a finished study in reading order, model by model. Raises RunError if it is not finished."""
    jobs = [job for part in study.each() for job in inputs.complete(inputs.by_stage(part)["figure"])]
    return [item for job in jobs for item in save.kept(job)]

"""The two jobs: `bounds` beside the scores of a study, and `probe`, which is a study of its own.

Both write answers.parquet (one row for each reader, training regime, rung and test question), marks.csv
(`medstudy.bounds.marks`) and unbounded.csv (tasks without a bound, and why) into the job's folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import pandas as pd
import torch

from medstudy.bounds import encoders, marks, questions, readings
from medstudy.bounds.ladder import ends, rungs
from medstudy.bounds.questions import Unit
from medstudy.bounds.readings import Eye
from medstudy.bounds.results import ANSWERS, MARKS, UNBOUNDED
from medstudy.data import arrow_store, splits
from medstudy.data.example import SPLITS, Example
from medstudy.data.reading_params import Bounds, Probe
from medstudy.errors import DataError
from medstudy.params import Study
from medstudy.resolution.policies import Single, Training
from medstudy.resolution.sizes import Geometry
from medstudy.runs.plan import Job
from medstudy.utils.progress import bar


def bounds(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Read each task at each rung, with readers fitted at that rung: what is there to be seen. Returns the answers."""
    encoder = encoders.load(study.model, study.interpolation, study.runs / ".cache" / "features")
    eyes = [readings.of_encoder(encoder), readings.of_pixels(study.interpolation)]
    pairs = [((rung,), rung) for rung in rungs(study)]
    return _read(study, job, study.bounded, eyes, encoder.geometry, pairs, progress)


def probe(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Read each task at each rung, with readers fitted at the views of each regime. Returns the answers."""
    encoder = encoders.load(study.model, study.interpolation, study.runs / ".cache" / "features")
    pairs = [(study.regimes, rung) for rung in rungs(study)]
    return _read(study, job, study.probe, [readings.of_encoder(encoder)], encoder.geometry, pairs, progress)


def examples(job: Job, settings: Bounds | Probe) -> dict[str, list[Example]]:
    """The images of each split, at most `settings.images` of each data set."""
    return {
        split: [example for folder in job.folders("data")
                for example in splits.capped(arrow_store.read(folder, split), settings.images, settings.seed)]
        for split in SPLITS
    }


def _read(
    study: Study, job: Job, settings: Bounds | Probe, eyes: Sequence[Eye], geometry: Geometry,
    pairs: Sequence[tuple[Sequence[Training], Single]], progress: bool,
) -> pd.DataFrame:
    """pairs: for each rung the training policies whose readers answer there."""
    torch.set_num_threads(1)
    units, unbounded = questions.units(examples(job, settings), settings)
    unbounded.to_csv(job.dir / UNBOUNDED, index=False)
    if not units and study.probe:
        raise DataError(
            "A probe needs a task with a finite set of answers, but no task of the study has one: "
            + "; ".join(f"{row.task} of {row.dataset}: {row.why}" for row in unbounded.itertuples())
            + ". Change `least`, `answers` or `images` under `probe`, or the data."
        )
    line = bar(job.name, "view", _views(units, eyes, pairs)) if progress else None
    tick = (lambda: line.update()) if line is not None else (lambda: None)
    rows = [*readings.guesses(units)]
    for eye in eyes:
        rows += _of_eye(eye, units, settings, geometry, pairs, tick)
    if line is not None:
        line.close()
    answers = readings.table(rows)
    answers.to_parquet(job.dir / ANSWERS)
    marks.marks(answers, *ends(study), study.intervals.confidence).to_csv(job.dir / MARKS, index=False)
    return answers


def _of_eye(
    eye: Eye, units: Sequence[Unit], settings: Bounds | Probe, geometry: Geometry,
    pairs: Sequence[tuple[Sequence[Training], Single]], tick: Callable[[], object],
) -> Iterator[dict]:
    """The rows of one eye; a policy's readers are fitted once, when first needed, and kept if needed again."""
    fitted: dict[str, list[readings.Fitted]] = {}
    for number, (policies, rung) in enumerate(pairs):
        for policy in policies:
            if policy.label not in fitted:
                shown = partial(readings.train_views, policy, geometry=geometry, draws=getattr(settings, "draws", 1),
                                seed=settings.seed)
                fitted[policy.label] = readings.fit(eye, units, shown, settings.penalties, tick)
        here = {policy.label: fitted[policy.label] for policy in policies}
        yield from readings.answer(eye, units, here, rung, geometry, tick)
        later = {policy.label for others, _ in pairs[number + 1 :] for policy in others}
        fitted = {label: readers for label, readers in fitted.items() if label in later}


def _views(units: Sequence[Unit], eyes: Sequence[Eye], pairs: Sequence[tuple[Sequence[Training], Single]]) -> int:
    """How often images are looked at, for the progress line."""
    images = {split: len({(each.example.dataset, each.example.image_id) for unit in units
                          for each in unit.asked[split]}) for split in SPLITS}
    policies = {policy.label for others, _ in pairs for policy in others}
    return len(eyes) * (len(policies) * (images["train"] + images["val"]) + len(pairs) * images["test"])

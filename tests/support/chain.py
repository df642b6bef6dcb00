"""One data set all the way: load, check, train, evaluate, score, figures and tables; with a very small model.

    done = chain.run(params, tiny_model, tmp_path)

Two regimes are trained for two steps each and both are evaluated at both resolutions. A data set without training
images is only evaluated on, with the model as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd

from medstudy import models
from medstudy.data import arrow_store
from medstudy.data.example import SPLITS, Example
from medstudy.datasets.build import build
from medstudy.engine.batches import train_and_val
from medstudy.engine.image_inputs import ImageInputs
from medstudy.evaluation import evaluate
from medstudy.params import Decoding, Model, Optimisation
from medstudy.report import figures, tables
from medstudy.report.save import Rendered
from medstudy.report.study_data import StudyData
from medstudy.resolution.policies import Fixed, Native
from medstudy.scoring import score
from medstudy.training import loop, train

POLICIES = (Fixed(side=56), Native(max_pixels=20_000))
OPTIONS = Optimisation(epochs=2, images_per_step=100, learning_rate=1e-3, validations=1)
STUDY = SimpleNamespace(
    interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=4, option_likelihoods=True)
)
FIGURES = ("01_native_sizes", "06_resolution_curves")
TABLES = ("01_data_sets", "02_tasks", "04_author_scores")


@dataclass(frozen=True)
class Done:
    """What each link made: examples by split, their table of questions, training logs, scores, and what was drawn."""

    examples: dict[str, list[Example]]
    questions: pd.DataFrame
    training: pd.DataFrame
    scores: pd.DataFrame
    drawn: list[Rendered]


def run(params, model: Model, folder: Path) -> Done:
    """The whole chain in `folder`; `params` are those of any data set in the registry."""
    questions = build(params, folder / "data")
    there = set(questions["split"])
    examples = {split: list(arrow_store.read(folder / "data", split)) if split in there else [] for split in SPLITS}
    logs, predictions = [], []
    for regime in POLICIES if examples["train"] else (None,):
        family = models.load(model)
        label = regime.label if regime else "base"
        if regime:
            log = fit(family, examples, regime, folder / label)
            logs.append(log.assign(run_id=label, regime=label, seed=0))
        for rung in POLICIES:
            seen = evaluate.predict(family, examples["test"], rung, STUDY)
            predictions.append(seen.assign(regime=label, seed=0, run_id=label, mismatch=regime != rung))
    logs = pd.concat(logs) if logs else pd.DataFrame()
    predictions = pd.concat(predictions, ignore_index=True)
    predictions.to_parquet(folder / "predictions.parquet")
    scores = score.score(pd.read_parquet(folder / "predictions.parquet"))
    drawn = draw(questions, logs, scores, folder / "figures")
    return Done(examples, questions, logs, scores, drawn)


def fit(family, examples: dict[str, list[Example]], regime, scratch: Path) -> pd.DataFrame:
    """A few steps of training, with a validation at the end."""
    supply = ImageInputs(family, STUDY.interpolation)
    batches, validation = train_and_val(supply, examples, regime, OPTIONS, 0)
    return loop.fit(family.model, batches, validation, OPTIONS, 0, scratch, partial(train.loss_of, supply))


def draw(questions: pd.DataFrame, logs: pd.DataFrame, scores: pd.DataFrame, folder: Path) -> list[Rendered]:
    """The figures and tables that a data set alone can fill."""
    about = {"name": "chain", "low": POLICIES[0].label, "resamples": 50}
    study = StudyData(scores, logs, questions.rename(columns={"question": "text"}), study=about)
    return [*figures.render_all(study, folder, FIGURES), *(tables.render(name, study, folder) for name in TABLES)]


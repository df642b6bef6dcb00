"""The data of a study that figures, tables, claims and pages are made from, gathered from its runs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from PIL import Image
from safetensors import safe_open

from medstudy import claims, datasets
from medstudy.bounds import results
from medstudy.data import arrow_store, leakage
from medstudy.data.encoded_image import Picture
from medstudy.params import Study
from medstudy.report.selections import regimes
from medstudy.runs import inputs, plan, record
from medstudy.runs.inputs import by_stage, complete
from medstudy.utils import redact

SCORES = (  # the columns of scores.parquet that claims, figures, tables and pages use
    "inference", "control", "budget_pixels", "dataset", "split", "image_id", "group", "family", "question_id", "task",
    "kind", "set_id", "tags", "modality", "anatomy", "answer", "localizations", "detail_px", "height", "width",
    "shown_height", "shown_width", "detail_height", "detail_width", "visual_tokens", "decoding", "scale",
    "interpolation", "raw_text", "render", "study", "model", "model_revision", "regime", "seed", "score", "author",
    "strict", "recall", "f1", "strict_recall", "strict_f1", "cell_line_hit", "strict_cell_line",
    "strict_localization_f1", "likelihood", "likelihood_norm", "answer_read", "answer_letter", "chance", "level",
    "coordinates", "frame", "thinking_tokens", "count_error", "within_one", "within_ten_pct", "point_hit", "point_f1",
    "iou", "box_f1", "rouge_l", "clinical_f1", "radgraph_f1", "ratescore", "unread",
)
COSTS = "costs.parquet"  # as `medstudy.evaluation.costs` names it, which needs torch
LEFT_OUT = "left_out.csv"  # as `medstudy.evaluation.left_out` names it
RETRIEVAL = "retrieval.parquet"  # of an evaluation of a contrastive encoder


@dataclass(frozen=True)
class StudyData:
    """Everything that the report of a study uses. Every table may be empty; what it would show is listed as not run.

    scores: `scoring.score(predictions)` of the greedy answers; author: of the sampled ones; letters: of the greedy ones
    to choices that are asked by letter as well.
    training: training.parquet. examples: one row per question. claims: claims.csv. leaks: `leakage.overview`.
    bounds: what readers of features and pixels find. costs: costs.parquet of the evaluations.
    retrieval: where a contrastive encoder's right captions and images stand; empty without such a model.
    images: (dataset, image_id) -> original image, only those that may be rendered.
    study: facts of the study, all optional: name, command, low (the regime that native is compared with), resamples (of
    the bootstrap), confidence (of intervals), seed, model, parameters (their number), training (its settings), as_is
    (nothing is trained), not_run (texts), no_claims (reasons by data set), data_versions, versions.
    """

    scores: pd.DataFrame
    training: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims: pd.DataFrame = field(default_factory=pd.DataFrame)
    images: Mapping[str, Image.Image | Picture] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    leaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    author: pd.DataFrame = field(default_factory=pd.DataFrame)
    letters: pd.DataFrame = field(default_factory=pd.DataFrame)
    bounds: results.Results = field(default_factory=results.Results)
    costs: pd.DataFrame = field(default_factory=pd.DataFrame)
    retrieval: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def leak_words(self) -> str:
        """The warning of every caption about images in both training and evaluation; empty if there are none."""
        sentences = leakage.sentences(self.leaks)
        return " ".join(line for lines in sentences.values() for line in lines)

    def why_missing(self, needs_training: bool) -> str:
        """Why a figure or table without rows is not made."""
        if self.as_is and needs_training:
            return "it needs training, and the study has no regimes"
        return "the study has no rows for it"

    @property
    def as_is(self) -> bool:
        """Whether nothing is trained: each model is evaluated as it is."""
        return bool(self.study.get("as_is", False))

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples of the intervals that are bootstrapped."""
        return int(self.study.get("resamples", 2000))

    @property
    def confidence(self) -> float:
        """Confidence level of every interval."""
        return float(self.study.get("confidence", 0.95))

    @property
    def low(self) -> str | None:
        """The low-resolution regime that native is compared with; by default the lowest fixed regime."""
        fixed = [r for r in regimes(self.scores) if r.startswith("fixed-")]
        return self.study.get("low") or (fixed[0] if fixed else None)


def study_data(study: Study, claimed: bool = True) -> StudyData:
    """Everything that figures and tables use. Raises RunError naming a job that is not complete.

    claimed: include the claims, which figures do not need.
    """
    stages = by_stage(study)
    images = {
        (example.dataset, example.image_id): example.image
        for job in complete(stages["data"])
        for example in arrow_store.read(job.dir, "test")
        if example.render
    }
    return StudyData(
        scores=inputs.gather(complete(stages["scores"]), "scores.parquet", SCORES),
        author=inputs.gather(complete(stages["scores"]), "author.parquet", SCORES),
        letters=inputs.gather(complete(stages["scores"]), "letters.parquet", SCORES),
        training=_training(stages),
        examples=inputs.gather(complete(stages["data"]), "questions.parquet").rename(columns={"question": "text"}),
        claims=pd.read_csv(claims_file(study)) if claimed else pd.DataFrame(),
        leaks=leaks(stages),
        bounds=results.read(job.dir for job in complete(stages["bounds"])),
        costs=costs_of(stages),
        retrieval=_retrieved(complete(stages["evaluate"])),
        images=images,
        study=_facts(study, stages),
    )


def _left_out(evaluations: list[plan.Job]) -> list[str]:
    """What a model cannot answer at all, a sentence for each data set and kind; the same at every rung."""
    files = [job.dir / LEFT_OUT for job in evaluations if (job.dir / LEFT_OUT).is_file()]
    rows = pd.concat([pd.read_csv(file) for file in files]).drop_duplicates() if files else pd.DataFrame()
    return [
        f"{row.left_out} of {row.questions} {row.kind} questions of {row.dataset}: the model cannot answer them, so "
        "they have no scores." for row in rows.itertuples()
    ]


def costs_of(stages: dict[str, list[plan.Job]]) -> pd.DataFrame:
    """The costs of every question (`medstudy.evaluation.costs`); without those of a made study, which asks no model."""
    kept = [job for job in complete(stages["evaluate"]) if (job.dir / COSTS).is_file()]
    return inputs.gather(kept, COSTS) if kept else pd.DataFrame()


def _training(stages: dict[str, list[plan.Job]]) -> pd.DataFrame:
    """The logs of all trainings; empty in a study without regimes."""
    jobs = complete(stages["train"])
    return inputs.gather(jobs, "training.parquet") if jobs else pd.DataFrame()


def _retrieved(evaluations: list[plan.Job]) -> pd.DataFrame:
    """retrieval.parquet of the evaluations that have one, with their regime and seed; empty if none has."""
    parts = [
        pd.read_parquet(job.dir / RETRIEVAL).assign(regime=job.parameters["regime"], seed=job.parameters["seed"])
        for job in evaluations if (job.dir / RETRIEVAL).is_file()
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def _facts(study: Study, stages: dict[str, list[plan.Job]]) -> dict:
    """Facts of the study for captions and pages."""
    return {
        "name": study.title,
        "command": f"python -m medstudy run params/{study.study}.yaml",
        "low": study.low,
        "resamples": study.intervals.resamples,
        "confidence": study.intervals.confidence,
        "seed": study.intervals.seed,
        **(_as_trained(study, stages["train"][0]) if study.trains else _as_is(stages)),
        "no_claims": datasets.without_claims(study.datasets),
        "not_run": _left_out(complete(stages["evaluate"])),
        "data_versions": {datasets.label(item): f"version {datasets.version(item)}" for item in study.datasets},
        "versions": record.versions(),
    } | ({} if study.model.id == "base" else {"model": redact.last(study.model.id)})


def _as_trained(study: Study, trained: plan.Job) -> dict:
    return {"parameters": _size(study, trained.dir / "checkpoint"), "training": study.training.model_dump()}


def _as_is(stages: dict[str, list[plan.Job]]) -> dict:
    """Of a model that is not trained: its number of weights, if they are here."""
    weights = _about(stages).get("weights")
    return {"as_is": True, "parameters": sum(weights.values()) if weights else None}


def _about(stages: dict[str, list[plan.Job]]) -> dict:
    """model.json of the check of a study's model."""
    return json.loads((complete(stages["base"])[0].dir / "model.json").read_text(encoding="utf-8"))


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
    """The claims for each data set of the study on which claims are tested, from scores and training logs."""
    stages = by_stage(study)
    training = _training(stages)
    names = {"low": study.low, "confidence": study.intervals.confidence}
    if not study.trains:
        names |= {"trained": False, "resamples": study.intervals.resamples} | _own_rung(_about(stages))
    notes = {name: " ".join(lines) for name, lines in leakage.sentences(leaks(stages)).items()}
    return claims.by_data_set(scores, training, datasets.with_claims(study.datasets), notes, **names)


def _own_rung(about: dict) -> dict[str, str | None]:
    """The rung at which a model as it is was trained, and who says so, as its check found them."""
    known = about.get("trained_on")
    if known is None:
        return {"own_rung": None, "own_why": "neither its stamp nor `model.trained_on` states it"}
    rungs = known["rungs"]
    if len(rungs) == 1:
        return {"own_rung": rungs[0], "own_why": f"{known['source']}: {known['words']}"}
    found = f"the rungs {' and '.join(rungs)} have it" if rungs else "no rung has it"
    return {"own_rung": None, "own_why": f"{known['source']}: {known['words']}, and {found}"}


def leaks(stages: dict[str, list[plan.Job]]) -> pd.DataFrame:
    """`leakage.overview` of the study."""
    return inputs.gather(complete(stages["leakage"]), "leaks.parquet")

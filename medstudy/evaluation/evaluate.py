"""Evaluation: a trained model at every rung of the inference ladder, by greedy generation in the author's prompt.

Each image is encoded once per rung: its prefix is cached once and all its questions are decoded from it together. The
tokens equal those of one-by-one `generate` (a test checks this). With `evaluation.author` the same cache also gives
the answers that the paper's first author would sample; controls are decoded greedily only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from medstudy import models, paths
from medstudy.data import arrow_store
from medstudy.data.example import GREEDY, Example
from medstudy.engine import crops
from medstudy.engine.batches import keyed_views, plan_views, shown_images, size_of
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ResolutionError
from medstudy.evaluation import sampling
from medstudy.evaluation.controls import control_of, swapped
from medstudy.evaluation.decode import decode, likelihoods
from medstudy.evaluation.passes import Passes
from medstudy.params import Author, Decoding, Study
from medstudy.resolution.plan import roundings, trained_on
from medstudy.resolution.policies import Control, Single
from medstudy.resolution.sizes import Geometry, Size, View, scale
from medstudy.runs.plan import Job, views_of
from medstudy.utils import redact
from medstudy.utils.progress import bar


def evaluate(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Predictions of one model at every rung and under the controls of its regime (`medstudy.runs.plan.views_of`).

    Writes one parquet file per rung to the run's scratch, so that a killed run resumes there, then predictions.parquet
    to `job.dir`. Returns the predictions, one row per question and rung.
    """
    torch.set_num_threads(1)
    trained = job.folders("train")
    rungs = [rung.label for rung in study.inference]
    family = models.load(study.model, trained[0] / "checkpoint" if trained else None, rungs)
    print("attention: {}, because {}".format(*family.attention))
    examples = arrow_store.read_all(job.folders("data"), "test")
    inputs = ImageInputs.of(study, family)
    policies = [*study.inference, *views_of(study, job.parameters["regime"])]
    line = bar(job.name, "image", len(examples) * len(policies)) if progress else None
    parts = []
    for policy in policies:
        part = paths.scratch(job.dir) / f"{policy.label}.parquet"
        if not part.is_file():
            frame = predict(family, examples, policy, study, line, inputs, job.parameters["seed"])
            with paths.atomic(part) as temporary:
                frame.to_parquet(temporary)
        elif line is not None:
            line.update(len(examples))
        parts.append(pd.read_parquet(part))
    if line is not None:
        line.close()
    columns = {
        "study": study.study,
        "run_id": job.dir.name,
        "model": study.model.label or redact.last(study.model.id),
        "model_revision": family.revision,
        "regime": job.parameters["regime"],
        "seed": job.parameters["seed"],
    }
    predictions = pd.concat(parts, ignore_index=True).assign(**columns)
    matched = trained_on(study.policy(job.parameters["regime"])) if trained else frozenset()
    predictions["mismatch"] = ~predictions["inference"].isin(matched)
    predictions.to_parquet(job.dir / "predictions.parquet")
    return predictions


def predict(
    family: Family, examples: Sequence[Example], policy: Single | Control, study: Study, line: tqdm | None = None,
    inputs: ImageInputs | None = None, seed: int = 0,
) -> pd.DataFrame:
    """The predictions under one policy: one row per question and decoding, with the image as shown, prompt and answer.

    The author's answers are drawn by seed, data set, image, question and rung alone.
    """
    inputs = inputs or ImageInputs(family, study.interpolation)
    crops.check(policy, examples)
    examples = [part for example in examples for part in crops.parts(policy, example)]
    sources = swapped(examples) if policy.policy == "shuffled" else list(examples)
    shown = [plan_views(policy, source, family.geometry)[0] for source in sources]
    _check(policy, sources, shown, family.geometry)
    rows: list[dict] = []
    author = study.evaluation.author if control_of(policy) == "none" else None
    draw = Draw(author, seed, policy.label) if author else None
    each = answers(inputs, examples, sources, shown, study.evaluation, study.workers, line, draw)
    for index, (greedy, option_scores, sampled) in each:
        image = family, examples[index], sources[index], shown[index]
        rows += _rows(*image, greedy, option_scores, policy, study, GREEDY)
        if sampled is not None:
            rows += _rows(*image, sampled, [[] for _ in sampled], policy, study, sampling.label(author.temperature))
    return pd.DataFrame(rows).sort_values(["dataset", "image_id", "question_id", "decoding"], ignore_index=True)


class Answers(NamedTuple):
    """The answers to an image's questions; a question whose options are not scored has an empty list."""

    greedy: list[str]
    option_scores: list[list[float]]  # log-likelihoods
    sampled: list[str] | None = None  # the author's


@dataclass(frozen=True)
class Draw:
    """The author's decoding, with random numbers that depend on seed, rung and question."""

    author: Author
    seed: int
    rung: str

    def sampler(self, examples: Sequence[Example]) -> sampling.Sampler:
        """Draws the answers to all questions of the examples, in order."""
        keys = tuple(sampling.key(self.seed, example.dataset, example.image_id, question.id, self.rung)
                     for example in examples for question in example.questions)
        return sampling.Sampler(self.author.temperature, self.author.max_new_tokens, keys)


@torch.inference_mode()
def answers(
    inputs: ImageInputs, examples: Sequence[Example], sources: Sequence[Example], shown: Sequence[View],
    options: Decoding, workers: int = 0, line: tqdm | None = None, draw: Draw | None = None,
) -> Iterator[tuple[int, Answers]]:
    """Yield (index of the example, its Answers), pass by pass. sources: the examples whose images are shown.

    With workers, images of the next passes are read while the model computes.
    """
    family = inputs.family
    passes = Passes(inputs, examples, sources, shown, options)
    if workers:
        each = (keyed_views(source, view).values() for source, view in zip(sources, shown, strict=True))
        inputs.prepare(view for views in each for view in views)
    loader = DataLoader(passes, batch_size=None, num_workers=workers, collate_fn=_same)
    for group, packed_questions, packed_options, images in loader:
        grids, reductions = packed_questions.grids.to(family.model.device), packed_questions.reductions
        seen = inputs.visual_tokens(images, grids, reductions)
        sampler = draw.sampler([examples[index] for index in group]) if draw else None
        greedy, drawn = decode(family, packed_questions, seen, options.max_new_tokens, sampler)
        # Branches stand image by image, question by question: each image takes its share from the front.
        greedy_texts, drawn_texts = (iter([family.text(tokens) for tokens in part]) for part in (greedy, drawn))
        scores = iter(() if packed_options is None else likelihoods(family, packed_options, seen).tolist())
        for index in group:
            questions = examples[index].questions
            texts = [next(greedy_texts) for _ in questions]
            option_scores = [list(islice(scores, len(question.options))) for question in questions]
            yield index, Answers(texts, option_scores, [next(drawn_texts) for _ in questions] if sampler else None)
        if line is not None:
            line.update(len(group))


def _same(content: tuple) -> tuple:
    """A pass as it is: the loader must not stack its parts."""
    return content


def _rows(
    family: Family, example: Example, source: Example, view: View, texts: Sequence[str],
    scored: Sequence[Sequence[float]], policy: Single | Control, study: Study, decoding: str,
) -> Iterator[dict]:
    """A prediction row for each question of an example, shown the image of `source`."""
    original = size_of(source)
    context = [
        f"{image.height}x{image.width} at {own.size.height}x{own.size.width}"
        for image, own in zip(source.images, view.context, strict=False) if view.visual_tokens
    ]
    several = {"crops": view.crop_counts} if view.crop_counts else {}
    for question, text, scores in zip(example.questions, texts, scored, strict=True):
        yield {
            "inference": policy.label, "control": control_of(policy), "budget_pixels": policy.budget,
            "dataset": example.dataset, "split": example.split, "image_id": example.image_id, "group": example.group,
            "family": example.family, "modality": example.modality, "anatomy": example.anatomy,
            "question_id": question.id, "task": question.task, "kind": question.kind,
            "set_id": question.set_id, "tags": list(question.tags), "format": question.format,
            "options": list(question.options), "answer": question.answer, "cell_line": question.cell_line,
            "localizations": list(question.localizations),
            "detail_px": float("nan") if question.detail_px is None else question.detail_px,
            "height": original.height, "width": original.width,
            "shown_height": view.size.height, "shown_width": view.size.width, "visual_tokens": view.all_tokens,
            "detail_height": view.detail.height, "detail_width": view.detail.width,
            "context_sizes": context, "decoding": decoding,
            "scale": scale(view.native(original), view.size), "interpolation": study.interpolation,
            **crop_columns(view), "um_per_px": float("nan") if source.um_per_px is None else source.um_per_px,
            "prompt": family.prompt(question, view.visual_tokens > 0, example.context, **several), "raw_text": text,
            "option_log_likelihoods": scores, "render": example.render,
        }


def crop_columns(view: View) -> dict[str, float | str | None]:
    """The columns of a prediction row about crops: how many, where they come from, and a single one's place."""
    crops_ = [part.crop for part in (view, *view.crops) if part.crop]
    place = crops_[0] if len(crops_) == 1 else (float("nan"),) * 4
    names = ("crop_top", "crop_left", "crop_height", "crop_width")
    return {"crops": len(crops_), "crop_source": view.source or None} | dict(zip(names, map(float, place), strict=True))


def _check(
    policy: Single | Control, examples: Sequence[Example], shown: Sequence[View], geometry: Geometry
) -> None:
    """Raise ResolutionError if a view exceeds its policy's budget: a limit without effect must not look like a result.

    The size shown may exceed the budget only up to one visual token or tile; the detail left of a larger image may not.
    A strip one visual token wide may exceed it if sizes are rounded as the processor does, which allows that.
    """
    processor_rounds = geometry.floats and "processor" in roundings(policy)
    views = (view for example, whole in zip(examples, shown, strict=True) for view in shown_images(example, whole))
    for name, image, view in views:
        detail = min(view.detail, view.native(Size(image.height, image.width)), key=lambda size: size.pixels)
        if processor_rounds and min(view.size) == geometry.factor:
            continue
        if view.size.pixels > max(policy.budget, geometry.factor**2) or detail.pixels > policy.budget:
            raise ResolutionError(
                f"Policy {policy.label} allows {policy.budget} pixels, but image {name} is shown at "
                f"{view.size.height}x{view.size.width} with the detail of {detail.height}x{detail.width}. This is a "
                "bug in the policy; report it."
            )

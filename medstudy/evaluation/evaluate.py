"""Evaluation: a trained model at every rung of the inference ladder, by greedy generation in the author's prompt.

Each image is encoded once a rung: its prefix is cached once and all its questions are decoded from it together. The
tokens equal those of one-by-one `generate` (a test checks this). With `evaluation.author` the same cache also gives
the answers that the paper's first author would sample; controls are decoded greedily only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from medstudy import models, paths
from medstudy.data import arrow_store
from medstudy.data.example import GREEDY, Example
from medstudy.engine.batches import pictured, planned, size_of, views_of
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import Supply
from medstudy.errors import ResolutionError
from medstudy.evaluation import sampling
from medstudy.evaluation.controls import control_of, swapped
from medstudy.evaluation.decode import decode, likelihoods
from medstudy.evaluation.passes import Passes
from medstudy.params import Decoding, Study
from medstudy.resolution.plan import roundings, trained_on
from medstudy.resolution.policies import Control, Single
from medstudy.resolution.sizes import Geometry, Shown, Size, scale
from medstudy.runs.plan import Job
from medstudy.utils import redact
from medstudy.utils.progress import bar


def evaluate(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Predictions of one model at every rung and, for the regime of the controls, under every control.

    Writes one parquet file a rung to the run's scratch, so that a killed run resumes there, then predictions.parquet to
    `job.dir`. Returns the predictions, one row a question and rung.
    """
    torch.set_num_threads(1)
    trained = job.folders("train")
    rungs = [rung.label for rung in study.inference]
    family = models.load(study.model, trained[0] / "checkpoint" if trained else None, rungs)
    print("attention: {}, because {}".format(*family.attention))
    examples = arrow_store.read_all(job.folders("data"), "test")
    supply = Supply.of(study, family)
    policies = [*study.inference, *(study.controls.views if job.parameters["controls"] else ())]
    line = bar(job.name, "image", len(examples) * len(policies)) if progress else None
    parts = []
    for policy in policies:
        part = paths.scratch(job.dir) / f"{policy.label}.parquet"
        if not part.is_file():
            frame = predict(family, examples, policy, study, line, supply, job.parameters["seed"])
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
    supply: Supply | None = None, seed: int = 0,
) -> pd.DataFrame:
    """The predictions under one policy: a row a question and decoding, with the image as shown, prompt and answer.

    The author's answers are drawn by seed, data set, image, question and rung alone.
    """
    supply = supply or Supply(family, study.interpolation)
    sources = swapped(examples) if policy.policy == "shuffled" else list(examples)
    shown = [planned(policy, source, family.geometry)[0] for source in sources]
    _check(policy, sources, shown, family.geometry)
    rows: list[dict] = []
    draw = Draw(seed, policy.label) if control_of(policy) == "none" else None
    for index, answers_ in decoded(supply, examples, sources, shown, study.evaluation, study.workers, line, draw):
        view = family, examples[index], sources[index], shown[index]
        rows += _rows(*view, answers_.said, answers_.scored, policy, study, GREEDY)
        if answers_.drawn is not None:
            drawn = sampling.label(study.evaluation.author.temperature)
            rows += _rows(*view, answers_.drawn, [[] for _ in answers_.drawn], policy, study, drawn)
    return pd.DataFrame(rows).sort_values(["dataset", "image_id", "question_id", "decoding"], ignore_index=True)


@dataclass(frozen=True)
class Draw:
    """Keys of the random numbers that draw the author's answers."""

    seed: int
    rung: str

    def keys(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """One key for every question of the examples, in order."""
        return tuple(sampling.key(self.seed, example.dataset, example.image_id, question.id, self.rung)
                     for example in examples for question in example.questions)


def answers(
    supply: Supply, examples: Sequence[Example], sources: Sequence[Example], shown: Sequence[Shown], options: Decoding,
) -> Iterator[tuple[int, tuple[list[str], list[list[float]]]]]:
    """Yield (index of the example, (greedy answer of each question, log-likelihoods of its options)), pass by pass."""
    for index, each in decoded(supply, examples, sources, shown, options):
        yield index, (each.said, each.scored)


@dataclass(frozen=True)
class Answers:
    """The answers to an image's questions: greedy answers, log-likelihoods of the options, the author's answers.

    A question whose options are not scored has an empty list; `drawn` is None if nothing is sampled.
    """

    said: list[str]
    scored: list[list[float]]
    drawn: list[str] | None = None


@torch.inference_mode()
def decoded(
    supply: Supply, examples: Sequence[Example], sources: Sequence[Example], shown: Sequence[Shown], options: Decoding,
    workers: int = 0, line: tqdm | None = None, draw: Draw | None = None,
) -> Iterator[tuple[int, Answers]]:
    """Yield (index of the example, its Answers), pass by pass; with `draw` and `options.author` the author's too.

    With workers, images of the next passes are read while the model computes.
    """
    family = supply.family
    passes = Passes(supply, examples, sources, shown, options)
    if workers:
        each = (views_of(source, view).values() for source, view in zip(sources, shown, strict=True))
        supply.prepare(view for views in each for view in views)
    loader = DataLoader(passes, batch_size=None, num_workers=workers, collate_fn=_same)
    for group, packed_questions, packed_options, images in loader:
        seen = supply.see(images, packed_questions.grids.to(family.model.device))
        sampler = _sampler(options, draw, [examples[index] for index in group])
        greedy, drawn = decode(family, packed_questions, seen, options.max_new_tokens, sampler)
        # Branches stand image by image, question by question: each image takes its share from the front.
        greedy_texts, drawn_texts = (iter([family.text(tokens) for tokens in part]) for part in (greedy, drawn))
        scores = iter(() if packed_options is None else likelihoods(family, packed_options, seen).tolist())
        for index in group:
            questions = examples[index].questions
            said = [next(greedy_texts) for _ in questions]
            scored = [list(islice(scores, len(question.options))) for question in questions]
            yield index, Answers(said, scored, [next(drawn_texts) for _ in questions] if sampler else None)
        if line is not None:
            line.update(len(group))


def _sampler(options: Decoding, draw: Draw | None, examples: Sequence[Example]) -> sampling.Sampler | None:
    author = options.author if draw else None
    return sampling.Sampler(author.temperature, author.max_new_tokens, draw.keys(examples)) if author else None


def _same(content: tuple) -> tuple:
    """A pass as it is: the loader must not stack its parts."""
    return content


def _rows(
    family: Family, example: Example, source: Example, view: Shown, texts: Sequence[str],
    scored: Sequence[Sequence[float]], policy: Single | Control, study: Study, decoding: str,
) -> Iterator[dict]:
    """A prediction row for each question of an example, shown the image of `source`."""
    original = size_of(source)
    context = [
        f"{image.height}x{image.width} at {own.size.height}x{own.size.width}"
        for _, image, own in pictured(source, view)[:-1]
    ]
    for question, text, scores in zip(example.questions, texts, scored, strict=True):
        yield {
            "inference": policy.label, "control": control_of(policy), "budget_pixels": policy.budget,
            "dataset": example.dataset, "split": example.split, "image_id": example.image_id, "group": example.group,
            "family": example.family, "modality": example.modality, "anatomy": example.anatomy,
            "question_id": question.id, "task": question.task, "kind": question.kind,
            "set_id": question.set_id, "tags": list(question.tags),
            "options": list(question.options), "answer": question.answer, "cell_line": question.cell_line,
            "localizations": list(question.localizations),
            "detail_px": float("nan") if question.detail_px is None else question.detail_px,
            "height": original.height, "width": original.width,
            "shown_height": view.size.height, "shown_width": view.size.width, "visual_tokens": view.all_tokens,
            "detail_height": view.detail.height, "detail_width": view.detail.width,
            "context_sizes": context, "decoding": decoding,
            "scale": scale(original, view.size), "interpolation": study.interpolation,
            "prompt": family.prompt(question, view.visual_tokens > 0, example.context), "raw_text": text,
            "option_log_likelihoods": scores, "render": example.render,
        }


def _check(
    policy: Single | Control, examples: Sequence[Example], shown: Sequence[Shown], geometry: Geometry
) -> None:
    """Raise ResolutionError if a view exceeds its policy's budget: a limit without effect must not look like a result.

    The size shown may exceed the budget only up to one visual token or tile; the detail left of a larger image may not.
    A strip one visual token wide may exceed it if sizes are rounded as the processor does, which allows that.
    """
    processor_rounds = geometry.floats and "processor" in roundings(policy)
    views = (view for example, whole in zip(examples, shown, strict=True) for view in pictured(example, whole))
    for name, image, view in views:
        detail = min(view.detail, Size(image.height, image.width), key=lambda size: size.pixels)
        if processor_rounds and min(view.size) == geometry.factor:
            continue
        if view.size.pixels > max(policy.budget, geometry.factor**2) or detail.pixels > policy.budget:
            raise ResolutionError(
                f"Policy {policy.label} allows {policy.budget} pixels, but image {name} is shown at "
                f"{view.size.height}x{view.size.width} with the detail of {detail.height}x{detail.width}. This is a "
                "bug in the policy; report it."
            )

"""Evaluation: one model at every rung of the inference ladder and under its controls, in the author's prompt.

Answers are greedy. With `evaluation.author` a model whose weights are here also gives the answers that the paper's
first author would sample; controls are answered greedily only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from tqdm import tqdm

from medstudy import paths
from medstudy.data import arrow_store, final_answer
from medstudy.data.example import GREEDY, Example
from medstudy.engine import crops
from medstudy.engine.batches import as_asked, plan_views, shown_images, size_of
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ResolutionError
from medstudy.evaluation import costs, kinds, left_out, own_box, sampling
from medstudy.evaluation.answerer import Answerer, Answers, Asked, Keeps, coordinates_of, thinking_tokens
from medstudy.evaluation.controls import control_of, swapped
from medstudy.evaluation.in_process import InProcess
from medstudy.params import Study
from medstudy.resolution.frames import Frame
from medstudy.resolution.plan import roundings, trained_on
from medstudy.resolution.policies import Control, Single
from medstudy.resolution.sizes import Geometry, Size, View, scale
from medstudy.runs.plan import Job, views_of
from medstudy.utils import redact
from medstudy.utils.progress import bar


def evaluate(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Predictions of one model at every rung and under the controls of its regime (`medstudy.runs.plan.views_of`).

    Writes parquet files of each rung to the run's scratch, so that a killed run resumes there, then predictions.parquet
    and costs.parquet (`medstudy.evaluation.costs`) to `job.dir`. Returns the predictions: a row per question and rung.
    """
    torch.set_num_threads(1)
    trained = job.folders("train")
    model = kinds.opened(study, trained[0] / "checkpoint" if trained else None)
    print(*(f"{name}: {value}" for name, value in model.about().items()), sep="\n")
    examples = arrow_store.read_all(job.folders("data"), "test")
    policies = [*study.inference, *views_of(study, job.parameters["regime"])]
    line = bar(job.name, "image", len(examples) * len(policies)) if progress else None
    parts, spent = [], []
    for policy in policies:
        part = paths.scratch(job.dir) / f"{policy.label}.parquet"
        spending = part.with_suffix(".costs")
        if not part.is_file():
            frame, cost = ask_with_costs(model, examples, policy, study, line, job.parameters["seed"])
            for table, file in ((cost, spending), (frame, part)):
                with paths.atomic(file) as temporary:
                    table.to_parquet(temporary)
        elif line is not None:
            line.update(len(examples))
        parts.append(pd.read_parquet(part))
        spent.append(pd.read_parquet(spending))
    if line is not None:
        line.close()
    if isinstance(model, Keeps):
        model.keep(job.dir, (asked(model, examples, policy, study) for policy in policies))
    columns = {
        "study": study.study,
        "run_id": job.dir.name,
        "model": study.model.label or redact.last(study.model.id),
        "model_revision": model.revision,
        "regime": job.parameters["regime"],
        "seed": job.parameters["seed"],
    }
    left_out.write(examples, parts[0], job.dir)
    predictions = pd.concat(parts, ignore_index=True).assign(**columns)
    matched = trained_on(study.policy(job.parameters["regime"])) if trained else frozenset()
    predictions["mismatch"] = ~predictions["inference"].isin(matched)
    predictions.to_parquet(job.dir / "predictions.parquet")
    about = {name: columns[name] for name in ("model", "regime", "seed")}
    pd.concat(spent, ignore_index=True).assign(**about).to_parquet(job.dir / costs.FILE)
    return predictions


def predict(
    family: Family, examples: Sequence[Example], policy: Single | Control, study: Study, line: tqdm | None = None,
    inputs: ImageInputs | None = None, seed: int = 0,
) -> pd.DataFrame:
    """What `ask` returns for a family's model."""
    return ask(InProcess(inputs or ImageInputs(family, study.interpolation)), examples, policy, study, line, seed)


def ask(
    model: Answerer, examples: Sequence[Example], policy: Single | Control, study: Study, line: tqdm | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """The predictions under one policy: one row per question and decoding, with the image as shown, prompt and answer.

    The author's answers are drawn by seed, data set, image, question and rung alone.
    """
    return ask_with_costs(model, examples, policy, study, line, seed)[0]


def ask_with_costs(
    model: Answerer, examples: Sequence[Example], policy: Single | Control, study: Study, line: tqdm | None = None,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`ask`, and the costs of each question (`costs.table`)."""
    put = asked(model, examples, policy, study, line, seed)
    rows: list[dict] = []
    spent: list[dict] = []
    for index, given in model.answers(put):
        image = model, put.originals[index], put.examples[index], put.sources[index], put.shown[index]
        greedy = _rows(*image, given.greedy, given.option_scores, policy, study, GREEDY)
        greedy = [row | columns for row, columns in zip(greedy, _answered(given, given.columns), strict=True)]
        rows += greedy
        known = [{name: row.get(name) for name in costs.COLUMNS} for row in greedy]
        spent += [row | cost for row, cost in zip(known, _answered(given, given.costs), strict=True)]
        if given.sampled is not None:
            decoding = sampling.label(study.evaluation.author.temperature)
            rows += _rows(*image, given.sampled, [[] for _ in given.sampled], policy, study, decoding)
    for row in rows:
        row["crop_text"] = put.said.get((row["dataset"], row["image_id"], row["question_id"]))
    order = ["dataset", "image_id", "question_id", "decoding"]
    return pd.DataFrame(rows).sort_values(order, ignore_index=True), costs.table(spent)


def _answered(given: Answers, each: Sequence[dict] | None) -> list[dict]:
    """What there is of each question, of those that were answered."""
    of_each = each or [{} for _ in given.greedy]
    return [own for text, own in zip(given.greedy, of_each, strict=True) if text is not None]


def asked(
    model: Answerer, examples: Sequence[Example], policy: Single | Control, study: Study, line: tqdm | None = None,
    seed: int = 0,
) -> Asked:
    """What a model is asked under one policy, with the views of all images.

    An example whose questions have different boxes is one for each box, where the policy crops around them.
    """
    crops.check(policy, examples)
    said: own_box.Said = {}
    if not policy.trains and policy.box == "own":
        examples, said = own_box.boxed(model, examples, policy, study.evaluation, study.workers)
    elif not policy.trains:
        examples = model.boxed(examples, policy)
    examples = [part for example in examples for part in crops.parts(policy, example)]
    sources = swapped(examples) if policy.policy == "shuffled" else list(examples)
    shown = [plan_views(policy, source, model.geometry)[0] for source in sources]
    _check(policy, sources, shown, model.geometry)
    forms = [as_asked(coordinates_of(model), example, view) for example, view in zip(examples, shown, strict=True)]
    return Asked(forms, sources, shown, policy, study.evaluation, examples, seed, study.workers, line, said)


def _rows(
    model: Answerer, example: Example, form: Example, source: Example, view: View, texts: Sequence[str | None],
    scored: Sequence[Sequence[float]], policy: Single | Control, study: Study, decoding: str,
) -> Iterator[dict]:
    """A prediction row for each answered question of an example, asked as in `form`, shown the image of `source`."""
    original = size_of(source)
    context = [
        f"{image.height}x{image.width} at {own.size.height}x{own.size.width}"
        for image, own in zip(source.images, view.context, strict=False) if view.visual_tokens
    ]
    frame = Frame.of(view, original)
    several = {"crops": view.crop_counts} if view.crop_counts else {}
    for question, put, text, scores in zip(example.questions, form.questions, texts, scored, strict=True):
        if text is None:
            continue
        prompt = model.prompt(put, view.visual_tokens > 0, example.context, **several)
        text = final_answer.opening(prompt) + text
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
            "coordinates": coordinates_of(model), "frame": frame.rectangle, "prompt": prompt, "raw_text": text,
            "thinking_tokens": thinking_tokens(model, final_answer.final(text).thinking),
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

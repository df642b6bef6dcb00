"""Evaluation: a trained model at every rung of the inference ladder, by greedy generation in the author's prompt.

Each image is encoded once a rung: its prefix is cached and all its questions are decoded from it together. The
tokens are those of one-by-one `generate` (a test holds them together).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from transformers import DynamicCache

from medstudy import models, prefix, views
from medstudy.datasets import store
from medstudy.errors import ResolutionError
from medstudy.params import Study
from medstudy.progress import bar
from medstudy.records import Example
from medstudy.resolution import Geometry, Shown, Size, plan, scale, trained_on


def evaluate(study: Study, job, progress: bool = True) -> pd.DataFrame:
    """Predictions of one model at every rung and, for the regime of the controls, under every control.

    Writes one parquet part a rung to the run's scratch, so that a killed run goes on where it was, then
    predictions.parquet to `job.dir`. Returns the predictions, one row a question and rung.
    """
    from medstudy import grid, paths

    torch.set_num_threads(1)
    trained = grid.needed(study, job, "train")
    family = models.load(study.model, trained[0].dir / "checkpoint" if trained else None)
    folders = [item.dir for item in grid.needed(study, job, "data")]
    examples = [example for folder in folders for example in store.read(folder, "test")]
    policies = [*study.inference, *(study.controls.views if job.parameters["controls"] else ())]
    line = bar(job.name, "image", len(examples) * len(policies)) if progress else None
    parts = []
    for policy in policies:
        part = paths.scratch(job.dir) / f"{policy.label}.parquet"
        if not part.is_file():
            frame = predict(family, examples, policy, study, line)
            with paths.atomic(part) as temporary:
                frame.to_parquet(temporary)
        elif line is not None:
            line.update(len(examples))
        parts.append(pd.read_parquet(part))
    if line is not None:
        line.close()
    about = {
        "study": study.study,
        "run_id": job.dir.name,
        "model": study.model.id,
        "model_revision": family.revision,
        "regime": job.parameters["regime"],
        "seed": job.parameters["seed"],
    }
    predictions = pd.concat(parts, ignore_index=True).assign(**about)
    seen = trained_on(study.policy(job.parameters["regime"])) if trained else frozenset()
    predictions["mismatch"] = ~predictions["inference"].isin(seen)
    predictions.to_parquet(job.dir / "predictions.parquet")
    return predictions


def predict(family, examples: Sequence[Example], policy, study: Study, line=None) -> pd.DataFrame:
    """One row a question: the record of what was shown, what was asked and what came back."""
    sources = _swapped(examples) if policy.policy == "shuffled" else list(examples)
    shown = [plan(policy, Size(one.image.height, one.image.width), family.geometry)[0] for one in sources]
    _check(policy, sources, shown, family.geometry)
    rows: list[dict] = []
    order = sorted(range(len(examples)), key=lambda index: (shown[index].visual_tokens, index))
    for batch in _chunks(order, study.evaluation.images_per_batch):
        seen = [(examples[index], sources[index], shown[index]) for index in batch]
        texts = answer(family, seen, study.interpolation, study.evaluation.max_new_tokens)
        for (example, source, view), answers in zip(seen, texts, strict=True):
            rows += _rows(family, example, source, view, answers, policy, study.interpolation)
        if line is not None:
            line.update(len(batch))
    return pd.DataFrame(rows).sort_values(["dataset", "image_id", "question_id"], ignore_index=True)


@torch.inference_mode()
def answer(
    family, seen: list[tuple[Example, Example, Shown]], interpolation: str, max_new_tokens: int
) -> list[list[str]]:
    """Greedy answers to all questions of a batch of images; `seen` holds (example asked, example shown, view)."""
    items = [prefix.row(family, asked.questions, shown, answered=False) for asked, _, shown in seen]
    cache, mask, after = _prefill(family, items, seen, interpolation)
    branches = [branch for item in items for branch in item.branches]
    counts = torch.tensor([len(item.branches) for item in items])
    cache.batch_select_indices(torch.arange(len(items)).repeat_interleave(counts))
    mask, after = mask.repeat_interleave(counts, 0), after.repeat_interleave(counts, 0)
    produced = _decode(family, cache, mask, after, branches, max_new_tokens)
    texts = iter([family.text(tokens) for tokens in produced])
    return [[next(texts) for _ in item.branches] for item in items]


def _prefill(family, items: list[prefix.Row], seen, interpolation: str):
    """Encode the prefixes, padded on the left: cache, mask [B, P], and the position [B] that follows each prefix."""
    length = max(len(item.prefix) for item in items)
    ids = torch.full((len(items), length), family.processor.tokenizer.pad_token_id)
    positions = torch.zeros((3, len(items), length), dtype=torch.long)
    mask = torch.zeros((len(items), length), dtype=torch.long)
    for index, item in enumerate(items):
        start = length - len(item.prefix)
        ids[index, start:] = torch.tensor(item.prefix)
        positions[:, index, start:] = family.positions(item.prefix, item.grid)
        mask[index, start:] = 1
    inputs = {"input_ids": ids, "position_ids": positions, "attention_mask": mask}
    pictured = [(source, shown) for _, source, shown in seen if shown.visual_tokens]
    if pictured:
        arrays = [views.render(source.image, shown, interpolation) for source, shown in pictured]
        inputs |= family.pixels(arrays, [shown.size for _, shown in pictured])
    cache = DynamicCache(config=family.model.config)
    family.model.model(**_to(inputs, family.model.device), past_key_values=cache, use_cache=True)
    return cache, mask, positions.amax((0, 2)) + 1


def _decode(family, cache, mask, after, branches: list[list[int]], limit: int) -> list[list[int]]:
    """Feed every branch (padded on the left), then take the most likely token until each has ended."""
    device, length = family.model.device, max(map(len, branches))
    pad = family.processor.tokenizer.pad_token_id
    ids = torch.tensor([[pad] * (length - len(branch)) + branch for branch in branches])
    own = torch.tensor([[0] * (length - len(branch)) + [1] * len(branch) for branch in branches])
    positions = (after[:, None] + own.cumsum(1) - 1).clamp(min=0)
    mask = torch.cat([mask, own], 1)
    produced: list[list[int]] = [[] for _ in branches]
    open_branches = torch.ones(len(branches), dtype=torch.bool)
    for _ in range(limit):
        hidden = family.model.model(
            input_ids=ids.to(device),
            position_ids=positions.expand(3, -1, -1).to(device),
            attention_mask=mask.to(device),
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1]
        token = family.model.lm_head(hidden).argmax(-1).cpu()
        open_branches &= token != family.end
        for index in open_branches.nonzero().flatten().tolist():
            produced[index].append(int(token[index]))
        if not open_branches.any():
            break
        ids, positions = token[:, None], positions[:, -1:] + 1
        mask = torch.cat([mask, torch.ones((len(branches), 1), dtype=mask.dtype)], 1)
    return produced


def _rows(family, example: Example, source: Example, view: Shown, answers: list[str], policy, interpolation: str):
    original = Size(source.image.height, source.image.width)
    control = policy.policy if policy.policy in ("down_up", "blind", "shuffled") else "none"
    for question, text in zip(example.questions, answers, strict=True):
        yield {
            "inference": policy.label, "control": control, "budget_pixels": policy.budget,
            "dataset": example.dataset, "split": example.split, "image_id": example.image_id, "group": example.group,
            "family": example.family, "modality": example.modality, "anatomy": example.anatomy,
            "question_id": question.id, "task": question.task, "kind": question.kind,
            "options": list(question.options), "answer": question.answer, "cell_line": question.cell_line,
            "localizations": list(question.localizations),
            "detail_px": float("nan") if question.detail_px is None else question.detail_px,
            "height": original.height, "width": original.width,
            "shown_height": view.size.height, "shown_width": view.size.width, "visual_tokens": view.visual_tokens,
            "scale": scale(original, view.size), "interpolation": interpolation,
            "prompt": family.prompt(question, view.visual_tokens > 0), "raw_text": text, "render": example.render,
        }  # fmt: skip


def _swapped(examples: Sequence[Example]) -> list[Example]:
    """For each example the next one of its family, so that prior and style stay and the image is another's."""
    kin: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        kin.setdefault(example.family, []).append(index)
    after = {index: places[(place + 1) % len(places)] for places in kin.values() for place, index in enumerate(places)}
    return [examples[after[index]] for index in range(len(examples))]


def _check(policy, examples: Sequence[Example], shown: list[Shown], geometry: Geometry) -> None:
    """Every view keeps its budget, up to one visual token: a limit that had no effect must not pass for a result."""
    for example, view in zip(examples, shown, strict=True):
        if view.size.pixels > max(policy.budget, geometry.factor**2):
            raise ResolutionError(
                f"Policy {policy.label} allows {policy.budget} pixels, but image {example.image_id} is shown at "
                f"{view.size.height}x{view.size.width}. This is a bug in the policy; report it."
            )


def _chunks(items: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _to(inputs: dict[str, torch.Tensor], device) -> dict[str, torch.Tensor]:
    return {name: tensor.to(device) for name, tensor in inputs.items()}

"""Evaluation: a trained model at every rung of the inference ladder, by greedy generation in the author's prompt.

Each image is encoded once a rung: its prefix is cached once and all its questions are decoded from it together. The
tokens are those of one-by-one `generate` (a test holds them together). With `evaluation.author` the same cache also
gives the answers that the paper's first author would sample; controls are asked greedily alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice

import pandas as pd
import torch
from torch.utils.data import DataLoader
from transformers import Cache

from medstudy import models, packing, paths, prefix, sampling
from medstudy.batches import name_of, pictured, planned, size_of, views_of
from medstudy.datasets import store
from medstudy.errors import DataError, ResolutionError
from medstudy.grid import Job
from medstudy.models import generation
from medstudy.params import Decoding, Study
from medstudy.progress import bar
from medstudy.records import GREEDY, LETTERS, Example, Question
from medstudy.resolution import Geometry, Shown, Size, roundings, scale, trained_on
from medstudy.supply import Supply


def evaluate(study: Study, job: Job, progress: bool = True) -> pd.DataFrame:
    """Predictions of one model at every rung and, for the regime of the controls, under every control.

    Writes one parquet part a rung to the run's scratch, so that a killed run goes on where it was, then
    predictions.parquet to `job.dir`. Returns the predictions, one row a question and rung.
    """
    torch.set_num_threads(1)
    trained = job.folders("train")
    rungs = [rung.label for rung in study.inference]
    family = models.load(study.model, trained[0] / "checkpoint" if trained else None, rungs)
    print("attention: {}, because {}".format(*family.attention))
    examples = store.read_all(job.folders("data"), "test")
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
    about = {
        "study": study.study,
        "run_id": job.dir.name,
        "model": study.model.label or paths.last(study.model.id),
        "model_revision": family.revision,
        "regime": job.parameters["regime"],
        "seed": job.parameters["seed"],
    }
    predictions = pd.concat(parts, ignore_index=True).assign(**about)
    seen = trained_on(study.policy(job.parameters["regime"])) if trained else frozenset()
    predictions["mismatch"] = ~predictions["inference"].isin(seen)
    predictions.to_parquet(job.dir / "predictions.parquet")
    return predictions


def predict(
    family, examples: Sequence[Example], policy, study: Study, line=None, supply=None, seed: int = 0
) -> pd.DataFrame:
    """One row a question and decoding: the record of what was shown, what was asked and what came back.

    The author's answers are drawn by seed, data set, image, question and rung, whatever is asked beside them.
    """
    supply = supply or Supply(family, study.interpolation)
    sources = swapped(examples) if policy.policy == "shuffled" else list(examples)
    shown = [planned(policy, one, family.geometry)[0] for one in sources]
    _check(policy, sources, shown, family.geometry)
    rows: list[dict] = []
    draw = Draw(seed, policy.label) if control_of(policy) == "none" else None
    for index, made in decoded(supply, examples, sources, shown, study.evaluation, study.workers, line, draw):
        about = family, examples[index], sources[index], shown[index]
        rows += _rows(*about, made.said, made.scored, policy, study, GREEDY)
        if made.drawn is not None:
            drawn = sampling.label(study.evaluation.author.temperature)
            rows += _rows(*about, made.drawn, [[] for _ in made.drawn], policy, study, drawn)
    return pd.DataFrame(rows).sort_values(["dataset", "image_id", "question_id", "decoding"], ignore_index=True)


def control_of(policy) -> str:
    """The control's name, or "none" for a rung."""
    return policy.policy if policy.policy in ("down_up", "blind", "shuffled") else "none"


@dataclass(frozen=True)
class Draw:
    """What the author's answers are drawn by, beside the names of the question."""

    seed: int
    rung: str

    def keys(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """One of every question of the examples, in order."""
        return tuple(sampling.key(self.seed, one.dataset, one.image_id, question.id, self.rung)
                     for one in examples for question in one.questions)  # fmt: skip


@dataclass(frozen=True)
class Passes:
    """Forward passes over images with all their questions, and where asked all their options; each computable alone."""

    supply: Supply
    examples: Sequence[Example]
    sources: Sequence[Example]  # whose image is shown
    shown: Sequence[Shown]
    options: Decoding

    @cached_property
    def groups(self) -> list[list[int]]:
        """The images of each pass, by index. Raises ResolutionError naming one that fits in none."""
        lengths = [len(asked) + (len(scored) if scored else 0) for asked, scored in self.rows]
        labels = [name_of(one, view) for one, view in zip(self.sources, self.shown, strict=True)]
        return packing.fill(lengths, self.options.tokens_per_pass, labels)

    @cached_property
    def rows(self) -> list[tuple[prefix.Row, prefix.Row | None]]:
        """See `row`, of every image."""
        return [self.row(index) for index in range(len(self.examples))]

    def row(self, index: int) -> tuple[prefix.Row, prefix.Row | None]:
        """An image's questions up to where an answer starts, and the options of its choices as answers."""
        family, example, view = self.supply.family, self.examples[index], self.shown[index]
        asked = prefix.row(family, example.questions, view, False, example.context)
        offered = options_of(example.questions) if self.options.option_likelihoods else ()
        return asked, prefix.row(family, offered, view, True, example.context) if offered else None

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> tuple[list[int], prefix.Packed, prefix.Packed | None, list[torch.Tensor]]:
        """The images of a pass, their packed questions, their packed options, and their pixels or features."""
        family, group = self.supply.family, self.groups[number]
        asked, scored = zip(*(self.rows[index] for index in group), strict=True)
        offered = None
        if any(scored):
            offered = prefix.pack(family, [row or _without(other) for row, other in zip(scored, asked, strict=True)])
        views = [one for index in group for one in pictured(self.sources[index], self.shown[index])]
        images = [self.supply(image, view) for _, image, view in views]
        return group, prefix.pack(family, asked), offered, images


def options_of(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Each option of each choice, as a question with that letter as its answer."""
    return tuple(
        replace(question, answer=letter)
        for question in questions
        for letter in LETTERS[: len(question.options)]
    )


def answers(supply: Supply, examples, sources, shown, options: Decoding, workers: int = 0, line=None):
    """Yield (index of the example, (greedy answer of each question, log-likelihoods of its options)), pass by pass."""
    for index, made in decoded(supply, examples, sources, shown, options, workers, line):
        yield index, (made.said, made.scored)


@dataclass(frozen=True)
class Answers:
    """Of each question of an image: its greedy answer, the log-likelihoods of its options, the author's answer.

    Options that are not scored have an empty list; `drawn` is None where nothing is sampled.
    """

    said: list[str]
    scored: list[list[float]]
    drawn: list[str] | None = None


@torch.inference_mode()
def decoded(
    supply: Supply, examples, sources, shown, options: Decoding, workers: int = 0, line=None, draw: Draw | None = None
):
    """Yield (index of the example, its Answers), pass by pass; the author's too given `draw` and `options.author`.

    With workers the next passes' images are read while the model works.
    """
    family = supply.family
    passes = Passes(supply, examples, sources, shown, options)
    if workers:
        every = (views_of(one, view).values() for one, view in zip(sources, shown, strict=True))
        supply.prepare(seen for views in every for seen in views)
    loader = DataLoader(passes, batch_size=None, num_workers=workers, collate_fn=_same)
    for group, asked, offered, images in loader:
        seen = supply.see(images, asked.grids.to(family.model.device))
        sampler = _sampler(options, draw, [examples[index] for index in group])
        greedy, drawn = decode(family, asked, seen, options.max_new_tokens, sampler)
        texts, others = (iter([family.text(tokens) for tokens in part]) for part in (greedy, drawn))
        scores = iter(likelihoods(family, offered, seen).tolist()) if offered is not None else iter(())
        for index in group:
            questions = examples[index].questions
            said = [next(texts) for _ in questions]
            scored = [list(islice(scores, len(question.options))) for question in questions]
            yield index, Answers(said, scored, [next(others) for _ in questions] if sampler else None)
        if line is not None:
            line.update(len(group))


def _sampler(options: Decoding, draw: Draw | None, examples: Sequence[Example]) -> sampling.Sampler | None:
    author = options.author if draw else None
    return sampling.Sampler(author.temperature, author.max_new_tokens, draw.keys(examples)) if author else None


def decode(
    family, packed: prefix.Packed, seen, limit: int, sampler: sampling.Sampler | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """The most likely tokens of every branch of a packed row, up to its end or `limit`, as `generate` finds them.

    And, with a sampler, those that it draws, else none. One pass fills a cache in which the prefix stands once; each
    kind of answer goes on from it.
    """
    if not family.shares_prefix:
        drawn = family.generated(packed, seen, sampler.limit, partial(sampling.Draws, sampler)) if sampler else []
        return family.generated(packed, seen, limit), drawn
    packed = packed.to(family.model.device)
    cache = family.cache()
    hidden = family.hidden(packed, seen, cache)[packed.last]
    greedy = _continued(family, packed, hidden, cache, limit)
    if sampler is None:
        return greedy, []
    if said := cache.get_seq_length() - packed.ids.shape[1]:
        cache.crop(-said)
    return greedy, _continued(family, packed, hidden, cache, sampler.limit, sampler)


def _continued(
    family, packed: prefix.Packed, hidden: torch.Tensor, cache: Cache, limit: int, sampler=None
) -> list[list[int]]:
    """The answers of all branches, which advance together: each new token looks at its image's prefix and its branch.

    hidden [Q, width]: at each branch's last place. A sampler takes the scores as they are; the most likely token is
    found after the checkpoint's generation config has changed them.
    """
    model, plan_ = family.model, packed.plan
    image, branch = (part.to(model.device) for part in (plan_.image, plan_.branch))
    images, branches = image[packed.last], torch.arange(len(packed.last), device=model.device)
    stood, positions = packed.positions[:, 0], packed.positions[:, 0, packed.last] + 1
    produced: list[list[int]] = [[] for _ in branches]
    ends = torch.tensor(family.ends, device=model.device)
    contexts = generation.contexts(packed)
    rules = None if sampler else family.rules(list(map(len, contexts)), limit)
    said = generation.aligned(contexts).to(model.device) if rules else None
    for step in range(limit):
        scores = model.lm_head(hidden)
        if sampler:
            tokens = sampler(scores, branches, step)
        else:
            tokens = (rules(said, branches, step, scores) if rules else scores).argmax(-1)
        going = torch.isin(tokens, ends, invert=True)
        said = torch.cat([said, tokens[:, None]], 1)[going] if rules else None
        tokens, images, branches, positions = tokens[going], images[going], branches[going], positions[:, going]
        for number, token in zip(branches.tolist(), tokens.tolist(), strict=True):
            produced[number].append(token)
        if step + 1 == limit or not len(tokens):
            break
        image, branch, stood = (
            torch.cat([image, images]), torch.cat([branch, branches]), torch.cat([stood, positions], 1)
        )  # fmt: skip
        mask = (images[:, None] == image) & ((branch == -1) | (branches[:, None] == branch))
        hidden = family.advance(tokens[None], positions[:, None], stood, mask[None, None], cache)
        positions = positions + 1
    return produced


def likelihoods(family, packed: prefix.Packed, seen) -> torch.Tensor:
    """[Q] log-likelihood of each branch's answer, its end included."""
    packed = packed.to(family.model.device)
    hidden = family.hidden(packed, seen)
    scores = family.model.lm_head(hidden[packed.at]).float().log_softmax(-1)
    picked = scores.gather(1, packed.targets[:, None])[:, 0]
    return torch.zeros(len(packed.last), device=picked.device).index_add_(0, packed.question, picked)


def _without(row: prefix.Row) -> prefix.Row:
    """A row's prefix alone."""
    return replace(row, branches=[], answers=[])


def _same(content):
    return content


def _rows(family, example: Example, source: Example, view: Shown, said, scored, policy, study: Study, decoding: str):
    original = size_of(source)
    context = [
        f"{image.height}x{image.width} at {seen.size.height}x{seen.size.width}"
        for _, image, seen in pictured(source, view)[:-1]
    ]
    for question, text, scores in zip(example.questions, said, scored, strict=True):
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
        }  # fmt: skip


def swapped(examples: Sequence[Example]) -> list[Example]:
    """For each example the next one of its family, so that prior and style stay and the image is another's.

    What stands before the image in the prompt stays. An only one of its family is shown the next image of all. Raises
    DataError where there is no other.
    """
    if len(examples) < 2:
        raise DataError(
            f"The control `shuffled` shows every question another image, but the test split has {len(examples)}. Raise "
            "its size in the params, or leave the control out."
        )
    kin: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        kin.setdefault(example.family, []).append(index)
    after = {index: places[(place + 1) % len(places)] for places in kin.values() for place, index in enumerate(places)}
    alone = {index for index, other in after.items() if index == other}
    others = [(index + 1) % len(examples) if index in alone else after[index] for index in range(len(examples))]
    return [replace(examples[other], context=one.context) for one, other in zip(examples, others, strict=True)]


def _check(policy, examples: Sequence[Example], shown: list[Shown], geometry: Geometry) -> None:
    """Every view keeps its budget: a limit that had no effect must not pass for a result.

    Up to one visual token or tile in what is shown, and to the pixel in the detail that is left of a larger image. A
    strip of one visual token may exceed it where sizes are the processor's, which lets it.
    """
    lets = geometry.floats and "processor" in roundings(policy)
    each = (one for example, whole in zip(examples, shown, strict=True) for one in pictured(example, whole))
    for name, image, view in each:
        left = min(view.detail, Size(image.height, image.width), key=lambda size: size.pixels)
        if lets and min(view.size) == geometry.factor:
            continue
        if view.size.pixels > max(policy.budget, geometry.factor**2) or left.pixels > policy.budget:
            raise ResolutionError(
                f"Policy {policy.label} allows {policy.budget} pixels, but image {name} is shown at "
                f"{view.size.height}x{view.size.width} with the detail of {left.height}x{left.width}. This is a bug in "
                "the policy; report it."
            )

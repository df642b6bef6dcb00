"""Evaluation: a trained model at every rung of the inference ladder, by greedy generation in the author's prompt.

Each image is encoded once a rung: its prefix is cached once and all its questions are decoded from it together. The
tokens equal those of one-by-one `generate` (a test checks this). With `evaluation.author` the same cache also gives
the answers that the paper's first author would sample; controls are decoded greedily only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import islice

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import Cache

from medstudy import models, packing, paths, prefix, redact, sampling
from medstudy.batches import name_of, pictured, planned, size_of, views_of
from medstudy.datasets import store
from medstudy.errors import DataError, ResolutionError
from medstudy.family_protocol import Family
from medstudy.grid import Job
from medstudy.models import generation
from medstudy.params import Decoding, Study
from medstudy.progress import bar
from medstudy.records import GREEDY, LETTERS, Example, Question
from medstudy.resolution import Control, Geometry, Shown, Single, Size, roundings, scale, trained_on
from medstudy.row_layout import Packed, Row, Seen
from medstudy.supply import Supply


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


def control_of(policy: Single | Control) -> str:
    """The control's name, or "none" for a rung."""
    return policy.policy if policy.policy in ("down_up", "blind", "shuffled") else "none"


@dataclass(frozen=True)
class Draw:
    """Keys of the random numbers that draw the author's answers."""

    seed: int
    rung: str

    def keys(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """One key for every question of the examples, in order."""
        return tuple(sampling.key(self.seed, example.dataset, example.image_id, question.id, self.rung)
                     for example in examples for question in example.questions)


@dataclass(frozen=True)
class Passes:
    """Forward passes over images with their questions and, if the study asks, their options; each computable alone."""

    supply: Supply
    examples: Sequence[Example]
    sources: Sequence[Example]  # the examples whose images are shown
    shown: Sequence[Shown]
    options: Decoding

    @cached_property
    def groups(self) -> list[list[int]]:
        """The images of each pass, by index. Raises ResolutionError naming an image that fits in no pass."""
        lengths = [len(questions) + (len(options) if options else 0) for questions, options in self.rows]
        labels = [name_of(source, view) for source, view in zip(self.sources, self.shown, strict=True)]
        return packing.fill(lengths, self.options.tokens_per_pass, labels)

    @cached_property
    def rows(self) -> list[tuple[Row, Row | None]]:
        """`row` of every image."""
        return [self.row(index) for index in range(len(self.examples))]

    def row(self, index: int) -> tuple[Row, Row | None]:
        """An image's questions up to where an answer starts, and its multiple-choice options as answers."""
        family, example, view = self.supply.family, self.examples[index], self.shown[index]
        questions = prefix.row(family, example.questions, view, False, example.context)
        options = options_of(example.questions) if self.options.option_likelihoods else ()
        return questions, prefix.row(family, options, view, True, example.context) if options else None

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, number: int) -> tuple[list[int], Packed, Packed | None, list[torch.Tensor]]:
        """The images of a pass, their packed questions, their packed options, and their pixels or features."""
        family, group = self.supply.family, self.groups[number]
        questions, options = zip(*(self.rows[index] for index in group), strict=True)
        packed_options = None
        if any(options):  # an image without options is a prefix without branches, so that both rows hold all images
            filled = [row or _without(other) for row, other in zip(options, questions, strict=True)]
            packed_options = prefix.pack(family, filled)
        views = [view for index in group for view in pictured(self.sources[index], self.shown[index])]
        images = [self.supply(image, view) for _, image, view in views]
        return group, prefix.pack(family, questions), packed_options, images


def options_of(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Each option of each multiple-choice question, as a question with that letter as its answer."""
    return tuple(
        replace(question, answer=letter)
        for question in questions
        for letter in LETTERS[: len(question.options)]
    )


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


def decode(
    family: Family, packed: Packed, seen: Seen | None, limit: int, sampler: sampling.Sampler | None = None
) -> tuple[list[list[int]], list[list[int]]]:
    """The most likely tokens of every branch of a packed row, up to its end or `limit`, as `generate` finds them.

    The second list holds the tokens that the sampler draws, none without a sampler. One pass fills a cache that holds
    the prefix once; both kinds of answer continue from it.
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
    if decoded_tokens := cache.get_seq_length() - packed.ids.shape[1]:
        cache.crop(-decoded_tokens)
    return greedy, _continued(family, packed, hidden, cache, sampler.limit, sampler)


def _continued(
    family: Family, packed: Packed, hidden: torch.Tensor, cache: Cache, limit: int,
    sampler: sampling.Sampler | None = None,
) -> list[list[int]]:
    """The answers of all branches, decoded together: each new token attends to its image's prefix and its own branch.

    hidden [Q, width]: at each branch's last place. A sampler takes the scores as they are; the most likely token is
    taken after the checkpoint's generation config has changed them.
    """
    model, layout = family.model, packed.plan
    # Image, branch and position of every token in the cache, and of every branch that still decodes.
    image, branch = (part.to(model.device) for part in (layout.image, layout.branch))
    images, branches = image[packed.last], torch.arange(len(packed.last), device=model.device)
    stood, positions = packed.positions[:, 0], packed.positions[:, 0, packed.last] + 1
    produced: list[list[int]] = [[] for _ in branches]
    ends = torch.tensor(family.ends, device=model.device)
    # The generation config's rules read all tokens of a sequence so far.
    contexts = generation.contexts(packed)
    rules = None if sampler else family.rules(list(map(len, contexts)), limit)
    sequences = generation.aligned(contexts).to(model.device) if rules else None
    for step in range(limit):
        scores = model.lm_head(hidden)
        if sampler:
            tokens = sampler(scores, branches, step)
        else:
            tokens = (rules(sequences, branches, step, scores) if rules else scores).argmax(-1)
        # Branches that ended leave.
        going = torch.isin(tokens, ends, invert=True)
        sequences = torch.cat([sequences, tokens[:, None]], 1)[going] if rules else None
        tokens, images, branches, positions = tokens[going], images[going], branches[going], positions[:, going]
        for number, token in zip(branches.tolist(), tokens.tolist(), strict=True):
            produced[number].append(token)
        if step + 1 == limit or not len(tokens):
            break
        # The new tokens enter the cache.
        image, branch = torch.cat([image, images]), torch.cat([branch, branches])
        stood = torch.cat([stood, positions], 1)
        mask = (images[:, None] == image) & ((branch == -1) | (branches[:, None] == branch))
        hidden = family.advance(tokens[None], positions[:, None], stood, mask[None, None], cache)
        positions = positions + 1
    return produced


def likelihoods(family: Family, packed: Packed, seen: Seen | None) -> torch.Tensor:
    """[Q] log-likelihood of each branch's answer, including its end token."""
    packed = packed.to(family.model.device)
    hidden = family.hidden(packed, seen)
    scores = family.model.lm_head(hidden[packed.at]).float().log_softmax(-1)
    picked = scores.gather(1, packed.targets[:, None])[:, 0]
    return torch.zeros(len(packed.last), device=picked.device).index_add_(0, packed.question, picked)


def _without(row: Row) -> Row:
    """A row's prefix, without branches."""
    return replace(row, branches=[], answers=[])


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


def swapped(examples: Sequence[Example]) -> list[Example]:
    """For each example the next one of its family, so that prior and style are kept but the image is a different one.

    The context before the image in the prompt is kept. The only example of a family is shown the next image of all.
    Raises DataError if there is no other image.
    """
    if len(examples) < 2:
        raise DataError(
            f"The control `shuffled` shows every question another image, but the test split has {len(examples)}. Raise "
            "its size in the params, or leave the control out."
        )
    families: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        families.setdefault(example.family, []).append(index)
    following = {}
    for members in families.values():
        for index, other in zip(members, [*members[1:], members[0]], strict=True):
            following[index] = other if len(members) > 1 else (index + 1) % len(examples)
    return [replace(examples[following[i]], context=example.context) for i, example in enumerate(examples)]


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

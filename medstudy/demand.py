"""What a study's jobs ask of a model: views, passes, floating-point operations. Integers from sizes and token counts.

No pixel is read and no weight is needed: the family is a sketch (`models.sketch`), and an example's image is anything
with a height and a width. The views are those of the jobs themselves (`FineTuning.seen`, the inference ladder), and so
is their packing into passes; a test holds the sums to what a training logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import pandas as pd

from medstudy import adapters, cost, models, packing, prefix
from medstudy.attention import Plan
from medstudy.batches import Seen, name_of, parts, size_of, validation_steps, view_of
from medstudy.evaluation import options_of, swapped
from medstudy.params import Study
from medstudy.records import Example, Question
from medstudy.resolution import Native, Shown, Size, check_effect, plan
from medstudy.supply import Supply, kept

_ANY = Size(64, 64)  # of an image whose questions are tokenised
_BLIND = Shown("", (), Size(0, 0), 0)


@dataclass(frozen=True)
class Text:
    """Tokens of an image's questions without the image: shared by all, then of each its prompt and its answer.

    shared: None where nothing is, and each question has the image in a sequence of its own.
    """

    shared: int | None
    prompts: tuple[int, ...]
    answers: tuple[int, ...]  # the end of the answer included

    def layout(self, standing: int, both: int = 0, answered: bool = True) -> Plan:
        """The row of one view as attention sees it, with the answers or up to where they start.

        standing: tokens that stand for the image; both: those of them that look at each other both ways.
        """
        ends = self.answers if answered else (0,) * len(self.prompts)
        branches = tuple(prompt + answer for prompt, answer in zip(self.prompts, ends, strict=True))
        if self.shared is None:
            return Plan((0,), (tuple(standing + branch for branch in branches),))
        return Plan((self.shared + standing,), (branches,), (((0, both),),) if both else ())


@dataclass(frozen=True)
class Pass:
    """One forward pass: `scores` are the places whose logits are computed."""

    tokens: int
    patches: int
    scores: int


@dataclass
class Demand:
    """A job's needs. turns: how often the layers run one after the other, passes and tokens decoded alike.

    flops: all of the job but the towers whose features are kept; training_flops: those that training.parquet logs.
    passes: of which the largest needs most memory. views: each view once, by image, for what is kept on the disk.
    """

    images: int = 0
    questions: int = 0
    visual_tokens: int = 0
    turns: int = 0
    flops: float = 0.0
    training_flops: float = 0.0
    passes: set[Pass] = field(default_factory=set)
    scored: set[Pass] = field(default_factory=set)  # evaluation: the passes over options
    views: dict[tuple, Shown] = field(default_factory=dict)

    def add(self, seen: Iterable[Seen], times: int = 1) -> None:
        """Count views that are shown `times`."""
        for example, shown in seen:
            self.images += times
            self.questions += times * len(example.questions)
            self.visual_tokens += times * shown.visual_tokens
            if shown.visual_tokens:
                self.views[view_of(example, shown)] = shown


def trainable(study: Study, device="meta"):
    """The sketch of the model as a training job prepares it, and its PeftModel, None without adapters."""
    family, options = models.sketch(study.model, device), study.training
    if options.freeze_vision_tower:
        family.freeze_tower()
    return family, adapters.add(family, options.lora) if options.lora else None


class Counter:
    """Counts what a study's jobs ask of `family`. Every image's questions are tokenised once."""

    def __init__(self, study: Study, family):
        self.study, self.family, self.stored = study, family, kept(study, family)
        self.shape, self.trained = family.shape, cost.Trained.of(family)
        self.texts: dict[tuple, Text] = {}
        self.works: dict[tuple, cost.Workload] = {}
        self.standing: dict[Size, int] = {}

    def training(self, data: dict[str, Sequence[Example]], policy, seed: int) -> Demand:
        """One regime and seed. data: the examples of train and val. Raises ResolutionError as the job itself would."""
        check_effect(policy, [size_of(example) for example in data["train"]], self.family.geometry)
        supply = Supply(self.family, self.study.interpolation)
        steps, validation = parts(supply, data, policy, self.study.training, seed)
        made = Demand(turns=len(steps))
        for step in range(len(steps)):
            seen = steps.seen(step)
            made.add(seen)
            made.training_flops += sum(self.training_flops(*view) for view in seen)
            made.passes.update(self._passes(seen, steps.options.tokens_per_pass))
        made.flops = made.training_flops
        times = len(validation_steps(len(steps), self.study.training.validations))
        for step in range(len(validation)):
            seen = validation.seen(step)
            passes = self._passes(seen, steps.options.tokens_per_pass)
            made.add(seen, times)
            made.turns += times * len(passes)
            made.flops += times * sum(self._forward(self.work(*view)) for view in seen)
        return made

    def evaluation(self, examples: Sequence[Example], policies: Sequence, length: int | None = None) -> Demand:
        """One model at every rung. length: tokens of every answer; None assumes those of its reference.

        An answer ends at max_new_tokens at the latest. Raises ResolutionError as the job itself would.
        """
        made = Demand()
        for policy in policies:
            sources = swapped(examples) if policy.policy == "shuffled" else examples
            shown = [plan(policy, size_of(one), self.family.geometry)[0] for one in sources]
            made.add((replace(source, questions=one.questions), view)
                     for one, source, view in zip(examples, sources, shown, strict=True))  # fmt: skip
            self._rung(made, examples, sources, shown, length)
        return made

    def training_flops(self, example: Example, shown: Shown) -> float:
        """Of a forward and backward pass over one view."""
        work = self.work(example, shown)
        return cost.training_flops(self.shape, work, self.trained, tower=not self.stored)

    def work(self, example: Example, shown: Shown) -> cost.Workload:
        """What one view with its questions and answers asks of the model in a forward pass."""
        name = (*_name(example), shown.visual_tokens, shown.size)
        if name not in self.works:
            text = self.text(example, shown)
            self.works[name] = self._workload(self.layout(text, shown), shown, sum(text.answers))
        return self.works[name]

    def layout(self, text: Text, shown: Shown, answered: bool = True) -> Plan:
        """The row of one view; see `Text.layout`."""
        if shown.size not in self.standing:
            self.standing[shown.size] = self.family.standing(shown)
        both = shown.visual_tokens if self.family.both_ways else 0
        return text.layout(self.standing[shown.size], both, answered)

    def patches(self, shown: Shown, questions: int = 1) -> tuple[int, ...]:
        """What the tower works on for a view: a number each time that it runs, none where no image is shown."""
        once = self.family.patch_counts(self.family.grid(shown.size)) if shown.visual_tokens else ()
        return once if self.family.shares_prefix else once * questions

    def text(self, example: Example, shown: Shown, offered: bool = False) -> Text:
        """The tokens of an image's questions; offered: of the options of its choices."""
        image = shown.visual_tokens > 0
        name = (*_name(example), image, offered)
        if name not in self.texts:
            asked = options_of(example.questions) if offered else example.questions
            self.texts[name] = self._text(asked, image) if asked else Text(0, (), ())
        return self.texts[name]

    def _rung(self, made: Demand, examples, sources, shown, length: int | None) -> None:
        options, lengths, counts = self.study.evaluation, [], []
        for example, view in zip(examples, shown, strict=True):
            text = self.text(example, view)
            asked = self.layout(text, view, answered=False)
            decoded, longest = _decoding(text, asked, length, options.max_new_tokens)
            work = self._workload(asked, view, len(text.prompts))
            made.flops += self._forward(work)
            made.flops += cost.language_flops(self.shape, decoded)
            offered = self.text(example, view, offered=True) if options.option_likelihoods else Text(0, (), ())
            scored = self.layout(offered, view) if offered.prompts else ()
            if scored:
                again = self._workload(scored, view, sum(offered.answers))
                made.flops += cost.language_flops(self.shape, again)
                made.flops += 0 if self.family.shares_prefix else sum(
                    cost.vision_flops(self.shape, patches) for patches in again.patches
                )
            lengths.append(len(asked) + len(scored))
            patches = sum(work.patches)
            counts.append((len(asked), patches, len(text.prompts), longest, len(scored), sum(offered.answers)))
        labels = [name_of(one, view) for one, view in zip(sources, shown, strict=True)]
        for group in packing.fill(lengths, options.tokens_per_pass, labels):
            columns = zip(*(counts[index] for index in group), strict=True)
            tokens, patches, questions, steps, offered, places = columns
            made.passes.add(Pass(sum(tokens), sum(patches), sum(questions)))
            made.turns += 1 + max(steps)
            if any(offered):
                made.scored.add(Pass(sum(offered), 0, sum(places)))
                made.turns += 1

    def _forward(self, work: cost.Workload) -> float:
        """Of a pass without gradients; the towers are left out when their features come from the disk."""
        towers = sum(cost.tower_flops(self.shape, patches) for patches in work.patches)
        return cost.forward_flops(self.shape, work) - towers * self.stored

    def _passes(self, seen: Sequence[Seen], budget: int) -> list[Pass]:
        works = [self.work(*view) for view in seen]
        groups = packing.fill([work.tokens for work in works], budget, [name_of(*view) for view in seen])
        return [
            Pass(*(sum(column) for column in zip(*(_needs(works[index]) for index in group), strict=True)))
            for group in groups
        ]

    def _workload(self, layout: Plan, shown: Shown, scores: int) -> cost.Workload:
        return cost.Workload(self.patches(shown, len(layout.branches[0])), len(layout), layout.pairs, scores)

    def _text(self, questions: tuple[Question, ...], image: bool) -> Text:
        view = Native(max_pixels=10**6).shown(_ANY, self.family.geometry) if image else _BLIND
        row, standing = prefix.row(self.family, questions, view, answered=True), self.family.standing(view)
        answers = tuple(len(branch) - start for branch, start in zip(row.branches, row.answers, strict=True))
        if not self.family.shares_prefix:
            return Text(None, tuple(start - standing for start in row.answers), answers)
        return Text(len(row.prefix) - standing, tuple(row.answers), answers)


def examples_of(table: pd.DataFrame, split: str) -> list[Example]:
    """The examples of a split of questions.parquet, in their order; each image is its size, the labels are left out."""
    made = []
    for image_id, rows in table[table["split"] == split].groupby("image_id", sort=False):
        asked = tuple(
            Question(row.question_id, row.question, row.answer, row.kind, row.task, tuple(row.options))
            for row in rows.itertuples()
        )
        first = rows.iloc[0]
        size = Size(int(first["height"]), int(first["width"]))
        about = {name: first[name] for name in ("dataset", "group", "family", "modality", "anatomy", "source")}
        made.append(Example(image_id, size, asked, split=split, render=False, license="", **about))
    return made


def _decoding(text: Text, asked: Plan, length: int | None, limit: int) -> tuple[cost.Workload, int]:
    """The tokens of all answers after their first, which the prefill gives; and how many the longest has of them."""
    counts = [min(length or answer, limit) - 1 for answer in text.answers]
    before = [asked.prefixes[0] + branch for branch in asked.branches[0]]
    pairs = sum(n * own + n * (n + 1) // 2 for n, own in zip(counts, before, strict=True))
    return cost.Workload((), sum(counts), pairs, sum(counts)), max(counts)


def _name(example: Example) -> tuple[str, str, str]:
    return example.dataset, example.split, example.image_id


def _needs(work: cost.Workload) -> tuple[int, int, int]:
    """What a view adds to its pass; see `Pass`."""
    return work.tokens, sum(work.patches), work.answers

"""What a study's jobs ask of a model: views, passes, floating-point operations. Integers from sizes and token counts.

No pixel is read and no weight is needed: the family is a sketch (`models.sketch`), and an example's image is anything
with a height and a width. The views are those of the jobs themselves (`FineTuning.seen`, the inference ladder), and so
is their packing into passes; a test holds the sums to what a training logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate
from typing import NamedTuple

import pandas as pd

from medstudy import batches, cost, models, packing, prefix
from medstudy.batches import Seen, name_of, parts, planned, sizes_of, validation_steps, views_of
from medstudy.evaluation import control_of, options_of, swapped
from medstudy.params import Optimisation, Study
from medstudy.records import Example, Question, Shot
from medstudy.resolution import Shown, Size, check_effect
from medstudy.row_layout import Plan
from medstudy.supply import Supply, kept
from medstudy.trainable import prepare


@dataclass(frozen=True)
class Text:
    """Tokens of an image's questions without the images: shared by all, then of each its prompt and its answer.

    shared: None where nothing is, and each question has the image in a sequence of its own.
    """

    shared: int | None
    prompts: tuple[int, ...]
    answers: tuple[int, ...]  # the end of the answer included

    def layout(self, standing: int, both: Sequence[int] = (), answered: bool = True) -> Plan:
        """The row of a view as attention sees it, with the answers or up to where they start.

        standing: tokens that stand for its images; both: of each image those that look at each other both ways.
        """
        ends = self.answers if answered else (0,) * len(self.prompts)
        branches = tuple(prompt + answer for prompt, answer in zip(self.prompts, ends, strict=True))
        if self.shared is None:
            return Plan((0,), (tuple(standing + branch for branch in branches),))
        ends = list(accumulate(both))
        runs = tuple(zip([0, *ends[:-1]], ends, strict=True)) if ends else ()
        return Plan((self.shared + standing,), (branches,), (runs,) if runs else ())


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
    _added: dict[tuple[int, int], Seen] = field(default_factory=dict, repr=False, compare=False)  # see `Held`

    def add(self, seen: Iterable[Seen], times: int = 1) -> None:
        """Count views that are shown `times`."""
        for example, shown in seen:
            self.images += times
            self.questions += times * len(example.questions)
            self.visual_tokens += times * shown.all_tokens
            if (name := (id(example), id(shown))) not in self._added:
                self._added[name] = example, shown
                self.views.update((name, view) for name, (_, view) in views_of(example, shown).items())

    def __add__(self, other: Demand) -> Demand:
        """Of both together."""
        made = {one.name: getattr(self, one.name) for one in fields(self)}
        return Demand(**{name: value | getattr(other, name) if isinstance(value, (set, dict)) else
                         value + getattr(other, name) for name, value in made.items()})  # fmt: skip


def trainable(study: Study, device="meta"):
    """The sketch of the model as a training job prepares it, and its PeftModel, None without adapters."""
    family = models.sketch(study.model, device)
    return family, prepare(family, study.training)


class Held(dict):
    """Numbers of objects by identity, which cost less than a hash of all that they hold.

    Each is held as long as this is, because an id is free again once its object is gone.
    """

    def number(self, thing: object) -> int:
        self[id(thing)] = thing
        return id(thing)


class View(NamedTuple):
    """A view with its questions and answers, in a training: a forward pass, what it adds to a `Pass`, FLOPs."""

    work: cost.Workload
    needs: tuple[int, int, int]
    flops: float


class Asked(NamedTuple):
    """A view with its questions, in an evaluation: FLOPs, tokens of its rows, and what they add to their passes."""

    flops: float
    tokens: int
    needs: tuple[int, int, int]
    longest: tuple[int, ...]  # of each decoding, the tokens of its longest answer after the first
    offered: tuple[int, int]  # tokens and places of the row of options


class Counter:
    """Counts what a study's jobs ask of `family`.

    Examples with the same questions are of one kind, and images of one size are shown as one view: what a kind asks
    at a view is counted once, however many examples there are.
    """

    def __init__(self, study: Study, family):
        self.study, self.family, self.stored = study, family, kept(study, family)
        self.shape, self.trained, self.geometry = family.shape, cost.Trained.of(family), family.geometry
        self.held = Held()
        self.kinds: dict[tuple, int] = {}
        self.kind_of: dict[int, int] = {}  # of examples, by identity
        self.texts: dict[tuple, Text] = {}
        self.views: dict[tuple, View] = {}
        self.asked: dict[tuple, Asked] = {}
        self.counted: dict[tuple[Size, ...], int] = {}

    def training(self, data: dict[str, Sequence[Example]], policy, seed: int) -> Demand:
        """One regime and seed. data: the examples of train and val. Raises ResolutionError as the job itself would."""
        check_effect(policy, [size for example in data["train"] for size in sizes_of(example)], self.geometry)
        supply = Supply(self.family, self.study.interpolation)
        steps, validation = parts(supply, data, policy, self.study.training, seed)
        made = Demand(turns=len(steps))
        for step in range(len(steps)):
            seen = steps.seen(step)
            made.add(seen)
            views = [self.view(*one) for one in seen]
            made.training_flops += sum(view.flops for view in views)
            made.passes.update(one for share in self._shares(seen, views, steps.options) for one in share)
        made.flops = made.training_flops
        times = len(validation_steps(len(steps), self.study.training.validations))
        for step in range(len(validation)):
            seen = validation.seen(step)
            made.add(seen, times)
            views = [self.view(*one) for one in seen]
            made.turns += times * max(map(len, self._shares(seen, views, steps.options)))
            made.flops += times * sum(self._forward(view.work) for view in views)
        return made

    def evaluation(self, examples: Sequence[Example], policies: Sequence, length: int | None = None) -> Demand:
        """One model at every rung. length: tokens of every answer; None assumes those of its reference.

        An answer ends at max_new_tokens at the latest. Raises ResolutionError as the job itself would.
        """
        made = Demand()
        for policy in policies:
            sources = swapped(examples) if policy.policy == "shuffled" else examples
            shown = [planned(policy, one, self.geometry)[0] for one in sources]
            made.add(zip(sources, shown, strict=True))
            author = self.study.evaluation.author if control_of(policy) == "none" else None
            self._rung(made, examples, sources, shown, length, author.max_new_tokens if author else None)
        made.questions = len(policies) * sum(len(one.questions) for one in examples)  # a swapped image's are not asked
        return made

    def training_flops(self, example: Example, shown: Shown) -> float:
        """Of a forward and backward pass over one view."""
        return self.view(example, shown).flops

    def work(self, example: Example, shown: Shown) -> cost.Workload:
        """What one view with its questions and answers asks of the model in a forward pass."""
        return self.view(example, shown).work

    def view(self, example: Example, shown: Shown) -> View:
        """One view in a training."""
        name = self.kind(example), self.held.number(shown)
        if name not in self.views:
            text = self.text(example, shown)
            work = self._workload(self.layout(text, shown), shown, sum(text.answers))
            flops = cost.training_flops(self.shape, work, self.trained, tower=not self.stored)
            self.views[name] = View(work, (work.tokens, sum(work.patches), work.answers), flops)
        return self.views[name]

    def kind(self, example: Example) -> int:
        """The number of all examples that ask the same after the same context."""
        if (place := id(example)) not in self.kind_of:
            self.held.number(example)
            said = tuple((question.text, question.answer, question.options) for question in example.questions)
            name = said, tuple((shot.question, shot.answer) for shot in example.context)
            self.kind_of[place] = self.kinds.setdefault(name, len(self.kinds))
        return self.kind_of[place]

    def layout(self, text: Text, shown: Shown, answered: bool = True) -> Plan:
        """The row of one view; see `Text.layout`."""
        both = [view.visual_tokens for view in shown.views] if self.family.both_ways else ()
        return text.layout(self.standing(shown), both, answered)

    def standing(self, shown: Shown) -> int:
        """The tokens that stand for the images of a view, with those that mark them."""
        sizes = tuple(view.size for view in shown.views)
        if sizes not in self.counted:
            self.counted[sizes] = self.family.standing(shown)
        return self.counted[sizes]

    def patches(self, shown: Shown, questions: int = 1) -> tuple[int, ...]:
        """What the tower works on for a view: a number each time that it runs, none where no image is shown."""
        each = (self.family.patch_counts(self.family.grid(view.size)) for view in shown.views)
        once = tuple(count for counts in each for count in counts)
        return once if self.family.shares_prefix else once * questions

    def text(self, example: Example, shown: Shown, offered: bool = False) -> Text:
        """The tokens of an image's questions; offered: of the options of its choices."""
        name = self.kind(example), shown.visual_tokens > 0, offered
        if name not in self.texts:
            asked = options_of(example.questions) if offered else example.questions
            self.texts[name] = self._text(asked, example, shown) if asked else Text(0, (), ())
        return self.texts[name]

    def _rung(self, made: Demand, examples, sources, shown, length: int | None, drawn: int | None) -> None:
        """drawn: the limit of the author's answers, where they are sampled beside the greedy ones."""
        budget, limits = self.study.evaluation.tokens_per_pass, (self.study.evaluation.max_new_tokens, drawn)
        counts = [self._asked(example, view, length, limits) for example, view in zip(examples, shown, strict=True)]
        made.flops += sum(one.flops for one in counts)
        labels = Names(list(zip(sources, shown, strict=True)))
        for group in packing.fill([one.tokens for one in counts], budget, labels):
            some = [counts[index] for index in group]
            made.passes.add(Pass(*_sums(one.needs for one in some)))
            made.turns += 1 + sum(map(max, zip(*(one.longest for one in some), strict=True)))
            offered, places = _sums(one.offered for one in some)
            if offered:
                made.scored.add(Pass(offered, 0, places))
                made.turns += 1

    def _asked(self, example: Example, shown: Shown, length: int | None, limits: tuple[int | None, ...]) -> Asked:
        """One view in an evaluation. limits: of each decoding the most new tokens; None where it is not asked for."""
        name = self.kind(example), self.held.number(shown), length, limits
        if name not in self.asked:
            self.asked[name] = self._count(example, shown, length, [limit for limit in limits if limit])
        return self.asked[name]

    def _count(self, example: Example, shown: Shown, length: int | None, limits: Sequence[int]) -> Asked:
        text = self.text(example, shown)
        asked = self.layout(text, shown, answered=False)
        work = self._workload(asked, shown, len(text.prompts))
        decoded, longest = zip(*(_decoding(text, asked, length, limit) for limit in limits), strict=True)
        flops = self._forward(work) + sum(cost.language_flops(self.shape, one) for one in decoded)
        likely = self.study.evaluation.option_likelihoods
        offered = self.text(example, shown, offered=True) if likely else Text(0, (), ())
        scored = self.layout(offered, shown) if offered.prompts else ()
        if scored:
            again = self._workload(scored, shown, sum(offered.answers))
            flops += cost.language_flops(self.shape, again)
            if not self.family.shares_prefix:
                flops += sum(cost.vision_flops(self.shape, patches) for patches in again.patches)
        needs = len(asked), sum(work.patches), len(text.prompts)
        return Asked(flops, len(asked) + len(scored), needs, longest, (len(scored), sum(offered.answers)))

    def _forward(self, work: cost.Workload) -> float:
        """Of a pass without gradients; the towers are left out when their features come from the disk."""
        towers = sum(cost.tower_flops(self.shape, patches) for patches in work.patches)
        return cost.forward_flops(self.shape, work) - towers * self.stored

    def _shares(self, seen: Sequence[Seen], views: Sequence[View], options: Optimisation) -> list[list[Pass]]:
        """The passes of each process of a training."""
        needs = [view.needs for view in views]
        lengths, budget = [tokens for tokens, _, _ in needs], options.tokens_per_pass
        if options.processes == 1 and sum(lengths) <= budget:  # most steps are one pass: there is nothing to divide
            return [[Pass(*_sums(needs))]]
        costs = [view.flops for view in views]
        shares = batches.passes(lengths, budget, Names(seen), options.processes, costs)
        return [[Pass(*_sums(needs[index] for index in group)) for group in groups] for groups in shares]

    def _workload(self, layout: Plan, shown: Shown, scores: int) -> cost.Workload:
        return cost.Workload(self.patches(shown, len(layout.branches[0])), len(layout), layout.pairs, scores)

    def _text(self, questions: tuple[Question, ...], example: Example, shown: Shown) -> Text:
        row, standing = prefix.row(self.family, questions, shown, True, example.context), self.standing(shown)
        answers = tuple(len(branch) - start for branch, start in zip(row.branches, row.answers, strict=True))
        if not self.family.shares_prefix:
            return Text(None, tuple(start - standing for start in row.answers), answers)
        return Text(len(row.prefix) - standing, tuple(row.answers), answers)


class Names(Sequence[str]):
    """How errors name views (`name_of`): few are asked for."""

    def __init__(self, seen: Sequence[Seen]):
        self.seen = seen

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, index: int) -> str:
        return name_of(*self.seen[index])


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
        context = tuple(Shot(Size(shot["height"], shot["width"]), shot["question"], shot["answer"])
                        for shot in first["context"])  # fmt: skip
        about = {name: first[name] for name in ("dataset", "group", "family", "modality", "anatomy", "source")}
        about |= {"split": split, "render": False, "license": "", "context": context}
        made.append(Example(image_id, size, asked, **about))
    return made


def _decoding(text: Text, asked: Plan, length: int | None, limit: int) -> tuple[cost.Workload, int]:
    """The tokens of all answers after their first, which the prefill gives; and how many the longest has of them."""
    counts = [min(length or answer, limit) - 1 for answer in text.answers]
    before = [asked.prefixes[0] + branch for branch in asked.branches[0]]
    pairs = sum(n * own + n * (n + 1) // 2 for n, own in zip(counts, before, strict=True))
    return cost.Workload((), sum(counts), pairs, sum(counts)), max(counts)


def _sums(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Of each column."""
    return tuple(map(sum, zip(*rows, strict=True)))

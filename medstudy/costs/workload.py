"""The work of a study's jobs: views, passes, floating-point operations. Integers from sizes and token counts.

No pixel is read and no weight is loaded: the family is a sketch (`models.sketch`), and an example's image is anything
with a height and a width. Views and their packing into passes come from the same functions as in the jobs themselves
(`FineTuning.seen`, the inference ladder); a test compares the sums with what a training logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from math import isqrt
from typing import TYPE_CHECKING, NamedTuple

import torch

from medstudy import models
from medstudy.costs.job_workload import JobWorkload, Pass, QuestionTokens
from medstudy.data.example import Example, Question
from medstudy.engine import batches, bin_packing, crops, shared_prefix
from medstudy.engine.batches import (
    ExampleView,
    as_asked,
    plan_views,
    sizes_of,
    train_and_val,
    validation_steps,
    view_name,
)
from medstudy.engine.flops import (
    RowWork,
    TrainedParts,
    forward_flops,
    language_flops,
    tower_flops,
    training_flops,
    vision_flops,
)
from medstudy.engine.image_inputs import ImageInputs, caches_features
from medstudy.engine.row_layout import RowLayout
from medstudy.evaluation.controls import control_of, swapped
from medstudy.evaluation.passes import options_of
from medstudy.models.family import Family
from medstudy.params import Optimisation, Study
from medstudy.resolution.plan import check_effect
from medstudy.resolution.policies import Control, Fixed, Training
from medstudy.resolution.sizes import Size, View
from medstudy.training.setup import prepare

if TYPE_CHECKING:
    from peft import PeftModel  # slow to import


NO_TOKENS = QuestionTokens(0, (), ())


def trainable(study: Study, device: torch.device | str = "meta") -> tuple[Family, PeftModel | None]:
    """The sketch of the model as a training job prepares it, and its PeftModel (None without adapters).

    In a study without regimes the model stays as it is.
    """
    family = models.sketch(study.model, device)
    return family, prepare(family, study.training) if study.training else None


class Identities(dict):
    """Numbers objects by identity, which is cheaper than hashing their content.

    It keeps every object alive, because Python reuses the id of a deleted object.
    """

    def number(self, item: object) -> int:
        self[id(item)] = item
        return id(item)


class TrainingView(NamedTuple):
    """A view with its questions and answers in a training: its forward pass, its part of a `Pass`, its FLOPs."""

    work: RowWork
    needs: tuple[int, int, int]
    flops: float


class EvaluationView(NamedTuple):
    """A view with its questions in an evaluation: its FLOPs, the tokens of its rows, its part of a `Pass`."""

    flops: float
    tokens: int
    needs: tuple[int, int, int]
    longest: tuple[int, ...]  # for each decoding, the tokens of its longest answer without the first token
    offered: tuple[int, int]  # tokens and scored positions of the row of options


class Counter:
    """Counts the work of a study's jobs with `family`.

    Examples with the same questions are of one kind, and images of one size share one view. Each pair of kind and view
    is counted once, whatever the number of examples.
    """

    def __init__(self, study: Study, family: Family):
        self.study, self.family, self.stored = study, family, caches_features(study, family)
        self.shape, self.trained, self.geometry = family.shape, TrainedParts.of(family), family.geometry
        self.identities = Identities()
        # Caches: kinds of examples, tokens of questions, views by work, tokens that stand for images by sizes
        self.kinds: dict[tuple, int] = {}
        self.kind_of: dict[int, int] = {}  # of an example, by its identity
        self.question_tokens: dict[tuple, QuestionTokens] = {}
        self.training_views: dict[tuple, TrainingView] = {}
        self.evaluation_views: dict[tuple, EvaluationView] = {}
        self.image_lengths: dict[tuple[tuple[Size, int], ...], int] = {}

    def training(self, data: dict[str, Sequence[Example]], policy: Training, seed: int) -> JobWorkload:
        """One regime and seed. data: the examples of train and val. Raises ResolutionError as the job itself would."""
        check_effect(policy, [size for example in data["train"] for size in sizes_of(example)], self.geometry)
        crops.check(policy, data["train"])
        inputs = ImageInputs(self.family, self.study.interpolation)
        steps, validation = train_and_val(inputs, data, policy, self.study.training, seed, cost=self.training_flops)
        total = JobWorkload(turns=len(steps))
        # Training steps: forward and backward
        for step in range(len(steps)):
            seen = steps.views(step)
            total.add(seen)
            views = [self.view(*pair) for pair in seen]
            total.training_flops += sum(view.flops for view in views)
            total.passes.update(work for share in self._shares(seen, views, steps.options) for work in share)
        total.flops = total.training_flops
        # Validations: forward only, the same passes each time
        times = len(validation_steps(len(steps), self.study.training.validations))
        for step in range(len(validation)):
            seen = validation.views(step)
            total.add(seen, times)
            views = [self.view(*pair) for pair in seen]
            total.turns += times * max(map(len, self._shares(seen, views, steps.options)))
            total.flops += times * sum(self._forward(view.work) for view in views)
        return total

    def evaluation(
        self, examples: Sequence[Example], policies: Sequence[Training | Control], length: int | None = None
    ) -> JobWorkload:
        """One model at every rung. length: tokens of every answer; None takes the length of each reference.

        No answer exceeds max_new_tokens. Raises ResolutionError as the job itself would.
        """
        total = JobWorkload()
        for policy in policies:
            # The shuffled control shows each example another example's image
            crops.check(policy, examples)
            if not policy.trains:  # the pass in which the model finds the boxes, as one over the overview alone
                first = Fixed(side=isqrt(policy.budget // 2), rounding=policy.rounding)
                shown = [plan_views(first, example, self.geometry)[0] for example in examples]
                total.add(zip(examples, shown, strict=True))
                self._rung(total, examples, examples, shown, policy.first_tokens, None)
            asked = [part for example in crops.assumed(policy, examples) for part in crops.parts(policy, example)]
            sources = swapped(asked) if policy.policy == "shuffled" else asked
            shown = [plan_views(policy, source, self.geometry)[0] for source in sources]
            total.add(zip(sources, shown, strict=True))
            # Controls have no sampled answers
            author = self.study.evaluation.author if control_of(policy) == "none" else None
            self._rung(total, asked, sources, shown, length, author.max_new_tokens if author else None)
        # `add` counted the questions of the sources; those of the examples are asked
        total.questions = len(policies) * sum(len(example.questions) for example in examples)
        return total

    def training_flops(self, example: Example, shown: View) -> float:
        """FLOPs of a forward and backward pass over one view."""
        return self.view(example, shown).flops

    def work(self, example: Example, shown: View) -> RowWork:
        """The forward pass over one view with its questions and answers."""
        return self.view(example, shown).work

    def view(self, example: Example, shown: View) -> TrainingView:
        """One view in a training."""
        key = self.kind(example), self.identities.number(shown)
        if key not in self.training_views:
            tokens = self.tokens(example, shown)
            work = self._workload(self.layout(tokens, shown), shown, sum(tokens.answers))
            flops = training_flops(self.shape, work, self.trained, tower=not self.stored)
            self.training_views[key] = TrainingView(work, (work.tokens, sum(work.patches), work.answers), flops)
        return self.training_views[key]

    def kind(self, example: Example) -> int:
        """The number of the kind: examples with the same questions after the same context."""
        if id(example) not in self.kind_of:
            number = self.identities.number(example)
            questions = tuple((question.text, question.answer, question.options) for question in example.questions)
            content = questions, tuple((shot.question, shot.answer) for shot in example.context)
            self.kind_of[number] = self.kinds.setdefault(content, len(self.kinds))
        return self.kind_of[id(example)]

    def layout(self, tokens: QuestionTokens, shown: View, answered: bool = True) -> RowLayout:
        """The row of one view; see `QuestionTokens.layout`."""
        both = [view.visual_tokens for view in shown.views] if self.family.both_ways else ()
        return tokens.layout(self.image_length(shown), both, answered)

    def image_length(self, shown: View) -> int:
        """The tokens that stand for the images of a view, including the tokens around them."""
        sizes = tuple((view.size, view.visual_tokens) for view in shown.views)
        if sizes not in self.image_lengths:
            self.image_lengths[sizes] = self.family.image_length(shown)
        return self.image_lengths[sizes]

    def patches(self, shown: View, questions: int = 1) -> tuple[int, ...]:
        """Patches of each run of the tower for a view; empty where no image is shown."""
        images = (self.family.patch_counts(self.family.grid(view.size)) for view in shown.views)
        once = tuple(count for counts in images for count in counts)
        return once if self.family.shares_prefix else once * questions

    def tokens(self, example: Example, shown: View, offered: bool = False) -> QuestionTokens:
        """The tokens of an image's questions. offered: of the options of its multiple-choice questions instead."""
        key = self.kind(example), shown.visual_tokens > 0, shown.crop_counts, offered
        if key not in self.question_tokens:
            questions = options_of(example.questions) if offered else example.questions
            self.question_tokens[key] = self._tokens(questions, example, shown) if questions else NO_TOKENS
        return self.question_tokens[key]

    def _rung(
        self, total: JobWorkload, examples: Sequence[Example], sources: Sequence[Example], shown: Sequence[View],
        length: int | None, drawn: int | None,
    ) -> None:
        """Add one rung to `total`. drawn: the limit of the author's sampled answers, None where there are none."""
        # Each view by itself: FLOPs, tokens, and how long its answers may get
        limits = self.study.evaluation.max_new_tokens, drawn
        pairs = zip(examples, shown, strict=True)
        counts = [self._evaluation_view(example, view, length, limits) for example, view in pairs]
        total.flops += sum(count.flops for count in counts)
        # The views share passes as in the job: filled in order up to the budget of tokens
        labels = ViewNames(list(zip(sources, shown, strict=True)))
        tokens = [count.tokens for count in counts]
        for group in bin_packing.fill(tokens, self.study.evaluation.tokens_per_pass, labels):
            members = [counts[index] for index in group]
            total.passes.add(Pass(*_sums(count.needs for count in members)))
            # One turn for the prefill, then one for each token of the longest answer of every decoding
            total.turns += 1 + sum(map(max, zip(*(count.longest for count in members), strict=True)))
            # The options of the group's multiple-choice questions are scored in one more pass
            offered, places = _sums(count.offered for count in members)
            if offered:
                total.scored.add(Pass(offered, 0, places))
                total.turns += 1

    def _evaluation_view(
        self, example: Example, shown: View, length: int | None, limits: tuple[int | None, ...]
    ) -> EvaluationView:
        """One view in an evaluation. limits: the most new tokens of each decoding; None for one that is not done."""
        key = self.kind(example), self.identities.number(shown), length, limits
        if key not in self.evaluation_views:
            self.evaluation_views[key] = self._count(example, shown, length, [limit for limit in limits if limit])
        return self.evaluation_views[key]

    def _count(self, example: Example, shown: View, length: int | None, limits: Sequence[int]) -> EvaluationView:
        # Prefill: the row up to where the answers start
        tokens = self.tokens(example, shown)
        prefill = self.layout(tokens, shown, answered=False)
        work = self._workload(prefill, shown, len(tokens.prompts))
        # Decoding: greedy, and the author's sampling where it is done
        decoded, longest = zip(*(_decoding(tokens, prefill, length, limit) for limit in limits), strict=True)
        flops = self._forward(work) + sum(language_flops(self.shape, answers) for answers in decoded)
        # Scoring of options: a second row, which reuses the image unless each question is a sequence of its own
        likely = self.study.evaluation.option_likelihoods
        offered = self.tokens(example, shown, offered=True) if likely else NO_TOKENS
        scored = self.layout(offered, shown) if offered.prompts else ()
        if scored:
            scoring = self._workload(scored, shown, sum(offered.answers))
            flops += language_flops(self.shape, scoring)
            if not self.family.shares_prefix:
                flops += sum(vision_flops(self.shape, patches) for patches in scoring.patches)
        needs = len(prefill), sum(work.patches), len(tokens.prompts)
        return EvaluationView(flops, len(prefill) + len(scored), needs, longest, (len(scored), sum(offered.answers)))

    def _forward(self, work: RowWork) -> float:
        """FLOPs of a pass without gradients, without the tower if its features come from the disk."""
        towers = sum(tower_flops(self.shape, patches) for patches in work.patches)
        return forward_flops(self.shape, work) - towers * self.stored

    def _shares(
        self, seen: Sequence[ExampleView], views: Sequence[TrainingView], options: Optimisation
    ) -> list[list[Pass]]:
        """The passes of each process of a training."""
        needs = [view.needs for view in views]
        lengths, budget = [tokens for tokens, _, _ in needs], options.tokens_per_pass
        if options.processes == 1 and sum(lengths) <= budget:  # most steps fit in one pass
            return [[Pass(*_sums(needs))]]
        costs = [view.flops for view in views]
        shares = batches.passes(lengths, budget, ViewNames(seen), options.processes, costs)
        return [[Pass(*_sums(needs[index] for index in group)) for group in groups] for groups in shares]

    def _workload(self, layout: RowLayout, shown: View, scores: int) -> RowWork:
        return RowWork(self.patches(shown, len(layout.branches[0])), len(layout), layout.pairs, scores)

    def _tokens(self, questions: tuple[Question, ...], example: Example, shown: View) -> QuestionTokens:
        questions = as_asked(self.family.coordinates, replace(example, questions=questions), shown).questions
        row = shared_prefix.row(self.family, questions, shown, True, example.context)
        image_length = self.image_length(shown)
        answers = tuple(len(branch) - start for branch, start in zip(row.branches, row.answers, strict=True))
        if not self.family.shares_prefix:
            return QuestionTokens(None, tuple(start - image_length for start in row.answers), answers)
        return QuestionTokens(len(row.prefix) - image_length, tuple(row.answers), answers)


class ViewNames(Sequence[str]):
    """Names of views for error messages (`view_name`), each made only when it is needed."""

    def __init__(self, seen: Sequence[ExampleView]):
        self.seen = seen

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, index: int) -> str:
        return view_name(*self.seen[index])


def _decoding(tokens: QuestionTokens, prefill: RowLayout, length: int | None, limit: int) -> tuple[RowWork, int]:
    """The tokens of all answers without the first, which the prefill gives; and their number in the longest answer."""
    counts = [min(length or answer, limit) - 1 for answer in tokens.answers]
    before = [prefill.prefixes[0] + branch for branch in prefill.branches[0]]
    # Token i of an answer attends to all before the answer, to i - 1 answer tokens, and to itself
    pairs = sum(n * own + n * (n + 1) // 2 for n, own in zip(counts, before, strict=True))
    return RowWork((), sum(counts), pairs, sum(counts)), max(counts)


def _sums(rows: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    """Sums of the columns."""
    return tuple(map(sum, zip(*rows, strict=True)))

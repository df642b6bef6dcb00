"""What a job asks of the model: the tokens of its rows, its passes, and their sums."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from itertools import accumulate

from medstudy.engine.batches import ExampleView, keyed_views
from medstudy.engine.row_layout import RowLayout
from medstudy.resolution.sizes import View


@dataclass(frozen=True)
class QuestionTokens:
    """Tokens of an image's questions, image tokens excluded: the shared prefix, then each prompt and answer.

    shared: None where nothing is shared and each question is a sequence of its own with the image.
    """

    shared: int | None
    prompts: tuple[int, ...]
    answers: tuple[int, ...]  # including the end token

    def layout(self, image_length: int, both: Sequence[int] = (), answered: bool = True) -> RowLayout:
        """The row of a view as attention sees it, with the answers or up to where they start.

        image_length: tokens that stand for its images. both: for each image, the tokens that attend in both directions.
        """
        lengths = self.answers if answered else (0,) * len(self.prompts)
        branches = tuple(prompt + answer for prompt, answer in zip(self.prompts, lengths, strict=True))
        if self.shared is None:
            return RowLayout((0,), (tuple(image_length + branch for branch in branches),))
        ends = list(accumulate(both))
        runs = tuple(zip([0, *ends[:-1]], ends, strict=True)) if ends else ()
        return RowLayout((self.shared + image_length,), (branches,), (runs,) if runs else ())


@dataclass(frozen=True)
class Pass:
    """One forward pass. scores: positions whose logits are computed."""

    tokens: int
    patches: int
    scores: int


@dataclass
class JobWorkload:
    """The work of a job.

    turns: how often the layers run in sequence: passes, and decoded tokens. flops: of the whole job, without towers
    whose features are cached. training_flops: those that training.parquet logs. passes: the largest determines memory.
    views: each view once, by image, for the caches on disk.
    """

    images: int = 0
    questions: int = 0
    visual_tokens: int = 0
    turns: int = 0
    flops: float = 0.0
    training_flops: float = 0.0
    passes: set[Pass] = field(default_factory=set)
    scored: set[Pass] = field(default_factory=set)  # in an evaluation, the passes that score options
    views: dict[tuple, View] = field(default_factory=dict)
    # By id: Python reuses the id of a deleted object, so the objects are kept
    _added: dict[tuple[int, int], ExampleView] = field(default_factory=dict, repr=False, compare=False)

    def add(self, seen: Iterable[ExampleView], times: int = 1) -> None:
        """Count views, each shown `times` times."""
        for example, shown in seen:
            self.images += times
            self.questions += times * len(example.questions)
            self.visual_tokens += times * shown.all_tokens
            if (key := (id(example), id(shown))) not in self._added:
                self._added[key] = example, shown
                self.views.update((name, view) for name, (_, view) in keyed_views(example, shown).items())

    def __add__(self, other: JobWorkload) -> JobWorkload:
        """The work of both jobs: numbers add up, sets and dictionaries merge."""
        pairs = {part.name: (getattr(self, part.name), getattr(other, part.name)) for part in fields(self)}
        merged = {name: mine | theirs if isinstance(mine, (set, dict)) else mine + theirs
                  for name, (mine, theirs) in pairs.items()}
        return JobWorkload(**merged)

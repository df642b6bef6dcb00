"""What an evaluation asks of a model of whatever kind: the answers to questions about images shown as planned.

A kind is one class: `medstudy.evaluation.in_process` for the families of `medstudy.models`, whose weights are in this
process. `medstudy.evaluation.kinds` names them all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

from tqdm import tqdm

from medstudy.data.example import Example, Question, Shot
from medstudy.params import Decoding
from medstudy.resolution.policies import Control, Single
from medstudy.resolution.sizes import Geometry, View


@dataclass(frozen=True)
class Asked:
    """What a model is asked under one policy: `shown[i]` is how the image of `sources[i]` stands before `examples[i]`.

    Questions for a count, point or box already say in which form they are answered (`medstudy.data.coordinates`).

    The sources are the examples themselves, but for the control `shuffled`. originals: the examples as the data set has
    them; those that are asked may say how to write points and boxes. seed: of the training. workers: processes
    that read images ahead. line: a progress bar that counts images. said: what the model answered when it was asked for
    the box of a crop, by data set, image and question.
    """

    examples: Sequence[Example]
    sources: Sequence[Example]
    shown: Sequence[View]
    policy: Single | Control
    options: Decoding
    originals: Sequence[Example] = ()
    seed: int = 0
    workers: int = 0
    line: tqdm | None = None
    said: Mapping[tuple[str, str, str], str] = field(default_factory=dict)


class Answers(NamedTuple):
    """The answers to an image's questions; a question whose options are not scored has an empty list.

    greedy: None for a question of a kind that this model cannot answer at all: it is left out, and counted.
    """

    greedy: list[str | None]
    option_scores: list[list[float]]  # log-likelihoods
    sampled: list[str] | None = None  # the author's
    columns: list[dict] | None = None  # of each question: what this kind of model adds to its prediction row
    costs: list[dict] | None = None  # of each question: what is known of `medstudy.evaluation.costs.NUMBERS`


class Answerer(Protocol):
    """A model that is ready to be asked.

    It may also have `coordinates`, the name of how it writes places, and `tokens(text)`, the number of a text's tokens.
    """

    revision: str  # of its weights; of a server, what the server says of them

    @property
    def geometry(self) -> Geometry:
        """Which sizes it can be shown, and how many visual tokens they take."""

    def about(self) -> dict:
        """What model.json records of it besides id, revision, family and dtype; JSON values."""

    def prompt(
        self, question: Question, image: bool = True, context: Sequence[Shot] = (), crops: Sequence[int] = ()
    ) -> str:
        """The text that it is asked. crops: for each image, how many crops of it follow it; () if there are none.

        A kind that no policy with crops names in `families` is never given any.
        """

    def answers(self, asked: Asked) -> Iterator[tuple[int, Answers]]:
        """Yield (index of the example, its Answers), in any order, each example once."""


@runtime_checkable
class Keeps(Protocol):
    """A model that leaves files of its own in an evaluation's folder."""

    def keep(self, folder: Path, asked: Iterable[Asked]) -> None:
        """Write them, from what it was asked at each rung and under each control."""


def coordinates_of(model: Answerer) -> str:
    """How a model writes points and boxes; "" if that is not known."""
    return getattr(model, "coordinates", "")


def thinking_tokens(model: Answerer, thinking: str) -> float:
    """The tokens of a model's reasoning; NaN of a model whose tokens are not known."""
    if not thinking:
        return 0.0
    return float(model.tokens(thinking)) if hasattr(model, "tokens") else float("nan")

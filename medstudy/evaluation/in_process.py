"""Models whose weights are in this process: an image and all its questions are one row, and rows are packed in passes.

Each image is encoded once: its prefix is cached once and all its questions are decoded from it together. The tokens
equal those of one-by-one `generate` (a test checks this).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from medstudy import models
from medstudy.data.example import Example, Question, Shot
from medstudy.engine.batches import keyed_views
from medstudy.engine.family_protocol import Family
from medstudy.engine.image_inputs import ImageInputs
from medstudy.evaluation import costs, looking, sampling
from medstudy.evaluation.answerer import Answers, Asked
from medstudy.evaluation.controls import control_of
from medstudy.evaluation.decode import decode, likelihoods
from medstudy.evaluation.passes import Passes
from medstudy.models.summary import weights
from medstudy.params import Author, Decoding, Study
from medstudy.resolution.sizes import Geometry, View
from medstudy.resolution.zoom import Zoom


@dataclass(frozen=True)
class InProcess:
    """A family's model as an `Answerer`."""

    inputs: ImageInputs

    @classmethod
    def open(cls, study: Study, checkpoint: Path | None = None) -> InProcess:
        """The study's model, or a checkpoint of its training. Raises ModelError."""
        family = models.load(study.model, checkpoint, [rung.label for rung in study.inference])
        return cls(ImageInputs.of(study, family))

    @property
    def family(self) -> Family:
        return self.inputs.family

    @property
    def revision(self) -> str:
        return self.family.revision

    @property
    def coordinates(self) -> str:
        return self.family.coordinates

    def tokens(self, text: str) -> int:
        """The number of a text's tokens."""
        return len(self.family.ids(text))

    @property
    def geometry(self) -> Geometry:
        return self.family.geometry

    def about(self) -> dict:
        """The attention kernel, why it was chosen, and numbers of weights by part."""
        name, why = self.family.attention
        return {"attention": name, "attention_because": why, "weights": weights(self.family)}

    def prompt(
        self, question: Question, image: bool = True, context: Sequence[Shot] = (), crops: Sequence[int] = ()
    ) -> str:
        """The chat template's text up to the answer."""
        several = {"crops": crops} if crops else {}
        return self.family.prompt(question, image, context, **several)

    def boxed(self, examples: Sequence[Example], policy: Zoom) -> Sequence[Example]:
        """The examples with the boxes where the model itself looks for the answers."""
        return looking.boxed(self.inputs, examples, policy)

    def answers(self, asked: Asked) -> Iterator[tuple[int, Answers]]:
        """See `answers`; the author's decoding is drawn at rungs, not under controls."""
        author = asked.options.author if control_of(asked.policy) == "none" else None
        draw = Draw(author, asked.seed, asked.policy.label) if author else None
        images = asked.examples, asked.sources, asked.shown
        return answers(self.inputs, *images, asked.options, asked.workers, asked.line, draw)


@dataclass(frozen=True)
class Draw:
    """The author's decoding, with random numbers that depend on seed, rung and question."""

    author: Author
    seed: int
    rung: str

    def sampler(self, examples: Sequence[Example]) -> sampling.Sampler:
        """Draws the answers to all questions of the examples, in order."""
        keys = tuple(sampling.key(self.seed, example.dataset, example.image_id, question.id, self.rung)
                     for example in examples for question in example.questions)
        return sampling.Sampler(self.author.temperature, self.author.max_new_tokens, keys)


@torch.inference_mode()
def answers(
    inputs: ImageInputs, examples: Sequence[Example], sources: Sequence[Example], shown: Sequence[View],
    options: Decoding, workers: int = 0, line: tqdm | None = None, draw: Draw | None = None,
) -> Iterator[tuple[int, Answers]]:
    """Yield (index of the example, its Answers), pass by pass. sources: the examples whose images are shown.

    With workers, images of the next passes are read while the model computes.
    """
    family = inputs.family
    passes = Passes(inputs, examples, sources, shown, options)
    if workers:
        each = (keyed_views(source, view).values() for source, view in zip(sources, shown, strict=True))
        inputs.prepare(view for views in each for view in views)
    loader = DataLoader(passes, batch_size=None, num_workers=workers, collate_fn=_same)
    for group, packed_questions, packed_options, images in loader:
        watch = costs.Stopwatch(family.model.device)
        grids, reductions = packed_questions.grids.to(family.model.device), packed_questions.reductions
        seen = inputs.visual_tokens(images, grids, reductions)
        sampler = draw.sampler([examples[index] for index in group]) if draw else None
        greedy, drawn = decode(family, packed_questions, seen, options.max_new_tokens, sampler, watch.lap)
        rows, stored = [passes.rows[index][0] for index in group], inputs.features is not None
        spent = iter(costs.of_pass(family, rows, greedy, options.max_new_tokens, stored, watch))
        # Branches stand image by image, question by question: each image takes its share from the front.
        greedy_texts, drawn_texts = (iter([family.text(tokens) for tokens in part]) for part in (greedy, drawn))
        scores = iter(() if packed_options is None else likelihoods(family, packed_options, seen).tolist())
        for index in group:
            questions = examples[index].questions
            texts = [next(greedy_texts) for _ in questions]
            option_scores = [list(islice(scores, len(question.options))) for question in questions]
            sampled = [next(drawn_texts) for _ in questions] if sampler else None
            yield index, Answers(texts, option_scores, sampled, costs=[next(spent) for _ in questions])
        if line is not None:
            line.update(len(group))


def _same(content: tuple) -> tuple:
    """A pass as it is: the loader must not stack its parts."""
    return content

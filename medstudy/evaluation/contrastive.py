"""Contrastive encoders as an `Answerer`: a question is answered by the option whose text is nearest to the image.

Zero-shot classification as in CLIP's paper (Radford et al. 2021, section 3.1, https://arxiv.org/abs/2103.00020): the
embeddings of an option's texts are averaged, and the option of the largest cosine is the answer. A question's
log-likelihoods are the log-softmax of the scaled cosines; SigLIP was trained with a sigmoid for each pair, whose bias
is the same for all options and so does not count here.

Questions that no texts can answer (`medstudy.evaluation.compared`) are left out of the predictions, and counted.
Without an image (the control `blind`) the answer is that to a plain image of the processor's mean colour.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch.utils.data import DataLoader

from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question, Shot
from medstudy.engine import views
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError
from medstudy.evaluation import compared, costs, embeddings
from medstudy.evaluation.answerer import Answers, Asked
from medstudy.evaluation.compared import Compared
from medstudy.models import contrastive
from medstudy.models.contrastive import Encoder
from medstudy.params import Clip, Study
from medstudy.resolution.sizes import Geometry, Size, View


class Seen(NamedTuple):
    """An image as it is shown: what its vector depends on. Sorted by this, the same images make the same batches."""

    size: Size
    dataset: str
    image_id: str
    split: str
    steps: tuple[Size, ...]
    crop: tuple[int, ...]  # the part of the image that is shown; () for all of it

    @classmethod
    def of(cls, example: Example, view: View) -> Seen:
        return cls(view.size, example.dataset, example.image_id, example.split, view.steps, tuple(view.crop or ()))


class Look(NamedTuple):
    """The vector of an image, and what it cost to make (`medstudy.evaluation.costs`); a plain image costs nothing."""

    vector: torch.Tensor
    costs: dict[str, float]


@dataclass(frozen=True)
class Contrastive:
    """See the module. pixels: a cache of resized images; None: none."""

    name = "clip"

    encoder: Encoder
    settings: Clip = Clip()
    interpolation: str = "bicubic"
    pixels: TensorCache | None = None
    _images: dict[Seen, Look] = field(default_factory=dict, init=False, repr=False)
    _texts: dict[str, torch.Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def open(cls, study: Study, checkpoint: Path | None = None) -> Contrastive:
        """The study's model. Raises ModelError, also for a checkpoint of a training, which this family has not.

        Warns if the model's own processor resizes with another filter than the study.
        """
        if checkpoint is not None:
            raise ModelError("A contrastive encoder is not trained here. Set `regimes: []`, and remove `training`.")
        encoder, pixels = contrastive.load(study.model), TensorCache(study.runs / ".cache" / "pixels")
        if encoder.resample not in (None, study.interpolation):
            warnings.warn(
                f"The model's own processor resizes images by {encoder.resample}, the study by {study.interpolation}: "
                "their pixels differ. Set `interpolation` in the params where it has that filter.", stacklevel=2)
        return cls(encoder, study.model.clip, study.interpolation, pixels)

    @property
    def revision(self) -> str:
        return self.encoder.revision

    @property
    def geometry(self) -> Geometry:
        return self.encoder.geometry

    def about(self) -> dict:
        """The class, the side of the training images (null: many sizes), the limit of a text, numbers of weights."""
        model = self.encoder.model
        towers = {"vision": model.vision_model, "text": model.text_model}
        counts = {name: sum(weight.numel() for weight in tower.parameters()) for name, tower in towers.items()}
        return {"class": type(model).__name__, "trained_side": self.encoder.trained_side,
                "text_tokens": self.encoder.limit, "weights": counts}

    def prompt(
        self, question: Question, image: bool = True, context: Sequence[Shot] = (), crops: Sequence[int] = ()
    ) -> str:
        """The texts that the image is compared with, a line each; empty if it cannot be answered by texts."""
        asked = compared.of(question, self.settings)
        return asked.prompt if asked else ""

    def answers(self, asked: Asked) -> Iterator[tuple[int, Answers]]:
        """The nearest option's answer to each question, None where there is none. Raises ModelError if there is no
        question at all that texts can answer, or for a text above the model's limit.
        """
        classes = compared.occurring(asked.examples)
        tasks = [compared.questions(example, self.settings, classes) for example in asked.examples]
        self._read(tasks, asked.examples)
        for indices, looks in self._batches(asked):
            for index, look in zip(indices, looks, strict=True):
                answers = self._answered(tasks[index], look.vector, asked.options.option_likelihoods)
                yield index, answers._replace(costs=_shared(tasks[index], look))
            if asked.line is not None:
                asked.line.update(len(indices))

    def keep(self, folder: Path, asked: Iterable[Asked]) -> None:
        """Write the embeddings of images and captions, and if there are captions, how well each finds the other.

        embeddings.parquet and retrieval.parquet: see `medstudy.evaluation.embeddings`.
        """
        embeddings.write(folder, self, asked, self.settings.captions)

    def vectors(self, asked: Asked) -> torch.Tensor:
        """[examples, width] of the images as they are shown."""
        rows: list[torch.Tensor] = [torch.empty(0)] * len(asked.examples)
        for indices, looks in self._batches(asked):
            for index, look in zip(indices, looks, strict=True):
                rows[index] = look.vector
        return torch.stack(rows)

    def _read(self, tasks: Sequence[Sequence[Compared | None]], examples: Sequence[Example]) -> None:
        """The vectors of all texts of these questions."""
        texts = {text for row in tasks for one in row if one for part in one.texts for text in part}
        if not texts:
            kinds = Counter(question.kind for example in examples for question in example.questions)
            raise ModelError(
                "A contrastive encoder answers questions with options, and closed ones whose task has texts in "
                f"model.clip.yes_no, but the test split has none of these: {dict(sorted(kinds.items()))}. Choose "
                "another data set, or give texts for yes and no."
            )
        new = sorted(texts - self._texts.keys())
        lengths = self.encoder.lengths(new)
        if long := [text for text, length in zip(new, lengths, strict=True) if length > self.encoder.limit]:
            raise ModelError(
                f"A text that stands for an option has at most {self.encoder.limit} tokens in this model, but "
                f"{len(long)} of {len(new)} have more, up to {max(lengths)}. Use shorter templates (without "
                "{question}), or leave out the data sets with such options."
            )
        if new:
            self._texts.update(zip(new, self.encoder.texts(new), strict=True))

    def _answered(self, tasks: Sequence[Compared | None], image: torch.Tensor, likelihoods: bool) -> Answers:
        greedy, scores, columns = [], [], []
        for one in tasks:
            if one is None:
                greedy, scores, columns = [*greedy, None], [*scores, []], [*columns, {}]
                continue
            options = torch.stack([self._option(texts) for texts in one.texts])
            logits = self.encoder.logits(image[None], options)[0]
            greedy.append(one.answers[int(logits.argmax())])
            scores.append(logits.log_softmax(0).tolist() if likelihoods and one.options else [])
            columns.append({"prompt": one.prompt})
        return Answers(greedy, scores, columns=columns)

    def _option(self, texts: Sequence[str]) -> torch.Tensor:
        """[width] the mean of an option's texts, of length 1."""
        return torch.nn.functional.normalize(torch.stack([self._texts[text] for text in texts]).mean(0), dim=0)

    def _batches(self, asked: Asked) -> Iterator[tuple[list[int], list[Look]]]:
        """Examples by index and what they are shown; each size of image in batches of its own."""
        places: dict[Seen, list[int]] = defaultdict(list)
        for index, (source, view) in enumerate(zip(asked.sources, asked.shown, strict=True)):
            places[Seen.of(source, view)].append(index)
        blind = [index for seen, indices in places.items() if not seen.size.pixels for index in indices]
        if blind:
            yield blind, [Look(self.encoder.blank[0], {})] * len(blind)
        chunks = _chunks(sorted(seen for seen in places if seen.size.pixels), self.geometry,
                         asked.options.tokens_per_pass)
        missing = [chunk for chunk in chunks if not all(seen in self._images for seen in chunk)]
        firsts = [[places[seen][0] for seen in chunk] for chunk in missing]
        pictures = [[(asked.sources[index].image, asked.shown[index]) for index in chunk] for chunk in firsts]
        read = iter(DataLoader(Pixels(pictures, self.interpolation, self.pixels), batch_size=None,
                               num_workers=asked.workers, collate_fn=_same))
        for chunk in chunks:
            if chunk in missing:
                self._images.update(zip(chunk, self._looks(next(read), chunk[0].size), strict=True))
            indices = [(index, self._images[seen]) for seen in chunk for index in places[seen]]
            yield [index for index, _ in indices], [look for _, look in indices]

    def _looks(self, pixels: Sequence[torch.Tensor], size: Size) -> list[Look]:
        """Images of one size, each with an equal share of what the batch cost."""
        watch = costs.Stopwatch(self.encoder.model.device)
        vectors = self.encoder.images(pixels)
        watch.lap("prefill")
        spent = {"flops": self.encoder.flops(size), "prefill_seconds": watch.parts["prefill"] / len(pixels)}
        return [Look(vector, spent | {"memory_mb": watch.memory_mb}) for vector in vectors]


@dataclass(frozen=True)
class Pixels:
    """Batches of images as they are shown, each computable alone: [height, width, 3] uint8."""

    batches: Sequence[Sequence[tuple[Image.Image | Picture, View]]]
    interpolation: str
    store: TensorCache | None

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, number: int) -> list[torch.Tensor]:
        return [views.cached(image, view, self.interpolation, self.store) for image, view in self.batches[number]]


def _shared(tasks: Sequence[Compared | None], look: Look) -> list[dict]:
    """The costs of an image in equal parts for the questions that it answers. Texts cost nothing: each is read once."""
    count = max(1, sum(one is not None for one in tasks))
    part = {name: number if name == "memory_mb" else number / count for name, number in look.costs.items()}
    if part:
        part["seconds"] = part["prefill_seconds"]
    return [part if one else {} for one in tasks]


def _chunks(seen: Sequence[Seen], geometry: Geometry, tokens: int) -> list[list[Seen]]:
    """Runs of images of one size with at most `tokens` patches together; an image above that is alone."""
    chunks: list[list[Seen]] = []
    for one in seen:
        fits = chunks and chunks[-1][0].size == one.size
        if fits and (len(chunks[-1]) + 1) * geometry.tokens(one.size) <= tokens:
            chunks[-1].append(one)
        else:
            chunks.append([one])
    return chunks


def _same(content: list) -> list:
    return content

"""A model behind a server with OpenAI's interface, such as vLLM, SGLang, `transformers serve` or a closed model.

The study sends each image at the size that its policy plans. The server still resizes by its own rule: the study states
the side of a visual token (`factor`), sends multiples of it, and checks the prompt tokens that the server counts.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question, Shot
from medstudy.engine import views
from medstudy.engine.batches import shown_images
from medstudy.engine.tensor_cache import TensorCache
from medstudy.errors import ModelError, ParamsError
from medstudy.evaluation.answerer import Answers, Asked
from medstudy.evaluation.server import opening
from medstudy.evaluation.server.asker import Asker
from medstudy.evaluation.server.columns import Fit, costs, row
from medstudy.evaluation.server.request import Request, Sent, text
from medstudy.models import prompts
from medstudy.params import DECIDING, Study
from medstudy.resolution.sizes import Geometry, View
from medstudy.utils import redact

AHEAD = 2  # images that are read and sent before the one that is waited for, for each request at the same time


@dataclass(frozen=True)
class Served:
    """A model behind a server as an `Answerer`."""

    name: ClassVar[str] = "openai"
    asker: Asker
    interpolation: str
    pixels: TensorCache
    found: dict  # about the server: its list's entry, and the visual tokens it counts
    fit: Fit = field(default_factory=Fit)

    @classmethod
    def open(cls, study: Study, checkpoint: Path | None = None) -> Served:
        """The study's model, after a few trial questions (`opening`).

        Raises ParamsError for what a server cannot do; ModelError for a wrong address, key or name, and a model
        without eyes.
        """
        if checkpoint is not None:
            raise ModelError("A model behind a server cannot be trained here. Set `regimes` to [].")
        check_decoding(study)
        asker, geometry = Asker.of(study.model, study.runs), study.model.server.geometry
        found = opening.examined(asker, geometry, [rung.budget for rung in study.inference])
        return cls(asker, study.interpolation, TensorCache(study.runs / ".cache" / "pixels"), found)

    @property
    def revision(self) -> str:
        return self.asker.model.revision or "as served"

    @property
    def coordinates(self) -> str:
        return self.asker.model.coordinates or ""

    @property
    def geometry(self) -> Geometry:
        return self.asker.model.server.geometry

    def about(self) -> dict:
        """The server in words, what its list says, what it counts of trial images, and how it is asked."""
        server = self.asker.model.server
        asked = {name: getattr(server, name) for name in DECIDING}
        return {"server": redact.host(server.base_url), **self.found, "asked": asked}

    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str:
        """The conversation as text; the server writes it by its own chat template."""
        return text(prompts.messages(question, image, context))

    def answers(self, asked: Asked) -> Iterator[tuple[int, Answers]]:
        """In the order of the examples. If a request fails for good, those under way are waited for and kept."""
        futures: dict[str, Future] = {}  # by key: the same request is sent once
        rows: list[dict] = []
        with ThreadPoolExecutor(self.asker.pace.most) as pool:
            waiting: deque[tuple[int, list[tuple[Request, Future]]]] = deque()
            try:
                for index, example in enumerate(asked.examples):
                    requests = self._requests(example, asked.sources[index], asked.shown[index], asked)
                    for request in requests:
                        if request.key not in futures:
                            futures[request.key] = pool.submit(self.asker.answer, request)
                    waiting.append((index, [(request, futures[request.key]) for request in requests]))
                    while len(waiting) > AHEAD * self.asker.pace.most or (
                        waiting and index + 1 == len(asked.examples)
                    ):
                        place, sent = waiting.popleft()
                        given = self._collected(sent, asked.shown[place])
                        rows += given.columns
                        yield place, given
                        if asked.line is not None:
                            asked.line.update()
            except BaseException:
                self.asker.pace.stop()
                for future in futures.values():
                    future.cancel()
                raise
        if misfits := sum(columns["server_tokens_fit"] is False for columns in rows):
            warnings.warn(
                f"{misfits} answers at {asked.policy.label}: the server counts other visual tokens than were sent, so "
                "it resized the images again. The column server_tokens_fit marks them.", stacklevel=2)
        if cut := sum(columns["server_finish"] == "length" for columns in rows):
            most = asked.options.max_new_tokens
            print(f"{cut} of {len(rows)} answers at {asked.policy.label} were cut off at {most} tokens "
                  "(server_finish: length).")

    def _requests(self, example: Example, source: Example, shown: View, asked: Asked) -> list[Request]:
        """The requests of an example's questions, with the images of `source`."""
        images = [Sent.of(self._pixels(image, view)) for _, image, view in shown_images(source, shown)]
        model, limit = self.asker.model, asked.options.max_new_tokens
        return [
            Request(model.id, model.server, prompts.messages(question, bool(images), example.context), images, limit)
            for question in example.questions
        ]

    def _pixels(self, image: object, view: View) -> object:
        store = self.pixels if isinstance(image, Picture) else None
        return views.cached(image, view, self.interpolation, store)

    def _collected(self, sent: Sequence[tuple[Request, Future]], shown: View) -> Answers:
        replies = [future.result() for _, future in sent]
        rows = [
            row(reply, request, shown, self.geometry.factor > 1, self.fit)
            for (request, _), reply in zip(sent, replies, strict=True)
        ]
        texts = [reply["answer"].strip() for reply in replies]
        return Answers(texts, [[] for _ in replies], columns=rows, costs=[costs(reply) for reply in replies])


def check_decoding(study: Study) -> None:
    """Raise ParamsError for what a study cannot ask of a server."""
    if study.evaluation.option_likelihoods:
        raise ParamsError(
            "evaluation.option_likelihoods needs the likelihood of a given text, which a chat server does not give "
            "exactly. Set it to false."
        )
    if study.evaluation.author is not None:
        raise ParamsError(
            "evaluation.author draws answers by numbers that depend on the question alone, which a server cannot "
            "repeat. Leave it out."
        )

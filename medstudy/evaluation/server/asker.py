"""From requests to answers: what is on disk is not asked, the rest at the server's pace and within the caps."""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from medstudy.errors import ModelError, RunError
from medstudy.evaluation.server import spending
from medstudy.evaluation.server.client import Client, Failed
from medstudy.evaluation.server.pace import Pace, delay
from medstudy.evaluation.server.request import Request
from medstudy.evaluation.server.responses import Responses
from medstudy.evaluation.server.spending import Spending
from medstudy.params import Model
from medstudy.utils import redact


@dataclass
class Asker:
    """Asks one model of a study. Threads may share it."""

    model: Model
    client: Client
    responses: Responses
    account: Spending
    pace: Pace
    asked: int = 0  # attempts of this process
    _count: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def of(cls, model: Model, runs: Path) -> Asker:
        """The asker of a study's model, with what it asked before. runs: the study's folder of runs."""
        name = redact.last(model.id)
        words, digest = re.sub(r"[^\w.-]+", "-", name)[-60:], sha256(name.encode()).hexdigest()[:8]
        folder = runs / "responses" / f"{words}-{digest}"
        pace = Pace(model.server.concurrency)
        return cls(model, Client(model.server), Responses(folder), Spending(folder, model.server), pace)

    def answer(self, request: Request) -> dict:
        """The answer to a request, from disk or from the server, with the number of attempts it took.

        Raises Refused, RunError at a cap or after the last attempt, and Stopped once another request failed.
        """
        key = request.key
        if (known := self.responses.get(key)) is not None:
            return known
        for attempt in range(1, self.model.server.retries + 2):
            try:
                reply = self._attempt(request) | {"attempts": attempt}
                self.responses.put(key, reply)
                return reply
            except Failed as failed:
                last = failed
                if attempt <= self.model.server.retries:
                    self.pace.sleep(delay(key, attempt, failed.wait))
        raise RunError(
            f"{self.client.name} did not answer a request in {self.model.server.retries + 1} attempts; at the last, "
            f"{last.why}. The answers so far are kept, and nothing is asked twice: run again when the server is well, "
            "or raise model.server.retries or .timeout."
        )

    def _attempt(self, request: Request) -> dict:
        prices, turns = self.model.server.prices, len(request.turns)
        most = spending.most(prices, request.text_bytes, turns, len(request.images), request.max_new_tokens)
        with self.pace.place() as began:
            self.account.reserve(most)
            with self._count:
                self.asked += 1
            paid, sent = None, True
            try:
                reply = self.client.ask(request.model, request.messages(), request.settings)
                paid = spending.cost(prices, reply["usage"])
            except Failed as failed:
                paid, sent = (None if failed.billed else 0.0), failed.sent
                if failed.busy:
                    self.pace.congested(began, failed.wait or 0.0)
                raise
            except ModelError:
                paid = 0.0
                raise
            finally:
                self.account.settle(most, paid, sent)
            self.pace.went_well()
            return reply

"""What a study has sent to a server and paid, in a file that all of its processes share: a cap is never passed.

A request is entered before it is sent, at the most that it can cost, and corrected when its answer is there. A process
that was killed in between leaves the entry: the server may have answered, and charged.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock

from medstudy import paths
from medstudy.errors import RunError
from medstudy.params import Prices, Server

MILLION = 1_000_000
TEMPLATE_TOKENS = 64  # at most, that a chat template adds to each turn


@dataclass
class Spending:
    """The account of one model of a study. folder: where its file is."""

    folder: Path
    server: Server
    flying: float = 0.0  # cost that this process has reserved and not corrected yet
    _change: threading.Condition = field(default_factory=threading.Condition)

    def reserve(self, cost: float) -> None:
        """Enter a request that costs at most `cost`. Raises RunError if it would pass a cap.

        While requests of this process are under way, what they turn out not to cost may still be enough: it waits.
        """
        with self._change:
            while not self._enter(cost):
                self._change.wait()
            self.flying += cost

    def settle(self, reserved: float, cost: float | None, sent: bool = True) -> None:
        """Correct a reserved request. cost: None if the server may have charged all of it; sent: whether it left."""
        with self._change:
            paid = reserved if cost is None else cost
            self._add(0 if sent else -1, paid - reserved)
            self.flying -= reserved
            self._change.notify_all()

    def read(self) -> dict[str, float]:
        """{"requests", "cost"} of all runs so far."""
        file = self.folder / "spent.json"
        return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {"requests": 0, "cost": 0.0}

    def _enter(self, cost: float) -> bool:
        """Whether the request fits under the caps; it is then entered."""
        with self._lock():
            spent, most, dearest = self.read(), self.server.max_requests, self.server.max_cost
            if most is not None and spent["requests"] + 1 > most:
                raise RunError(
                    f"model.server.max_requests is {most}, and as many requests were sent, retries and earlier runs "
                    "included. The answers so far are kept, and nothing is asked twice: raise it to go on."
                )
            if dearest is not None and spent["cost"] + cost > dearest:
                if self.flying > 1e-12:
                    return False
                raise RunError(
                    f"model.server.max_cost is {dearest:g}; {spent['cost']:.4g} is spent or may be, and the next "
                    f"request may cost {cost:.4g}. The answers so far are kept, and nothing is asked twice: raise it "
                    "to go on."
                )
            self._write(spent["requests"] + 1, spent["cost"] + cost)
        return True

    def _add(self, requests: int, cost: float) -> None:
        with self._lock():
            spent = self.read()
            self._write(spent["requests"] + requests, max(0.0, spent["cost"] + cost))

    def _write(self, requests: int, cost: float) -> None:
        with paths.atomic(self.folder / "spent.json") as temporary:
            temporary.write_text(json.dumps({"requests": requests, "cost": cost}) + "\n", encoding="utf-8")

    def _lock(self) -> FileLock:
        self.folder.mkdir(parents=True, exist_ok=True)
        return FileLock(self.folder / "spent.lock", mode=0o666)


def most(prices: Prices | None, text_bytes: int, turns: int, images: int, max_new_tokens: int) -> float:
    """The most that a request can cost: a token for each byte of its text, and its longest answer."""
    if prices is None:
        return 0.0
    prompt = text_bytes + TEMPLATE_TOKENS * turns + prices.image_tokens * images
    return (prompt * prices.prompt + max_new_tokens * prices.completion) / MILLION


def cost(prices: Prices | None, usage: dict[str, int | None]) -> float | None:
    """What a request cost by its usage; None if the server did not state it."""
    if prices is None:
        return 0.0
    prompt, completion, cached = usage["prompt"], usage["completion"], usage["cached"] or 0
    if prompt is None or completion is None:
        return None
    cheap = prices.prompt if prices.cached is None else prices.cached
    return ((prompt - cached) * prices.prompt + cached * cheap + completion * prices.completion) / MILLION

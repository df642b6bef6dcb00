"""One attempt at a request through the official client, and what its failure means. Nothing here repeats a key.

The client's own retries are off: an attempt is counted against the caps, and congestion slows all requests down.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from medstudy.errors import ModelError
from medstudy.params import Server
from medstudy.utils import redact

OPENAI = "api.openai.com"
BUSY = (408, 429, 503, 504)  # the server has too much to do
AGAIN = (*BUSY, 409, 500, 502, 520, 522, 524, 529)  # it may answer at the next attempt
UNBILLED = (429, 500, 502, 503)  # it says itself that it did not answer
LONGEST = 300  # characters of a server's own words in an error


@dataclass
class Failed(Exception):
    """An attempt that may be repeated. wait: what the server asks for. billed: it may have charged the request.

    sent: whether the request left this machine at all.
    """

    why: str
    busy: bool = False
    wait: float | None = None
    billed: bool = True
    sent: bool = True


class Refused(ModelError):
    """The server does not take this request, now or later. status: of HTTP."""

    def __init__(self, message: str, status: int):
        super().__init__(message)
        self.status = status


class Client:
    """A server and the official client for it. Raises ModelError without that package, or without the key it needs."""

    def __init__(self, server: Server):
        try:
            import openai
        except ImportError:
            raise ModelError(
                "A model behind a server is asked through the official client, but the package openai is not "
                "installed. Install it: pip install -e '.[server]'"
            ) from None
        self._openai, self._server, self._key = openai, server, _key(server)
        self._client = openai.OpenAI(
            base_url=server.base_url, api_key=self._key or "none", timeout=server.timeout, max_retries=0
        )

    def models(self) -> list[dict]:
        """What the server lists. Raises ModelError for a wrong address or key."""
        try:
            raw = self._client.models.with_raw_response.list()
            listed = json.loads(raw.http_response.text)["data"]
            return [dict(entry, id=str(entry["id"])) for entry in listed]
        except self._openai.APIStatusError as error:
            self._refuse(error, "does not list its models")
        except (self._openai.APIConnectionError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"model.server.base_url must lead to a server with OpenAI's interface, but {self.name} gives no list "
                f"of models ({type(error).__name__}: {self._plain(error)}). Check that the server runs, and the "
                "address: it usually ends in /v1."
            ) from None
        raise AssertionError("unreachable")

    def ask(self, model: str, messages: list[dict], settings: dict) -> dict:
        """One attempt: {"answer", "finish", "usage", …}; see `_reply`. Raises Failed, or Refused for good."""
        known = {name: settings[name] for name in ("temperature", "seed", "max_tokens", "max_completion_tokens")
                 if name in settings}
        more = {name: value for name, value in settings.items() if name not in known}
        started = time.perf_counter()
        try:
            raw = self._client.chat.completions.with_raw_response.create(
                model=model, messages=messages, extra_body=more or None, **known
            )
            text = raw.http_response.text
        except self._openai.APITimeoutError:
            raise Failed(f"no answer within {self._server.timeout:g} s", busy=True) from None
        except self._openai.APIConnectionError as error:
            reached = type(error.__cause__).__name__ not in ("ConnectError", "ConnectTimeout")
            raise Failed("the connection failed", billed=reached, sent=reached) from None
        except self._openai.APIStatusError as error:
            self._status(error)
        except Exception as error:  # the transport's own, such as a body that ends too early
            raise Failed(f"the answer did not arrive whole ({type(error).__name__})") from None
        try:
            return _reply(json.loads(text), time.perf_counter() - started)
        except (ValueError, KeyError, IndexError, TypeError, AttributeError):
            raise Failed(f"what arrived is no answer: {self._plain(text)!r}") from None

    @property
    def name(self) -> str:
        """The server in words, without its address."""
        return redact.host(self._server.base_url)

    def _status(self, error: Any) -> None:
        """Raise for a status that is not 200."""
        code, body = error.status_code, error.body if isinstance(error.body, dict) else {}
        if code in AGAIN and body.get("code") != "insufficient_quota":
            raise Failed(f"status {code}", code in BUSY, retry_after(error.response.headers), code not in UNBILLED)
        self._refuse(error, "refused a request")

    def _refuse(self, error: Any, what: str) -> None:
        code = error.status_code
        hints = {
            401: f"Check the key: {self._key_hint()}.",
            403: f"Check the key and what it may use: {self._key_hint()}.",
            404: "Check model.id, and model.server.base_url: it usually ends in /v1.",
            429: "The account has no quota left.",
        }
        if code >= 500:
            hints[code] = "Run again when the server is well; if only its list fails, set model.server.listed to false."
        hint = hints.get(code, "Check model.id, and that the model takes images; `omit` and `limit` of model.server "
                               "leave out or rename a setting that the server does not know.")
        words = self._plain(error.body or error)
        raise Refused(f"{self.name} {what}: status {code}, {words!r}. {hint}", code) from None

    def _key_hint(self) -> str:
        if self._key:
            return f"the environment variable {self._server.key or 'OPENAI_API_KEY'} was sent"
        return "none was sent; model.server.key names the environment variable that holds it"

    def _plain(self, words: object) -> str:
        """A server's own words, shortened, without the key and the address."""
        text = " ".join(str(words).split())
        parts = urlsplit(self._server.base_url)
        for secret, name in ((self._key, "[key]"), (self._server.base_url, "[server]"), (parts.netloc, "[server]"),
                             (parts.hostname, "[server]")):
            text = text.replace(secret, name) if secret else text
        return text[:LONGEST]


def _key(server: Server) -> str | None:
    """The key from the environment. Only OpenAI's own server gets OPENAI_API_KEY without being told."""
    name = server.key or ("OPENAI_API_KEY" if urlsplit(server.base_url).hostname == OPENAI else None)
    if name is None:
        return None
    if not (key := os.environ.get(name, "").strip()):
        raise ModelError(f"The key of {redact.host(server.base_url)} must be in the environment variable {name}, but "
                         "that is empty or not set. Set it where the study is started.")
    return key


def _reply(body: dict, seconds: float) -> dict:
    """What is kept of an answer. Raises KeyError, IndexError or TypeError if it is none."""
    choice, usage = body["choices"][0], body.get("usage") or {}
    message = choice["message"]
    refusal = message.get("refusal")
    reasoning = (usage.get("completion_tokens_details") or {}).get("reasoning_tokens")
    return {
        "answer": message.get("content") or refusal or "",
        "reasoning": message.get("reasoning_content") or message.get("reasoning"),
        "finish": "refusal" if refusal else choice.get("finish_reason"),
        "model": redact.last(body.get("model")),  # a server may name it by its folder
        "fingerprint": body.get("system_fingerprint"),
        "usage": {
            "prompt": usage.get("prompt_tokens"),
            "completion": usage.get("completion_tokens"),
            "reasoning": usage.get("reasoning_tokens") if reasoning is None else reasoning,
            "cached": (usage.get("prompt_tokens_details") or {}).get("cached_tokens"),
        },
        "seconds": round(seconds, 4),
        "asked": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def retry_after(headers: Any) -> float | None:
    """Seconds that a server asks to wait: Retry-After in seconds or as a date, or retry-after-ms."""
    try:
        if (text := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(text) / 1000)
        if (text := headers.get("retry-after")) is None:
            return None
        try:
            return max(0.0, float(text))
        except ValueError:
            return max(0.0, (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds())
    except (TypeError, ValueError):
        return None

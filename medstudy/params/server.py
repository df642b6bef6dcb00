"""A server with OpenAI's interface as a model: where it is, how it is asked, and what may be spent."""

from __future__ import annotations

import re
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    ConfigDict,
    Field,
    JsonValue,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    field_validator,
    model_validator,
)

from medstudy.params.strict import Strict
from medstudy.resolution.sizes import Geometry

FAMILY = "openai"  # of a model behind a server
VARIABLE = re.compile(r"[A-Z][A-Z0-9_]{2,63}")
OURS = ("model", "messages", "n", "stream", "temperature", "seed", "max_tokens", "max_completion_tokens", "logprobs")
Price = Annotated[float, Field(ge=0)]


class _Secret(Strict):
    """As `Strict`; an error never repeats the text that was entered, which may be a key."""

    model_config = ConfigDict(hide_input_in_errors=True)


class Prices(_Secret):
    """What the server charges, in one currency, for a million tokens.

    image_tokens: the most prompt tokens that one image takes, so that a request's cost is known before it is sent.
    """

    prompt: Price
    cached: Price | None = None  # of the prompt, where the server read it from its cache; null: as `prompt`
    completion: Price  # with the reasoning
    image_tokens: PositiveInt


class Server(_Secret):
    """How a server is asked. Of these, `DECIDING` decide an answer; the others only when and how fast it comes."""

    base_url: str  # such as http://localhost:8000/v1; no record has it
    key: str | None = None  # the environment variable that holds the key; null: OPENAI_API_KEY, for api.openai.com only
    listed: bool = True  # whether /models names the model; false: it is asked all the same
    factor: PositiveInt | None = None  # pixels a side of a visual token; null: any size may be sent, tokens are unknown
    detail: Literal["low", "high", "auto"] | None = None  # OpenAI's own setting of an image; null: it is not sent
    limit: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"  # the name of max_new_tokens
    omit: tuple[Literal["temperature", "seed"], ...] = ()  # what the server refuses to be sent
    extra: dict[str, JsonValue] = {}  # more entries of each request, such as chat_template_kwargs
    seed: NonNegativeInt = 0
    concurrency: PositiveInt = 8  # at most, requests at the same time; the number adapts to the server
    timeout: PositiveFloat = 120.0  # seconds for an answer
    retries: NonNegativeInt = 8  # of one request
    max_requests: PositiveInt | None = None  # of the model and study in all, retries and earlier runs included
    max_cost: PositiveFloat | None = None  # the same, in the currency of `prices`
    prices: Prices | None = None

    @field_validator("base_url")
    @classmethod
    def _address(cls, base_url: str) -> str:
        parts = urlsplit(base_url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise ValueError(
                "base_url is http://HOST:PORT/v1 or https://HOST/v1, without a user, a password or a query; the key "
                "comes from the environment variable that `key` names"
            )
        return base_url.rstrip("/")

    @field_validator("key")
    @classmethod
    def _name(cls, key: str | None) -> str | None:
        if key is not None and not VARIABLE.fullmatch(key):
            raise ValueError(
                "key is the name of an environment variable, such as OPENAI_API_KEY, and never the key itself; "
                "what arrived is not shown, because it may be one"
            )
        return key

    @field_validator("extra")
    @classmethod
    def _more(cls, extra: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := sorted(set(extra) & set(OURS)):
            raise ValueError(f"extra adds to a request, but the study itself sets {', '.join(taken)}: remove them")
        return extra

    @property
    def geometry(self) -> Geometry:
        """The sizes that are sent; without a factor any, to the pixel, and its tokens are then pixels, never shown."""
        factor = self.factor or 1
        return Geometry(factor, factor**2)

    @model_validator(mode="after")
    def _priced(self) -> Server:
        if self.max_cost is not None and self.prices is None:
            raise ValueError("max_cost needs `prices`: without them the cost of a request is not known")
        return self


DECIDING = ("factor", "detail", "limit", "omit", "extra", "seed")

"""Parameters and texts as others may read them: without the folders of this machine.

A hub id stays as it is; of a local path the last part stays. In a text, known folders stand by short names.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from medstudy import paths

FIELDS = ("path", "images", "id")  # the parameters that may name a folder or file
ADDRESSES = ("base_url",)  # the parameters that hold the address of a server
PUBLIC = (  # servers that anybody may know
    "api.openai.com", "generativelanguage.googleapis.com", "openrouter.ai", "api.mistral.ai", "api.together.xyz",
    "router.huggingface.co", "api.x.ai", "api.anthropic.com", "dashscope.aliyuncs.com", "dashscope-intl.aliyuncs.com",
)
BASE64 = r"[A-Za-z0-9+/=\\]{400,}"  # an embedded image, in JSON with \n: a folder's name in it is chance
START = r"(?:(?<![\w.~…+-])|(?<=\\[bfnrt])|(?<=\dm))"  # of an absolute path; \n: in JSON; 1m: a terminal's colour


def last(value: Any) -> Any:
    """The last part of a local path; anything else unchanged."""
    return Path(value).name if isinstance(value, str) and value.startswith(("/", ".", "~")) else value


def tree(value: Any, fields: Collection[str] | None = None) -> Any:
    """Nested parameters with `last` applied to every text, or only to these fields; of addresses only the `host`."""
    if isinstance(value, dict):
        return {name: _entry(name, part, fields) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [tree(part, fields) for part in value]
    return value if fields else last(value)


def host(address: str) -> str:
    """A server in words: the host of a public one, else "a server"."""
    name = urlsplit(address).hostname
    return name if name in PUBLIC else "a server"


def _entry(name: str, value: Any, fields: Collection[str] | None) -> Any:
    if name in ADDRESSES and isinstance(value, str):
        return host(value)
    return last(value) if fields and name in fields else tree(value, fields)


def hub_id(model: str) -> str | None:
    """A model's id on the hub; None for a local folder and for the package's own base model."""
    return None if model == "base" or last(model) != model or Path(model).is_dir() else model


def places(root: Path = paths.ROOT) -> dict[Path, str]:
    """The short names of a study's root, the repository and the home folder."""
    return {root: ".", paths.ROOT: ".", Path.home(): "~"}


def text(content: str, known: Mapping[Path, str] | None = None) -> str:
    """A text, HTML or JSON with each known folder (default: `places`) by its short name.

    The longest folder that fits is taken, `/` alone never, and images in base64 stay whole.
    """
    names: dict[str, str] = {}
    for place, name in (places() if known is None else known).items():
        if len(place.parts) > 1:
            path = str(place)
            names |= dict.fromkeys((path, html.escape(path), json.dumps(path, ensure_ascii=False)[1:-1]), name)
    if not any(name in content for name in names):
        return content
    longest = "|".join(map(re.escape, sorted(names, key=len, reverse=True)))
    pattern = rf"{BASE64}|{START}(?P<place>{longest})(?![\w-])"
    return re.sub(pattern, lambda match: names[match["place"]] if match["place"] else match[0], content)

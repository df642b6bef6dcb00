"""The server before the study: is the model there, does it see an image, and as many visual tokens as planned?

Three or four short questions; their answers are kept like all others, so they are asked once.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import isqrt

import torch

from medstudy.data.example import Question
from medstudy.errors import ModelError
from medstudy.evaluation.server.asker import Asker
from medstudy.evaluation.server.client import Refused
from medstudy.evaluation.server.request import Request, Sent
from medstudy.models import prompts
from medstudy.resolution.sizes import Geometry, Size

QUESTION = Question("stain", "Which stain is used?", "B", "choice", "stain", options=("Giemsa", "Pap"))
FACTOR = 28  # of the trial image, where the server states none
LARGEST = 2048  # pixels a side of the trial image at the highest rung
KEYS = (401, 403)  # statuses of a wrong key
TOKENS = 16  # of a trial answer
LISTED = 8  # names of models in an error
OWN = ("owned_by", "max_model_len")  # of an entry of the list, besides its name


def examined(asker: Asker, geometry: Geometry, budgets: Sequence[int]) -> dict:
    """What is found of the server by `listed` and `look`; a notice is also a warning."""
    found = listed(asker)
    found["visual_tokens"] = look(asker, geometry, budgets)
    if problem := notice(found["visual_tokens"]):
        warnings.warn(problem, stacklevel=3)
        found["notice"] = problem
    return found


def listed(asker: Asker) -> dict:
    """What the server's list says of the model. Raises ModelError if it is not there, unless it need not be."""
    model = asker.model
    try:
        entries = asker.client.models()
    except Refused as error:
        if model.server.listed or error.status in KEYS:
            raise
        entries = []  # it has no list that works
    for entry in entries:
        if entry["id"] == model.id:
            return {"listed": True} | {name: entry[name] for name in OWN if entry.get(name) is not None}
    if model.server.listed:
        names = [repr(entry["id"]) for entry in entries]
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise ModelError(
            f"model.id must be a name in the list of {asker.client.name}, got {model.id!r}; it lists "
            f"{', '.join(names[:LISTED]) + more if names else 'none'}. Correct it; if this server answers for models "
            "that it does not list, set model.server.listed to false."
        )
    return {"listed": False}


def look(asker: Asker, geometry: Geometry, budgets: Sequence[int]) -> list[dict]:
    """Ask about no image, one of the largest budget, and half of it; returns what the server counted of each.

    [{"size": "112x224", "planned": visual tokens or None, "counted": prompt tokens more than without an image}].
    Raises ModelError for a model that refuses an image, or that does not see it.
    """
    factor = geometry.factor if geometry.factor > 1 else FACTOR
    blind = asker.answer(_trial(asker, None))["usage"]["prompt"]
    largest = max(factor, min(LARGEST, isqrt(max(budgets))) // factor * factor)
    found = []
    half = max(factor, largest // 2 // factor * factor)
    for size in dict.fromkeys((Size(half, largest), Size(largest, largest))):
        try:
            with_image = asker.answer(_trial(asker, size))["usage"]["prompt"]
        except Refused as error:
            if found:  # no image of the data need be so large
                found.append({"size": f"{size.height}x{size.width}", "refused": str(error)})
                continue
            raise ModelError(
                f"A model of this study must see images, but {asker.model.id!r} answers without one and refuses a "
                f"question with one. {error}"
            ) from None
        counted = None if None in (blind, with_image) else with_image - blind
        if counted == 0:
            raise ModelError(
                f"A model of this study must see images, but {asker.client.name} counts as many prompt tokens for "
                f"{asker.model.id!r} with an image as without. Name a model that takes images."
            )
        planned = geometry.tokens(size) if geometry.factor > 1 else None
        found.append({"size": f"{size.height}x{size.width}", "planned": planned, "counted": counted})
    return found


def notice(found: Sequence[dict]) -> str | None:
    """What is wrong with the visual tokens that the server counted; None if they fit those planned.

    Each image may have a constant number of tokens around it.
    """
    if refused := [each["size"] for each in found if "refused" in each]:
        return (f"The server refuses an image of {refused[0]}, which the highest rung allows: the study will stop at "
                "an image of that size.")
    around = {each["size"]: each["counted"] - each["planned"] for each in found
              if None not in (each["counted"], each["planned"])}
    if len(set(around.values())) < 2 and all(extra >= 0 for extra in around.values()):
        return None
    listing = "; ".join(f"{each['size']}: planned {each['planned']}, counted {each['counted']}" for each in found)
    return (f"The server does not see images at the size that is sent ({listing}; a constant difference would be the "
            "tokens around an image). It resizes them again, or model.server.factor is wrong.")


def _trial(asker: Asker, size: Size | None) -> Request:
    images = [] if size is None else [Sent.of(torch.full((*size, 3), 128, dtype=torch.uint8))]
    turns = prompts.messages(QUESTION, bool(images), ())
    return Request(asker.model.id, asker.model.server, turns, images, TOKENS)

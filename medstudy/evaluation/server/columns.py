"""What a server's answer adds to its prediction row, and whether the tokens it counted fit the image that was sent."""

from __future__ import annotations

from dataclasses import dataclass, field

from medstudy.evaluation.server.request import Request, text
from medstudy.resolution.sizes import View


@dataclass
class Fit:
    """Prompt tokens less planned visual tokens: the same for all images before the same text, if nothing is resized.

    The first answer to a text sets what the others are compared with, at any rung.
    """

    known: dict[str, int] = field(default_factory=dict)

    def of(self, words: str, prompt_tokens: int | None, visual_tokens: int) -> bool | None:
        """Whether they fit; None where there is nothing to compare."""
        if prompt_tokens is None:
            return None
        rest = prompt_tokens - visual_tokens
        if words not in self.known:
            self.known[words] = rest
            return None
        return rest == self.known[words]


def row(reply: dict, request: Request, shown: View, counted: bool, fit: Fit) -> dict:
    """The columns of one answer. counted: whether the study knows how many visual tokens an image takes.

    If not, `visual_tokens` is unknown (NaN), and with an image nothing can be compared.
    """
    usage, seen = reply["usage"], bool(request.images)
    own = {
        "server_model": reply["model"],
        "server_fingerprint": reply["fingerprint"],
        "server_finish": reply["finish"],
        "server_prompt_tokens": usage["prompt"],
        "server_cached_tokens": usage["cached"],
        "server_completion_tokens": usage["completion"],
        "server_reasoning_tokens": usage["reasoning"],
        "server_seconds": reply["seconds"],
        "server_attempts": reply["attempts"],
        "server_sent": [f"{image.size.height}x{image.size.width}" for image in request.images],
        "server_detail": request.server.detail if seen else None,
        "server_tokens_fit": None,
    }
    if not seen:
        return own
    if not counted:
        return own | {"visual_tokens": float("nan")}
    return own | {"server_tokens_fit": fit.of(text(request.turns), usage["prompt"], shown.all_tokens)}


def costs(reply: dict) -> dict:
    """What is known of what an answer cost (`medstudy.evaluation.costs.NUMBERS`): its tokens, and the time to it."""
    usage = reply["usage"]
    known = {"prompt_tokens": usage["prompt"], "answer_tokens": usage["completion"], "seconds": reply["seconds"]}
    return {name: value for name, value in known.items() if value is not None}

"""One request: a conversation, the images that it shows, and the settings of its answer; its key is all that decides.

Images are sent as PNG at exactly the size that was planned, so that nothing is lost on the way.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image

from medstudy.engine import tensor_cache
from medstudy.params import Server
from medstudy.resolution.sizes import Size

PART = "image"  # the type of a part of a conversation that stands for an image


@dataclass(frozen=True)
class Sent:
    """An image as it is sent. digest: of its pixels, so that the key does not depend on the encoder of PNG."""

    size: Size
    digest: str
    uri: str

    @classmethod
    def of(cls, pixels: torch.Tensor) -> Sent:
        """pixels: [height, width, 3] uint8."""
        array, buffer = pixels.contiguous().numpy(), io.BytesIO()
        Image.fromarray(array).save(buffer, format="PNG", compress_level=1)
        size = Size(*array.shape[:2])
        digest = hashlib.sha256(f"{size.height}x{size.width} ".encode() + array.tobytes()).hexdigest()
        return cls(size, digest, "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode())


@dataclass(frozen=True)
class Request:
    """turns: of `medstudy.models.prompts.messages`, with a part of type "image" for each of `images`, in order."""

    model: str
    server: Server
    turns: Sequence[dict]
    images: Sequence[Sent]
    max_new_tokens: int

    @property
    def settings(self) -> dict:
        """What the request says besides model and messages: greedy decoding, as far as the server takes it."""
        greedy = {"temperature": 0.0, "seed": self.server.seed}
        kept = {name: value for name, value in greedy.items() if name not in self.server.omit}
        return kept | {self.server.limit: self.max_new_tokens} | self.server.extra

    @property
    def key(self) -> str:
        """SHA-256 in hex of all that decides the answer."""
        shown = [image.digest for image in self.images]
        return tensor_cache.key(self.model, list(self.turns), shown, self.settings, self.server.detail)

    def messages(self) -> list[dict]:
        """The conversation in the form of OpenAI's interface."""
        images = iter(self.images)
        return [{"role": turn["role"], "content": [self._part(part, images) for part in turn["content"]]}
                for turn in self.turns]

    def _part(self, part: dict, images: object) -> dict:
        if part["type"] != PART:
            return part
        detail = {} if self.server.detail is None else {"detail": self.server.detail}
        return {"type": "image_url", "image_url": {"url": next(images).uri} | detail}

    @property
    def text_bytes(self) -> int:
        """Bytes of the text in UTF-8: at least as many as its tokens."""
        return sum(len(part["text"].encode()) for turn in self.turns for part in turn["content"] if "text" in part)


def text(turns: Sequence[dict]) -> str:
    """A conversation to be read in a record: the server writes it by its own template."""
    lines = []
    for turn in turns:
        content = "".join("<image>" if part["type"] == PART else part["text"] for part in turn["content"])
        lines.append(f"{turn['role']}: {content}")
    return "\n".join(lines)

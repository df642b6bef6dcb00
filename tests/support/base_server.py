"""The shipped base behind OpenAI's interface on the loopback interface, by its own processor and `generate`."""

from __future__ import annotations

import base64
import io
from threading import Lock

import torch
from PIL import Image

from medstudy import models
from medstudy.params import Model
from tests.support.families import own_inputs
from tests.support.openai_server import OpenAIServer

LIMITS = ("max_completion_tokens", "max_tokens")


class BaseServer(OpenAIServer):
    """Answers one request at a time, greedily."""

    def __init__(self):
        super().__init__()
        self.family, self.models, self._alone = models.load(Model()), [{"id": "base", "owned_by": "us"}], Lock()

    def reply(self, body: dict, finish: str = "stop") -> dict:
        said = super().reply(body, finish)
        with self._alone, torch.inference_mode():
            text, prompt, tokens = self._answer(body)
        said["choices"][0]["message"]["content"] = text
        said["usage"] |= {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
        return said

    def _answer(self, body: dict) -> tuple[str, int, int]:
        """The answer, and the numbers of tokens before and in it."""
        images = [part for turn in body["messages"] for part in turn["content"] if _is_image(part)]
        turns = [{"role": turn["role"], "content": _content(turn["content"])} for turn in body["messages"]]
        prompt = self.family.processor.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
        inputs = own_inputs(self.family, prompt, _picture(images[0]) if images else None)
        self.family.model.model.rope_deltas = None
        limit = next(body[name] for name in LIMITS if name in body)
        made = self.family.model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        count = inputs["input_ids"].shape[1]
        return self.family.text(made[0, count:].tolist()), count, made.shape[1] - count


def _is_image(part: object) -> bool:
    return isinstance(part, dict) and part["type"] == "image_url"


def _content(content: str | list[dict]) -> str | list[dict]:
    if isinstance(content, str):
        return content
    return [{"type": "image"} if _is_image(part) else part for part in content]


def _picture(part: dict) -> torch.Tensor:
    """[height, width, 3] uint8."""
    image = Image.open(io.BytesIO(base64.b64decode(part["image_url"]["url"].partition(",")[2])))
    return torch.frombuffer(bytearray(image.convert("RGB").tobytes()), dtype=torch.uint8).reshape(*image.size[::-1], 3)

"""A checkpoint's own processor, as family `auto` uses it: prompts by its chat template, inputs of text and an image."""

from __future__ import annotations

from copy import copy
from typing import Any

from jinja2 import TemplateError
from PIL import Image
from transformers import BatchFeature, ProcessorMixin

from medstudy.errors import ModelError
from medstudy.models.prompts import SYSTEM
from medstudy.resolution.sizes import Size

REMEMBERED = 16  # sizes whose black images are kept, so that the image processor is not called again


class Reader:
    """Calls a processor for one text and at most one image."""

    def __init__(self, processor: ProcessorMixin):
        self.processor = processor
        self._black: dict[Size, ProcessorMixin] = {}

    def read(self, text: str, image: Image.Image | None) -> BatchFeature:
        """The inputs of a model for a prompt with its image."""
        if image is None:
            return self.processor.tokenizer([text], return_tensors="pt", **self._special(text))
        return self._call(self.processor, text, image)

    def read_black(self, text: str, size: Size) -> BatchFeature:
        """The same with a black image of that size, which is processed once."""
        if size not in self._black:
            while len(self._black) >= REMEMBERED:
                self._black.pop(next(iter(self._black)))
            self._black[size] = copy(self.processor)
            self._black[size].image_processor = _Remembering(self.processor.image_processor)
        return self._call(self._black[size], text, Image.new("RGB", (size.width, size.height)))

    def tokens(self, text: str, size: Size | None) -> list[int]:
        """The tokens of a prompt with an image of that size, or (None) without an image."""
        inputs = self.read(text, None) if size is None else self.read_black(text, size)
        return inputs["input_ids"][0].tolist()

    def _call(self, processor: ProcessorMixin, text: str, image: Image.Image) -> BatchFeature:
        return processor(text=[text], images=[image], return_tensors="pt", text_kwargs=self._special(text))

    def _special(self, text: str) -> dict[str, bool]:
        """If the template writes the token that begins a text, the tokenizer must not add a second one."""
        begin = self.processor.tokenizer.bos_token
        return {"add_special_tokens": not (begin and text.startswith(begin))}


class _Remembering:
    """An image processor that computes one image once for each set of options."""

    def __init__(self, processor: Any):
        self.processor, self.results = processor, {}

    def __call__(self, images: Any, **options: Any) -> BatchFeature:
        key = repr(sorted(options.items()))
        if key not in self.results:
            self.results[key] = self.processor(images, **options)
        return BatchFeature(dict(self.results[key]))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)


def written(processor: ProcessorMixin, source: str, text: str, image: bool, answer: str | None = None) -> str:
    """The chat template's text up to the answer, or with it; the system prompt joins the question if it has no role.

    Without a template: the image's placeholder, then the system prompt and the text. Raises ModelError.
    """
    token = getattr(processor, "image_token", "")
    if processor.chat_template is None:
        return f"{token}\n" * (image and hasattr(processor, "image_token")) + f"{SYSTEM}\n{text}\n{answer or ''}"
    for system in (True, False):
        question = {"type": "text", "text": text if system else f"{SYSTEM}\n\n{text}"}
        messages = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}] * system
        messages.append({"role": "user", "content": [*[{"type": "image"}] * image, question]})
        if answer is not None:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        try:
            prompt = processor.apply_chat_template(messages, add_generation_prompt=answer is None, tokenize=False)
        except (TemplateError, TypeError, KeyError):
            continue
        if SYSTEM in prompt and text.strip() in prompt and (not image or token in prompt):
            return prompt
    raise ModelError(
        f"A chat template must write what it is given, but that of {source!r} leaves out the text or the image. "
        "Repair the template, or remove it from the checkpoint."
    )

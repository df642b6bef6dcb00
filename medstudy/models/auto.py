"""Any other model of transformers that reads an image and text and writes text: what its own processor makes of it.

A policy resizes the image before the processor sees it, and the processor does what it does: with a tower of one size
it enlarges what a low policy left, and "native" is no more than that size. What is recorded as shown is what the
processor is given, and the visual tokens are those that it then really writes.

What this family cannot do, and the others can:
- share an image among its questions: each question is a sequence of its own, through the model's own forward pass;
- keep a frozen tower's features (`training.cache_features` must be false), or pack rows for a flash kernel;
- several images a prompt;
- impose a size on the encoder, or tell whether a policy changed anything that is left after the processor's own resize;
- models that have an encoder for their text, or whose logits are not their head's product with the last hidden states.
FLOPs are counted from the parameters, so a plan is rougher; memory is that of packed rows, which these are not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from jinja2 import TemplateError
from PIL import Image
from transformers import BatchFeature, LogitsProcessor, LogitsProcessorList

from medstudy.data.example import Question, Shot
from medstudy.engine import attention, flops
from medstudy.engine.row_layout import Packed, Row
from medstudy.errors import ModelError
from medstudy.models import generation
from medstudy.models.family import Family
from medstudy.models.prompts import SYSTEM, user_text
from medstudy.resolution.sizes import Geometry, Shown, Size

TYPES = ("token_type_ids", "mm_token_type_ids")
TEXT = ("input_ids", "attention_mask", "labels", *TYPES)  # what a processor makes of text
REMEMBERED = 16  # sizes whose tokens are looked up without asking the image processor again
REFERENCE = Size(224, 224)  # what the ratio of patches to visual tokens is read from
_NOTHING = Question(id="", text="", answer="", kind="open", task="")
_ANSWER = "ANSWER"


@dataclass(frozen=True)
class Realised(Geometry):
    """Any size; its visual tokens are counted in what the processor makes of an image of that size."""

    count: Callable[[Size], int]
    floats: ClassVar[bool] = False

    @property
    def sizes(self) -> str:
        return "whatever its own processor makes of an image"

    def tokens(self, size: Size) -> int:
        return self.count(size)


class Auto(Family):
    """See the module. A grid is [images, 3]: 1, height, width of what the processor is given."""

    name = "auto"
    shares_prefix = False
    needs_template = False

    @classmethod
    def _ready(cls, model, processor, source: str, revision: str) -> Auto:
        """Raises ModelError for a model that it would train or read wrongly."""
        lacks = [name for name in ("tokenizer", "image_processor") if not hasattr(processor, name)]
        lacks += [name for name in ("model", "lm_head") if not hasattr(model, name)]
        lacks += ["an image token"] * (getattr(model.config, "image_token_id", None) is None)
        if lacks or model.config.is_encoder_decoder:
            has = f"no {', '.join(lacks)}" if lacks else "an encoder of text"
            raise ModelError(
                f"Family {cls.name} needs a processor of images and text, and a decoder with a head that reads image "
                f"tokens among its own; {source!r} has {has}. Use a checkpoint of one of the named families."
            )
        why = "each question is a sequence of its own, through the model's own forward pass"
        made = cls(model.eval(), processor, revision, attention.Choice("sdpa", why))
        if model.device.type != "meta":
            made._probe(source)
        return made

    def check(self, source: str) -> None:
        """See `Family.check`; its own processor is asked once."""
        super().check(source)
        try:
            self._tokens(REFERENCE)
        except Exception as error:  # of whatever kind its settings lead to
            raise ModelError(
                f"Family {self.name} gives images to the checkpoint's own processor, but that of {source!r} cannot "
                f"read one: {error}. Restore its preprocessor_config.json and processor_config.json."
            ) from error

    @torch.no_grad()
    def _probe(self, source: str) -> None:
        """Logits must be the head's product with the last hidden states: a cap or a scale would be left out."""
        ids = torch.tensor([self.ids("Is it?")], device=self.model.device)
        theirs = self.model(input_ids=ids).logits
        ours = self.model.lm_head(self.model.model(input_ids=ids).last_hidden_state)
        if not torch.allclose(ours, theirs.to(ours.dtype), rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
            raise ModelError(
                f"Family {self.name} takes the head's product with the last hidden states as logits, but {source!r} "
                "computes them in another way. Use a checkpoint without a cap or a scale of its logits."
            )

    @property
    def geometry(self) -> Realised:
        return Realised(1, 1, self._tokens)

    def _tokens(self, size: Size) -> int:
        return self._sequence(self.prompt(_NOTHING), size).count(self.image_token)

    def grid(self, size: Size) -> torch.Tensor:
        return torch.tensor([[1, *size]])

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """From the numbers that the processor makes, of patches of the configuration's size."""
        return tuple(self._patches(Size(*grid[1:])) for grid in grids.tolist())

    def _patches(self, size: Size) -> int:
        values = self._read(self._blank(size), self.prompt(_NOTHING), _blank(size))["pixel_values"]
        return values.shape[-2] if values.ndim < 4 else max(1, values.numel() // (3 * self.patch_size**2))

    @property
    def patch_size(self) -> int:
        """14 where the configuration names none."""
        found = getattr(self.model.config.vision_config, "patch_size", None) or 14
        return found if isinstance(found, int) else found[0]

    def features(self, pixel_values, grid):
        raise NotImplementedError("supply.kept refuses a study that would keep them")

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """The model's own: a row has no prefix."""
        return torch.arange(len(prefix))[None]

    @cached_property
    def language_name(self) -> str:
        return self._names[1].split(".")[-1]

    @cached_property
    def _names(self) -> tuple[str, str]:
        """The tower's and the language model's names in the model."""
        known = {id(module): name for name, module in self.model.named_modules()}
        return known[id(self.model.get_encoder(modality="image"))], known[id(self.model.get_decoder())]

    def part(self, name: str) -> str:
        tower, language = self._names
        if tower and name.startswith(f"{tower}."):
            return "tower"
        return "language" if name.startswith((f"{language}.", "lm_head.")) else "merger"

    @cached_property
    def shape(self) -> flops.Shape:
        """From the parameters: a matrix multiplies and adds as often as it has numbers."""
        vision, text = self.model.config.vision_config, self.model.config.get_text_config()
        counts = {"tower": 0, "merger": 0, "language": 0}
        for name, parameter in self.model.named_parameters():
            if parameter.ndim > 1 and "embed_tokens" not in name and "lm_head" not in name:
                counts[self.part(name)] += parameter.numel()
        blocks = _named(vision, "num_hidden_layers", "depth", "num_layers") or 1
        queries = text.num_attention_heads
        width = _named(text, "head_dim") or text.hidden_size // queries
        keys = _named(text, "num_key_value_heads") or queries
        return flops.Shape(
            blocks=blocks,
            block_weights=counts["tower"] // blocks,
            width=_named(vision, "hidden_size", "embed_dim") or text.hidden_size,
            patch_weights=0,
            merge=max(1, round(self._patches(REFERENCE) / max(1, self._tokens(REFERENCE)))),
            merger_weights=counts["merger"],
            layers=text.num_hidden_layers,
            layer_weights=counts["language"] // text.num_hidden_layers,
            attention=queries * width,
            keys=keys * width,
            hidden=text.hidden_size,
            vocabulary=text.vocab_size,
        )

    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str:
        """The chat template's text up to the answer; the author's system prompt before the question if it has no role.

        Without a template: the author's two texts, the image's placeholder before them. Raises ModelError.
        """
        if context:
            raise ModelError(
                f"Family {self.name} shows one image a prompt, but {question.id!r} has {1 + len(context)}. Use a model "
                "of one of the named families, or leave the data set out."
            )
        return self._written(user_text(question), image)

    def _written(self, text: str, image: bool, answer: str | None = None) -> str:
        if self.processor.chat_template is None:
            placeholder = f"{self.processor.image_token}\n" if image and hasattr(self.processor, "image_token") else ""
            return f"{placeholder}{SYSTEM}\n{text}\n{answer or ''}"
        for system in (True, False):
            asked = [{"type": "image"}] * image + [{"type": "text", "text": text if system else f"{SYSTEM}\n\n{text}"}]
            messages = [{"role": "system", "content": [{"type": "text", "text": SYSTEM}]}] * system
            messages.append({"role": "user", "content": asked})
            if answer is not None:
                messages.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
            try:
                made = self.processor.apply_chat_template(
                    messages, add_generation_prompt=answer is None, tokenize=False
                )
            except (TemplateError, TypeError, KeyError):
                continue
            marked = not image or getattr(self.processor, "image_token", "") in made
            if SYSTEM in made and text.strip() in made and marked:
                return made
        raise ModelError(
            f"A chat template must write what it is given, but that of {self.model.name_or_path!r} leaves out the text "
            "or the image. Repair the template, or take it out of the checkpoint."
        )

    def marks(self, text: str) -> int:
        """Places for images in a prompt; a processor without an image token of its own puts them there itself."""
        mark = getattr(self.processor, "image_token", None) or self.processor.tokenizer.decode(self.image_token)
        return text.count(mark)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What the template writes between a prompt and its answer, and after the answer."""
        prompt, whole = self._written("Is it?", False), self._written("Is it?", False, _ANSWER)
        before, _, after = whole.rpartition(_ANSWER)
        return before[len(prompt) :] if before.startswith(prompt) else "", after

    @cached_property
    def end(self) -> int:
        """The special token that the template writes after an answer, else the tokenizer's own end."""
        tokenizer = self.processor.tokenizer
        after = self.ids(self._around[1].lstrip())
        return after[0] if after and after[0] in tokenizer.all_special_ids else tokenizer.eos_token_id

    def answer_ids(self, text: str) -> list[int]:
        """As they come behind a prompt: some tokenizers spell a word in another way where a text begins."""
        prompt = self._written("Is it?", False)
        before, whole = self.ids(prompt), self.ids(prompt + self._around[0] + text)
        joined = whole[len(before) :] if whole[: len(before)] == before else self.ids(self._around[0] + text)
        return [*joined, self.end]

    def row(
        self, questions: tuple[Question, ...], shown: Shown, answered: bool, context: tuple[Shot, ...] = ()
    ) -> Row:
        """As `prefix.row`, of whole sequences: nothing is shared."""
        image = shown.visual_tokens > 0
        size = shown.size if image else None
        prompts = [self._sequence(self.prompt(question, image, context), size) for question in questions]
        answers = [self.answer_ids(question.answer) if answered else [] for question in questions]
        grids = self.grid(shown.size) if image else torch.zeros((0, 3), dtype=torch.long)
        return Row(
            prefix=[],
            branches=[prompt + answer for prompt, answer in zip(prompts, answers, strict=True)],
            answers=list(map(len, prompts)),
            grids=grids,
            patches=self.patch_counts(grids) * len(questions),
        )

    def standing(self, shown: Shown) -> int:
        """Tokens of a sequence with that view and an empty question."""
        image = shown.visual_tokens > 0
        return len(self._sequence(self.prompt(_NOTHING, image), shown.size if image else None))

    def look(self, images: list[torch.Tensor], grids: torch.Tensor) -> tuple[Image.Image, ...]:
        """Images [height, width, 3] uint8 as the processor will be given them."""
        return tuple(Image.fromarray(image.numpy()) for image in images)

    def hidden(self, packed: Packed, seen: tuple[Image.Image, ...] | None, cache=None) -> torch.Tensor:
        """[S, width] last hidden states of a row of sequences, one after the other."""
        made = [self.model.model(**inputs, use_cache=False).last_hidden_state[0] for inputs in self._each(packed, seen)]
        return torch.cat(made)

    def generated(
        self, packed: Packed, seen: tuple[Image.Image, ...] | None, limit: int,
        drawing: Callable[[int], LogitsProcessor] | None = None,
    ) -> list[list[int]]:
        """The tokens of every question, by transformers' own `generate`, up to an end: the most likely ones.

        drawing: makes the logits processor that chooses the tokens of the k-th question instead.
        """
        said = []
        ends = self.ends
        for number, inputs in enumerate(self._each(packed, seen)):
            processors = LogitsProcessorList([] if drawing is None else [drawing(number)])
            with nullcontext() if drawing is None else generation.plain(self.model):
                out = self.model.generate(
                    **inputs, logits_processor=processors, max_new_tokens=limit, do_sample=False,
                    temperature=None, top_p=None, top_k=None, eos_token_id=list(ends), pad_token_id=self.end,
                )
            tokens = out[0, inputs["input_ids"].shape[1] :].tolist()
            stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            said.append(tokens[:stop])
        return said

    def _each(self, packed: Packed, seen):
        """The model's inputs of every sequence of a row."""
        packed = packed.to(self.model.device)
        first = torch.full((len(packed.last),), packed.ids.shape[1], device=packed.ids.device)
        first = first.scatter_reduce(0, packed.question, packed.at + 1, "amin")  # where its answer starts
        start, number = 0, 0
        for index, lengths in enumerate(packed.plan.branches):
            made = {} if seen is None else self._read(self.processor, self.prompt(_NOTHING), seen[index])
            for length in lengths:
                ids = packed.ids[:, start : start + length]
                yield self._inputs(ids, made, int(first[number]) - start)
                start, number = start + length, number + 1

    def _inputs(self, ids: torch.Tensor, made: dict, answer: int) -> dict:
        """Those of one sequence [1, length], whose answer starts at `answer`.

        Token types either tell images (1) from text, or, where all of a prompt has 0, the prompt from its answer (1).
        """
        inputs = {name: value.to(ids.device) for name, value in made.items() if name not in TEXT}
        for name in TYPES:
            if name in made:
                answered = torch.arange(ids.shape[1], device=ids.device)[None] >= answer
                inputs[name] = ((ids == self.image_token) if made[name].any() else answered).long()
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}

    def _sequence(self, text: str, size: Size | None) -> list[int]:
        """The processor's tokens of a prompt with an image of that size, or of the prompt alone."""
        if size is None:
            return self._read(self.processor, text, None)["input_ids"][0].tolist()
        return self._read(self._blank(size), text, _blank(size))["input_ids"][0].tolist()

    def _read(self, processor, text: str, image: Image.Image | None) -> dict:
        if image is None:
            return self.processor.tokenizer([text], return_tensors="pt", **self._special(text))
        return processor(text=[text], images=[image], return_tensors="pt", text_kwargs=self._special(text))

    def _special(self, text: str) -> dict:
        """A template that writes the token that begins a text must not be given a second one."""
        begin = self.processor.tokenizer.bos_token
        return {"add_special_tokens": not (begin and text.startswith(begin))}

    def _blank(self, size: Size):
        """The processor, with an image processor that looks at a black image of that size once."""
        if size not in self._blanks:
            while len(self._blanks) >= REMEMBERED:
                self._blanks.pop(next(iter(self._blanks)))
            self._blanks[size] = copy(self.processor)
            self._blanks[size].image_processor = _Remembering(self.processor.image_processor)
        return self._blanks[size]

    @cached_property
    def _blanks(self) -> dict:
        return {}


class _Remembering:
    """An image processor that is only asked about one image."""

    def __init__(self, processor):
        self.processor, self.made = processor, {}

    def __call__(self, images, **options) -> BatchFeature:
        name = repr(sorted(options.items()))
        if name not in self.made:
            self.made[name] = self.processor(images, **options)
        return BatchFeature(dict(self.made[name]))

    def __getattr__(self, name):
        return getattr(self.processor, name)


def _blank(size: Size) -> Image.Image:
    return Image.new("RGB", (size.width, size.height))


def _named(config, *names: str) -> int | None:
    """The first of these that a configuration has."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)

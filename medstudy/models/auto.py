"""Any other model of transformers that reads an image and text and writes text, with whatever its own processor does.

A policy resizes the image before the processor sees it. If the tower has a single size, the processor enlarges what a
low policy left, and "native" is at most that size. The recorded size is the one that the processor is given; the
recorded visual tokens are those that it really writes.

What this family cannot do, and the others can:
- share an image among its questions: each question is a sequence of its own, through the model's own forward pass;
- keep a frozen tower's features (`training.cache_features` must be false), or pack rows for a flash kernel;
- show several images in a prompt;
- impose a size on the encoder, or tell whether a policy still changes anything after the processor's own resize;
- use models that have an encoder for text, or whose logits are not the head's product with the last hidden states.
FLOPs are counted from the parameters, so an estimate is rougher. Memory is estimated as for packed rows, which these
are not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from PIL import Image
from transformers import Cache, LogitsProcessor, LogitsProcessorList, PretrainedConfig, PreTrainedModel, ProcessorMixin

from medstudy.data.example import Question, Shot
from medstudy.engine import attention, flops
from medstudy.engine.family_protocol import Part
from medstudy.engine.row_layout import PackedRow, Row
from medstudy.errors import ModelError
from medstudy.models import generation_config
from medstudy.models.auto_processor import Reader, written
from medstudy.models.family import Family
from medstudy.models.prompts import user_text
from medstudy.resolution.sizes import Geometry, Size, View

TYPES = ("token_type_ids", "mm_token_type_ids")
TEXT = ("input_ids", "attention_mask", "labels", *TYPES)  # what a processor makes of text
REFERENCE = Size(224, 224)  # the image from which the ratio of patches to visual tokens is read
_NOTHING = Question(id="", text="", answer="", kind="open", task="")
_ANSWER = "ANSWER"
_PLAIN = "Is it?"


@dataclass(frozen=True)
class Realised(Geometry):
    """Any size; its visual tokens are counted in what the processor makes of an image of that size."""

    count: Callable[[Size], int]
    floats: ClassVar[bool] = False
    keeps_places: ClassVar[bool] = False

    @property
    def sizes(self) -> str:
        return "whatever its own processor makes of an image"

    def tokens(self, size: Size) -> int:
        return self.count(size)

    def token_grid(self, size: Size) -> None:
        """Unknown: the processor decides."""


class Auto(Family):
    """See the module. A grid is [images, 3]: 1, height and width of what the processor is given."""

    name = "auto"
    turn_end = ""  # see `end`
    shares_prefix = False
    needs_template = False

    @classmethod
    def accept(cls, model: PreTrainedModel, processor: ProcessorMixin, source: str) -> None:
        """Raises ModelError for a model that this family would train or read wrongly."""
        lacks = [name for name in ("tokenizer", "image_processor") if not hasattr(processor, name)]
        lacks += [name for name in ("model", "lm_head") if not hasattr(model, name)]
        lacks += ["an image token"] * (getattr(model.config, "image_token_id", None) is None)
        if lacks or model.config.is_encoder_decoder:
            has = f"no {', '.join(lacks)}" if lacks else "an encoder of text"
            raise ModelError(
                f"Family {cls.name} needs a processor of images and text, and a decoder with a head that reads image "
                f"tokens among its own; {source!r} has {has}. Use a checkpoint of one of the named families."
            )

    @staticmethod
    def kernel(model: PreTrainedModel, device: torch.device) -> attention.KernelChoice:
        why = "each question is a sequence of its own, through the model's own forward pass"
        return attention.KernelChoice("sdpa", why)

    def check(self, source: str) -> None:
        """See `Family.check`: the head gives the logits, and the processor reads an image."""
        if self.model.device.type != "meta":
            self._check_head(source)
        try:
            self._tokens(REFERENCE)
        except Exception as error:  # of any type, as its settings may break any step
            raise ModelError(
                f"Family {self.name} gives images to the checkpoint's own processor, but that of {source!r} cannot "
                f"read one: {error}. Restore its preprocessor_config.json and processor_config.json."
            ) from error

    @torch.no_grad()
    def _check_head(self, source: str) -> None:
        """Raises ModelError unless logits are the head's product with the last hidden states, uncapped and unscaled."""
        ids = torch.tensor([self.ids(_PLAIN)], device=self.model.device)
        theirs = self.model(input_ids=ids).logits
        ours = self.model.lm_head(self.model.model(input_ids=ids).last_hidden_state)
        if not torch.allclose(ours, theirs.to(ours.dtype), rtol=1e-3, atol=1e-3 * float(theirs.abs().max())):
            raise ModelError(
                f"Family {self.name} takes the head's product with the last hidden states as logits, but {source!r} "
                "computes them in another way. Use a checkpoint without a cap or a scale of its logits."
            )

    # Sizes

    @property
    def geometry(self) -> Realised:
        return Realised(1, 1, self._tokens)

    def _tokens(self, size: Size) -> int:
        return self.reader.tokens(self.prompt(_NOTHING), size).count(self.image_token)

    def grid(self, size: Size) -> torch.Tensor:
        return torch.tensor([[1, *size]])

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """From the numbers that the processor makes, in patches of the configuration's size."""
        return tuple(self._patches(Size(*grid[1:])) for grid in grids.tolist())

    def _patches(self, size: Size) -> int:
        values = self.reader.read_black(self.prompt(_NOTHING), size)["pixel_values"]
        return values.shape[-2] if values.ndim < 4 else max(1, values.numel() // (3 * self.patch_size**2))

    @property
    def patch_size(self) -> int:
        """See `Family.patch_size`; 14 if the configuration has none."""
        size = getattr(self.model.config.vision_config, "patch_size", None) or 14
        return size if isinstance(size, int) else size[0]

    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError("A study that would keep features of this family is refused before it runs.")

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """See `Family.positions`; a row has no prefix, and the model computes its own positions."""
        return torch.arange(len(prefix))[None]

    # Parts and costs

    @cached_property
    def language_name(self) -> str:
        return self._names[1].split(".")[-1]

    @cached_property
    def _names(self) -> tuple[str, str]:
        """The tower's and the language model's names in the model."""
        names = {id(module): name for name, module in self.model.named_modules()}
        return names[id(self.model.get_encoder(modality="image"))], names[id(self.model.get_decoder())]

    def part(self, name: str) -> Part:
        tower, language = self._names
        if tower and name.startswith(f"{tower}."):
            return "tower"
        return "language" if name.startswith((f"{language}.", "lm_head.")) else "merger"

    @cached_property
    def shape(self) -> flops.ModelShape:
        """See `Family.shape`; from the parameters: a matrix multiplies and adds as often as it has numbers."""
        vision, text = self.model.config.vision_config, self.model.config.get_text_config()
        counts = {"tower": 0, "merger": 0, "language": 0}
        for name, parameter in self.model.named_parameters():
            if parameter.ndim > 1 and "embed_tokens" not in name and "lm_head" not in name:
                counts[self.part(name)] += parameter.numel()
        blocks = _first(vision, "num_hidden_layers", "depth", "num_layers") or 1
        queries = text.num_attention_heads
        width = _first(text, "head_dim") or text.hidden_size // queries
        keys = _first(text, "num_key_value_heads") or queries
        return flops.ModelShape(
            blocks=blocks,
            block_weights=counts["tower"] // blocks,
            width=_first(vision, "hidden_size", "embed_dim") or text.hidden_size,
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

    # Text

    @cached_property
    def reader(self) -> Reader:
        return Reader(self.processor)

    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str:
        """See `Family.prompt` and `auto_processor.written`. Raises ModelError."""
        if context:
            raise ModelError(
                f"Family {self.name} shows one image a prompt, but {question.id!r} has {1 + len(context)}. Use a model "
                "of one of the named families, or leave the data set out."
            )
        return self._written(user_text(question), image)

    def _written(self, text: str, image: bool, answer: str | None = None) -> str:
        return written(self.processor, self.model.name_or_path, text, image, answer)

    def image_marks(self, text: str) -> int:
        """See `Family.image_marks`; a processor without an image token of its own puts the model's there itself."""
        mark = getattr(self.processor, "image_token", None) or self.processor.tokenizer.decode(self.image_token)
        return text.count(mark)

    @cached_property
    def _around(self) -> tuple[str, str]:
        """What the template writes between a prompt and its answer, and after the answer."""
        prompt, whole = self._written(_PLAIN, False), self._written(_PLAIN, False, _ANSWER)
        before, _, after = whole.rpartition(_ANSWER)
        return before[len(prompt) :] if before.startswith(prompt) else "", after

    @cached_property
    def end(self) -> int:
        """The special token that the template writes after an answer, else the tokenizer's own end."""
        tokenizer = self.processor.tokenizer
        after = self.ids(self._around[1].lstrip())
        return after[0] if after and after[0] in tokenizer.all_special_ids else tokenizer.eos_token_id

    def answer_ids(self, text: str) -> list[int]:
        """See `Family.answer_ids`; tokenized after a prompt, because a word may differ at the start of a text."""
        prompt = self._written(_PLAIN, False)
        before, whole = self.ids(prompt), self.ids(prompt + self._around[0] + text)
        answer = whole[len(before) :] if whole[: len(before)] == before else self.ids(self._around[0] + text)
        return [*answer, self.end]

    def row(
        self, questions: tuple[Question, ...], shown: View, answered: bool, context: tuple[Shot, ...] = ()
    ) -> Row:
        """See `shared_prefix.row`; the branches are whole sequences, and the prefix is empty."""
        image = shown.visual_tokens > 0
        size = shown.size if image else None
        prompts = [self.reader.tokens(self.prompt(question, image, context), size) for question in questions]
        answers = [self.answer_ids(question.answer) if answered else [] for question in questions]
        grids = self.grid(shown.size) if image else torch.zeros((0, 3), dtype=torch.long)
        return Row(
            prefix=[],
            branches=[prompt + answer for prompt, answer in zip(prompts, answers, strict=True)],
            answers=list(map(len, prompts)),
            grids=grids,
            patches=self.patch_counts(grids) * len(questions),
        )

    def image_length(self, shown: View) -> int:
        """The number of tokens of a sequence with that view and an empty question."""
        image = shown.visual_tokens > 0
        return len(self.reader.tokens(self.prompt(_NOTHING, image), shown.size if image else None))

    # The pass over a row of sequences, one after the other

    def look(self, images: list[torch.Tensor], grids: torch.Tensor) -> tuple[Image.Image, ...]:
        """Images [height, width, 3] uint8 in the form that the processor takes."""
        return tuple(Image.fromarray(image.numpy()) for image in images)

    def hidden(
        self, packed: PackedRow, seen: tuple[Image.Image, ...] | None, cache: Cache | None = None
    ) -> torch.Tensor:
        """[S, width] last hidden states of a row; there is no cache."""
        inputs = self._inputs(packed, seen)
        return torch.cat([self.model.model(**each, use_cache=False).last_hidden_state[0] for each in inputs])

    def generated(
        self, packed: PackedRow, seen: tuple[Image.Image, ...] | None, limit: int,
        drawing: Callable[[int], LogitsProcessor] | None = None,
    ) -> list[list[int]]:
        """The tokens of every answer up to an end, by transformers' own `generate`: greedy, unless `drawing` is given.

        drawing: makes the logits processor that chooses the tokens of the k-th question.
        """
        answers, ends = [], self.ends
        for number, inputs in enumerate(self._inputs(packed, seen)):
            processors = LogitsProcessorList([] if drawing is None else [drawing(number)])
            with nullcontext() if drawing is None else generation_config.plain(self.model):
                out = self.model.generate(
                    **inputs, logits_processor=processors, max_new_tokens=limit, do_sample=False,
                    temperature=None, top_p=None, top_k=None, eos_token_id=list(ends), pad_token_id=self.end,
                )
            tokens = out[0, inputs["input_ids"].shape[1] :].tolist()
            stop = next((place for place, token in enumerate(tokens) if token in ends), len(tokens))
            answers.append(tokens[:stop])
        return answers

    def _inputs(self, packed: PackedRow, seen: tuple[Image.Image, ...] | None) -> Iterator[dict[str, torch.Tensor]]:
        """The model's inputs for every sequence of a row."""
        packed = packed.to(self.model.device)
        # Where each question's answer starts: its first target, or the end of the row if it has none
        first = torch.full((len(packed.last),), packed.ids.shape[1], device=packed.ids.device)
        first = first.scatter_reduce(0, packed.question, packed.at + 1, "amin")
        start, number = 0, 0
        for index, lengths in enumerate(packed.layout.branches):
            read = {} if seen is None else self.reader.read(self.prompt(_NOTHING), seen[index])
            for length in lengths:
                yield self._input(packed.ids[:, start : start + length], read, int(first[number]) - start)
                start, number = start + length, number + 1

    def _input(self, ids: torch.Tensor, read: dict[str, torch.Tensor], answer: int) -> dict[str, torch.Tensor]:
        """The inputs of one sequence [1, length], whose answer starts at `answer`.

        Token types mark images (1) among text; or, if the processor gives a whole prompt type 0, they mark the answer.
        """
        inputs = {name: value.to(ids.device) for name, value in read.items() if name not in TEXT}
        for name in TYPES:
            if name in read:
                answered = torch.arange(ids.shape[1], device=ids.device)[None] >= answer
                inputs[name] = ((ids == self.image_token) if read[name].any() else answered).long()
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self.model.dtype)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids), **inputs}


def _first(config: PretrainedConfig, *names: str) -> int | None:
    """The first of these entries that a configuration has."""
    return next((value for name in names if (value := getattr(config, name, None)) is not None), None)

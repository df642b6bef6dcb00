"""The base class of model families.

To add a family, write one file in this folder with a subclass of `Family`, and name it in `REGISTRY`
(`medstudy/models/__init__.py`) and in `Model.family` (`medstudy/params/`); CONTRIBUTING lists its tests. It says
- what resolution means: `geometry`, `grid`, `patch_counts`;
- how pixels reach the language model: `patches`, `see`, `features`, `merge`;
- where tokens stand: `positions`;
- what a pass costs: `cost_shape`;
and sets the class attributes below. Families of tiles start from `medstudy.models.tiled.Tiled` and write less.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from transformers import Cache, DynamicCache, PretrainedConfig, PreTrainedModel, ProcessorMixin

from medstudy.data.example import Question, Shot
from medstudy.data.final_answer import MARKS
from medstudy.engine import attention, flops
from medstudy.engine.family_protocol import Part
from medstudy.engine.row_layout import PackedRow, VisualTokens
from medstudy.errors import ModelError
from medstudy.models import prompts, shades
from medstudy.resolution.sizes import Geometry, Size, View

NORMALISATION = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")  # settings of a processor


@dataclass(frozen=True)
class Family:
    """A loaded model in evaluation mode, its processor, the identity of its weights, and the attention kernel.

    coordinates: how it writes points and boxes, a name of `medstudy.data.coordinates`; "" if that is not known.
    """

    model: PreTrainedModel
    processor: ProcessorMixin
    revision: str
    attention: attention.KernelChoice
    coordinates: str = ""

    # To set: names

    name = ""  # the checkpoint's model_type
    images = ""  # the image processor whose numbers `patches` reproduces; "" where that processor itself is called
    turn_end = "<|im_end|>"  # the token that ends an answer in the chat template
    language_name = "language_model"  # the language model's attribute in transformers' class
    tower_name = "vision_tower"  # the vision tower's
    merger_names = ("multi_modal_projector.", "image_newline")  # parts of the names of parameters between the two
    both_ways = False  # whether the tokens of an image attend to each other in both directions
    shares_prefix = True  # whether an image's questions share one encoding of it
    needs_template = True  # whether only the checkpoint's chat template can write a prompt

    # To implement: sizes, pixels, positions, cost

    @property
    def geometry(self) -> Geometry:
        """Which sizes this family can show, and how many tokens they take."""
        raise NotImplementedError

    def grid(self, size: Size) -> torch.Tensor:
        """[1, 3] the layout of an image shown at `size`, as `see` and `merge` need it."""
        raise NotImplementedError

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """The tower's sequence length, in patches, for each image of grids [images, 3]."""
        raise NotImplementedError

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> the tower's input, float32 on the model's device."""
        raise NotImplementedError

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        """Patches of images, joined in order, through the tower and the mergers."""
        raise NotImplementedError

    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """[patches, width] all that the mergers read of one image: what a cache of a frozen tower holds."""
        raise NotImplementedError

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> VisualTokens:
        """Features of images, joined in order, through the mergers."""
        raise NotImplementedError

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """Positions [axes, prefix] of the shared prefix; a branch continues at their maximum + 1 on all axes."""
        raise NotImplementedError

    @classmethod
    def cost_shape(cls, config: PretrainedConfig) -> flops.ModelShape:
        """The sizes from which FLOPs and memory are computed."""
        raise NotImplementedError

    # To override where the default does not fit

    @classmethod
    def accept(cls, model: PreTrainedModel, processor: ProcessorMixin, source: str) -> None:
        """Raises ModelError for a checkpoint of another family."""
        if model.config.model_type != cls.name:
            raise ModelError(
                f"Family {cls.name} needs its own checkpoints, got a {model.config.model_type} in {source!r}. "
                f"Set model.family in the study's params."
            )

    @staticmethod
    def kernel(model: PreTrainedModel, device: torch.device) -> attention.KernelChoice:
        """The attention kernel for packed rows on a device."""
        return attention.choose(device, model.dtype, heads(model.config.text_config))

    @classmethod
    def prepare(cls, model: PreTrainedModel) -> None:
        """Change a loaded model in place, where this family computes something in another way than transformers."""

    def check(self, source: str) -> None:
        """Raises ModelError for settings of a checkpoint that this family cannot follow, beyond the common checks."""

    @property
    def layout(self) -> dict[str, int | dict]:
        """Settings of the processor that must agree with the model's configuration, and what the configuration says."""
        return {}

    @property
    def pixel_settings(self) -> tuple:
        """All settings of the processor on which the numbers of `patches` depend."""
        return tuple(getattr(self.processor.image_processor, name) for name in NORMALISATION)

    @property
    def patch_size(self) -> int:
        """Pixels a side of a patch."""
        return self.model.config.vision_config.patch_size

    @cached_property
    def shape(self) -> flops.ModelShape:
        """See `cost_shape`."""
        return self.cost_shape(self.model.config)

    def feature_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """Rows of what `features` returns for each image of grids [images, 3]."""
        return self.patch_counts(grids)

    @property
    def feature_width(self) -> int:
        """Numbers a patch in what `features` returns."""
        return self.shape.width

    def part(self, name: str) -> Part:
        """The part of the model to which a parameter belongs, by its name."""
        if any(merger in name for merger in self.merger_names):
            return "merger"
        return "tower" if f"{self.tower_name}." in name else "language"

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.processor.tokenizer.convert_tokens_to_ids(self.turn_end)

    def prompt(
        self, question: Question, image: bool = True, context: Sequence[Shot] = (), crops: Sequence[int] = ()
    ) -> str:
        """The chat template's text up to the answer, with a placeholder for each image (none when blind).

        crops: for each image, how many crops of it follow it, as images of their own; (): none.
        """
        turns = prompts.messages(question, image, context, crops)
        return self.processor.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)

    def ids(self, text: str) -> list[int]:
        """The tokens of a text."""
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer_ids(self, text: str) -> list[int]:
        """The tokens of an answer and its end, as the chat template writes them after a prompt."""
        return [*self.ids(text), self.end]

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """The tokens that stand for an image of `count` visual tokens and layout `grid` [3] in a row."""
        return [self.image_token] * count

    def image_marks(self, text: str) -> int:
        """The number of placeholders for images in a prompt."""
        return self.ids(text).count(self.image_token)

    def image_length(self, shown: View) -> int:
        """The number of tokens that stand for a view's images in a row, including the tokens around them."""
        return sum(len(self.image_ids(view.visual_tokens, self.grid(view.size)[0])) for view in shown.views)

    def cache(self) -> Cache:
        """An empty cache of keys and values, for `hidden` and then `advance`."""
        return DynamicCache(config=self.model.config)

    def masks(self, mask: torch.Tensor, positions: torch.Tensor, key_positions: torch.Tensor) -> Any:
        """`advance`'s mask in the form that the language model takes."""
        return mask

    def language(self, *, position_ids: torch.Tensor, **inputs: Any) -> Any:
        """The language model on a row, at positions [axes, 1, S]."""
        return getattr(self.model.model, self.language_name)(position_ids=position_ids, **inputs)

    # The same in every family: the engine calls these

    def look(self, images: list[torch.Tensor], grids: torch.Tensor) -> VisualTokens:
        """A row's images, each [height, width, 3] uint8, through the tower and the mergers."""
        return self.see(torch.cat([self.patches(image) for image in images]), grids)

    def hidden(self, packed: PackedRow, seen: VisualTokens | None, cache: Cache | None = None) -> torch.Tensor:
        """[S, width] last hidden states of a packed row; `cache` is filled with its keys and values."""
        model = self.model.model
        embeds, deep = model.get_input_embeddings()(packed.ids), {}
        if seen is not None:
            if packed.visual != len(seen.tokens):
                raise ModelError(f"A row must hold a place for each visual token, got {packed.visual} places for "
                                 f"{len(seen.tokens)} tokens. Plan the row and its images with the same views.")
            at = packed.ids == self.image_token
            embeds = embeds.masked_scatter(at[..., None], seen.tokens.to(embeds.dtype))
            deep = {"visual_pos_masks": at, "deepstack_visual_embeds": list(seen.deep)} if seen.deep else {}
        positions = packed.positions
        if seen is not None and seen.kept is not None:  # a token that is kept has its own position
            positions = positions.clone()
            positions[:, packed.ids == self.image_token] = packed.places[:, seen.kept]
        outputs = self.language(
            inputs_embeds=embeds,
            position_ids=positions,
            past_key_values=cache,
            use_cache=cache is not None,
            layout=packed.layout,
            **deep,
        )
        return outputs.last_hidden_state[0]

    def advance(
        self, ids: torch.Tensor, positions: torch.Tensor, key_positions: torch.Tensor, mask: torch.Tensor, cache: Cache
    ) -> torch.Tensor:
        """[Q, width] last hidden states of the next token of Q branches (ids [1, Q]); it is added to the cache.

        positions: [axes, 1, Q]. key_positions: [axes, cache + Q], the positions of all tokens, cached ones first.
        mask: [1, 1, Q, cache + Q] bool, True where a token may attend.
        """
        outputs = self.language(
            inputs_embeds=self.model.model.get_input_embeddings()(ids), position_ids=positions,
            attention_mask=self.masks(mask, positions, key_positions), past_key_values=cache, use_cache=True,
        )
        return outputs.last_hidden_state[0]

    @property
    def ends(self) -> tuple[int, ...]:
        """All tokens at which `generate` stops, including those of the checkpoint's generation config."""
        listed = self.model.generation_config.eos_token_id
        listed = listed if isinstance(listed, list) else [] if listed is None else [listed]
        return tuple(sorted({self.end, *listed}))

    @property
    def image_token(self) -> int:
        return self.model.config.image_token_id

    @property
    def merge_side(self) -> int:
        """Patches of a visual token, a side, where a grid counts patches."""
        return self.geometry.factor // self.patch_size

    def text(self, ids: list[int]) -> str:
        """The text of an answer's tokens; of special ones it has those that mark reasoning, answers or boxes."""
        tokenizer = self.processor.tokenizer
        if not self._marks.intersection(ids):
            return tokenizer.decode(ids, skip_special_tokens=True).strip()
        dropped = set(tokenizer.all_special_ids) - self._marks
        return tokenizer.decode([token for token in ids if token not in dropped]).strip()

    @cached_property
    def _marks(self) -> set[int]:
        """The special tokens that `text` keeps."""
        tokenizer = self.processor.tokenizer
        special = zip(tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True)
        return {token for text, token in special if text in MARKS}

    @property
    def tower(self) -> list[torch.nn.Parameter]:
        """The vision tower's parameters, without the mergers that map its features to the language model."""
        return [parameter for name, parameter in self.model.named_parameters() if self.part(name) == "tower"]

    def freeze_tower(self) -> None:
        """Train the mergers and the language model only, as is usual when these models are fine-tuned."""
        for parameter in self.tower:
            parameter.requires_grad_(False)

    # For `patches` of a family

    def blocks(self, image: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of visual tokens, or tiles, in an image [height, width, 3]. Raises ModelError."""
        factor = self.geometry.factor
        if any(side % factor for side in image.shape[:2]):
            raise ModelError(
                f"An image's sides must be multiples of {factor}, got {tuple(image.shape[:2])}. Resize it to the size "
                "of a view that was planned for this family."
            )
        return image.shape[0] // factor, image.shape[1] // factor

    def normalised(self, values: torch.Tensor) -> torch.Tensor:
        """[n, 3, pixels] uint8 -> [n, 3·pixels] float32, bit for bit as the processor normalises them."""
        places = values.int() + 256 * torch.arange(3, dtype=torch.int32, device=values.device)[:, None]
        return self.shades.to(values.device).flatten().index_select(0, places.flatten()).view(len(values), -1)

    @cached_property
    def shades(self) -> torch.Tensor:
        """[3, 256] float32: what the processor's own function makes of each value of each channel."""
        return shades.of(self.processor.image_processor)


def heads(text: PretrainedConfig) -> attention.Heads:
    """The language model's attention heads, from its configuration."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return attention.Heads(text.num_attention_heads, text.num_key_value_heads, width)


def text_shape(text: PretrainedConfig) -> dict[str, int]:
    """The language model's part of a `flops.ModelShape`."""
    attention_heads = heads(text)
    queries, keys = attention_heads.width * attention_heads.queries, attention_heads.width * attention_heads.keys
    width = text.hidden_size
    return {
        "layers": text.num_hidden_layers,
        "layer_weights": 2 * width * queries + 2 * width * keys + 3 * width * text.intermediate_size,
        "attention": queries,
        "keys": keys,
        "hidden": width,
        "vocabulary": text.vocab_size,
    }

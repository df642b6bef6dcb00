"""What model families share: how they are loaded and asked, and the pass over a packed row of images and questions.

A family says what "resolution" means to it (`geometry`, `grid`, `patches`), what its tower and its mergers are
(`see`, `features`, `merge`, `part`), and where its language model thinks that tokens stand (`positions`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Cache, DynamicCache

from medstudy.data.example import Question, Shot
from medstudy.engine import attention, flops
from medstudy.engine.row_layout import Packed, Seen
from medstudy.errors import ModelError
from medstudy.models import asking, generation, loading, lora, pixels, published_configs
from medstudy.models.prompts import SYSTEM, _text, user_text
from medstudy.resolution.sizes import Geometry, Shown, Size


@dataclass(frozen=True)
class Family:
    """A loaded model in evaluation mode, its processor, the identity of its weights, and the attention kernel."""

    model: torch.nn.Module
    processor: object
    revision: str
    attention: attention.Choice

    name = ""  # the checkpoint's model_type
    turn_end = "<|im_end|>"  # the token that ends an answer in its chat template
    language_name = "language_model"  # the language model's name in transformers' class
    tower_name = "vision_tower"  # the vision tower's
    merger_names = ("multi_modal_projector.", "image_newline")  # in names of parameters between the two
    both_ways = False  # whether the tokens of an image look at each other in both directions
    shares_prefix = True  # whether an image's questions share one encoding of it
    needs_template = True  # whether a prompt can be written by the checkpoint's chat template alone
    images = ""  # the image processor whose numbers `patches` makes; "" where it is asked itself

    @classmethod
    def load(cls, params, checkpoint: Path | None = None) -> Family:
        """From the hub's format with safetensors only and no code from the checkpoint. Raises ModelError."""
        source, options = loading.source(params, checkpoint)
        if checkpoint and (checkpoint / lora.CONFIG).is_file():
            return cls.load(params).adapted(checkpoint)
        with loading.explained(source, **options):
            processor = loading.processor(source, **options)
            model = loading.model(source, getattr(torch, params.dtype), **options).to(home())
            loading.finite(source, model)
            made = cls._ready(model, processor, source, loading.revision(source, model))
            made.check(source)
            asking.tried(made, source)
        return made

    def adapted(self, folder: Path) -> Family:
        """With the adapters of a folder merged into the weights, in place. Raises ModelError, see `adapters.merged`."""
        model = lora.merged(self.model, folder, self.revision)
        return replace(self, model=model, revision=loading.revision(str(folder), model))

    @classmethod
    def sketch(cls, params, device: torch.device | str = "meta") -> Family:
        """The model without its weights, from configuration and processor alone; no weight file is looked for.

        On torch's meta device it takes no memory: prompts, ids, geometry, grids, shape and the numbers and sizes of
        parameters are the loaded model's, and nothing can be computed. On another device the weights are random. The
        attention kernel is the one that `load` would choose here. A checkpoint that is not on this machine, but
        whose sizes are published (`medstudy.models.published_configs`), is not looked for: they are taken. Raises
        ModelError.
        """
        source, options = loading.source(params)
        dtype, revision, known = getattr(torch, params.dtype), "no weights", published_configs.outline(params.id)
        try:
            with loading.explained(source, weights=False, **options):
                options |= {"local_files_only": known is not None}
                processor = loading.processor(source, **options)
                config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        except ModelError:
            if known is None or Path(source).is_dir():
                raise
            (processor, config), revision = known, "published sizes"
        with loading.explained(source, weights=False, **options):
            with torch.device(device):
                model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
            made = cls._ready(model, processor, source, revision)
            if revision != "published sizes":
                made.check(source)
        return made

    def check(self, source: str) -> None:
        """One prompt, one pixel, one token: raises ModelError where the checkpoint's own files cannot be followed."""
        asking.check(self, source, (SYSTEM, *user_text(asking.ASKED).split("\n")))
        if self.images:
            pixels.check(self, source)
        generation.check(self, source)

    @classmethod
    def _ready(cls, model, processor, source: str, revision: str) -> Family:
        """The family around a model of transformers. Raises ModelError for a checkpoint of another family."""
        if model.config.model_type != cls.name:
            raise ModelError(
                f"Family {cls.name} needs its own checkpoints, got a {model.config.model_type} in {source!r}. "
                f"Set model.family in the study's params."
            )
        choice = cls.kernel(model)
        attention.install(model, choice)
        cls.prepare(model)
        made = cls(model.eval(), processor, revision, choice)
        if made.end in (None, processor.tokenizer.unk_token_id):
            raise ModelError(
                f"Family {cls.name} ends its answers with {cls.turn_end}, but the tokenizer of {source!r} has no such "
                "token. Use a checkpoint that was trained on its chat template."
            )
        return made

    @staticmethod
    def kernel(model) -> attention.Choice:
        """What computes a packed row's attention here."""
        return attention.choose(home(), model.dtype, heads(model.config.text_config))

    @staticmethod
    def prepare(model: torch.nn.Module) -> None:
        """Change a model in place after it is loaded: what a family computes in another way than transformers does."""

    @property
    def geometry(self) -> Geometry:
        """What sizes this family can show, and how many tokens they take."""
        raise NotImplementedError

    def grid(self, size: Size) -> torch.Tensor:
        """[1, 3] the layout of an image shown at `size`, as `see` and `merge` need it."""
        raise NotImplementedError

    def patch_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """What the tower works on for each image of grids [images, 3]: its sequence length, in patches."""
        raise NotImplementedError

    def blocks(self, image: torch.Tensor) -> tuple[int, int]:
        """Rows and columns of visual tokens, or tiles, in an image [height, width, 3]. Raises ModelError."""
        factor = self.geometry.factor
        if any(side % factor for side in image.shape[:2]):
            raise ModelError(f"An image's sides must be multiples of {factor}, got {tuple(image.shape[:2])}.")
        return image.shape[0] // factor, image.shape[1] // factor

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> what the tower reads, float32 on the model's device."""
        raise NotImplementedError

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> Seen:
        """Images, one after the other, through the tower and the mergers."""
        raise NotImplementedError

    def look(self, images: list[torch.Tensor], grids: torch.Tensor) -> Seen:
        """A row's images, each [height, width, 3] uint8, through the tower and the mergers."""
        return self.see(torch.cat([self.patches(image) for image in images]), grids)

    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """One image through a frozen tower: all that its mergers read, [patches, width]; what may be cached."""
        raise NotImplementedError

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        """The features of images, one after the other, through the mergers."""
        raise NotImplementedError

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """Positions [axes, prefix] of the shared prefix; a branch continues at their maximum + 1 on all axes."""
        raise NotImplementedError

    def part(self, name: str) -> Literal["tower", "merger", "language"]:
        """The part of the model that a parameter of that name belongs to."""
        if any(merger in name for merger in self.merger_names):
            return "merger"
        return "tower" if f"{self.tower_name}." in name else "language"

    @staticmethod
    def cost_shape(config) -> flops.Shape:
        raise NotImplementedError

    @cached_property
    def shape(self) -> flops.Shape:
        """What the model's cost is computed from."""
        return self.cost_shape(self.model.config)

    def feature_counts(self, grids: torch.Tensor) -> tuple[int, ...]:
        """Rows of what `features` returns for each image of grids [images, 3]."""
        return self.patch_counts(grids)

    @property
    def patch_size(self) -> int:
        """Pixels a side of a patch."""
        return self.model.config.vision_config.patch_size

    @property
    def feature_width(self) -> int:
        """Numbers a patch in what `features` returns."""
        return self.shape.width

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.processor.tokenizer.convert_tokens_to_ids(self.turn_end)

    @property
    def ends(self) -> tuple[int, ...]:
        """All tokens at which `generate` stops: those of the checkpoint's generation config too."""
        listed = self.model.generation_config.eos_token_id
        listed = listed if isinstance(listed, list) else [] if listed is None else [listed]
        return tuple(sorted({self.end, *listed}))

    def rules(self, lengths: Sequence[int], limit: int) -> generation.Rules:
        """What `generate` does to the scores behind prompts of these lengths, as the generation config asks."""
        return generation.Rules(self.model, self.ends, lengths, limit)

    @property
    def image_token(self) -> int:
        return self.model.config.image_token_id

    def image_ids(self, count: int, grid: torch.Tensor) -> list[int]:
        """The tokens that stand for an image of `count` visual tokens, laid out as `grid` [3] says, in a row."""
        return [self.image_token] * count

    def standing(self, shown: Shown) -> int:
        """How many tokens stand for a view's images in a row, those that mark them included."""
        return sum(len(self.image_ids(view.visual_tokens, self.grid(view.size)[0])) for view in shown.views)

    @property
    def tower(self) -> list[torch.nn.Parameter]:
        """The vision tower's parameters, without the mergers that map its features to the language model."""
        return [parameter for name, parameter in self.model.named_parameters() if self.part(name) == "tower"]

    def freeze_tower(self) -> None:
        """Train the mergers and the language model only, as is usual when these models are fine-tuned."""
        for parameter in self.tower:
            parameter.requires_grad_(False)

    def prompt(self, question: Question, image: bool = True, context: Sequence[Shot] = ()) -> str:
        """The chat template's text up to the answer, with a placeholder for each image (none when blind)."""
        messages = self.messages(question, image, context)
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def messages(self, question: Question, image: bool, context: Sequence[Shot]) -> list[dict]:
        """What is asked, in turns: an answered shot is a turn, any other stands beside the next image.

        All contents are lists of parts: LLaVA-OneVision's template drops a content that is a plain string.
        """
        seen = [{"type": "image"}] if image else []
        messages, parts = [{"role": "system", "content": [_text(SYSTEM)]}], []
        for shot in context:
            parts += [*seen, *([_text(shot.question)] if shot.question else [])]
            if shot.answer:
                messages += [{"role": "user", "content": parts}, {"role": "assistant", "content": [_text(shot.answer)]}]
                parts = []
        return [*messages, {"role": "user", "content": [*parts, *seen, _text(user_text(question))]}]

    def ids(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def answer_ids(self, text: str) -> list[int]:
        """The tokens of an answer and its end, as the chat template writes them after a prompt."""
        return [*self.ids(text), self.end]

    def marks(self, text: str) -> int:
        """Places for images in a prompt."""
        return self.ids(text).count(self.image_token)

    def text(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()

    @property
    def pixel_settings(self) -> tuple:
        """All settings of the processor that the numbers of `patches` hang on."""
        return tuple(getattr(self.processor.image_processor, name) for name in pixels.OBEYED)

    @property
    def layout(self) -> dict[str, int | dict]:
        """Settings of the processor that must agree with the model's configuration, and what it says."""
        return {}

    def normalised(self, values: torch.Tensor) -> torch.Tensor:
        """[n, 3, pixels] uint8 -> [n, 3·pixels] float32, to the bit what the processor makes of it."""
        places = values.int() + 256 * torch.arange(3, dtype=torch.int32, device=values.device)[:, None]
        return self.shades.to(values.device).flatten().index_select(0, places.flatten()).view(len(values), -1)

    @cached_property
    def shades(self) -> torch.Tensor:
        """[3, 256] float32: what the processor makes of each value of each channel, by its own function."""
        settings = self.processor.image_processor
        levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16).clone()
        made = settings.rescale_and_normalize(
            levels, settings.do_rescale, settings.rescale_factor, settings.do_normalize, settings.image_mean,
            settings.image_std,
        )
        return made[0].flatten(1).float()

    def hidden(self, packed: Packed, seen: Seen | None, cache=None) -> torch.Tensor:
        """[S, width] last hidden states of a packed row; `cache` is filled with its keys and values."""
        model = self.model.model
        embeds, deep = model.get_input_embeddings()(packed.ids), {}
        if seen is not None:
            if packed.visual != len(seen.tokens):
                raise ModelError(f"A row must hold a place for each visual token, got {packed.visual} for "
                                 f"{len(seen.tokens)}. The images and the row were planned apart.")
            at = packed.ids == self.image_token
            embeds = embeds.masked_scatter(at[..., None], seen.tokens.to(embeds.dtype))
            deep = {"visual_pos_masks": at, "deepstack_visual_embeds": list(seen.deep)} if seen.deep else {}
        made = self.language(
            inputs_embeds=embeds,
            position_ids=packed.positions,
            past_key_values=cache,
            use_cache=cache is not None,
            plan=packed.plan,
            **deep,
        )
        return made.last_hidden_state[0]

    def cache(self) -> Cache:
        """An empty cache of keys and values, for `hidden` and then `advance`."""
        return DynamicCache(config=self.model.config)

    def advance(self, ids: torch.Tensor, positions: torch.Tensor, stood: torch.Tensor, mask: torch.Tensor, cache):
        """[Q, width] last hidden states of one more token of Q branches (ids [1, Q]), which the cache then holds.

        positions [axes, 1, Q]; stood [axes, cache + Q] those of all that may be looked at; mask [1, 1, Q, cache + Q]
        bool, True where a token may look.
        """
        embeds = self.model.model.get_input_embeddings()(ids)
        made = self.language(
            inputs_embeds=embeds, position_ids=positions, attention_mask=self.masks(mask, positions, stood),
            past_key_values=cache, use_cache=True,
        )
        return made.last_hidden_state[0]

    def masks(self, mask: torch.Tensor, positions: torch.Tensor, stood: torch.Tensor):
        """What the language model is given of `advance`'s mask."""
        return mask

    def language(self, *, position_ids: torch.Tensor, **inputs):
        """The language model on a row, at positions [axes, 1, S]."""
        return getattr(self.model.model, self.language_name)(position_ids=position_ids, **inputs)


def home() -> torch.device:
    """Where models are put: the first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def heads(text) -> attention.Heads:
    """The language model's attention heads, from its configuration."""
    width = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return attention.Heads(text.num_attention_heads, text.num_key_value_heads, width)


def text_shape(text) -> dict:
    """The language model's part of a cost.Shape."""
    its = heads(text)
    queries, keys = its.width * its.queries, its.width * its.keys
    width = text.hidden_size
    return {
        "layers": text.num_hidden_layers,
        "layer_weights": 2 * width * queries + 2 * width * keys + 3 * width * text.intermediate_size,
        "attention": queries,
        "keys": keys,
        "hidden": width,
        "vocabulary": text.vocab_size,
    }

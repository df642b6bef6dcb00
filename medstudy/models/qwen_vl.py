"""What the Qwen-VL families share: resolution is a pixel budget, and a visual token covers patch x merge pixels a side.

The processor's own limits never act: an image arrives at the exact size that the policy planned, a multiple of the
factor, and `pixels` raises when it does not (transformers#41955: limits given to a processor can be ignored).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from types import MethodType

import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from medstudy import adapters, attention, cost, paths
from medstudy.errors import ModelError
from medstudy.prefix import Packed
from medstudy.records import LETTERS, Question
from medstudy.resolution import Geometry, Size

SYSTEM = "You are a biomedical expert."  # the author's evaluation prompt
LETTER_ONLY = "Answer with a single letter, no extra details."


def user_text(question: Question) -> str:
    """The author's prompt: the question, its options as "A. …", and for those the request for one letter."""
    options = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.options, strict=False)]
    return "\n".join([question.text, *options, *([LETTER_ONLY] if options else [])])


@dataclass(frozen=True)
class Seen:
    """What the language model is given of a row's images: tokens [N, width], and DeepStack's for its first layers."""

    tokens: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()


@dataclass(frozen=True)
class QwenVL:
    """A loaded model in evaluation mode, its processor, the identity of its weights, and the attention kernel."""

    model: torch.nn.Module
    processor: object
    revision: str
    attention: attention.Choice

    name = ""  # the checkpoint's model_type

    @classmethod
    def load(cls, params, checkpoint: Path | None = None) -> QwenVL:
        """From the hub's format with safetensors only and no code from the checkpoint. Raises ModelError."""
        source, options = _source(params, checkpoint)
        if checkpoint and (checkpoint / adapters.CONFIG).is_file():
            base = cls.load(params)
            model = adapters.merged(base.model, checkpoint)
            return replace(base, model=model, revision=_revision(source, model))
        device, dtype = home(), getattr(torch, params.dtype)
        with _explained(source):
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, **options)
            model = AutoModelForImageTextToText.from_pretrained(
                source,
                dtype=dtype,
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
                **options,
            )
        choice = attention.choose(device, dtype)
        return cls._ready(model.to(device), processor, source, _revision(source, model), choice)

    @classmethod
    def sketch(cls, params, device: torch.device | str = "meta") -> QwenVL:
        """The model without its weights, from configuration and processor alone; no weight file is looked for.

        On torch's meta device it takes no memory: prompts, ids, geometry, grids, shape and the numbers and sizes of
        parameters are the loaded model's, and nothing can be computed. On another device the weights are random. The
        attention kernel is the one that `load` would choose here. Raises ModelError.
        """
        source, options = _source(params)
        dtype = getattr(torch, params.dtype)
        with _explained(source):
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, **options)
            config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
        with torch.device(device):
            model = AutoModelForImageTextToText.from_config(config, dtype=dtype, attn_implementation="sdpa")
        return cls._ready(model, processor, source, "no weights", attention.choose(home(), dtype))

    @classmethod
    def _ready(cls, model, processor, source: str, revision: str, choice: attention.Choice) -> QwenVL:
        """The family around a model of transformers. Raises ModelError for a checkpoint of another family."""
        if model.config.model_type != cls.name:
            raise ModelError(
                f"Family {cls.name} needs its own checkpoints, got a {model.config.model_type} in {source!r}. "
                f"Set model.family in the study's params."
            )
        attention.install(model, choice)
        embed = model.model.visual.patch_embed
        embed.forward = MethodType(_linear, embed)
        return cls(model.eval(), processor, revision, choice)

    @property
    def geometry(self) -> Geometry:
        vision = self.model.config.vision_config
        factor = vision.patch_size * vision.spatial_merge_size
        return Geometry(factor, min_pixels=factor**2)

    @cached_property
    def shape(self) -> cost.Shape:
        """What the model's cost is computed from."""
        return self.cost_shape(self.model.config)

    @staticmethod
    def cost_shape(config) -> cost.Shape:
        raise NotImplementedError

    @property
    def feature_width(self) -> int:
        """Numbers a patch in what `features` returns."""
        return self.shape.width

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")

    @property
    def image_token(self) -> int:
        return self.model.config.image_token_id

    @property
    def tower(self) -> list[torch.nn.Parameter]:
        """The vision tower's parameters, without the mergers that map its features to the language model."""
        named = self.model.model.visual.named_parameters()
        return [parameter for name, parameter in named if "merger" not in name]

    def freeze_tower(self) -> None:
        """Train the mergers and the language model only, as is usual when these models are fine-tuned."""
        for parameter in self.tower:
            parameter.requires_grad_(False)

    def prompt(self, question: Question, image: bool = True) -> str:
        """The chat template's text up to the answer, with one image placeholder (none when blind)."""
        content = [{"type": "text", "text": user_text(question)}]
        if image:
            content.insert(0, {"type": "image"})
        messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": content}]
        return self.processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    def ids(self, text: str) -> list[int]:
        return self.processor.tokenizer(text, add_special_tokens=False)["input_ids"]

    def text(self, ids: list[int]) -> str:
        return self.processor.tokenizer.decode(ids, skip_special_tokens=True).strip()

    def grid(self, size: Size) -> torch.Tensor:
        """[1, 3] patches of an image shown at `size`: time, height, width."""
        patch = self.model.config.vision_config.patch_size
        return torch.tensor([[1, size.height // patch, size.width // patch]])

    def positions(self, prefix: list[int], grids: torch.Tensor) -> torch.Tensor:
        """M-RoPE positions [3, prefix] of the shared prefix; a branch continues at their maximum + 1 on all rows."""
        if not len(grids):
            return torch.arange(len(prefix)).expand(3, -1)
        ids = torch.tensor([prefix])
        kinds = (ids == self.image_token).int()
        return self.model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grids)[0][:, 0]

    def patches(self, image: torch.Tensor) -> torch.Tensor:
        """[height, width, 3] uint8 at its planned size -> [patches, 3·patch²] float32, on the model's device.

        Bit for bit the numbers of the processor's Pillow backend without its resize, of one of the two equal frames
        that it makes of an image. The uint8 travel to the device and are put in order there. Raises ModelError.
        """
        vision = self.model.config.vision_config
        patch, merge = vision.patch_size, vision.spatial_merge_size
        if any(side % (patch * merge) for side in image.shape[:2]):
            raise ModelError(f"An image's sides must be multiples of {patch * merge}, got {tuple(image.shape[:2])}.")
        image = image.to(self.model.device)
        high, wide = (side // (patch * merge) for side in image.shape[:2])
        blocks = image.view(high, merge, patch, wide, merge, patch, 3).permute(0, 3, 1, 4, 6, 2, 5)
        values = blocks.reshape(-1, 3, patch**2)
        places = values.int() + 256 * torch.arange(3, dtype=torch.int32, device=image.device)[:, None]
        return self.shades.to(image.device).flatten().index_select(0, places.flatten()).view(len(values), -1)

    @cached_property
    def shades(self) -> torch.Tensor:
        """[3, 256] what the processor makes of each value of each channel: rescaled in float64, then in float32."""
        settings = self.processor.image_processor
        scaled = (torch.arange(256, dtype=torch.float64) * settings.rescale_factor).to(torch.float32)
        statistics = (settings.image_mean, settings.image_std)
        mean, std = (torch.tensor(part, dtype=torch.float32)[:, None] for part in statistics)
        return (scaled - mean) / std

    def see(self, pixel_values: torch.Tensor, grids: torch.Tensor) -> Seen:
        """Images through the tower and the mergers."""
        visual = self.model.model.visual
        made = visual(pixel_values.to(self.model.dtype), grid_thw=grids)
        return Seen(made.pooler_output, tuple(getattr(made, "deepstack_features", None) or ()))

    @torch.no_grad()
    def features(self, pixel_values: torch.Tensor, grid: torch.Tensor) -> torch.Tensor:
        """One image through a frozen tower: all that its mergers read, [patches, width]; what may be cached."""
        return self.model.model.visual(pixel_values.to(self.model.dtype), grid_thw=grid).last_hidden_state

    def merge(self, features: torch.Tensor, grids: torch.Tensor) -> Seen:
        """The features of images, one after the other, through the mergers."""
        return Seen(self.model.model.visual.merger(features))

    def hidden(self, packed: Packed, seen: Seen | None, cache=None) -> torch.Tensor:
        """[S, width] last hidden states of a packed row; `cache` is filled with its keys and values."""
        model = self.model.model
        embeds, deep = model.get_input_embeddings()(packed.ids), {}
        if seen is not None:
            at = packed.ids == self.image_token
            if int(at.sum()) != len(seen.tokens):
                raise ModelError(f"A row must hold a token for each visual token, got {int(at.sum())} for "
                                 f"{len(seen.tokens)}. The images and the row were planned apart.")  # fmt: skip
            embeds = embeds.masked_scatter(at[..., None], seen.tokens.to(embeds.dtype))
            deep = {"visual_pos_masks": at, "deepstack_visual_embeds": list(seen.deep)} if seen.deep else {}
        made = model.language_model(
            inputs_embeds=embeds,
            position_ids=packed.positions,
            past_key_values=cache,
            use_cache=cache is not None,
            plan=packed.plan,
            **deep,
        )
        return made.last_hidden_state[0]

    def advance(self, ids: torch.Tensor, positions: torch.Tensor, mask: torch.Tensor, cache) -> torch.Tensor:
        """[Q, width] last hidden states of one more token of Q branches (ids [1, Q]), which the cache then holds.

        positions [3, 1, Q]; mask [1, 1, Q, cache + Q] bool, True where a token may look.
        """
        model = self.model.model
        embeds = model.get_input_embeddings()(ids)
        made = model.language_model(
            inputs_embeds=embeds, position_ids=positions, attention_mask=mask, past_key_values=cache, use_cache=True
        )
        return made.last_hidden_state[0]


def home() -> torch.device:
    """Where models are put: the first CUDA device where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def text_shape(text) -> dict:
    """The language model's part of a cost.Shape."""
    head = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    queries, keys = head * text.num_attention_heads, head * text.num_key_value_heads
    width = text.hidden_size
    return {
        "layers": text.num_hidden_layers,
        "layer_weights": 2 * width * queries + 2 * width * keys + 3 * width * text.intermediate_size,
        "attention": queries,
        "keys": keys,
        "hidden": width,
        "vocabulary": text.vocab_size,
    }


def _linear(patch_embed: torch.nn.Module, patches: torch.Tensor) -> torch.Tensor:
    """The patch embedding as the matrix product that its convolution without overlap is: a third of the time on a CPU.

    patches [n, 3·patch²] are of a single frame, which an image shows twice: the weights of both frames are added.
    Not transformers' fusion_config, which renames the weight and starts from a random one for some checkpoints.
    """
    weight = patch_embed.proj.weight
    single = patches.shape[-1] * weight.shape[2] == weight[0].numel()
    weight = (weight.sum(2) if single else weight).flatten(1)
    return torch.nn.functional.linear(patches.to(weight.dtype), weight, patch_embed.proj.bias)


def _source(params, checkpoint: Path | None = None) -> tuple[str, dict]:
    """Where a model comes from, and the hub's options for it."""
    source = str(checkpoint or (paths.BASE if params.id == "base" else params.id))
    return source, {} if Path(source).is_dir() or params.revision is None else {"revision": params.revision}


@contextmanager
def _explained(source: str) -> Iterator[None]:
    """transformers' errors about a checkpoint that is not there, or not one, as ModelError."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise ModelError(
            f"A model is a hub id, a folder or \"base\", but {source!r} cannot be loaded: {error}"
        ) from error


def _revision(source: str, model) -> str:
    """The hub's commit, or for a folder the hash of its weights."""
    if not Path(source).is_dir():
        return str(getattr(model.config, "_commit_hash", None) or "unknown")
    digest = hashlib.sha256()
    for file in sorted(Path(source).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]

"""Qwen2-VL: resolution is a pixel budget; one visual token is patch x merge = 28 pixels a side.

The processor's own limits never act: an image arrives at the exact size that the policy planned, a multiple of the
factor, and `pixels` raises when the realised grid is not the planned one (transformers#41955: limits are ignored).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from medstudy import paths
from medstudy.errors import ModelError
from medstudy.records import LETTERS, Question
from medstudy.resolution import Geometry, Size

SYSTEM = "You are a biomedical expert."  # the author's evaluation prompt
LETTER_ONLY = "Answer with a single letter, no extra details."


def user_text(question: Question) -> str:
    """The author's prompt: the question, its options as "A. …", and for those the request for one letter."""
    options = [f"{letter}. {text}" for letter, text in zip(LETTERS, question.options, strict=False)]
    return "\n".join([question.text, *options, *([LETTER_ONLY] if options else [])])


@dataclass(frozen=True)
class Qwen2VL:
    """A loaded Qwen2-VL: model in evaluation mode, processor, the identity of its weights, and its geometry."""

    model: torch.nn.Module
    processor: object
    revision: str

    name = "qwen2_vl"

    @classmethod
    def load(cls, params, checkpoint: Path | None = None) -> Qwen2VL:
        """From the hub's format with safetensors only and no code from the checkpoint. Raises ModelError."""
        source = str(checkpoint or (paths.BASE if params.id == "base" else params.id))
        options = {} if Path(source).is_dir() or params.revision is None else {"revision": params.revision}
        try:
            processor = AutoProcessor.from_pretrained(source, trust_remote_code=False, **options)
            model = AutoModelForImageTextToText.from_pretrained(
                source,
                dtype=getattr(torch, params.dtype),
                attn_implementation="sdpa",
                use_safetensors=True,
                trust_remote_code=False,
                **options,
            )
        except (OSError, ValueError) as error:
            raise ModelError(
                f"A model is a hub id, a folder or \"base\", but {source!r} cannot be loaded: {error}"
            ) from error
        if model.config.model_type != cls.name:
            raise ModelError(
                f"Family {cls.name} needs its own checkpoints, got a {model.config.model_type} in {source!r}."
            )
        return cls(model.eval(), processor, _revision(source, model))

    @property
    def geometry(self) -> Geometry:
        vision = self.model.config.vision_config
        factor = vision.patch_size * vision.spatial_merge_size
        return Geometry(factor, min_pixels=factor**2)

    @property
    def end(self) -> int:
        """The token that ends an answer."""
        return self.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")

    @property
    def image_token(self) -> int:
        return self.model.config.image_token_id

    @property
    def tower(self) -> list[torch.nn.Parameter]:
        """The vision tower's parameters, without the merger that maps its features to the language model."""
        visual = self.model.model.visual
        return [*visual.patch_embed.parameters(), *visual.blocks.parameters()]

    def freeze_tower(self) -> None:
        """Train the merger and the language model only, as is usual when a Qwen2-VL is fine-tuned."""
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

    def pixels(self, images: list[np.ndarray], sizes: list[Size]) -> dict[str, torch.Tensor]:
        """[height, width, 3] uint8 images -> pixel_values [patches, 3·2·patch²] float32 and image_grid_thw [n, 3].

        The same numbers as the processor's, without its resize (tests hold the two together).
        """
        for image, size in zip(images, sizes, strict=True):
            if image.shape[:2] != tuple(size) or any(side % self.geometry.factor for side in size):
                raise ModelError(f"An image must arrive at its planned size {tuple(size)}, got {image.shape[:2]}.")
        patches = [self._patchify(image) for image in images]
        patch = self.model.config.vision_config.patch_size
        grids = [[1, size.height // patch, size.width // patch] for size in sizes]
        return {"pixel_values": torch.cat(patches), "image_grid_thw": torch.tensor(grids)}

    def _patchify(self, image: np.ndarray) -> torch.Tensor:
        settings = self.processor.image_processor
        vision = self.model.config.vision_config
        patch, merge = vision.patch_size, vision.spatial_merge_size
        scaled = torch.from_numpy(np.array(image)).to(torch.float32) * settings.rescale_factor
        normal = (scaled - torch.tensor(settings.image_mean)) / torch.tensor(settings.image_std)
        high, wide = image.shape[0] // (patch * merge), image.shape[1] // (patch * merge)
        blocks = normal.view(high, merge, patch, wide, merge, patch, 3).permute(0, 3, 1, 4, 6, 2, 5)
        twice = blocks.unsqueeze(5).expand(-1, -1, -1, -1, -1, vision.temporal_patch_size, -1, -1)
        return twice.reshape(high * wide * merge**2, -1)

    def positions(self, prefix: list[int], grid: torch.Tensor | None) -> torch.Tensor:
        """M-RoPE positions [3, prefix] of the shared prefix; a branch continues at their maximum + 1 on all rows."""
        if grid is None:
            return torch.arange(len(prefix)).expand(3, -1)
        ids = torch.tensor([prefix])
        kinds = (ids == self.image_token).int()
        return self.model.model.get_rope_index(ids, mm_token_type_ids=kinds, image_grid_thw=grid[None])[0][:, 0]


def _revision(source: str, model) -> str:
    """The hub's commit, or for a folder the hash of its weights."""
    if not Path(source).is_dir():
        return str(getattr(model.config, "_commit_hash", None) or "unknown")
    digest = hashlib.sha256()
    for file in sorted(Path(source).glob("*.safetensors")):
        digest.update(file.read_bytes())
    return "sha256:" + digest.hexdigest()[:16]

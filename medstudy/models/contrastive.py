"""Contrastive encoders of transformers: image and text as vectors of length 1, whose cosine says how well they fit.

    eye = contrastive.load(Model(id="google/medsiglip-448", family="clip"))
    eye.logits(eye.images([pixels]), eye.texts(["a chest X-ray with a pleural effusion"]))

CLIP, MetaCLIP 2 and SigLIP take an image of any whole patches, with positions that their own `interpolate_pos_encoding`
makes; SigLIP 2 NaFlex (`Siglip2Model`) takes patches in a row, as its processor cuts them. All sizes are the policy's:
no processor resizes or crops.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.image_utils import PILImageResampling
from transformers.models.siglip2.image_processing_siglip2 import convert_image_to_patches

from medstudy.errors import ModelError
from medstudy.models import loading, shades, weights
from medstudy.params import Model
from medstudy.resolution.sizes import Geometry, Size

NAFLEX = "siglip2"
KINDS = ("clip", "metaclip_2", "siglip", NAFLEX)  # model types of config.json
TEXTS = 256  # at a time


@dataclass(frozen=True)
class Patches(Geometry):
    """Sides are whole patches; a processor has no rule for a budget of pixels."""

    unit: ClassVar[str] = "patch"
    floats: ClassVar[bool] = False


@dataclass(frozen=True)
class Encoder:
    """A loaded model in evaluation mode. shades: [3, 256], what its processor makes of each value of each channel."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    shades: torch.Tensor
    revision: str
    resample: str | None = None  # the filter of its processor, such as "bicubic"

    @property
    def geometry(self) -> Patches:
        return _geometry(self.model.config)

    @property
    def trained_side(self) -> int | None:
        """The side of the square images that it was trained on, in pixels; None for NaFlex, which saw many sizes."""
        return None if self.model.config.model_type == NAFLEX else self.model.config.vision_config.image_size

    @property
    def limit(self) -> int:
        """The most tokens of a text, with those that begin and end it."""
        return self.model.config.text_config.max_position_embeddings

    @cached_property
    def blank(self) -> torch.Tensor:
        """[1, width] the vector of a plain image in the processor's mean colour: no image at all."""
        vision = self.model.config.vision_config
        patches = int(vision.num_patches**0.5) if self.trained_side is None else self.trained_side // vision.patch_size
        side = patches * vision.patch_size
        return self._images(torch.zeros(1, 3, side, side))

    def images(self, pixels: Sequence[torch.Tensor]) -> torch.Tensor:
        """Images [height, width, 3] uint8, all of one size -> [images, width] vectors, float32 in main memory."""
        return self._images(torch.stack([shades.applied(image, self.shades) for image in pixels]))

    @torch.inference_mode()
    def _images(self, values: torch.Tensor) -> torch.Tensor:
        device = self.model.device
        inputs = {name: value.to(device) if isinstance(value, torch.Tensor) else value
                  for name, value in tower_inputs(self.model.config.vision_config, values).items()}
        return _unit(self.model.get_image_features(**inputs).pooler_output)

    def lengths(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each text, with those that begin and end it."""
        return [len(ids) for ids in self.tokenizer(list(texts), truncation=False)["input_ids"]] if texts else []

    @torch.inference_mode()
    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[texts, width] vectors, float32 in main memory. A text of more than `limit` tokens is cut off there.

        All are padded to the limit: SigLIP was trained so, and CLIP does not see what follows the end of a text.
        """
        parts = []
        for start in range(0, len(texts), TEXTS):
            chosen = list(texts[start : start + TEXTS])
            tokens = self.tokenizer(chosen, padding="max_length", max_length=self.limit, truncation=True,
                                    return_tensors="pt")
            parts.append(_unit(self.model.get_text_features(**tokens.to(self.model.device)).pooler_output))
        return torch.cat(parts)

    def flops(self, size: Size) -> float:
        """Operations of the vision tower on one image: its projections, attention, feed-forward layers and pooling."""
        vision, patches = self.model.config.vision_config, self.geometry.tokens(size)
        width, inner, pooled = vision.hidden_size, vision.intermediate_size, "siglip" in self.model.config.model_type
        tokens = patches + (not pooled)  # a class token, or a head that attends to all patches
        layer = 2 * tokens * (4 * width**2 + 2 * width * inner) + 4 * tokens**2 * width
        head = pooled * (2 * width * (2 * tokens + 2) * width + 4 * tokens * width + 4 * width * inner)
        return 2 * patches * 3 * vision.patch_size**2 * width + vision.num_hidden_layers * layer + head

    def logits(self, images: torch.Tensor, texts: torch.Tensor) -> torch.Tensor:
        """[images, texts] scaled cosines, as the model's own `logits_per_image` but for SigLIP's constant bias."""
        return images @ texts.T * self.model.logit_scale.detach().float().exp().cpu()


def load(params: Model) -> Encoder:
    """From a hub id or folder, with safetensors only and no code from the checkpoint. Raises ModelError."""
    source, options = loading.source_of(params)
    with loading.explained(source, **options):
        _config(source, **options)
        processor = AutoImageProcessor.from_pretrained(source, backend="torchvision", **options)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False, **options)
        dtype = getattr(torch, params.dtype)
        model = weights.load(source, dtype, AutoModel, **options).eval().to(loading.default_device())
        weights.check_finite(source, model)
        revision, resample = loading.revision_of(source, model), getattr(processor, "resample", None)
        named = None if resample is None else PILImageResampling(int(resample)).name.lower()
        encoder = Encoder(model, tokenizer, shades.of(processor), revision, named)
    _check(encoder, source)
    return encoder


def sketch(params: Model) -> Patches:
    """The sizes of a model's images, from its configuration alone. Raises ModelError."""
    source, options = loading.source_of(params)
    with loading.explained(source, weights=False, **options):
        return _geometry(_config(source, **options))


def _config(source: str, **options: str) -> PretrainedConfig:
    """A checkpoint's configuration. Raises ModelError for one of another kind."""
    config = AutoConfig.from_pretrained(source, trust_remote_code=False, **options)
    if config.model_type not in KINDS:
        raise ModelError(
            f"Family clip reads a model_type of {', '.join(KINDS)}, but {source!r} is a {config.model_type}. "
            "Checkpoints of open_clip alone, such as BiomedCLIP and UniMed-CLIP, have no such class of transformers. "
            "For a language model set its own model.family."
        )
    return config


def _geometry(config: PretrainedConfig) -> Patches:
    patch = config.vision_config.patch_size
    return Patches(patch, min_pixels=patch**2)


def tower_inputs(vision: PretrainedConfig, values: torch.Tensor) -> dict[str, torch.Tensor | bool]:
    """Normalised images [images, 3, height, width] as the vision tower of a CLIP-like model takes them."""
    if vision.model_type != f"{NAFLEX}_vision_model":
        return {"pixel_values": values, "interpolate_pos_encoding": True}
    patches = torch.stack([convert_image_to_patches(image, vision.patch_size) for image in values])
    grid = [side // vision.patch_size for side in values.shape[-2:]]
    return {
        "pixel_values": patches,
        "pixel_attention_mask": torch.ones(patches.shape[:2], dtype=torch.int32),
        "spatial_shapes": torch.tensor([grid] * len(patches)),
    }


def _unit(output: torch.Tensor) -> torch.Tensor:
    return functional.normalize(output.float(), dim=-1).cpu()


def _check(encoder: Encoder, source: str) -> None:
    """Raises ModelError where the tokenizer or processor cannot be those that the weights were trained with."""
    size, rows = len(encoder.tokenizer), encoder.model.config.text_config.vocab_size
    if size > rows:
        raise ModelError(
            f"A tokenizer names only tokens that the model has, but that of {source!r} has {size:,} and the model "
            f"{rows:,}. Use the tokenizer files that the weights were saved with."
        )
    if not torch.isfinite(encoder.shades).all() or float(encoder.shades.std()) == 0:
        raise ModelError(
            f"The image processor of {source!r} must turn different pixels into different finite numbers, but it does "
            "not (image_mean, image_std, rescale_factor). Restore its preprocessor_config.json."
        )

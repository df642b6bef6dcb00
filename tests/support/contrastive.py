"""Very small contrastive encoders in the hub's format, from the real transformers classes. Their tokens are letters."""

from __future__ import annotations

import string
from collections.abc import Callable
from pathlib import Path

import torch
from tokenizers import pre_tokenizers, processors
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
    MetaClip2Config,
    MetaClip2Model,
    PretrainedConfig,
    PreTrainedModel,
    ProcessorMixin,
    Siglip2Config,
    Siglip2ImageProcessor,
    Siglip2Model,
    Siglip2Processor,
    Siglip2Tokenizer,
    SiglipConfig,
    SiglipImageProcessor,
    SiglipModel,
    SiglipProcessor,
)

PATCH, SIDE = 8, 32  # of the images that they would have been trained on
TOWER = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
ENDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 2}


def clip(folder: Path) -> Path:
    """CLIP: a class token, a causal encoder of text, a processor that would crop."""
    return _clip(folder, CLIPModel, CLIPConfig)


def metaclip_2(folder: Path) -> Path:
    """MetaCLIP 2: as CLIP, with classes of its own."""
    return _clip(folder, MetaClip2Model, MetaClip2Config)


def _clip(folder: Path, model: type[PreTrainedModel], kind: type[PretrainedConfig]) -> Path:
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    vocabulary = {name: at for at, name in enumerate(names)}
    tokens = CLIPTokenizer(vocab=vocabulary, merges=[])
    text = TOWER | {"vocab_size": len(names), "max_position_embeddings": 77, "projection_dim": 24,
                    "bos_token_id": len(names) - 2, "eos_token_id": len(names) - 1, "pad_token_id": len(names) - 1}
    config = kind(text_config=text, projection_dim=24,
                  vision_config=TOWER | {"image_size": SIDE, "patch_size": PATCH, "projection_dim": 24})
    images = CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    return _save(model, config, CLIPProcessor(images, tokens), folder)


def siglip(folder: Path) -> Path:
    """SigLIP: a pooling head, no projection, a processor that would stretch."""
    tokens = _letters()
    text = TOWER | {"vocab_size": len(tokens), "max_position_embeddings": 64, "projection_size": 32} | ENDS
    config = SiglipConfig(text_config=text, vision_config=TOWER | {"image_size": SIDE, "patch_size": PATCH})
    images = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    return _save(SiglipModel, config, SiglipProcessor(images, tokens), folder)


def naflex(folder: Path) -> Path:
    """SigLIP 2 NaFlex: patches in a row, at most so many."""
    tokens = _letters()
    text = TOWER | {"vocab_size": len(tokens), "max_position_embeddings": 64, "projection_size": 32} | ENDS
    config = Siglip2Config(text_config=text, vision_config=TOWER | {"patch_size": PATCH, "num_patches": 16})
    images = Siglip2ImageProcessor(patch_size=PATCH, max_num_patches=16)
    return _save(Siglip2Model, config, Siglip2Processor(images, tokens), folder)


def _letters() -> Siglip2Tokenizer:
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    names = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *string.printable[:94]]
    tokens = Siglip2Tokenizer(vocab={name: at for at, name in enumerate(names)}, merges=[], model_max_length=64,
                              padding_side="right", model_input_names=["input_ids"])
    tokens.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <eos>", special_tokens=[("<eos>", tokens.eos_token_id)]
    )
    return tokens


def _save(
    kind: type[PreTrainedModel], config: PretrainedConfig, processor: ProcessorMixin, folder: Path
) -> Path:
    """Random weights, wide enough that answers differ."""
    torch.manual_seed(0)
    model = kind(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim >= 2:
                parameter.normal_(std=0.2)
            elif name == "logit_scale":
                parameter.fill_(2.0)
            elif name == "logit_bias":
                parameter.fill_(-3.0)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


BUILD: dict[str, Callable[[Path], Path]] = {
    "clip": clip, "metaclip_2": metaclip_2, "siglip": siglip, "siglip2": naflex,
}

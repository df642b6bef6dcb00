"""Very small checkpoints of every family, in the hub's format, from the real transformers classes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessor,
    Qwen2VLVideoProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
    Qwen3VLVideoProcessor,
)

from medstudy.models import standin


def _ids(tokens) -> dict:
    ids = {name: tokens.convert_tokens_to_ids(name) for name in standin.SPECIAL}
    return {
        "image_token_id": ids["<|image_pad|>"],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids["<|vision_start|>"],
        "vision_end_token_id": ids["<|vision_end|>"],
        "tie_word_embeddings": True,
    }


def _text(tokens, sections: list[int], **more) -> dict:
    """Two query heads to one key head, so that grouped queries are tested too."""
    return {
        "vocab_size": -(-len(tokens) // 64) * 64,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 4096,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50.0, "mrope_section": sections},
        "bos_token_id": tokens.pad_token_id,
        "eos_token_id": tokens.eos_token_id,
        "pad_token_id": tokens.pad_token_id,
    } | more


def qwen2_5_vl(texts: list[str], folder: Path) -> Path:
    """Windows of four tokens a side in its second block of two, full attention in the first."""
    tokens = standin.tokenizer(texts, 400)
    config = Qwen2_5_VLConfig(
        text_config=_text(tokens, [2, 3, 3]),
        vision_config={
            "depth": 2, "hidden_size": 48, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
            "fullatt_block_indexes": [0],
        },
        **_ids(tokens),
    )  # fmt: skip
    videos = Qwen2VLVideoProcessor()
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), tokens, videos, chat_template=standin.CHAT_TEMPLATE)
    return _write(Qwen2_5_VLForConditionalGeneration, config, processor, tokens, folder)


def qwen3_vl(texts: list[str], folder: Path) -> Path:
    """Patches of 16 pixels, and the features of the first two of three blocks given to the first two layers."""
    tokens = standin.tokenizer(texts, 400)
    config = Qwen3VLConfig(
        text_config=_text(tokens, [2, 3, 3], head_dim=16),
        vision_config={
            "depth": 3, "hidden_size": 48, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_ids(tokens),
    )  # fmt: skip
    images = Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = Qwen3VLProcessor(images, tokens, Qwen3VLVideoProcessor(), chat_template=standin.CHAT_TEMPLATE)
    return _write(Qwen3VLForConditionalGeneration, config, processor, tokens, folder)


def _write(kind, config, processor, tokens, folder: Path) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    model.generation_config.update(eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


BUILD = {"qwen2_5_vl": qwen2_5_vl, "qwen3_vl": qwen3_vl}

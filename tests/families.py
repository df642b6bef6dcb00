"""Very small checkpoints of every family, in the hub's format, from the real transformers classes."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    GotOcr2ImageProcessor,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVideoProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    LlavaOnevisionVideoProcessor,
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


# The templates of llava-hf/llava-onevision-qwen2-*-ov-hf and of OpenGVLab/InternVL3-*-hf for one image and texts: the
# first one reads lists of parts only, and puts the image before the text.
LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}"
    "{{ '<|im_end|>' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
INTERN_TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<IMG_CONTEXT>\n' }}{% elif part['type'] == 'text' %}{{ part['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TILE = 28  # px


def _plain_text(tokens) -> dict:
    """A Qwen2 with one-dimensional positions."""
    return _text(tokens, []) | {"model_type": "qwen2", "rope_parameters": {"rope_type": "default", "rope_theta": 50.0}}


def _with(tokens, **named: str):
    """A tokenizer with more special tokens, which processors find by name."""
    tokens.add_special_tokens({"additional_special_tokens": list(named.values())}, replace_extra_special_tokens=False)
    tokens._set_model_specific_special_tokens(named)
    return tokens


def llava_onevision(texts: list[str], folder: Path) -> Path:
    """Tiles of 28 pixels, up to seven a side, each of nine patches that leave a pixel over, as the real 384 do."""
    tokens = _with(standin.tokenizer(texts, 400), image_token="<image>", video_token="<video>")
    size = {"height": TILE, "width": TILE}
    grids = [[TILE * rows, TILE * columns] for rows in range(1, 8) for columns in range(1, 8)]
    config = LlavaOnevisionConfig(
        text_config=_plain_text(tokens),
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": TILE, "patch_size": 9, "vision_use_head": False,
        },
        image_grid_pinpoints=grids,
        image_token_index=tokens.convert_tokens_to_ids("<image>"),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        tie_word_embeddings=True,
    )  # fmt: skip
    images = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids)
    processor = LlavaOnevisionProcessor(
        images, tokens, LlavaOnevisionVideoProcessor(size=size), num_image_tokens=9,
        vision_feature_select_strategy="full", chat_template=LLAVA_TEMPLATE,
    )  # fmt: skip
    return _write(LlavaOnevisionForConditionalGeneration, config, processor, tokens, folder)


def internvl(texts: list[str], folder: Path) -> Path:
    """Tiles of 28 pixels with 16 patches and a class token each: four visual tokens a tile."""
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokens = _with(standin.tokenizer(texts, 400), video_token="<video>", **named)
    config = InternVLConfig(
        text_config=_plain_text(tokens),
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [TILE, TILE], "patch_size": [7, 7], "attention_bias": True,
        },
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=True,
    )  # fmt: skip
    statistics = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": TILE, "width": TILE}, **statistics), tokens, InternVLVideoProcessor(),
        image_seq_length=config.image_seq_length, chat_template=INTERN_TEMPLATE,
    )  # fmt: skip
    return _write(InternVLForConditionalGeneration, config, processor, tokens, folder)


def _write(kind, config, processor, tokens, folder: Path) -> Path:
    torch.manual_seed(0)
    model = kind(config)
    if not isinstance(model, (Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration)):
        _draw(model)
    model.generation_config.update(eos_token_id=tokens.eos_token_id, pad_token_id=tokens.pad_token_id, do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _draw(model) -> None:
    """Weights that are the same whatever the version of transformers, and class tokens and positions that are not 0."""
    draws = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1 or "image_newline" in name:
            torch.nn.init.normal_(parameter, std=0.03, generator=draws)


BUILD = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
}


def own_inputs(family, text: str, image=None, answer=()) -> dict:
    """A processor's own inputs for a text and an image at its planned size, and then an answer's tokens.

    Its limits are set so that they leave the planned size as it is.
    """
    options = LIMITS.get(family.name, _qwen)(image, family)
    images = None if image is None else [image.permute(2, 0, 1)]
    inputs = family.processor(text=[text], images=images, images_kwargs=options, return_tensors="pt")
    ids = torch.cat([inputs["input_ids"], torch.tensor([list(answer)], dtype=torch.long)], 1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = (ids == family.image_token).int()
    return inputs


def _qwen(image, family) -> dict:
    return {"size": {"shortest_edge": 1, "longest_edge": 10**9}}


def _llava(image, family) -> dict:
    """Every size that is asked for is one of its grids."""
    return {}


def _intern(image, family) -> dict:
    """As many tiles as the image holds, no fewer and no more: of such grids the image's own has its aspect."""
    if image is None:
        return {}
    tiles = image.shape[0] * image.shape[1] // family.geometry.factor**2
    return {"min_patches": tiles, "max_patches": tiles}


LIMITS = {"llava_onevision": _llava, "internvl": _intern}
FAMILIES = ("qwen2_vl", *BUILD)

"""Very small checkpoints of every family, in the hub's format, from the real transformers classes."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from transformers import (
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3ImageProcessor,
    Gemma3Processor,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
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
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from medstudy import models
from medstudy.params import Model
from medstudy.pretraining import tiny_qwen2_vl


def _ids(tokens) -> dict:
    ids = {name: tokens.convert_tokens_to_ids(name) for name in tiny_qwen2_vl.SPECIAL}
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
    tokens = tiny_qwen2_vl.tokenizer(texts, 400)
    config = Qwen2_5_VLConfig(
        text_config=_text(tokens, [2, 3, 3]),
        vision_config={
            "depth": 2, "hidden_size": 48, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 14, "spatial_merge_size": 2, "temporal_patch_size": 2, "window_size": 112,
            "fullatt_block_indexes": [0],
        },
        **_ids(tokens),
    )
    videos = Qwen2VLVideoProcessor()
    processor = Qwen2_5_VLProcessor(Qwen2VLImageProcessor(), tokens, videos, chat_template=tiny_qwen2_vl.CHAT_TEMPLATE)
    return _write(Qwen2_5_VLForConditionalGeneration, config, processor, tokens, folder)


def qwen3_vl(texts: list[str], folder: Path) -> Path:
    """Patches of 16 pixels, and the features of the first two of three blocks given to the first two layers."""
    tokens = tiny_qwen2_vl.tokenizer(texts, 400)
    config = Qwen3VLConfig(
        text_config=_text(tokens, [2, 3, 3], head_dim=16),
        vision_config={
            "depth": 3, "hidden_size": 48, "intermediate_size": 96, "num_heads": 2, "out_hidden_size": 64,
            "patch_size": 16, "spatial_merge_size": 2, "temporal_patch_size": 2, "num_position_embeddings": 64,
            "deepstack_visual_indexes": [0, 1],
        },
        **_ids(tokens),
    )
    images = Qwen2VLImageProcessor(patch_size=16, image_mean=[0.5] * 3, image_std=[0.5] * 3)
    processor = Qwen3VLProcessor(images, tokens, Qwen3VLVideoProcessor(), chat_template=tiny_qwen2_vl.CHAT_TEMPLATE)
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
    tokens = _with(tiny_qwen2_vl.tokenizer(texts, 400), image_token="<image>", video_token="<video>")
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
    )
    images = LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=grids)
    processor = LlavaOnevisionProcessor(
        images, tokens, LlavaOnevisionVideoProcessor(size=size), num_image_tokens=9,
        vision_feature_select_strategy="full", chat_template=LLAVA_TEMPLATE,
    )
    return _write(LlavaOnevisionForConditionalGeneration, config, processor, tokens, folder)


def internvl(texts: list[str], folder: Path, **language) -> Path:
    """Tiles of 28 pixels with 16 patches and a class token each: four visual tokens a tile.

    language: what the text model's configuration has in place of a Qwen2's.
    """
    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    tokens = _with(tiny_qwen2_vl.tokenizer(texts, 400), video_token="<video>", **named)
    config = InternVLConfig(
        text_config=_plain_text(tokens) | language,
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": [TILE, TILE], "patch_size": [7, 7], "attention_bias": True,
        },
        image_token_id=tokens.convert_tokens_to_ids("<IMG_CONTEXT>"),
        image_seq_length=4,
        tie_word_embeddings=True,
    )
    statistics = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    processor = InternVLProcessor(
        GotOcr2ImageProcessor(size={"height": TILE, "width": TILE}, **statistics), tokens, InternVLVideoProcessor(),
        image_seq_length=config.image_seq_length, chat_template=INTERN_TEMPLATE,
    )
    return _write(InternVLForConditionalGeneration, config, processor, tokens, folder)


IDEFICS_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{ line['text'] }}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}<end_of_utterance>\n{% endfor %}"
    "{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
PLACES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]


def _idefics(texts: list[str], folder: Path, kind, config, processor, images, **more) -> Path:
    """Tiles of 28 pixels with 16 patches each: four visual tokens a tile. A Llama answers."""
    tokens = tiny_qwen2_vl.tokenizer(texts, 400)
    named = ["<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>", *PLACES]
    tokens.add_special_tokens({"additional_special_tokens": named}, replace_extra_special_tokens=False)
    settings = config(
        text_config=_plain_text(tokens) | {"model_type": "llama"},
        vision_config={
            "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": TILE, "patch_size": 7,
        },
        scale_factor=2,
        image_token_id=tokens.convert_tokens_to_ids("<image>"),
        tie_word_embeddings=True,
    )
    pixels = images(size={"longest_edge": 4 * TILE}, max_image_size={"longest_edge": TILE})
    made = processor(pixels, tokens, image_seq_len=4, chat_template=IDEFICS_TEMPLATE, **more)
    return _write(kind, settings, made, tokens, folder, "<end_of_utterance>")


def idefics3(texts: list[str], folder: Path) -> Path:
    """See `_idefics`."""
    classes = Idefics3ForConditionalGeneration, Idefics3Config, Idefics3Processor, Idefics3ImageProcessor
    return _idefics(texts, folder, *classes)


def smolvlm(texts: list[str], folder: Path) -> Path:
    """See `_idefics`."""
    classes = SmolVLMForConditionalGeneration, SmolVLMConfig, SmolVLMProcessor, SmolVLMImageProcessor
    return _idefics(texts, folder, *classes, video_processor=SmolVLMVideoProcessor())


# google/gemma-3-4b-it's, for texts and images: no role of its own for a system prompt.
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}"
    "{% set first_user_prefix = messages[0]['content'][0]['text'] + '\n\n' %}{% set loop_messages = messages[1:] %}"
    "{% else %}{% set first_user_prefix = '' %}{% set loop_messages = messages %}{% endif %}"
    "{% for message in loop_messages %}"
    "{% set role = 'model' if message['role'] == 'assistant' else message['role'] %}"
    "{{ '<start_of_turn>' + role + '\n' + (first_user_prefix if loop.first else '') }}"
    "{% for item in message['content'] %}{% if item['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif item['type'] == 'text' %}{{ item['text'] | trim }}{% endif %}{% endfor %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)


def gemma3(texts: list[str], folder: Path) -> Path:
    """Images of 112 pixels, 8 x 8 patches, pooled to 16 tokens; two of three layers attend within a window of 24."""
    named = {"boi_token": "<start_of_image>", "image_token": "<image_soft_token>", "eoi_token": "<end_of_image>"}
    tokens = _with(tiny_qwen2_vl.tokenizer(texts, 400), **named)
    turns = {"additional_special_tokens": ["<start_of_turn>", "<end_of_turn>"], "bos_token": "<bos>"}
    tokens.add_special_tokens(turns, replace_extra_special_tokens=False)
    text = _plain_text(tokens) | {
        "model_type": "gemma3_text", "head_dim": 24, "query_pre_attn_scalar": 24, "sliding_window": 24,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 20.0},
            "full_attention": {"rope_type": "default", "rope_theta": 50.0},
        },
    }
    config = Gemma3Config(
        text_config=text,
        vision_config={
            "model_type": "siglip_vision_model", "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2,
            "num_attention_heads": 2, "image_size": 4 * TILE, "patch_size": 14, "vision_use_head": False,
        },
        mm_tokens_per_image=16,
        image_token_index=tokens.image_token_id,
        boi_token_index=tokens.boi_token_id,
        eoi_token_index=tokens.eoi_token_id,
        tie_word_embeddings=False,  # tied and random, it would say its last token again
    )
    images = Gemma3ImageProcessor(size={"height": 4 * TILE, "width": 4 * TILE}, do_pan_and_scan=False)
    processor = Gemma3Processor(images, tokens, chat_template=GEMMA_TEMPLATE, image_seq_length=16)
    return _write(Gemma3ForConditionalGeneration, config, processor, tokens, folder, "<end_of_turn>")


def _write(kind, config, processor, tokens, folder: Path, end: str = "<|im_end|>") -> Path:
    torch.manual_seed(0)
    model = kind(config)
    if not isinstance(model, (Qwen2_5_VLForConditionalGeneration, Qwen3VLForConditionalGeneration)):
        _draw(model)
    ends = tokens.convert_tokens_to_ids(end)
    model.generation_config.update(eos_token_id=ends, pad_token_id=tokens.pad_token_id, do_sample=False)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def _draw(model) -> None:
    """Weights that do not depend on transformers' version; class tokens and positions are not 0."""
    draws = torch.Generator().manual_seed(0)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1 or "image_newline" in name or "norm" in name and "Gemma3" in type(model).__name__:
            torch.nn.init.normal_(parameter, std=0.03, generator=draws)


BUILD = {
    "qwen2_5_vl": qwen2_5_vl,
    "qwen3_vl": qwen3_vl,
    "llava_onevision": llava_onevision,
    "internvl": internvl,
    "idefics3": idefics3,
    "smolvlm": smolvlm,
    "gemma3": gemma3,
}


def loud(checkpoints: dict[str, Path], factor: float) -> Callable[[str], models.Family]:
    """Loads a family by name, once; its matrices are `factor` times as large, so that answers depend on the image."""

    @cache
    def load(name: str) -> models.Family:
        family = models.load(Model(id=str(checkpoints[name]), family=name))
        with torch.no_grad():
            for parameter in family.model.parameters():
                parameter.mul_(factor if parameter.ndim >= 2 else 1)
        return family

    return load


def own_inputs(family, text: str, image=None, answer=()) -> dict:
    """A processor's own inputs for a text and an image at its planned size, and then an answer's tokens.

    Its limits are set so that they leave the planned size as it is.
    """
    options = LIMITS.get(family.name, _qwen)(image, family)
    images = None if image is None else [image.permute(2, 0, 1)]
    inputs = family.processor(text=[text], images=images, images_kwargs=options, return_tensors="pt")
    ids = torch.cat([inputs["input_ids"], torch.tensor([list(answer)], dtype=torch.long)], 1)
    inputs |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for name in ("mm_token_type_ids", "token_type_ids"):
        if name in inputs:
            inputs[name] = (ids == family.image_token).int()
    return inputs


def _qwen(image, family) -> dict:
    return {"size": {"shortest_edge": 1, "longest_edge": 10**9}}


def _llava(image, family) -> dict:
    """No setting: the requested size is one of its grids."""
    return {}


def _idefics_limits(image, family) -> dict:
    """It does not enlarge an image before cutting it."""
    return {"do_resize": False}


def _intern(image, family) -> dict:
    """Exactly as many tiles as the image holds: of these grids its own has its aspect."""
    if image is None:
        return {}
    tiles = image.shape[0] * image.shape[1] // family.geometry.factor**2
    return {"min_patches": tiles, "max_patches": tiles}


LIMITS = {
    "llava_onevision": _llava,
    "internvl": _intern,
    "idefics3": _idefics_limits,
    "smolvlm": _idefics_limits,
    "gemma3": _llava,
}
FAMILIES = ("qwen2_vl", *BUILD)

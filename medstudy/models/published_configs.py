"""Published sizes of the paper's models, for plans on a machine without checkpoints and network.

The numbers are those of the public config.json files of these ids. `outline` turns them into what a sketch needs: a
configuration, and the stand-in's processor, whose tokenizer splits a text into more tokens than the model's own does.
Such a sketch can be neither trained nor asked.
"""

from __future__ import annotations

from transformers import AutoConfig, AutoProcessor, PretrainedConfig, ProcessorMixin

from medstudy import paths

_QWEN_TOWER = {"depth": 32, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4, "patch_size": 14}
_SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 26,
    "num_attention_heads": 16, "image_size": 384, "patch_size": 14, "vision_use_head": False,
}
_INTERN_VIT = {
    "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16,
    "image_size": [448, 448], "patch_size": [14, 14],
}


def _qwen2(hidden: int, inner: int, layers: int, heads: int, keys: int, vocabulary: int, **more: object) -> dict:
    return {
        "model_type": "qwen2", "hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": keys, "vocab_size": vocabulary, **more,
    }


_ROPE = {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e6}}
CONFIGS = {
    "Qwen/Qwen2-VL-2B-Instruct": ("qwen2_vl", {
        "text_config": _qwen2(1536, 8960, 28, 12, 2, 151936, **_ROPE) | {"model_type": "qwen2_vl_text"},
        "vision_config": _QWEN_TOWER | {"hidden_size": 1536}, "tie_word_embeddings": True,
    }),
    "Qwen/Qwen2-VL-7B-Instruct": ("qwen2_vl", {
        "text_config": _qwen2(3584, 18944, 28, 28, 4, 152064, **_ROPE) | {"model_type": "qwen2_vl_text"},
        "vision_config": _QWEN_TOWER | {"hidden_size": 3584}, "tie_word_embeddings": False,
    }),
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": ("llava_onevision", {
        "text_config": _qwen2(896, 4864, 24, 14, 2, 152000), "vision_config": _SIGLIP,
        "vision_aspect_ratio": "anyres_max_9", "tie_word_embeddings": True,
    }),
    "InternVL2_5-4B-hf": ("internvl", {
        "text_config": _qwen2(2048, 11008, 36, 16, 2, 151674), "vision_config": _INTERN_VIT,
        "tie_word_embeddings": False,
    }),
}


def outline(name: str) -> tuple[ProcessorMixin, PretrainedConfig] | None:
    """Processor and configuration for a published id, or for a folder of that name; None for any other."""
    key = name if name in CONFIGS else name.rstrip("/").split("/")[-1]
    if key not in CONFIGS:
        return None
    kind, content = CONFIGS[key]
    processor = AutoProcessor.from_pretrained(paths.BASE, trust_remote_code=False)
    image = processor.tokenizer.convert_tokens_to_ids("<|image_pad|>")
    for place, token in (("start_image_token_id", "<|vision_start|>"), ("end_image_token_id", "<|vision_end|>")):
        setattr(processor, place, processor.tokenizer.convert_tokens_to_ids(token))
    return processor, AutoConfig.for_model(kind, **content, image_token_id=image)

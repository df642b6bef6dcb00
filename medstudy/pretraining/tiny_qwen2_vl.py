"""A tiny Qwen2-VL of about 1.6 M parameters, built from the real transformers classes.

It has the family's geometry (patch 14, merge 2: a visual token is 28x28 pixels), chat template, special tokens and
M-RoPE, so that all code paths are those of the 2B and 7B models; only widths, depths and vocabulary are small.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    Qwen2TokenizerFast,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

# Words that a general text corpus would have taught the tokenizer.
MEDICAL = """
Describe the cell line and subcellular localizations shown in this image. The protein localizes to the nucleus,
nucleoplasm, nucleoli, cytosol, mitochondria, vesicles, plasma membrane, centrosome, microtubules, Golgi apparatus,
endoplasmic reticulum, actin filaments. The cell line is U-2 OS, A-431, U-251 MG, HeLa, HEK 293, MCF-7, Hep G2.
Is there a nodule in the lung? Is the heart enlarged? Is there a pleural effusion? Are there microcalcifications?
Where is the lesion? Where are the calcifications? Is the breast dense? Which side does the breast point to?
What is the diagnosis? What is abnormal in this chest x-ray? Is this an axial CT or MRI of the brain, abdomen, liver?
Which mitotic figure is shown? metaphase, anaphase, prophase, telophase, interphase, none of the above. mitosis, mitoses
What is the chromatin texture? fine granular, coarse clumped, vesicular. How are the nuclei arranged? glandular, solid
sheets, spindle stroma, lymphoid, squamous epithelium, tissue, stain, hematoxylin and eosin, histology, pathology
What is the class of this cervical cell? NILM, LSIL, HSIL, SCC, normal, low-grade, high-grade squamous intraepithelial
carcinoma, koilocytic halo, nucleolus, bacteria, cytoplasm, nuclear, single cell, cluster of cells, cytology, smear
modality, microscopy, fluorescence, radiograph, ultrasound, tomography, electron, retina, fundus, vessel, artery, vein
positive, negative, present, absent, benign, malignant, tumor, cancer, normal, abnormal, anatomy, image, scan, section
"""

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# Qwen2-VL's base of 10,000 gives the horizontal position the slowest frequencies of a head. On images of 4 to 16
# tokens a side they barely turn, so the model does not learn positions; with this base they turn by up to a radian.
THETA, SECTIONS = 50.0, [2, 7, 7]  # frequency pairs of a 32-wide head for time, height, width

# Qwen2-VL's own template, reduced to one image per turn and a given system prompt.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def tokenizer(texts: Iterable[str], vocabulary: int) -> Qwen2TokenizerFast:
    """A byte-level BPE in Qwen2's class: it encodes any text, and the words of `texts` in few tokens."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - len(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator([*texts, *MEDICAL.split("\n") * 20], trainer)
    content = json.loads(bpe.to_str())["model"]
    fast = Qwen2TokenizerFast(
        vocab=content["vocab"],
        merges=[tuple(merge) for merge in content["merges"]],
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        unk_token="<|endoftext|>",
    )
    fast.add_special_tokens({"additional_special_tokens": list(SPECIAL)})
    fast.chat_template = CHAT_TEMPLATE
    return fast


def config(
    tokens: Qwen2TokenizerFast, width: int, layers: int, vision_width: int, vision_layers: int
) -> Qwen2VLConfig:
    """A small Qwen2-VL configuration for that tokenizer."""
    heads = width // 32
    ids = {name: tokens.convert_tokens_to_ids(name) for name in SPECIAL}
    rows = -(-len(tokens) // 64) * 64
    return Qwen2VLConfig(
        text_config={
            "vocab_size": rows,
            "hidden_size": width,
            "intermediate_size": 3 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "num_key_value_heads": heads,
            "max_position_embeddings": 4096,
            "rope_parameters": {"rope_type": "default", "rope_theta": THETA, "mrope_section": SECTIONS},
            "tie_word_embeddings": True,
            "bos_token_id": ids["<|endoftext|>"],
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
        },
        vision_config={
            "depth": vision_layers,
            "embed_dim": vision_width,
            "hidden_size": width,
            "num_heads": vision_width // 48,
            "mlp_ratio": 3,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )


def build(texts: Iterable[str], folder: Path, vocabulary: int = 1536, seed: int = 0, **widths: int) -> Path:
    """Write an untrained model to `folder` in the hub's format, with its tokenizer, processor and chat template."""
    tokens = tokenizer(texts, vocabulary)
    return write(config(tokens, **widths), tokens, folder, seed)


def write(
    settings: Qwen2VLConfig, tokens: Qwen2TokenizerFast, folder: Path, seed: int, dtype: torch.dtype = torch.float32
) -> Path:
    """Write a model of a configuration with random weights, its tokenizer and its processor."""
    torch.manual_seed(seed)
    model = Qwen2VLForConditionalGeneration(settings).to(dtype)
    model.generation_config.update(
        eos_token_id=tokens.convert_tokens_to_ids("<|im_end|>"), pad_token_id=tokens.pad_token_id, do_sample=False
    )
    model.save_pretrained(folder)
    processor(tokens).save_pretrained(folder)
    return folder


def processor(tokens: Qwen2TokenizerFast) -> Qwen2VLProcessor:
    """Qwen2-VL's processor around a tokenizer."""
    return Qwen2VLProcessor(
        image_processor=Qwen2VLImageProcessor(),
        tokenizer=tokens,
        video_processor=Qwen2VLVideoProcessor(),
        chat_template=CHAT_TEMPLATE,
    )

"""The families at the sizes of released checkpoints: transformers' configurations with the published numbers.

Read in the checkpoints' public config.json, or in copies of them, and in the models' own descriptions: Qwen2-VL,
Qwen2.5-VL and Qwen3-VL (patch 14 or 16, merge 2), llava-onevision-qwen2-*-ov-hf (SigLIP 384 / 14, anyres_max_9),
InternVL3-*-hf (448 / 14, down to a quarter), Idefics3-8B-Llama3 (364 / 14, scale factor 2, 169 tokens a tile),
SmolVLM-Instruct (384 / 14, scale factor 3, 81), SmolVLM-256M and -500M-Instruct (512 / 16, scale factor 4, 64),
gemma-3-4b-it and medgemma-4b (896 / 14, 256 tokens an image).

`python -m tests.support.real` writes the tables of docs/reference/families.md from them and from the code.
"""

from __future__ import annotations

import math
from types import SimpleNamespace

from transformers import (
    Gemma3Config,
    GotOcr2ImageProcessor,
    Idefics3Config,
    Idefics3ImageProcessor,
    InternVLConfig,
    LlavaOnevisionConfig,
    LlavaOnevisionImageProcessor,
    LlavaOnevisionProcessor,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen2VLImageProcessor,
    Qwen3VLConfig,
)

from medstudy import paths
from medstudy.models import REGISTRY
from medstudy.report.pages import readme
from medstudy.resolution.policies import Fixed, Native
from medstudy.resolution.sizes import Size, fit_budget

SIGLIP = {"model_type": "siglip_vision_model", "vision_use_head": False}
CONFIGS = {
    # name as in docs/reference/families.md: family, configuration
    "Qwen2-VL": ("qwen2_vl", Qwen2VLConfig(vision_config={"patch_size": 14, "spatial_merge_size": 2})),
    "Qwen2.5-VL": ("qwen2_5_vl", Qwen2_5_VLConfig(vision_config={"patch_size": 14, "spatial_merge_size": 2})),
    "Qwen3-VL": ("qwen3_vl", Qwen3VLConfig(vision_config={"patch_size": 16, "spatial_merge_size": 2})),
    "LLaVA-OneVision": (
        "llava_onevision",
        LlavaOnevisionConfig(
            vision_config=SIGLIP | {"image_size": 384, "patch_size": 14}, vision_aspect_ratio="anyres_max_9"
        ),
    ),
    "InternVL3": (
        "internvl",
        InternVLConfig(vision_config={"image_size": [448, 448], "patch_size": [14, 14]}, downsample_ratio=0.5),
    ),
    "Idefics3-8B": ("idefics3", Idefics3Config(vision_config={"image_size": 364, "patch_size": 14}, scale_factor=2)),
    "SmolVLM-2.2B": ("idefics3", Idefics3Config(vision_config={"image_size": 384, "patch_size": 14}, scale_factor=3)),
    "SmolVLM-256M": ("idefics3", Idefics3Config(vision_config={"image_size": 512, "patch_size": 16}, scale_factor=4)),
    "Gemma 3": (
        "gemma3",
        Gemma3Config(vision_config=SIGLIP | {"image_size": 896, "patch_size": 14}, mm_tokens_per_image=256),
    ),
}


def geometry(name: str):
    """The geometry of a released checkpoint, from its configuration."""
    family, config = CONFIGS[name]
    return REGISTRY[family](SimpleNamespace(config=config), None, "", None).geometry


def theirs(name: str, size: Size) -> int:
    """The visual tokens of an image that arrives at its planned size, by the arithmetic of transformers' processors."""
    family, config = CONFIGS[name]
    return COUNT[family](config, *size)


NATIVE = Native(max_pixels=12_845_056)  # the author's cap
NATIVE_SIZES = (224, 448, 1024, 2048)
FILE = paths.ROOT / "docs" / "reference" / "families.md"


def tables() -> dict[str, str]:
    """The generated parts of docs/reference/families.md by the names of their markers."""
    return {"sizes": _sizes(), "tokens": _tokens(), "low": _low(), "rounding": _rounding(), "abilities": _abilities()}


def _sizes() -> str:
    rows = [[name, f"`{CONFIGS[name][0]}`", geometry(name).sizes] for name in CONFIGS]
    return _markdown(["checkpoint", "`model.family`", "what can be shown"], rows)


def _tokens() -> str:
    """Of square images, with the native policy."""
    rows = [[name, *(f"{_native(name, side).visual_tokens}" for side in NATIVE_SIZES)] for name in CONFIGS]
    return _markdown(["checkpoint", *(f"{side}²" for side in NATIVE_SIZES)], rows)


def _native(name: str, side: int):
    return NATIVE.view(Size(side, side), geometry(name))


def _low() -> str:
    """How policies resize an image of 1000 x 1500 pixels."""
    policies = [NATIVE, Fixed(side=1000), Fixed(side=448), Fixed(side=224)]
    rows = []
    for name in CONFIGS:
        views = [policy.view(Size(1000, 1500), geometry(name)) for policy in policies]
        rows.append([name, *(_view(view) for view in views)])
    return _markdown(["checkpoint", *(policy.label for policy in policies)], rows)


SIDES, BUDGETS = range(239, 4001), (224, 448, 672, 1000)  # square images and budgets that roundings are compared on


def _rounding() -> str:
    """The square images, of all `SIDES`, that the two roundings resize differently in each budget."""
    rows = []
    for name in CONFIGS:
        its = geometry(name)
        if its.floats:
            rows.append([name, *(_apart(its, budget) for budget in BUDGETS)])
    return _markdown(["checkpoint", *(f"{budget}²" for budget in BUDGETS)], rows)


def _apart(its, budget: int) -> str:
    pairs = [[fit_budget(Size(side, side), budget**2, its, how) for how in ("exact", "processor")] for side in SIDES]
    smaller = {f"{theirs.height}²" for ours, theirs in pairs if ours != theirs}
    count = sum(ours != theirs for ours, theirs in pairs)
    return f"{count} ({', '.join(sorted(smaller))} for {pairs[-1][0].height}²)" if count else "0"


def _view(view) -> str:
    detail = "" if view.detail == view.size else f", detail {view.detail.height} × {view.detail.width}"
    return f"{view.size.height} × {view.size.width}, {view.visual_tokens} tokens{detail}"


def _abilities() -> str:
    rows = []
    for name, family in REGISTRY.items():
        shared = family.shares_prefix
        masked = "sdpa with masks" if family.both_ways else "flash, sdpa"
        kernels = masked if shared else "the model's own"
        rows.append([f"`{name}`", _yes(shared), kernels, _yes(shared), "yes", _yes(shared)])
    head = ["`model.family`", "shared prefix", "attention", "frozen features kept", "LoRA", "FLOPs by formula"]
    return _markdown(head, rows)


def _yes(what: bool) -> str:
    return "yes" if what else "no"


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _qwen(config, height, width):
    patch, merge = config.vision_config.patch_size, config.vision_config.spatial_merge_size
    limits = {"min_pixels": 1, "max_pixels": 10**9}
    processor = Qwen2VLImageProcessor(patch_size=patch, merge_size=merge)
    return processor.get_number_of_image_patches(height, width, limits) // merge**2


def _llava(config, height, width):
    """The processor's own number of features, with the planned size as its only grid."""
    side, patch = config.vision_config.image_size, config.vision_config.patch_size
    made = SimpleNamespace(
        image_processor=LlavaOnevisionImageProcessor(image_grid_pinpoints=[[height, width]]),
        num_image_tokens=(side // patch) ** 2, vision_aspect_ratio=config.vision_aspect_ratio,
    )
    made._get_unpadded_features = lambda *sizes: LlavaOnevisionProcessor._get_unpadded_features(made, *sizes)
    return LlavaOnevisionProcessor._get_number_of_features(made, height, width, side, side)


def _intern(config, height, width):
    side = config.vision_config.image_size[0]
    tiles = height * width // side**2
    processor = GotOcr2ImageProcessor(size={"height": side, "width": side})
    limits = {"crop_to_patches": True, "min_patches": tiles, "max_patches": tiles}
    return processor.get_number_of_image_patches(height, width, limits) * config.image_seq_length


def _idefics(config, height, width):
    side = config.vision_config.image_size
    processor = Idefics3ImageProcessor(size={"longest_edge": max(height, width)}, max_image_size={"longest_edge": side})
    views = max(1, processor.get_number_of_image_patches(height, width)[0])
    return views * int((side // config.vision_config.patch_size) ** 2 / config.scale_factor**2)


def _gemma(config, height, width):
    assert (height, width) == (config.vision_config.image_size,) * 2
    return math.isqrt(config.mm_tokens_per_image) ** 2


COUNT = {
    "qwen2_vl": _qwen,
    "qwen2_5_vl": _qwen,
    "qwen3_vl": _qwen,
    "llava_onevision": _llava,
    "internvl": _intern,
    "idefics3": _idefics,
    "gemma3": _gemma,
}


if __name__ == "__main__":
    for mark, content in tables().items():
        readme.replace(mark, content, FILE)

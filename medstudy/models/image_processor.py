"""The settings of a checkpoint's image processor: each is obeyed, replaced by the study's policy, or refused.

A family computes the numbers that its tower reads itself, so that a policy's size is imposed exactly. They equal those
of its processor to the bit only if every setting that the processor follows is followed here, or by neither.
Family `auto` calls the processor itself and needs none of this.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from transformers.image_utils import PILImageResampling

from medstudy.errors import ModelError
from medstudy.models.family import NORMALISATION, Family
from medstudy.resolution.sizes import Size

# Settings that must have one of these values, as in all released checkpoints of the families.
NEEDED = {
    "do_resize": (True,),
    "do_center_crop": (None, False),
    "pad_size": (None,),
    "do_image_splitting": (True,),
    "do_pan_and_scan": (None, False),
}
IGNORED = {
    "do_convert_rgb": "images are RGB when they are read",
    "resample": "the study's `interpolation` resizes to the planned size; for the overview the setting is obeyed",
    "size": "a policy's budget replaces it; the side of a tile is checked (`Family.layout`)",
    "default_to_square": "as size",
    "crop_size": "only read with do_center_crop, which is refused",
    "min_pixels": "as size",
    "max_pixels": "as size",
    "image_grid_pinpoints": "a policy plans the grid of tiles",
    "crop_to_patches": "a policy plans the grid of tiles",
    "min_patches": "a policy plans the grid of tiles",
    "max_patches": "a policy plans the grid of tiles",
    "pan_and_scan_min_crop_size": "no crops are made",
    "pan_and_scan_max_num_crops": "no crops are made",
    "pan_and_scan_min_ratio_to_activate": "no crops are made",
    "do_pad": "pads a batch of several images; here each is processed alone",
    "return_row_col_info": "the family writes rows and columns itself",
    "image_seq_length": "visual tokens are counted from the configuration",
    "data_format": "the layout of an array",
    "input_data_format": "the layout of an array",
    "device": "where it is computed",
    "return_tensors": "the type of an array",
    "disable_grouping": "how a batch is computed",
}
LAYOUT = ("patch_size", "merge_size", "temporal_patch_size", "max_image_size")  # and `size`: see `Family.layout`


def check(family: Family, source: str) -> None:
    """Raises ModelError naming a setting of the processor that the family's pixels would not follow."""
    settings = family.processor.image_processor
    if family.images not in (kind.__name__ for kind in type(settings).__mro__):
        raise ModelError(
            f"Family {family.name} computes an image's numbers as {family.images} does, but the processor of "
            f"{source!r} names {type(settings).__name__} as its image_processor_type. Use that family's own processor "
            "files."
        )
    for name, allowed in NEEDED.items():
        if (value := getattr(settings, name, allowed[0])) not in allowed:
            raise _refused(family, source, name, f"be {allowed[-1]!r}", value)
    for name, due in family.layout.items():
        value = getattr(settings, name, None)
        if (value if not isinstance(due, dict) else {key: _entry(value, key) for key in due}) != due:
            raise _refused(family, source, name, f"agree with config.json, which has {due!r}", value)
    for name, due in _counts(family).items():
        if (value := getattr(family.processor, name, None)) not in (None, due):
            raise _refused(family, source, name, f"be {due}, the number by config.json for one tile", value)
    _check_shades(family, source)
    if settings.resample is not None and int(settings.resample) not in list(map(int, PILImageResampling)):
        raise _refused(family, source, "resample", "be one of Pillow's filters, 0 to 5", settings.resample)


def _counts(family: Family) -> dict[str, int]:
    """The processor's settings that count a tile's visual tokens or patches, and their values by the configuration."""
    geometry = family.geometry
    tokens = geometry.tokens(Size(geometry.factor, geometry.factor))
    patches = getattr(geometry, "patches", 0) ** 2
    return {"image_seq_length": tokens, "image_seq_len": tokens, "num_image_tokens": patches}


def _check_shades(family: Family, source: str) -> None:
    """Raises ModelError where the processor's own function cannot normalise pixels with these settings."""
    settings, names = family.processor.image_processor, ", ".join(NORMALISATION)
    values = {name: getattr(settings, name, None) for name in NORMALISATION}
    try:
        shades = family.shades
    except Exception as error:  # of torch, torchvision or a missing value
        raise _refused(family, source, names, f"turn pixels into numbers ({error})", values) from error
    if shades.shape != (3, 256) or not torch.isfinite(shades).all() or math.isclose(float(shades.std()), 0):
        raise _refused(family, source, names, "turn different pixels into different finite numbers", values)


def _entry(value: Any, key: str) -> Any:
    return value.get(key) if isinstance(value, dict) else getattr(value, key, None)


def _refused(family: Family, source: str, name: str, rule: str, value: Any) -> ModelError:
    return ModelError(
        f"Family {family.name} shows an image as a whole at the size that a policy plans: {name} must {rule} in the "
        f"processor's configuration (preprocessor_config.json or processor_config.json) of {source!r}, got {value!r}. "
        "Restore the file of the model that the checkpoint was trained from."
    )

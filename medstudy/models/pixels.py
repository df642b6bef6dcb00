"""What a checkpoint's image processor says, and what becomes of it: obeyed, decided by the study's policy, or refused.

A family makes the numbers that its tower reads itself, so that a policy's size is imposed exactly; they are its
processor's own to the bit only if every setting that the processor would follow is followed here, or not there.
`auto` asks the processor itself and needs none of this.
"""

from __future__ import annotations

import math

import torch
from transformers.image_utils import PILImageResampling

from medstudy.errors import ModelError
from medstudy.resolution.sizes import Size

OBEYED = ("do_rescale", "rescale_factor", "do_normalize", "image_mean", "image_std")
# Settings that may only have these values here, which all released checkpoints of the families have.
NEEDED = {
    "do_resize": (True,),
    "do_center_crop": (None, False),
    "pad_size": (None,),
    "do_image_splitting": (True,),
    "do_pan_and_scan": (None, False),
}
IGNORED = {
    "do_convert_rgb": "images are RGB when they are read",
    "resample": "the study's `interpolation` resizes to what a policy plans; of the overview it is obeyed",
    "size": "a policy's budget takes its place; the side of a tile is checked (`Family.layout`)",
    "default_to_square": "as size",
    "crop_size": "it is read with do_center_crop alone, which is refused",
    "min_pixels": "as size",
    "max_pixels": "as size",
    "image_grid_pinpoints": "a policy plans the grid of tiles",
    "crop_to_patches": "a policy plans the grid of tiles",
    "min_patches": "a policy plans the grid of tiles",
    "max_patches": "a policy plans the grid of tiles",
    "pan_and_scan_min_crop_size": "nothing is cut",
    "pan_and_scan_max_num_crops": "nothing is cut",
    "pan_and_scan_min_ratio_to_activate": "nothing is cut",
    "do_pad": "it fills up a batch of several images; each is seen alone",
    "return_row_col_info": "the family writes rows and columns itself",
    "image_seq_length": "visual tokens are counted from the configuration",
    "data_format": "how an array is handed over",
    "input_data_format": "how an array is handed over",
    "device": "where it is computed",
    "return_tensors": "how an array is handed over",
    "disable_grouping": "how a batch is computed",
}
LAYOUT = ("patch_size", "merge_size", "temporal_patch_size", "max_image_size")  # with `size`: see `Family.layout`


def check(family, place: str) -> None:
    """Raises ModelError naming a setting of the processor that the family's pixels would not follow."""
    settings = family.processor.image_processor
    if family.images not in (kind.__name__ for kind in type(settings).__mro__):
        raise ModelError(
            f"Family {family.name} makes an image's numbers as {family.images} does, but the processor of {place!r} "
            f"names {type(settings).__name__} as its image_processor_type. Use that family's own processor files."
        )
    for name, allowed in NEEDED.items():
        if (found := getattr(settings, name, allowed[0])) not in allowed:
            raise _refused(family, place, name, f"be {allowed[-1]!r}", found)
    for name, due in family.layout.items():
        found = getattr(settings, name, None)
        if (found if not isinstance(due, dict) else {key: _get(found, key) for key in due}) != due:
            raise _refused(family, place, name, f"agree with config.json, which says {due!r}", found)
    for name, due in _counts(family).items():
        if (found := getattr(family.processor, name, None)) not in (None, due):
            raise _refused(family, place, name, f"be the visual tokens of a tile by config.json, {due},", found)
    _shades(family, place)
    if settings.resample is not None and int(settings.resample) not in [int(one) for one in PILImageResampling]:
        raise _refused(family, place, "resample", "be one of Pillow's filters, 0 to 5", settings.resample)


def _counts(family) -> dict[str, int]:
    """Settings of the processor that count a tile's visual tokens, or its patches, and what the configuration says."""
    shape = family.geometry
    tokens = shape.tokens(Size(shape.factor, shape.factor))
    return {"image_seq_length": tokens, "image_seq_len": tokens, "num_image_tokens": getattr(shape, "patches", 0) ** 2}


def _shades(family, place: str) -> None:
    """Raises ModelError where the processor's own function cannot make numbers of pixels with these settings."""
    settings = family.processor.image_processor
    said = {name: getattr(settings, name, None) for name in OBEYED}
    try:
        made = family.shades
    except Exception as error:  # of torch, torchvision or a missing value
        raise _refused(family, place, ", ".join(OBEYED), f"make numbers of pixels ({error})", said) from error
    if made.shape != (3, 256) or not torch.isfinite(made).all() or math.isclose(float(made.std()), 0):
        raise _refused(family, place, ", ".join(OBEYED), "make different finite numbers of different pixels", said)


def _get(found, key: str):
    return found.get(key) if isinstance(found, dict) else getattr(found, key, None)


def _refused(family, place: str, name: str, rule: str, found) -> ModelError:
    return ModelError(
        f"Family {family.name} shows an image as a whole at the size that a policy plans: {name} must {rule} in the "
        f"processor's configuration (preprocessor_config.json or processor_config.json) of {place!r}, got {found!r}. "
        "Restore the file of the model that the checkpoint was trained from."
    )

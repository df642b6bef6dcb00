"""A processor's settings are followed to the bit, or the checkpoint is refused with the setting's name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from medstudy import models
from medstudy.engine.image_inputs import ImageInputs
from medstudy.errors import ModelError
from medstudy.models import image_processor, trial_question
from medstudy.models.family import NORMALISATION
from medstudy.params import Model, Optimisation
from tests.support import altered
from tests.support.families import FAMILIES, own_inputs

SETTINGS = {
    "not normalised": {"do_normalize": False},
    "not rescaled": {"do_rescale": False},
    "neither": {"do_normalize": False, "do_rescale": False},
    "another factor": {"rescale_factor": 1 / 127.5},
    "other means": {"image_mean": [0.1, 0.5, 0.7], "image_std": [0.2, 0.3, 0.9]},
    "as other releases": {"do_convert_rgb": False, "do_pad": False, "size_divisor": 7},
}


def _load(folder, name):
    return models.load(Model(id=str(folder), family=name))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("title", SETTINGS)
def test_pixels_are_those_of_the_checkpoints_own_processor(checkpoints, tmp_path, name, title):
    family = _load(altered.images(checkpoints[name], tmp_path / "other", **SETTINGS[title]), name)
    factor = family.geometry.factor
    shape = (factor, factor, 3) if name == "gemma3" else (2 * factor, 3 * factor, 3)
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    theirs = own_inputs(family, family.prompt(trial_question.QUESTION), image)["pixel_values"].float()
    ours = family.patches(image)
    if name.startswith("qwen"):  # of its two equal frames
        theirs = theirs.view(len(ours), 3, 2, -1)[:, :, 0]
    assert torch.equal(ours.flatten(), theirs.flatten())
    plain = _load(checkpoints[name], name)
    changed = title != "as other releases"
    assert torch.equal(ours, plain.patches(image)) != changed
    assert (family.pixel_settings != plain.pixel_settings) == changed  # kept features are kept apart


@pytest.mark.parametrize("name", FAMILIES)
def test_every_field_of_the_processors_class_is_classified(checkpoints, name):
    """Fails for a field that a later release adds, until it is put in one of the classes."""
    family = models.sketch(Model(id=str(checkpoints[name]), family=name))
    kind = type(family.processor.image_processor)
    fields = {one for one in vars(kind()) if not one.startswith("_")} | set(kind.valid_kwargs.__annotations__)
    decided = [set(NORMALISATION), *map(set, (image_processor.NEEDED, image_processor.IGNORED, image_processor.LAYOUT))]
    assert not fields - set().union(*decided) and sum(map(len, decided)) == len(set().union(*decided))
    assert set(family.layout) <= {"size", *image_processor.LAYOUT}


WRONG = {
    "do_resize": ({"do_resize": False}, FAMILIES),
    "do_center_crop": ({"do_center_crop": True, "crop_size": {"height": 14, "width": 14}}, FAMILIES),
    "image_mean": ({"image_mean": [0.5, 0.5]}, FAMILIES),
    "image_std": ({"image_std": [0.0, 0.5, 0.5]}, FAMILIES),
    "rescale_factor": ({"rescale_factor": "big"}, FAMILIES),
    "resample": ({"resample": 9}, FAMILIES),
    "patch_size": ({"patch_size": 7}, [name for name in FAMILIES if name.startswith("qwen")]),
    "merge_size": ({"merge_size": 4}, [name for name in FAMILIES if name.startswith("qwen")]),
    "temporal_patch_size": ({"temporal_patch_size": 1}, [name for name in FAMILIES if name.startswith("qwen")]),
    "size": ({"size": {"height": 14, "width": 14}}, ["llava_onevision", "internvl", "gemma3"]),
    "max_image_size": ({"max_image_size": {"longest_edge": 14}}, ["idefics3", "smolvlm"]),
    "do_image_splitting": ({"do_image_splitting": False}, ["idefics3", "smolvlm"]),
    "do_pan_and_scan": ({"do_pan_and_scan": True}, ["gemma3"]),
    "image_processor_type": ({"image_processor_type": "CLIPImageProcessor"}, FAMILIES),
}


@pytest.mark.parametrize(("setting", "name"), [(setting, name) for setting in WRONG for name in WRONG[setting][1]])
def test_a_setting_that_would_not_be_followed_is_refused_by_name(checkpoints, tmp_path, setting, name):
    folder = altered.images(checkpoints[name], tmp_path / "other", **WRONG[setting][0])
    with pytest.raises(ModelError, match=setting):
        models.sketch(Model(id=str(folder), family=name))


@pytest.mark.parametrize(("name", "own"), [("gemma3", "bilinear"), ("idefics3", "lanczos"), ("qwen2_vl", "bicubic")])
def test_a_filter_other_than_the_processors_causes_a_warning(checkpoints, tmp_path, name, own, recwarn):
    family = _load(checkpoints[name], name)
    options = Optimisation(epochs=1, learning_rate=1e-3)
    for asked in ("bicubic", "bilinear"):
        recwarn.clear()
        ImageInputs.of(SimpleNamespace(runs=tmp_path, training=options, interpolation=asked), family)
        said = [str(one.message) for one in recwarn if "resizes images by" in str(one.message)]
        assert said == [] if own == asked else f"by {own}, the study by {asked}" in said[0]


COUNTS = {"llava_onevision": "num_image_tokens", "internvl": "image_seq_length", "idefics3": "image_seq_len",
          "smolvlm": "image_seq_len", "gemma3": "image_seq_length"}


@pytest.mark.parametrize("name", COUNTS)
def test_a_count_of_visual_tokens_that_config_json_contradicts_is_refused(checkpoints, tmp_path, name):
    """One of the two files belongs to another model; each would load by itself."""
    folder = altered.copy(checkpoints[name], tmp_path / "other", processor_config={COUNTS[name]: 5})
    with pytest.raises(ModelError, match=f"{COUNTS[name]} must be .*by config.json for one tile.*got 5"):
        models.sketch(Model(id=str(folder), family=name))

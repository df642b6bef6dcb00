"""What only Gemma 3 has: a single size, attention in both directions within an image, and windows."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText

from medstudy import models
from medstudy.data.example import Question
from medstudy.engine import attention, batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import RowLayout
from medstudy.errors import ModelError, ResolutionError
from medstudy.models.tiled.gemma3 import OneSize
from medstudy.params import Model
from medstudy.resolution.plan import check_effect, plan
from medstudy.resolution.policies import DownUp, Fixed, Native
from medstudy.resolution.sizes import Size
from medstudy.training import train
from tests.support.families import own_inputs

GEMMA = OneSize(896, 896**2, patches=64, merge=4)
NATIVE = Native(max_pixels=10**8)


@pytest.fixture(scope="module")
def gemma(checkpoints):
    family = models.load(Model(id=str(checkpoints["gemma3"]), family="gemma3"))
    with torch.no_grad():
        for parameter in family.model.parameters():
            parameter.mul_(4 if parameter.ndim >= 2 else 1)
    return family


GOLDEN = {
    # name: policy, (height, width) -> what it is resized to in turn
    "native is the one size": (NATIVE, (3000, 4000), [(896, 896)]),
    "a strip too": (NATIVE, (20, 4000), [(896, 896)]),
    "a small image is enlarged": (NATIVE, (64, 64), [(896, 896)]),
    "a budget above it": (Fixed(side=2000), (3000, 4000), [(896, 896)]),
    "a budget below it": (Fixed(side=224), (3000, 4000), [(193, 258), (896, 896)]),
    "pad": (Fixed(side=896, mode="pad"), (3000, 1500), [(896, 448)]),
    "pad, larger than it": (Fixed(side=2000, mode="pad"), (3000, 1500), [(896, 448)]),
    "down and up": (DownUp(side=224, native=NATIVE), (1000, 1000), [(224, 224), (896, 896)]),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_plan_golden(name):
    policy, size, resized = GOLDEN[name]
    (view,) = plan(policy, Size(*size), GEMMA)
    assert (list(view.steps), view.size, view.visual_tokens) == (resized, (896, 896), 256)


def test_a_policy_above_the_one_size_changes_nothing():
    sizes = [Size(3000, 4000), Size(500, 500)]
    with pytest.raises(ResolutionError, match="shows 896x896 pixels and nothing else"):
        check_effect(Fixed(side=1000), sizes, GEMMA)
    check_effect(Fixed(side=448), sizes, GEMMA)


def test_pixels_and_features_are_the_processors_and_the_models(gemma):
    image = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8))
    theirs = own_inputs(gemma, gemma.prompt(Question("q", "Is it?", "yes", "closed", "dot")), image)["pixel_values"]
    patches, grid = gemma.patches(image), gemma.grid(Size(112, 112))
    assert torch.equal(patches, theirs)
    untouched = AutoModelForImageTextToText.from_pretrained(gemma.model.name_or_path).eval()
    untouched.load_state_dict(gemma.model.state_dict())
    with torch.no_grad():
        expected = untouched.model.get_image_features(theirs).pooler_output.flatten(0, 1)
        seen, features = gemma.see(patches, grid), gemma.features(patches, grid)
    torch.testing.assert_close(seen.tokens, expected, atol=2e-6, rtol=1e-5)
    assert torch.equal(gemma.merge(features, grid).tokens, seen.tokens) and len(seen.tokens) == 16


@pytest.mark.parametrize("window", [None, 1, 4, 13])
def test_kernel_and_masks_follow_the_definition(window):
    layout = RowLayout((17, 9), ((3, 6), (8,)), (((2, 8), (11, 15)), ()))
    draws = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, heads, len(layout), 8, generator=draws) for heads in (4, 2, 2))
    expected = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, layout.within(window), scale=0.3, enable_gqa=True
    )
    torch.testing.assert_close(attention.sdpa(query, key, value, layout, 0.3, window), expected)
    for number in (0, 1):  # token by token, as a sequence of one branch alone would have it
        at = torch.cat([torch.arange(17), torch.arange(26, 29) if number == 0 else torch.arange(29, 35)])
        alone = RowLayout((17,), ((len(at) - 17,),), layout.bidirectional[:1])
        assert torch.equal(layout.within(window)[at][:, at], alone.within(window))
    i, j = torch.meshgrid(torch.arange(17), torch.arange(17), indexing="ij")
    runs = sum(((i >= a) & (i < b) & (j >= a) & (j < b)) for a, b in layout.bidirectional[0]).bool()
    near = True if window is None else j > i - window
    assert torch.equal(layout.within(window)[:17, :17], ((j <= i) | runs) & near)
    assert layout.pairs == int(layout.mask.sum())


@pytest.mark.parametrize("change", ["one way", "no window", "a shorter window"])
def test_wrong_masks_change_the_loss(gemma, examples, change):
    supply = ImageInputs(gemma, "bicubic")
    seen = [(one, plan(NATIVE, batches.size_of(one), gemma.geometry)[0]) for one in examples]
    (micro,) = batches.micro_batches(supply, seen, 10**6)
    wrong, layers = micro.content, [layer.self_attn for layer in gemma.model.model.language_model.layers]
    with torch.no_grad():
        exact = float(train.loss_of(supply, micro.content))
        if change == "one way":
            packed = micro.content.packed
            wrong = replace(wrong, packed=replace(packed, layout=replace(packed.layout, bidirectional=())))
        else:
            for layer in layers:
                layer.sliding_window = layer.sliding_window and {"no window": None, "a shorter window": 12}[change]
        off = float(train.loss_of(supply, wrong))
        for layer in layers:
            layer.sliding_window = 24 if layer.is_sliding else None
    assert abs(exact - off) / micro.questions > 1e-3


def test_pan_and_scan_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["gemma3"], tmp_path / "other")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["do_pan_and_scan"] = True
    file.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="do_pan_and_scan must be False"):
        models.load(Model(id=str(folder), family="gemma3"))

"""What only Gemma 3 has: a single size, attention in both directions within an image, and windows."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers import AutoModelForImageTextToText, Gemma3ImageProcessor

from medstudy import models
from medstudy.data.example import Question
from medstudy.engine import attention, batches, shared_prefix, views
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.row_layout import RowLayout
from medstudy.errors import ModelError, ResolutionError
from medstudy.evaluation import evaluate
from medstudy.models.tiled.gemma3 import OneSize
from medstudy.params import Decoding, Model
from medstudy.resolution.pan_and_scan import PanAndScan, crops
from medstudy.resolution.plan import check_effect, plan
from medstudy.resolution.policies import DownUp, Fixed, Native
from medstudy.resolution.sizes import Size
from medstudy.training import train
from tests.support import real
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


PAN = PanAndScan(max_pixels=10**8, min_crop_size=40)
GOLDEN_CROPS = {
    # (height, width), smallest crop, most crops, ratio -> crops
    "square": ((900, 900), 256, 4, 1.2, []),
    "hardly wide": ((1000, 1199), 256, 4, 1.2, []),
    "wide": ((1000, 1200), 256, 4, 1.2, [(0, 0, 1000, 600), (0, 600, 1000, 600)]),
    "odd": ((300, 701), 256, 4, 1.2, [(0, 0, 300, 351), (0, 351, 300, 350)]),
    "a strip": ((300, 3000), 256, 4, 1.2, [(0, 750 * place, 300, 750) for place in range(4)]),
    "tall": ((2000, 700), 256, 4, 1.2, [(0, 0, 667, 700), (667, 0, 667, 700), (1334, 0, 666, 700)]),
    "too small": ((200, 1000), 256, 4, 1.2, []),
    "two at least": ((300, 370), 150, 2, 1.2, [(0, 0, 300, 185), (0, 185, 300, 185)]),
}


@pytest.mark.parametrize("name", GOLDEN_CROPS)
def test_pan_and_scan_golden(name):
    size, least, most, ratio, expected = GOLDEN_CROPS[name]
    policy = PanAndScan(max_pixels=10**8, min_crop_size=least, max_crops=most, min_ratio=ratio)
    (view,) = plan(policy, Size(*size), GEMMA)
    assert [tuple(part.crop) for part in view.crops] == expected
    assert view.all_tokens == 256 * (1 + len(expected)) and view.size == (896, 896)
    assert view.source == ("pan_and_scan" if expected else "none")
    assert policy.label == ("pan_and_scan" if (least, most, ratio) == (256, 4, 1.2) else f"pan_and_scan-{least}-2-1.2")


@settings(derandomize=True, deadline=None, max_examples=100)
@given(st.integers(30, 3000), st.integers(30, 3000), st.integers(20, 600), st.integers(2, 6), st.floats(1, 3))
def test_crops_are_the_processors(height, width, least, most, ratio):
    theirs = Gemma3ImageProcessor().pan_and_scan_batched(torch.zeros((1, 1)).expand(height, width), least, most, ratio)
    assert [box.size for box in crops(Size(height, width), least, most, ratio)] == [part.shape for part in theirs]


@pytest.mark.parametrize("size", [(100, 300), (260, 90), (90, 100)], ids=str)
def test_pan_and_scan_equals_the_processors_pixels_and_prompt(gemma, size):
    image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8))
    question = Question("q", "Is it?", "yes", "closed", "dot")
    (view,) = plan(PAN, Size(*size), gemma.geometry)
    row = shared_prefix.row(gemma, (question,), view, answered=False)
    ours = torch.cat([gemma.patches(views.render(image, part, "bilinear")) for part in view.views])
    options = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 40, "pan_and_scan_max_num_crops": 4,
               "pan_and_scan_min_ratio_to_activate": 1.2}
    text = gemma.prompt(question)
    theirs = gemma.processor(text=[text], images=[[image]], images_kwargs=options, return_tensors="pt")
    assert len(view.crops) == {100: 3, 260: 3, 90: 0}[size[0]] and view.all_tokens == 16 * len(view.views)
    assert row.prefix + row.branches[0] == theirs["input_ids"][0].tolist()
    assert torch.equal(ours, theirs["pixel_values"])
    packed = shared_prefix.pack(gemma, [row])
    with torch.no_grad():
        hidden = gemma.hidden(packed, gemma.see(ours, packed.grids))[packed.last]
        logits = gemma.model(**theirs).logits[0, -1]
    torch.testing.assert_close(gemma.model.lm_head(hidden)[0], logits, atol=1e-4, rtol=1e-4)


def test_pan_and_scan_in_an_evaluation_and_a_training(gemma, examples):
    study = SimpleNamespace(interpolation="bilinear", workers=0, evaluation=Decoding(max_new_tokens=4))
    rows = evaluate.predict(gemma, examples, PAN, study)
    native = evaluate.predict(gemma, examples, NATIVE, study)
    elongated = rows["height"].combine(rows["width"], min) >= 56
    elongated &= rows["height"].combine(rows["width"], max) / rows["height"].combine(rows["width"], min) >= 1.2
    assert elongated.any() and not elongated.all()
    assert (rows["crops"] == 2 * elongated).all() and (rows["visual_tokens"] == 16 * (1 + rows["crops"])).all()
    assert rows.loc[elongated, "prompt"].str.contains("some crops to help you see better").all()
    assert rows.loc[~elongated, "raw_text"].equals(native.loc[~elongated, "raw_text"])
    assert rows.loc[elongated, "crop_source"].eq("pan_and_scan").all() and rows["crop_top"].isna().all()
    inputs = ImageInputs(gemma, "bilinear")
    shown = [view for example in examples for view in batches.example_views(PAN, example, gemma.geometry)]
    (micro,) = batches.micro_batches(inputs, shown, 10**6)
    with torch.no_grad():
        apart = [train.loss_of(inputs, batches.micro_batches(inputs, [one], 10**6)[0].content) for one in shown]
        together = train.loss_of(inputs, micro.content)
    torch.testing.assert_close(together, sum(apart), rtol=1e-4, atol=1e-4)


def test_pan_and_scan_is_of_gemma_alone_and_must_crop_something():
    with pytest.raises(ResolutionError, match="Pan and scan is of Gemma 3"):
        plan(PAN, Size(100, 300), real.geometry("InternVL3"))
    with pytest.raises(ResolutionError, match="must change at least one image"):
        check_effect(PAN, [Size(300, 310), Size(100, 100)], GEMMA)
    check_effect(PAN, [Size(300, 310), Size(100, 300)], GEMMA)


def test_pan_and_scan_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["gemma3"], tmp_path / "other")
    file = folder / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["do_pan_and_scan"] = True
    file.write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="do_pan_and_scan must be False"):
        models.load(Model(id=str(folder), family="gemma3"))

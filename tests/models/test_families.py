"""Families give the processor's numbers and the author's prompt at the policy's sizes.

tests/models/test_tiled.py tests what only families of tiles do.
"""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Qwen2VLImageProcessor

from medstudy import models
from medstudy.data.example import Question
from medstudy.engine import shared_prefix, views
from medstudy.errors import ModelError
from medstudy.models import lora
from medstudy.models.prompts import SYSTEM, user_text
from medstudy.params import Lora, Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native
from medstudy.resolution.sizes import Geometry, Size, View
from tests.support.families import FAMILIES, own_inputs


@pytest.fixture(scope="module", params=[name for name in FAMILIES if name.startswith("qwen")])
def any_qwen(request, checkpoints):
    return models.load(Model(id=str(checkpoints[request.param]), family=request.param))


@pytest.fixture(scope="module", params=FAMILIES)
def any_family(request, checkpoints):
    return models.load(Model(id=str(checkpoints[request.param]), family=request.param))


@pytest.fixture(scope="module")
def noise(any_qwen):
    factor, rng = any_qwen.geometry.factor, np.random.default_rng(0)
    sizes = [(factor, factor), (3 * factor, 4 * factor), (5 * factor, 2 * factor)]
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def test_patches_are_the_pinned_processors_to_the_bit(any_qwen, noise):
    settings = any_qwen.processor.image_processor
    about = {name: getattr(settings, name) for name in ("patch_size", "image_mean", "image_std")}
    size = {"shortest_edge": 1, "longest_edge": 10**9}
    theirs = Qwen2VLImageProcessor(**about)(images=noise, size=size, return_tensors="pt")
    frames = theirs["pixel_values"].view(-1, 3, 2, settings.patch_size**2)
    ours = torch.cat([any_qwen.patches(torch.from_numpy(image)) for image in noise])
    assert torch.equal(frames[:, :, 0], frames[:, :, 1])
    assert torch.equal(ours, frames[:, :, 0].flatten(1))
    grids = torch.cat([any_qwen.grid(Size(*image.shape[:2])) for image in noise])
    assert torch.equal(grids, theirs["image_grid_thw"])


@pytest.mark.parametrize("size", [(28, 28), (61, 83), (250, 131), (33, 420)])
def test_an_image_of_any_size_becomes_the_pinned_processors_pixels(family, size):
    """With our resize, normalisation and order of patches."""
    pixels = np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8)
    limits = {"shortest_edge": 784, "longest_edge": 10**9}
    theirs = Qwen2VLImageProcessor()(images=[Image.fromarray(pixels)], size=limits, return_tensors="pt")
    shown = Size(*(14 * int(side) for side in theirs["image_grid_thw"][0, 1:]))
    view = views.cached(Image.fromarray(pixels), View("native", (shown,), shown, 1), "bicubic", None)
    frames = theirs["pixel_values"].view(-1, 3, 2, 196)
    assert torch.equal(family.patches(view), frames[:, :, 0].flatten(1))


def test_the_towers_features_are_those_of_the_untouched_model(any_qwen, noise):
    """Ours: one frame and a matrix product. Theirs: the processor's two frames and a convolution."""
    untouched = AutoModelForImageTextToText.from_pretrained(any_qwen.model.name_or_path).eval()
    for image in noise:
        size = {"shortest_edge": 1, "longest_edge": 10**9}
        inputs = any_qwen.processor.image_processor(images=[image], size=size, return_tensors="pt")
        grid = any_qwen.grid(Size(*image.shape[:2]))
        with torch.no_grad():
            theirs = untouched.model.visual(inputs["pixel_values"], grid_thw=inputs["image_grid_thw"])
            patches = any_qwen.patches(torch.from_numpy(image))
            seen = any_qwen.see(patches, grid)
            again = any_qwen.merge(any_qwen.features(patches, grid), grid)
        torch.testing.assert_close(seen.tokens, theirs.pooler_output, atol=2e-6, rtol=1e-5)
        torch.testing.assert_close(again.tokens, seen.tokens, atol=0, rtol=0)
        deep = getattr(theirs, "deepstack_features", None) or []
        assert len(seen.deep) == len(again.deep) == len(deep)
        for ours, stored, reference in zip(seen.deep, again.deep, deep, strict=True):
            torch.testing.assert_close(ours, reference, atol=2e-6, rtol=1e-5)
            torch.testing.assert_close(stored, ours, atol=0, rtol=0)


def test_a_size_that_is_not_a_multiple_is_refused(family):
    with pytest.raises(ModelError, match="multiples of 28"):
        family.patches(torch.zeros((84, 90, 3), dtype=torch.uint8))


def test_visual_tokens_that_do_not_fit_the_row_are_refused(family, examples):
    row = shared_prefix.row(family, examples[0].questions, View("x", (), Size(56, 84), 6), answered=True)
    seen = family.see(family.patches(torch.zeros((84, 84, 3), dtype=torch.uint8)), family.grid(Size(84, 84)))
    with pytest.raises(ModelError, match="Plan the row and its images"):
        family.hidden(shared_prefix.pack(family, [row]), seen)


def test_another_familys_checkpoint_is_refused(checkpoints):
    with pytest.raises(ModelError, match="model.family"):
        models.load(Model(id=str(checkpoints["qwen3_vl"]), family="qwen2_vl"))


@pytest.mark.parametrize("blind", [False, True])
def test_a_row_has_the_tokens_of_the_processor(any_family, examples, blind):
    example = examples[0]
    size = Size(example.image.height, example.image.width)
    view = View("blind", (), Size(0, 0), 0) if blind else plan(Native(max_pixels=10**6), size, any_family.geometry)[0]
    image = None if blind else views.render(example.image, view, "bicubic")
    row = shared_prefix.row(any_family, example.questions, view, answered=False)
    for branch, question in zip(row.branches, example.questions, strict=True):
        theirs = own_inputs(any_family, any_family.prompt(question, not blind), image)["input_ids"][0]
        assert row.prefix + branch == theirs.tolist()
    assert len(row.prefix) > view.visual_tokens + 5


def test_the_authors_system_prompt_reaches_every_template(any_family):
    for image in (True, False):
        text = any_family.prompt(Question("q", "Which stain?", "H&E", "open", "stain"), image)
        assert text.index(SYSTEM) < text.index("Which stain?")
        assert any_family.ids(text).count(any_family.image_token) == image


def test_every_parameter_belongs_to_one_part(any_family):
    parts = {any_family.part(name) for name, _ in any_family.model.named_parameters()}
    assert parts == {"tower", "merger", "language"}
    language = {name for name, _ in any_family.model.named_parameters() if any_family.part(name) == "language"}
    named = {name for name, _ in any_family.model.named_parameters() if any_family.language_name in name.split(".")}
    assert language - {"lm_head.weight"} == named


@pytest.mark.parametrize("name", FAMILIES)
def test_lora_adapts_the_language_model_alone(checkpoints, name):
    """The towers have matrices with the same names."""
    family = models.load(Model(id=str(checkpoints[name]), family=name))
    layers = family.model.config.text_config.num_hidden_layers
    lora.add(family, Lora(rank=2))
    trained = [name for name, parameter in family.model.named_parameters() if parameter.requires_grad]
    assert len(trained) == 2 * 7 * layers
    assert all("lora_" in name and family.language_name in name.split(".") for name in trained)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_geometry_is_patch_times_merge(checkpoints, name):
    factor = {"qwen2_vl": 28, "qwen2_5_vl": 28, "qwen3_vl": 32}[name]
    assert models.load(Model(id=str(checkpoints[name]), family=name)).geometry == Geometry(factor, factor**2)


def test_prompt_is_the_authors(family):
    question = Question("q", "Which stain is used?", "B", "choice", "stain", options=("H&E", "Pap"))
    assert user_text(question) == "Which stain is used?\nA. H&E\nB. Pap\nAnswer with a single letter, no extra details."
    assert family.prompt(question) == (
        "<|im_start|>system\nYou are a biomedical expert.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>" + user_text(question) + "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "vision" not in family.prompt(question, image=False)


def test_any_text_survives_the_tokenizer(family):
    text = "Größe 3×4 µm, naïve Überraschung – ok?"
    assert family.text(family.ids(text)) == text


@pytest.mark.parametrize("name", ["no/such/folder", "."])
def test_a_missing_checkpoint_is_a_clear_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.load(Model(id=name))


def test_the_revision_changes_with_the_weights(family, tiny_model, tmp_path):
    from medstudy.training.checkpoints import save

    before = family.revision
    parameter = next(family.model.parameters())
    with torch.no_grad():
        parameter[0] += 1
    save(family, tmp_path / "changed", {})
    with torch.no_grad():
        parameter[0] -= 1
    assert models.load(Model(id=str(tmp_path / "changed"))).revision != before

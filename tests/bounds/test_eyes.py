"""Pooled features: places, any number of tokens, one odd token; the filters of the pixels' reader; encoders."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    BitImageProcessor,
    Dinov2Config,
    Dinov2Model,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from medstudy import models
from medstudy.bounds import encoders, pixels, places, pooling
from medstudy.data.encoded_image import Picture
from medstudy.engine import views
from medstudy.errors import ModelError
from medstudy.models import shades
from medstudy.models.contrastive import tower_inputs
from medstudy.params import Model
from medstudy.resolution.policies import Fixed, Native
from medstudy.resolution.sizes import Size
from tests.support import contrastive

SMALL = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def test_a_vector_has_the_same_length_for_any_number_of_tokens():
    tokens = ((torch.rand(n, 5), torch.rand(n, 2)) for n in (1, 4, 900))
    lengths = {tuple(map(len, pooling.of_tokens(*each))) for each in tokens}
    assert lengths == {(10, 10, 60, 135)}
    assert {tuple(map(len, pooling.of_maps(torch.rand(5, n, n)))) for n in (1, 2, 40)} == lengths


def test_one_odd_token_of_many_is_seen_and_so_is_its_place():
    features, at = torch.zeros(900, 1), places.grid(30, 30).reshape(-1, 2)
    features[29 * 30] = 1.0  # bottom left
    moments, extremes, halves, thirds = pooling.of_tokens(features, at)
    assert moments[0] == pytest.approx(1 / 900) and extremes.tolist() == [1, 0]
    assert halves.view(4, 3)[:, 1].tolist() == [0, 0, 1, 0]
    assert thirds.view(9, 3)[:, 1].tolist() == [0, 0, 0, 0, 0, 0, 1, 0, 0]


def test_tokens_and_maps_are_pooled_alike():
    maps = torch.rand(5, 12, 18)
    tokens = pooling.of_tokens(maps.flatten(1).T, places.grid(12, 18).reshape(-1, 2))
    ours = pooling.of_maps(maps)
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(tokens[:2], ours[:2], strict=True))
    for by_cell, by_statistic, cells in zip(tokens[2:], ours[2:], (4, 9), strict=True):
        by_statistic = by_statistic.view(3, 5, cells).permute(2, 0, 1)
        assert torch.allclose(by_cell.view(cells, 3, 5), by_statistic, atol=1e-6)


def test_the_filters_know_spots_lines_edges_and_colours():
    image = torch.full((33, 33, 3), 100, dtype=torch.uint8)
    spot, line, edge, red = (image.clone() for _ in range(4))
    spot[16, 16] = 255
    line[16] = 255
    edge[:, 16:] = 255
    red[..., 0] = 255
    found = {name: dict(zip(pixels.MAPS, pixels.maps(pixels.opponent(part)), strict=True))
             for name, part in {"spot": spot, "line": line, "edge": edge, "red": red}.items()}
    at, nothing = (16, 16), pytest.approx(0, abs=1e-6)
    assert found["spot"]["spots (grey)"][at] < -0.1 and found["spot"]["larger curvature"][at] < -0.1
    assert found["line"]["smaller curvature"][at] < -0.1 and found["line"]["larger curvature"][at] == nothing
    assert found["edge"]["edges"].argmax() % 33 in (15, 16) and found["spot"]["edges"][at] == nothing
    assert found["red"]["red - green"].min() > 0.5 and found["spot"]["red - green"].abs().max() == nothing


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "llava_onevision", "internvl", "smolvlm"])
def test_the_places_are_in_the_order_of_the_towers_patches(name, checkpoints):
    """The brightness of each patch of two ramps, from left to right and from top to bottom, is its place."""
    family = models.load(Model(id=str(checkpoints[name]), family=name))
    factor = family.geometry.factor
    size = Size(3 * factor, 5 * factor)  # for Qwen2.5 more than a window
    at = places.of(family, size)
    assert len(at) == sum(family.feature_counts(family.grid(size)))
    for axis, ramp in enumerate((torch.linspace(0, 255, size.height)[:, None], torch.linspace(0, 255, size.width))):
        image = ramp.expand(size.height, size.width)[..., None].expand(-1, -1, 3).to(torch.uint8)
        values = family.patches(image.contiguous())
        side = getattr(family.geometry, "patches", None)
        if side:  # views of tiles: the mean of each patch
            patch = values.shape[-1] // side
            values = values.unfold(2, patch, patch).unfold(3, patch, patch).mean((1, 4, 5)).flatten(1)
            means = values.flatten()
        else:
            means = values.mean(1)
        if name == "qwen2_5_vl":
            from transformers.vision_utils import get_vision_window_index

            vision = family.model.config.vision_config
            order, _ = get_vision_window_index(
                family.grid(size), vision.spatial_merge_size, window_size=vision.window_size,
                patch_size=vision.patch_size,
            )
            means = means.view(len(order), -1)[order].flatten()
            assert order.tolist() != sorted(order.tolist())
        assert np.corrcoef(means.numpy(), at[:, axis].numpy())[0, 1] > 0.995


def _picture(height: int = 60, width: int = 90) -> Picture:
    noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    return Picture.of(Image.fromarray(noise), "noise")


def _save(kind: str, folder) -> Model:
    torch.manual_seed(0)
    if kind == "dinov2":
        model = Dinov2Model(Dinov2Config(**SMALL | {"mlp_ratio": 2}, patch_size=14, image_size=56))
        processor = BitImageProcessor(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.4])
    else:
        model = SiglipVisionModel(SiglipVisionConfig(**SMALL, patch_size=16, image_size=64))
        processor = SiglipImageProcessor()
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    return Model(id=str(folder), family="vision")


@pytest.mark.parametrize(("kind", "patch"), [("dinov2", 14), ("siglip", 16)])
def test_a_vision_encoder_of_transformers_is_read_at_any_size(kind, patch, tmp_path):
    eye = encoders.load(_save(kind, tmp_path / kind), "bicubic", tmp_path / "cache")
    picture = _picture()
    for policy in (Native(max_pixels=200704), Fixed(side=2 * patch)):
        view = policy.view(Size(60, 90), eye.geometry)
        tokens = eye(picture, view)
        assert view.size.height % patch == view.size.width % patch == 0
        assert tokens.features.shape == (view.visual_tokens, 16) and tokens.places.shape == (view.visual_tokens, 2)
        again = encoders.load(Model(id=str(tmp_path / kind), family="vision"), "bicubic", None)(picture, view)
        assert torch.equal(tokens.features, eye(picture, view).features)
        assert torch.allclose(tokens.features, again.features, atol=1e-6)


def test_a_vision_encoder_gets_the_numbers_of_its_own_processor(tmp_path):
    model = _save("dinov2", tmp_path)
    eye = encoders.load(model, "bicubic", None)
    array = np.random.default_rng(1).integers(0, 255, (28, 42, 3), dtype=np.uint8)
    processor = BitImageProcessor.from_pretrained(tmp_path, do_resize=False, do_center_crop=False)
    values = torch.as_tensor(processor(Image.fromarray(array), return_tensors="pt")["pixel_values"])
    with torch.no_grad():
        expected = Dinov2Model.from_pretrained(tmp_path)(pixel_values=values).last_hidden_state[0, 1:]
    tokens = eye(Picture.of(Image.fromarray(array), "noise"), Native(max_pixels=10**6).view(Size(28, 42), eye.geometry))
    assert torch.allclose(tokens.features, expected, atol=1e-5)


@pytest.mark.parametrize("name", contrastive.BUILD)
def test_the_tower_of_a_contrastive_encoder_is_read_at_any_size(name, tmp_path):
    eye = encoders.load(Model(id=str(contrastive.BUILD[name](tmp_path)), family="clip"), "bicubic", None)
    picture = Picture.of(Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)), "a")
    for policy, shape in ((Native(max_pixels=10**5), (8, 11)), (Fixed(side=32), (3, 4))):
        view = policy.view(Size(picture.height, picture.width), eye.geometry)
        assert view.size == tuple(contrastive.PATCH * side for side in shape)
        tokens = eye(picture, view)
        assert tokens.features.shape == (shape[0] * shape[1], 32)
        assert torch.equal(tokens.places, places.grid(*shape).reshape(-1, 2))
        values = shades.applied(views.render(picture, view, "bicubic"), eye.shades)[None]
        with torch.no_grad():
            own = eye.model(**tower_inputs(eye.model.config, values)).last_hidden_state[0]
        assert torch.allclose(tokens.features, own[-len(tokens.features) :], atol=1e-5)


def test_a_family_without_a_tower_of_its_own_and_a_folder_without_an_encoder_are_explained(tmp_path, checkpoints):
    with pytest.raises(ModelError, match="runs its tower inside the model"):
        encoders.load(Model(id=str(checkpoints["qwen2_vl"]), family="auto"), "bicubic", None)
    with pytest.raises(ModelError, match="A vision encoder is a hub id or a folder"):
        encoders.load(Model(id=str(tmp_path), family="vision"), "bicubic", None)


def test_cached_features_are_those_of_the_tower(tmp_path):
    view = Fixed(side=56).view(Size(60, 90), encoders.load(Model(), "bicubic", None).geometry)
    cached, plain = (encoders.load(Model(), "bicubic", cache)(_picture(), view) for cache in (tmp_path, None))
    assert torch.equal(cached.features, plain.features) and list(tmp_path.rglob("*.safetensors"))

"""Pooled features: places, any number of tokens, one odd token; the filters of the pixels' reader."""

import pytest
import torch

from medstudy import models
from medstudy.bounds import encoders, pixels, places, pooling
from medstudy.data.encoded_image import Picture
from medstudy.params import Model
from medstudy.resolution.policies import Fixed, Native
from medstudy.resolution.sizes import Size
from tests.support import families


def test_a_vector_has_the_same_length_for_any_number_of_tokens():
    lengths = {tuple(len(block) for block in pooling.of_tokens(torch.rand(n, 5), torch.rand(n, 2))) for n in (1, 4, 900)}
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
    maps = torch.rand(3, 12, 18)
    tokens = pooling.of_tokens(maps.flatten(1).T, places.grid(12, 18).reshape(-1, 2))
    assert all(torch.allclose(a, b.view(3, 3, -1).permute(2, 0, 1).flatten() if len(b) > 6 and False else b, atol=1e-6)
               for a, b in zip(tokens[:2], pooling.of_maps(maps)[:2], strict=True))
    for ours, theirs, cells in zip(tokens[2:], pooling.of_maps(maps)[2:], (4, 9), strict=True):
        assert torch.allclose(ours.view(cells, 3, 3), theirs.view(3, 3, cells).permute(2, 0, 1), atol=1e-6)


def test_the_filters_know_spots_lines_edges_and_colours():
    image = torch.full((33, 33, 3), 100, dtype=torch.uint8)
    spot, line, edge, red = (image.clone() for _ in range(4))
    spot[16, 16] = 255
    line[16] = 255
    edge[:, 16:] = 255
    red[..., 0] = 255
    found = {name: dict(zip(pixels.MAPS, pixels.maps(pixels.opponent(part)), strict=True))
             for name, part in {"spot": spot, "line": line, "edge": edge, "red": red}.items()}
    at = (16, 16)
    assert found["spot"]["spots (grey)"][at] < -0.1 and found["spot"]["larger curvature"][at] < -0.1
    assert found["line"]["smaller curvature"][at] < -0.1 and found["line"]["larger curvature"][at] == pytest.approx(0)
    assert found["edge"]["edges"].argmax() % 33 in (15, 16) and found["spot"]["edges"][at] == pytest.approx(0)
    assert found["red"]["red - green"].min() > 0.5 and found["spot"]["red - green"].abs().max() == pytest.approx(0)


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "llava_onevision", "idefics3"])
def test_each_feature_of_a_tower_knows_its_place(name, tmp_path):
    """The patches of an image whose brightness is its place, averaged: they must be in the order of the places."""
    family = models.load(Model(id=str(families.save(name, tmp_path)), family=name))
    factor = family.geometry.factor
    size = Size(2 * factor, 3 * factor)
    at = places.of(family, size)
    assert len(at) == sum(family.feature_counts(family.grid(size)))
    assert at.min() > 0 and at.max() < 1

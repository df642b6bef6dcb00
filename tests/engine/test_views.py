"""Pixels follow the plan and equal those of transformers' own processor."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessor
from transformers.image_utils import PILImageResampling, SizeDict

from medstudy.data import encoded_image
from medstudy.data.encoded_image import Picture
from medstudy.engine import views
from medstudy.engine.tensor_cache import TensorCache
from medstudy.resolution import resize
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import DownUp, Fixed, Native
from medstudy.resolution.sizes import Geometry, Size, View

QWEN = Geometry(28, 784)


def _image(height, width):
    """A one-pixel checkerboard: the finest possible detail."""
    board = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.repeat(board[..., None], 3, axis=2))


def _render(policy, height, width, filter_="bicubic"):
    (shown,) = plan(policy, Size(height, width), QWEN)
    return views.render(_image(height, width), shown, filter_).numpy(), shown


@pytest.mark.parametrize("policy", [Native(max_pixels=10**6), Fixed(side=56), Fixed(side=112, mode="pad"),
                                    Fixed(side=84, mode="square")], ids=lambda p: p.label)
def test_the_array_has_the_planned_size(policy):
    array, shown = _render(policy, 200, 140)
    assert array.shape == (*shown.size, 3) and array.dtype == np.uint8


def test_native_multiples_are_untouched():
    array, _ = _render(Native(max_pixels=10**6), 112, 140)
    assert np.array_equal(array, np.asarray(_image(112, 140)))


def test_downsampling_averages_instead_of_aliasing():
    array, _ = _render(Fixed(side=56), 224, 224)
    assert abs(float(array.mean()) - 127.5) < 2 and array.std() < 10


def test_down_up_has_native_size_and_lost_detail():
    native, _ = _render(Native(max_pixels=10**6), 224, 224)
    blurred, _ = _render(DownUp(side=56, native=Native(max_pixels=10**6)), 224, 224)
    assert blurred.shape == native.shape
    assert blurred.std() < 0.1 * native.std()


def test_padding_is_black_and_centred():
    array, _ = _render(Fixed(side=112, mode="pad"), 224, 112)
    assert array[:, :28].max() == 0 == array[:, -28:].max()
    assert array[:, 28:-28].mean() > 100


def test_filters_differ():
    cubic, _ = _render(Fixed(side=84), 200, 200)
    linear, _ = _render(Fixed(side=84), 200, 200, "bilinear")
    assert not np.array_equal(cubic, linear)


def _noise(height, width):
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("filter_", resize.FILTERS)
@pytest.mark.parametrize("size", [(61, 83), (250, 131), (30, 400), (300, 300)])
@pytest.mark.parametrize("budget", [56 * 56, 140 * 140, 10**6])
def test_the_pixels_are_the_default_processors(size, budget, filter_):
    pixels = _noise(*size)
    theirs = Qwen2VLImageProcessor().resize(
        torch.from_numpy(pixels).permute(2, 0, 1), SizeDict(shortest_edge=784, longest_edge=budget),
        PILImageResampling[filter_.upper()], 28,
    )
    shown = Size(*theirs.shape[1:])
    ours = views.render(Image.fromarray(pixels), View("native", (shown,), shown, 1), filter_)
    assert torch.equal(ours, theirs.permute(1, 2, 0)) and ours.is_contiguous()


def test_a_picture_is_rendered_as_its_pixels():
    image = Image.fromarray(_noise(61, 83))
    (shown,) = plan(Fixed(side=56), Size(61, 83), QWEN)
    assert torch.equal(
        views.render(Picture.of(image, "noise"), shown, "bicubic"), views.render(image, shown, "bicubic")
    )


def test_a_view_is_decoded_and_resized_once(tmp_path, monkeypatch):
    picture, shelf = Picture.of(Image.fromarray(_noise(61, 83)), "noise"), TensorCache(tmp_path)
    (shown,) = plan(Fixed(side=56), Size(61, 83), QWEN)
    expected = views.render(picture, shown, "bicubic")
    assert torch.equal(views.cached(picture, shown, "bicubic", shelf), expected)
    monkeypatch.setattr(encoded_image.Picture, "pixels", None)
    again = views.cached(Picture(picture.data, "the same under another name"), shown, "bicubic", shelf)
    assert torch.equal(again, expected) and again.dtype == torch.uint8


def test_without_a_cache_a_view_is_rendered():
    image = Image.fromarray(_noise(61, 83))
    (shown,) = plan(Fixed(side=56), Size(61, 83), QWEN)
    assert torch.equal(views.cached(image, shown, "bicubic", None), views.render(image, shown, "bicubic"))


def test_views_that_differ_have_keys_that_differ():
    size = Size(224, 112)
    picture, other = (Picture.of(Image.fromarray(_noise(*size) // scale), "noise") for scale in (1, 2))
    policies = [Fixed(side=56), Fixed(side=84), Fixed(side=112, mode="pad"), Fixed(side=112, mode="square"),
                Native(max_pixels=10**6), DownUp(side=56, native=Native(max_pixels=10**6))]
    shown = [plan(policy, size, QWEN)[0] for policy in policies]
    keys = [views.key(picture, view, "bicubic") for view in shown]
    keys += [views.key(picture, shown[0], "bilinear"), views.key(other, shown[0], "bicubic")]
    assert len(set(keys)) == len(keys)
    assert views.key(picture, shown[0], "bicubic") == keys[0]


@pytest.fixture
def fresh_versions():
    """The versions of decoders and resizer are looked up once per process."""
    views._versions.cache_clear()
    yield views._versions.cache_clear
    views._versions.cache_clear()


@pytest.mark.parametrize("library", ["pillow", "simplejpeg", "tifffile", "pydicom", "torch", "torchvision", None])
def test_another_decoder_or_resizer_makes_another_view(library, monkeypatch, fresh_versions):
    """None stands for this package's own code that decodes and resizes."""
    picture = Picture.of(Image.fromarray(_noise(56, 56)), "noise")
    (shown,) = plan(Fixed(side=56), Size(56, 56), QWEN)
    before = views.key(picture, shown, "bicubic")
    if library is None:
        monkeypatch.setattr(views.code_hash, "code", lambda *patterns: "changed")
    else:
        version = views.metadata.version
        monkeypatch.setattr(views.metadata, "version", lambda name: "0" if name == library else version(name))
    fresh_versions()
    assert views.key(picture, shown, "bicubic") != before

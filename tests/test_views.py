"""Pixels follow the plan."""

import numpy as np
import pytest
from PIL import Image

from medstudy import views
from medstudy.resolution import DownUp, Fixed, Geometry, Native, Size, plan

QWEN = Geometry(28, 784)


def _image(height, width):
    """One-pixel checkerboard: the finest detail there is."""
    board = (np.indices((height, width)).sum(0) % 2 * 255).astype(np.uint8)
    return Image.fromarray(np.repeat(board[..., None], 3, axis=2))


def _render(policy, height, width, filter_="bicubic"):
    (shown,) = plan(policy, Size(height, width), QWEN)
    return views.render(_image(height, width), shown, filter_), shown


@pytest.mark.parametrize("policy", [Native(max_pixels=10**6), Fixed(side=56), Fixed(side=112, mode="pad"),
                                    Fixed(side=84, mode="square")], ids=lambda p: p.label)  # fmt: skip
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

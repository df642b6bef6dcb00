"""The drawing primitives that compute only a part give the same bits as the whole."""

import numpy as np
import pytest

from medstudy.datasets.phantom import drawing


def field(shape=(61, 84)):
    return np.random.default_rng(5).random(shape, dtype=np.float32)


@pytest.mark.parametrize("sigma", [0.6, 2.0, 9.3, 40.0])
def test_a_blur_at_points_is_the_blur_there(sigma):
    points = np.random.default_rng(1).integers(0, (61, 84), (40, 2)).T
    for y, x in (points, np.array([[0, 60], [83, 0]]), points // 3):
        assert (drawing.blur_at(field(), sigma, y, x) == drawing.blur(field(), sigma)[y, x]).all()


@pytest.mark.parametrize("sigma", [0.6, 3.1, 25.0])
def test_a_blur_of_few_points_is_the_blur_of_the_field_with_them(sigma):
    y, x = np.array([20.3, 44.0, 21.9]), np.array([30.5, 3.2, 80.7])
    whole = drawing.blur(drawing.splat((61, 84), y, x), sigma)
    assert (drawing.blurred_points((61, 84), y, x, sigma) == whole).all()


@pytest.mark.parametrize("shape", [(60, 84), (61, 83), (75, 75), (7, 9)])
def test_a_mirrored_gain_filters_like_the_whole_one(shape):
    def gain(fy, fx):
        return (fy * fy + fx * fx + 0.01) ** np.float32(-0.7)

    half, whole = (drawing._filtered(np.random.default_rng(2), shape, gain, even) for even in (True, False))
    assert half.dtype == np.float32 and (half == whole).all()
    assert half.mean() == pytest.approx(0, abs=1e-5) and half.std() == pytest.approx(1, abs=1e-5)


def test_powers_of_an_angle_are_its_multiples():
    angle = np.linspace(-3, 3, 11)
    powers = {1: np.exp(1j * angle).astype(np.complex64)}
    for number in (5, 2, 4, 3, 7):
        assert np.allclose(drawing._power(powers, number), np.exp(1j * number * angle), atol=1e-5)

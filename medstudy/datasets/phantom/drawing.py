"""Drawing primitives of all families: seeded streams, noise fields, antialiased stamps. float32, sizes in pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from numpy.random import Generator, SeedSequence
from scipy import fft, ndimage
from scipy.spatial import cKDTree

Array = np.ndarray
T = TypeVar("T")
QUADRANTS = ("upper left", "upper right", "lower left", "lower right")  # of an image
PSF = 0.6  # sigma, in pixels, of every imaging system here: no edge is sharper


def streams(*entropy: int) -> tuple[Generator, Generator]:
    """Two independent generators: one for what an image shows (the plan), one for how it is drawn."""
    plan, render = SeedSequence(entropy).spawn(2)
    return np.random.default_rng(plan), np.random.default_rng(render)


def aside(rng: Generator) -> Generator:
    """A separate generator for one feature, so that the rest of the image is the same with and without it."""
    return rng.spawn(1)[0]


def log_uniform(rng: Generator, low: float, high: float) -> float:
    """A size in pixels, log-uniform, rounded to 0.01."""
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 2)


def choose(rng: Generator, items: Sequence[T]) -> T:
    """One of the items, all equally likely."""
    return items[int(rng.integers(len(items)))]


def sides(rng: Generator, low: int, high: int, aspect: tuple[float, float]) -> tuple[int, int]:
    """(height, width) within [low, high], with width / height drawn log-uniformly from `aspect`."""
    root = np.exp(0.5 * rng.uniform(np.log(aspect[0]), np.log(aspect[1])))
    side = rng.uniform(low * max(root, 1 / root), high / max(root, 1 / root))
    return int(np.clip(round(side / root), low, high)), int(np.clip(round(side * root), low, high))


def _filtered(rng: Generator, shape: tuple[int, int], gain: Callable[[Array, Array], Array],
              even: bool = True) -> Array:
    """White noise through the transfer function gain(fy, fx), in cycles per pixel; zero mean, unit deviation.

    even: gain(-fy, fx) is gain(fy, fx), so that half of it is computed and mirrored.
    """
    height, width = (fft.next_fast_len(n, real=True) for n in shape)
    spectrum = fft.rfft2(rng.standard_normal((height, width), dtype=np.float32))
    fy = fft.fftfreq(height).astype(np.float32)[:, None]
    fx = fft.rfftfreq(width).astype(np.float32)[None, :]
    half = height // 2 + 1 if even else height  # fy: 0 up to the highest, then from minus the highest to below 0
    factors = gain(np.abs(fy[:half]) if even else fy, fx)
    spectrum[:half] *= factors
    spectrum[half:] *= factors[1 : height - half + 1][::-1]
    spectrum[0, 0] = 0
    field = fft.irfft2(spectrum, s=(height, width), overwrite_x=True)[: shape[0], : shape[1]]
    field = field - field.mean()
    return np.divide(field, np.sqrt(np.mean(field * field)), out=field)


def power_noise(rng: Generator, shape: tuple[int, int], beta: float, corner: float = 0.004) -> Array:
    """Anatomical noise: power spectrum 1 / f^beta above `corner` (beta is about 3 in breast and lung)."""
    return _filtered(rng, shape, lambda fy, fx: (fy * fy + fx * fx + corner**2) ** np.float32(-beta / 4))


def grain_noise(rng: Generator, shape: tuple[int, int], size: float) -> Array:
    """Isotropic grains of one diameter: a band of half an octave around 1 / (2 size) cycles per pixel."""

    def gain(fy: Array, fx: Array) -> Array:
        f = np.sqrt(fy * fy + fx * fx)
        return np.exp(-(((f * 2 * size - 1) / 0.3) ** 2))

    return _filtered(rng, shape, gain)


def smooth_noise(rng: Generator, shape: tuple[int, int], size: float) -> Array:
    """Gaussian-filtered white noise: blobs of about `size` and larger. It is made small, then enlarged."""
    factor = max(1, int(size / 5))
    small = tuple(n // factor + 2 for n in shape)
    spread = (size / factor * 1.5) ** 2
    return enlarge(_filtered(rng, small, lambda fy, fx: np.exp(-(fy * fy + fx * fx) * spread)), shape, factor)


def enlarge(field: Array, shape: tuple[int, int], factor: int) -> Array:
    """Bilinear enlargement by a whole factor, cut to `shape`: two products with small matrices."""
    rows, columns = (_weights(n, m, factor) for n, m in zip(shape, field.shape, strict=True))
    return rows @ field.astype(np.float32) @ columns.T


def _weights(n: int, m: int, factor: int) -> Array:
    """Linear interpolation from m samples, `factor` apart, to n pixels: a matrix [n, m]."""
    at = np.arange(n) / factor
    return np.maximum(0, 1 - np.abs(at[:, None] - np.arange(m))).astype(np.float32)


def fibre_noise(rng: Generator, shape: tuple[int, int], width: float, length: float, angle: float) -> Array:
    """Streaks `width` thick and about `length` long, along `angle` (radians from the x axis)."""
    c, s = np.float32(np.cos(angle)), np.float32(np.sin(angle))

    def gain(fy: Array, fx: Array) -> Array:
        along, across = c * fx + s * fy, c * fy - s * fx
        return np.exp(-((along * length) ** 2) - (across * 1.5 * width) ** 2)

    return _filtered(rng, shape, gain, even=False)


def warp(field: Array, dy: Array, dx: Array) -> Array:
    """The field with every pixel fetched from (y + dy, x + dx); mirrored at the border."""
    y, x = np.ogrid[: field.shape[0], : field.shape[1]]
    return ndimage.map_coordinates(field, [y + dy, x + dx], order=1, mode="mirror")


def blur(field: Array, sigma: float) -> Array:
    """Gaussian blur."""
    return ndimage.gaussian_filter(field, sigma, mode="nearest", truncate=3.0)


def blur_at(field: Array, sigma: float, y: Array, x: Array) -> Array:
    """`blur` at the pixels (y, x) alone, the same to the last bit: only what reaches them is computed."""
    reach = int(3.0 * sigma + 0.5)  # as gaussian_filter rounds it
    (top, bottom), (left, right) = ((max(0, at.min() - reach), at.max() + reach + 1) for at in (y, x))
    down = ndimage.gaussian_filter1d(field[top:bottom, left:right], sigma, axis=0, mode="nearest", truncate=3.0)
    rows, row = np.unique(y - top, return_inverse=True)
    return ndimage.gaussian_filter1d(down[rows], sigma, axis=1, mode="nearest", truncate=3.0)[row, x - left]


def blurred_points(shape: tuple[int, int], y: Array, x: Array, sigma: float) -> Array:
    """`blur` of a few single points, the same to the last bit: only around them is it not 0."""
    points, field = splat(shape, y, x), np.zeros(shape, np.float32)
    reach = int(3.0 * sigma + 0.5) + 2
    (top, bottom), (left, right) = (
        (max(0, int(at.min()) - reach), int(at.max()) + reach + 2) for at in (np.asarray(y), np.asarray(x))
    )
    field[top:bottom, left:right] = blur(points[top:bottom, left:right], sigma)
    return field


def cover(distance: Array, edge: float = 1.2) -> Array:
    """Coverage in [0, 1] of a shape from the signed distance to its outline (negative inside): antialiasing."""
    return np.clip(0.5 - distance / edge, 0, 1)


def step(value: Array, edge: float) -> Array:
    """A smooth step from 0 (value << 0) to 1 (value >> 0) over about 2 edges."""
    t = np.clip(0.5 + value / (2 * edge), 0, 1)
    return t * t * (3 - 2 * t)


def _power(powers: dict[int, Array], exponent: int) -> Array:
    """Complex powers[1] to an integer power by squaring: cos(k theta) without an arctangent. Powers made are kept."""
    if exponent not in powers:
        lower = _power(powers, exponent - 1 if exponent % 2 else exponent // 2)
        powers[exponent] = lower * (powers[1] if exponent % 2 else lower)
    return powers[exponent]


class Stamps:
    """n square patches of pixels around n subpixel centres, so that small objects cost only their own area.

    dy, dx: [n, p, 1] and [n, 1, p], offsets of the patch's pixels from its centre.
    """

    def __init__(self, y: Array, x: Array, reach: float):
        half = int(np.ceil(reach)) + 1
        self.top, self.left = np.floor(y).astype(int) - half, np.floor(x).astype(int) - half
        steps = np.arange(2 * half + 2)
        self.dy = (self.top[:, None] + steps - np.asarray(y)[:, None]).astype(np.float32)[:, :, None]
        self.dx = (self.left[:, None] + steps - np.asarray(x)[:, None]).astype(np.float32)[:, None, :]

    def ellipse(self, a: Array, b: Array, angle: Array, waves: tuple = ()) -> Array:
        """Signed distance [n, p, p] to ellipses of semi-axes a, b; waves of (number, amplitude px, phase)."""
        a, b, angle = (np.asarray(v, np.float32).reshape(-1, 1, 1) for v in (a, b, angle))
        c, s = np.cos(angle), np.sin(angle)
        u, v = (c * self.dx + s * self.dy) / a, (c * self.dy - s * self.dx) / b
        mean = np.sqrt(a * b)
        far = np.hypot(u, v)
        distance = (far - 1) * mean
        if waves:
            turn, scale = np.empty(far.shape, np.complex64), 1 / np.maximum(far, np.float32(1e-6))
            np.multiply(u, scale, out=turn.real)
            np.multiply(v, scale, out=turn.imag)
            powers = {1: turn}
            for number, amplitude, phase in waves:
                swing = (np.asarray(amplitude) * np.exp(1j * np.asarray(phase))).astype(np.complex64)
                distance -= (swing.reshape(-1, 1, 1) * _power(powers, number)).real
        return distance

    def paste(self, canvas: Array, patches: Array, how: np.ufunc = np.add) -> Array:
        """Combine the patches into the canvas in place (np.add, np.maximum, ...), cut at its border."""
        height, width = canvas.shape
        size = patches.shape[1]
        for patch, top, left in zip(patches, self.top, self.left, strict=True):
            y0, x0, y1, x1 = max(top, 0), max(left, 0), min(top + size, height), min(left + size, width)
            if y0 < y1 and x0 < x1:
                target = canvas[y0:y1, x0:x1]
                how(target, patch[y0 - top : y1 - top, x0 - left : x1 - left], out=target)
        return canvas


def lumpy(rng: Generator, n: int, radius: Array | float, strength: float, waves: tuple = (2, 3, 4, 5)) -> tuple:
    """Waves for Stamps.ellipse: an organic outline of relative irregularity `strength`."""
    return tuple((k, strength * radius * rng.normal(0, 1, n) / k, rng.uniform(0, 2 * np.pi, n)) for k in waves)


def spots(canvas: Array, y: Array, x: Array, diameter: Array | float, weight: Array | float = 1.0,
          haze: float = 0.0) -> Array:
    """Add round spots with soft edges to the canvas, `diameter` wide at half height.

    A haze above 0 spreads the same sum over a Gaussian whose sigma is `haze` radii: nothing sharp remains.
    """
    diameter, weight = (np.broadcast_to(np.asarray(v, np.float32), np.shape(y)).reshape(-1, 1, 1)
                        for v in (diameter, weight))
    largest = float(diameter.max())
    stamps = Stamps(y, x, max(0.75, 1.5 * haze) * largest)
    far = np.hypot(stamps.dy, stamps.dx)
    patches = cover(far - diameter / 2, np.maximum(1.2, 0.45 * diameter))
    if haze:
        spread = np.exp(-0.5 * (far / (haze * diameter / 2)) ** 2)
        patches = spread * (patches.sum((1, 2), keepdims=True) / spread.sum((1, 2), keepdims=True))
    return stamps.paste(canvas, weight * patches)


def splat(shape: tuple[int, int], y: Array, x: Array, weight: Array | float = 1.0) -> Array:
    """Deposit points bilinearly: the sharp skeleton of lines, which are then blurred to their width."""
    y, x = np.ravel(y), np.ravel(x)
    weight = np.broadcast_to(weight, y.shape)
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    keep = (y0 >= 0) & (x0 >= 0) & (y0 < shape[0] - 1) & (x0 < shape[1] - 1)
    y, x, y0, x0, weight = y[keep], x[keep], y0[keep], x0[keep], weight[keep]
    fy, fx, at = y - y0, x - x0, y0 * shape[1] + x0
    sums = np.zeros(shape[0] * shape[1])
    corners = ((0, (1 - fy) * (1 - fx)), (1, (1 - fy) * fx), (shape[1], fy * (1 - fx)), (shape[1] + 1, fy * fx))
    for offset, w in corners:
        sums += np.bincount(at + offset, w * weight, minlength=sums.size)
    return sums.reshape(shape).astype(np.float32)


def strands(rng: Generator, y: Array, x: Array, angle: Array, steps: int, bend: float,
            stride: float = 1.0) -> tuple[Array, Array]:
    """Random walks of slowly turning direction from n starts: (y, x), each [n, steps], with a point each `stride`."""
    turn = rng.normal(0, bend, (len(y), steps)).cumsum(1) * stride
    heading = np.asarray(angle)[:, None] + turn
    return (
        np.asarray(y)[:, None] + stride * np.sin(heading).cumsum(1),
        np.asarray(x)[:, None] + stride * np.cos(heading).cumsum(1),
    )


def lines(shape: tuple[int, int], y: Array, x: Array, width: float, weight: Array | float = 1.0) -> Array:
    """Curves (points about a pixel apart) drawn with a Gaussian profile of full width `width`, height about 1."""
    sigma = max(width / 2.355, PSF)
    return blur(splat(shape, y, x, weight), sigma) * np.float32(sigma * np.sqrt(2 * np.pi))


def scatter(rng: Generator, shape: tuple[int, int], spacing: float, margin: float = 0, jitter: float = 0.22) -> Array:
    """Points [n, 2] (y, x) about `spacing` apart, in random order: a jittered hexagonal lattice, at random offset."""
    rows, columns = int((shape[0] + 2 * margin) / (spacing * 0.87)) + 3, int((shape[1] + 2 * margin) / spacing) + 3
    row, column = np.mgrid[:rows, :columns]
    y = (row - rng.random()) * 0.87
    x = column + 0.5 * (row % 2) - 0.5 - rng.random()
    points = np.stack([y, x], -1).reshape(-1, 2) + rng.uniform(-jitter, jitter, (rows * columns, 2))
    points = points * spacing - margin
    return rng.permutation(points[((points > -margin) & (points < np.array(shape) + margin)).all(1)])


def place(rng: Generator, room: Array, sigma: float, quadrant: str, margin: float) -> tuple[float, float]:
    """A random point of the quadrant, at least `margin` from the midlines.

    Of 200 such points it is the one where `room`, blurred by `sigma`, is largest.
    """
    height, width = room.shape
    row, column = quadrant.split()
    y = np.maximum(rng.uniform(0.12, 0.5, 200) * height - margin, 0.6 * margin)
    x = np.maximum(rng.uniform(0.06, 0.5, 200) * width - margin, 0.6 * margin)
    y = y if row == "upper" else height - 1 - y
    x = x if column == "left" else width - 1 - x
    best = np.argmax(np.round(blur_at(room, sigma, y.astype(int), x.astype(int)), 1))
    return float(y[best]), float(x[best])


def borders(centres: Array, shape: tuple[int, int], width: float) -> Array:
    """Cell membranes: ridges where the two nearest centres are equally far; made at half size, then enlarged."""
    rows, columns = (n // 2 + 2 for n in shape)
    points = np.stack(np.mgrid[:rows, :columns], -1).reshape(-1, 2) * 2.0
    near = cKDTree(centres).query(points, k=2)[0].astype(np.float32)
    ridge = np.exp(-(((near[:, 1] - near[:, 0]) / (2 * width)) ** 2)).reshape(rows, columns)
    return enlarge(ridge, shape, 2)


def to_rgb(field: Array, rng: Generator, noise: float) -> Array:
    """Add white sensor noise, the same in all channels, and quantise [h, w] or [h, w, 3] to uint8 [h, w, 3]."""
    if noise:
        grain = np.float32(noise) * rng.standard_normal(field.shape[:2], dtype=np.float32)
        field = field + (grain if field.ndim == 2 else grain[..., None])
    field = np.rint(field)
    field = np.clip(field, 0, 255, out=field).astype(np.uint8)
    return field if field.ndim == 3 else np.repeat(field[:, :, None], 3, axis=2)

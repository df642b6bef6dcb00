"""Size arithmetic: native (height, width) and `max_pixels` -> the (height, width) shown: `fit_budget`. Integers only.

It is Qwen2-VL's `smart_resize` in one of two roundings. exact: by integer square roots, so that an image gets all that
its budget allows, and no more. processor: in floating point, as the function itself computes; it shows an image of 239²
pixels at 196² in a budget of 224², and a long strip above its budget. Qwen2-VL, 2.5 and 3 (whose factor is 32) use the
same function. Other families have no such rule for a budget of pixels, so for them both roundings are exact.
https://github.com/huggingface/transformers/blob/main/src/transformers/models/qwen2_vl/image_processing_qwen2_vl.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, isqrt, sqrt
from typing import ClassVar, Literal, NamedTuple

from medstudy.errors import ResolutionError

MAX_ASPECT = 200
Rounding = Literal["exact", "processor"]
Rule = Literal["norm", "similarity", "even"]  # by which visual tokens are kept: see `medstudy.resolution.compress`


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


class Box(NamedTuple):
    """A rectangle of an image in native pixels, from its upper left corner."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        return Size(self.height, self.width)


class Known(NamedTuple):
    """What is known of an image besides its size: the box that decides the question, and the size of a pixel."""

    box: Box | None = None
    um_per_px: float | None = None  # µm


UNKNOWN = Known()


class TokenGrid(NamedTuple):
    """The visual tokens of an image: grids, one after the other, of rows and columns."""

    grids: int
    rows: int
    columns: int

    @property
    def tokens(self) -> int:
        return self.grids * self.rows * self.columns


@dataclass(frozen=True)
class Reduction:
    """How the visual tokens of an image become fewer: see `medstudy.resolution.compress`. grid: the tokens before."""

    grid: TokenGrid
    pool: int = 1
    share: float = 1.0
    rule: Rule = "norm"

    @property
    def pooled(self) -> TokenGrid:
        """The tokens after pooling."""
        return TokenGrid(self.grid.grids, -(-self.grid.rows // self.pool), -(-self.grid.columns // self.pool))

    @property
    def left(self) -> int:
        """The tokens after pooling, or after pruning to the share."""
        return self.pooled.tokens if self.share == 1 else max(1, floor(self.share * self.grid.tokens + 0.5))


@dataclass(frozen=True)
class View:
    """One view of an image: resize to each of `steps` in turn, then centre on a canvas of `size`.

    label: the label of the single policy ("fixed-84" also within a mixed regime). visual_tokens: 0 when no image is
    shown. context: the views, under the same policy, of the images that precede this one in the prompt. reduction: of
    the visual tokens, which are then those that are left; None: all are kept. crop: the part of the image that is
    shown; None: all of it. crops: further views of the image, of a part each, which follow it in the prompt. source:
    where a policy that crops has the crop from, "none" if it had none to show.
    """

    label: str
    steps: tuple[Size, ...]
    size: Size
    visual_tokens: int
    context: tuple[View, ...] = ()
    reduction: Reduction | None = None
    crop: Box | None = None
    crops: tuple[View, ...] = ()
    source: str = ""

    @cached_property
    def views(self) -> tuple[View, ...]:
        """The views of all images of the prompt, in order; none if the policy shows no image."""
        return tuple(part for view in (*self.context, self) if view.visual_tokens for part in (view, *view.crops))

    @cached_property
    def crop_counts(self) -> tuple[int, ...]:
        """For each image of the prompt, how many views of parts of it follow; () if there are none."""
        counts = tuple(len(view.crops) for view in (*self.context, self))
        return counts if any(counts) else ()

    def native(self, image: Size) -> Size:
        """The native size of what is shown of an image."""
        return self.crop.size if self.crop else image

    @cached_property
    def all_tokens(self) -> int:
        """Visual tokens of all images of the prompt."""
        return sum(view.visual_tokens for view in self.views)

    @property
    def detail(self) -> Size:
        """The detail that is left of the image: the smallest height and width of the steps.

        Equals `size` if no step lost detail; in a padded view it is the size of the image on its canvas.
        """
        return Size(*map(min, zip(*self.steps, strict=True))) if self.steps else self.size


@dataclass(frozen=True)
class Geometry:
    """The sizes that a model family can show: sides are multiples of `factor`, with at least `min_pixels` in total.

    unit: the family's word for factor² pixels in error messages. most_units: the longest side in units; None: no limit.
    enlarges: whether an image smaller than one unit is enlarged to it. floats: whether the family's processor fits an
    image to a budget of pixels by `smart_resize`. keeps_places: whether a visual token's position is its place in the
    image, so that tokens can be left out without moving the others.
    """

    factor: int
    min_pixels: int
    unit: ClassVar[str] = "visual token"
    most_units: ClassVar[int | None] = None
    enlarges: ClassVar[bool] = False
    floats: ClassVar[bool] = True
    keeps_places: ClassVar[bool] = True

    @property
    def sizes(self) -> str:
        """The sizes in words, for error messages."""
        unit = f"{self.factor}x{self.factor}"
        if self.most_units == 1:
            return f"{unit} pixels and nothing else"
        most = "" if self.most_units is None else f", at most {self.most_units} a side"
        return f"whole {self.unit}s of {unit} pixels, at least one{most}"

    def tokens(self, size: Size) -> int:
        """Visual tokens of an image shown at `size`; here one for each factor² pixels."""
        return (size.height // self.factor) * (size.width // self.factor)

    def token_grid(self, size: Size) -> TokenGrid | None:
        """The visual tokens of an image shown at `size` as grids; None if they are none."""
        return TokenGrid(1, size.height // self.factor, size.width // self.factor)


def fit_budget(size: Size, max_pixels: int, geometry: Geometry, rounding: Rounding = "exact") -> Size:
    """The nearest multiples of the factor with at most `max_pixels`, aspect kept; enlarged by rounding only.

    rounding: processor lets a strip exceed the budget, as `smart_resize` does. A family that enlarges shows at least
    one unit, whatever the budget. Raises ResolutionError for an empty image, an aspect ratio above 200, or a budget
    below one visual token.
    """
    factor, min_pixels = geometry.factor, geometry.min_pixels
    _check(size, max_pixels, geometry)
    if rounding == "processor" and geometry.floats:
        return _smart_resize(size, max_pixels, geometry)
    max_pixels = max(max_pixels, factor**2)
    if geometry.most_units is not None:
        most = geometry.most_units * factor
        size = inside(size, Size(most, most))
    height, width = (max(factor, _round(side, factor)) for side in size)
    if height * width > max_pixels:
        height, width = _floor_to(size, max_pixels, factor)
    elif height * width < min_pixels:
        height, width = _ceil_to(size, min_pixels, factor)
    return Size(height, width)


def steps(size: Size, max_pixels: int, geometry: Geometry, rounding: Rounding = "exact") -> tuple[Size, ...]:
    """The sizes that an image is resized to in turn, so that it is shown with the detail of at most `max_pixels`.

    Usually `fit_budget` alone. If the budget is below what the family can show, the image is first reduced to it.
    """
    fitted = fit_budget(size, max_pixels, geometry, rounding)
    if max_pixels < geometry.factor**2 and size.pixels > max_pixels:
        return Size(*_floor_to(size, max_pixels, 1)), fitted
    return (fitted,)


def scale(original: Size, shown: Size) -> float:
    """Linear scale at which an image is shown: 1 is native, 0.25 is a quarter of each side, 0 is no image."""
    return sqrt(shown.pixels / original.pixels)


def square(side: int, geometry: Geometry) -> tuple[Size, Size]:
    """The square of the policy in whole units, and the one shown; they differ only below one unit."""
    units = min(side // geometry.factor, geometry.most_units or side)
    if not units and not geometry.enlarges:
        raise ResolutionError(
            f"A side must hold one {geometry.unit} ({geometry.factor} px), got {side}: this model family cannot show "
            f"less. Raise the side."
        )
    shown = max(1, units) * geometry.factor
    target = shown if units else side
    return Size(target, target), Size(shown, shown)


def inside(size: Size, canvas: Size) -> Size:
    """The largest size with the aspect of `size` that fits in a square canvas; never enlarged."""
    longest = max(size)
    if longest <= canvas.height:
        return size
    return Size(*(max(1, (2 * side * canvas.height + longest) // (2 * longest)) for side in size))


def _check(size: Size, max_pixels: int, geometry: Geometry) -> None:
    if min(size) < 1:
        raise ResolutionError(f"An image needs at least 1x1 pixels, got {size.height}x{size.width}. Remove this row.")
    if max(size) > MAX_ASPECT * min(size):
        raise ResolutionError(
            f"The aspect ratio must be at most {MAX_ASPECT}, got {size.height}x{size.width}. Crop or tile the image."
        )
    if max_pixels < geometry.factor**2 and not geometry.enlarges:
        raise ResolutionError(
            f"A pixel budget must hold one {geometry.unit} ({geometry.factor}² = {geometry.factor**2} pixels), "
            f"got {max_pixels}: this model family cannot show less. Raise the budget."
        )


def _smart_resize(size: Size, max_pixels: int, geometry: Geometry) -> Size:
    """transformers' own function, with its floating-point operations in the same order, because the last bit decides.

    A side under half a visual token rounds to 0, and the branch of `min_pixels` then enlarges the image, as there. From
    transformers 5.23, Apache-2.0; the module's docstring has the URL.
    """
    (height, width), factor = size, geometry.factor
    high, wide = (round(side / factor) * factor for side in size)
    if high * wide > max_pixels:
        beta = sqrt((height * width) / max_pixels)
        high, wide = (max(factor, floor(side / beta / factor) * factor) for side in size)
    elif high * wide < geometry.min_pixels:
        beta = sqrt(geometry.min_pixels / (height * width))
        high, wide = (ceil(side * beta / factor) * factor for side in size)
    return Size(high, wide)


def _round(side: int, factor: int) -> int:
    """Nearest multiple of the factor, halves to even, as Python's round does."""
    whole, rest = divmod(side, factor)
    return (whole + (2 * rest > factor or (2 * rest == factor and whole % 2 == 1))) * factor


def _floor_to(size: Size, pixels: int, factor: int) -> tuple[int, int]:
    """floor(side / sqrt(h w / pixels) / factor) * factor for both sides, without floating point.

    A side too short for one token gets one, and the other side then takes what the budget leaves. smart_resize does not
    do that: it lets an image of extreme aspect ratio exceed the budget.
    """
    height, width = size
    tall = isqrt(height * pixels // (width * factor**2))
    wide = isqrt(width * pixels // (height * factor**2))
    most = pixels // factor**2
    return (min(max(1, tall), most) * factor, min(max(1, wide), most) * factor)


def _ceil_to(size: Size, pixels: int, factor: int) -> tuple[int, int]:
    """ceil(side * sqrt(pixels / (h w)) / factor) * factor for both sides, without floating point."""
    height, width = size

    def ceil_root(numerator: int, denominator: int) -> int:
        return isqrt(max(0, -(-numerator // denominator) - 1)) + 1

    return (
        ceil_root(height * pixels, width * factor**2) * factor,
        ceil_root(width * pixels, height * factor**2) * factor,
    )

"""Resolution policies: (height, width) -> what is shown. Pure integers, no pixels, no model.

A policy says what happens to an image before the model's processor sees it. `plan` turns a policy and a native
size into one or more `Shown`, whose sizes are multiples of the family's `factor` (28 for Qwen2-VL: patch 14,
merge 2), so that the processor has nothing left to resize. Labels are what records and figures carry.

A family of tiles, or of one fixed size, cannot show less than one. A budget below that is kept by the detail: the image
is brought down to the budget, aspect kept to the pixel, and then enlarged to the least that the family shows.

The size arithmetic is Qwen2-VL's `smart_resize`, written with integer square roots:
https://github.com/huggingface/transformers/blob/main/src/transformers/models/qwen2_vl/image_processing_qwen2_vl.py
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import isqrt, sqrt
from typing import Annotated, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from medstudy.errors import ResolutionError

MAX_ASPECT = 200


class Size(NamedTuple):
    """Height and width in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        return self.height * self.width


@dataclass(frozen=True)
class Geometry:
    """What a model family's sizes are made of: sides are multiples of `factor`, and `min_pixels` the fewest shown.

    unit: what factor² pixels are to the family, as errors say it. most_units: the longest side that it can show, in
    units; None has no end. enlarges: whether an image of less than one unit's pixels is shown enlarged to it.
    """

    factor: int
    min_pixels: int
    unit: ClassVar[str] = "visual token"
    most_units: ClassVar[int | None] = None
    enlarges: ClassVar[bool] = False

    @property
    def sizes(self) -> str:
        """What can be shown, in words."""
        one = f"{self.factor}x{self.factor}"
        if self.most_units == 1:
            return f"{one} pixels and nothing else"
        most = "" if self.most_units is None else f", at most {self.most_units} a side"
        return f"whole {self.unit}s of {one} pixels, at least one{most}"

    def tokens(self, size: Size) -> int:
        """Tokens that the language model sees for an image shown at `size`; here one for each factor² pixels."""
        return (size.height // self.factor) * (size.width // self.factor)


@dataclass(frozen=True)
class Shown:
    """One view of an image: resize to each of `steps` in turn, then centre on a canvas of `size`.

    label: the single policy that made it ("fixed-84" also inside a mixed regime). visual_tokens: size in tokens,
    0 when no image is shown. context: the views, by the same policy, of the images that the prompt shows before it.
    """

    label: str
    steps: tuple[Size, ...]
    size: Size
    visual_tokens: int
    context: tuple[Shown, ...] = ()

    @cached_property
    def views(self) -> tuple[Shown, ...]:
        """All images of the prompt, in order; none where the policy shows none."""
        return tuple(view for view in (*self.context, self) if view.visual_tokens)

    @cached_property
    def all_tokens(self) -> int:
        """Visual tokens of all images of the prompt."""
        return sum(view.visual_tokens for view in self.views)

    @property
    def detail(self) -> Size:
        """The smallest height and width of the steps: what of the image's detail is left.

        Equals `size` where nothing was lost on the way; in a padded view it is that of the image on its canvas.
        """
        return Size(*map(min, zip(*self.steps, strict=True))) if self.steps else self.size


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @property
    def label(self) -> str:
        return self.policy


class Native(_Policy):
    """No upscaling, and no downscaling up to a stated cap in pixels."""

    policy: Literal["native"] = "native"
    max_pixels: PositiveInt

    @property
    def budget(self) -> int:
        return self.max_pixels

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        return _shown(self.label, steps(size, self.max_pixels, geometry), geometry)


class Fixed(_Policy):
    """At most side² pixels. budget: aspect kept. square: stretched. pad: aspect kept, centred on a square canvas."""

    policy: Literal["fixed"] = "fixed"
    side: PositiveInt
    mode: Literal["budget", "square", "pad"] = "budget"

    @property
    def label(self) -> str:
        return f"{'fixed' if self.mode == 'budget' else self.mode}-{self.side}"

    @property
    def budget(self) -> int:
        return self.side**2

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        if self.mode == "budget":
            return _shown(self.label, steps(size, self.budget, geometry), geometry)
        asked, canvas = _square(self.side, geometry)
        if self.mode == "square":
            lost = asked != canvas and max(size) > asked.height
            return _shown(self.label, (asked, canvas) if lost else (canvas,), geometry)
        inner = _inside(size, asked)
        scaled = inner if asked == canvas else Size(*(max(1, side * canvas.height // asked.height) for side in inner))
        return _shown(self.label, tuple(dict.fromkeys((inner, scaled))), geometry, canvas)


Single = Annotated[Native | Fixed, Field(discriminator="policy")]


class Mixed(_Policy):
    """One of `choices` drawn for every sample and epoch, with `weights`."""

    policy: Literal["mixed"] = "mixed"
    choices: tuple[Single, ...] = Field(min_length=2)
    weights: tuple[Annotated[float, Field(gt=0)], ...] = ()

    @model_validator(mode="after")
    def _one_weight_a_choice(self) -> Mixed:
        if self.weights and len(self.weights) != len(self.choices):
            raise ValueError(f"mixed needs one weight a choice: {len(self.choices)} choices, got {len(self.weights)}")
        return self

    @property
    def budget(self) -> int:
        return max(choice.budget for choice in self.choices)


class Add(_Policy):
    """Every sample at native resolution, and each of `variants` of it as well."""

    policy: Literal["add"] = "add"
    native: Native
    variants: tuple[Fixed, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        return "-".join(["add", *(str(variant.side) for variant in self.variants)])

    @property
    def budget(self) -> int:
        return self.native.budget


class Curriculum(_Policy):
    """From low to high: training is cut into equal parts, one a stage."""

    policy: Literal["curriculum"] = "curriculum"
    stages: tuple[Single, ...] = Field(min_length=2)

    @property
    def budget(self) -> int:
        return max(stage.budget for stage in self.stages)


class DownUp(_Policy):
    """Control: brought down to at most side² pixels and back to the native policy's size, so to its token count."""

    policy: Literal["down_up"] = "down_up"
    side: PositiveInt
    native: Native

    @property
    def label(self) -> str:
        return f"down_up-{self.side}"

    @property
    def budget(self) -> int:
        return self.native.budget

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        low = steps(size, self.side**2, geometry)[0]
        high = fit_budget(size, self.native.max_pixels, geometry)
        return _shown(self.label, (low, high), geometry)


class Blind(_Policy):
    """Control: no image, the question alone."""

    policy: Literal["blind"] = "blind"

    @property
    def budget(self) -> int:
        return 0

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        return Shown(self.label, (), Size(0, 0), 0)


class Shuffled(_Policy):
    """Control: the image of another item, shown at native resolution."""

    policy: Literal["shuffled"] = "shuffled"
    native: Native

    @property
    def budget(self) -> int:
        return self.native.budget

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        return _shown(self.label, steps(size, self.native.max_pixels, geometry), geometry)


Training = Annotated[Native | Fixed | Mixed | Add | Curriculum, Field(discriminator="policy")]
Control = Annotated[DownUp | Blind | Shuffled, Field(discriminator="policy")]


def plan(policy: Training | Control, size: Size, geometry: Geometry, draw: float = 0.0, progress: float = 0.0):
    """The views of one image under a policy: a tuple of `Shown`, one for every policy but `add`.

    draw: uniform in [0, 1), used by `mixed` (see `uniform`); progress: share of training done, used by `curriculum`.
    """
    policy = current(policy, draw, progress)
    if isinstance(policy, Add):
        return tuple(single.shown(size, geometry) for single in (policy.native, *policy.variants))
    return (policy.shown(size, geometry),)


def current(policy: Training | Control, draw: float = 0.0, progress: float = 0.0) -> Single | Add | Control:
    """The policy that holds for one sample: of `mixed` the one drawn, of `curriculum` that of its stage."""
    if isinstance(policy, Mixed):
        return _drawn(policy, draw)
    if isinstance(policy, Curriculum):
        return policy.stages[min(int(progress * len(policy.stages)), len(policy.stages) - 1)]
    return policy


def trained_on(policy: Training) -> frozenset[str]:
    """Labels of the single policies that a regime trains on; inference at any other is a mismatch."""
    if isinstance(policy, Mixed):
        return frozenset(choice.label for choice in policy.choices)
    if isinstance(policy, Curriculum):
        return frozenset(stage.label for stage in policy.stages)
    if isinstance(policy, Add):
        return frozenset(single.label for single in (policy.native, *policy.variants))
    return frozenset([policy.label])


def fit_budget(size: Size, max_pixels: int, geometry: Geometry) -> Size:
    """The nearest multiples of the factor with at most `max_pixels`, aspect kept; never more than rounding enlarges.

    A family that enlarges shows one unit at least, whatever the budget. Raises ResolutionError for an empty image, an
    aspect ratio above 200, or a budget below one visual token.
    """
    factor, min_pixels = geometry.factor, geometry.min_pixels
    _check(size, max_pixels, geometry)
    max_pixels = max(max_pixels, factor**2)
    if geometry.most_units is not None:
        size = _inside(size, Size(*(2 * (geometry.most_units * factor,))))
    height, width = (max(factor, _round(side, factor)) for side in size)
    if height * width > max_pixels:
        height, width = _floor_to(size, max_pixels, factor)
    elif height * width < min_pixels:
        height, width = _ceil_to(size, min_pixels, factor)
    return Size(height, width)


def steps(size: Size, max_pixels: int, geometry: Geometry) -> tuple[Size, ...]:
    """What an image is resized to, one after the other, to be shown with the detail of at most `max_pixels`.

    That is `fit_budget`, and before it the budget itself where the family cannot show as little and the image has more.
    """
    fitted = fit_budget(size, max_pixels, geometry)
    if max_pixels < geometry.factor**2 and size.pixels > max_pixels:
        return Size(*_floor_to(size, max_pixels, 1)), fitted
    return (fitted,)


def visual_tokens(size: Size, geometry: Geometry) -> int:
    """Tokens that the language model sees for an image shown at `size`."""
    return geometry.tokens(size)


def scale(original: Size, shown: Size) -> float:
    """Linear scale at which an image is shown: 1 is native, 0.25 a quarter a side, 0 no image."""
    return sqrt(shown.pixels / original.pixels)


def check_effect(policy: Training | Control, sizes: list[Size], geometry: Geometry) -> None:
    """Raise ResolutionError when a fixed policy would change no image at all: it is native under another name."""
    if not isinstance(policy, Fixed) or not sizes:
        return
    native = Native(max_pixels=max(size.pixels for size in sizes) + geometry.factor**2 * 64)
    views = ((policy.shown(size, geometry), native.shown(size, geometry)) for size in sizes)
    if all((ours.size, ours.steps) == (theirs.size, theirs.steps) for ours, theirs in views):
        largest = max(sizes, key=lambda size: size.pixels)
        raise ResolutionError(
            f"Policy {policy.label} must change at least one image, but all {len(sizes)} images are shown as `native` "
            f"shows them in {policy.budget} pixels (the largest is {largest.height}x{largest.width}; this model family "
            f"shows {geometry.sizes}). Use a smaller side, or drop it."
        )


def _shown(label: str, steps: tuple[Size, ...], geometry: Geometry, canvas: Size | None = None) -> Shown:
    size = canvas or steps[-1]
    return Shown(label, steps, size, visual_tokens(size, geometry))


def _drawn(policy: Mixed, draw: float) -> Single:
    weights = policy.weights or (1.0,) * len(policy.choices)
    edge = draw * sum(weights)
    for choice, weight in zip(policy.choices, weights, strict=True):
        edge -= weight
        if edge < 0:
            return choice
    return policy.choices[-1]


def _square(side: int, geometry: Geometry) -> tuple[Size, Size]:
    """The square that is asked for in whole units, and the one that is shown: not the same below one unit."""
    units = min(side // geometry.factor, geometry.most_units or side)
    if not units and not geometry.enlarges:
        raise ResolutionError(
            f"A side must hold one {geometry.unit} ({geometry.factor} px), got {side}: this model family cannot show "
            f"less. Raise the side."
        )
    shown = max(1, units) * geometry.factor
    asked = shown if units else side
    return Size(asked, asked), Size(shown, shown)


def _inside(size: Size, canvas: Size) -> Size:
    """The largest size with the aspect of `size` inside a square canvas; never enlarged."""
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


def _round(side: int, factor: int) -> int:
    """Nearest multiple of the factor, halves to even, as Python's round does."""
    whole, rest = divmod(side, factor)
    return (whole + (2 * rest > factor or (2 * rest == factor and whole % 2 == 1))) * factor


def _floor_to(size: Size, pixels: int, factor: int) -> tuple[int, int]:
    """floor(side / sqrt(h w / pixels) / factor) * factor for both sides, without floating point.

    A side too short for one token is given one; the other then takes what the budget leaves, which smart_resize
    does not do: it lets an extreme aspect ratio exceed its budget.
    """
    height, width = size
    tall = isqrt(height * pixels // (width * factor**2))
    wide = isqrt(width * pixels // (height * factor**2))
    most = pixels // factor**2
    return (min(max(1, tall), most) * factor, min(max(1, wide), most) * factor)


def _ceil_to(size: Size, pixels: int, factor: int) -> tuple[int, int]:
    height, width = size

    def ceil_root(numerator: int, denominator: int) -> int:
        return isqrt(max(0, -(-numerator // denominator) - 1)) + 1

    return (
        ceil_root(height * pixels, width * factor**2) * factor,
        ceil_root(width * pixels, height * factor**2) * factor,
    )

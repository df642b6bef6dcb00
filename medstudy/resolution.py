"""Resolution policies: (height, width) -> the views of an image. Pure arithmetic, no pixels, no model.

A policy says what happens to an image before the model's processor. `plan` turns a policy and a native size into one or
more views (`Shown`). Their sizes are multiples of the family's `factor` (28 for Qwen2-VL: patch 14, merge 2), so that
the processor has nothing left to resize. Records and figures name a policy by its label.

A family with tiles, or with one fixed size, cannot show less than one tile. A budget below that limits the detail
instead: the image is reduced to the budget, aspect kept to the pixel, and then enlarged to the smallest size shown.

`medstudy.sizes` has the arithmetic of sizes, and explains the two roundings of a budget.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from medstudy.errors import ResolutionError
from medstudy.sizes import (  # noqa: F401 (other modules import some of them from here)
    MAX_ASPECT,
    Geometry,
    Rounding,
    Size,
    fit_budget,
    inside,
    scale,
    square,
    steps,
    visual_tokens,
)

Whole = Annotated[int, Field(gt=0, strict=True)]


@dataclass(frozen=True)
class Shown:
    """One view of an image: resize to each of `steps` in turn, then centre on a canvas of `size`.

    label: the label of the single policy ("fixed-84" also within a mixed regime). visual_tokens: 0 when no image is
    shown. context: the views, under the same policy, of the images that precede this one in the prompt.
    """

    label: str
    steps: tuple[Size, ...]
    size: Size
    visual_tokens: int
    context: tuple[Shown, ...] = ()

    @cached_property
    def views(self) -> tuple[Shown, ...]:
        """The views of all images of the prompt, in order; none if the policy shows no image."""
        return tuple(view for view in (*self.context, self) if view.visual_tokens)

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


class _Policy(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def label(self) -> str:
        return self.policy


class Native(_Policy):
    """No upscaling, and no downscaling up to a stated cap in pixels. rounding: see `medstudy.sizes`."""

    policy: Literal["native"] = "native"
    max_pixels: Whole
    rounding: Rounding = "exact"

    @property
    def budget(self) -> int:
        return self.max_pixels

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        return _shown(self.label, steps(size, self.max_pixels, geometry, self.rounding), geometry)


class Fixed(_Policy):
    """At most side² pixels. budget: aspect kept. square: stretched. pad: aspect kept, centred on a square canvas.

    rounding: of a budget; see `medstudy.sizes`.
    """

    policy: Literal["fixed"] = "fixed"
    side: Whole
    mode: Literal["budget", "square", "pad"] = "budget"
    rounding: Rounding = "exact"

    @model_validator(mode="after")
    def _rounds_a_budget(self) -> Fixed:
        if self.rounding == "processor" and self.mode != "budget":
            raise ValueError(f"rounding: processor is of mode: budget, and mode: {self.mode} has none: leave it out")
        return self

    @property
    def label(self) -> str:
        return f"{'fixed' if self.mode == 'budget' else self.mode}-{self.side}"

    @property
    def budget(self) -> int:
        return self.side**2

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        if self.mode == "budget":
            return _shown(self.label, steps(size, self.budget, geometry, self.rounding), geometry)
        target, canvas = square(self.side, geometry)  # they differ if the family must enlarge the target
        if self.mode == "square":
            lost = target != canvas and max(size) > target.height
            return _shown(self.label, (target, canvas) if lost else (canvas,), geometry)
        inner = inside(size, target)
        scaled = inner if target == canvas else Size(*(max(1, side * canvas.height // target.height) for side in inner))
        return _shown(self.label, tuple(dict.fromkeys((inner, scaled))), geometry, canvas)


Single = Annotated[Native | Fixed, Field(discriminator="policy")]


class Mixed(_Policy):
    """One of `choices` drawn for every sample and epoch, with `weights`."""

    policy: Literal["mixed"] = "mixed"
    choices: tuple[Single, ...] = Field(min_length=2)
    weights: tuple[Annotated[float, Field(gt=0, strict=True)], ...] = ()

    @model_validator(mode="after")
    def _one_weight_a_choice(self) -> Mixed:
        if self.weights and len(self.weights) != len(self.choices):
            raise ValueError(f"mixed needs one weight a choice: {len(self.choices)} choices, got {len(self.weights)}")
        return self

    @property
    def budget(self) -> int:
        return max(choice.budget for choice in self.choices)


class Add(_Policy):
    """Every sample at native resolution, and again under each of `variants`."""

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
    """From low to high resolution: training is divided into equal parts, one a stage."""

    policy: Literal["curriculum"] = "curriculum"
    stages: tuple[Single, ...] = Field(min_length=2)

    @property
    def budget(self) -> int:
        return max(stage.budget for stage in self.stages)


class DownUp(_Policy):
    """Control: downsampled to at most side² pixels and back to the native size, so that only detail is lost.

    The number of visual tokens is that of `native`, and so is the rounding of both sizes.
    """

    policy: Literal["down_up"] = "down_up"
    side: Whole
    native: Native

    @property
    def label(self) -> str:
        return f"down_up-{self.side}"

    @property
    def budget(self) -> int:
        return self.native.budget

    def shown(self, size: Size, geometry: Geometry) -> Shown:
        low = steps(size, self.side**2, geometry, self.native.rounding)[0]
        high = fit_budget(size, self.native.max_pixels, geometry, self.native.rounding)
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
        return _shown(self.label, steps(size, self.native.max_pixels, geometry, self.native.rounding), geometry)


Training = Annotated[Native | Fixed | Mixed | Add | Curriculum, Field(discriminator="policy")]
Control = Annotated[DownUp | Blind | Shuffled, Field(discriminator="policy")]


def plan(
    policy: Training | Control, size: Size, geometry: Geometry, draw: float = 0.0, progress: float = 0.0
) -> tuple[Shown, ...]:
    """The views of one image under a policy: several under `add`, one under every other policy.

    draw: uniform in [0, 1), used by `mixed`; progress: fraction of the training done, used by `curriculum`.
    """
    policy = current(policy, draw, progress)
    if isinstance(policy, Add):
        return tuple(single.shown(size, geometry) for single in (policy.native, *policy.variants))
    return (policy.shown(size, geometry),)


def current(policy: Training | Control, draw: float = 0.0, progress: float = 0.0) -> Single | Add | Control:
    """The policy of one sample: the one drawn from `mixed`, that of the current stage of `curriculum`, else itself."""
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


def roundings(policy: Training | Control) -> frozenset[Rounding]:
    """How the budgets of a policy are rounded; empty for a policy without a budget."""
    if isinstance(policy, Mixed):
        return frozenset().union(*map(roundings, policy.choices))
    if isinstance(policy, Curriculum):
        return frozenset().union(*map(roundings, policy.stages))
    if isinstance(policy, Add):
        return frozenset().union(*map(roundings, (policy.native, *policy.variants)))
    if isinstance(policy, (DownUp, Shuffled)):
        return roundings(policy.native)
    budgets = isinstance(policy, Native) or (isinstance(policy, Fixed) and policy.mode == "budget")
    return frozenset([policy.rounding]) if budgets else frozenset()


def check_effect(policy: Training | Control, sizes: list[Size], geometry: Geometry) -> None:
    """Raise ResolutionError if a fixed policy would change no image at all: it would be native under another name."""
    if not isinstance(policy, Fixed) or not sizes:
        return
    most = max(size.pixels for size in sizes) + geometry.factor**2 * 64  # a cap that changes no image
    native = Native(max_pixels=most, rounding=policy.rounding)
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

"""Resolution policies: (height, width) -> the views of an image. Pure arithmetic, no pixels, no model.

A policy says what happens to an image before the model's processor. `plan` turns a policy and a native size into one or
more views (`View`). Their sizes are multiples of the family's `factor` (28 for Qwen2-VL: patch 14, merge 2), so that
the processor has nothing left to resize. Records and figures name a policy by its label.

A family with tiles, or with one fixed size, cannot show less than one tile. A budget below that limits the detail
instead: the image is reduced to the budget, aspect kept to the pixel, and then enlarged to the smallest size shown.

`medstudy.resolution.sizes` has the arithmetic of sizes, and explains the two roundings of a budget.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from pydantic import Field, model_validator

from medstudy.resolution.base import Policy, Whole, view_of
from medstudy.resolution.compress import Compress
from medstudy.resolution.pan_and_scan import PanAndScan
from medstudy.resolution.sizes import (
    UNKNOWN,
    Geometry,
    Known,
    Rounding,
    Size,
    View,
    fit_budget,
    inside,
    square,
    steps,
)
from medstudy.resolution.spacing import Spacing
from medstudy.resolution.zoom import Zoom


class Native(Policy):
    """No upscaling, and no downscaling up to a stated cap in pixels. rounding: see `medstudy.resolution.sizes`."""

    policy: Literal["native"] = "native"
    max_pixels: Whole
    rounding: Rounding = "exact"

    @property
    def budget(self) -> int:
        return self.max_pixels

    @property
    def rounds(self) -> bool:
        return True

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        return view_of(self.label, steps(size, self.max_pixels, geometry, self.rounding), geometry)


class Fixed(Policy):
    """At most side² pixels. budget: aspect kept. square: stretched. pad: aspect kept, centred on a square canvas.

    rounding: of a budget; see `medstudy.resolution.sizes`.
    """

    policy: Literal["fixed"] = "fixed"
    side: Whole
    mode: Literal["budget", "square", "pad"] = "budget"
    rounding: Rounding = "exact"

    @model_validator(mode="after")
    def _rounds_a_budget(self) -> Fixed:
        if self.rounding == "processor" and self.mode != "budget":
            raise ValueError(f"`rounding: processor` needs `mode: budget`, got `mode: {self.mode}`: remove it")
        return self

    @property
    def label(self) -> str:
        return f"{'fixed' if self.mode == 'budget' else self.mode}-{self.side}"

    @property
    def budget(self) -> int:
        return self.side**2

    @property
    def rounds(self) -> bool:
        return self.mode == "budget"

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        if self.mode == "budget":
            return view_of(self.label, steps(size, self.budget, geometry, self.rounding), geometry)
        target, canvas = square(self.side, geometry)  # they differ if the family must enlarge the target
        if self.mode == "square":
            lost = target != canvas and max(size) > target.height
            return view_of(self.label, (target, canvas) if lost else (canvas,), geometry)
        inner = inside(size, target)
        scaled = inner if target == canvas else Size(*(max(1, side * canvas.height // target.height) for side in inner))
        return view_of(self.label, tuple(dict.fromkeys((inner, scaled))), geometry, canvas)


Single = Annotated[Native | Fixed | Compress | Zoom | PanAndScan | Spacing, Field(discriminator="policy")]


class Mixed(Policy):
    """One of `choices` drawn for every sample and epoch, with `weights`."""

    policy: Literal["mixed"] = "mixed"
    choices: tuple[Single, ...] = Field(min_length=2)
    weights: tuple[Annotated[float, Field(gt=0, strict=True)], ...] = ()

    @model_validator(mode="after")
    def _one_weight_a_choice(self) -> Mixed:
        if self.weights and len(self.weights) != len(self.choices):
            raise ValueError(f"mixed needs one weight per choice: {len(self.choices)} choices, got {len(self.weights)}")
        return self

    @property
    def singles(self) -> tuple[Single, ...]:
        return self.choices


class Add(Policy):
    """Every sample at native resolution, and again under each of `variants`."""

    policy: Literal["add"] = "add"
    native: Native
    variants: tuple[Fixed, ...] = Field(min_length=1)

    @property
    def label(self) -> str:
        return "-".join(["add", *(str(variant.side) for variant in self.variants)])

    @property
    def singles(self) -> tuple[Single, ...]:
        return (self.native, *self.variants)


class Curriculum(Policy):
    """From low to high resolution: training is divided into equal parts, one per stage."""

    policy: Literal["curriculum"] = "curriculum"
    stages: tuple[Single, ...] = Field(min_length=2)

    @property
    def singles(self) -> tuple[Single, ...]:
        return self.stages


class EqualFlops(Policy):
    """`low` for as many steps as take the FLOPs of a training at `native`; the images are repeated more often.

    The number of steps: `medstudy.engine.batches.train_and_val`.
    """

    policy: Literal["equal_flops"] = "equal_flops"
    low: Fixed
    native: Native

    @property
    def label(self) -> str:
        kind = "equal_flops" if self.low.mode == "budget" else f"equal_flops_{self.low.mode}"
        return f"{kind}-{self.low.side}"

    @property
    def singles(self) -> tuple[Single, ...]:
        """What is shown: `native` only sets the FLOPs."""
        return (self.low,)


class DownUp(Policy):
    """Downsampled to at most side² pixels and back to the native size, so that only detail is lost.

    The number of visual tokens is that of `native`, and so is the rounding of both sizes. As a control it is shown to
    models that were trained otherwise; as a training policy it gives models that never saw finer detail.
    """

    policy: Literal["down_up"] = "down_up"
    side: Whole
    native: Native

    @property
    def label(self) -> str:
        return f"down_up-{self.side}"

    @property
    def singles(self) -> tuple[Single, ...]:
        return (self.native,)

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        low = steps(size, self.side**2, geometry, self.native.rounding)[0]
        high = fit_budget(size, self.native.max_pixels, geometry, self.native.rounding)
        return view_of(self.label, (low, high), geometry)


class Blind(Policy):
    """Control: no image, the question alone."""

    policy: Literal["blind"] = "blind"

    @property
    def singles(self) -> tuple[Single, ...]:
        return ()

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        return View(self.label, (), Size(0, 0), 0)


class Shuffled(Policy):
    """Control: the image of another item, shown at native resolution."""

    policy: Literal["shuffled"] = "shuffled"
    native: Native

    @property
    def singles(self) -> tuple[Single, ...]:
        return (self.native,)

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        return replace(self.native.view(size, geometry), label=self.label)


Training = Annotated[
    Native | Fixed | Compress | Zoom | PanAndScan | Spacing | Mixed | Add | Curriculum | DownUp | EqualFlops,
    Field(discriminator="policy"),
]
Control = Annotated[DownUp | Blind | Shuffled, Field(discriminator="policy")]


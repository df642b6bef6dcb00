"""What all resolution policies have in common: a label, single policies, a budget, and the view of one size."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from medstudy.resolution.sizes import Geometry, Size, View

Whole = Annotated[int, Field(gt=0, strict=True)]
PLACED = ("qwen2_vl", "qwen2_5_vl", "qwen3_vl")  # families whose positions are rows and columns of the image
GRIDS = (*PLACED, "internvl", "idefics3", "smolvlm", "gemma3")  # families whose visual tokens are plain grids
LOOKING = (*PLACED, "gemma3")  # families whose attention to the one grid of an image can be read
SEVERAL = (*GRIDS, "llava_onevision")  # families whose prompt may have several images


class Policy(BaseModel):
    """A policy: frozen, strict, named by its label."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @property
    def label(self) -> str:
        return self.policy

    @property
    def singles(self) -> tuple[Policy, ...]:
        """The single policies that this one combines or refers to; a single policy itself."""
        return (self,)

    @property
    def budget(self) -> int:
        """The most pixels of a view; 0 without an image."""
        return max((single.budget for single in self.singles), default=0)

    @property
    def families(self) -> tuple[str, ...] | None:
        """The model families that can show it; None: all."""
        return None

    @property
    def trains(self) -> bool:
        """Whether it can be trained with; others need an answer or a pass of the model first."""
        return True

    @property
    def reads(self) -> tuple[str, ...]:
        """The entries of `Known` on which a view depends."""
        return ()

    @property
    def rounds(self) -> bool:
        """Whether the policy itself rounds a budget of pixels, by its `rounding`."""
        return False


def view_of(label: str, steps: tuple[Size, ...], geometry: Geometry, canvas: Size | None = None) -> View:
    """The view that passes through `steps`, centred on a canvas if one is given."""
    size = canvas or steps[-1]
    return View(label, steps, size, geometry.tokens(size))

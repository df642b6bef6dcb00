"""`compress`: all pixels, fewer visual tokens. The tower's tokens are pooled, or pruned to a share, after its mergers.

pool: the mean of each block of pool × pool neighbouring tokens of an image or tile; a block at the right or lower edge
holds what is left there. share: this share of an image's tokens, to the nearest whole token and at least one. Which:
- norm: those with the largest Euclidean norm;
- similarity: those whose cosine similarity with the mean of the image's tokens is smallest;
- even: at even distances in reading order, whatever they hold. It is the control of the other two.
Kept tokens stay in reading order, and of equal ones the first is kept.

Positions: pooled tokens have those of an image with as many tokens; pruned ones keep their own, and the text goes on as
after the whole image. `medstudy.engine.compression` computes both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Literal

from annotated_types import Gt, Le
from pydantic import Strict, model_validator

from medstudy.errors import ResolutionError
from medstudy.resolution.base import GRIDS, PLACED, Policy, Whole, view_of
from medstudy.resolution.sizes import UNKNOWN, Geometry, Known, Reduction, Rounding, Rule, Size, View, steps


class Compress(Policy):
    """An image as `native` shows it, with its visual tokens pooled or pruned; give either `pool` or `share`.

    by: the rule of a share. rounding: see `medstudy.resolution.sizes`.
    """

    policy: Literal["compress"] = "compress"
    max_pixels: Whole
    pool: Whole | None = None
    share: Annotated[float, Gt(0), Le(1), Strict()] | None = None
    by: Rule = "norm"
    rounding: Rounding = "exact"

    @model_validator(mode="after")
    def _one_way(self) -> Compress:
        if (self.pool is None) == (self.share is None):
            raise ValueError(f"compress needs either `pool` or `share`, got pool {self.pool} and share {self.share}")
        if self.pool is not None and self.by != "norm":
            raise ValueError(f"`by` is the rule of a `share`, but `pool` averages all tokens, got `by: {self.by}`")
        return self

    @property
    def label(self) -> str:
        if self.pool is not None:
            return f"pool-{self.pool}x{self.pool}"
        rule = "" if self.by == "norm" else f"_{self.by}"
        return f"prune{rule}-{100 * self.share:g}pct"

    @property
    def budget(self) -> int:
        return self.max_pixels

    @property
    def families(self) -> tuple[str, ...]:
        return GRIDS if self.share is None else PLACED

    @property
    def rounds(self) -> bool:
        return True

    def view(self, size: Size, geometry: Geometry, known: Known = UNKNOWN) -> View:
        """See `Policy`. Raises ResolutionError for a family whose visual tokens are not plain grids."""
        whole = view_of(self.label, steps(size, self.max_pixels, geometry, self.rounding), geometry)
        grid = geometry.token_grid(whole.size)
        if grid is None or (self.share is not None and not geometry.keeps_places):
            able = "a grid of tokens with rows and columns as positions" if self.share else "plain grids of tokens"
            raise ResolutionError(
                f"{self.label} needs a model family that reads an image as {able}, but this one shows {geometry.sizes}"
                f" and does not. Use one of the families {', '.join(self.families)}, or drop the policy."
            )
        reduction = Reduction(grid, self.pool or 1, 1.0 if self.share is None else self.share, self.by)
        return replace(whole, visual_tokens=reduction.left, reduction=reduction)

"""A training policy in plain words, for model cards and warnings."""

from __future__ import annotations

from collections.abc import Sequence

from medstudy.resolution.compress import Compress
from medstudy.resolution.pan_and_scan import PanAndScan
from medstudy.resolution.policies import Add, Curriculum, DownUp, EqualFlops, Fixed, Mixed, Native, Single, Training
from medstudy.resolution.spacing import Spacing
from medstudy.resolution.zoom import Zoom

_RULES = {
    "norm": "those with the largest norm", "similarity": "those least like the mean of all", "even": "evenly spaced",
}


def words(policy: Training | Single) -> str:
    """A training policy in plain words."""
    by = ", rounded as the model's own processor does" if getattr(policy, "rounding", "") == "processor" else ""
    if isinstance(policy, Native):
        return f"native resolution (sides rounded to whole visual tokens, at most {policy.max_pixels:,} pixels){by}"
    if isinstance(policy, Compress):
        pooled = f"the mean of each {policy.pool} × {policy.pool} visual tokens"
        kept = f"{100 * (policy.share or 1):g} % of the visual tokens, {_RULES[policy.by]}"
        return f"native resolution (at most {policy.max_pixels:,} pixels){by}, then {pooled if policy.pool else kept}"
    if isinstance(policy, Zoom):
        return f"an overview and a crop of the {policy.box} box, at most {policy.budget // 2:,} pixels each{by}"
    if isinstance(policy, PanAndScan):
        return f"the image and up to {policy.max_crops} crops of it, at most {policy.max_pixels:,} pixels each{by}"
    if isinstance(policy, Spacing):
        field = "" if policy.field_um is None else f" of a field of {policy.field_um:g} µm around the {policy.centre}"
        return f"{policy.um_per_px:g} µm a pixel{field}, at most {policy.max_pixels:,} pixels{by}"
    if isinstance(policy, Fixed):
        how = {"budget": "aspect kept", "square": "stretched to a square", "pad": "aspect kept, on a square canvas"}
        return f"at most {policy.side} × {policy.side} pixels ({how[policy.mode]}){by}"
    if isinstance(policy, Mixed):
        return f"one of these, drawn for every sample: {_listed(policy.choices)}"
    if isinstance(policy, Add):
        return f"{words(policy.native)}, and every image again at {_listed(policy.variants)}"
    if isinstance(policy, Curriculum):
        return f"these in turn, each for an equal part of the training: {_listed(policy.stages)}"
    if isinstance(policy, DownUp):
        return f"at most {policy.side} × {policy.side} pixels, enlarged again to {words(policy.native)}"
    if isinstance(policy, EqualFlops):
        return f"{words(policy.low)}, for as many steps as take the FLOPs of {words(policy.native)}"
    return policy.label


def _listed(policies: Sequence[Single]) -> str:
    return "; ".join(map(words, policies))

"""What a policy or control makes of one image: the plan that is shown, and whether a policy has any effect."""

from __future__ import annotations

from medstudy.errors import ResolutionError
from medstudy.resolution.policies import (
    Add,
    Control,
    Curriculum,
    DownUp,
    Fixed,
    Mixed,
    Native,
    Shuffled,
    Single,
    Training,
)
from medstudy.resolution.sizes import (
    Geometry,
    Rounding,
    Shown,
    Size,
)


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


def _drawn(policy: Mixed, draw: float) -> Single:
    weights = policy.weights or (1.0,) * len(policy.choices)
    edge = draw * sum(weights)
    for choice, weight in zip(policy.choices, weights, strict=True):
        edge -= weight
        if edge < 0:
            return choice
    return policy.choices[-1]

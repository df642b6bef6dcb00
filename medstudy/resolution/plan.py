"""The views of one image under a policy, the labels that a regime trains on, and whether a policy has any effect."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from medstudy.errors import ResolutionError
from medstudy.resolution.policies import (
    Add,
    Compress,
    Control,
    Curriculum,
    DownUp,
    EqualFlops,
    Fixed,
    Mixed,
    Native,
    PanAndScan,
    Single,
    Training,
)
from medstudy.resolution.sizes import UNKNOWN, Geometry, Known, Rounding, Size, View


def plan(
    policy: Training | Control, size: Size, geometry: Geometry, draw: float = 0.0, progress: float = 0.0,
    known: Known = UNKNOWN,
) -> tuple[View, ...]:
    """The views of one image under a policy: several under `add`, one under every other policy.

    draw: uniform in [0, 1), used by `mixed`; progress: fraction of the training done, used by `curriculum`. known: of
    the image, used by policies that crop.
    """
    policy = current(policy, draw, progress)
    if isinstance(policy, Add):
        return tuple(single.view(size, geometry) for single in policy.singles)
    return (policy.view(size, geometry, known),)


def current(policy: Training | Control, draw: float = 0.0, progress: float = 0.0) -> Single | Add | Control:
    """The policy of one sample: one drawn from `mixed`, the stage of `curriculum`, `equal_flops`' low, else itself."""
    if isinstance(policy, Mixed):
        return _drawn(policy, draw)
    if isinstance(policy, Curriculum):
        return policy.stages[min(int(progress * len(policy.stages)), len(policy.stages) - 1)]
    return policy.low if isinstance(policy, EqualFlops) else policy


def trained_on(policy: Training) -> frozenset[str]:
    """Labels of the views that a regime trains on; inference at any other is a mismatch."""
    if isinstance(policy, DownUp):
        return frozenset([policy.label])
    return frozenset(single.label for single in policy.singles)


def check_arms(regimes: Iterable[Training], controls: Iterable[Control]) -> None:
    """Raise ValueError if a regime that shares size or FLOPs with native does not state the study's native policy.

    Its parts of native's gain would not add up. A control of the same label must be the same policy.
    """
    known = {policy.label: policy for policy in regimes}
    native = known.get("native")
    for policy in (*known.values(), *controls):
        arm = known.get(policy.label)
        if not isinstance(arm, DownUp | EqualFlops):
            continue
        if native is not None and arm.native != native:
            raise ValueError(f"`native` of {arm.label} must be the regime native ({native}), got {arm.native}")
        if policy != arm:
            raise ValueError(f"{arm.label} must be the same as a regime and as a control, got {arm} and {policy}")


def check_policies(
    regimes: Sequence[Training], rungs: Sequence[Training], controls: Sequence[Control], families: Sequence[str],
    probe: bool,
) -> None:
    """Raise ValueError for a policy that the study's model families or its kind cannot show; see also `check_arms`."""
    check_arms(regimes, controls)
    if waiting := [single.label for policy in regimes for single in policy.singles if not single.trains]:
        raise ValueError(f"{waiting[0]} needs a pass of the model before it shows a crop: move it to `inference`")
    for single in (single for policy in (*regimes, *rungs, *controls) for single in (policy, *policy.singles)):
        if single.families is not None and (wrong := sorted(set(families) - set(single.families))):
            raise ValueError(
                f"{single.label} can be shown by models of the families {', '.join(single.families)}, got "
                f"{', '.join(wrong)}: drop the policy, or use another model"
            )
        if probe and (single.families is not None or single.reads):
            raise ValueError(f"a study with `probe` shows whole images without prompts: drop {single.label}")


def roundings(*policies: Training | Control) -> frozenset[Rounding]:
    """How the budgets of policies are rounded; empty for policies without a budget."""
    return frozenset(single.rounding for policy in policies for single in policy.singles if single.rounds)


def check_effect(policy: Training | Control, sizes: list[Size], geometry: Geometry) -> None:
    """Raise ResolutionError if a low policy would change no image at all: it would be native under another name."""
    policy = policy.low if isinstance(policy, EqualFlops) else policy
    if not isinstance(policy, Fixed | DownUp | Compress | PanAndScan) or not sizes:
        return
    most = max(size.pixels for size in sizes) + geometry.factor**2 * 64  # a cap that changes no image
    native = policy.native if isinstance(policy, DownUp) else Native(max_pixels=most, rounding=policy.rounding)
    views = ((policy.view(size, geometry), native.view(size, geometry)) for size in sizes)
    if all(_same(ours, theirs) for ours, theirs in views):
        largest = max(sizes, key=lambda size: size.pixels)
        raise ResolutionError(
            f"Policy {policy.label} must change at least one image, but all {len(sizes)} images are shown as `native` "
            f"shows them in {policy.budget} pixels (the largest is {largest.height}x{largest.width}; this model family "
            f"shows {geometry.sizes}). Use a smaller side, fewer visual tokens or more crops, or drop it."
        )


def _same(ours: View, theirs: View) -> bool:
    whole = not ours.crops and ours.visual_tokens == theirs.visual_tokens and ours.size == theirs.size
    return whole and set(ours.steps) == set(theirs.steps)


def _drawn(policy: Mixed, draw: float) -> Single:
    weights = policy.weights or (1.0,) * len(policy.choices)
    edge = draw * sum(weights)
    for choice, weight in zip(policy.choices, weights, strict=True):
        edge -= weight
        if edge < 0:
            return choice
    return policy.choices[-1]

"""Numbers of a model's weights by part."""

from __future__ import annotations

from medstudy.engine.family_protocol import Family


def weights(family: Family) -> dict[str, int]:
    """Numbers of parameters by part: tower, merger, language; tied ones once."""
    counts = {"tower": 0, "merger": 0, "language": 0}
    for name, parameter in family.model.named_parameters():
        counts[family.part(name)] += parameter.numel()
    return counts

"""The statistics of a study, in one place: what figures, tables and claims import.

intervals    a mean's interval, clustered by image, with training seeds as a second factor; native-size strata
comparisons  paired differences, interactions, relative changes, Holm's correction
resampling   draws of many means at once: robustness over the ladder, the worst of many
acuity       psychometric fits: accuracy against detail size, with a threshold
"""

from medstudy.acuity import Acuity, acuity, acuity_table
from medstudy.comparisons import (
    Difference,
    RelativeChange,
    contrast,
    differences,
    holm,
    paired_difference,
    pairs,
    relative_change,
)
from medstudy.intervals import Interval, Spread, mean_interval, native_strata, spread, summarise, wilson
from medstudy.resampling import (
    Draws,
    ace,
    bias_corrected,
    draw_means,
    rce,
    robustness,
    simultaneous,
    spearman,
)

__all__ = [
    "Acuity", "Difference", "Draws", "Interval", "RelativeChange", "Spread", "ace", "acuity", "acuity_table",
    "bias_corrected", "contrast", "differences", "draw_means", "holm", "mean_interval", "native_strata",
    "paired_difference", "pairs", "rce", "relative_change", "robustness", "simultaneous", "spearman",
    "spread", "summarise", "wilson",
]

"""The statistics that figures, tables and claims use: each function takes scores and returns numbers with intervals.

intervals     intervals of means, clustered by image, with training seeds as a second random factor
comparisons   paired differences, interactions, relative changes, Holm's correction
sample_size   the images and seeds that would make an interval narrow enough
resampling    joint draws of many means, for measures of a whole curve
robustness    how much scores depend on the inference resolution (Res-Bench)
strata        results by the native size of images
psychometric  acuity: accuracy against detail size, with a threshold
tags          native against low resolution for each tag, modality and anatomy
"""

from medstudy.statistics.comparisons import (
    Difference,
    RelativeChange,
    contrast,
    differences,
    holm,
    paired_difference,
    pairs,
    relative_change,
)
from medstudy.statistics.intervals import Estimate, Interval, Spread, mean_interval, spread, summarise, wilson
from medstudy.statistics.psychometric import Acuity, AcuityGain, acuity, acuity_gain, acuity_table
from medstudy.statistics.resampling import Draws, bias_corrected, draw_means
from medstudy.statistics.robustness import ace, rce, robustness, spearman
from medstudy.statistics.sample_size import SampleSize, images_for, size_for
from medstudy.statistics.strata import native_strata

__all__ = [
    "Acuity", "AcuityGain", "Difference", "Draws", "Estimate", "Interval", "RelativeChange", "SampleSize", "Spread",
    "ace", "acuity", "acuity_gain", "acuity_table", "bias_corrected", "contrast", "differences", "draw_means", "holm",
    "images_for", "mean_interval", "native_strata", "paired_difference", "pairs", "rce", "relative_change",
    "robustness", "size_for", "spearman", "spread", "summarise", "wilson",
]

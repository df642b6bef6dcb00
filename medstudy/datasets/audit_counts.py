"""The counts of an audit: tables of splits, kinds of questions, native sizes, and rungs of a ladder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from medstudy.data.example import SPLITS
from medstudy.errors import ResolutionError
from medstudy.resolution.policies import Native, Single
from medstudy.resolution.sizes import Geometry, Size

SPLIT = ["dataset", "split", "images", "questions", "questions_an_image", "most_questions", "groups", "further_images"]
KINDS = ["dataset", "split", "kind", "questions", "fine"]
RUNGS = ["dataset", "rung", "images", "changed", "changed_pct", "median_tokens", "most_tokens"]


def splits(examples: pd.DataFrame, images: pd.DataFrame) -> pd.DataFrame:
    """One row for each split: examples, their questions and groups, and images in context."""
    by_split = examples.groupby(["dataset", "split"], sort=False)
    all_images = images.groupby(["dataset", "split"]).size()
    rows = [
        {"dataset": dataset, "split": split, "images": len(rows), "questions": int(rows["questions"].sum()),
         "questions_an_image": float(rows["questions"].mean()), "most_questions": int(rows["questions"].max()),
         "groups": rows["group"].nunique(), "further_images": int(all_images[dataset, split]) - len(rows)}
        for (dataset, split), rows in by_split
    ]
    return pd.DataFrame(rows, columns=SPLIT)


def kinds(counts: Counter) -> pd.DataFrame:
    """One row for each split and kind of question: all questions, and those that state the size of their detail.

    counts: questions by (dataset, split, kind, whether the size is stated).
    """
    questions = Counter()
    for (*key, _), count in counts.items():
        questions[tuple(key)] += count
    rows = [(*key, count, counts[(*key, True)]) for key, count in questions.items()]
    return pd.DataFrame(rows, columns=KINDS)


def sizes(images: pd.DataFrame, ladder: Sequence[Single]) -> pd.DataFrame:
    """One row for each split and stratum of native pixels; the strata end at the budgets of the ladder."""
    edges = [0, *sorted({policy.budget for policy in ladder}), np.inf]
    sides = [f"{round(np.sqrt(edge))}²" for edge in edges[1:-1]]
    names = [f"up to {sides[0]}", *(f"{a} to {b}" for a, b in pairwise(sides)), f"above {sides[-1]}"]
    strata = pd.cut((images["height"] * images["width"]).astype(float), edges, labels=names)
    table = images.assign(native_px=strata).groupby(["dataset", "split", "native_px"], sort=False, observed=True)
    counts = table.size().rename("images").reset_index().astype({"native_px": str})
    total = counts.groupby(["dataset", "split"])["images"].transform("sum")
    counts["share_pct"] = 100 * counts["images"] / total
    order = {"dataset": list(images["dataset"].unique()).index, "split": SPLITS.index, "native_px": names.index}
    return counts.sort_values(list(order), key=lambda column: column.map(order[column.name]), ignore_index=True)


def rungs(images: pd.DataFrame, ladder: Sequence[Single], geometry: Geometry) -> pd.DataFrame:
    """One row for each data set and rung: images that it shows otherwise than native without a cap does, and tokens."""
    rows = [_rung(name, part, policy, geometry) for name, part in images.groupby("dataset", sort=False)
            for policy in ladder]
    return pd.DataFrame(rows, columns=RUNGS)


def _rung(dataset: str, images: pd.DataFrame, policy: Single, geometry: Geometry) -> dict:
    changed, tokens, left_out = 0, [], 0
    for pair, count in images.groupby(["height", "width"]).size().items():
        size = Size(*map(int, pair))
        try:
            view = policy.view(size, geometry)
        except ResolutionError:
            left_out += count
            continue
        uncapped = Native(max_pixels=size.pixels + geometry.factor**2 * 64, rounding=policy.rounding)
        native = uncapped.view(size, geometry)
        theirs = native.size, native.steps, native.visual_tokens
        changed += count * ((view.size, view.steps, view.visual_tokens) != theirs)
        tokens += [view.visual_tokens] * count
    shown = len(images) - left_out
    return {
        "dataset": dataset, "rung": policy.label, "images": shown, "changed": int(changed),
        "changed_pct": 100 * changed / shown if shown else np.nan,
        "median_tokens": float(np.median(tokens)) if tokens else np.nan, "most_tokens": max(tokens, default=0),
    }

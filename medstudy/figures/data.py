"""The data that figures and tables are made from, and the selections and caption texts that they share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from medstudy import leakage
from medstudy.figures import style
from medstudy.pictures import Picture

SCORES = (  # the columns of scores.parquet that claims, figures, tables and pages use
    "inference", "control", "budget_pixels", "dataset", "split", "image_id", "group", "family", "question_id",
    "task", "kind", "set_id", "tags", "modality", "anatomy", "answer", "localizations", "detail_px", "height",
    "width", "shown_height", "shown_width", "visual_tokens", "decoding", "scale", "interpolation", "raw_text",
    "render", "study", "model", "model_revision", "regime", "seed", "score", "author", "strict", "recall", "f1",
    "strict_recall", "strict_f1", "cell_line_hit", "strict_cell_line", "strict_localization_f1", "likelihood",
    "answer_read", "answer_letter", "chance", "level",
)  # fmt: skip

UNITS = {"flops": 1e12, "visual_tokens": 1e3, "seconds": 1.0}  # of training costs


@dataclass(frozen=True)
class StudyData:
    """Everything that the report of a study uses. Every table may be empty; what it would show is listed as not run.

    scores: `scoring.score(predictions)` of the greedy answers; author: of the sampled ones.
    training: training.parquet. examples: one row a question. claims: claims.csv. leaks: `leakage.overview`.
    images: (dataset, image_id) -> original image, only those that may be rendered.
    study: facts of the study, all optional: name, command, low (the regime that native is compared with), resamples (of
    the bootstrap), level (of intervals), seed, model, parameters (their number), training (its settings), not_run
    (texts), data_versions, versions.
    """

    scores: pd.DataFrame
    training: pd.DataFrame = field(default_factory=pd.DataFrame)
    examples: pd.DataFrame = field(default_factory=pd.DataFrame)
    claims: pd.DataFrame = field(default_factory=pd.DataFrame)
    images: Mapping[str, Image.Image | Picture] = field(default_factory=dict)
    study: Mapping[str, Any] = field(default_factory=dict)
    leaks: pd.DataFrame = field(default_factory=pd.DataFrame)
    author: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def leak_words(self) -> str:
        """The warning of every caption about images in both training and evaluation; empty if there are none."""
        sentences = leakage.sentences(self.leaks)
        return " ".join(line for lines in sentences.values() for line in lines)

    @property
    def resamples(self) -> int:
        """Number of bootstrap resamples of the intervals that are bootstrapped."""
        return int(self.study.get("resamples", 2000))

    @property
    def level(self) -> float:
        """Confidence level of every interval."""
        return float(self.study.get("level", 0.95))

    @property
    def low(self) -> str | None:
        """The low-resolution regime that native is compared with; by default the lowest fixed regime."""
        fixed = [r for r in regimes(self.scores) if r.startswith("fixed-")]
        return self.study.get("low") or (fixed[0] if fixed else None)


def tested(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of the test split."""
    return _kept(scores, scores["split"] == "test")


def plain(scores: pd.DataFrame) -> pd.DataFrame:
    """The test rows without controls, where each image is shown as its inference policy defines."""
    return _kept(scores, is_plain(scores))


def is_plain(scores: pd.DataFrame) -> pd.Series:
    """Whether each row belongs to the test split and to no control."""
    return (scores["split"] == "test") & (scores["control"] == "none")


def _kept(scores: pd.DataFrame, chosen: pd.Series) -> pd.DataFrame:
    """The chosen rows, without a copy if that is all of them."""
    return scores if chosen.all() else scores[chosen]


def cell(scores: pd.DataFrame, regime: str, inference: str) -> pd.DataFrame:
    """The plain rows of one regime at one inference policy; empty if not run."""
    chosen = (scores["regime"] == regime) & (scores["inference"] == inference)
    return scores[chosen & is_plain(scores)]


def ladder(scores: pd.DataFrame) -> list[str]:
    """Inference policies from the smallest pixel budget to the largest (native last)."""
    rungs = scores[["inference", "budget_pixels"]].drop_duplicates("inference")
    return rungs.sort_values(["budget_pixels", "inference"])["inference"].tolist()


def spread(policies: list[str], n: int) -> list[str]:
    """At most n policies, evenly spaced from the lowest to native."""
    places = np.unique(np.linspace(0, len(policies) - 1, min(n, len(policies))).round().astype(int))
    return [policies[i] for i in places]


def aligned_policy(regime: str, policies: list[str]) -> str:
    """The inference policy that matches a training regime: the same policy if it is a rung, else native."""
    return regime if regime in policies else "native"


def aligned(scores: pd.DataFrame) -> pd.DataFrame:
    """The plain rows of each regime at the inference policy that matches its training."""
    rows = plain(scores)
    policies = ladder(rows)
    matching = np.logical_or.reduce([
        (rows["regime"] == regime) & (rows["inference"] == aligned_policy(regime, policies))
        for regime in rows["regime"].unique()
    ])  # fmt: skip
    return rows[matching]


def texts(table: pd.DataFrame) -> pd.DataFrame:
    """The table with categorical columns as texts, so that it can be joined with any other."""
    return table.astype({name: str for name in table.select_dtypes("category")})


def datasets(table: pd.DataFrame) -> list[str]:
    """Data sets in the order of every figure: the phantom first, the others by name."""
    return sorted(table["dataset"].unique(), key=lambda name: (name != "phantom", name))


def regimes(table: pd.DataFrame) -> list[str]:
    """Regimes of a table in the order of every legend."""
    return style.regime_order(table["regime"].unique())


def shown_sizes(scores: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """`side_px`, the geometric mean of sqrt(shown height x width), and `tokens`, the mean of visual tokens, by group.

    Each image counts once, however many questions it has.
    """
    once = scores.drop_duplicates([*by, "image_id"])
    log_side = 0.5 * np.log(once["shown_height"].clip(lower=1) * once["shown_width"].clip(lower=1))
    sized = once.assign(side_px=log_side)
    table = sized.groupby(by, observed=True).agg(
        side_px=("side_px", "mean"), tokens=("visual_tokens", "mean")
    )
    return texts(table.assign(side_px=np.exp(table["side_px"])).reset_index())


def spent(training: pd.DataFrame) -> pd.DataFrame:
    """Columns regime, cost and spent (in `UNITS`): the cumulative cost at the last step, averaged over runs."""
    last = training.groupby(["regime", "run_id"])[list(UNITS)].max().groupby("regime").mean() / pd.Series(UNITS)
    return last.melt(ignore_index=False, var_name="cost", value_name="spent").reset_index()


def count_words(scores: pd.DataFrame) -> str:
    """The sample sizes for a caption by data set: questions, images, independent groups of images, seeds."""
    counted = scores[["dataset", "image_id", "question_id", "group", "regime", "seed"]]
    return "; ".join(f"{name}: {_count(counted[counted['dataset'] == name])}" for name in datasets(counted))


def _count(rows: pd.DataFrame) -> str:
    questions = len(rows[["image_id", "question_id"]].drop_duplicates())
    images, groups = rows["image_id"].nunique(), rows["group"].nunique()
    seeds = rows.loc[rows["regime"] != "base", "seed"].nunique()
    within = f" in {groups} independent groups" if groups < images else ""
    return f"{questions} questions about {images} images{within}, {plural(seeds, 'training seed')}"


def plural(n: int, noun: str) -> str:
    """ "1 seed", "3 seeds"."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def interval_words(study: StudyData) -> str:
    """What the intervals of means cover, as a part of a sentence for every caption."""
    seeds = study.scores.loc[is_plain(study.scores), "seed"].nunique()
    factors = (
        "image groups and training seeds, both as random factors" if seeds > 1 else "image groups (one seed)"
    )
    return f"{study.level:.0%} intervals for a mean, over {factors}"


def estimate_words(table: pd.DataFrame) -> list[str]:
    """The estimate of each row with half the width of its interval in %, like "61±5"."""
    half = (table["high"] - table["low"]) / 2
    return [f"{100 * value:.0f}±{100 * margin:.0f}" for value, margin in zip(table["estimate"], half, strict=True)]


def join(names: list[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(names[:-1]), names[-1]]) if len(names) > 1 else "".join(names)


def tower_words(study: StudyData) -> str:
    """A sentence: whether the vision tower is trained, and whether its cost is counted."""
    options = study.study.get("training", {})
    if not (options.get("freeze_vision_tower") or options.get("lora")):
        return "The vision tower is trained too."
    if not options.get("cache_features"):
        return "The vision tower is frozen."
    return (
        "The vision tower is frozen: what it makes of each view is computed once for all trainings and evaluations, "
        "and not counted in their operations and seconds."
    )

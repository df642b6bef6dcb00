"""A small synthetic study for tests of figures and tables: procedural and "real" images, controls, training."""

from __future__ import annotations

from functools import cache

import numpy as np
import pandas as pd
from PIL import Image

from medstudy import claims
from medstudy.bounds import marks, results
from medstudy.report.study_data import StudyData
from medstudy.scoring import score
from tests.support import synthetic

LEAKS = pd.DataFrame({
    "dataset": ["atlas", "phantom"], "split": "test", "images": [12, 40], "of_dataset": ["atlas", "–"],
    "of_split": ["train", "–"], "exact": [2, 0], "near": [1, 0], "group": 0, "share_pct": [25.0, 0.0],
    "repeats": [1, 0], "allowed": ["its split is by question.", ""],
})


@cache
def study(regimes: tuple[str, ...] = synthetic.REGIMES, n_images: int = 40) -> StudyData:
    """phantom (n_images) and atlas (12 images, no subcellular ones), two seeds."""
    phantom = synthetic.predictions(n_images, 2, regimes).assign(dataset="phantom")
    atlas = synthetic.predictions(16, 2, regimes, seed=5).assign(dataset="atlas")
    atlas = atlas[atlas["family"] != "subcellular"].assign(image_id="atlas/" + atlas["image_id"])
    atlas["group"] = atlas["image_id"]
    predictions = pd.concat([phantom, atlas], ignore_index=True)
    scores, training = score.score(predictions), synthetic.training(regimes, 2, 60)
    tested = claims.claims_table(scores[scores["dataset"] == "phantom"], training)
    facts = {"name": "test", "resamples": 60, "low": "fixed-84", "parameters": 1_500_000}
    return StudyData(scores, training, _examples(predictions), tested, _images(scores), facts, bounds=_bounds(scores),
                     costs=synthetic.costs(scores))


def _bounds(scores: pd.DataFrame) -> results.Results:
    """Readers that know most of what is shown at native and half of it at 84², and one task that has no bound."""
    once = scores[(scores["split"] == "test") & scores["kind"].isin(["closed", "choice", "class"])]
    once = once.drop_duplicates(["dataset", "image_id", "question_id"]).astype({"task": str}).assign(seed=0)
    right = np.random.default_rng(3).random((5, len(once)))
    cells = [("guess", "", 0.5), *((reader, rung, share) for reader in ("tower", "pixels")
                                   for rung, share in (("native", 0.9), ("fixed-84", 0.5)))]
    answers = pd.concat([
        once.assign(reader=reader, inference=rung, regime=rung, score=(row < share).astype(float))
        for (reader, rung, share), row in zip(cells, right, strict=True)
    ], ignore_index=True)
    left = pd.DataFrame([{"dataset": "phantom", "task": "localization", "kind": "description", "n_questions": 3,
                          "why": "its answers are free text"}])
    return results.Results(answers, marks.marks(answers, "native", "fixed-84"), left)


def _examples(predictions: pd.DataFrame) -> pd.DataFrame:
    once = predictions.drop_duplicates(["image_id", "question_id"]).assign(text="Is there a mitosis?")
    train = once.assign(split="train", image_id="train/" + once["image_id"], group="train/" + once["group"])
    return pd.concat([once, train], ignore_index=True)


def _images(scores: pd.DataFrame) -> dict[tuple[str, str], Image.Image]:
    """A smooth ramp for each test image except the first, which may not be rendered."""
    once = scores.drop_duplicates(["dataset", "image_id"]).iloc[1:]
    return {(row.dataset, row.image_id): _ramp(row.height, row.width) for row in once.itertuples()}


def _ramp(height: int, width: int) -> Image.Image:
    ramp = np.linspace(0, 255, width, dtype=np.uint8)
    return Image.fromarray(np.broadcast_to(ramp[None, :, None], (height, width, 3)).copy())

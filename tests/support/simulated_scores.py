"""Simulated scores with known effects, for tests of statistics."""

import numpy as np
import pandas as pd
from scipy import stats


def at(scores, regime, inference):
    where = (scores["regime"] == regime) & (scores["inference"] == inference) & (scores["control"] == "none")
    return scores[where]


def frame(values: np.ndarray) -> pd.DataFrame:
    """Scores [images, questions, seeds] as rows."""
    image, question, seed = (index.ravel() for index in np.indices(values.shape))
    return pd.DataFrame({"dataset": "d", "image_id": image.astype(str), "group": image.astype(str),
                         "seed": seed, "question_id": question.astype(str),
                         "score": values.ravel().astype(float)})


def simulate(rng, images, questions=5, seeds=3, seed_sd=0.1, mean=0.6):
    """Right or wrong [images, questions, seeds]: a probit with image, question, seed, image x seed effects.

    Two questions of an image correlate by about 0.2; the seeds' scores spread by about 3 points.
    """
    latent = (mean + rng.normal(0, 0.6, (images, 1, 1)) + rng.normal(0, 0.6, (images, questions, 1))
              + rng.normal(0, 0.2, (images, 1, seeds)) + rng.normal(0, seed_sd, (1, 1, seeds)))
    spread = np.sqrt(1 + 0.6**2 + 0.6**2 + 0.2**2 + seed_sd**2)
    return rng.random(latent.shape) < stats.norm.cdf(latent), stats.norm.cdf(mean / spread)


def index_arrays(images, questions=5, seeds=3):
    image, question, seed = (index.ravel() for index in np.indices((images, questions, seeds)))
    return image, seed, question

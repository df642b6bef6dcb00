"""What a contrastive encoder leaves in an evaluation's folder: embeddings, and how well image and caption find another.

embeddings.parquet has a row for each image and rung (`question_id` empty), and for each caption (`inference` empty):
dataset, image_id, group, inference, control, question_id, text_tokens (of a caption), cut (whether it was longer than
the model reads), same (a number that captions of the same words share; -1 for an image), vector (length 1, float32).
retrieval.parquet is `ranks` of it. A caption is the reference of a question of the kinds that `model.clip.captions`
names. Neither holds a pixel or a text.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from medstudy.data.example import Example
from medstudy.evaluation.answerer import Asked
from medstudy.evaluation.controls import control_of
from medstudy.models.contrastive import Encoder

FILE, RETRIEVAL = "embeddings.parquet", "retrieval.parquet"
DECIMALS = 6  # of a cosine: equal vectors stay equal, wherever they stand in a matrix
DIRECTIONS = ("image to text", "text to image")


class Embeds(Protocol):
    """A model that gives vectors."""

    encoder: Encoder

    def vectors(self, asked: Asked) -> torch.Tensor: ...


def write(folder: Path, model: Embeds, asked: Iterable[Asked], kinds: Collection[str]) -> None:
    """Both files; that of ranks only if there are captions."""
    parts = []
    for one in asked:
        if not parts:
            parts.append(_captions(model.encoder, one.examples, kinds))
        parts.append(_images(one, model.vectors(one)))
    table = pd.concat([part for part in parts if len(part)], ignore_index=True)
    table.to_parquet(folder / FILE)
    if len(found := ranks(table)):
        found.to_parquet(folder / RETRIEVAL)


def _images(asked: Asked, vectors: torch.Tensor) -> pd.DataFrame:
    about = {"inference": asked.policy.label, "control": control_of(asked.policy)}
    return pd.DataFrame(_row(example, vector, **about) for example, vector in zip(asked.examples, vectors, strict=True))


def _captions(encoder: Encoder, examples: Sequence[Example], kinds: Collection[str]) -> pd.DataFrame:
    found = [(example, question) for example in examples for question in example.questions if question.kind in kinds]
    texts = sorted({question.answer for _, question in found})
    if not texts:
        return pd.DataFrame()
    places, vectors, lengths = {text: at for at, text in enumerate(texts)}, encoder.texts(texts), encoder.lengths(texts)
    rows = []
    for example, question in found:
        at = places[question.answer]
        length = lengths[at]
        rows.append(_row(example, vectors[at], question_id=question.id, text_tokens=length, cut=length > encoder.limit,
                         same=at))
    return pd.DataFrame(rows)


def _row(example: Example, vector: torch.Tensor, **more: str | int | bool) -> dict:
    row = {"dataset": example.dataset, "image_id": example.image_id, "group": example.group, "inference": "",
           "control": "none", "question_id": "", "text_tokens": 0, "cut": False, "same": -1}
    return row | more | {"vector": vector.numpy()}


def ranks(table: pd.DataFrame) -> pd.DataFrame:
    """Where the right one stands among all of the data set, by cosine: one row for each rung, direction and query.

    image to text: of each image with captions, among all different captions, the best of its own. text to image: of
    each caption, among all images with captions, the best of those that have a caption of these words. A tie takes the
    mean of its ranks. Columns: dataset, inference, control, direction, image_id, group, question_id (of a caption),
    rank (from 1), candidates. table: embeddings.parquet.
    """
    rows = []
    for (dataset, inference), images in table[table["inference"] != ""].groupby(["dataset", "inference"], sort=False):
        captions = table[(table["inference"] == "") & (table["dataset"] == dataset)]
        if captions.empty:
            continue
        images = images[images["image_id"].isin(captions["image_id"])]
        texts = captions.drop_duplicates("same")
        cosines = np.round(np.stack(images["vector"]) @ np.stack(texts["vector"]).T, DECIMALS)  # [images, texts]
        right = np.zeros(cosines.shape, dtype=bool)
        right[pd.Index(images["image_id"]).get_indexer(captions["image_id"]),
              pd.Index(texts["same"]).get_indexer(captions["same"])] = True
        about = {"dataset": dataset, "inference": inference, "control": images["control"].iloc[0]}
        forth, back = _best(cosines, right), _best(cosines.T, right.T)
        rows += [
            about | {"direction": DIRECTIONS[0], "image_id": image.image_id, "group": image.group, "question_id": "",
                     "rank": rank, "candidates": len(texts)}
            for image, rank in zip(images.itertuples(), forth, strict=True)
        ]
        of_text = dict(zip(texts["same"], back, strict=True))
        rows += [
            about | {"direction": DIRECTIONS[1], "image_id": caption.image_id, "group": caption.group,
                     "question_id": caption.question_id, "rank": of_text[caption.same], "candidates": len(images)}
            for caption in captions.itertuples()
        ]
    return pd.DataFrame(rows)


def _best(cosines: np.ndarray, right: np.ndarray) -> np.ndarray:
    """[queries] the rank of the best right candidate of each query, from 1; [queries, candidates] both."""
    best = np.where(right, cosines, -np.inf).max(1, keepdims=True)
    above, level = (cosines > best).sum(1), (cosines == best).sum(1)
    return 1 + above + (level - 1) / 2

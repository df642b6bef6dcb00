"""Tiny fixtures of the paper's data sets, each in its source's own format, with its real columns and quirks.

A maker takes an empty folder and returns the Params that load what it wrote there.
"""

from __future__ import annotations

from pathlib import Path

from datasets import Features, Image, Value

from medstudy.datasets import vqa_rad
from tests import hub

VQA = Features({"image": Image(), "question": Value("string"), "answer": Value("string")})


def vqa_rad_(folder: Path) -> vqa_rad.Params:
    """Images repeat over rows, in both splits; answers in lower case."""
    asked = [("is there a fracture?", "no"), ("where is the mass?", "left lung"), ("which organ?", "the liver")]
    train = [_row(hub.encoded(i, (84, 56 + 28 * (i % 2))), *ask) for ask in asked for i in range(12)]
    test = [_row(hub.encoded(100 + i), *ask) for ask in asked for i in range(3)]
    return vqa_rad.Params(path=str(hub.repository(folder, {"train": train, "test": test}, VQA)), val_share=0.3)


def _row(image: dict, question: str, answer: str) -> dict:
    return {"image": image, "question": question, "answer": answer}


MAKERS = {
    "vqa_rad": vqa_rad_,
}

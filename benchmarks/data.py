"""The images and questions that ours and the peers are given: files at the size to be shown, and JSON lines."""

from __future__ import annotations

import json
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from medstudy import datasets, models, params
from medstudy.engine import views
from medstudy.engine.batches import size_of
from medstudy.models.prompts import user_text
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Native


def noise(folder: Path, size: tuple[int, int], images: int, questions: int) -> Path:
    """Smoothed noise of size (height, width) in pixels, with short closed questions."""
    lines, (height, width) = [], size
    for index in range(images):
        cells = (height // 4, width // 4, 3)
        coarse = np.random.default_rng([height, index]).integers(0, 256, cells, dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image.save(folder / f"{index}.png", compress_level=1)
        asked = [
            {"prompt": f"Is there a nodule in region {k + 1} of this image?", "answer": ("no", "yes")[(index + k) % 2]}
            for k in range(questions)
        ]
        lines.append({"image": f"{index}.png", "questions": asked})
    return _write(folder, lines)


def offline(folder: Path, images: int) -> Path:
    """The first training images of the offline study's phantom at native resolution, with their questions."""
    study = params.load("params/offline.yaml")
    geometry = models.load(study.model).geometry
    native = next(policy for policy in study.regimes if isinstance(policy, Native))
    lines = []
    for index, one in enumerate(islice(datasets.load(study.datasets[0], "train"), images)):
        shown = plan(native, size_of(one), geometry)[0]
        Image.fromarray(views.render(one.image, shown, study.interpolation).numpy()).save(folder / f"{index}.png")
        asked = [{"prompt": user_text(question), "answer": question.answer} for question in one.questions]
        lines.append({"image": f"{index}.png", "questions": asked})
    return _write(folder, lines)


def _write(folder: Path, lines: list[dict]) -> Path:
    file = folder / "data.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return file

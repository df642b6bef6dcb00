"""Folders of the user's own data for tests: images, and tables of every form."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from medstudy import datasets

ADAPTER = TypeAdapter(datasets.Params)


def params(path: Path, **more):
    """Params of `local`, as read from a params file."""
    content = {"name": "local", "label": "mine", "path": str(path)} | more
    return ADAPTER.validate_json(json.dumps(content))


def photo(file: Path, seed: int = 0, size: tuple[int, int] = (60, 80), **options) -> Path:
    """A smooth random RGB image of (height, width), saved by the file's suffix; each seed gives another image."""
    file.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng([11, seed]).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    image.convert(options.pop("mode", "RGB")).save(file, **options)
    return file


def photos(folder: Path, names, **options) -> list[str]:
    """A different image for each name."""
    for seed, name in enumerate(names):
        photo(folder / name, seed, **options)
    return list(names)


def lines(file: Path, rows: list[dict]) -> Path:
    """A .jsonl file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return file


def sheet(file: Path, rows: list[dict], encoding: str = "utf-8", newline: str = "\n") -> Path:
    """A .csv file."""
    with file.open("w", encoding=encoding, newline="") as out:
        made = csv.DictWriter(out, list(rows[0]), lineterminator=newline)
        made.writeheader()
        made.writerows(rows)
    return file


def found(made, splits=("train", "val", "test")) -> list:
    """All examples of a data set."""
    return [one for split in splits for one in datasets.load(made, split)]

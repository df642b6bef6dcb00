"""Tiny data sets in the layout of a hub repository, for `load_dataset`: README.md and parquet shards."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import yaml
from datasets import Dataset, Features
from PIL import Image


def repository(folder: Path, splits: dict[str, list[dict]], features: Features, config: str = "default") -> Path:
    """A repository under `folder` with one parquet shard per split; a further config is added to the existing ones."""
    where = folder if config == "default" else folder / config
    files = []
    for split, rows in splits.items():
        name = where / "data" / f"{split}-00000-of-00001.parquet"
        name.parent.mkdir(parents=True, exist_ok=True)
        Dataset.from_list(rows, features=features).to_parquet(name)
        files.append({"split": split, "path": str(name.relative_to(folder))})
    card = folder / "README.md"
    known = yaml.safe_load(card.read_text().split("---")[1])["configs"] if card.is_file() else []
    known.append({"config_name": config, "data_files": files})
    card.write_text(f"---\n{yaml.safe_dump({'configs': known})}---\n")
    return folder


def shard(file: Path, rows: list[dict], features: Features) -> None:
    """One file of a repository with rows as arrow streams, which its README.md does not mention."""
    table = Dataset.from_list(rows, features=features).with_format("arrow")[:]
    file.parent.mkdir(parents=True, exist_ok=True)
    with pa.OSFile(str(file), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)


def encoded(seed: int, size: tuple[int, int] = (60, 80), kind: str = "JPEG", mode: str = "RGB") -> dict:
    """A smooth random image of (height, width) in the hub's format: {"bytes", "path"}."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    image = Image.fromarray(small).resize((size[1], size[0]), Image.Resampling.BICUBIC).convert(mode)
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return {"bytes": buffer.getvalue(), "path": f"{seed}.{kind.lower()}"}

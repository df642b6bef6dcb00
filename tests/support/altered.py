"""Copies of a checkpoint with something changed, as bug reports describe them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5522584\n"


def copy(folder: Path, target: Path, **files: dict) -> Path:
    """A copy with settings changed: `config={"a": 1}` of config.json; None takes a setting out."""
    shutil.copytree(folder, target)
    for name, entries in files.items():
        change(target / f"{name}.json", **entries)
    return target


def change(file: Path, **entries) -> None:
    content = json.loads(file.read_text(encoding="utf-8")) | entries
    content = {name: value for name, value in content.items() if value is not None}
    file.write_text(json.dumps(content), encoding="utf-8")


def images(folder: Path, target: Path, **entries) -> Path:
    """A copy with settings of the image processor changed."""
    shutil.copytree(folder, target)
    file = target / "processor_config.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["image_processor"] |= entries
    file.write_text(json.dumps(content), encoding="utf-8")
    return target


def weights(folder: Path, target: Path, change, file: str = "model.safetensors") -> Path:
    """A copy whose tensors are what `change` makes of them."""
    shutil.copytree(folder, target)
    save_file(change(load_file(target / file)), target / file, metadata={"format": "pt"})
    return target


def sharded(folder: Path, target: Path, shards: int = 3) -> Path:
    """A copy whose tensors are in several files with an index."""
    shutil.copytree(folder, target)
    tensors = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names = sorted(tensors)
    files = [f"model-{part + 1:05}-of-{shards:05}.safetensors" for part in range(shards)]
    for part, file in enumerate(files):
        save_file({name: tensors[name] for name in names[part::shards]}, target / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: files[place % shards] for place, name in enumerate(names)}}
    (target / "model.safetensors.index.json").write_text(json.dumps(index))
    return target

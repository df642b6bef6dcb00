"""The files of a checkpoint's folder, checked before anything is loaded: present, readable and complete.

transformers reports a damaged file by whatever its parser raises, without the file's name, and silently skips some (a
generation_config.json that is not JSON). Of weights only headers are read here.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import transformers
from safetensors import SafetensorError, safe_open
from transformers import CONFIG_MAPPING

from medstudy.errors import ModelError

POINTER = b"version https://git-lfs.github.com/spec/"  # what Git leaves where Git LFS did not fetch a file
CONFIGS = (
    "config.json", "generation_config.json", "preprocessor_config.json", "processor_config.json",
    "video_preprocessor_config.json", "chat_template.json", "tokenizer_config.json", "special_tokens_map.json",
    "adapter_config.json",
)
VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "model.safetensors.index.json")
TEXTS = ("*.jinja", "additional_chat_templates/*.jinja", "merges.txt")
WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.gguf", "*.h5", "*.msgpack")
QUANTISED = ("quantization_config", "compression_config")
PACKED = ("U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4")  # safetensors' names of types
LARGE = 2**22  # a vocabulary of more bytes is parsed here only after loading failed: its own library parses it anyway
LISTED = 5  # names that an error lists


def check(folder: Path, weights: bool = True, whole: bool = False) -> None:
    """Raises ModelError naming the first file that is missing, truncated, empty, not UTF-8 or not JSON.

    whole: parse large vocabularies too. Warns of code in the checkpoint, which is never run.
    """
    folder = folder.resolve()
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"A checkpoint's folder holds config.json, tokenizer, processor and weights, but {folder.name} cannot be "
            f"loaded: it holds {listed(sorted(file.name for file in folder.iterdir())) or 'nothing'}, and no "
            "config.json. Name the folder that transformers' save_pretrained wrote."
        )
    configs = {name: parsed(folder / name, True) for name in CONFIGS if (folder / name).is_file()}
    for name in VOCABULARIES:
        file = folder / name
        if file.is_file():
            parsed(file) if whole or file.stat().st_size < LARGE else _check_start(file)
    for file in (file for pattern in TEXTS for file in sorted(folder.glob(pattern))):
        text_of(file)
    for file in sorted(folder.glob("*.model")):
        _check_start(file)
    _check_kinds(folder, configs)
    if weights:
        tensors_of(folder)


def parsed(file: Path, unique: bool = False) -> dict[str, Any]:
    """A JSON file that holds an object. unique: a repeated key is an error. Raises ModelError."""
    try:
        content = json.loads(text_of(file), object_pairs_hook=_unique if unique else None)
    except ValueError as error:
        raise damaged(file, f"it is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise damaged(file, f"it holds a {type(content).__name__} where an object of settings is required")
    return content


def text_of(file: Path) -> str:
    """A text file's content. Raises ModelError."""
    _check_start(file)
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, f"it is not UTF-8 (at byte {error.start})") from None


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, from its header. Raises ModelError if it is truncated or quantised."""
    _check_start(file)
    try:
        with safe_open(file, "pt") as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            packed = [name for name, tensor in slices.items() if tensor.get_dtype() in PACKED]
            shapes = {name: tuple(tensor.get_shape()) for name, tensor in slices.items()}
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size
        raise damaged(file, f"its {size:,} bytes are not a complete safetensors file ({error})") from None
    if packed:
        raise ModelError(
            f"Weights are read in full precision, but {len(packed)} tensors in {file.name} of {file.parent.name} have "
            f"at most 8 bits a number, as quantised ones do ({listed(sorted(packed))}). Use the checkpoint in its full "
            "precision."
        )
    return shapes


def tensors_of(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that will be loaded, from headers. Raises ModelError if a name is repeated."""
    tensors: dict[str, tuple[int, ...]] = {}
    for file in list(_weight_files(folder)):
        shapes = shapes_in(file)
        if repeated := sorted(tensors.keys() & shapes.keys()):
            raise ModelError(
                f"A checkpoint has each tensor once, but in {folder.name} {len(repeated)} of {file.name} are also in "
                f"another shard ({listed(repeated)}): a shard belongs to another checkpoint. Fetch them again."
            )
        tensors |= shapes
    return tensors


def damaged(file: Path, why: str) -> ModelError:
    """The error for a file that cannot be read."""
    return ModelError(f"Every file of a checkpoint must be complete, but {file.name} of {file.parent.name} is not: "
                      f"{why}. Fetch or copy that file again.")


def listed(names: Iterable[str]) -> str:
    """Up to five names, and the number of the others."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _check_start(file: Path) -> None:
    """Raises ModelError for a file that is empty or a Git LFS pointer."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(len(POINTER))
    except OSError as error:
        raise damaged(file, f"it cannot be opened ({error.strerror})") from None
    if not start:
        raise damaged(file, "it is empty")
    if start == POINTER:
        raise ModelError(
            f"Every file of a checkpoint must be complete, but {file.name} of {file.parent.name} is a Git LFS pointer: "
            "the file itself was not fetched. Run `git lfs pull` in that folder, or fetch it with `hf download`."
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if repeated := [name for name in content if sum(name == other for other, _ in pairs) > 1]:
        raise ValueError(f"{listed(map(repr, repeated))} is repeated in one object")
    return content


def _check_kinds(folder: Path, configs: dict[str, dict[str, Any]]) -> None:
    """Raises ModelError for quantised weights, and for a model or processor that transformers does not have."""
    coded = [name for name, content in configs.items() if "auto_map" in content]
    kind = configs["config.json"].get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        code = " The checkpoint brings its own code (auto_map), which medstudy never runs." if coded else ""
        raise ModelError(
            f"config.json must name a model_type of transformers {transformers.__version__}, but that of {folder.name} "
            f"has {kind!r}.{code} Use a checkpoint in transformers' own format."
        )
    if quantised := [name for name in QUANTISED if _has(configs["config.json"], name)]:
        raise ModelError(
            f"Weights are read in full precision, but config.json of {folder.name} has a {quantised[0]}, as for "
            "quantised ones. Use the checkpoint in its full precision; if its weights already are, remove the entry."
        )
    if coded:
        warnings.warn(
            f"{folder.name} brings its own code (auto_map in {', '.join(coded)}), which is not run: transformers' own "
            f"{kind} is used.", stacklevel=2)
    for name, content in configs.items():
        content = content.get("image_processor", content)
        processor = content.get("image_processor_type") if isinstance(content, dict) else None
        if processor and not hasattr(transformers, str(processor)):
            raise ModelError(
                f"{name} must name an image_processor_type of transformers {transformers.__version__}, but that of "
                f"{folder.name} has {processor!r}. Write the name that this release has for it "
                "(Qwen2VLImageProcessor for all of Qwen's)."
            )


def _has(config: dict[str, Any], name: str) -> bool:
    """Whether a configuration has that entry, for the whole model or for its language model."""
    text = config.get("text_config")
    return bool(config.get(name) or isinstance(text, dict) and text.get(name))


def _weight_files(folder: Path) -> Iterator[Path]:
    """The files of weights that will be loaded. Raises ModelError if they are absent, incomplete or there twice."""
    single, index = (folder / name for name in (WEIGHTS, INDEX))
    if single.is_file() and index.is_file():
        raise ModelError(
            f"A checkpoint has its weights once, but {folder.name} has {WEIGHTS} and also the shards of {INDEX}. "
            "Remove those that are not the model's."
        )
    if single.is_file():
        yield single
    elif index.is_file():
        yield from _shards(folder, parsed(index))
    else:
        others = sorted(file.name for kind in (*PICKLES, "*.safetensors") for file in folder.glob(kind))
        has = f"has {listed(others)}" if others else "has no weights at all"
        raise ModelError(
            f"Weights are read from {WEIGHTS} or from shards that {INDEX} lists, and from no other format (a pickle "
            f"can run code), but {folder.name} {has}. Fetch the missing files, or load the model where it was made "
            "and save it with save_pretrained(folder, safe_serialization=True)."
        )


def _shards(folder: Path, index: dict[str, Any]) -> Iterator[Path]:
    files = index.get("weight_map")
    if not isinstance(files, dict) or not files or not all(isinstance(file, str) for file in files.values()):
        raise damaged(folder / INDEX, "it has no weight_map from tensors to files")
    if not isinstance(index.get("metadata"), dict):
        raise damaged(folder / INDEX, "it has no metadata, without which transformers does not read it")
    shards = sorted(set(files.values()))
    if absent := [name for name in shards if Path(name).name != name or not (folder / name).is_file()]:
        raise ModelError(
            f"All shards that {INDEX} names must be in {folder.name}, but {len(absent)} of {len(shards)} are not: "
            f"{listed(absent)}. Fetch them."
        )
    yield from (folder / name for name in shards)

"""The files of a checkpoint's folder, looked at before anything is loaded: whole, readable, and all of them there.

transformers reports a damaged file by whatever its parser raises, without the file's name, and passes over some (a
generation_config.json that is no JSON) in silence. Only headers of weights are read here, never the weights.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path

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
LARGE = 2**22  # bytes of a vocabulary that is only parsed once loading has failed: its own library parses it anyway
LISTED = 5  # names that an error lists


def check(folder: Path, weights: bool = True, whole: bool = False) -> None:
    """Raises ModelError naming the first file that is missing, cut, empty, no UTF-8 or no JSON.

    whole: parse large vocabularies too. Warns of code that the checkpoint brings: it is never run.
    """
    folder = folder.resolve()
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"A checkpoint's folder holds config.json, tokenizer, processor and weights, but {folder.name} cannot be "
            f"loaded: it holds {listed(sorted(file.name for file in folder.iterdir())) or 'nothing'}, and no "
            "config.json. Name the folder that transformers' save_pretrained wrote."
        )
    read = {name: parsed(folder / name, True) for name in CONFIGS if (folder / name).is_file()}
    for name in VOCABULARIES:
        file = folder / name
        if file.is_file():
            parsed(file) if whole or file.stat().st_size < LARGE else _start(file)
    for file in (file for pattern in TEXTS for file in sorted(folder.glob(pattern))):
        text(file)
    for file in sorted(folder.glob("*.model")):
        _start(file)
    _known(folder, read)
    if weights:
        held(folder)


def parsed(file: Path, unique: bool = False) -> dict:
    """A JSON file that holds an object. unique: a key that stands twice is an error. Raises ModelError."""
    try:
        made = json.loads(text(file), object_pairs_hook=_once if unique else None)
    except ValueError as error:
        raise damaged(file, f"it is no JSON ({error})") from None
    if not isinstance(made, dict):
        raise damaged(file, f"it holds a {type(made).__name__} where an object of settings is due")
    return made


def text(file: Path) -> str:
    """A text file's content. Raises ModelError."""
    _start(file)
    try:
        return file.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise damaged(file, f"it is not UTF-8 (at byte {error.start})") from None


def tensors(file: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a safetensors file, from its header. Raises ModelError for one that is cut, or quantised."""
    _start(file)
    try:
        with safe_open(file, "pt") as opened:
            found = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118
            packed = [name for name, one in found.items() if one.get_dtype() in PACKED]
            shapes = {name: tuple(one.get_shape()) for name, one in found.items()}
    except (SafetensorError, OSError) as error:
        size = file.stat().st_size
        raise damaged(file, f"its {size:,} bytes are no whole safetensors file ({error})") from None
    if packed:
        raise ModelError(
            f"Weights are read in full precision, but {len(packed)} tensors in {file.name} of {file.parent.name} have "
            f"at most 8 bits a number, as quantised ones do ({listed(sorted(packed))}). Use the checkpoint in its full "
            "precision."
        )
    return shapes


def held(folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of all tensors that will be loaded, from headers. Raises ModelError for one that is twice."""
    made: dict[str, tuple[int, ...]] = {}
    for file in list(_files(folder)):
        found = tensors(file)
        if twice := sorted(made.keys() & found.keys()):
            raise ModelError(
                f"A checkpoint has each tensor once, but in {folder.name} {len(twice)} of {file.name} stand in another "
                f"shard too ({listed(twice)}): one of the shards is of another checkpoint. Fetch them again."
            )
        made |= found
    return made


def damaged(file: Path, why: str) -> ModelError:
    """The error about a file that cannot be read."""
    return ModelError(f"Every file of a checkpoint must be whole, but {file.name} of {file.parent.name} is not: {why}. "
                      "Fetch or copy that file again.")


def listed(names: Iterable[str]) -> str:
    """Up to five names, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _start(file: Path) -> None:
    """Raises ModelError for a file that is empty or only stands for one."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(len(POINTER))
    except OSError as error:
        raise damaged(file, f"it cannot be opened ({error.strerror})") from None
    if not start:
        raise damaged(file, "it is empty")
    if start == POINTER:
        raise ModelError(
            f"Every file of a checkpoint must be whole, but {file.name} of {file.parent.name} is a Git LFS pointer: "
            "the file itself was not fetched. Run `git lfs pull` in that folder, or fetch it with `hf download`."
        )


def _once(pairs: list[tuple]) -> dict:
    made = dict(pairs)
    if twice := [name for name in made if sum(name == other for other, _ in pairs) > 1]:
        raise ValueError(f"{listed(map(repr, twice))} stands twice in one object")
    return made


def _known(folder: Path, read: dict[str, dict]) -> None:
    """Raises ModelError for quantised weights, and for a kind of model or processor that transformers does not have."""
    brings = [name for name, content in read.items() if "auto_map" in content]
    kind = read["config.json"].get("model_type")
    if not isinstance(kind, str) or kind not in CONFIG_MAPPING:
        code = " The checkpoint brings its own code (auto_map), which medstudy never runs." if brings else ""
        raise ModelError(
            f"config.json must name a model_type of transformers {transformers.__version__}, but that of {folder.name} "
            f"has {kind!r}.{code} Use a checkpoint in transformers' own format."
        )
    if packed := [name for name in QUANTISED if _says(read["config.json"], name)]:
        raise ModelError(
            f"Weights are read in full precision, but config.json of {folder.name} has a {packed[0]}, of quantised "
            "ones. Use the checkpoint in its full precision; take the entry out if its weights are that already."
        )
    if brings:
        warnings.warn(
            f"{folder.name} brings code of its own (auto_map in {', '.join(brings)}): it is not run. transformers' own "
            f"{kind} is used.", stacklevel=2)
    for name, content in read.items():
        content = content.get("image_processor", content)
        named = content.get("image_processor_type") if isinstance(content, dict) else None
        if named and not hasattr(transformers, str(named)):
            raise ModelError(
                f"{name} must name an image_processor_type of transformers {transformers.__version__}, but that of "
                f"{folder.name} has {named!r}. Write there the name that this release has for it "
                "(Qwen2VLImageProcessor for all of Qwen's)."
            )


def _says(config: dict, name: str) -> bool:
    """Whether a configuration has that entry, of the whole model or of its language model."""
    text = config.get("text_config")
    return bool(config.get(name) or isinstance(text, dict) and text.get(name))


def _files(folder: Path) -> Iterator[Path]:
    """The weights that will be loaded. Raises ModelError where they are absent, not all there, or there twice."""
    one, index = (folder / name for name in (WEIGHTS, INDEX))
    if one.is_file() and index.is_file():
        raise ModelError(
            f"A checkpoint has its weights once, but {folder.name} has {WEIGHTS} and, by {INDEX}, shards too. Remove "
            "those that are not the model's."
        )
    if one.is_file():
        yield one
    elif index.is_file():
        yield from _shards(folder, parsed(index))
    else:
        others = sorted(file.name for kind in (*PICKLES, "*.safetensors") for file in folder.glob(kind))
        has = f"it has {listed(others)}" if others else "it has none at all"
        raise ModelError(
            f"Weights are read from {WEIGHTS}, or from shards that {INDEX} lists, and from nothing else (a pickle can "
            f"run code), but in {folder.name} neither stands: {has}. Fetch the missing files, or load the model where "
            "it was made and save it with save_pretrained(folder, safe_serialization=True)."
        )


def _shards(folder: Path, index: dict) -> Iterator[Path]:
    named = index.get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise damaged(folder / INDEX, "it has no weight_map of tensors and the files that hold them")
    if not isinstance(index.get("metadata"), dict):
        raise damaged(folder / INDEX, "it has no metadata, without which transformers does not read it")
    shards = sorted(set(named.values()))
    if absent := [name for name in shards if Path(name).name != name or not (folder / name).is_file()]:
        raise ModelError(
            f"All shards that {INDEX} names must be in {folder.name}, but {len(absent)} of {len(shards)} are not: "
            f"{listed(absent)}. Fetch them."
        )
    yield from (folder / name for name in shards)

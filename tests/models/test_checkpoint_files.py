"""A damaged file of a checkpoint is named before anything is loaded."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from medstudy import models
from medstudy.errors import ModelError
from medstudy.models import checkpoint_files
from medstudy.params import Model
from tests.support import altered

READ = ("config.json", "generation_config.json", "processor_config.json", "tokenizer_config.json", "tokenizer.json",
        "chat_template.jinja")


def _refused(folder, match, **options):
    with pytest.raises(ModelError, match=match):
        models.load(Model(id=str(folder), **options))


def test_every_tiny_checkpoint_is_complete(checkpoints):
    for folder in checkpoints.values():
        checkpoint_files.check(folder, whole=True)


@pytest.mark.parametrize("name", [*READ, "model.safetensors"])
@pytest.mark.parametrize(
    ("content", "why"),
    [
        (altered.POINTER.encode(), "Git LFS pointer.*git lfs pull"),
        (b"", "is empty"),
        (b"\xff\xfe{", "UTF-8|not a complete"),
    ],
    ids=["pointer", "empty", "not UTF-8"],
)
def test_an_unreadable_file_is_named(tiny_model, tmp_path, name, content, why):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    (folder / name).write_bytes(content)
    _refused(folder, rf"{name} of other.*({why})")


@pytest.mark.parametrize("name", READ[:5])
@pytest.mark.parametrize("content", ['{"a": 1', "[1]", '{"a": 1, "a": 2}'], ids=["cut", "a list", "a key twice"])
def test_json_that_is_not_an_object_or_repeats_a_key_is_named(tiny_model, tmp_path, name, content):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    (folder / name).write_text(content)
    if name == "tokenizer.json" and content.count('"a"') == 2:
        return _refused(folder, "other")  # its own library says what is wrong
    _refused(folder, rf"{name} of other.*(not JSON|a list where an object|is repeated)")


def test_a_large_truncated_vocabulary_is_named_after_its_library_failed(tiny_model, tmp_path, monkeypatch):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    content = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text(content[: len(content) // 2])
    monkeypatch.setattr(checkpoint_files, "LARGE", 100)
    checkpoint_files.check(folder)
    _refused(folder, "tokenizer.json of other.*not JSON")


def test_truncated_weights_are_named(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    whole = (folder / "model.safetensors").read_bytes()
    for size in (5, 100, len(whole) // 2, len(whole) - 1):
        (folder / "model.safetensors").write_bytes(whole[:size])
        _refused(folder, rf"model.safetensors of other.*{size:,} bytes")


def test_shards_load_as_one_file_does(tiny_model, tmp_path):
    folder = altered.sharded(tiny_model.id, tmp_path / "other")
    one, several = (dict(models.load(Model(id=str(at))).model.named_parameters()) for at in (tiny_model.id, folder))
    assert one.keys() == several.keys() and all(torch.equal(one[name], several[name]) for name in one)


def test_missing_truncated_or_unlisted_shards_are_named(tiny_model, tmp_path):
    folder = altered.sharded(tiny_model.id, tmp_path / "other")
    index, second = folder / "model.safetensors.index.json", folder / "model-00002-of-00003.safetensors"
    content, whole = json.loads(index.read_text()), second.read_bytes()
    second.write_bytes(whole[:1000])
    _refused(folder, "model-00002-of-00003.safetensors of other.*1,000 bytes")
    second.unlink()
    _refused(folder, "1 of 3 are not: model-00002-of-00003.safetensors")
    second.write_bytes(whole)
    for wrong in ({}, {"weight_map": {}}, {"weight_map": {"a": 1}}):
        index.write_text(json.dumps(wrong))
        _refused(folder, "index.json of other.*no weight_map")
    kept = {name: file for name, file in content["weight_map"].items() if "-00003-" not in file}
    index.write_text(json.dumps({"weight_map": kept}))
    _refused(folder, "index.json of other.*no metadata")
    index.write_text(json.dumps(content | {"weight_map": kept}))
    _refused(folder, "are missing from the files")
    index.write_text(json.dumps(content | {"weight_map": {"a": "../elsewhere.safetensors"}}))
    _refused(folder, "elsewhere.safetensors")
    index.unlink()
    _refused(folder, "other has model-00001")
    index.write_text(json.dumps(content))
    shutil.copy(second, folder / "model.safetensors")
    _refused(folder, "its weights once, but other has model.safetensors and")


def test_a_pickle_is_not_read(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    _refused(folder, "a pickle can run code.*has pytorch_model.bin.*safe_serialization")
    (folder / "pytorch_model.bin").unlink()
    _refused(folder, "has no weights at all")


def test_a_folder_without_a_checkpoint_is_named(tmp_path):
    _refused(tmp_path, "cannot be loaded: it holds nothing, and no config.json")
    (tmp_path / "scans").mkdir()
    (tmp_path / "table.csv").write_text("a")
    _refused(tmp_path, "it holds scans, table.csv, and no config.json")


@pytest.mark.parametrize("kind", ["qwen9_vl", None, 3, ["qwen2_vl"]])
def test_a_model_that_transformers_does_not_have_is_named(tiny_model, tmp_path, kind):
    _refused(altered.copy(tiny_model.id, tmp_path / "other", config={"model_type": kind}), "config.json must name")


def test_a_checkpoints_code_is_never_run(tiny_model, tmp_path):
    brings = {"auto_map": {"AutoConfig": "code.Settings", "AutoModelForImageTextToText": "code.Net"}}
    folder = altered.copy(tiny_model.id, tmp_path / "other", config=brings)
    (folder / "code.py").write_text("raise SystemExit('it ran')")
    with pytest.warns(UserWarning, match="other brings its own code .auto_map in config.json., which is not run"):
        models.load(Model(id=str(folder)))
    altered.change(folder / "config.json", model_type="made_up")
    _refused(folder, "'made_up'. The checkpoint brings its own code .auto_map., which medstudy never runs")


def test_an_image_processor_of_another_release_is_named(tiny_model, tmp_path):
    folder = altered.images(tiny_model.id, tmp_path / "other", image_processor_type="Qwen2_5_VLImageProcessor")
    _refused(folder, "processor_config.json must name.*'Qwen2_5_VLImageProcessor'.*Qwen2VLImageProcessor for all")


def test_a_sketch_needs_no_weights_and_reads_the_rest(tiny_model, tmp_path):
    folder = altered.copy(tiny_model.id, tmp_path / "other")
    (folder / "model.safetensors").unlink()
    models.sketch(Model(id=str(folder)))
    (folder / "processor_config.json").write_text(altered.POINTER)
    with pytest.raises(ModelError, match="processor_config.json of other is a Git LFS pointer"):
        models.sketch(Model(id=str(folder)))


def test_a_tensor_in_two_shards_is_named(tiny_model, tmp_path):
    """transformers would use the last one that it reads."""
    folder = altered.sharded(tiny_model.id, tmp_path / "other")
    first, third = (folder / f"model-0000{part}-of-00003.safetensors" for part in (1, 3))
    twice = sorted(load_file(first))[0]
    save_file(load_file(third) | {twice: load_file(first)[twice] * 2}, third, metadata={"format": "pt"})
    _refused(folder, f"1 of {third.name} are also in another shard .{twice}")


@pytest.mark.parametrize("entry", [{"quant_method": "fp8"}, {"quant_method": "awq", "bits": 4}, {"bits": 4}])
def test_quantised_weights_are_refused_by_name(tiny_model, tmp_path, entry):
    folder = altered.copy(tiny_model.id, tmp_path / "other", config={"quantization_config": entry})
    _refused(folder, "has a quantization_config, as for quantised ones")


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.float8_e4m3fn])
def test_weights_of_8_bits_are_refused_by_name(tiny_model, tmp_path, dtype):
    """Without their scales they would be read as the weights themselves."""
    def packed(tensors):
        return {name: tensor.to(dtype) if "down_proj" in name else tensor for name, tensor in tensors.items()}

    folder = altered.weights(tiny_model.id, tmp_path / "other", packed)
    _refused(folder, r"2 tensors in model.safetensors of other have at most 8 bits.*down_proj")

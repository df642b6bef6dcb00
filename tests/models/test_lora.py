"""Adapters match their model exactly, or are refused with the tensors' names."""

from __future__ import annotations

import json
import shutil
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

from medstudy import models
from medstudy.errors import ModelError
from medstudy.models import loading, lora
from medstudy.models import weights as model_weights
from medstudy.params import Lora, Model
from tests.support import altered
from tests.support.families import FAMILIES

FILE = "adapter_model.safetensors"
weights = partial(altered.weights, file=FILE)
OLDER = {
    # family: what its names begin with today, and began with before transformers 4.52
    "qwen2_vl": ("model.language_model.layers.", "model.layers."),
    "qwen2_5_vl": ("model.language_model.layers.", "model.layers."),
    "llava_onevision": ("model.language_model.", "language_model.model."),
    "internvl": ("model.language_model.", "language_model.model."),
    "gemma3": ("model.language_model.", "language_model.model."),
}


def _saved(folder, target, name="qwen2_vl", rank=2):
    """Saved adapters, each of which changes its matrix."""
    family = models.load(Model(id=str(folder), family=name))
    adapter = lora.add(family, Lora(rank=rank))
    torch.manual_seed(0)
    for key, parameter in adapter.named_parameters():
        if "lora_B" in key:
            torch.nn.init.normal_(parameter, std=0.1)
    adapter.save_pretrained(target)
    altered.change(target / "adapter_config.json", base_model_name_or_path=str(folder))
    (target / "README.md").unlink()
    return target


@pytest.fixture(scope="module")
def saved(checkpoints, tmp_path_factory):
    return _saved(checkpoints["qwen2_vl"], tmp_path_factory.mktemp("adapters") / "adapter")


def _state(folder, name="qwen2_vl"):
    return dict(models.load(Model(id=str(folder), family=name)).model.named_parameters())


def _refused(folder, match):
    with pytest.raises(ModelError, match=match):
        models.load(Model(id=str(folder)))


@pytest.mark.parametrize("name", FAMILIES)
def test_adapters_change_their_matrices_and_nothing_else(checkpoints, tmp_path, name):
    folder = _saved(checkpoints[name], tmp_path / "adapter", name)
    before, after = _state(checkpoints[name], name), _state(folder, name)
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    stand = {key.removeprefix(lora.PREFIX).rsplit(".lora_", 1)[0] for key in load_file(folder / FILE)}
    assert changed == {f"{one}.weight" for one in stand} and len(changed) > 13


@pytest.mark.parametrize("name", OLDER)
def test_older_names_are_read_as_todays_with_a_warning(checkpoints, tmp_path, name):
    folder = _saved(checkpoints[name], tmp_path / "adapter", name)
    now, before = (lora.PREFIX + one for one in OLDER[name])
    older = weights(folder, tmp_path / "older", lambda all_: {k.replace(now, before): v for k, v in all_.items()})
    count = len(load_file(older / FILE))
    assert not any(key.startswith(now) for key in load_file(older / FILE))
    with pytest.warns(UserWarning, match=f"{count} of {count} adapters in older have names as before"):
        read = _state(older, name)
    assert all(torch.equal(one, read[key]) for key, one in _state(folder, name).items())


def _double(tensors):
    first = sorted(tensors)[0]
    return tensors | {first.replace("model.language_model.layers", "model.layers"): tensors[first].clone()}


NO_PLACE = "tensors have no place"
WRONG = {
    # title: a change of the tensors, the error
    "a third of it": (lambda all_: {k: v for k, v in all_.items() if "layers.0." in k}, "14 of .* 28 are missing"),
    "nothing in it": (lambda all_: {}, "holds no tensors"),
    "one more": (lambda all_: all_ | {"base_model.model.head.lora_A.weight": torch.ones(2)}, f"1 of 29 {NO_PLACE}"),
    "DDP": (lambda all_: {f"module.{k}": v for k, v in all_.items()}, f"28 of 28 {NO_PLACE}"),
    "the adapter's name in it": (
        lambda all_: {k.replace("lora_A.", "lora_A.default."): v for k, v in all_.items()}, f"14 of 28 {NO_PLACE}",
    ),
    "another rank": (lambda all_: {k: v[:1] if "lora_A" in k else v for k, v in all_.items()}, "14 have another shape"),
    "one name twice": (_double, "under today's name and an older one"),
    "no numbers": (lambda all_: {k: v / 0 for k, v in all_.items()}, "28 hold NaN or infinity"),
}


@pytest.mark.parametrize("title", WRONG)
def test_adapters_that_do_not_match_are_refused(saved, tmp_path, title):
    change, said = WRONG[title]
    _refused(weights(saved, tmp_path / "other", change), said)


def test_adapters_of_another_model_are_refused(saved, checkpoints, tmp_path):
    folder = altered.copy(saved, tmp_path / "other")
    altered.change(folder / "adapter_config.json", base_model_name_or_path=str(checkpoints["qwen2_5_vl"]))
    with pytest.raises(ModelError, match="are missing .*have another shape"):
        models.load(Model(id=str(folder), family="qwen2_5_vl"))
    altered.change(folder / "adapter_config.json", base_model_name_or_path=str(checkpoints["idefics3"]))
    with pytest.raises(ModelError, match="must name places for adapters"):
        models.load(Model(id=str(folder), family="idefics3"))


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ({"target_modules": ["Wqkv"]}, "must name places for adapters.*Wqkv"),
        ({"target_modules": r"model\.layers\..*q_proj"}, "must name places for adapters"),
        ({"target_modules": ["q_proj", "v_proj"]}, "have no place"),
        ({"target_modules": ["qkv", "q_proj", "v_proj"]}, "are missing"),
        ({"r": 4}, "have another shape"),
        ({"peft_type": "LURA"}, "must name places for adapters"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3}, "must name places|cannot be merged"),
        ({"base_model_name_or_path": 3}, "base_model_name_or_path is 3"),
    ],
    ids=str,
)
def test_a_configuration_of_other_adapters_is_refused(saved, tmp_path, entries, said):
    folder = altered.copy(saved, tmp_path / "other")
    altered.change(folder / "adapter_config.json", **entries)
    _refused(folder, said)


def test_damaged_files_of_adapters_are_named(saved, tmp_path):
    folder = altered.copy(saved, tmp_path / "other")
    whole, config = (folder / FILE).read_bytes(), (folder / "adapter_config.json").read_bytes()
    (folder / FILE).write_text(altered.POINTER)
    _refused(folder, "adapter_model.safetensors of other is a Git LFS pointer")
    (folder / FILE).write_bytes(whole[: len(whole) // 2])
    _refused(folder, "adapter_model.safetensors of other.*not a complete safetensors file")
    (folder / FILE).rename(folder / "adapter_model.bin")
    _refused(folder, "a pickle can run code.*has adapter_model.bin")
    (folder / "adapter_model.bin").unlink()
    _refused(folder, "has none")
    (folder / FILE).write_bytes(whole)
    (folder / "adapter_config.json").write_bytes(config[:50])
    _refused(folder, "adapter_config.json of other.*not JSON")


def test_adapters_trained_on_other_weights_of_the_same_shape_cause_a_warning(saved, tmp_path):
    folder = altered.copy(saved, tmp_path / "other")
    base = models.load(Model(id=json.loads((saved / "adapter_config.json").read_text())["base_model_name_or_path"]))
    stamp = {"policy": {"policy": "fixed", "side": 84, "mode": "budget"}, "started_from": "sha256:0123"}
    (folder / "medstudy.json").write_text(json.dumps(stamp))
    with pytest.warns(UserWarning, match="trained on the weights sha256:0123, but are merged into sha256"):
        loading.adapted(base, folder)


def test_adapters_on_the_hub_are_not_loaded_unchecked(saved, monkeypatch, tmp_path):
    """For a hub id of adapters transformers would load the base and the adapters together."""
    folder = shutil.copytree(saved, tmp_path / "other")
    with pytest.raises(ModelError, match="Adapters are loaded from a folder"):
        model_weights.load(str(folder), torch.float32)

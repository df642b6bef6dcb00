"""Weights are complete and all used, or the checkpoint is refused with the tensors' names."""

from __future__ import annotations

import json
import re
from functools import partial
from logging import StreamHandler
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText

from medstudy import models
from medstudy.errors import ModelError
from medstudy.params import Model
from medstudy.training import checkpoints
from tests.support import altered
from tests.support.families import FAMILIES


def _refused(folder, match, family="qwen2_vl"):
    with pytest.raises(ModelError, match=match):
        models.load(Model(id=str(folder), family=family))


def _layer(tensors: dict) -> set[str]:
    return {name for name in tensors if "layers.1." in name and "vision" not in name and "visual" not in name}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_missing_layer_a_strange_tensor_and_another_shape_are_named(checkpoints, tmp_path, name):
    made = {}

    def changed(tensors):
        lost = _layer(tensors)
        made["lost"] = len(lost)
        short = next(one for one in sorted(tensors) if "layers.0." in one and "down_proj" in one)
        kept = {one: tensor for one, tensor in tensors.items() if one not in lost}
        return kept | {"extra_head.weight": torch.zeros(2, 2), short: tensors[short][:-1].clone()}

    folder = altered.weights(checkpoints[name], tmp_path / "other", changed)
    with pytest.raises(ModelError) as raised:
        models.load(Model(id=str(folder), family=name))
    text = str(raised.value)
    assert made["lost"] > 5 and f"{made['lost']} are missing from the files" in text
    assert f"and {made['lost'] - 5} more" in text and "1 do not belong to the model (extra_head.weight)" in text
    assert "1 have another shape" in text and re.search(r"down_proj.weight is \[63, \d+\] in the file and \[64,", text)


@pytest.mark.parametrize("name", FAMILIES)
def test_loading_reports_what_transformers_silently_accepts(checkpoints, tmp_path, name):
    """from_pretrained accepts the same folder without an error, and fills in random numbers."""
    folder = altered.weights(
        checkpoints[name], tmp_path / "other", lambda all_: {k: v for k, v in all_.items() if k not in _layer(all_)}
    )
    AutoModelForImageTextToText.from_pretrained(folder)
    _refused(folder, "are missing", name)


@pytest.mark.parametrize(
    ("prefix", "said"),
    [("module.", "DistributedDataParallel"), ("_orig_mod.", "torch.compile"), ("base_model.model.", "peft"),
     ("other.", "Fetch the checkpoint again")],
)
def test_a_prefix_that_another_program_wrote_is_explained(tiny_model, tmp_path, prefix, said):
    def renamed(tensors):
        return {prefix + name: tensor for name, tensor in tensors.items()}

    _refused(altered.weights(tiny_model.id, tmp_path / "other", renamed), f"do not belong to the model.*{said}")


def test_a_resized_vocabulary_and_adapters_in_the_weights_are_explained(tiny_model, tmp_path):
    text = json.loads((Path(tiny_model.id) / "config.json").read_text())["text_config"]
    resized = {"text_config": text | {"vocab_size": text["vocab_size"] + 64}}
    _refused(altered.copy(tiny_model.id, tmp_path / "one", config=resized), "embed_tokens.weight is .*vocab_size")

    def unmerged(tensors):
        return tensors | {"model.layers.0.self_attn.q_proj.lora_A.weight": torch.zeros(2, 64)}

    _refused(altered.weights(tiny_model.id, tmp_path / "two", unmerged), "adapters that were not merged")


def test_tied_tensors_are_not_missing_and_must_be_equal(tiny_model, tmp_path):
    def with_head(tensors, change: float):
        name = next(one for one in tensors if one.endswith("embed_tokens.weight"))
        return tensors | {"lm_head.weight": tensors[name] + change}

    text = json.loads((Path(tiny_model.id) / "config.json").read_text())["text_config"]
    untied = {"tie_word_embeddings": False, "text_config": text | {"tie_word_embeddings": False}}
    folder = altered.copy(tiny_model.id, tmp_path / "untied", config=untied)
    _refused(folder, "1 are missing from the files .lm_head.weight")
    folder = altered.weights(tiny_model.id, tmp_path / "two", partial(with_head, change=1.0))
    _refused(folder, "sets tie_word_embeddings, but .* lm_head.weight")
    folder = altered.weights(tiny_model.id, tmp_path / "same", partial(with_head, change=0.0))
    model = models.load(Model(id=str(folder))).model
    assert model.lm_head.weight is model.get_input_embeddings().weight


def test_weights_that_are_not_finite_are_refused(tiny_model, tmp_path):
    def broken(tensors):
        name = sorted(tensors)[3]
        return tensors | {name: tensors[name].clone().index_fill_(0, torch.tensor([0]), float("nan"))}

    _refused(altered.weights(tiny_model.id, tmp_path / "other", broken), "1 tensors of .*other.* hold NaN or infinity")


def test_a_studys_own_checkpoint_is_checked_in_the_same_way(tiny_model, tmp_path):
    checkpoints.save(models.load(tiny_model), tmp_path / "whole", {})
    models.load(tiny_model, tmp_path / "whole")
    folder = altered.weights(
        tmp_path / "whole", tmp_path / "other", lambda all_: {k: v for k, v in all_.items() if k not in _layer(all_)}
    )
    with pytest.raises(ModelError, match="are missing"):
        models.load(tiny_model, folder)


def test_files_of_weights_are_read_once(tiny_model, monkeypatch):
    """The check uses transformers' loading information and does not read the tensors again."""
    from safetensors import torch as safetensors_torch
    from transformers import modeling_utils

    opened = []
    real = modeling_utils.safe_open
    monkeypatch.setattr(modeling_utils, "safe_open", lambda *a, **k: opened.append(a) or real(*a, **k))
    monkeypatch.setattr(safetensors_torch, "load_file", None)
    models.load(tiny_model)
    assert len(opened) == 1


def test_loading_a_complete_model_does_not_warn(tiny_model):
    """Not even of layers "not sharded", which transformers reports at a higher level of its logger."""
    from transformers.utils import logging

    said = []
    handler = StreamHandler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.get_logger("transformers")
    logger.addHandler(handler)
    try:
        models.load(tiny_model)
    finally:
        logger.removeHandler(handler)
    assert said == []


@pytest.mark.parametrize("part", ["text_config", "vision_config"])
def test_a_model_far_larger_than_its_weights_takes_no_memory(tiny_model, tmp_path, monkeypatch, part):
    """The class fills in what config.json omits; transformers would allocate billions of numbers."""
    folder = altered.copy(tiny_model.id, tmp_path / "other", config={part: {}})
    monkeypatch.setattr(AutoModelForImageTextToText, "from_pretrained", None)
    _refused(folder, r"describes a model of [\d,]{11,} numbers, but its weights have \d{3},\d{3}\. The")


@pytest.mark.parametrize("sections", ["a", [8, 8], [2, 6, 9], [2.0, 6.0, 8.0], [2, 6, 4, 4], None])
def test_sections_of_a_head_that_do_not_fit_it_are_refused(tiny_model, tmp_path, sections):
    text = json.loads((Path(tiny_model.id) / "config.json").read_text())["text_config"]
    text["rope_parameters"] |= {"mrope_section": sections}
    folder = altered.copy(tiny_model.id, tmp_path / "other", config={"text_config": text})
    _refused(folder, "mrope_section.*sum to .*16")


@pytest.mark.parametrize(
    ("name", "entry"), [("qwen2_5_vl", "fullatt_block_indexes"), ("qwen3_vl", "deepstack_visual_indexes")]
)
def test_blocks_that_the_tower_does_not_have_are_refused(checkpoints, tmp_path, name, entry):
    vision = json.loads((Path(checkpoints[name]) / "config.json").read_text())["vision_config"]
    vision[entry] = [*vision[entry][:-1], 31]
    folder = altered.copy(checkpoints[name], tmp_path / "other", config={"vision_config": vision})
    _refused(folder, f"{entry}.*31", name)

"""A checkpoint is whole or absent, states its training, and loads in other libraries."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from huggingface_hub import ModelCard
from transformers import AutoModelForImageTextToText, AutoProcessor

from medstudy import models, paths
from medstudy import params as study_params
from medstudy.datasets.build import build
from medstudy.errors import ModelError
from medstudy.models.stamp import policy_of, resolution_note
from medstudy.params import Lora, Model, Optimisation
from medstudy.resolution import describe
from medstudy.resolution.policies import Add, Curriculum, Fixed, Mixed, Native
from medstudy.runs import plan
from medstudy.training import checkpoints, model_card, setup, train
from tests.support.studies import write_study

OPTIONS = Optimisation(epochs=1, learning_rate=1e-3)
STAMP = {"regime": "fixed-84", "policy": Fixed(side=84).model_dump(), "seed": 0}


def _trained(root: Path, model: str, **changes):
    """A study's first training of its regime fixed-84, and the study."""
    root.mkdir(exist_ok=True)
    small = {
        "datasets": [{"name": "phantom", "train": 4, "val": 2, "test": 2, "seed": 1}], "model": {"id": model},
        "training": {"epochs": 1, "images_per_step": 2, "learning_rate": 1e-3, "validations": 1} | changes,
    }
    study = study_params.load(write_study(root, **small))
    data, job = (plan.job(study, name) for name in ("data-phantom", "train-fixed-84-s0"))
    build(study.datasets[0], data.dir)
    data.record.write_text("{}")
    job.dir.mkdir()
    train.train(study, job, progress=False)
    return study, job


@pytest.fixture(scope="module")
def trained(tiny_model, tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("study"), tiny_model.id)


@pytest.fixture(scope="module")
def adapted(tiny_model, tmp_path_factory):
    return _trained(tmp_path_factory.mktemp("adapted"), tiny_model.id, lora={"rank": 2})


def test_the_card_says_what_was_shown_and_how_it_was_trained(trained):
    study, job = trained
    card = ModelCard.load(job.dir / "checkpoint" / "README.md")
    about = card.data.to_dict()
    assert about["library_name"] == "transformers" and about["pipeline_tag"] == "image-text-to-text"
    assert about["license"] == "unknown" and "base_model" not in about and "datasets" not in about
    assert {"medical", "medstudy", "qwen2_vl", "fixed-84"} <= set(about["tags"])
    ledger = pd.read_parquet(job.dir / "ledger.parquet")
    largest = ledger.loc[(ledger["shown_height"] * ledger["shown_width"]).idxmax()]
    log = pd.read_parquet(job.dir / "training.parquet").iloc[-1]
    questions = pd.read_parquet(plan.job(study, "data-phantom").dir / "questions.parquet")
    counted = questions[questions["split"] == "train"]
    for said in (
        "at most 84 × 84 pixels (aspect kept)",
        f"| {largest['shown_height']} × {largest['shown_width']} |",
        f"| {ledger['visual_tokens'].median():.0f} | {ledger['visual_tokens'].max()} |",
        f"| phantom | train | {counted['image_id'].nunique()} | {len(counted)} |",
        "seed 0", f"{log['loss']:.4g} nats", "learning_rate: 0.001", "python -m medstudy run tiny.yaml",
        "float32", "not a medical device", "Other resolutions than the above",
    ):
        assert said in card.text, said


def test_the_card_of_adapters_names_its_base_and_its_public_data(adapted, examples):
    study, job = adapted
    assert ModelCard.load(job.dir / "checkpoint" / "README.md").data.library_name == "peft"
    asked = {"model": {"id": "Qwen/Qwen2-VL-2B-Instruct"}, "datasets": [{"name": "vqa_rad"}]}
    public = study_params.parse(study.model_dump(mode="json") | asked)
    stamp = json.loads((job.dir / "checkpoint" / "medstudy.json").read_text())
    frames = [pd.read_parquet(job.dir / f"{name}.parquet") for name in ("ledger", "training")]
    about = model_card.card(public, stamp, {"train": examples}, *frames, adapters=True).data.to_dict()
    assert about["base_model"] == "Qwen/Qwen2-VL-2B-Instruct"
    assert about["datasets"] == ["flaviagiammarino/vqa-rad"] and "lora" in about["tags"]


@pytest.mark.parametrize("kind", ["trained", "adapted"])
def test_no_file_of_a_checkpoint_contains_a_local_path(kind, request, tiny_model):
    study, job = request.getfixturevalue(kind)
    files = [file for file in (job.dir / "checkpoint").iterdir() if file.suffix != ".safetensors"]
    assert {"README.md", "medstudy.json"} < {file.name for file in files}
    for file in files:
        text = file.read_text(encoding="utf-8")
        for place in (study.root, tiny_model.id, paths.ROOT, Path.home(), job.dir):
            assert f"{place}/" not in text and f'"{place}"' not in text, (file, place)


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        (Native(max_pixels=10**6), "at most 1,000,000 pixels"),
        (Fixed(side=84, mode="pad"), "84 × 84 pixels (aspect kept, on a square canvas)"),
        (Mixed(choices=(Fixed(side=84), Fixed(side=56))), "drawn for every sample: at most 84"),
        (Add(native=Native(max_pixels=10**6), variants=(Fixed(side=84),)), "again at at most 84"),
        (Curriculum(stages=(Fixed(side=56), Fixed(side=84))), "in turn"),
    ],
)
def test_every_policy_has_a_description_and_is_read_back_from_a_stamp(policy, said):
    assert said in describe.words(policy)
    stamp = json.loads(json.dumps({"policy": policy.model_dump()}))
    assert policy_of(stamp) == policy


def test_loading_a_checkpoint_reports_its_resolution(trained, tmp_path):
    folder = trained[1].dir / "checkpoint"
    with pytest.warns(UserWarning, match="checkpoint was trained by medstudy at this resolution: at most 84 × 84"):
        models.load(Model(id=str(folder)))
    with pytest.warns(UserWarning, match="native, fixed-112: another resolution"):
        models.load(Model(id=str(folder)), shown=["native", "fixed-84", "fixed-112"])
    assert "another" not in resolution_note(str(folder), ["fixed-84"])


@pytest.mark.parametrize("content", [None, "{", "[]", "{}", '{"policy": {"policy": "new"}}'])
def test_other_checkpoints_say_nothing(tmp_path, content):
    if content is not None:
        (tmp_path / "medstudy.json").write_text(content)
    assert resolution_note(str(tmp_path)) is None


def test_other_libraries_load_it(trained, adapted, tiny_model):
    from peft import PeftModel

    folder = trained[1].dir / "checkpoint"
    AutoProcessor.from_pretrained(folder)
    loaded = AutoModelForImageTextToText.from_pretrained(folder)
    ours = models.load(tiny_model, folder).model
    assert all(torch.equal(*pair) for pair in zip(loaded.parameters(), ours.parameters(), strict=True))
    base = AutoModelForImageTextToText.from_pretrained(tiny_model.id)
    PeftModel.from_pretrained(base, adapted[1].dir / "checkpoint")


@pytest.mark.parametrize("fault", ["error", "kill"])
def test_an_interrupted_save_leaves_no_checkpoint(tiny_model, tmp_path, monkeypatch, fault):
    family = models.load(tiny_model)
    folder = tmp_path / "checkpoint"

    def stop(*_, **__):
        assert list(tmp_path.glob(".checkpoint*/*.safetensors"))  # interrupted midway: the weights are written
        if fault == "kill":
            os._exit(9)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(family.processor), "save_pretrained", stop)
    child = os.fork() if fault == "kill" else 0
    if child:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    else:
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(family, folder, STAMP)
    assert not folder.exists()
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.load(tiny_model, folder)


def test_a_save_that_fails_leaves_the_one_before(tiny_model, tmp_path, monkeypatch):
    family = models.load(tiny_model)
    checkpoints.save(family, tmp_path / "checkpoint", STAMP)
    monkeypatch.setattr(json, "dumps", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        checkpoints.save(family, tmp_path / "checkpoint", STAMP)
    monkeypatch.undo()
    assert models.load(tiny_model, tmp_path / "checkpoint").revision == models.load(tiny_model).revision
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


def test_float32_weights_are_saved_in_the_models_own_type(tiny_model, examples, tmp_path):
    family = models.load(tiny_model.model_copy(update={"dtype": "bfloat16"}))
    setup.prepare(family, OPTIONS)
    assert {p.dtype for p in family.model.parameters()} == {torch.float32}
    checkpoints.save(family, tmp_path / "checkpoint", STAMP)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path / "checkpoint")
    assert loaded.dtype == torch.bfloat16 and loaded.lm_head.weight is loaded.get_input_embeddings().weight
    pairs = zip(family.model.parameters(), loaded.parameters(), strict=True)
    assert all(torch.equal(ours.bfloat16(), theirs) for ours, theirs in pairs)


def test_adapters_that_name_their_model_load_as_a_model(adapted, tiny_model, tmp_path):
    made = adapted[1].dir / "checkpoint"
    nameless = pytest.raises(ModelError, match="must name their model")
    with pytest.warns(UserWarning, match="trained by medstudy"), nameless:
        models.load(Model(id=str(made)))
    folder = Path(shutil.copytree(made, tmp_path / "adapters"))
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": tiny_model.id}))
    with pytest.warns(UserWarning, match="trained by medstudy"):
        loaded = models.load(Model(id=str(folder)))
    ours = models.load(tiny_model, made)
    assert loaded.revision == ours.revision
    assert all(torch.equal(*pair) for pair in zip(loaded.model.parameters(), ours.model.parameters(), strict=True))
    assert models.sketch(Model(id=str(folder))).shape == ours.shape
    twice = models.load(Model(id=str(folder)), made)  # as a study loads adapters trained on top of these
    name = "model.language_model.layers.0.mlp.up_proj.weight"
    families = models.load(tiny_model), ours, twice
    start, once, both = (dict(family.model.named_parameters())[name] for family in families)
    torch.testing.assert_close(both - once, once - start, rtol=0, atol=1e-7)
    assert not torch.equal(once, start)


def test_adapters_are_saved_in_float32(tiny_model, tmp_path):
    from safetensors.torch import load_file

    family = models.load(tiny_model.model_copy(update={"dtype": "bfloat16"}))
    adapter = setup.prepare(family, OPTIONS.model_copy(update={"lora": Lora(rank=2)}))
    checkpoints.save(family, tmp_path / "checkpoint", STAMP, adapter)
    kept = load_file(tmp_path / "checkpoint" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in kept.values()} == {torch.float32}


def test_adapters_depend_on_their_seed_alone(tiny_model, tmp_path):
    """Not on numbers drawn earlier in this process: a notebook may train several models."""
    drawn = []
    for number in range(2):
        torch.rand(number)
        study, job = _trained(tmp_path / str(number), tiny_model.id, lora={"rank": 2})
        drawn.append((job.dir / "checkpoint" / "adapter_model.safetensors").read_bytes())
    assert drawn[0] == drawn[1]


def test_a_missing_licence_is_reported_as_unknown(trained, examples):
    text = model_card._data(trained[0], {"train": [replace(examples[0], license="")]})
    assert text.endswith("| made | train | 1 | 3 | unknown |")

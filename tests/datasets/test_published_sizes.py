"""Estimates without the data or the models: published counts and published sizes."""

from __future__ import annotations

import warnings
from dataclasses import replace

import pytest
import yaml

from medstudy import models, params, paths
from medstudy.cli import main
from medstudy.costs import estimate, workload
from medstudy.datasets import published_sizes
from medstudy.datasets.paper import vqa_rad
from medstudy.errors import ModelError
from medstudy.models import published_configs, summary
from medstudy.params import Model
from medstudy.runs import stages

# weights in 10^9: "2B" and "7B" on the cards with their towers, LLaVA's "0.9B", and half the bytes of InternVL's files
WEIGHTS = {
    "Qwen/Qwen2-VL-2B-Instruct": 2.21, "Qwen/Qwen2-VL-7B-Instruct": 8.29,
    "llava-hf/llava-onevision-qwen2-0.5b-ov-hf": 0.89, "InternVL2_5-4B-hf": 3.71,
}


@pytest.mark.parametrize("name", published_configs.CONFIGS)
def test_published_sizes_are_those_of_the_checkpoints(name):
    sketch = models.sketch(Model(id=name, family=published_configs.CONFIGS[name][0], dtype="bfloat16"))
    assert sketch.revision == "published sizes"
    assert sum(summary.weights(sketch).values()) / 1e9 == pytest.approx(WEIGHTS[name], abs=0.01)


def test_a_folder_of_a_published_name_is_as_good_and_another_is_not():
    assert models.sketch(Model(id="made/InternVL2_5-4B-hf", family="internvl")).revision == "published sizes"
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.sketch(Model(id="./nowhere", family="internvl"))


def test_as_many_examples_as_are_published_less_what_the_params_leave_out():
    whole = vqa_rad.Params(val_share=0.25)
    assert published_sizes.is_missing(whole) and not published_sizes.is_missing(vqa_rad.Params(path="tests"))
    assert [published_sizes.counts(whole, split)[1] for split in ("train", "val", "test")] == [1345, 448, 451]
    some = vqa_rad.Params(test=10)
    made = published_sizes.examples(some, "test")
    assert len(made) == 10 == len({one.image_id for one in made})
    assert {one.image for one in made} == {vqa_rad.CARD.typical}
    assert sum(len(one.questions) for one in made) == published_sizes.counts(some, "test")[1] >= 10


def test_what_nobody_published_is_not_counted_and_said(monkeypatch):
    monkeypatch.setattr(vqa_rad, "CARD", replace(vqa_rad.CARD, images={}, questions={"train": 10}))
    assert published_sizes.examples(vqa_rad.Params(), "test") == [] != published_sizes.examples(vqa_rad.Params(),
    "train")
    assert "; test NOT COUNTED" in published_sizes.origin(vqa_rad.Params())
    assert "NOT" not in published_sizes.origin(vqa_rad.Params(test=7))
    assert published_sizes.counts(vqa_rad.Params(test=7), "test") == (7, 7)


def test_a_study_of_which_nothing_is_here_is_estimated_for_the_device_that_it_states():
    content = {
        "study": "far", "datasets": [{"name": "vqa_rad", "train": 30, "val": 5, "test": 20}], "tflops": 300.0,
        "models": [{"label": "two", "id": "Qwen/Qwen2-VL-2B-Instruct", "dtype": "bfloat16"},
                   {"label": "half", "id": "llava-hf/llava-onevision-qwen2-0.5b-ov-hf", "family": "llava_onevision"}],
        "regimes": [{"policy": "native", "max_pixels": 1_000_000}], "low": "native", "seeds": [0],
        "inference": [{"policy": "native", "max_pixels": 1_000_000}],
        "training": {"epochs": 1, "learning_rate": 1e-4, "lora": {"rank": 8}},
    }
    frame = estimate.estimate(params.parse(content))
    trained = frame[frame["stage"] == "train"].set_index("job")
    assert list(trained.index) == ["train-two-native-s0", "train-half-native-s0"]
    assert (trained["images"] == 30 + 4 * 5).all() and (trained["memory_mb"] > 1000).all()
    assert [about["device"] for about in frame.attrs["models"]] == ["stated"] * 2
    assert "not here" in frame.attrs["models"][0]["data"][0]["from"]


def test_the_papers_study_is_planned_whole_with_hours_memory_and_disk():
    """All of its data sets and models with a few images of each; none of them are on this machine."""
    content = yaml.safe_load((paths.ROOT / "params" / "paper.yaml").read_text())
    some = [one | {"train": 4, "val": 1, "test": 2} for one in content["datasets"]]
    frame = estimate.estimate(params.parse(content | {"datasets": some}))
    modelled = frame[frame["stage"].isin(["train", "evaluate"])]
    trained = 4 * len(content["seeds"])  # regimes and seeds, of each model
    assert len(frame) == 8 + 1 + 4 * (1 + trained + (1 + trained) + 3 + len(stages.FIGURES) + 2) + 1  # compare
    assert len(modelled) == 4 * (2 * trained + 1) and trained == 12
    assert (modelled[["seconds", "memory_mb", "flops"]] > 0).all(axis=None)
    assert (frame.loc[frame["stage"] == "train", "checkpoint_mb"] > 0).all()
    kept = modelled.set_index("job")["cache_mb"]  # two models of one family are shown the same images
    assert kept.filter(like="qwen2-vl-2b").sum() > 0 == kept.filter(like="qwen2-vl-7b").sum()
    native = modelled.set_index("job")["flops"]
    for label in ("qwen2-vl-2b", "internvl2_5-4b", "llava-ov-0_5b"):
        assert native[f"train-{label}-native-s0"] > native[f"train-{label}-fixed-224-s0"]
    origins = frame.attrs["models"][0]["data"]
    assert [one["dataset"] for one in origins] == [one["name"] for one in some]
    assert all("not here" in one["from"] for one in origins)


def test_a_dry_run_of_the_papers_study_warns_of_nothing(tmp_path, capsys):
    content = yaml.safe_load((paths.ROOT / "params" / "paper.yaml").read_text())
    some = [one | {"train": 4, "val": 1, "test": 2} for one in content["datasets"]]
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(content | {"datasets": some, "models": content["models"][:1]}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert main(["run", str(file), "--dry-run"]) == 0
    printed = capsys.readouterr()
    assert "jobs to make" in printed.out and "warn" not in (printed.out + printed.err).lower()


def test_models_share_the_examples_and_jobs_the_rungs(monkeypatch):
    """With two models, rungs and controls are counted once per model, and the examples are made once."""
    content = yaml.safe_load((paths.ROOT / "params" / "paper.yaml").read_text())
    some = [{"name": "vqa_rad", "train": 4, "val": 1, "test": 3}]
    made, counted = [], []
    examples, rung = estimate.examples, workload.Counter.evaluation
    monkeypatch.setattr(estimate, "examples", lambda *given: made.append(given) or examples(*given))
    monkeypatch.setattr(workload.Counter, "evaluation", lambda self, some, policies: counted.extend(policies) or rung(
        self, some, policies))
    estimate.estimate(params.parse(content | {"datasets": some, "models": content["models"][:2], "leakage": {}}))
    views = [*content["inference"], *content["controls"]["views"]]
    assert len(made) == 1 and len(counted) == 2 * len(views)


def test_groups_shared_out_anew_are_counted_by_their_shares():
    regrouped = vqa_rad.Params(split="group", test_share=0.2, val_share=0.1)
    counted = [published_sizes.counts(regrouped, split)[1] for split in ("train", "val", "test")]
    assert counted == pytest.approx([0.7 * (1793 + 451), 0.1 * (1793 + 451), 0.2 * (1793 + 451)], abs=1)
    assert "as many images as questions" in published_sizes.origin(regrouped)

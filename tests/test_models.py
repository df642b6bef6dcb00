"""The Qwen2-VL family: its numbers are the processor's, its prompt the author's, its limits ours."""

import numpy as np
import pytest
import torch

from medstudy import models
from medstudy.errors import ModelError
from medstudy.models.qwen2_vl import user_text
from medstudy.params import Model
from medstudy.records import Question
from medstudy.resolution import Size


def test_pixels_equal_the_processor(family):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in [(28, 28), (84, 112), (140, 56)]]
    ours = family.pixels(images, [Size(*image.shape[:2]) for image in images])
    theirs = family.processor.image_processor(
        images=images, size={"shortest_edge": 784, "longest_edge": 10**9}, return_tensors="pt"
    )
    assert ours["image_grid_thw"].tolist() == theirs["image_grid_thw"].tolist()
    torch.testing.assert_close(ours["pixel_values"], theirs["pixel_values"], atol=1e-5, rtol=0)


def test_an_image_of_another_size_than_planned_is_refused(family):
    with pytest.raises(ModelError, match="planned size"):
        family.pixels([np.zeros((84, 84, 3), np.uint8)], [Size(112, 112)])


def test_geometry(family):
    assert family.geometry == (28, 784)


def test_prompt_is_the_authors(family):
    question = Question("q", "Which stain is used?", "B", "choice", "stain", options=("H&E", "Pap"))
    assert user_text(question) == "Which stain is used?\nA. H&E\nB. Pap\nAnswer with a single letter, no extra details."
    assert family.prompt(question) == (
        "<|im_start|>system\nYou are a biomedical expert.<|im_end|>\n<|im_start|>user\n"
        "<|vision_start|><|image_pad|><|vision_end|>" + user_text(question) + "<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "vision" not in family.prompt(question, image=False)


def test_any_text_survives_the_tokenizer(family):
    text = "Größe 3×4 µm, naïve Überraschung – ok?"
    assert family.text(family.ids(text)) == text


@pytest.mark.parametrize("name", ["no/such/folder", "."])
def test_a_missing_checkpoint_is_a_clear_error(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.load(Model(id=name))


def test_the_revision_changes_with_the_weights(family, tiny_model, tmp_path):
    from medstudy.training import save

    before = family.revision
    parameter = next(family.model.parameters())
    with torch.no_grad():
        parameter[0] += 1
    save(family, tmp_path / "changed", {})
    with torch.no_grad():
        parameter[0] -= 1
    assert models.load(Model(id=str(tmp_path / "changed"))).revision != before

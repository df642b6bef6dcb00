"""A sketch is the loaded model without its weights."""

from __future__ import annotations

import pytest
import torch

from medstudy import models, paths
from medstudy.errors import ModelError
from medstudy.models import summary
from medstudy.params import Model
from medstudy.resolution.sizes import Size


@pytest.mark.parametrize("name", ["qwen2_vl", "qwen2_5_vl", "qwen3_vl"])
def test_a_sketch_is_the_loaded_model_without_its_weights(checkpoints, examples, name, tmp_path):
    asked = Model(id=str(checkpoints[name]), family=name)
    loaded, sketch = models.load(asked), models.sketch(asked)
    assert summary.weights(sketch) == summary.weights(loaded)
    assert {parameter.device.type for parameter in sketch.model.parameters()} == {"meta"}
    assert (sketch.shape, sketch.geometry, sketch.end) == (loaded.shape, loaded.geometry, loaded.end)
    question = examples[0].questions[0]
    assert sketch.ids(sketch.prompt(question)) == loaded.ids(loaded.prompt(question))
    assert torch.equal(sketch.grid(Size(96, 64)), loaded.grid(Size(96, 64)))
    pixels = torch.zeros((4 * loaded.geometry.factor, loaded.geometry.factor, 3), dtype=torch.uint8)
    made = loaded.features(loaded.patches(pixels), loaded.grid(Size(*pixels.shape[:2])))
    assert made.shape[1] == sketch.feature_width


def test_a_sketch_needs_no_weights_and_explains_what_it_needs(tiny_model, tmp_path):
    for file in paths.Path(tiny_model.id).iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    assert models.sketch(Model(id=str(tmp_path))).revision == "no weights"
    with pytest.raises(ModelError, match="cannot be loaded"):
        models.sketch(Model(id=str(tmp_path / "nothing")))
    with pytest.raises(ModelError, match="Family qwen2_5_vl needs its own"):
        models.sketch(Model(id=str(tmp_path), family="qwen2_5_vl"))

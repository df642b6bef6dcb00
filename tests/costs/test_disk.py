"""Predicted files are as large as the saved ones."""

from __future__ import annotations

from functools import partial

import pytest

from medstudy.costs import disk, memory, workload
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.training import loop
from medstudy.training import train as training_train
from medstudy.training.checkpoints import save
from tests.support.costs import LARGE, optimisation


@pytest.mark.parametrize("lora", [None, {"rank": 4}], ids=str)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_files_are_as_large_as_predicted(tiny_study, pictured, tmp_path, optimizer, lora):
    changes = {"optimizer": optimizer, "lora": lora, "checkpoint_seconds": 1, "epochs": 1}
    study = optimisation(tiny_study, **changes)
    family, adapter = workload.trainable(study, "cpu")
    save(family, tmp_path / "checkpoint", {}, adapter)
    files = list((tmp_path / "checkpoint").iterdir())
    (weights,) = (file.stat().st_size for file in files if file.suffix == ".safetensors")
    sketch = workload.trainable(study)[0]
    assert disk.weights(sketch.model, lora is not None) == pytest.approx(weights, rel=0.02)
    whole = sum(file.stat().st_size for file in files if file.name != "README.md")  # the card of peft
    assert disk.checkpoint(sketch, lora is not None) == pytest.approx(whole, rel=0.02, abs=2000)
    inputs = ImageInputs(family, "bicubic")
    steps = batches.FineTuning(inputs, pictured, LARGE, study.training, 0)
    often = study.training.model_copy(update={"checkpoint_seconds": 0})
    loop.fit(family.model, steps, None, often, 0, tmp_path, partial(training_train.loss_of, inputs))
    predicted = memory.trained(sketch.model) + memory.optimizer_states(sketch.model, study.training)
    names = sum(parameter.requires_grad for parameter in sketch.model.parameters())
    assert 0 < (tmp_path / "resume.pt").stat().st_size - predicted < 1500 * names

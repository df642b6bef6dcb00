"""Shared: a very small Qwen2-VL saved in the hub's format, and a few examples made on the spot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from medstudy import models
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Example, Question
from medstudy.params import Model
from medstudy.pretraining import tiny_qwen2_vl
from tests.support import families

torch.set_num_threads(1)
hypothesis.settings.register_profile("medstudy", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("medstudy")

LONGEST = ("test_workflow.py", "test_faults.py", "test_notebooks.py", "test_benchmarks.py")
TEXTS = ["Is there a dot?", "Where is the dot?", "Which colour is shown? A. red B. blue", "yes", "no", "upper left"]


def pytest_collection_modifyitems(items):
    """Files of whole runs come first, so that no core waits for one of them at the end."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory):
    """Params of an untrained Qwen2-VL with the family's geometry and a width of 64."""
    folder = tmp_path_factory.mktemp("model")
    tiny_qwen2_vl.build(TEXTS * 20, folder, 400, width=64, layers=2, vision_width=48, vision_layers=2)
    return Model(id=str(folder))


@pytest.fixture(scope="session")
def family(tiny_model):
    return models.load(tiny_model)


@pytest.fixture(scope="session")
def checkpoints(tiny_model, tmp_path_factory):
    """Folders of a very small checkpoint of every family."""
    made = {name: build(TEXTS * 20, tmp_path_factory.mktemp(name)) for name, build in families.BUILD.items()}
    return made | {"qwen2_vl": Path(tiny_model.id)}


def make_example(index: int, size: tuple[int, int], split: str = "train") -> Example:
    """A noise image of (height, width) with a closed, an open and a multiple-choice question."""
    pixels = np.random.default_rng([7, index]).integers(0, 256, (*size, 3), dtype=np.uint8)
    questions = (
        Question("dot", "Is there a dot?", "yes" if index % 2 else "no", "closed", "dot", detail_px=3.0),
        Question("where", "Where is the dot?", "upper left", "open", "dot", detail_px=3.0),
        Question("colour", "Which colour is shown?", "AB"[index % 2], "choice", "colour", options=("red", "blue")),
    )
    name = f"{split}-{index}"
    image = Image.fromarray(pixels)
    return Example(name, image, questions, "made", split, name, "made", "none", "none", True, "test", "CC0-1.0")


@pytest.fixture(scope="session")
def examples():
    return [make_example(index, size) for index, size in enumerate([(56, 84), (112, 112), (140, 196), (90, 60)])]


@pytest.fixture(scope="session")
def pictured(examples):
    """The examples as they come from a study's store: encoded, with an identity."""
    return [replace(one, image=Picture.of(one.image, one.image_id)) for one in examples]

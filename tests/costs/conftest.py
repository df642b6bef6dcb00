"""A tiny study whose costs are estimated."""

from __future__ import annotations

import pytest

from medstudy import params as study_params
from tests.support.studies import write_study


@pytest.fixture
def tiny_study(tiny_model, tmp_path):
    """Makes the tiny study with the test's model, writing below tmp_path."""

    def make(**changes):
        small = [{"name": "phantom", "train": 4, "val": 2, "test": 2, "seed": 1}]
        content = {"datasets": small, "model": {"id": tiny_model.id}, "seeds": [0]} | changes
        return study_params.load(write_study(tmp_path, **content))

    return make

"""What a policy plans is what is realised: tokens in the row, in the processor's ids, and rows of features, everywhere.

By arithmetic at the sizes of released checkpoints, over sizes from one pixel to thousands; with pixels, processors and
towers in the tiny checkpoints.
"""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from medstudy import models
from medstudy.data.example import Question
from medstudy.engine import shared_prefix
from medstudy.engine.row_layout import RowLayout
from medstudy.engine.shared_prefix import runs
from medstudy.engine.views import render
from medstudy.params import Model
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import DownUp, Fixed, Native
from medstudy.resolution.sizes import MAX_ASPECT, Size
from tests.support import real
from tests.support.families import FAMILIES, own_inputs

NATIVE = Native(max_pixels=12_845_056)
QUESTION = Question("q", "Is there a dot?", "yes", "closed", "dot")
SIDES = st.integers(1, 9000) | st.sampled_from([1, 27, 28, 29, 223, 224, 364, 383, 384, 385, 447, 448, 449, 896, 897])


@st.composite
def policies(draw):
    side = draw(st.integers(32, 4000))
    return draw(st.sampled_from([NATIVE, Native(max_pixels=side**2), Fixed(side=side), Fixed(side=side, mode="square"),
                                 Fixed(side=side, mode="pad"), DownUp(side=side, native=NATIVE)]))


@pytest.mark.parametrize("name", real.CONFIGS)
@settings(max_examples=150, deadline=None)
@given(height=SIDES, width=SIDES, policy=policies())
def test_planned_tokens_are_the_processors_at_released_sizes(name, height, width, policy):
    assume(max(height, width) <= MAX_ASPECT * min(height, width))
    geometry = real.geometry(name)
    (view,) = plan(policy, Size(height, width), geometry)
    assume(max(view.size) <= MAX_ASPECT * min(view.size))  # rounding may pass what Qwen's processor takes; we need none
    factor, most = geometry.factor, geometry.most_units or 10**9
    assert view.visual_tokens == geometry.tokens(view.size) == real.theirs(name, view.size)
    assert view.size.height % factor == 0 == view.size.width % factor
    assert factor <= min(view.size) and max(view.size) <= most * factor
    assert view.size.pixels <= max(policy.budget, factor**2)
    assert min(view.detail.pixels, height * width) <= policy.budget
    assert all(min(step) >= 1 for step in view.steps)
    if not isinstance(policy, Fixed) or policy.mode == "budget":
        assert view.steps[-1] == view.size


@pytest.mark.parametrize("name", real.CONFIGS)
@settings(max_examples=60, deadline=None)
@given(height=st.integers(60, 5000), width=st.integers(60, 5000), sides=st.tuples(*[st.integers(32, 3000)] * 2))
def test_a_higher_budget_leaves_no_less_detail(name, height, width, sides):
    """Up to whole units: one side of a strip may round up where the other rounds down."""
    assume(max(height, width) <= 3 * min(height, width))
    geometry = real.geometry(name)
    low, high = (plan(Fixed(side=side), Size(height, width), geometry)[0] for side in sorted(sides))
    slack = geometry.factor * sum(high.size) if high.detail.pixels >= geometry.factor**2 else sum(high.detail)
    assert low.detail.pixels <= high.detail.pixels + slack


SMALL = [(1, 1), (1, 150), (200, 1), (7, 9), (27, 29), (28, 28), (56, 28), (41, 130), (195, 12), (97, 160), (210, 230)]
SMALL_POLICIES = [Native(max_pixels=200**2), Fixed(side=20), Fixed(side=60), Fixed(side=90, mode="pad"),
                  Fixed(side=70, mode="square"), DownUp(side=40, native=Native(max_pixels=120**2))]


@pytest.fixture(scope="module", params=FAMILIES)
def any_family(request, checkpoints):
    return models.load(Model(id=str(checkpoints[request.param]), family=request.param))


@pytest.mark.parametrize("size", SMALL, ids=str)
def test_planned_tokens_are_those_of_row_processor_and_model(any_family, size):
    policy = SMALL_POLICIES[(SMALL.index(size) + FAMILIES.index(any_family.name)) % len(SMALL_POLICIES)]
    if any_family.name.startswith("qwen") and policy.budget < any_family.geometry.factor**2:
        policy = SMALL_POLICIES[0]
    image = Image.fromarray(np.random.default_rng(size).integers(0, 256, (*size, 3), dtype=np.uint8))
    (view,) = plan(policy, Size(*size), any_family.geometry)
    pixels, grid = render(image, view, "bicubic"), any_family.grid(view.size)
    row = shared_prefix.row(any_family, (QUESTION,), view, answered=False)
    ids = own_inputs(any_family, any_family.prompt(QUESTION), pixels)["input_ids"][0].tolist()
    with torch.no_grad():
        seen = any_family.see(any_family.patches(pixels), grid)
        features = any_family.features(any_family.patches(pixels), grid)
    counts = {row.prefix.count(any_family.image_token), ids.count(any_family.image_token), len(seen.tokens)}
    assert counts == {view.visual_tokens}
    assert row.prefix + row.branches[0] == ids
    assert len(features) == any_family.feature_counts(grid)[0] and features.shape[1] == any_family.feature_width
    assert row.patches == any_family.patch_counts(grid)
    marks = len(any_family.image_ids(view.visual_tokens, grid[0]))
    assert any_family.image_length(view) == marks >= view.visual_tokens


@given(st.lists(st.integers(0, 2), max_size=40))
def test_runs_are_where_a_token_stands(tokens):
    found = runs(tokens, 1)
    assert [place for start, end in found for place in range(start, end)] == [i for i, t in enumerate(tokens) if t == 1]
    assert all(end < start for (_, end), (start, _) in zip(found, found[1:], strict=False))


def test_a_plan_without_runs_is_the_same_as_before():
    assert RowLayout((3, 2), ((1,), (2,))) == RowLayout((3, 2), ((1,), (2,)), ())
    assert RowLayout((3,), ((),)).mask.sum() == 6

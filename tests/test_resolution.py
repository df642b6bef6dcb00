"""Size arithmetic: golden tables of named cases, agreement with Qwen2-VL's own function, and invariants."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from medstudy import resolution as r
from medstudy.draws import uniform
from medstudy.errors import ResolutionError
from medstudy.resolution import Add, Blind, Curriculum, DownUp, Fixed, Geometry, Mixed, Native, Shuffled, Size

QWEN = Geometry(factor=28, min_pixels=28 * 28)

GOLDEN_BUDGET = {
    # name: (height, width, max_pixels) -> (height, width)
    "already a multiple": ((224, 224, 50176), (224, 224)),
    "rounds to the nearest multiple": ((230, 250, 10**7), (224, 252)),
    "rounds halves to even": ((42, 70, 10**7), (56, 56)),
    "square to the paper's low": ((1000, 1000, 50176), (224, 224)),
    "chest film to the paper's low": ((2048, 2500, 50176), (196, 224)),
    "the middle budget": ((4000, 3000, 1_000_000), (1148, 840)),
    "the native budget": ((4000, 3000, 12_845_056), (4004, 2996)),
    "the native budget bites": ((6000, 4000, 12_000_000), (4228, 2828)),
    "one pixel becomes one token": ((1, 1, 50176), (28, 28)),
    "a strip keeps its long side": ((20, 2000, 50176), (28, 1792)),
    "a strip stays in its budget": ((14, 2000, 7056), (28, 252)),
    "small is not enlarged": ((60, 80, 50176), (56, 84)),
    "stand-in low": ((300, 350, 7056), (56, 84)),
    "stand-in smallest": ((448, 448, 3136), (56, 56)),
}


@pytest.mark.parametrize("name", GOLDEN_BUDGET)
def test_fit_budget_golden(name):
    (height, width, budget), expected = GOLDEN_BUDGET[name]
    assert r.fit_budget(Size(height, width), budget, QWEN) == expected


GOLDEN_POLICY = {
    "native": (Native(max_pixels=200704), (300, 350), [("native", (308, 336), 132)]),
    "native over the cap": (Native(max_pixels=50176), (448, 448), [("native", (224, 224), 64)]),
    "fixed budget": (Fixed(side=112), (300, 350), [("fixed-112", (84, 112), 12)]),
    "fixed does not enlarge": (Fixed(side=448), (140, 150), [("fixed-448", (140, 140), 25)]),
    "square stretches": (Fixed(side=112, mode="square"), (300, 150), [("square-112", (112, 112), 16)]),
    "square snaps down": (Fixed(side=100, mode="square"), (300, 150), [("square-100", (84, 84), 9)]),
    "pad": (Fixed(side=112, mode="pad"), (300, 150), [("pad-112", (112, 112), 16)]),
    "add": (
        Add(native=Native(max_pixels=200704), variants=(Fixed(side=84),)),
        (280, 280),
        [("native", (280, 280), 100), ("fixed-84", (84, 84), 9)],
    ),
    "down_up keeps the native tokens": (
        DownUp(side=84, native=Native(max_pixels=200704)),
        (280, 280),
        [("down_up-84", (280, 280), 100)],
    ),
    "blind": (Blind(), (280, 280), [("blind", (0, 0), 0)]),
    "shuffled": (Shuffled(native=Native(max_pixels=200704)), (280, 280), [("shuffled", (280, 280), 100)]),
}


@pytest.mark.parametrize("name", GOLDEN_POLICY)
def test_plan_golden(name):
    policy, size, expected = GOLDEN_POLICY[name]
    views = r.plan(policy, Size(*size), QWEN)
    assert [(view.label, view.size, view.visual_tokens) for view in views] == expected


def test_down_up_passes_through_the_low_size():
    (view,) = r.plan(DownUp(side=84, native=Native(max_pixels=200704)), Size(280, 280), QWEN)
    assert view.steps == (Size(84, 84), Size(280, 280))


def test_pad_keeps_the_aspect_inside_the_canvas():
    (view,) = r.plan(Fixed(side=112, mode="pad"), Size(300, 150), QWEN)
    assert view.steps == (Size(112, 56),)


@given(st.integers(15, 4000), st.integers(15, 4000), st.integers(2, 4000))  # below, Qwen's rounds to nothing
def test_agrees_with_qwen_where_qwen_keeps_its_budget(height, width, side):
    budget = max(side, 28) ** 2
    if max(height, width) > 200 * min(height, width):
        return
    theirs = smart_resize(height, width, 28, 784, budget)
    ours = r.fit_budget(Size(height, width), budget, QWEN)
    if theirs[0] * theirs[1] <= budget:
        assert ours == theirs


@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(28, 1000))
def test_budget_is_kept_and_sizes_are_multiples(height, width, side):
    if max(height, width) > 200 * min(height, width):
        return
    fitted = r.fit_budget(Size(height, width), side**2, QWEN)
    assert fitted.pixels <= side**2
    assert fitted.height % 28 == 0 == fitted.width % 28
    assert min(fitted) >= 28


@given(st.integers(140, 448), st.integers(140, 448))
def test_a_higher_rung_never_shows_fewer_tokens(height, width):
    tokens = [r.plan(Fixed(side=side), Size(height, width), QWEN)[0].visual_tokens for side in (56, 84, 112, 168, 224)]
    assert tokens == sorted(tokens)


def test_mixed_draws_by_weight_and_only_from_its_choices():
    policy = Mixed(choices=(Fixed(side=84), Native(max_pixels=200704)), weights=(1, 3))
    labels = [
        r.plan(policy, Size(300, 300), QWEN, draw=uniform(0, 0, index))[0].label for index in range(4000)
    ]
    assert set(labels) == {"fixed-84", "native"}
    assert labels.count("native") / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_draw_depends_on_its_key_alone():
    assert uniform(0, 1, "a") == uniform(0, 1, "a")
    assert len({uniform(seed, epoch, "a") for seed in range(5) for epoch in range(5)}) == 25


def test_curriculum_goes_from_low_to_high():
    policy = Curriculum(stages=(Fixed(side=84), Fixed(side=168), Native(max_pixels=200704)))
    labels = [r.plan(policy, Size(300, 300), QWEN, progress=p)[0].label for p in (0, 0.32, 0.34, 0.7, 0.999, 1.0)]
    assert labels == ["fixed-84", "fixed-84", "fixed-168", "native", "native", "native"]


def test_trained_on_names_the_single_policies():
    mixed = Mixed(choices=(Fixed(side=84), Native(max_pixels=200704)))
    assert r.trained_on(mixed) == {"fixed-84", "native"}
    assert r.trained_on(Add(native=Native(max_pixels=9), variants=(Fixed(side=56),))) == {"native", "fixed-56"}
    assert r.trained_on(Fixed(side=84)) == {"fixed-84"}


@pytest.mark.parametrize(
    ("size", "budget", "words"),
    [
        (Size(0, 10), 50176, "at least 1x1"),
        (Size(10, 2010), 50176, "aspect ratio"),
        (Size(100, 100), 500, "one visual token"),
    ],
)
def test_impossible_sizes_say_why(size, budget, words):
    with pytest.raises(ResolutionError, match=words):
        r.fit_budget(size, budget, QWEN)


def test_a_fixed_policy_without_effect_is_an_error():
    with pytest.raises(ResolutionError, match="must change at least one image"):
        r.check_effect(Fixed(side=448), [Size(200, 300), Size(400, 448)], QWEN)
    r.check_effect(Fixed(side=224), [Size(200, 300), Size(400, 448)], QWEN)
    r.check_effect(Native(max_pixels=200704), [Size(200, 300)], QWEN)


def test_unknown_and_inconsistent_policies_are_refused():
    parse = TypeAdapter(r.Training).validate_python
    with pytest.raises(ValidationError, match="Extra inputs"):
        parse({"policy": "fixed", "side": 84, "mod": "pad"})
    with pytest.raises(ValidationError, match="one weight a choice"):
        parse({"policy": "mixed", "choices": [{"policy": "fixed", "side": 84}] * 2, "weights": [1]})
    with pytest.raises(ValidationError):
        parse({"policy": "fixed", "side": -84})


def test_scale_is_linear():
    assert r.scale(Size(400, 400), Size(100, 100)) == pytest.approx(0.25)
    assert r.scale(Size(400, 400), Size(0, 0)) == 0

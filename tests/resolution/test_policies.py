"""Size arithmetic: golden tables of named cases, agreement with Qwen2-VL's own function, and invariants."""

from dataclasses import replace
from fractions import Fraction

import pytest
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from transformers.models.auto.image_processing_auto import IMAGE_PROCESSOR_MAPPING_NAMES
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

from medstudy.errors import ResolutionError
from medstudy.resolution import plan, policies, sizes
from medstudy.resolution.compress import Compress
from medstudy.resolution.policies import Add, Blind, Curriculum, DownUp, EqualFlops, Fixed, Mixed, Native, Shuffled
from medstudy.resolution.sizes import Box, Geometry, Known, Size
from medstudy.resolution.spacing import Spacing
from medstudy.resolution.zoom import Zoom
from medstudy.utils.seeding import uniform
from tests.support import real

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
    assert sizes.fit_budget(Size(height, width), budget, QWEN) == expected


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
    "equal_flops shows its low policy": (
        EqualFlops(low=Fixed(side=84), native=Native(max_pixels=200704)),
        (280, 280),
        [("fixed-84", (84, 84), 9)],
    ),
    "compress pools": (Compress(max_pixels=200704, pool=2), (280, 280), [("pool-2x2", (280, 280), 25)]),
    "compress pools an odd grid": (Compress(max_pixels=200704, pool=2), (300, 350), [("pool-2x2", (308, 336), 36)]),
    "compress pools all of it": (Compress(max_pixels=200704, pool=99), (300, 350), [("pool-99x99", (308, 336), 1)]),
    "compress over the cap": (Compress(max_pixels=50176, pool=2), (448, 448), [("pool-2x2", (224, 224), 16)]),
    "compress by 1 is native": (Compress(max_pixels=200704, pool=1), (300, 350), [("pool-1x1", (308, 336), 132)]),
    "compress prunes": (Compress(max_pixels=200704, share=0.25), (300, 350), [("prune-25pct", (308, 336), 33)]),
    "compress prunes to the nearest token": (
        Compress(max_pixels=200704, share=0.11, by="even"), (84, 140), [("prune_even-11pct", (84, 140), 2)],
    ),
    "compress keeps one token": (
        Compress(max_pixels=200704, share=0.01, by="similarity"), (84, 140), [("prune_similarity-1pct", (84, 140), 1)],
    ),
    "compress to all is native": (
        Compress(max_pixels=200704, share=1), (300, 350), [("prune-100pct", (308, 336), 132)],
    ),
    "blind": (Blind(), (280, 280), [("blind", (0, 0), 0)]),
    "shuffled": (Shuffled(native=Native(max_pixels=200704)), (280, 280), [("shuffled", (280, 280), 100)]),
}


GOLDEN_ZOOM = {
    # name: (side, image, box (top, left, height, width)) -> (overview, tokens of both, crop or None)
    "a small box at its native scale": ((112, (300, 350), (100, 100, 10, 12)), ((56, 84), 12, (77, 64, 56, 84))),
    "at an edge": ((112, (300, 350), (0, 340, 10, 10)), ((56, 84), 12, (0, 266, 56, 84))),
    "a large box is reduced": ((112, (300, 350), (20, 30, 100, 60)), ((56, 84), 12, (0, 0, 150, 225))),
    "a wide box": ((112, (300, 350), (20, 30, 10, 200)), ((56, 84), 12, (0, 0, 200, 300))),
    "the whole image": ((112, (300, 350), (0, 0, 300, 350)), ((56, 84), 12, (0, 0, 300, 350))),
    "an image below the budget": ((448, (90, 60), (40, 20, 5, 5)), ((84, 56), 12, (0, 0, 84, 56))),
    "an image that is enlarged by rounding": ((448, (80, 50), (40, 20, 5, 5)), ((84, 56), 12, (0, 0, 80, 50))),
    "no box": ((112, (300, 350), None), ((84, 112), 12, None)),
}


@pytest.mark.parametrize("name", GOLDEN_ZOOM)
def test_zoom_golden(name):
    (side, size, box), (shown, tokens, crop) = GOLDEN_ZOOM[name]
    known = Known(None if box is None else Box(*box))
    (view,) = plan.plan(Zoom(side=side), Size(*size), QWEN, known=known)
    assert (view.label, view.size, view.all_tokens, view.crop) == (f"zoom-{side}", shown, tokens, None)
    assert [part.crop for part in view.crops] == ([crop] if crop else [])
    assert view.source == ("known" if crop else "none") and view.crop_counts == ((1,) if crop else ())
    assert all(part.size == view.size and part.visual_tokens == view.visual_tokens for part in view.crops)


@settings(derandomize=True, deadline=None)
@given(st.integers(30, 2000), st.integers(30, 2000), st.integers(40, 900), st.data())
def test_zoom_keeps_its_budget_and_its_crop_holds_the_box(height, width, side, data):
    if max(height, width) > 20 * min(height, width):
        return
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    box = Box(top, left, data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left)))
    for its in (QWEN, real.geometry("Gemma 3"), real.geometry("InternVL3")):
        (view,) = plan.plan(Zoom(side=side), Size(height, width), its, known=Known(box))
        ((top, left, high, wide),) = (part.crop for part in view.crops)
        assert 0 <= top <= box.top and 0 <= left <= box.left
        assert box.top + box.height <= top + high <= height and box.left + box.width <= left + wide <= width
        if its is QWEN:
            assert view.size.pixels + view.crops[0].size.pixels <= side**2
        assert high >= min(view.detail.height, height) and wide >= min(view.detail.width, width)
        assert view.crops[0].steps == view.steps


GOLDEN_SPACING = {
    # name: (policy, image, µm a pixel, box) -> (label, shown, crop, source)
    "its own spacing": ((2.0, {}), (300, 350), 2.0, None, ("spacing-2um", (308, 336), None, "")),
    "half": ((4.0, {}), (300, 350), 2.0, None, ("spacing-4um", (140, 168), None, "")),
    "finer than the image": ((1.0, {}), (300, 350), 2.0, None, ("spacing-1um", (308, 336), None, "")),
    "a field in the middle": (
        (2.0, {"field_um": 224.0}), (300, 350), 2.0, None,
        ("spacing-2um-of-224um", (112, 112), (94, 119, 112, 112), "centre"),
    ),
    "the same field, coarser": (
        (4.0, {"field_um": 224.0}), (300, 350), 2.0, None,
        ("spacing-4um-of-224um", (56, 56), (94, 119, 112, 112), "centre"),
    ),
    "a field around a box": (
        (0.5, {"field_um": 56.0, "centre": "box"}), (300, 350), 0.5, (10, 300, 20, 20),
        ("spacing-0.5um-of-56um-box", (112, 112), (0, 238, 112, 112), "known"),
    ),
    "a box that is missing": (
        (0.5, {"field_um": 56.0, "centre": "box"}), (300, 350), 0.5, None,
        ("spacing-0.5um-of-56um-box", (112, 112), (94, 119, 112, 112), "centre"),
    ),
    "a field wider than the image": (
        (2.0, {"field_um": 640.0}), (300, 350), 2.0, None,
        ("spacing-2um-of-640um", (308, 308), (0, 15, 300, 320), "centre"),
    ),
}


@pytest.mark.parametrize("name", GOLDEN_SPACING)
def test_spacing_golden(name):
    (um, more), size, own, box, expected = GOLDEN_SPACING[name]
    policy = Spacing(um_per_px=um, max_pixels=200704, **more)
    known = Known(None if box is None else Box(*box), own)
    (view,) = plan.plan(policy, Size(*size), QWEN, known=known)
    assert (view.label, view.size, view.crop, view.source) == expected
    assert view.visual_tokens == view.size.pixels // 784 and not view.crops


@settings(derandomize=True, deadline=None)
@given(st.integers(28, 2000), st.integers(28, 2000), st.floats(0.1, 500))
def test_spacing_at_the_native_spacing_equals_native(height, width, um):
    if max(height, width) > 100 * min(height, width):
        return
    for its in (QWEN, real.geometry("Gemma 3"), real.geometry("InternVL3")):
        (native,) = plan.plan(Native(max_pixels=10**7), Size(height, width), its)
        (view,) = plan.plan(Spacing(um_per_px=um, max_pixels=10**7), Size(height, width), its, known=Known(None, um))
        assert replace(view, label="native") == native


def test_a_spacing_is_never_guessed_and_its_cap_changes_nothing():
    policy = Spacing(um_per_px=2.0, max_pixels=50176)
    with pytest.raises(ResolutionError, match="an image of 300x350 states none"):
        plan.plan(policy, Size(300, 350), QWEN)
    with pytest.raises(ResolutionError, match="in 300x350, above its max_pixels of 50176. Raise max_pixels"):
        plan.plan(policy, Size(300, 350), QWEN, known=Known(None, 2.0))


@pytest.mark.parametrize("name", GOLDEN_POLICY)
def test_plan_golden(name):
    policy, size, expected = GOLDEN_POLICY[name]
    views = plan.plan(policy, Size(*size), QWEN)
    assert [(view.label, view.size, view.visual_tokens) for view in views] == expected


def test_down_up_passes_through_the_low_size():
    (view,) = plan.plan(DownUp(side=84, native=Native(max_pixels=200704)), Size(280, 280), QWEN)
    assert view.steps == (Size(84, 84), Size(280, 280))


def test_pad_keeps_the_aspect_inside_the_canvas():
    (view,) = plan.plan(Fixed(side=112, mode="pad"), Size(300, 150), QWEN)
    assert view.steps == (Size(112, 56),)


GOLDEN_PROCESSOR = {
    # name: (height, width, max_pixels) -> (height, width), if it differs from exact
    "a row is lost to the last bit": ((239, 239, 50176), (196, 196)),
    "its neighbour loses none": ((240, 240, 50176), (224, 224)),
    "the case that failed at random": ((491, 491, 476**2), (448, 448)),
    "a strip exceeds its budget": ((14, 2000, 7056), (28, 336)),
    "a strip thinner than half a token": ((10, 2000, 50176), (28, 420)),
    "one pixel becomes one token": ((1, 1, 50176), (28, 28)),
    "chest film to the paper's low": ((2048, 2500, 50176), (196, 224)),
    "the native budget": ((4000, 3000, 12_845_056), (4004, 2996)),
}


@pytest.mark.parametrize("name", GOLDEN_PROCESSOR)
def test_the_processors_rounding_golden(name):
    (height, width, budget), expected = GOLDEN_PROCESSOR[name]
    assert sizes.fit_budget(Size(height, width), budget, QWEN, "processor") == expected
    assert smart_resize(height, width, 28, 784, budget) == expected


def test_exact_uses_the_budget_when_the_processor_loses_to_the_last_bit():
    assert sizes.fit_budget(Size(239, 239), 224**2, QWEN) == (224, 224)
    assert sizes.fit_budget(Size(491, 491), 476**2, QWEN) == (476, 476)
    squares = [Size(side, side) for side in range(239, 4001)]
    pairs = [(sizes.fit_budget(size, 224**2, QWEN), sizes.fit_budget(size, 224**2, QWEN, "processor")) for size in
    squares]
    assert sum(ours != theirs for ours, theirs in pairs) == 421
    assert {pair for pair in pairs if pair[0] != pair[1]} == {((224, 224), (196, 196))}


FAMILIES = {  # settings of their checkpoints' processors
    "qwen2_vl": {"patch_size": 14, "merge_size": 2},
    "qwen2_5_vl": {"patch_size": 14, "merge_size": 2},
    "qwen3_vl": {"patch_size": 16, "merge_size": 2},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_processors_rounding_is_what_the_families_own_class_shows(family):
    """The grid that the real image processor gives for real images, with its own size limits."""
    kind = IMAGE_PROCESSOR_MAPPING_NAMES[family]["torchvision"]
    options = FAMILIES[family]
    patch, factor = options["patch_size"], options["patch_size"] * options["merge_size"]
    its = Geometry(factor, factor**2)
    for size in ((1, 1), (20, 31), (10, 300), (239, 239), (240, 239), (301, 77), (512, 640), (1000, 30)):
        for side in (factor, 112, 224, 448):
            limits = {"shortest_edge": factor**2, "longest_edge": side**2}
            processor = getattr(transformers, kind)(size=limits, **options)
            made = processor(Image.new("RGB", size[::-1]), return_tensors="pt")
            shown = tuple(count * patch for count in made["image_grid_thw"][0, 1:].tolist())
            assert sizes.fit_budget(Size(*size), side**2, its, "processor") == shown, (size, side)


SIDE = st.one_of(st.integers(1, 60), st.integers(1, 8000))


@settings(derandomize=True, deadline=None, max_examples=200)
@given(SIDE, SIDE, st.integers(32, 4000), st.sampled_from([28, 32]), st.integers(1, 9))
def test_the_processors_rounding_is_smart_resize(height, width, side, factor, least):
    """Including its aspect limit, floats and minimum, at any budget of at least one token."""
    its = Geometry(factor, least * factor**2)
    try:
        theirs = smart_resize(height, width, factor, its.min_pixels, side**2)
    except ValueError:
        with pytest.raises(ResolutionError, match="aspect ratio"):
            sizes.fit_budget(Size(height, width), side**2, its, "processor")
        return
    assert sizes.fit_budget(Size(height, width), side**2, its, "processor") == theirs


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(28, 4000))
def test_exact_is_the_largest_that_the_budget_allows(height, width, side):
    """The processor's formula in exact fractions: the golden table's rule for any size."""
    if max(height, width) > 200 * min(height, width):
        return
    ours = sizes.fit_budget(Size(height, width), side**2, QWEN)
    plain = [max(28, 28 * round(Fraction(length, 28))) for length in (height, width)]
    if plain[0] * plain[1] <= side**2:
        assert list(ours) == plain
        return
    for one, other, shown in ((height, width, ours.height), (width, height, ours.width)):
        most = Fraction(one * side**2, other)  # the square of the longest side allowed
        assert shown == 28 or shown**2 <= most < (shown + 28) ** 2 or shown == side**2 // 784 * 28


@pytest.mark.parametrize("rounding", ["exact", "processor"])
def test_every_policy_with_a_budget_takes_the_rounding(rounding):
    native = Native(max_pixels=224**2, rounding=rounding)
    expected = Size(224, 224) if rounding == "exact" else Size(196, 196)
    fixed = Fixed(side=224, rounding=rounding)
    for policy in (native, fixed, Shuffled(native=native), DownUp(side=112, native=native),
                   Mixed(choices=(fixed, native)), Curriculum(stages=(fixed, native)),
                   Add(native=native, variants=(fixed,))):
        assert {view.size for view in plan.plan(policy, Size(239, 239), QWEN)} == {expected}
        assert plan.roundings(policy) == {rounding}
    low = DownUp(side=224, native=Native(max_pixels=10**7, rounding=rounding))
    assert plan.plan(low, Size(239, 239), QWEN)[0].detail == expected
    assert not plan.roundings(Blind()) and not plan.roundings(Fixed(side=84, mode="pad"))
    assert fixed.label == "fixed-224" and native.label == "native"


def test_tiles_have_one_rounding():
    for name in ("LLaVA-OneVision", "InternVL3", "Idefics3-8B", "Gemma 3"):
        its = real.geometry(name)
        for size in (Size(239, 239), Size(491, 491), Size(14, 2000)):
            assert sizes.fit_budget(size, 476**2, its, "processor") == sizes.fit_budget(size, 476**2, its)


def test_a_square_or_padded_view_has_no_budget_to_round():
    with pytest.raises(ValidationError, match="`rounding: processor` needs `mode: budget`"):
        Fixed(side=224, mode="pad", rounding="processor")


def test_a_fixed_policy_that_equals_native_in_its_own_rounding_has_no_effect():
    with pytest.raises(ResolutionError, match="must change at least one image"):
        plan.check_effect(Fixed(side=448, rounding="processor"), [Size(200, 300)], QWEN)


@settings(derandomize=True, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(28, 1000))
def test_budget_is_kept_and_sizes_are_multiples(height, width, side):
    if max(height, width) > 200 * min(height, width):
        return
    fitted = sizes.fit_budget(Size(height, width), side**2, QWEN)
    assert fitted.pixels <= side**2
    assert fitted.height % 28 == 0 == fitted.width % 28
    assert min(fitted) >= 28


@settings(derandomize=True, deadline=None)
@given(st.integers(140, 448), st.integers(140, 448))
def test_a_higher_rung_never_shows_fewer_tokens(height, width):
    tokens = [plan.plan(Fixed(side=side), Size(height, width), QWEN)[0].visual_tokens for side in (56, 84, 112, 168,
    224)]
    assert tokens == sorted(tokens)


def test_mixed_draws_by_weight_and_only_from_its_choices():
    policy = Mixed(choices=(Fixed(side=84), Native(max_pixels=200704)), weights=(1, 3))
    labels = [
        plan.plan(policy, Size(300, 300), QWEN, draw=uniform(0, 0, index))[0].label for index in range(4000)
    ]
    assert set(labels) == {"fixed-84", "native"}
    assert labels.count("native") / 4000 == pytest.approx(0.75, abs=0.03)


def test_a_draw_depends_on_its_key_alone():
    assert uniform(0, 1, "a") == uniform(0, 1, "a")
    assert len({uniform(seed, epoch, "a") for seed in range(5) for epoch in range(5)}) == 25


def test_curriculum_goes_from_low_to_high():
    policy = Curriculum(stages=(Fixed(side=84), Fixed(side=168), Native(max_pixels=200704)))
    labels = [plan.plan(policy, Size(300, 300), QWEN, progress=p)[0].label for p in (0, 0.32, 0.34, 0.7, 0.999, 1.0)]
    assert labels == ["fixed-84", "fixed-84", "fixed-168", "native", "native", "native"]


def test_trained_on_names_the_single_policies():
    mixed = Mixed(choices=(Fixed(side=84), Native(max_pixels=200704)))
    assert plan.trained_on(mixed) == {"fixed-84", "native"}
    assert plan.trained_on(Add(native=Native(max_pixels=9), variants=(Fixed(side=56),))) == {"native", "fixed-56"}
    assert plan.trained_on(Fixed(side=84)) == {"fixed-84"}
    assert plan.trained_on(DownUp(side=84, native=Native(max_pixels=9))) == {"down_up-84"}
    assert plan.trained_on(EqualFlops(low=Fixed(side=84), native=Native(max_pixels=9))) == {"fixed-84"}


def test_regimes_of_equal_flops_have_labels_of_their_own():
    native = Native(max_pixels=200704)
    modes = {mode: EqualFlops(low=Fixed(side=84, mode=mode), native=native).label for mode in ("budget", "square")}
    assert modes == {"budget": "equal_flops-84", "square": "equal_flops_square-84"}
    assert EqualFlops(low=Fixed(side=84), native=native).budget == 84**2


def test_arms_share_the_studys_native_policy():
    native, other = Native(max_pixels=200704), Native(max_pixels=50176)
    down_up, longer = DownUp(side=84, native=native), EqualFlops(low=Fixed(side=84), native=native)
    plan.check_arms([native, Fixed(side=84), down_up, longer], [down_up, DownUp(side=168, native=other)])
    for arm in (DownUp(side=84, native=other), EqualFlops(low=Fixed(side=84), native=other)):
        with pytest.raises(ValueError, match=f"`native` of {arm.label} must be the regime native .*50176"):
            plan.check_arms([native, arm], [])
    with pytest.raises(ValueError, match="down_up-84 must be the same as a regime and as a control"):
        plan.check_arms([native, down_up], [DownUp(side=84, native=other)])


@pytest.mark.parametrize(
    ("size", "budget", "words"),
    [
        (Size(0, 10), 50176, "at least 1x1"),
        (Size(10, 2010), 50176, "aspect ratio"),
        (Size(100, 100), 500, "one visual token"),
    ],
)
def test_impossible_sizes_are_explained(size, budget, words):
    with pytest.raises(ResolutionError, match=words):
        sizes.fit_budget(size, budget, QWEN)


def test_a_fixed_policy_without_effect_is_an_error():
    with pytest.raises(ResolutionError, match="must change at least one image"):
        plan.check_effect(Fixed(side=448), [Size(200, 300), Size(400, 448)], QWEN)
    plan.check_effect(Fixed(side=224), [Size(200, 300), Size(400, 448)], QWEN)
    plan.check_effect(Native(max_pixels=200704), [Size(200, 300)], QWEN)


@pytest.mark.parametrize("make", [lambda side: DownUp(side=side, native=Native(max_pixels=200704)),
                                  lambda side: EqualFlops(low=Fixed(side=side), native=Native(max_pixels=200704))])
def test_an_arm_without_effect_is_an_error(make):
    with pytest.raises(ResolutionError, match="must change at least one image"):
        plan.check_effect(make(448), [Size(200, 300), Size(400, 448)], QWEN)
    plan.check_effect(make(224), [Size(200, 300), Size(400, 448)], QWEN)


def test_compress_needs_one_way_and_a_family_that_can():
    for wrong in ({}, {"pool": 2, "share": 0.5}):
        with pytest.raises(ValidationError, match="either `pool` or `share`"):
            Compress(max_pixels=9, **wrong)
    with pytest.raises(ValidationError, match="`by` is the rule of a `share`"):
        Compress(max_pixels=9, pool=2, by="even")
    pool, share = Compress(max_pixels=10**6, pool=2), Compress(max_pixels=10**6, share=0.5)
    (view,) = plan.plan(pool, Size(500, 900), real.geometry("InternVL3"))
    assert (view.size, view.visual_tokens) == ((448, 896), 3 * 64)  # two tiles and the overview
    with pytest.raises(ResolutionError, match="plain grids of tokens"):
        plan.plan(pool, Size(500, 900), real.geometry("LLaVA-OneVision"))
    with pytest.raises(ResolutionError, match="rows and columns as positions"):
        plan.plan(share, Size(500, 900), real.geometry("Gemma 3"))


def test_compress_to_all_tokens_has_no_effect():
    for policy in (Compress(max_pixels=10**6, pool=1), Compress(max_pixels=10**6, share=1)):
        with pytest.raises(ResolutionError, match="must change at least one image"):
            plan.check_effect(policy, [Size(200, 300)], QWEN)
    plan.check_effect(Compress(max_pixels=10**6, pool=2), [Size(200, 300)], QWEN)


def test_unknown_and_inconsistent_policies_are_refused():
    parse = TypeAdapter(policies.Training).validate_python
    with pytest.raises(ValidationError, match="Extra inputs"):
        parse({"policy": "fixed", "side": 84, "mod": "pad"})
    with pytest.raises(ValidationError, match="one weight per choice"):
        parse({"policy": "mixed", "choices": [{"policy": "fixed", "side": 84}] * 2, "weights": [1]})
    with pytest.raises(ValidationError):
        parse({"policy": "fixed", "side": -84})


def test_scale_is_linear():
    assert sizes.scale(Size(400, 400), Size(100, 100)) == pytest.approx(0.25)
    assert sizes.scale(Size(400, 400), Size(0, 0)) == 0

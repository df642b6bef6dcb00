"""Counts, points and boxes: shapes of answers, conventions of families, and scores in native pixels."""

from dataclasses import replace
from typing import get_args

import pytest

from medstudy.data import coordinates, counts, located_scores, places
from medstudy.data.coordinates import BY_MODEL, CONVENTIONS
from medstudy.data.example import Question
from medstudy.errors import DataError, ModelError
from medstudy.resolution.frames import Frame
from medstudy.resolution.plan import plan
from medstudy.resolution.policies import Blind, Fixed
from medstudy.resolution.sizes import Box, Geometry, Size, View

NATIVE = Size(300, 400)
WHOLE = Frame(NATIVE, Size(84, 112), 0, 0, 112, 84)  # shown at 28 %
PADDED = Frame(NATIVE, Size(112, 112), 0, 14, 112, 84)
FRAMES = {"whole": WHOLE, "padded": PADDED}
POINTS, BOXES = [(100.0, 60.0), (320.0, 210.0)], [(40.0, 30.0, 200.0, 150.0), (240.0, 30.0, 380.0, 270.0)]


@pytest.mark.parametrize("text, number", [
    ("7", 7), ("7.", 7), ("**7**", 7), ("seven", 7), ("There are 7 nodules.", 7), ("There are seven.", 7),
    ("1,200", 1200),
    ("3.0", 3), ("七个", 7), ("共有12个细胞", 12), ("两处", 2), ("0", 0), ("none", 0), ("There are no nodules.", 0),
    ("没有结节", 0), ("", None), ("many", None), ("2-3", None), ("2 or 3", None), ("3.5", None), ("T2", None),
    ("3 nodules and 2 cysts", None), ("7 and again 7", 7),
])
def test_one_number_is_read(text, number):
    assert counts.read(text) == number


@pytest.mark.parametrize("text, kind, items", [
    ("<|box_start|>(12,34),(56,78)<|box_end|>", "box", [(12, 34, 56, 78)]),  # Qwen2-VL
    ("<|object_ref_start|>mass<|object_ref_end|><|box_start|>(1,2),(3,4)<|box_end|>", "box", [(1, 2, 3, 4)]),
    ('```json\n[{"bbox_2d": [12, 34, 56, 78], "label": "mass"}]\n```', "box", [(12, 34, 56, 78)]),  # Qwen2.5-VL, 3-VL
    ('[{"bbox_2d": [1, 2, 3, 4]}, {"bbox_2d": [5, 6, 7, 8]}]', "box", [(1, 2, 3, 4), (5, 6, 7, 8)]),
    ("<box>[[12, 34, 56, 78]]</box>", "box", [(12, 34, 56, 78)]),  # InternVL
    ("<ref>mass</ref><box>[[1, 2, 3, 4], [5, 6, 7, 8]]</box>", "box", [(1, 2, 3, 4), (5, 6, 7, 8)]),
    ("<|begin_of_box|>[[12,34,56,78]]<|end_of_box|>", "box", [(12, 34, 56, 78)]),  # GLM-4.1V
    ("<loc0034><loc0012><loc0078><loc0056> mass", "box", [(34, 12, 78, 56)]),  # PaliGemma
    ("The mass is at [0.12, 0.34, 0.56, 0.78].", "box", [(0.12, 0.34, 0.56, 0.78)]),
    ('{"x1": 1, "y1": 2, "x2": 3, "y2": 4}', "box", [(1, 2, 3, 4)]),
    ('<point x="12.5" y="34.0" alt="cell">cell</point>', "point", [(12.5, 34)]),  # Molmo
    ('<points x1="1.5" y1="2" x2="3" y2="4" alt="cells">', "point", [(1.5, 2), (3, 4)]),
    ('[{"point_2d": [12, 34], "label": "cell"}, {"point_2d": [5, 6]}]', "point", [(12, 34), (5, 6)]),
    ('[{"point": [34, 12]}]', "point", [(34, 12)]),
    ("(12, 34)", "point", [(12, 34)]), ("(12,34),(56,78)", "point", [(12, 34), (56, 78)]),
    ("[[12, 34], [56, 78]]", "point", [(12, 34), (56, 78)]), ('{"x": 12, "y": 34}', "point", [(12, 34)]),
    ("[]", "box", []), ("none", "point", []), ("There are none.", "point", []),
])
def test_places_are_read_in_every_shape(text, kind, items):
    assert places.read(text, kind) == tuple(items)


@pytest.mark.parametrize("text, kind", [
    ("in the upper left", "point"), ("[1, 2, 3]", "box"), ("<|box_start|>(1,2),(3,4)<|box_end|>", "point"),
    ("12, 34", "point"), ("", "box"), ("(1,2)", "box"), ("I cannot see a mass", "box"),
])
def test_what_is_no_place_is_not_read(text, kind):
    assert places.read(text, kind) is None


@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("name", CONVENTIONS)
def test_a_reference_written_in_any_convention_scores_full(name, frame):
    for kind, items, score in (("point", POINTS, located_scores.point), ("box", BOXES, located_scores.box)):
        for some in (items, items[:1], []):
            text = CONVENTIONS[name].write(kind, some, FRAMES[frame])
            reference = places.written(some)
            assert score(text, reference, name, FRAMES[frame])[::2] == (1, 0), text
            assert score(f"<think>(1,1)</think>{text}", reference, name, FRAMES[frame]).score == 1
            mirrored = [tuple(400 - v if n % 2 == 0 else v for n, v in enumerate(item)) for item in some]
            if kind == "point" and some:  # the same words in the other half of the image
                text = CONVENTIONS[name].write(kind, mirrored, FRAMES[frame])
                assert score(text, reference, name, FRAMES[frame]).score == 0


@pytest.mark.parametrize("name, text", [
    ("thousand", '[{"bbox_2d": [100, 100, 500, 500]}]'), ("thousand_pairs", "(100,100),(500,500)"),
    ("thousand_box_tag", "<box>[[100, 100, 500, 500]]</box>"),
    ("thousand_y_first", '[{"box_2d": [100, 100, 500, 500]}]'),
    ("shown_pixels", '[{"bbox_2d": [11, 8, 56, 42]}]'), ("fraction", "[0.1, 0.1, 0.5, 0.5]"),
    ("percent", "[10.0, 10.0, 50.0, 50.0]"), ("location_tokens", "<loc0102><loc0102><loc0512><loc0512>"),
])
def test_the_same_box_in_each_convention(name, text):
    """Golden: a tenth to a half of each side of an image of 400 x 300, shown at 112 x 84."""
    assert CONVENTIONS[name].write("box", [(40, 30, 200, 150)], WHOLE) == text
    (box,) = CONVENTIONS[name].read("box", text, WHOLE)
    assert box == pytest.approx((40, 30, 200, 150), abs=1.5)


def test_the_same_numbers_mean_another_place_in_another_convention():
    text = '[{"bbox_2d": [11, 8, 56, 42]}]'
    reference = places.written([(40, 30, 200, 150)])
    assert located_scores.box(text, reference, "shown_pixels", WHOLE).score == 1
    assert located_scores.box(text, reference, "thousand", WHOLE).score == 0


def test_axes_that_a_shape_names_are_not_swapped():
    text = '{"x": 250, "y": 200}'
    for name in ("thousand", "thousand_y_first"):
        assert CONVENTIONS[name].read("point", text, WHOLE) == (pytest.approx((100, 60)),)


def test_nothing_is_guessed_without_a_convention_or_an_image():
    reference = places.written(BOXES[:1])
    text = CONVENTIONS["thousand"].write("box", BOXES[:1], WHOLE)
    blind = Frame.of(plan(Blind(), NATIVE, Geometry(28, 1))[0], NATIVE)
    assert located_scores.box(text, reference, "", WHOLE) == (0, 0, 1)
    assert located_scores.box(text, reference, "thousand", blind) == (0, 0, 1) and blind.rectangle == []
    question = Question("q", "Where is it?", reference, "box", "t")
    with pytest.raises(ModelError, match="Set model.coordinates to one of 'thousand'"):
        coordinates.asked(question, "", WHOLE)


def test_the_frame_of_a_padded_view_is_where_the_image_lies():
    view = plan(Fixed(side=112, mode="pad"), NATIVE, Geometry(28, 1))[0]
    frame = Frame.of(view, NATIVE)
    assert (frame.shown, frame.rectangle) == (Size(112, 112), [0, 14, 112, 84])
    assert frame.to_shown((0, 0)) == (0, 14) and frame.to_native((112, 98)) == (400, 300)


def test_the_frame_of_a_crop_is_larger_than_what_is_shown():
    """The right half of the image, 200 x 300, shown at 56 x 84."""
    view = View("zoom", (Size(84, 56),), Size(84, 56), 6, crop=Box(0, 200, 300, 200))
    frame = Frame.of(view, NATIVE)
    assert frame.rectangle == pytest.approx([-56, 0, 112, 84])
    assert frame.to_native((0, 0)) == pytest.approx((200, 0)) and frame.to_native((56, 84)) == pytest.approx((400, 300))
    inside = [(240.0, 30.0, 380.0, 270.0)]
    text = CONVENTIONS["thousand"].write("box", inside, frame)
    assert text == '[{"bbox_2d": [200, 100, 900, 900]}]'
    assert located_scores.box(text, places.written(inside), "thousand", frame).score == 1


def test_with_crops_after_the_image_the_prompt_says_whose_coordinates_are_meant():
    crop = View("zoom", (Size(56, 56),), Size(56, 56), 4, crop=Box(0, 0, 100, 100))
    whole = View("zoom", (Size(84, 112),), Size(84, 112), 12, crops=(crop,))
    question = Question("q", "Where?", places.written(POINTS), "point", "t")
    texts = [coordinates.asked(question, "thousand", Frame.of(view, NATIVE)).text
             for view in (whole, replace(whole, crops=()))]
    assert [coordinates.OF_THE_WHOLE in text for text in texts] == [True, False]
    assert Frame.of(whole, NATIVE).rectangle == WHOLE.rectangle


@pytest.mark.parametrize("name", CONVENTIONS)
def test_the_prompt_asks_for_the_form_that_is_read(name):
    asked = coordinates.asked(Question("q", "Where?", places.written(POINTS), "point", "t"), name, WHOLE)
    assert asked.text.startswith("Where? Write every point as ") and asked.answer != places.written(POINTS)
    assert located_scores.point(asked.answer, places.written(POINTS), name, WHOLE).score == 1
    unit = "pixels of the image" if name == "shown_pixels" else f"from 0 to {CONVENTIONS[name].span:g}"
    assert unit in asked.text


def test_other_questions_are_asked_as_they_are():
    plain = Question("q", "Is it?", "yes", "closed", "t")
    assert coordinates.asked(plain, "", WHOLE) is plain
    count = coordinates.asked(Question("q", "How many?", "3", "count", "t"), "", WHOLE)
    assert count.text == f"How many? {coordinates.NUMBER_ONLY}" and count.answer == "3"


def test_params_and_models_name_known_conventions():
    assert get_args(coordinates.Coordinates) == tuple(CONVENTIONS) and set(BY_MODEL.values()) <= set(CONVENTIONS)
    assert coordinates.of_model("qwen2_vl") == "thousand_pairs" and coordinates.of_model("qwen2_5_vl") == "shown_pixels"
    assert coordinates.of_model("gemma3") == "" and coordinates.of_model("gemma3", "fraction") == "fraction"


# --- scores


@pytest.mark.parametrize("text, answer, expected", [
    ("7", "7", (1, 0, 1, 1, 0)), ("8", "7", (0, 1, 1, 0, 0)), ("21", "20", (1, 1, 1, 1, 0)),
    ("22", "20", (1, 2, 0, 1, 0)),
    ("23", "20", (0, 3, 0, 0, 0)), ("0", "0", (1, 0, 1, 1, 0)), ("1", "0", (0, 1, 1, 0, 0)),
])
def test_counts(text, answer, expected):
    assert located_scores.count(text, answer) == expected


def test_an_answer_without_a_number_has_no_error_and_scores_nothing():
    score = located_scores.count("many", "7")
    assert score.score == 0 and score.unread == 1 and score.error != score.error


def _points(*items, radius=None):
    reference = places.written(POINTS, radius)
    return located_scores.point(CONVENTIONS["thousand"].write("point", items, WHOLE), reference, "thousand", WHOLE)


def test_points_are_matched_one_to_one_within_the_radius():
    near, far = (103.0, 60.0), (160.0, 60.0)  # the radius is 5 % of sqrt(400 x 300), 17.3 pixels
    assert _points(*POINTS[::-1]).score == 1
    assert _points(near, POINTS[1]) == (1, 1, 0) and _points(far, POINTS[1])[:2] == (0.5, 0.5)
    assert _points(POINTS[0])[:2] == (pytest.approx(2 / 3), 0.5)
    assert _points(POINTS[0], near, POINTS[1])[:2] == (pytest.approx(0.8), 1)  # two on one point: one is wrong
    assert _points((110.0, 60.0), POINTS[1], radius=5).score == 0.5 and _points(near, POINTS[1], radius=5).score == 1
    assert _points()[:2] == (0, 0)


def test_matching_is_optimal_not_greedy():
    """The first answer is near both points, the second near the first alone."""
    reference = places.written([(100, 100), (120, 100)], 15)
    text = CONVENTIONS["thousand"].write("point", [(110, 100), (92, 100)], WHOLE)
    assert located_scores.point(text, reference, "thousand", WHOLE).score == 1


def _boxes(*items):
    text = CONVENTIONS["fraction"].write("box", items, WHOLE)
    return located_scores.box(text, places.written(BOXES), "fraction", WHOLE)


def test_boxes_are_matched_at_an_overlap_of_a_half():
    half = (40.0, 30.0, 120.0, 150.0)  # the left half of the first box: IoU 0.5
    assert _boxes(*BOXES)[:2] == (1, pytest.approx(1, abs=0.01))
    assert _boxes(*BOXES[::-1]).score == 1 and _boxes(half, BOXES[1]).score == 1
    assert _boxes((40.0, 30.0, 112.0, 150.0), BOXES[1])[:2] == (0.5, pytest.approx(0.725, abs=0.01))
    assert _boxes(BOXES[0])[:2] == (pytest.approx(2 / 3), pytest.approx(0.5, abs=0.01))
    assert _boxes((0.0, 200.0, 30.0, 300.0))[:2] == (0, 0)


def test_corners_in_the_wrong_order_are_no_box():
    assert located_scores.iou((10, 10, 5, 20), (0, 0, 20, 20)) == 0
    assert located_scores.iou((0, 0, 2, 2), (1, 1, 3, 3)) == 1 / 7


def test_average_precision():
    true, wrong = (0, 0, 10, 10), (50, 50, 60, 60)
    assert located_scores.average_precision([([true], [true])]) == 1
    assert located_scores.average_precision([([true, wrong], [true])]) == 1  # the wrong one stands behind
    assert located_scores.average_precision([([wrong, true], [true])]) == 0.5
    assert located_scores.average_precision([([true], [true]), ([], [true])]) == 0.5
    assert located_scores.average_precision([([true, true], [true])]) == 1  # a second box on one reference
    assert located_scores.average_precision([([wrong], [true])]) == 0
    one, other = ([true], [true]), ([wrong], [true])
    assert located_scores.average_precision([one, other]) == located_scores.average_precision([other, one]) == 0.25
    assert located_scores.average_precision([([], [])]) != located_scores.average_precision([([], [])])  # NaN


@pytest.mark.parametrize("text, kind", [
    ("[1]", "point"), ("{}", "box"), ("[[1, 2], [3]]", "point"), ("[true, 1]", "point"), ("x", "box"),
    ('{"points": [[1, 2]], "radius": 0}', "point"),
])
def test_a_reference_in_another_form_is_an_error(text, kind):
    with pytest.raises(DataError, match=f"The reference of a {kind} is a JSON list"):
        places.reference(text, kind)

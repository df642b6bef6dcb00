"""The sets that related systems are trained or tested on, from tiny copies in their sources' formats."""

import json

import numpy as np
import pytest
from datasets import Features, Image, List, Value

from medstudy import datasets
from medstudy.data.encoded_image import Picture
from medstudy.datasets.benchmarks import med_mat
from medstudy.errors import DataError
from tests.support import hub
from tests.support.fixtures_peers import MAKERS


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> Params of each data set."""
    return {name: maker(tmp_path_factory.mktemp(name)) for name, maker in MAKERS.items()}


def loaded(params, split="test"):
    return {one.image_id: one for one in datasets.load(params, split)}


def test_medframeqa_shows_its_frames_in_order_and_groups_them_by_video(made):
    found = loaded(made["medframeqa"])
    assert {name: (one.group, len(one.images)) for name, one in found.items()} == {
        "q0000": ("v1", 3), "q0001": ("v1", 2), "q0002": ("v2", 5)
    }
    last = found["q0002"]
    for place, shown in enumerate(last.images):
        given = np.asarray(hub_pixels(20 + place, (40 + place, 60)))
        assert np.array_equal(shown.pixels(), given)
    (question,) = last.questions
    assert question.options[0] == "Hydrocephalus" and len(question.options) == 6 and question.answer == "F"
    assert "frames=5" in question.tags and "organ=brain" in question.tags and last.anatomy == "brain"


def hub_pixels(seed, size):
    return Picture(hub.encoded(seed, size)["bytes"], "x").pixels()


def test_geoperception_asks_what_can_be_scored(made):
    questions = {q.id[-1]: q for one in loaded(made["geoperception"]).values() for q in one.questions}
    assert sorted(questions) == list("012345")  # not parallel, perpendicular, nor without an answer
    assert (questions["3"].kind, questions["3"].options) == ("class", ("acute", "obtuse"))
    assert (questions["4"].options, questions["4"].answer) == (("AC", "BA"), "BA")  # AB, from its other end
    assert questions["1"].kind == "open" and questions["1"].tags == ("predicate=PointLiesOnLine",)
    assert datasets.no_claims(made["geoperception"])


def test_geoperception_in_parts(made):
    only = made["geoperception"].model_copy(update={"only": ("Equals",)})
    assert [q.answer for one in loaded(only).values() for q in one.questions] == ["2x+4"]


@pytest.mark.parametrize("change", [{"answer": "CD"}, {"question": "Which line is the longer one?"}])
def test_geoperception_names_a_comparison_that_has_no_options(tmp_path, change):
    row = {"id": "7", "question": "Which line is longer, AC or BA?", "answer": "AC", "predicate": "LineComparison",
           "image": hub.encoded(0)}
    features = Features({name: Image() if name == "image" else Value("string") for name in row})
    params = datasets.geoperception.Params(path=str(hub.repository(tmp_path, {"train": [row | change]}, features)))
    with pytest.raises(DataError, match="LineComparison names its two options"):
        list(datasets.load(params, "test"))


def test_med_mat_tags_modality_area_and_task_and_keeps_an_image_in_one_split(made):
    splits = {split: loaded(made["med_mat"], split) for split in ("train", "val", "test")}
    names = [name for found in splits.values() for name in found]
    assert len(names) == len(set(names)) == 12 and all(splits.values())
    found = {name: one for part in splits.values() for name, one in part.items()}
    both = found["med-mat/CT_Kindney_Dataset/Cyst/Cyst- (0).jpg"]
    kidney, lung = both.questions
    assert kidney.text == "Review this kidney CT scan:\nwhat does it show?" and kidney.answer == "A"
    assert kidney.options == ("Stone", "Cyst", "Normal", "Tumor") and lung.options == ("COVID", "NonCOVID")
    assert lung.tags == ("modality=CT", "area=Lung", "task=COVID-19 Classification", "source=2")


def test_med_mat_in_parts_and_without_a_file(made):
    only = made["med_mat"].model_copy(update={"only": ("03",)})
    assert sum(len(loaded(only, split)) for split in ("train", "val", "test")) == 1
    with pytest.raises(DataError, match="has 02, 03. Download Subset--09-train.json"):
        loaded(made["med_mat"].model_copy(update={"only": ("09",)}))


def test_med_mat_names_a_row_whose_options_are_not_lettered(tmp_path):
    params = MAKERS["med_mat"](tmp_path)
    file = tmp_path / med_mat.FOLDER / "Subset--03-train.json"
    (row,) = json.loads(file.read_text())
    file.write_text(json.dumps([row | {"Question-choice": "Is it COVID-19?\nB: NonCOVID"}]))
    with pytest.raises(DataError, match="'03-1' has the options B"):
        [loaded(params, split) for split in ("train", "val", "test")]


def test_medmultipoints_asks_each_label_for_its_number_points_and_boxes_in_native_pixels(made):
    one, two, none = loaded(made["medmultipoints"]).values()
    assert [(q.kind, q.answer) for q in one.questions] == [
        ("count", "1"), ("point", "[[25.0, 19.0]]"), ("box", "[[10.0, 5.0, 40.0, 33.0]]")
    ]
    assert [(q.text, q.answer) for q in two.questions] == [
        ("How many normal sperm cells are there in the image?", "2"),
        ("Point to all normal sperm cells.", "[[4.0, 6.0], [53.8, 25.5]]"),
        ("Draw a box around each of the normal sperm cells.", "[[2.0, 3.0, 6.0, 9.0], [50.0, 20.0, 57.5, 31.0]]"),
        ("How many clusters of sperm cells are there in the image?", "1"),
        ("Point to all clusters of sperm cells.", "[[37.0, 11.0]]"),
        ("Draw a box around each of the clusters of sperm cells.", "[[30.0, 4.0, 44.0, 18.0]]"),
    ]
    assert [(q.kind, q.answer) for q in none.questions] == [("count", "0")]
    assert [found.modality for found in (one, two, none)] == ["endoscopy", "microscopy", "endoscopy"]
    assert datasets.no_claims(made["medmultipoints"])


def test_medmultipoints_split_by_image(made):
    halves = made["medmultipoints"].model_copy(update={"test_share": 0.4, "val_share": 0.5})
    parts = [set(loaded(halves, split)) for split in ("train", "val", "test")]
    assert set.union(*parts) == set(loaded(made["medmultipoints"])) and sum(map(len, parts)) == 3


@pytest.mark.parametrize("change", [{"count": 3}, {"img_size": [60, 80]}, {"points": [], "count": 0}])
def test_medmultipoints_names_a_row_whose_parts_disagree(tmp_path, change):
    numbers = List(List(Value("float64")))
    features = Features({"image": Image(), "img_size": List(Value("int64")), "points": numbers, "bbox": numbers,
                         "count": Value("int64"), "label": Value("string")})
    row = {"image": hub.encoded(0), "img_size": [80, 60], "points": [[25, 19]], "bbox": [[10, 5, 40, 33]], "count": 1,
           "label": "polyps"}
    folder = hub.repository(tmp_path, {"train": [row | change]}, features)
    with pytest.raises(DataError, match="row 0 has .* Leave the row out"):
        loaded(datasets.medmultipoints.Params(path=str(folder)))


def test_iu_xray_shows_every_view_of_a_study_and_asks_for_its_findings(made):
    two, one, three = loaded(made["iu_xray"]).values()
    assert [len(study.images) for study in (two, one, three)] == [2, 1, 3] and two.group == two.image_id
    (question,) = two.questions
    assert question.kind == "report" and question.tags == ("views=2",)
    assert question.answer == "The heart is normal in size. No pneumothorax or XXXX pleural effusion."
    assert two.context[0].question == "" and two.image.height != two.context[0].image.height


@pytest.mark.parametrize(("content", "words"), [
    ({"train": []}, "must hold an object with the list 'test', but has train"),
    ([], "must hold an object with the list 'test', but has list"),
    ({"test": [{"id": "a", "report": "b"}]}, "Missing: image_path"),
])
def test_iu_xray_names_what_its_table_lacks(tmp_path, content, words):
    (tmp_path / "annotation.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match=words):
        loaded(datasets.iu_xray.Params(path=str(tmp_path)))

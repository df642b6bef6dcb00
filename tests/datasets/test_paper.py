"""The paper's data sets: the author's filters, caps, splits, and kinds of questions."""

import json
import random
from collections import Counter

import numpy as np
import pytest
import yaml
from pydantic import ValidationError

from medstudy import datasets, imaging, params, paths
from medstudy.datasets.paper import bbbc021, hpa, hussain, slake, ubench, wsi_vqa
from medstudy.errors import DataError, ParamsError
from tests.support import fixtures_paper as fixtures
from tests.support import hub


def load(found, split="test"):
    return list(datasets.load(found, split))


def kinds(examples):
    return Counter(question.kind for one in examples for question in one.questions)


def test_pathvqa_turns_cmyk_into_rgb_and_tells_closed_from_open(tmp_path):
    examples = load(fixtures.path_vqa_(tmp_path))
    assert kinds(examples) == {"closed": 6, "open": 3}
    assert {one.image.pixels().shape for one in examples} == {(64, 90, 3)}
    cmyk = examples[1].image.pixels().astype(int)
    plain = hub.encoded(21, (64, 90))
    assert abs(cmyk - imaging.read_array(plain["bytes"])).mean() < 12  # the same picture, not its negative


def test_slake_original_keeps_english_rows_with_an_answer_and_their_tags(tmp_path):
    examples = load(fixtures.slake_original(tmp_path))
    asked = examples[0].questions
    assert [(q.kind, q.answer) for q in asked] == [("open", "CT"), ("closed", "No"), ("open", "Liver")]
    assert "answer_type=CLOSED" in asked[2].tags and "content_type=Size" in asked[2].tags
    assert (examples[0].modality, examples[0].anatomy) == ("CT", "Abdomen")


def test_slake_in_chinese_comes_in_by_an_option(tmp_path):
    params = fixtures.slake_original(tmp_path)
    both = load(params.model_copy(update={"languages": ("en", "zh")}))[0].questions
    assert [(q.kind, q.answer) for q in both] == [
        ("open", "CT"), ("closed", "是"), ("closed", "No"), ("open", "Liver")]
    assert [next(tag for tag in q.tags if tag.startswith("q_lang")) for q in both] == [
        f"q_lang={name}" for name in ("en", "zh", "en", "en")]
    (chinese,) = load(params.model_copy(update={"languages": ("zh",)}))[0].questions
    assert chinese.text == "是否有肝脏?" and not any(tag.startswith("q_lang") for tag in chinese.tags)
    assert not any("q_lang" in tag for question in load(params)[0].questions for tag in question.tags)
    with pytest.raises(ValidationError, match="only form: original"):
        slake.Params(languages=("zh",))


def test_slake_original_reads_no_image_outside_its_folder(tmp_path):
    found = fixtures.slake_original(tmp_path / "slake")
    (tmp_path / "secret.jpg").write_bytes(hub.encoded(0)["bytes"])
    file = tmp_path / "slake" / "test.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([rows[0] | {"img_name": "../../secret.jpg"}]))
    with pytest.raises(DataError, match="relative paths"):
        load(found)


def test_ubench_asks_about_large_images_only_and_leaves_null_questions_out(tmp_path):
    found = fixtures.ubench_(tmp_path)
    examples = load(found)
    assert [one.image_id for one in examples] == ["a", "b"] and not load(found, "train") and not load(found, "val")
    modality = next(q for q in examples[0].questions if q.task == "modality")
    assert (modality.kind, modality.answer, modality.options[-1]) == ("choice", "C", "none of the above")
    assert [q.task for q in examples[1].questions] == ["modality"]
    assert "dataset=hussain_et_al_2019" in modality.tags and not any(tag.startswith("stain") for tag in modality.tags)
    whole = load(found.model_copy(update={"whole": True}))
    assert [one.image_id for one in whole] == ["a", "b", "small"]


@pytest.mark.parametrize("make", [fixtures.hpa_, fixtures.hpa_jsonl])
def test_hpa_is_trained_on_one_prompt_and_evaluated_with_another(tmp_path, make):
    found = make(tmp_path)
    train, test = load(found, "train"), load(found)
    assert {one.questions[0].text for one in train} == {"Provide a description of the given image."}
    assert {one.questions[0].text for one in test} == {
        "Describe the cell line and subcellular localizations shown in this image."
    }
    question = test[0].questions[0]
    assert (question.kind, question.cell_line, question.localizations) == (
        "description", "A-431", ("Cytosol", "Golgi apparatus"),
    )
    assert len(train) + len(load(found, "val")) == (13 if make is fixtures.hpa_ else 14)


def test_hpa_captions_are_split_as_the_author_split_them(tmp_path):
    """The author's script seeds Python's generator with 42, shuffles the rows, and uses the first for testing."""
    random.seed(42)
    order = list(range(16))
    random.shuffle(order)
    found = fixtures.hpa_captions(tmp_path)
    assert [one.image_id for one in load(found)] == [f"images/{i}.jpg" for i in order[:4]]
    rest = {one.image_id for split in ("train", "val") for one in load(found, split)}
    assert rest == {f"images/{i}.jpg" for i in order[4:]}


def test_hpa_caps_cell_lines_then_localizations():
    rng = np.random.default_rng(0)
    lines = [("U-2 OS", "HeLa", "rare")[min(int(i), 2)] for i in rng.geometric(0.6, 300) - 1]
    places = [["Cytosol", "Nucleoli"][: 1 + i % 2] if i % 7 else ["Golgi apparatus"] for i in range(300)]
    names = [f"{i}.jpg" for i in range(300)]
    found = hpa.Params(rows_a_cell_line=60, rows_a_localization=40)
    kept = hpa.kept(lines, places, names, found)
    of_line = Counter(lines[i] for i in kept)
    assert max(of_line.values()) <= 60 and of_line["rare"] <= lines.count("rare")
    named = Counter(place for i in kept for place in places[i])
    assert named["Golgi apparatus"] <= 40 and named["Nucleoli"] <= 80  # a row stays for any of its places
    assert kept == hpa.kept(lines, places, names, found)
    assert kept != hpa.kept(lines, places, names, found.model_copy(update={"cap_seed": 1}))
    loose = hpa.Params()
    assert hpa.kept(lines, places, names, loose) == set(range(300))
    none = hpa.Params(rows_a_cell_line=None, rows_a_localization=None)
    assert hpa.kept(lines, places, names, none) == set(range(300))


def test_hussain_takes_the_first_test_rows_and_needs_relative_paths(tmp_path):
    found = fixtures.hussain_(tmp_path)
    assert [one.image_id for one in load(found)] == [f"images/{i}.jpg" for i in range(20, 26)]
    ids = {q.id for one in load(found) for q in one.questions}
    assert len(ids) == 1  # one query, so that its classes are those of all images
    with pytest.raises(DataError, match="Row 0 of test_200_qwen.jsonl: .*Use relative paths"):
        load(found.model_copy(update={"strip": ""}))


def test_classes_without_a_test_file_hold_rows_out(tmp_path):
    found = fixtures.bbbc021_(tmp_path)
    order = list(range(16))
    random.Random(42).shuffle(order)
    assert {one.image_id for one in load(found)} == {f"week1/{i}.png" for i in order[:5]}
    assert len(load(found, "train")) + len(load(found, "val")) == 11
    with pytest.raises(DataError, match="test_rows"):
        load(found.model_copy(update={"test_rows": None}))


def test_several_images_a_row_are_context_and_the_last_is_asked_about(tmp_path):
    one = load(fixtures.bbbc021_several(tmp_path))[0]
    assert [shot.image.name for shot in one.context] == ["week1/0.png"] and one.image.name != "week1/0.png"
    assert (one.context[0].question, one.context[0].answer) == ("", "")
    assert one.questions[0].text == "(image 1) control (image 2) treated: which mechanism of action?"


def test_wsi_vqa_asks_for_the_subtype_or_for_everything(tmp_path):
    subtype = load(fixtures.wsi_vqa_(tmp_path / "a"))
    assert {(q.kind, q.id) for one in subtype for q in one.questions} == {("class", "histological_type")}
    assert all(len(one.questions) == 1 for one in subtype)  # two ways to ask are one question
    asked = {q.text: q for q in load(fixtures.wsi_vqa_all(tmp_path / "b"))[0].questions}
    assert (asked["which grade?"].kind, asked["which grade?"].answer) == ("choice", "B")
    assert asked["what is the size?"].kind == "open"  # its answer is none of the choices
    assert asked["please predict survival time?"].kind == "open" and asked["was it malignant?"].answer == "A"


def test_wsi_vqa_names_a_slide_without_an_image(tmp_path):
    found = fixtures.wsi_vqa_(tmp_path)
    (tmp_path / "images" / "TCGA-A1-A020-01Z-00-DX1.png").unlink()
    with pytest.raises(DataError, match="TCGA-A1-A020 has none. Render"):
        load(found)
    assert len(load(found.model_copy(update={"skip_missing": True}))) == 3


@pytest.mark.parametrize("module, form", [(slake, "original"), (hpa, "jsonl"), (hpa, "captions")])
def test_forms_that_are_folders_ask_for_one(module, form):
    with pytest.raises(ValueError, match="folder"):
        module.Params(form=form)


def test_parameters_of_every_data_set_can_be_written_in_a_study(tmp_path):
    content = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())
    asked = [
        {"name": "vqa_rad"}, {"name": "path_vqa", "train": 100}, {"name": "ubench", "whole": True},
        {"name": "slake", "form": "original", "path": "data/slake"}, {"name": "hpa", "rows_a_cell_line": None},
        {"name": "hussain", "path": "data/hussain"}, {"name": "bbbc021", "path": "data/bbbc021"},
        {"name": "wsi_vqa", "path": "data/wsi", "topics": ["her2", "histological_type"]},
    ]
    study = params.parse(content | {"datasets": asked})
    assert [one.name for one in study.datasets] == [one["name"] for one in asked]
    assert {type(one) for one in study.datasets} >= {ubench.Params, hussain.Params, bbbc021.Params, wsi_vqa.Params}
    with pytest.raises(ParamsError, match="topics"):
        params.parse(content | {"datasets": [{"name": "wsi_vqa", "path": "x", "topics": ["age"]}]})

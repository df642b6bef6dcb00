"""The related systems' benchmarks, from tiny copies in the formats of their sources: examples from rows."""

import csv
import json

import numpy as np
import pandas as pd
import pytest
from datasets import Features, Image, Value

from medstudy import datasets
from medstudy.data.example import KINDS, LETTERS
from medstudy.data.readers import archives, grouping, question_rules
from medstudy.datasets.benchmarks import gmai_mmbench, medbookvqa, omnimedvqa, pmc_vqa
from medstudy.errors import DataError, ImageError
from tests.support import fixtures_peers, fixtures_related, hub

MAKERS = {**fixtures_related.MAKERS, **fixtures_peers.MAKERS}
SPLITS = {"pmc_vqa": {"train", "test"}, "med_mat": {"train"}, "iu_xray": {"train", "val", "test"}}  # of the source


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """name -> (Params, {split: examples}) of each data set."""
    found = {}
    for name, maker in MAKERS.items():
        params = maker(tmp_path_factory.mktemp(name))
        found[name] = params, {split: list(datasets.load(params, split)) for split in ("train", "val", "test")}
    return found


def loaded(made, name):
    return {one.image_id: one for one in made[name][1]["test"]}


def pixels(picture):
    return picture.pixels().astype(int)


@pytest.mark.parametrize("name", MAKERS)
def test_examples_keep_the_rules_of_the_records(made, name):
    params, splits = made[name]
    assert splits["test"] and bool(splits["train"]) == bool(splits["val"]) == (name in SPLITS)
    assert set(datasets.card(params).splits) == SPLITS.get(name, {"test"})
    for split, examples in splits.items():
        assert len({one.image_id for one in examples}) == len(examples)
        for one in examples:
            assert (one.dataset, one.split, one.render) == (name, split, False) and one.group and one.family
            assert all(picture.pixels().shape[2] == 3 for picture in one.images)
            assert len({question.id for question in one.questions}) == len(one.questions) > 0
            for question in one.questions:
                assert question.kind in KINDS and question.answer.strip() and question.text.strip()
                assert "<image" not in question.text and all("=" in tag for tag in question.tags)
                if question.kind == "choice":
                    assert question.answer in LETTERS[: len(question.options)] and all(question.options)


@pytest.mark.parametrize("name", MAKERS)
def test_a_cap_takes_as_many_images_and_the_same_each_time(made, name):
    params = made[name][0].model_copy(update={"test": 2})
    once, again = ([one.image_id for one in datasets.load(params, "test")] for _ in range(2))
    assert once == again and len(once) == 2 and set(once) <= set(loaded(made, name))


def test_pmc_vqa_strips_letters_and_keeps_an_article_in_one_split(made):
    splits = made["pmc_vqa"][1]
    first, second = loaded(made, "pmc_vqa")["PMC90_Fig1_1.jpg"].questions
    assert first.options == ("Nodule", "A: cyst", "Effusion", "None") and first.text == "What is, by the arrow, shown?"
    assert (first.answer, second.answer, first.id, second.id) == ("B", "B", "0", "6")
    assert not {one.group for one in splits["train"]} & {one.group for one in splits["val"]}
    assert len(splits["train"]) + len(splits["val"]) == 16
    assert {one.group for one in splits["test"]} == {"PMC90", "PMC91", "PMC92"}


def test_pmc_vqa_of_version_1_takes_the_letter_and_without_one_the_text(tmp_path):
    params = fixtures_related.of_pmc_vqa_1(tmp_path)
    assert [one.questions[0].answer for one in datasets.load(params, "test")] == ["B"]
    clean = params.model_copy(update={"release": "1-clean"})
    assert [one.questions[0].answer for one in datasets.load(clean, "test")] == ["C"]
    fixtures_related.table(tmp_path / "test.csv", [{**_row(tmp_path / "test.csv"), "Anwser": "Neither"}])
    with pytest.raises(DataError, match="Answer_label, Answer or Anwser must hold .* test.csv row 0 has"):
        list(datasets.load(params, "test"))


def _row(file):
    with file.open(newline="") as lines:
        return next(csv.DictReader(lines))


def test_omnimedvqa_finds_answers_but_for_case_and_a_full_stop(made):
    found = loaded(made, "omnimedvqa")
    chest = found["Images/Chest CT Scan/000 (2).png"]
    assert chest.questions[0].options == ("Yes", "No, It's normal.") and chest.questions[0].answer == "B"
    assert chest.modality == "CT(Computed Tomography)"
    assert chest.questions[0].tags == ("source=Chest CT Scan", "modality=CT(Computed Tomography)")
    assert [q.id for q in found["Images/ACRIMA/Im1_ACRIMA.png"].questions] == ["ACRIMA_0002", "ACRIMA_0003"]


def test_omnimedvqa_in_parts_and_split(made):
    params = made["omnimedvqa"][0]
    only = params.model_copy(update={"only": ("Chest CT Scan",)})
    assert len(list(datasets.load(only, "test"))) == 1
    with pytest.raises(DataError, match=r"`only` names \['chest'\]"):
        list(datasets.load(params.model_copy(update={"only": ("chest",)}), "test"))
    halves = params.model_copy(update={"test_share": 0.5, "val_share": 0.5})
    parts = [{one.image_id for one in datasets.load(halves, split)} for split in ("train", "val", "test")]
    assert set.union(*parts) == set(loaded(made, "omnimedvqa")) and sum(map(len, parts)) == 4


def test_omnimedvqa_names_an_answer_that_is_no_option(tmp_path):
    params = fixtures_related.of_omnimedvqa(tmp_path)
    file = tmp_path / omnimedvqa.QUESTIONS / "ACRIMA.json"
    rows = json.loads(file.read_text())
    file.write_text(json.dumps([rows[0] | {"gt_answer": "MRI"}]))
    with pytest.raises(DataError, match="ACRIMA_0000 has 'MRI'"):
        list(datasets.load(params, "test"))


def test_mmmu_counts_images_as_they_are_shown_and_reads_options_as_literals(made):
    found = loaded(made, "mmmu")["validation_Clinical_Medicine_1"]
    (question,) = found.questions
    assert question.text == "(image 1) Which scan shows (image 2)?"
    assert question.options == ('The "first"', "The patient's", "(image 2)") and question.answer == "C"
    assert [shot.image.width for shot in found.context] == [80] and found.image.width == 40
    assert (found.context[0].question, found.context[0].answer) == ("", "")
    (opened,) = loaded(made, "mmmu")["validation_Pharmacy_2"].questions
    assert (opened.kind, opened.answer, opened.options) == ("open", "21", ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"options": "__import__('os').getcwd()"}, "the text of a list, but x has"),
        ({"options": "['one', ['two']]"}, "the text of a list, but x has"),
        ({"answer": "?"}, "Use a split with public answers"),
        ({"answer": "D"}, "one of its 2 options, but 'x'"),
        ({"answer": "AB"}, "one of its 2 options, but 'x'"),
        ({"question": "<image 2> What?"}, "x has no image 2"),
        ({"options": str(list("abcdefghijk"))}, "at most 10 options, one per letter, but 'x' has 11"),
    ],
)
def test_mmmu_refuses_what_it_cannot_ask(tmp_path, change, words):
    row = {"id": "x", "question": "<image 1> What?", "options": "['a', 'b']", "answer": "A",
           "question_type": "multiple-choice", "image_1": hub.encoded(0)}
    features = Features({name: Image() if name == "image_1" else Value("string") for name in row})
    hub.repository(tmp_path, {"validation": [row | change]}, features, "Pharmacy")
    with pytest.raises(DataError, match=words):
        list(datasets.load(datasets.mmmu.Params(path=str(tmp_path), subjects=("Pharmacy",)), "test"))


def test_medxpertqa_cuts_the_repeated_options_and_shows_images_in_order(made):
    found = loaded(made, "medxpertqa")["MM-2"]
    (question,) = found.questions
    assert question.text == "A man, 22, falls.\nWhich step comes next?"
    assert (question.answer, len(question.options), len(found.context)) == ("C", 5, 2)
    assert [picture.name for picture in found.images] == [f"images/MM-2-{letter}.jpeg" for letter in "abc"]
    assert "body_system=Skeletal" in question.tags


def test_microvqa_asks_together_about_the_same_images(made):
    pair, alone, other = made["microvqa"][1]["test"]
    assert [(q.id, q.answer) for q in pair.questions] == [("100", "A"), ("101", "B")]
    assert [(one.height, one.width) for one in pair.images] == [(56, 84), (84, 56)]
    assert [q.id for q in alone.questions] == ["102"] and alone.images == pair.images[1:]
    assert pair.group == alone.group != other.group  # an image of the one is an image of the other


def test_mediconfusion_pairs_are_sets_and_linked_images_one_group(made):
    found = loaded(made, "mediconfusion")
    first, other = found["20001"].questions[0], found["20002"].questions[0]
    assert first.set_id == other.set_id == "10001" and (first.answer, other.answer) == ("A", "B")
    assert first.options == other.options == ("A clot", "No clot")
    assert first.tags == ("category=Cerebral", "category=Vascular") and other.tags == ("category=Spinal",)
    assert [q.set_id for q in found["20001"].questions] == ["10001", "10002"]
    groups = {name: one.group for name, one in found.items()}
    assert groups["20001"] == groups["20002"] == groups["20003"] != groups["20004"] == groups["20005"]


@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_mediconfusion_scores_no_part_of_a_pair_as_a_set(made, most):
    examples = list(datasets.load(made["mediconfusion"][0].model_copy(update={"test": most}), "test"))
    asked = [question for one in examples for question in one.questions]
    pairs = [question.id.split("-")[0] for question in asked]
    assert len(examples) == most
    assert [one.set_id for one in asked] == [pair if pairs.count(pair) == 2 else None for pair in pairs]


def test_probmed_sets_are_an_image_s_dimensions(made):
    found = loaded(made, "probmed")["chest/1.png"]
    sets = pd.Series([question.set_id for question in found.questions]).value_counts().to_dict()
    assert sets == {
        "chest/1.png modality": 2, "chest/1.png body_part": 2, "chest/1.png entity": 4, "chest/1.png grounding": 2
    }
    (alone,) = (question for question in found.questions if question.set_id is None)
    assert alone.task == "abnormality closed" and found.questions[0].text == "Is there modality_gt?"


def test_gmai_mmbench_reads_tags_of_any_case_and_as_many_options_as_there_are(made):
    found = loaded(made, "gmai_mmbench")
    assert [len(found[str(n)].questions[0].options) for n in range(4)] == [2, 4, 5, 2]
    assert [found[str(n)].questions[0].answer for n in range(4)] == ["B", "D", "E", "B"]
    assert found["1"].questions[0].tags == (
        "category=polyp", "clinical_vqa_task=Disease Diagnosis", "department=Endocrinology",
        "perceptual_granularity=image", "modality=Endoscopy",
    )
    assert found["0"].group == found["3"].group != found["1"].group  # the same bytes
    assert (found["0"].family, found["1"].family) == ("Endocrinology", "Endoscopy")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"image": "1"}, "Image 0 of GMAI-MMBench must be a file in base64, but it has 1 characters, '1'"),
        ({"image": "@" * 100}, "Image 0 of GMAI-MMBench must be a file in base64"),
        ({"answer": "AB"}, "the answer 'AB'"),
        ({"A": ""}, "has the options B"),
    ],
)
def test_gmai_mmbench_names_a_malformed_row(tmp_path, change, words):
    fixtures_related.of_gmai_mmbench(tmp_path)
    file = tmp_path / "GMAI-MMBench_VAL.tsv"
    rows = pd.read_csv(file, sep="\t", dtype=str, keep_default_na=False).to_dict("records")
    fixtures_related.table(file, [rows[0] | change], "\t")
    with pytest.raises(DataError, match=words):
        list(datasets.load(gmai_mmbench.Params(path=str(tmp_path)), "test"))


def test_gmai_mmbench_s_test_files_have_no_answers(tmp_path):
    fixtures_related.of_gmai_mmbench(tmp_path)
    file = tmp_path / "GMAI-MMBench_VAL.tsv"
    pd.read_csv(file, sep="\t", dtype=str).drop(columns="answer").to_csv(file, sep="\t", index=False)
    with pytest.raises(DataError, match="Missing: answer: the right letter .the public test files have none"):
        list(datasets.load(gmai_mmbench.Params(path=str(tmp_path)), "test"))


def test_medbookvqa_puts_each_option_at_its_letter(made):
    found = loaded(made, "medbookvqa")
    (question,) = found["c115302"].questions
    assert question.options == ("Duct", "Fat", "Lactiferous sinus", "Areola") and question.answer == "C"
    assert found["c115300"].group == found["c115301"].group != found["c115302"].group
    assert (found["c115302"].modality, found["c115302"].anatomy) == ("Mammography", "Mammary gland")


def test_smmile_shows_a_problem_s_examples_before_its_question(made):
    params, splits = made["smmile"]
    assert {one.image_id for one in splits["test"]} == {"one", "two"}  # "three" lacks an image
    one, two = splits["test"]
    assert [(shot.question, shot.answer) for shot in one.context] == [
        ("What colour, 1?", "White."), ("What colour, 2?", "Red.")
    ]
    (asked,) = one.questions
    assert (asked.text, asked.answer, asked.kind) == ("What colour, 3?", "Yes", "closed")
    assert two.context == () and two.questions[0].kind == "open"
    alone = next(datasets.load(params.model_copy(update={"shots": False}), "test"))
    assert alone.context == () and np.array_equal(pixels(alone.image), pixels(one.image))


def test_mmxu_shows_the_earlier_image_first_and_groups_by_patient(made):
    first, other = made["mmxu"][1]["test"]
    assert [q.answer for q in first.questions] == ["B", "C"] and first.questions[0].tags == ("change=worsen",)
    assert [picture.name.split("/")[3] for picture in first.images] == ["s51", "s52"]
    assert (first.group, other.group) == ("p10225880", "p12225882")
    assert len(first.context) == 1 and not np.array_equal(pixels(first.context[0].image), pixels(first.image))


# What all of them refuse


@pytest.mark.parametrize("name", ["mediconfusion", "omnimedvqa", "probmed"])
def test_what_must_be_downloaded_by_hand_says_so(made, name, tmp_path):
    params = made[name][0].model_copy(update={"path": str(tmp_path / "nowhere")})
    with pytest.raises(DataError, match="This data set is a folder with .* is not a folder. Download"):
        list(datasets.load(params, "test"))


@pytest.mark.parametrize(("name", "pick"), [
    ("pmc_vqa", "PMC-VQA"), ("gmai_mmbench", "GMAI-MMBench"), ("medbookvqa", "MedBookVQA"), ("mmxu", "MMXU"),
])
def test_a_hub_id_fetches_only_the_files_that_are_read(made, monkeypatch, name, pick):
    asked = {}

    def snapshot(path, **options):
        asked.update(options, path=path)
        return made[name][0].path

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    default = type(made[name][0]).model_fields["path"].default
    params = made[name][0].model_copy(update={"path": default, "revision": "c0"})
    assert len(list(datasets.load(params, "test"))) == len(made[name][1]["test"])
    assert asked["repo_type"] == "dataset" and asked["revision"] == "c0" and asked["path"].endswith(pick)
    assert asked["allow_patterns"] and not any("*" in pattern for pattern in asked["allow_patterns"])


def test_a_hub_that_does_not_answer_is_explained(monkeypatch):
    def snapshot(path, **options):
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(DataError, match="no route to host. Without a network, download data.json, figures.zip"):
        list(datasets.load(medbookvqa.Params(), "test"))


@pytest.mark.parametrize(("name", "file", "column"), [
    ("pmc_vqa", "test_2.csv", "Question"), ("mediconfusion", "dataset.csv", "im_2_local"),
    ("probmed", "probmed.json", "qa_type"), ("medbookvqa", "data.json", "other_choices"),
    ("omnimedvqa", "QA_information/Open-access/ACRIMA.json", "gt_answer"), ("mmxu", "MMXU-test.jsonl", "answer"),
    ("gmai_mmbench", "GMAI-MMBench_VAL.tsv", "A"),
])
def test_a_column_that_is_gone_is_named(tmp_path, name, file, column):
    params = MAKERS[name](tmp_path)
    content = (tmp_path / file).read_text()
    renamed = f"{column}?" if file.endswith((".csv", ".tsv")) else f'"{column}?":'
    sought = column if file.endswith((".csv", ".tsv")) else f'"{column}":'
    if file.endswith(".tsv"):
        sought, renamed = f"\t{column}\t", f"\t{renamed}\t"
    (tmp_path / file).write_text(content.replace(sought, renamed))
    with pytest.raises(DataError, match=rf"(?s)must have .*Missing: {column}: "):
        list(datasets.load(params, "test"))


@pytest.mark.parametrize(("name", "split"), [("smmile", "train"), ("microvqa", "test"), ("medxpertqa", "test")])
def test_a_column_that_the_hub_lacks_is_named(tmp_path, name, split):
    params = MAKERS[name](tmp_path)
    features = Features({"question": Value("string")})
    config = "MM" if name == "medxpertqa" else "default"
    (tmp_path / "README.md").unlink()
    hub.repository(tmp_path, {split: [{"question": "a"}]}, features, config)
    with pytest.raises(DataError, match="must have the columns .* Missing: "):
        list(datasets.load(params, "test"))


@pytest.mark.parametrize("name", ["../secret.png", "/etc/secret.png", "a/../../secret.png", "..\\secret.png", ""])
def test_names_that_leave_the_folder_are_refused(tmp_path, name):
    fixtures_related.write(tmp_path / "secret.png", fixtures_related.image(0, "PNG"))
    fixtures_related.zipped(tmp_path / "data" / "a.zip", {"../secret.png": b"x", "/etc/secret.png": b"x"})
    for images in (archives.Images(tmp_path / "data"), archives.Images(tmp_path / "data", ("a.zip",))):
        with pytest.raises(DataError, match="Use relative paths"):
            images(name)


def test_a_link_out_of_the_folder_is_refused(tmp_path):
    fixtures_related.write(tmp_path / "secret.png", fixtures_related.image(0, "PNG"))
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.png").symlink_to(tmp_path / "secret.png")
    with pytest.raises(DataError, match="must be in its folder"):
        archives.Images(tmp_path / "data")("a.png")


@pytest.mark.parametrize(("name", "image"), [("probmed", "chest/1.png"), ("mediconfusion", "images/20003.jpg")])
def test_an_image_that_is_not_there_is_named(tmp_path, name, image):
    params = MAKERS[name](tmp_path)
    (tmp_path / image).unlink()
    with pytest.raises(DataError, match=f"names the image .*{image.split('/')[-1]}"):
        list(datasets.load(params, "test"))


def test_archives_are_read_as_they_are_and_a_damaged_one_is_named(tmp_path):
    whole = fixtures_related.image(3)
    fixtures_related.zipped(tmp_path / "a.zip", {"figures/x.jpg": whole, "figures/y.jpg": whole[:200]})
    images = archives.Images(tmp_path, ("a.zip", "absent.zip"), ("figures",))
    assert images("./x.jpg").data == whole and list(tmp_path.iterdir()) == [tmp_path / "a.zip"]  # nothing unpacked
    with pytest.raises(ImageError, match="figures/y.jpg"):
        images("y.jpg").pixels()
    (tmp_path / "a.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:-30])
    with pytest.raises(DataError, match="a.zip must be a zip archive"):
        archives.Images(tmp_path, ("a.zip",))


def test_a_flipped_bit_in_an_archive_is_noticed(tmp_path):
    fixtures_related.zipped(tmp_path / "a.zip", {"x.jpg": fixtures_related.image(3)})
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[200] ^= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(DataError, match="x.jpg in .* cannot be unpacked"):
        archives.Images(tmp_path, ("a.zip",))("x.jpg")


def test_cells_of_a_table_stay_text(tmp_path):
    file = tmp_path / "a.csv"
    file.write_bytes("\ufeffid,answer,note\r\n007,NA,\r\n1e5,None,\"a\r\nb, c\"\r\n".encode())
    rows = list(archives.table(file, {"id": "the row's"}, at_once=1))
    assert rows == [
        {"id": "007", "answer": "NA", "note": ""}, {"id": "1e5", "answer": "None", "note": "a\r\nb, c"}
    ]
    file.write_bytes(b"id\n\xff\xfe\n")
    with pytest.raises(DataError, match="must be a table in UTF-8"):
        list(archives.table(file, {}))
    file.write_bytes(b"")
    with pytest.raises(DataError, match="must be a table in UTF-8"):
        list(archives.table(file, {}))


def test_choices_are_checked():
    with pytest.raises(DataError, match="at most 10 options"):
        question_rules.choice("q", "?", tuple("abcdefghijk"), 10, "task")
    with pytest.raises(DataError, match="has the options A, C and the answer 'A'"):
        question_rules.lettered("q", "?", {"A": "x", "C": "y"}, "A", "task")
    with pytest.raises(DataError, match="the answer 'C'"):
        question_rules.lettered("q", "?", {"A": "x", "B": "y"}, "C", "task")
    assert grouping.tags(a="x ", b=None, c="", d=["y", " "]) == ("a=x", "d=y")


def test_a_source_s_schema_says_where_it_was_read():
    for name in MAKERS:
        card = datasets.REGISTRY[name].CARD
        assert card.schema_from and card.license and card.url.startswith("https://")
    assert pmc_vqa.Params().path == "RadGenome/PMC-VQA"

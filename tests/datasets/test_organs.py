"""organs: read from archives in the layout of the real ones, answers recomputed from their label maps."""

import re
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from medstudy import datasets, params, paths
from medstudy.data import leakage
from medstudy.data.example import SPLITS
from medstudy.datasets import build, organs
from medstudy.datasets.organs import archives, crops, volumes
from medstudy.errors import DataError
from tests.support import organ_archives as fake

CARD = (paths.PACKAGE / "datasets" / "organs" / "README.md").read_text(encoding="utf-8")

REAL = archives.ARCHIVES


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("organs") / "archives"
    with pytest.MonkeyPatch.context() as patch:
        fake.write(folder, patch)
        yield folder
    volumes.read_all.cache_clear()


@pytest.fixture(scope="module")
def examples(folder):
    given = organs.Params(path=str(folder), crops=6)
    return {split: list(organs.load(given, split)) for split in SPLITS}


def questions(examples, name):
    return [(example, question) for split in SPLITS for example in examples[split]
            for question in example.questions if question.id == name]


def test_the_grey_value_at_a_crops_centre_is_that_of_the_organ_it_asks_for(examples):
    """So the label map lies on the image, whatever the orders of its axes and of the files."""
    low, high = volumes.VOLUMES["abdomen"].window
    for example, question in questions(examples, "organ"):
        pixels = np.asarray(example.image)[..., 0]
        height, width = pixels.shape
        z = int(example.image_id.split("-")[2])
        code = crops.NAMES.index(question.answer) + 1
        expected = 255 * (-160 + fake.STEP * code + z - low) / (high - low)
        assert pixels[height // 2, width // 2] == pytest.approx(expected, abs=1)
    assert {question.answer for _, question in questions(examples, "organ")} == set(crops.NAMES)


def test_the_detail_is_the_widest_disc_of_the_organ_at_the_centre(examples):
    depth = {code: ndimage.distance_transform_edt(fake.organ_map() == code) for code in range(1, len(crops.NAMES) + 1)}
    for example, question in questions(examples, "organ"):
        top, left, bottom, right = map(int, re.findall(r"\d+", example.source.partition("[")[2]))
        at = top + (bottom - top) // 2, left + (right - left) // 2
        assert question.detail_px == pytest.approx(2 * depth[crops.NAMES.index(question.answer) + 1][at], abs=0.06)
        assert question.detail_px >= 2 * crops.DEPTHS[0]


def test_an_organ_said_to_be_visible_is_in_the_crop(examples):
    low, high = volumes.VOLUMES["abdomen"].window
    answers = Counter()
    for example, question in questions(examples, "visible"):
        organ = question.text.removeprefix("Is part of the ").removesuffix(" visible?")
        z = int(example.image_id.split("-")[2])
        value = 255 * (-160 + fake.STEP * (crops.NAMES.index(organ) + 1) + z - low) / (high - low)
        shown = bool((np.abs(np.asarray(example.image)[..., 0] - value) <= 1).any())
        assert shown == (question.answer == "yes")
        answers[question.answer] += 1
    assert answers["yes"]


def test_half_of_the_tumour_crops_have_all_of_the_tumour_and_the_others_nothing_of_it(examples):
    answers, size = Counter(), round(2 * float(np.sqrt(12 * 20 / np.pi)), 1)
    for example, question in questions(examples, "tumour"):
        bright = int((np.asarray(example.image)[..., 0] > 128).sum())
        assert bright == (12 * 20 if question.answer == "yes" else 0) and question.detail_px == size
        answers[example.anatomy, example.split, question.answer] += 1
    slices = {(name.rstrip("12"), split): end - first for name, (first, end) in fake.TUMOURS.items()
              for split in volumes.VOLUMES[name].splits}
    assert answers == {(*key, answer): 3 * count for key, count in slices.items() for answer in ("yes", "no")}


def test_no_patient_with_a_tumour_and_no_slice_of_the_abdomen_is_in_two_splits(examples):
    groups = {split: {example.group for example in examples[split]} for split in SPLITS}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["val"]
    planes = volumes.VOLUMES["abdomen"].splits
    apart = [abs(a - b) for one in SPLITS for other in SPLITS if one != other
             for a in planes[one] for b in planes[other]]
    assert min(apart) == 4
    patients = [name for name, about in volumes.VOLUMES.items() if name != "abdomen" and len(about.splits) == 1]
    assert patients == list(fake.TUMOURS)


def test_images_are_native_grey_and_never_rendered(examples):
    ids = set()
    for example in (example for split in SPLITS for example in examples[split]):
        assert example.image.mode == "RGB" and min(example.image.size) >= crops.LOW
        assert max(example.image.size) <= fake.SIDE
        assert example.render is False and "not redistributed" in example.license
        ids.add(example.image_id)
    assert len(ids) == sum(map(len, examples.values()))


def test_the_same_params_give_the_same_images_and_caps_take_a_mixed_prefix(folder, examples):
    given = organs.Params(path=str(folder), crops=6, test=7)
    some = list(organs.load(given, "test"))
    assert [example.image_id for example in some] == [example.image_id for example in examples["test"]][:7]
    assert {example.anatomy for example in some} == {"abdomen", "lung", "brain"}
    assert all((np.asarray(a.image) == np.asarray(b.image)).all() for a, b in zip(some, examples["test"], strict=False))


def test_whole_slices_have_an_organ_for_every_pixel(folder):
    (one, two) = organs.organ_slices(organs.Params(path=str(folder)), "val")
    assert [one.id, two.id] == ["organs-abdomen-009", "organs-abdomen-010"]
    assert (one.codes == fake.organ_map()).all() and one.grey.shape == one.codes.shape


def test_it_builds_and_no_claim_is_tested_on_it(folder, tmp_path):
    given = params.data({"name": "organs", "path": str(folder), "crops": 2})
    table = build.build(given, tmp_path / "built")
    assert set(table["split"]) == set(SPLITS) and datasets.no_claims(given) == organs.NO_CLAIMS
    assert datasets.version(given) == organs.VERSION


def test_a_relative_path_is_relative_to_the_params_file(folder):
    placed = params.data({"name": "organs", "path": "archives"}, folder=folder.parent)
    assert placed.path == str(folder)
    assert organs.Params().path == "archives"


def test_missing_archives_say_which_and_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"totalsegmentator-2\.18\.0\.tar\.gz.*pip download .*-d archives"):
        list(organs.load(organs.Params(path=str(tmp_path / "archives")), "test"))


def test_a_changed_archive_stops(folder, tmp_path):
    (tmp_path / "archives").mkdir()
    for file in folder.iterdir():
        (tmp_path / "archives" / file.name).write_bytes(file.read_bytes())
    changed = tmp_path / "archives" / archives.ARCHIVES["pyradiomics"].file
    changed.write_bytes(changed.read_bytes()[:-1] + b"x")
    with pytest.raises(DataError, match="pyradiomics-3.0.1.tar.gz must have the SHA-256"):
        list(organs.load(organs.Params(path=str(changed.parent)), "test"))


@pytest.mark.parametrize(("name", "data", "message"), [
    ("data/lung1_image.nrrd", fake.nrrd(np.zeros((2, 3, 4), np.int16), encoding="raw"), "encoding gzip, got 'raw'"),
    ("data/lung1_image.nrrd", fake.nrrd(np.zeros((2, 3, 4), np.int16), type="float"), "type short or int, got 'float'"),
    ("data/lung1_image.nrrd", fake.nrrd(np.zeros((2, 3, 4), np.int16), sizes="4 3 9"), "must hold"),
    ("data/lung1_label.nrrd", fake.nrrd(np.zeros((2, 3, 4), np.int32)), "Labels have the shape of their image"),
])
def test_a_file_of_another_form_stops_with_its_name(tmp_path, name, data, message):
    with pytest.MonkeyPatch.context() as patch:
        fake.write(tmp_path / "archives", patch, **{name: data})
        with pytest.raises(DataError, match=message):
            list(organs.load(organs.Params(path=str(tmp_path / "archives")), "test"))
    volumes.read_all.cache_clear()


def test_an_archive_without_a_file_stops(folder):
    with pytest.raises(DataError, match="must have data/lung3_image.nrrd"):
        archives.files(folder, "pyradiomics", ["data/lung3_image.nrrd"])


def test_the_data_card_names_the_archives_the_command_and_every_volume():
    pinned = " ".join(archives.command().split())
    assert pinned in " ".join(CARD.replace("\\\n", " ").split())
    for name, about in volumes.VOLUMES.items():
        archive = archives.ARCHIVES[about.package]
        line = next(line for line in CARD.splitlines() if line.startswith(f"| {name} |"))
        assert f"{archive.package} {archive.version}" in line
        assert all(file.rstrip("/").split("/")[-1] in line for file in about.files)
        assert archive.license.split(" ")[0] in line


@pytest.mark.slow
@pytest.mark.skipif(not (paths.ROOT / "archives" / archives.ARCHIVES["pyradiomics"].file).is_file(),
                    reason="the real archives are not in archives/")
def test_the_real_archives_hold_what_the_data_card_says_and_leak_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "ARCHIVES", REAL)
    given = organs.Params(path=str(paths.ROOT / "archives"))
    build.build(given, tmp_path / "built")
    assert leakage.find(pd.read_parquet(tmp_path / "built" / "fingerprints.parquet")).empty
    real = {split: list(organs.load(given, split)) for split in SPLITS}
    asked = [question for split in SPLITS for example in real[split] for question in example.questions]
    fine = sum(question.detail_px is not None for question in asked)
    assert f"{sum(map(len, real.values()))} images, {len(asked)} questions, of which {fine} are fine" in CARD
    for name in volumes.VOLUMES:
        counts = [sum(f"organs-{name}-" in example.image_id for example in real[split]) for split in SPLITS]
        line = next(line for line in CARD.splitlines() if line.startswith(f"| {name} |"))
        assert f"| {' / '.join(map(str, counts))} |" in line

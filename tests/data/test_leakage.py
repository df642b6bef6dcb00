"""All copies of an image are found, similar and flat images are not; the counts are right."""

import io
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medstudy import datasets, params, paths
from medstudy.data import leakage, perceptual_hash
from medstudy.data.encoded_image import Picture
from medstudy.data.example import Shot
from medstudy.datasets import phantom
from medstudy.datasets.build import build
from medstudy.errors import DataError
from medstudy.params import Allowed
from medstudy.report import study_data
from medstudy.runs import inputs, plan
from medstudy.runs.record import recorded
from medstudy.workflow import notebooks
from tests.conftest import make_example
from tests.datasets.test_vqa_rad import FEATURES, rows
from tests.support import hub
from tests.support.studies import write_study


def scene(seed: int, size=(180, 240)) -> Image.Image:
    """Smooth random structure of (height, width), with less of fine structure, as in photographs."""
    rng = np.random.default_rng([3, seed])
    layers = [
        Image.fromarray(rng.normal(0, 60 / side**0.5, (side, side)).astype(np.float32)).resize(
            size[::-1], Image.Resampling.BICUBIC
        )
        for side in (3, 6, 12, 40)
    ]
    grey = 128 + sum(np.asarray(layer) for layer in layers)
    return Image.fromarray(np.stack([grey, 0.9 * grey, 0.8 * grey], axis=2).clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def scaled(image: Image.Image, factor: float) -> Image.Image:
    size = (round(image.width * factor), round(image.height * factor))
    return image.resize(size, Image.Resampling.BICUBIC)


def example(name: str, image, split: str, dataset: str = "made", group: str | None = None, context=()):
    group = group or f"{split}/{name}"
    one = make_example(0, (8, 8), split)
    return replace(one, image_id=name, image=image, dataset=dataset, group=group, context=context)


def found(*examples, **how) -> pd.DataFrame:
    return leakage.find(leakage.fingerprints(examples), **how)


COPIES = {
    "jpeg": lambda image: jpeg(image, 60),
    "half": lambda image: scaled(image, 0.5),
    "double": lambda image: scaled(image, 2),
    "square": lambda image: image.resize((84, 84), Image.Resampling.BICUBIC),
    "brighter": lambda image: image.point(lambda value: int(255 * (value / 255) ** 0.8)),
    "edge cut": lambda image: image.crop((2, 2, image.width - 2, image.height - 2)),
} | {one.name: lambda image, one=one: jpeg(image.transpose(one), 80) for one in Image.Transpose}


@pytest.mark.parametrize("copy", COPIES.values(), ids=COPIES.keys())
def test_a_copy_is_found_and_no_other_image(copy):
    scenes = [scene(seed) for seed in range(12)]
    pairs = found(
        *(example(f"{i}", image, "train") for i, image in enumerate(scenes)), example("copy", copy(scenes[7]), "test")
    )
    assert pairs[["kind", "split_a", "image_a", "split_b", "image_b"]].values.tolist() == [
        ["near", "train", "7", "test", "copy"]
    ]
    assert pairs["distance"].iloc[0] <= leakage.DISTANCE and pairs["likeness"].iloc[0] >= leakage.LIKENESS


def test_the_same_pixels_are_exact_whatever_file_holds_them():
    image = scene(1)
    buffer = io.BytesIO()
    image.save(buffer, "BMP")
    pairs = found(example("a", Picture.of(image, "a"), "train"), example("b", Picture(buffer.getvalue(), "b"), "test"))
    assert pairs["kind"].tolist() == ["exact"] and pairs["distance"].tolist() == [0]
    turned = Image.fromarray(np.asarray(scene(1, (90, 120))).reshape(120, 90, 3))
    assert found(example("a", scene(1, (90, 120)), "train"), example("b", turned, "test")).empty


def test_different_patients_in_one_pose_are_not_copies():
    few = phantom.Params(train=32, val=4, test=4, seed=5)
    chests = [one for one in datasets.load(few, "train") if one.family == "radiology"]
    assert len(chests) == 8 and found(*chests).empty
    assert len(found(*chests, likeness=0.5)), "they would be alike without the second look"


def test_flat_images_are_compared_by_their_pixels_only():
    noise = np.random.default_rng(0).integers(0, 3, (2, 64, 64, 3), dtype=np.uint8)
    blank = [Image.fromarray(np.full((40, 40, 3), level, np.uint8)) for level in (0, 1, 0)]
    noisy = [example("n0", Image.fromarray(noise[0]), "train"), example("n1", Image.fromarray(noise[1]), "test")]
    blanks = [example(f"b{i}", blank[i], split) for i, split in enumerate(("train", "val", "test"))]
    table = leakage.fingerprints([*noisy, *blanks])
    assert table["near"].isna().all()
    assert leakage.find(table)[["kind", "image_a", "image_b"]].values.tolist() == [["exact", "b0", "b2"]]


def test_many_copies_give_few_pairs():
    image, other = scene(0), jpeg(scene(0), 70)
    every = [example(f"a{i}", image, "train") for i in range(30)] + [example(f"b{i}", other, "test") for i in range(20)]
    pairs = found(*every)
    assert len(leakage.leaks(pairs)) == 30 + 20 - 1 and len(leakage.repeats(pairs)) == 29 + 19
    assert leakage.leaks(pairs)["image_b"].nunique() == 20 and leakage.leaks(pairs)["image_a"].nunique() == 30


def test_counts_say_how_many_images_of_a_split_stand_in_another():
    a, b, c, d = (scene(seed) for seed in range(4))
    examples = [
        example("1", a, "train", group="p"), example("2", b, "train"), example("3", b, "train"),
        example("4", a, "test"), example("5", jpeg(b, 70), "test"), example("6", c, "test", group="p"),
        example("7", scaled(a, 0.5), "val", dataset="other"), example("8", d, "val", dataset="other", group="p"),
    ]
    table = leakage.fingerprints(examples)
    pairs = leakage.find(table)
    counted = leakage.counts(table, leakage.leaks(pairs)).set_index(["dataset", "split", "of_dataset", "of_split"])
    kinds = counted[["images", "exact", "near", "group"]]
    assert kinds.loc[("made", "test", "made", "train")].tolist() == [3, 1, 1, 1]
    assert kinds.loc[("other", "val", "made", "train")].tolist() == [2, 0, 1, 0], "groups of two data sets are two"
    assert kinds.loc[("made", "test", "other", "val")].tolist() == [3, 0, 1, 0]
    assert counted["share_pct"].loc[("made", "test", "made", "train")] == 100
    assert leakage.repeats(pairs)[["image_a", "image_b"]].values.tolist() == [["2", "3"]]


@pytest.fixture(scope="module")
def leaking():
    """made: a test image in train and one in val; other: a test image in made's training split; clean: none."""
    a, b, c, d, e = (scene(seed) for seed in range(5))
    table = leakage.fingerprints([
        example("1", a, "train"), example("2", b, "val"), example("3", a, "test"), example("4", jpeg(b, 70), "test"),
        example("5", d, "test"), example("5b", d, "test"), example("6", a, "test", dataset="other"),
        example("7", c, "train", dataset="clean"), example("8", e, "test", dataset="clean"),
    ])
    return table, leakage.find(table)


def test_a_leak_stops_with_counts_and_what_to_do(leaking):
    table, pairs = leaking
    with pytest.raises(DataError) as stopped:
        leakage.check(leakage.overview(table, pairs))
    message = str(stopped.value)
    assert "1 of 4 test images of made are also in train of made (1 the same pixels)" in message
    assert "1 of 4 test images of made are also in val of made (1 nearly)" in message
    assert "1 of 1 test images of other are also in train of made (1 the same pixels)" in message
    assert "clean" not in message and "leakage: {allow: [{evaluated: made, reason: ...}]}" in message


def test_what_is_allowed_is_allowed_for_those_two_data_sets_and_said(leaking):
    table, pairs = leaking
    itself = Allowed(evaluated="made", reason="By question.")
    found = leakage.overview(table, pairs, [itself])
    with pytest.raises(DataError, match="of other are also in train of made") as stopped:
        leakage.check(found)
    assert "images of made stand" not in str(stopped.value)
    assert "{evaluated: other, trained: made, reason" in str(stopped.value)
    found = leakage.overview(table, pairs, [itself, Allowed(evaluated="other", trained="made", reason="It is a part.")])
    leakage.check(found)
    sentences = leakage.sentences(found)
    assert set(sentences) == {"made", "other"} and len(sentences["made"]) == 2
    assert sentences["other"] == [
        "Leak: 1 of 1 test images of other are also in train of made (1 the same pixels). Allowed: It is a part."
    ]


def test_the_overview_has_the_clean_splits_and_the_repeats(leaking):
    table, pairs = leaking
    found = leakage.overview(table, pairs)
    clean = found[found["of_dataset"] == leakage.NONE].set_index(["dataset", "split"])
    assert set(clean.index) == {("made", "val"), ("clean", "test")} and not clean["share_pct"].any()
    assert found.set_index(["dataset", "split"]).loc[("made", "test"), "repeats"].tolist() == [1, 1]
    leakage.check(clean.reset_index())
    assert leakage.sentences(clean.reset_index()) == {} and leakage.sentences(pd.DataFrame()) == {}


def test_images_of_one_prompt_are_no_leak_but_those_of_its_context_count():
    image, other = scene(0), scene(1)
    asked = example("q", other, "test", context=(Shot(other, "before?", "yes"), Shot(image)))
    table = leakage.fingerprints([example("t", jpeg(image, 80), "train"), asked])
    assert table["place"].tolist() == [0, 0, 1, 2] and table["exact"].iloc[1] == table["exact"].iloc[2]
    pairs = leakage.find(table)
    assert pairs[["kind", "image_a", "image_b"]].values.tolist() == [["near", "t", "q"]]


def test_the_table_survives_parquet_and_ten_thousand_images_take_seconds(tmp_path):
    n, rng = 10_000, np.random.default_rng(0)
    details = rng.integers(-127, 128, (n, 16, 16)).astype(np.float32)
    rows = {
        "dataset": "made", "split": np.where(np.arange(n) % 10, "train", "test"), "image_id": np.arange(n).astype(str),
        "place": 0, "group": np.arange(n).astype(str), "exact": np.arange(n).astype(str),
        "near": [[perceptual_hash._hash(one) for one in perceptual_hash.orientations(detail)] for detail in details],
        "detail": [detail.astype(np.int8).tobytes() for detail in details],
    }
    table = pd.DataFrame(rows)
    table.loc[n - 1, ["near", "detail"]] = table.loc[n - 10, ["near", "detail"]]
    table.to_parquet(tmp_path / "fingerprints.parquet")
    started = time.perf_counter()
    pairs = leakage.find(pd.read_parquet(tmp_path / "fingerprints.parquet"))
    assert time.perf_counter() - started < 20
    assert pairs[["image_a", "image_b"]].values.tolist() == [[str(n - 1), str(n - 10)]]


def test_an_empty_table_has_no_pairs():
    table = leakage.fingerprints([])
    pairs = leakage.find(table)
    assert list(pairs.columns) == list(leakage.COLUMNS) and pairs.empty and leakage.counts(table, pairs).empty


def test_a_study_that_leaks_stops_at_its_notebook_unless_its_params_allow_it(tmp_path):
    train, test = rows(4, questions=1), rows(3, questions=1, first=2)
    source = hub.repository(tmp_path / "leaking", {"train": train, "test": test}, FEATURES)
    data = [{"name": "vqa_rad", "path": str(source), "val_share": 0.3}]
    study = params.load(write_study(tmp_path, datasets=data))
    for job in plan.plan(study):
        if job.stage == "data":
            with recorded(study, job):
                build(study.datasets[0], job.dir)
    job = plan.job(study, "leakage")
    with pytest.raises(DataError, match="of 3 test images of vqa_rad are also in"):
        notebooks.execute("01_leakage", job.dir, {"study": str(tmp_path / "study.yaml"), "run": "leakage"})
    assert not job.done
    shown = (paths.logs(job.dir) / "notebook.ipynb").read_text()
    assert "share_pct" in shown, "the counts are shown before it stops"
    allow = {"allow": [{"evaluated": "vqa_rad", "reason": "its split is by question"}]}
    study = params.load(write_study(tmp_path, datasets=data, leakage=allow))
    job = plan.job(study, "leakage")
    notebooks.execute("01_leakage", job.dir, {"study": str(tmp_path / "study.yaml"), "run": "leakage"})
    found = study_data.leaks(inputs.by_stage(study))
    assert job.done and leakage.sentences(found)["vqa_rad"][0].endswith("Allowed: its split is by question.")

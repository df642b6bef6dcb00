"""Every policy from the images to the figures, with the shipped base, and what a study says before it runs."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from medstudy import claims, models, params, paths
from medstudy.costs.workload import Counter, trainable
from medstudy.data import arrow_store
from medstudy.datasets import phantom
from medstudy.datasets.build import build
from medstudy.engine.batches import plan_views, shown_images
from medstudy.engine.crops import parts
from medstudy.errors import ParamsError, ResolutionError
from medstudy.evaluation import evaluate
from medstudy.params import Decoding, Model
from medstudy.report import figures, tables
from medstudy.report.study_data import StudyData
from medstudy.resolution.compress import Compress
from medstudy.resolution.describe import words
from medstudy.resolution.pan_and_scan import PanAndScan
from medstudy.resolution.policies import Fixed, Native
from medstudy.resolution.spacing import Spacing
from medstudy.resolution.zoom import Zoom
from medstudy.scoring import score
from tests.support import synthetic

CAP = 200704
NATIVE, LOW = Native(max_pixels=CAP), Fixed(side=84)
RUNGS = (
    LOW, Fixed(side=112), Zoom(side=112), Compress(max_pixels=CAP, pool=2), Compress(max_pixels=CAP, share=0.25),
    Compress(max_pixels=CAP, share=0.25, by="even"), Spacing(um_per_px=2.0, max_pixels=CAP),
    Spacing(um_per_px=1.0, max_pixels=CAP, field_um=112.0, centre="box"), NATIVE,
)
DATA = phantom.Params(train=2, val=2, test=4, seed=3, boxes=True, um_per_px=1.0)
STUDY = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=3))
TINY = yaml.safe_load((paths.ROOT / "params" / "tiny.yaml").read_text())


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    return build(DATA, folder), folder, list(arrow_store.read(folder, "test"))


@pytest.fixture(scope="module")
def family():
    return models.load(Model())


@pytest.fixture(scope="module")
def predictions(data, family):
    with pytest.warns(UserWarning, match="have no box"):
        return {rung.label: evaluate.predict(family, data[2], rung, STUDY) for rung in RUNGS}


def test_every_rung_asks_the_same_questions_and_says_what_was_shown(predictions):
    native = predictions["native"]
    keys = ["image_id", "question_id", "answer", "height", "width", "um_per_px"]
    for rung in RUNGS:
        rows = predictions[rung.label]
        assert rows[keys].equals(native[keys]) and set(rows["control"]) == {"none"}
        assert (rows["inference"] == rung.label).all() and (rows["budget_pixels"] == rung.budget).all()
        assert rows.columns.tolist() == native.columns.tolist()
    assert (native["um_per_px"] == 1).all()
    tokens = {label: rows["visual_tokens"].mean() for label, rows in predictions.items()}
    assert tokens["pool-2x2"] < 0.32 * tokens["native"] and tokens["prune-25pct"] < 0.27 * tokens["native"]
    assert tokens["prune-25pct"] == tokens["prune_even-25pct"]
    assert tokens["zoom-112"] <= 112**2 / 28**2 and abs(tokens["zoom-112"] / tokens["fixed-112"] - 1) < 0.25
    zoomed = predictions["zoom-112"]
    assert {"known", "none"} == set(zoomed["crop_source"])
    assert zoomed["crop_height"].gt(0).equals(zoomed["crops"] == 1)
    field = predictions["spacing-1um-of-112um-box"]
    assert set(field["crop_source"]) == {"known", "centre"} and (field["crop_height"] == 112).all()
    coarse = predictions["spacing-2um"]
    assert (coarse["um_per_px"] / coarse["scale"]).between(1.7, 2.4).all() and coarse["crop_top"].isna().all()


@pytest.mark.slow
def test_a_study_with_them_draws_its_figures_tables_and_claims(predictions, data, tmp_path):
    """The rows of the base stand for those of two regimes and seeds."""
    rows = pd.concat(predictions.values(), ignore_index=True).astype({"crop_source": object})
    regimes = ("native", "fixed-84", "pool-2x2", "zoom-112")
    parts = [rows.assign(regime=regime, seed=seed, run_id=f"{regime}-{seed}", model="base", mismatch=False)
             for regime in regimes for seed in (0, 1)]
    scores = score.score(pd.concat(parts, ignore_index=True))
    training = synthetic.training(regimes, 2, 20)
    tested = claims.claims_table(scores, training)
    assert tested["id"].is_unique and "O1" in set(tested["id"])
    images = {(example.dataset, example.image_id): example.image for example in data[2]}
    about = {"name": "new", "low": "fixed-84", "resamples": 40, "parameters": 10**6}
    study = StudyData(scores, training, data[0].rename(columns={"question": "text"}), tested, images, about)
    drawn = figures.render_all(study, tmp_path, tuple(figures.REGISTRY))
    assert {item.name for item in drawn} == set(figures.REGISTRY)
    for name in tables.REGISTRY:
        tables.render(name, study, tmp_path)
    curves = pd.read_csv(tmp_path / "06_resolution_curves.csv")
    assert {rung.label for rung in RUNGS} <= set(curves["inference"])
    ladder = curves.drop_duplicates("inference").sort_values("budget_pixels")["inference"].tolist()
    assert ladder[0] == "fixed-84" and set(ladder[1:3]) == {"fixed-112", "zoom-112"}
    aligned = curves[curves["aligned"]]
    assert {"pool-2x2", "zoom-112"} <= set(aligned["inference"])
    assert isinstance(figures.REGISTRY["06_resolution_curves"].draw(curves, study), Figure)


def test_the_estimate_counts_what_an_evaluation_shows(data, family):
    study = params.parse(_study(inference=[rung.model_dump(mode="json") for rung in RUNGS]))
    counter = Counter(study, trainable(study)[0])
    for rung in RUNGS:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("medstudy.engine.crops.check", lambda *_: None)
            work = counter.evaluation(data[2], [rung], 1)
            shown = evaluate.predict(family, data[2], rung, STUDY)
        once = shown.drop_duplicates(["image_id", "crop_top", "crop_left", "crop_source"])
        assert work.visual_tokens == once["visual_tokens"].sum(), rung.label
        assert work.questions == len(shown)
    with pytest.raises(ResolutionError, match="states none"):
        counter.evaluation([phantom.example(0, "test", "cytology", 0)], [RUNGS[6]], 1)


def _study(**changes) -> dict:
    content = copy.deepcopy(TINY)
    content["datasets"] = [DATA.model_dump(mode="json")]
    return content | changes


def test_a_policy_that_the_model_cannot_show_is_refused_with_the_params():
    prune, pan = {"policy": "compress", "max_pixels": CAP, "share": 0.5}, {"policy": "pan_and_scan", "max_pixels": CAP}
    for changes, message in (
        ({"inference": [pan]}, "pan_and_scan can be shown by models of the families gemma3, got qwen2_vl"),
        ({"inference": [prune], "model": {"id": "x/y", "family": "gemma3"}}, "prune-50pct can be .*got gemma3"),
        ({"inference": [{"policy": "zoom", "side": 112}], "model": {"id": "x/y", "family": "auto"}}, "zoom-112 can be"),
        ({"regimes": [*TINY["regimes"], prune | {"share": 1.5}]}, "share"),
        ({"inference": [prune | {"pool": 2}]}, "either `pool` or `share`"),
        ({"inference": [{"policy": "zoom", "side": 112, "context": 0.5}]}, "context"),
        ({"inference": [{"policy": "spacing", "um_per_px": 0, "max_pixels": 9}]}, "um_per_px"),
        ({"inference": [{"policy": "spacing", "um_per_px": 1, "max_pixels": 9, "rounding": "processor"}]}, "rounding"),
    ):
        with pytest.raises(ParamsError, match=message):
            params.parse(_study(**changes))
    probe = {"inference": [{"policy": "fixed", "side": 84}, prune], "training": None, "bounds": None, "probe": {},
             "model": {"id": "x/y", "family": "qwen2_vl"}, "controls": {}}
    with pytest.raises(ParamsError, match="shows whole images without prompts: drop prune-50pct"):
        params.parse(_study(**probe))


def test_boxes_of_the_phantom_hold_its_details_and_change_nothing_else():
    """Inside the box of a present detail the image differs from the same image without boxes' details elsewhere."""
    for name in phantom.FAMILIES:
        plain, boxed = (phantom.example(0, "train", name, 1, boxes=boxes) for boxes in (False, True))
        assert plain.image.tobytes() == boxed.image.tobytes()
        assert all(question.box is None for question in plain.questions)
        for question in boxed.questions:
            if question.box:
                top, left, height, width = question.box
                assert 0 <= top < top + height <= boxed.image.height and 0 <= left < left + width <= boxed.image.width
                assert question.detail_px is not None and question.detail_px < 2 * max(height, width)


def test_a_nodules_box_lies_in_its_quadrant():
    found = 0
    for index in range(12):
        example = phantom.example(1, "train", "radiology", index, boxes=True)
        for question in example.questions:
            if question.id in ("nodule_where", "calc_where"):
                top, left, height, width = question.box
                row = "upper" if top + height / 2 < example.image.height / 2 else "lower"
                column = "left" if left + width / 2 < example.image.width / 2 else "right"
                assert question.answer == f"{row} {column}"
                found += 1
    assert found >= 4


@pytest.mark.parametrize("policy", [*RUNGS, PanAndScan(max_pixels=CAP)], ids=lambda policy: policy.label)
def test_every_policy_is_described_and_named(policy):
    assert words(policy) != policy.label and str(policy.label) not in ("", "None")
    assert "/" not in policy.label and " " not in policy.label


def test_views_of_crops_have_names_of_their_own(data, family):
    example = next(part for part in parts(RUNGS[2], data[2][0]) if part.questions[0].box)
    names = [name for name, _, _ in shown_images(example, plan_views(RUNGS[2], example, family.geometry)[0])]
    assert names == [example.image_id, f"{example.image_id}#1"]

"""Families of tiles give the processor's pixels and tokens, within the policy's limits."""

import json
import shutil
from copy import copy
from functools import partial
from operator import eq
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, LlavaOnevisionImageProcessor

from medstudy import models
from medstudy.data.example import Question
from medstudy.engine import batches
from medstudy.engine.image_inputs import ImageInputs
from medstudy.engine.views import render
from medstudy.errors import ModelError, ResolutionError
from medstudy.evaluation import evaluate, in_process
from medstudy.models.tiled import Tiles
from medstudy.models.tiled.llava_onevision import Anyres
from medstudy.params import Decoding, Model, Optimisation
from medstudy.resolution.plan import check_effect, plan
from medstudy.resolution.policies import DownUp, Fixed, Native
from medstudy.resolution.sizes import Size
from medstudy.training import loop, train
from medstudy.training.checkpoints import save
from tests.support.families import own_inputs

LLAVA = Anyres(384, 384**2, patches=27, merge=1, most=9)
INTERN = Tiles(448, 448**2, patches=32, merge=2)
QUESTION = Question("q", "Is there a dot?", "yes", "closed", "dot")
GRIDS = [(1, 1), (1, 2), (3, 1), (2, 2), (2, 3), (3, 3), (4, 3), (7, 5)]  # of tiles


@pytest.fixture(scope="module", params=["llava_onevision", "internvl", "idefics3", "smolvlm"])
def tiled(request, checkpoints):
    return models.load(Model(id=str(checkpoints[request.param]), family=request.param))


def noise(family, rows, columns):
    size = family.geometry.factor * np.array([rows, columns])
    return torch.from_numpy(np.random.default_rng([rows, columns]).integers(0, 256, (*size, 3), dtype=np.uint8))


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_pixels_and_tokens_are_the_processors_for_every_grid(tiled, grid):
    image = noise(tiled, *grid)
    theirs = own_inputs(tiled, tiled.prompt(QUESTION), image)
    ours = tiled.patches(image)
    assert torch.equal(ours, theirs["pixel_values"].view(-1, *ours.shape[1:]))
    planned = tiled.geometry.tokens(Size(*image.shape[:2]))
    assert (theirs["input_ids"] == tiled.image_token).sum() == planned


@pytest.mark.parametrize("grid", [(1, 1), (1, 2), (3, 1), (2, 2), (2, 3), (3, 4), (4, 1)], ids=str)
def test_pixels_are_the_processors_where_it_chooses_the_same_grid(tiled, grid):
    """With its own limit on tiles and its own list of grids."""
    image = noise(tiled, *grid)
    if tiled.language_name == "text_model" and max(grid) != 4:
        pytest.skip("its processor first enlarges every image to four tiles")
    options = {"crop_to_patches": True} if tiled.name == "internvl" else {}
    theirs = tiled.processor.image_processor(images=[image.permute(2, 0, 1)], return_tensors="pt", **options)
    ours = tiled.patches(image)
    assert torch.equal(ours, theirs["pixel_values"].view(-1, *ours.shape[1:]))


@pytest.mark.parametrize("grid", [*GRIDS, (1, 9), (12, 2)], ids=str)
def test_visual_tokens_are_those_of_the_unchanged_model(tiled, grid):
    """Including grids that neither the processor nor the configuration lists."""
    untouched = AutoModelForImageTextToText.from_pretrained(tiled.model.name_or_path).eval()
    image = noise(tiled, *grid)
    size = Size(*image.shape[:2])
    patches, layout = tiled.patches(image), tiled.grid(size)
    more = {}
    if tiled.name == "llava_onevision":
        untouched.config.image_grid_pinpoints = untouched.config.image_grid_pinpoints + [list(size)]
        more = {"image_sizes": torch.tensor([size])}
        patches = patches[None]
    if tiled.language_name == "text_model":
        patches = patches[None]
    with torch.no_grad():
        theirs = untouched.model.get_image_features(patches, **more).pooler_output
        patches = patches.view(-1, *patches.shape[-3:])
        seen, features = tiled.see(patches, layout), tiled.features(patches, layout)
        again = tiled.merge(features, layout)
    theirs = theirs.flatten(0, 1) if tiled.name == "internvl" else theirs[0]
    assert len(seen.tokens) == tiled.geometry.tokens(size)
    torch.testing.assert_close(seen.tokens, theirs, atol=2e-6, rtol=1e-5)
    assert torch.equal(again.tokens, seen.tokens)


def test_images_of_a_row_do_not_affect_each_other(tiled):
    images = [noise(tiled, *grid) for grid in [(2, 3), (1, 1), (4, 3)]]
    patches = [tiled.patches(image) for image in images]
    grids = torch.cat([tiled.grid(Size(*image.shape[:2])) for image in images])
    with torch.no_grad():
        together = tiled.see(torch.cat(patches), grids).tokens
        alone = [tiled.see(part, grid[None]).tokens for part, grid in zip(patches, grids, strict=True)]
    torch.testing.assert_close(together, torch.cat(alone), atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("size", LlavaOnevisionImageProcessor.image_grid_pinpoints, ids=str)
def test_llavas_tokens_are_its_processors_at_its_real_size(checkpoints, size):
    processor = copy(models.load(Model(id=str(checkpoints["llava_onevision"]), family="llava_onevision")).processor)
    processor.image_processor, processor.num_image_tokens = LlavaOnevisionImageProcessor(), 729
    assert LLAVA.tokens(Size(*size)) == processor._get_number_of_features(*size, 384, 384)


GOLDEN = {
    # name: geometry, policy, (height, width) -> shown, visual tokens
    "intern: one tile has no thumbnail": (INTERN, Native(max_pixels=10**7), (500, 400), (448, 448), 256),
    "intern: tiles and a thumbnail": (INTERN, Native(max_pixels=10**7), (900, 1300), (896, 1344), 7 * 256),
    "intern: more than twelve": (INTERN, Native(max_pixels=10**7), (2048, 2500), (2240, 2688), 31 * 256),
    "intern: two tiles of a budget of four": (INTERN, Fixed(side=896), (2048, 2500), (448, 896), 3 * 256),
    "intern: a small image is enlarged to a tile": (INTERN, Native(max_pixels=10**7), (90, 60), (448, 448), 256),
    "intern: pad": (INTERN, Fixed(side=900, mode="pad"), (600, 300), (896, 896), 5 * 256),
    "llava: one tile and an overview": (LLAVA, Fixed(side=384), (900, 900), (384, 384), 729 + 27 * 28),
    "llava: four tiles": (LLAVA, Native(max_pixels=10**7), (800, 700), (768, 768), 729 + 54 * 55),
    "llava: nine tiles": (LLAVA, Fixed(side=1152), (3000, 3000), (1152, 1152), 729 + 81 * 82),
    "llava: more tiles, as many tokens": (LLAVA, Native(max_pixels=10**7), (2304, 2304), (2304, 2304), 729 + 81 * 82),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_plan_golden(name):
    geometry, policy, size, shown, tokens = GOLDEN[name]
    (view,) = plan(policy, Size(*size), geometry)
    assert (view.size, view.visual_tokens) == (shown, tokens)


NATIVE = Native(max_pixels=10**7)
BELOW = {
    # name: geometry, policy, (height, width) -> what it is resized to in turn; all are then shown as one tile
    "intern: the paper's low": (INTERN, Fixed(side=224), (1000, 1000), [(224, 224), (448, 448)]),
    "intern: aspect kept to the pixel": (INTERN, Fixed(side=224), (2048, 2500), [(202, 247), (448, 448)]),
    "intern: a strip keeps a pixel": (INTERN, Fixed(side=10), (10, 2000), [(1, 100), (448, 448)]),
    "intern: as small as the budget": (INTERN, Fixed(side=224), (224, 224), [(448, 448)]),
    "intern: smaller than the budget": (INTERN, Fixed(side=224), (90, 60), [(448, 448)]),
    "intern: a native cap below a tile": (INTERN, Native(max_pixels=100**2), (600, 600), [(100, 100), (448, 448)]),
    "intern: square": (INTERN, Fixed(side=224, mode="square"), (600, 300), [(224, 224), (448, 448)]),
    "intern: a small square": (INTERN, Fixed(side=224, mode="square"), (60, 30), [(448, 448)]),
    "intern: pad": (INTERN, Fixed(side=224, mode="pad"), (600, 300), [(224, 112), (448, 224)]),
    "intern: a small padded": (INTERN, Fixed(side=224, mode="pad"), (60, 30), [(60, 30), (120, 60)]),
    "llava: one pixel less than a tile": (LLAVA, Fixed(side=383), (900, 900), [(383, 383), (384, 384)]),
    "intern: down and up": (INTERN, DownUp(side=224, native=Native(max_pixels=448**2)), (600, 600),
                            [(224, 224), (448, 448)]),
}


@pytest.mark.parametrize("name", BELOW)
def test_a_budget_below_one_tile_limits_the_detail(name):
    geometry, policy, size, resized = BELOW[name]
    (view,) = plan(policy, Size(*size), geometry)
    side = geometry.factor
    assert list(view.steps) == resized and view.size == (side, side)
    assert view.detail == resized[0] and view.label == policy.label
    assert view.visual_tokens == geometry.tokens(Size(side, side))


def test_detail_is_lost_on_each_side_separately():
    """A wide image, little wider than a tile, keeps the detail of a tile."""
    (view,) = plan(Fixed(side=440), Size(1000, 1500), INTERN)
    assert view.steps == ((359, 538), (448, 448)) and view.detail == (359, 448)


def test_down_and_up_below_a_tile_has_the_native_tiles():
    (view,) = plan(DownUp(side=224, native=NATIVE), Size(900, 1300), INTERN)
    assert view.steps == ((186, 269), (896, 1344)) and view.visual_tokens == 7 * 256


def test_detail_below_a_low_budget_is_gone_from_the_pixels(checkpoints):
    """A checkerboard of single pixels is visible in the native view, and gone at a quarter a side."""
    board = np.repeat((np.indices((28, 28)).sum(0) % 2 * 255).astype(np.uint8)[..., None], 3, 2)
    geometry = models.load(Model(id=str(checkpoints["internvl"]), family="internvl")).geometry
    native, low = (plan(policy, Size(28, 28), geometry)[0] for policy in (NATIVE, Fixed(side=7)))
    assert native.size == low.size and (native.detail, low.detail) == ((28, 28), (7, 7))
    contrast = [float(render(Image.fromarray(board), view, "bicubic").float().std()) for view in (native, low)]
    assert contrast[0] > 120 and contrast[1] < 10


def test_a_policy_that_equals_native_is_refused():
    sizes = [Size(300, 400), Size(90, 60)]
    check_effect(Fixed(side=224), sizes, INTERN)
    check_effect(Fixed(side=896), [Size(2000, 2000)], INTERN)
    with pytest.raises(ResolutionError, match="shown as `native` shows .* 448x448 pixels, at least one"):
        check_effect(Fixed(side=448), sizes, INTERN)


def test_rows_record_the_remaining_detail(tiled, examples):
    study = SimpleNamespace(interpolation="bicubic", workers=0, evaluation=Decoding(max_new_tokens=1))
    rows = evaluate.predict(tiled, examples, Fixed(side=14), study)
    assert (rows["inference"] == "fixed-14").all() and (rows["budget_pixels"] == 196).all()
    assert (rows[["shown_height", "shown_width"]] == 28).all(axis=None)
    left = rows.drop_duplicates("image_id").set_index("image_id")[["detail_height", "detail_width"]]
    expected = {"train-0": (11, 17), "train-1": (14, 14), "train-2": (11, 16), "train-3": (17, 11)}
    assert {name: tuple(row) for name, row in zip(left.index, left.to_numpy(), strict=True)} == expected
    rows = evaluate.predict(tiled, examples, NATIVE, study)
    assert (rows["detail_height"] == rows["shown_height"]).all() and (rows["detail_width"] == rows["shown_width"]).all()


@pytest.mark.parametrize("name", ["llava_onevision", "internvl"])
def test_a_checkpoint_of_other_features_is_refused(checkpoints, name, tmp_path):
    folder = shutil.copytree(checkpoints[name], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vision_feature_layer": -2}))
    with pytest.raises(ModelError, match="vision_feature_layer to be -1 .* got -2"):
        models.load(Model(id=str(folder), family=name))


def test_a_llava_without_tiles_is_refused(checkpoints, tmp_path):
    folder = shutil.copytree(checkpoints["llava_onevision"], tmp_path / "other")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vision_aspect_ratio": "square"}))
    with pytest.raises(ModelError, match="vision_aspect_ratio to be anyres_max_N .* got 'square'"):
        models.load(Model(id=str(folder), family="llava_onevision"))


def test_a_size_that_is_not_whole_tiles_is_refused(tiled):
    with pytest.raises(ModelError, match="multiples of 28"):
        tiled.patches(torch.zeros((84, 90, 3), dtype=torch.uint8))


def test_a_frozen_tower_leaves_projector_and_newline_to_train(tiled, examples):
    tiled.freeze_tower()
    supply = ImageInputs(tiled, "bicubic")
    seen = [(one, plan(Native(max_pixels=10**6), batches.size_of(one), tiled.geometry)[0]) for one in examples]
    (micro,) = batches.micro_batches(supply, seen, 10**6)
    tiled.model.zero_grad()
    train.loss_of(supply, micro.content).backward()
    given = {name for name, parameter in tiled.model.named_parameters() if parameter.grad is not None}
    moved = {name for name in given if tiled.model.get_parameter(name).grad.any()}
    tiled.model.requires_grad_(True)
    parts = {name: tiled.part(name) for name, _ in tiled.model.named_parameters()}
    assert given and not any(parts[name] == "tower" for name in given)
    mergers = {name for name, part in parts.items() if part == "merger"}
    assert {name for name in mergers if "weight" in name or "newline" in name} <= moved
    assert ("model.image_newline" in moved) == (tiled.name == "llava_onevision")


@pytest.mark.slow
def test_it_learns_and_its_checkpoint_gives_the_same_answers(checkpoints, tiled, examples, tmp_path):
    family = models.load(Model(id=str(checkpoints[tiled.name]), family=tiled.name))
    options = Optimisation(epochs=40, images_per_step=2, learning_rate=3e-3, validations=1)
    supply, policy = ImageInputs(family, "bicubic"), Fixed(side=84)
    seen = batches.FineTuning(supply, examples, policy, options, 0)
    log = loop.fit(family.model, seen, None, options, 0, tmp_path / "scratch", partial(train.loss_of, supply))
    save(family, tmp_path / "checkpoint", {})
    loaded = models.load(Model(id=str(checkpoints[tiled.name]), family=tiled.name), tmp_path / "checkpoint")
    shown = [plan(policy, batches.size_of(one), family.geometry)[0] for one in examples]
    said = [
        [(index, given.greedy) for index, given in sorted(in_process.answers(
            ImageInputs(one, "bicubic"), examples, examples, shown, Decoding(max_new_tokens=8)))]
        for one in (family, loaded)
    ]
    texts = [text for _, texts in said[0] for text in texts]
    assert log["loss"].iloc[-1] < 0.5 * log["loss"].iloc[0]
    assert sum(map(eq, texts, (question.answer for one in examples for question in one.questions))) >= 8
    assert said[0] == said[1] and loaded.revision != family.revision


def test_no_mask_is_made_for_a_row(tiled, examples, monkeypatch):
    """transformers would take restarting positions for packed sequences, and make a mask of all pairs."""
    monkeypatch.setattr("transformers.masking_utils.find_packed_sequence_indices", None)
    supply = ImageInputs(tiled, "bicubic")
    seen = [(one, plan(Fixed(side=56), batches.size_of(one), tiled.geometry)[0]) for one in examples]
    (micro,) = batches.micro_batches(supply, seen, 10**6)
    with torch.no_grad():
        assert train.loss_of(supply, micro.content).isfinite()

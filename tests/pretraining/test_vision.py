"""The vision stage's images, labels and targets, and the tower on many images at once."""

from random import Random

import numpy as np
import pytest
import torch
from scipy import ndimage

from medstudy import models
from medstudy.datasets import shapes
from medstudy.datasets.shapes import fine
from medstudy.datasets.shapes.marks import MARKS, cover
from medstudy.datasets.shapes.words import SHAPES
from medstudy.params import Model
from medstudy.pretraining import targets, tiny_qwen2_vl, vision
from medstudy.pretraining.tower import Tower
from medstudy.resolution.sizes import Size

PATCH = fine.PATCH


def _dot(diameter, at=(42, 14), size=(56, 56)):
    rows, columns = np.indices(size)
    inside = (rows - at[0]) ** 2 + (columns - at[1]) ** 2 <= (diameter / 2) ** 2
    return torch.from_numpy(np.repeat((60 + 160 * inside).astype(np.uint8)[..., None], 3, axis=2))[None]


def test_a_dot_is_found_in_its_cell_at_its_scale():
    """Bright blobs of the four fine scales: columns 4 to 7 of each eight, for the four cells of a patch."""
    for diameter, scale in ((2, 0.8), (4, 1.2), (7, 2.7)):
        seen = targets.describe(_dot(diameter, at=(45.5, 17.5)))[0][..., : 8 * len(targets.FINE)]
        blobs = seen.view(4, 4, len(targets.FINE), 2, 4)[..., 0, :]  # [rows, columns, scales, cells]
        row, column, found, cell = np.unravel_index(int(blobs.argmax()), blobs.shape)
        assert (row, column, cell) == (3, 1, 0)  # the patch from (42, 14), its first cell
        assert scale / 1.6 <= targets.FINE[found] <= scale * 1.6, (diameter, found)


@pytest.mark.parametrize(("sigma", "order"), [(0.8, (2, 0)), (2.5, (0, 1)), (6.0, (0, 2))])
def test_filters_are_those_of_scipy(sigma, order):
    plane = torch.rand(1, 1, 56, 84)
    ours = targets._filtered(plane, sigma, *order)[0, 0].numpy()
    theirs = ndimage.gaussian_filter(plane[0, 0].numpy(), sigma, order, truncate=3, mode="nearest")
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.998


def test_targets_have_the_order_of_the_tower():
    """The last numbers of a patch are its pixels: those of each patch in the tower's order."""
    images = torch.randint(0, 255, (2, 56, 84, 3), dtype=torch.uint8)
    pixels = vision.patches(images).float().mean(1).view(-1, 7, 2, 7, 2).mean((2, 4)).flatten(1) / 255
    told = targets.ordered(targets.describe(images))[:, -targets.DOTS :]
    torch.testing.assert_close(told, 4 * (pixels - pixels.mean(1, keepdim=True)), atol=1e-4, rtol=0)


def test_a_field_says_what_stands_where():
    """A mark changes its own patch; fields of one seed are equal; labels stay in their ranges."""
    for seed in range(40):
        height, width = 28 * (2 + seed % 5), 28 * (2 + seed % 3)
        one, other = (fine.field(np.random.default_rng(seed), height, width) for _ in range(2))
        assert np.array_equal(one.pixels, other.pixels) and one.pixels.shape == (height, width, 3)
        assert one.marks.shape == (height // PATCH, width // PATCH)
        assert one.marks.min() >= 0 and one.marks.max() <= len(MARKS)
        there = one.marks < len(MARKS)
        assert (np.abs(one.numbers[there][:, :2]) <= 1).all() and not one.numbers[~there].any()
        assert one.grounds.min() >= fine.NONE and one.grounds.max() < len(fine.GROUNDS)


def test_marks_are_drawn_at_their_place_and_size():
    pixels = np.zeros((3, 56, 56), np.float32)
    y, x, size = np.array([20.5, 40.5]), np.array([30.5, 10.5]), np.array([4.0, 10.0])
    stamps = cover(np.array([0, 0]), y, x, size, np.zeros(2), 1.0)
    fine._stamp(pixels, y, x, stamps, np.full((2, 3), 50, np.float32))
    labelled, count = ndimage.label(pixels[0] > 25)
    assert count == 2
    for number, (row, column, diameter) in enumerate(zip(y, x, size, strict=True), 1):
        centre = np.add(ndimage.center_of_mass(labelled == number), 0.5)
        assert np.abs(centre - (row, column)).max() < 0.3
        assert (labelled == number).sum() == pytest.approx(np.pi * (0.9 * diameter / 2) ** 2, rel=0.35)


def test_kinds_of_marks_differ_at_every_size():
    drawn = {size: cover(np.arange(len(MARKS)), *(np.full(len(MARKS), value) for value in (10.5, 10.5, size, 0.4)), 1.0)
             for size in (6.0, 16.0)}
    for size, stamps in drawn.items():
        gaps = [np.abs(a - b).sum() for i, a in enumerate(stamps) for b in stamps[:i]]
        assert min(gaps) > 0.05 * size**2 / 4, size


def test_labels_of_a_scene_mark_its_dots_and_leave_items_out():
    for seed in range(60):
        scene = shapes.compose(Random(seed), size=(112, 140))
        told = vision.labels(scene)
        dots = {(int(dot.y) // PATCH, int(dot.x) // PATCH) for dot in scene.dots}
        assert set(map(tuple, np.argwhere((told["marks"] >= 0) & (told["marks"] < len(MARKS))))) == dots
        for item in scene.items:
            assert told["grounds"][int(item.y) // PATCH, int(item.x) // PATCH] == fine.NONE


def test_centres_mark_the_token_of_every_shape():
    for seed in range(30):
        scene = shapes.compose(Random(seed))
        grid = vision.centres(scene, 28).flatten()
        assert len(grid) == scene.height * scene.width // 784
        tokens = {int(item.y) // 28 * (scene.width // 28) + int(item.x) // 28 for item in scene.items}
        assert set((grid < len(SHAPES)).nonzero()[0].tolist()) == tokens


def test_canvases_have_all_sizes():
    sizes = [vision.canvas(np.random.default_rng(seed)) for seed in range(400)]
    tokens = np.array([rows * columns for rows, columns in sizes])
    assert tokens.min() <= 6 and tokens.max() >= 200 and np.array(sizes).max() == 16
    assert 0.3 < (tokens <= 32).mean() < 0.7
    assert max(max(size) / min(size) for size in sizes) <= 3


@pytest.fixture(scope="module")
def family(tmp_path_factory):
    sizes = {"width": 64, "layers": 1, "vision_width": 96, "vision_layers": 2}
    folder = tmp_path_factory.mktemp("untrained") / "model"
    return models.load(Model(id=str(tiny_qwen2_vl.build(shapes.vocabulary(), folder, 500, **sizes))))


def test_the_tower_gives_the_numbers_of_transformers(family):
    visual = family.model.model.visual
    for sizes in (((56, 84), (112, 56), (28, 28)), ((84, 84), (84, 84))):
        images = [torch.randint(0, 255, (*size, 3), dtype=torch.uint8) for size in sizes]
        pixels = torch.cat([family.patches(image) for image in images])
        grids = torch.cat([family.grid(Size(*size)) for size in sizes])
        states, tokens = Tower(family)(pixels, grids)
        theirs = visual(pixels, grid_thw=grids)
        torch.testing.assert_close(states, theirs.last_hidden_state, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tokens, theirs.pooler_output, atol=1e-5, rtol=1e-4)
    assert all("forward" not in vars(block.attn) for block in visual.blocks)


def test_patches_are_those_of_the_family(family):
    image = torch.randint(0, 255, (56, 84, 3), dtype=torch.uint8)
    assert torch.equal(family.normalised(vision.patches(image[None])), family.patches(image))


def test_two_processes_share_a_step(family):
    """The parts of a step are the images of the whole, and their losses add up to its loss."""
    whole = vision.Scenes(family, 0, 3, 2, 48)
    parts = [vision.Scenes(family, 0, 3, 2, 48, rank, 2) for rank in range(2)]
    seer = vision.Seer(family)
    for number, each in enumerate(whole[1]):
        shares = [part[1][number] for part in parts]
        assert each.questions == sum(share.questions for share in shares)
        losses = [float(vision.loss_of(seer, share.content)) for share in shares]
        assert float(vision.loss_of(seer, each.content)) == pytest.approx(sum(losses), rel=1e-4)

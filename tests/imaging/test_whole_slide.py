"""A region of a whole-slide image at a magnification, on slides in the layout of the Aperio scanner."""

import numpy as np
import pytest
import tifffile

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array, read_size

HEIGHT, WIDTH = 512, 768
DOWN, RIGHT = np.mgrid[:HEIGHT, :WIDTH]
FULL = np.stack([RIGHT // 4, DOWN // 4, (RIGHT + DOWN) // 8], -1).astype(np.uint8)
ABOUT = f"Aperio Image Library v11\r\n{WIDTH}x{HEIGHT} |AppMag = 40|MPP = 0.25"


def mean(image, side):
    """The mean over squares of `side` pixels, float [h/side, w/side, 3]."""
    height, width, _ = image.shape
    return image.reshape(height // side, side, width // side, side, 3).mean((1, 3))


def slide(path, about=ABOUT, levels=(1, 4), full=FULL):
    """A lossless tiled pyramid: full resolution, and the mean over 4 x 4."""
    with tifffile.TiffWriter(path) as file:
        for number, side in enumerate(levels):
            image = np.rint(mean(full, side)).astype(np.uint8)
            options = {"photometric": "rgb", "tile": (64, 64), "compression": "deflate", "software": False}
            file.write(image, description=about, metadata=None, subfiletype=number > 0, **options)
    return path


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    return slide(tmp_path_factory.mktemp("slides") / "a.svs")


def test_a_region_as_scanned_is_that_part_of_the_slide(scan):
    assert np.array_equal(read_array(scan, region=(101, 53, 200, 99)), FULL[53:152, 101:301])
    assert np.array_equal(read_array(scan), FULL)


@pytest.mark.parametrize("asked", [{"magnification": 20.0}, {"microns_per_pixel": 0.5}])
def test_half_the_magnification_is_the_mean_of_two_by_two(scan, asked):
    shown = read_array(scan, region=(64, 128, 256, 192), **asked)
    assert shown.shape == (96, 128, 3)
    assert np.abs(shown - mean(FULL[128:320, 64:320], 2)).max() <= 1


def test_lines_finer_than_the_pixels_become_their_mean(tmp_path):
    lines = np.repeat(np.where(RIGHT % 2, 200, 0)[..., None], 3, -1).astype(np.uint8)
    assert (read_array(slide(tmp_path / "lines.svs", full=lines), magnification=20.0) == 100).all()


def test_a_low_magnification_is_read_from_the_smallest_sufficient_level(scan):
    """A tenth: a mean over 4 x 4 of the quarter level, which is itself rounded."""
    shown = read_array(scan, magnification=2.5)
    assert shown.shape == (32, 48, 3)
    assert np.abs(shown - mean(FULL, 16)).max() <= 1


def test_a_level_with_too_few_pixels_is_not_used(scan):
    """At 11 x, a tenth more than a quarter of 40 x, the full level is read: single columns still differ."""
    shown = read_array(scan, magnification=11.0)
    assert shown.shape == (round(HEIGHT * 11 / 40), round(WIDTH * 11 / 40), 3)
    steps = np.diff(shown[0, :, 0].astype(int))
    assert set(steps) <= {0, 1, 2} and abs(shown[0, -1, 0] - FULL[0, -1, 0]) <= 1


@pytest.mark.parametrize("magnification", [40.0, 33.0, 20.0, 2.5, 0.1])
def test_the_size_is_that_of_the_pixels(scan, magnification):
    region = {"region": (7, 9, 300, 211), "magnification": magnification}
    assert read_size(scan, **region) == read_array(scan, **region).shape[:2]


def test_the_user_states_the_scan_s_scale_if_the_file_does_not(tmp_path):
    silent = slide(tmp_path / "b.svs", about="Aperio Image Library v11\r\nno more")
    with pytest.raises(ImageError, match="b.svs: a magnification needs that of the scan.*pass scanned_magnification"):
        read_array(silent, magnification=10.0)
    with pytest.raises(ImageError, match="pass scanned_microns_per_pixel"):
        read_array(silent, microns_per_pixel=1.0)
    assert read_size(silent, magnification=10.0, scanned_magnification=40.0) == (128, 192)
    assert read_size(silent, microns_per_pixel=1.0, scanned_microns_per_pixel=0.25) == (128, 192)


def test_a_plain_tiled_tiff_is_a_slide_only_when_asked(tmp_path):
    file = slide(tmp_path / "c.tif", about="plain")
    assert describe(file).kind == "TIFF" and np.array_equal(read_array(file), FULL)
    assert describe(file, region=(0, 0, 64, 64)).kind == "slide"
    assert np.array_equal(read_array(file, region=(64, 0, 64, 64)), FULL[:64, 64:128])


REFUSED = {
    "enlarged": ({"magnification": 41.0}, "41 x is over the scanned 40 x"),
    "finer than the scan": ({"microns_per_pixel": 0.2}, "0.2 µm per pixel is finer than the scanned 0.25"),
    "outside": ({"region": (700, 0, 100, 100)}, "must be inside the slide's 768 x 512 pixels"),
    "empty": ({"region": (0, 0, 0, 10)}, "must be inside"),
    "over the limit": ({"max_pixels": 1000}, "512 x 768 pixels is over the limit of 1,000"),
    "over the limit on the way": ({"max_pixels": 20_000, "magnification": 19.0, "region": (0, 0, 256, 256)},
                                  "256 x 256 pixels is over"),
    "a slice": ({"slice": 1}, "a slide does not take slice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_unavailable_region_or_magnification_is_refused(scan, name):
    options, message = REFUSED[name]
    with pytest.raises(ImageError, match=message):
        read_array(scan, **options)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_truncated_slide_is_refused(scan, tmp_path, share):
    data = scan.read_bytes()
    half = tmp_path / "half.svs"
    half.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ImageError, match="half.svs"):
        read_array(half)


def test_facts_of_a_slide(scan):
    facts = describe(scan, magnification=10.0)
    assert (facts.kind, facts.height, facts.width) == ("slide", 128, 192)
    assert facts.notes[:3] == ("by aperio", "scanned at 40 x", "0.25 µm a pixel")
    assert describe(scan, magnification=80.0).rule.startswith("refused: a slide is never enlarged")


@pytest.mark.parametrize("options, expected", [
    ({}, 0.25), ({"magnification": 10.0}, 1.0), ({"microns_per_pixel": 0.5, "region": (0, 0, 64, 64)}, 0.5),
    ({"scanned_microns_per_pixel": 0.3, "magnification": 20.0}, 0.6), ({"magnification": 80.0}, None),
])
def test_the_size_of_a_pixel_as_it_is_read(scan, options, expected):
    assert describe(scan, **options).um_per_px == expected


def test_a_slide_without_microns_has_no_size_of_a_pixel(tmp_path):
    file = slide(tmp_path / "n.svs", about="Aperio Image Library v11\r\n768x512 |AppMag = 40")
    assert describe(file, magnification=10.0).um_per_px is None

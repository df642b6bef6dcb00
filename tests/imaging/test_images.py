"""read_rgb on real bytes of every kind with pitfalls; the fast JPEG decoder is compared with Pillow."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, ImageOps
from PIL.PngImagePlugin import PngInfo

from medstudy.errors import ImageError
from medstudy.imaging import read_array, read_rgb, read_size, to_uint8
from tests.support.image_files import dicom, encode, tiff

RAMP = np.linspace(0, 4095, 64 * 48).reshape(48, 64).astype(np.uint16)  # 12-bit data in 16 bits


def pixels(data, **options):
    image = read_rgb(data, **options)
    assert image.mode == "RGB"
    return np.asarray(image)


def test_cmyk_jpeg_keeps_its_colour():
    red = Image.new("RGB", (40, 30), (220, 30, 20)).convert("CMYK")
    shown = pixels(encode(red, "JPEG", quality=95))
    assert shown.shape == (30, 40, 3)
    assert np.abs(shown.astype(int) - (220, 30, 20)).max() < 12


JPEGS = {
    "4:2:0": {"subsampling": 2},
    "4:2:2": {"subsampling": 1},
    "4:4:4": {"subsampling": 0},
    "progressive": {"progressive": True},
    "restarts": {"restart_marker_blocks": 3},
    "RGB inside": {"keep_rgb": True},
    "quality 30": {"quality": 30},
}


def photo(height=61, width=83):
    """Smooth colour with noise and odd sides: [h, w, 3] uint8."""
    down, right = np.mgrid[:height, :width]
    smooth = 128 + 100 * np.sin(np.stack([down / 9, right / 13, (down + right) / 7], -1))
    noise = np.random.default_rng(0).normal(0, 9, (height, width, 3))
    return Image.fromarray(np.clip(smooth + noise, 0, 255).astype(np.uint8))


@pytest.fixture
def only_fast(monkeypatch):
    """Fails the test if Pillow decodes."""
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda image: pytest.fail("Pillow decoded"))


@pytest.mark.parametrize("options", JPEGS.values(), ids=JPEGS)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_has_pillows_pixels_without_pillow(options, mode, request):
    data = encode(photo().convert(mode), "JPEG", **{"quality": 90} | options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    request.getfixturevalue("only_fast")
    assert np.array_equal(read_array(data), expected)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_jpeg_equals_pillow_s(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(photo(), "JPEG", quality=90, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    assert np.array_equal(read_array(data), expected)
    assert read_size(data) == expected.shape[:2]


@pytest.mark.parametrize("cut", [1, 2, 30, 1000])
def test_a_truncated_jpeg_is_refused_or_complete(cut):
    """Pillow tolerates only a missing end marker; the fast decoder does not change what Pillow does."""
    data = encode(photo(), "JPEG", quality=90)[:-cut]
    try:
        expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except OSError:
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_array(data)
    else:
        assert np.array_equal(read_array(data), expected)


def test_files_that_the_fast_decoder_refuses_go_to_pillow():
    """Stray bytes before the end marker are harmless."""
    whole = encode(photo(), "JPEG", quality=90)
    damaged = whole[:-2] + b"\xff\x00" * 9 + b"\xff\xd9"
    with pytest.raises(ValueError, match="extraneous"):
        simplejpeg.decode_jpeg(damaged, strict=True)
    assert np.array_equal(read_array(damaged), np.asarray(Image.open(io.BytesIO(damaged)).convert("RGB")))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_half_a_jpeg_is_refused_even_with_an_end_marker(mode):
    whole = encode(photo().convert(mode), "JPEG", quality=90)
    half = whole[: len(whole) // 2] + b"\xff\xd9"
    Image.open(io.BytesIO(half)).load()  # Pillow accepts it and fills the rest with grey
    with pytest.raises(ImageError, match="must fill its picture"):
        read_array(half)


@pytest.mark.parametrize("seed", range(3))
def test_damage_is_treated_as_by_pillow(seed):
    """Except that data that end before the picture are refused."""
    rng = np.random.default_rng(seed)
    whole = encode(photo(), "JPEG", quality=90, progressive=seed == 2)
    for _ in range(60):
        data = bytearray(whole)
        data[rng.integers(2, len(data))] = rng.integers(256)
        try:
            image = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
        except Exception:
            with pytest.raises(ImageError):
                read_array(bytes(data))
        else:
            try:
                shown = read_array(bytes(data))
            except ImageError as error:
                assert "must fill its picture" in str(error)
            else:
                assert np.array_equal(shown, np.asarray(image))


FILES = {
    "JPEG": lambda: encode(photo(), "JPEG"),
    "PNG": lambda: encode(photo()),
    "PNG, text": lambda: encode(photo(), pnginfo=_text()),
    "CMYK": lambda: encode(photo().convert("CMYK"), "JPEG"),
    "TIFF": lambda: tiff(np.zeros((5, 9), np.uint8), photometric="minisblack"),
    "TIFF, turned": lambda: tiff(
        np.zeros((5, 9), np.uint8), photometric="minisblack", extratags=[(274, "H", 1, 6, True)]
    ),
    "DICOM": lambda: dicom(np.arange(45).reshape(1, 5, 9)),
}


def _text():
    about = PngInfo()
    about.add_text("key", "value")
    return about


@pytest.mark.parametrize("make", FILES.values(), ids=FILES)
def test_the_header_gives_the_size_of_the_pixels(make):
    data = make()
    assert read_size(data) == read_array(data).shape[:2]


def test_the_size_of_a_stored_png_needs_no_decoding(only_fast):
    assert read_size(encode(photo())) == (61, 83)


def test_a_size_error_names_the_file():
    with pytest.raises(ImageError, match="scan"):
        read_size(b"nothing", name="scan")


def test_a_16_bit_png_uses_its_full_range_and_is_not_clipped_at_255():
    shown = pixels(encode(Image.fromarray(RAMP)))
    assert shown.min() == 0 and shown.max() == 255
    assert len(np.unique(shown)) == 256
    assert abs(float(shown.mean()) - 127.5) < 1


def test_a_window_saturates_outside_and_is_linear_inside():
    shown = pixels(encode(Image.fromarray(RAMP)), window=(1000, 3000))[..., 0]
    assert (shown[RAMP <= 1000] == 0).all() and (shown[RAMP >= 3000] == 255).all()
    assert abs(int(shown[RAMP == RAMP[24, 0]][0]) - 255 * (int(RAMP[24, 0]) - 1000) / 2000) <= 0.5


def test_float_tiff_in_zero_to_one_is_not_black():
    shown = pixels(tiff(np.linspace(0, 1, 600, dtype=np.float32).reshape(20, 30)))
    assert shown.max() == 255 and abs(float(shown.mean()) - 127.5) < 1


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(ImageError, match="NaN"):
        read_rgb(tiff(np.array([[0.0, np.nan]], dtype=np.float32)))


def test_16_bit_colour_png_keeps_the_high_byte():
    import struct
    import zlib

    def chunk(tag, body):
        return struct.pack(">I", len(body)) + tag + body + struct.pack(">I", zlib.crc32(tag + body))

    row = b"\0" + struct.pack(">6H", 0x1234, 0x8000, 0xFFFF, 0, 0x7FFF, 0x0100)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    png = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(row)) + chunk(b"IEND", b"")
    assert pixels(png).tolist() == [[[0x12, 0x80, 0xFF], [0, 0x7F, 1]]]


def test_palette_with_and_without_transparency():
    colours = Image.new("P", (4, 2))
    colours.putpalette([10, 20, 30, 200, 100, 50])
    colours.putpixel((3, 1), 1)
    assert pixels(encode(colours))[1, 3].tolist() == [200, 100, 50]
    assert pixels(encode(colours, transparency=1))[1, 3].tolist() == [255, 255, 255]


def test_alpha_is_composited_on_the_stated_background():
    half = Image.new("RGBA", (3, 3), (200, 0, 0, 128))
    assert np.abs(pixels(encode(half))[0, 0].astype(int) - (227, 127, 127)).max() <= 1
    assert np.abs(pixels(encode(half), background=(0, 0, 0))[0, 0].astype(int) - (100, 0, 0)).max() <= 1


def test_exif_orientation_is_applied_and_metadata_dropped():
    image = Image.new("RGB", (40, 20), (0, 0, 255))
    image.paste((255, 0, 0), (0, 0, 10, 20))
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "patient name"
    shown = read_rgb(encode(image, "JPEG", exif=exif, quality=95, comment=b"patient name"))
    assert shown.size == (20, 40) and not shown.info and not dict(shown.getexif())
    assert np.asarray(shown)[2, 10].argmax() == 0  # the red left edge is now on top


def test_the_pixel_limit_is_checked_before_decoding(tmp_path):
    path = tmp_path / "big.png"
    path.write_bytes(encode(Image.new("L", (300, 200))))
    with pytest.raises(ImageError, match=r"big\.png: 200 x 300 pixels is over the limit of 50,000"):
        read_rgb(path, max_pixels=50_000)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (60, 60, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    path = tmp_path / f"half.{kind.lower()}"
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageError, match=rf"half\.{kind.lower()}"):
        read_rgb(path)


@pytest.mark.parametrize("data", [b"", b"not an image at all", b"\0" * 128 + b"DICM"])
def test_a_file_that_is_not_an_image_raises_an_image_error(data):
    with pytest.raises(ImageError, match="scan"):
        read_rgb(data, name="scan")


def test_links_are_followed_and_broken_ones_are_named(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "a.png").write_bytes(encode(photo()))
    (tmp_path / "a.png").symlink_to(store / "a.png")
    (tmp_path / "linked").symlink_to(store)
    for path in (tmp_path / "a.png", tmp_path / "linked" / "a.png"):
        assert np.array_equal(read_array(path), np.asarray(photo()))
    for name, target in (("gone.png", store / "b.png"), ("round.png", tmp_path / "round.png")):
        (tmp_path / name).symlink_to(target)
        with pytest.raises(ImageError, match=rf"{name}: cannot be opened"):
            read_array(tmp_path / name)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(ImageError, match="nowhere.png"):
        read_rgb(tmp_path / "nowhere.png")


def test_tiff_page_is_named_by_index():
    data = tiff(
        np.stack([np.full((8, 8), value, np.uint8) for value in (10, 20, 30)]), photometric="minisblack"
    )
    assert pixels(data, frame=2)[0, 0, 0] == 30
    with pytest.raises(ImageError, match="frame 3 does not exist, the file has 3"):
        read_rgb(data, frame=3)


def test_tiff_kinds():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    assert pixels(tiff(grey, photometric="miniswhite"))[0, 0, 0] == 255
    planar = np.stack([grey, grey * 0, grey * 0 + 9])
    assert pixels(tiff(planar, photometric="rgb", planarconfig="separate"))[7, 7].tolist() == [63, 0, 9]
    rgba = tiff(
        np.full((4, 4, 4), (100, 100, 100, 0), np.uint8), photometric="rgb", extrasamples=["unassalpha"]
    )
    assert pixels(rgba)[0, 0].tolist() == [255, 255, 255]
    red = tiff(np.full((4, 4, 4), (0, 255, 255, 0), np.uint8), photometric="separated")
    assert pixels(red)[0, 0].tolist() == [255, 0, 0]
    turned = tiff(grey, photometric="minisblack", extratags=[(274, "H", 1, 3, True)])
    assert pixels(turned)[0, 0, 0] == 63


def test_dicom_rescale_then_window():
    frames = np.array([[[0, 1024, 1064], [1063, 1239, 3000]]])
    shown = pixels(dicom(frames, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=40, WindowWidth=400))[
        ..., 0
    ]
    expected = [round(255 * min(max((hu - 39.5) / 399 + 0.5, 0), 1)) for hu in (-1024, 0, 40, 39, 215, 1976)]
    assert shown.ravel().tolist() == expected
    assert expected[0] == 0 and expected[-1] == 255


def test_dicom_without_a_window_uses_the_full_range():
    shown = pixels(dicom(np.array([[[-500, 0, 500]]])))[0, :, 0]
    assert shown.tolist() == [0, 128, 255]


def test_monochrome1_is_inverted_and_frames_are_indexed():
    frames = np.array([[[0, 100]], [[100, 0]]])
    assert pixels(dicom(frames, "MONOCHROME1"))[0, :, 0].tolist() == [255, 0]
    assert pixels(dicom(frames), frame=1)[0, :, 0].tolist() == [255, 0]
    with pytest.raises(ImageError, match="has 2"):
        read_rgb(dicom(frames), frame=2)


def test_truncated_dicom_is_an_error():
    data = dicom(np.zeros((1, 40, 40)))
    with pytest.raises(ImageError, match="ct.dcm"):
        read_rgb(data[:-900], name="ct.dcm")


def test_to_uint8_of_a_constant_and_of_a_bad_window():
    assert to_uint8(np.full((2, 2), 7.5)).tolist() == [[0, 0], [0, 0]]
    with pytest.raises(ImageError, match="low < high"):
        to_uint8(np.zeros((2, 2)), (5, 5))


def test_a_jpeg_padded_with_zeros_is_refused():
    """As an interrupted download leaves it: libjpeg reads zeros as pixels, and only warns of a missing end."""
    whole = encode(Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)), "JPEG")
    with pytest.raises(ImageError, match="must fill its picture, but they end early .Premature end"):
        read_array(whole[: len(whole) // 2] + bytes(len(whole) // 2))
    assert read_array(whole + bytes(99)).shape == (40, 60, 3)

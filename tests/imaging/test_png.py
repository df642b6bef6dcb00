"""Valid PNGs that Pillow refuses, and PNGs with missing rows that it accepts."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array, read_size
from tests.support.image_files import chunk, encode, oriented

PHOTO = np.random.default_rng(0).integers(0, 255, (20, 30, 4), dtype=np.uint8)
LONG = bytes(3_000_000)


def made(values, colour, depth=8, extra=b"", rows=None, interlaced=0, behind=b""):
    """A PNG of [h, w, bands] with further chunks before and after the pixels; only the first `rows` are stored."""
    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    parts = [values]
    if interlaced:
        grid = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        parts = [values[top::down, left::across] for top, left, down, across in grid]
    lines = [b"\0" + row.astype(f">u{depth // 8}").tobytes() for part in parts for row in part if row.size]
    pixels = chunk(b"IDAT", zlib.compress(b"".join(lines[:rows])))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + behind + chunk(b"IEND", b"")


TEXTS = {
    "tEXt": chunk(b"tEXt", b"Comment\0" + b"a" * len(LONG)),
    "zTXt": chunk(b"zTXt", b"Comment\0\0" + zlib.compress(LONG)),
    "iTXt": chunk(b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(LONG)),
    "many": chunk(b"tEXt", b"Comment\0" + b"a" * 1000) * 20,
    "a profile": chunk(b"iCCP", b"p\0\0" + zlib.compress(LONG)),
}


@pytest.mark.parametrize("name", TEXTS)
def test_long_texts_and_profiles_change_nothing(name, monkeypatch):
    monkeypatch.setattr(PngImagePlugin, "MAX_TEXT_MEMORY", 10_000)  # 64 MB
    colour = PHOTO[..., :3]
    places = [{"extra": TEXTS[name]}] + [{"behind": TEXTS[name]}] * (name != "a profile")
    for place in places:
        data = made(colour, 2, **place)
        assert np.array_equal(read_array(data), colour) and read_size(data) == (20, 30)
        assert describe(data).notes == (("a colour profile, not applied",) if name == "a profile" else ())
    deep = made(colour.astype(np.uint16) * 257, 2, 16, extra=TEXTS[name])
    assert np.array_equal(read_array(deep), colour)


def test_an_orientation_among_long_texts_is_applied():
    turned = encode(Image.fromarray(PHOTO[..., :3]), exif=oriented(6))
    packet = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'
    stated = made(PHOTO[..., :3], 2, extra=TEXTS["zTXt"] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + packet))
    assert read_size(stated) == read_size(turned) == (30, 20)
    assert np.array_equal(read_array(stated), read_array(turned))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "1"])
def test_pillow_s_pixel_limit_does_not_apply(mode, monkeypatch):
    """It is a global of the process: neither used nor changed."""
    data = encode(Image.fromarray(PHOTO).convert(mode))
    expected = read_array(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(Image.DecompressionBombError):
        Image.open(io.BytesIO(data))
    assert np.array_equal(read_array(data), expected) and read_size(data) == (20, 30)
    assert describe(data).height == 20 and Image.MAX_IMAGE_PIXELS == 100
    with pytest.raises(ImageError, match="20 x 30 pixels is over the limit of 599"):
        read_array(data, max_pixels=599)


KINDS = {"grey": (0, 1, 8), "colour": (2, 3, 8), "palette": (3, 1, 8), "grey and alpha": (4, 2, 8),
         "colour and alpha": (6, 4, 8), "grey of 16 bits": (0, 1, 16), "colour of 16 bits": (2, 3, 16)}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("interlaced", [0, 1])
@pytest.mark.parametrize("lost", ["half", "the last row"])
def test_a_png_with_missing_rows_is_refused_even_if_its_stream_is_complete(kind, interlaced, lost):
    colour, bands, depth = KINDS[kind]
    table = chunk(b"PLTE", bytes(range(256)) * 3) if colour == 3 else b""
    values = PHOTO[..., :bands].astype(np.uint16) * (257 if depth == 16 else 1)
    options = {"depth": depth, "extra": table, "interlaced": interlaced}
    assert read_array(made(values, colour, **options)).shape == (20, 30, 3)
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_array(made(values, colour, rows=10 if lost == "half" else -1, **options))


def test_an_interlaced_png_equals_the_plain_one():
    colour = PHOTO[:5, :3, :3]
    assert np.array_equal(read_array(made(colour, 2, interlaced=1)), colour)
    assert np.array_equal(read_array(made(colour[:1, :1], 2, interlaced=1)), colour[:1, :1])


def test_12_bit_colour_in_a_16_bit_png_is_recognised():
    camera = np.linspace(0, 4095, 20 * 30 * 3).astype(np.uint16).reshape(20, 30, 3)
    data = made(camera, 2, 16, extra=chunk(b"sBIT", bytes([12, 12, 12])))
    assert np.array_equal(read_array(data), np.rint(camera / 4095 * 255))


def packed(values, bits, colour, extra=b""):
    """A PNG of [h, w] values of 1, 2 or 4 bits, packed into bytes."""
    rows = np.unpackbits(values[..., None], axis=-1)[..., 8 - bits :].reshape(len(values), -1)
    lines = b"".join(b"\0" + np.packbits(row).tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], bits, colour, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra + pixels + chunk(b"IEND", b"")


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_transparent_grey_of_few_bits_is_transparent(bits):
    """tRNS has the grey as stored; Pillow 12 compares it with values that it has spread over 0 to 255."""
    values = PHOTO[..., 0] >> (8 - bits)
    seen = read_array(packed(values, bits, 0, chunk(b"tRNS", struct.pack(">H", 1))))[..., 0]
    assert np.array_equal(seen, np.where(values == 1, 255, values * (255 // (2**bits - 1))))


@pytest.mark.parametrize("colours", [16, 9])
def test_a_pixel_beyond_the_palette_is_refused(colours):
    values, table = PHOTO[..., 0] >> 4, PHOTO[..., 1].ravel()[: colours * 3].tobytes()
    data = packed(values, 4, 3, chunk(b"PLTE", table))
    if colours == 16:
        assert np.array_equal(read_array(data), np.frombuffer(table, np.uint8).reshape(-1, 3)[values])
        return
    with pytest.raises(ImageError, match="in its palette, 0 to 8, not 15"):
        read_array(data)


def test_pixels_that_do_not_match_their_checksum_are_refused():
    data = packed(PHOTO[..., 0] >> 7, 1, 0)
    at = data.index(b"IEND") - 5
    with pytest.raises(ImageError, match="must match its checksum"):
        read_array(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])

"""One image in every kind of file gives the recorded pixels; a file that would need guessing is refused with a reason.

Nearly every fixture holds the same picture, or the same measurement, without loss: whatever the kind, the array read
must be the one worked out here from the values stored, and its hash the one in the table. Lossy files are compared
within the levels that a codec may differ by, and have no hash.
"""

import hashlib
import io

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array, read_size
from tests.support.image_files import bundled, chunk, dicom, encode, nifti, oriented, png, tiff, turned

DOWN, RIGHT = np.mgrid[:9, :12]
PHOTO = np.stack([20 * RIGHT, 25 * DOWN, 255 - 10 * (DOWN + RIGHT)], -1).astype(np.uint8)  # four corner colours
DEEP = PHOTO.astype(np.uint16) * 257 + np.where(PHOTO < 255, 200, 0).astype(np.uint16)  # its low bytes round up
CT = (DOWN * 12 + RIGHT).astype(np.int16) * 38 - 1024  # -1024 to 3042
CLEAR = np.where(RIGHT < 4, 0, np.where(RIGHT < 8, 51, 255)).astype(np.uint8)  # thirds: clear, a fifth, opaque
INK = np.eye(4, dtype=np.uint8)[[0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]][None].repeat(9, 0) * 255  # c m y k …
BITS = (DOWN + RIGHT) % 3 == 0
WINDOW = (0.0, 1000.0)


def grey(values):
    return np.repeat(np.asarray(values, np.uint8)[..., None], 3, -1)


def linear(values, low, high):
    """low to high mapped to 0 to 255, rounded, in integers."""
    inside = np.clip(values.astype(np.int64), low, high) - low
    return grey((inside * 510 + (high - low)) // (2 * (high - low)))


EXPECTED = {
    "photo": PHOTO,
    "photo from 16 bits": np.where(PHOTO < 255, PHOTO + 1, PHOTO).astype(np.uint8),
    "photo on white": np.rint(PHOTO * (CLEAR[..., None] / 255) + 255 * (1 - CLEAR[..., None] / 255)).astype(np.uint8),
    "red on white": np.where(RIGHT[..., None] < 6, (255, 255, 255), (255, 0, 0)).astype(np.uint8),
    "grey": grey(PHOTO[..., 0]),
    "grey on white": grey(np.rint(PHOTO[..., 0] * (CLEAR / 255) + 255 * (1 - CLEAR / 255))),
    "clear grey": grey(np.where(RIGHT == 0, 255, PHOTO[..., 0])),
    "ct": linear(CT, -1024, 3042),
    "ct inverted": 255 - linear(CT, -1024, 3042),
    "ct in a window": linear(CT, 0, 1000),
    "bits": grey(BITS * 255),
    "bits inverted": grey(~BITS * 255),
    "four bits": grey(RIGHT * 17),
    "ink": np.array([(0, 255, 255), (255, 0, 255), (255, 255, 0), (0, 0, 0)] * 3, np.uint8)[None].repeat(9, 0),
    "constant": np.zeros((9, 12, 3), np.uint8),
}
HASHES = {
    "photo": "1b7d279907d12e76",
    "photo from 16 bits": "fdc94b8c43b8ffb8",
    "photo on white": "7d9f7477eecd4729",
    "red on white": "d7e50602d705d037",
    "grey": "180ab10c59278e1a",
    "grey on white": "9824d868077dcdf2",
    "clear grey": "e356aa4136254c8e",
    "ct": "b328d7003c2805e3",
    "ct inverted": "f11852c0b91a7c66",
    "ct in a window": "97f2229675a1bbf4",
    "bits": "ac0a8c61185eead6",
    "bits inverted": "19fdacc325282b49",
    "four bits": "f7fecd241595bd2e",
    "ink": "c228f7a5fa765e7b",
    "constant": "dbaedc23f7064d6c",
}


def photo():
    return Image.fromarray(PHOTO)


def rgba():
    return Image.fromarray(np.dstack([PHOTO, CLEAR]))


def palette(**options):
    """PHOTO as palette indices."""
    image = Image.fromarray(np.arange(108, dtype=np.uint8).reshape(9, 12), mode="L").convert("P")
    image.putpalette(PHOTO.tobytes())
    return image


def animation(kind, **options):
    frames = [Image.new("RGB", (12, 9), colour) for colour in ("red", "blue")] + [photo()]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:], duration=100, **options)


def colours(bits):
    """A TIFF colour table whose first 108 entries are PHOTO's pixels."""
    table = np.zeros((3, 256), np.uint16)
    table[:, :108] = PHOTO.reshape(-1, 3).T.astype(np.uint16) * (257 if bits == 16 else 1)
    return table


def jp2(values, bits):
    return imagecodecs.jpeg2k_encode(np.ascontiguousarray(values), level=0, reversible=True, bitspersample=bits)


def pnm(values):
    """16-bit grey, at most 4066."""
    return b"P5 12 9 65535\n" + values.astype(">u2").tobytes()


FRONT = np.rint(PHOTO * (CLEAR[..., None] / 255)).astype(np.uint8)
HALF = np.where(RIGHT[..., None] < 6, (0, 0, 0), (255, 0, 0)).astype(np.uint8)
INDICES = np.arange(108, dtype=np.uint8).reshape(9, 12)
RAISED = (CT + 1024).astype(np.uint16)
LUT = {}
for band, name in enumerate(("Red", "Green", "Blue")):
    LUT[f"{name}PaletteColorLookupTableDescriptor"] = [108, 0, 16]
    LUT[f"{name}PaletteColorLookupTableData"] = (PHOTO.reshape(-1, 3)[:, band].astype("<u2") * 257).tobytes()
FILES = {
    # 8 bits: the values themselves
    "PNG": (lambda: encode(photo()), {}, "photo"),
    "BMP": (lambda: encode(photo(), "BMP"), {}, "photo"),
    "PPM": (lambda: encode(photo(), "PPM"), {}, "photo"),
    "WebP": (lambda: encode(photo(), "WEBP", lossless=True), {}, "photo"),
    "JPEG 2000": (lambda: jp2(PHOTO, 8), {}, "photo"),
    "PNG, palette": (lambda: encode(palette()), {}, "photo"),
    "GIF": (lambda: encode(palette(), "GIF"), {}, "photo"),
    "GIF, third frame": (lambda: encode(palette().transpose(Image.Transpose.ROTATE_180), "GIF", save_all=True,
                         append_images=[palette().transpose(Image.Transpose.FLIP_LEFT_RIGHT), palette()]),
                         {"frame": 2}, "photo"),
    "APNG, third frame": (lambda: animation("PNG"), {"frame": 2}, "photo"),
    "WebP, third frame": (lambda: animation("WEBP", lossless=True), {"frame": 2}, "photo"),
    "TIFF": (lambda: tiff(PHOTO, photometric="rgb"), {}, "photo"),
    "TIFF, big-endian": (lambda: tiff(PHOTO, photometric="rgb", byteorder=">"), {}, "photo"),
    "BigTIFF": (lambda: tiff(PHOTO, photometric="rgb", bigtiff=True), {}, "photo"),
    "TIFF, LZW": (lambda: tiff(PHOTO, photometric="rgb", compression="lzw", predictor=True), {}, "photo"),
    "TIFF, deflate": (lambda: tiff(PHOTO, photometric="rgb", compression="deflate"), {}, "photo"),
    "TIFF, JPEG 2000": (lambda: tiff(PHOTO, photometric="rgb", compression="jpeg2000"), {}, "photo"),
    "TIFF, tiles": (lambda: tiff(PHOTO, photometric="rgb", tile=(16, 16), compression="zstd"), {}, "photo"),
    "TIFF, planar": (lambda: tiff(np.moveaxis(PHOTO, -1, 0), photometric="rgb", planarconfig="separate"), {}, "photo"),
    "TIFF, palette": (lambda: tiff(INDICES, photometric="palette", colormap=colours(16)), {}, "photo"),
    "TIFF, palette of bytes": (lambda: tiff(INDICES, photometric="palette", colormap=colours(8)), {}, "photo"),
    "TIFF, second page": (lambda: tiff(np.stack([PHOTO * 0, PHOTO]), photometric="rgb"), {"frame": 1}, "photo"),
    "TIFF, 5 channels as colours": (lambda: tiff(np.dstack([PHOTO * 0, PHOTO])[..., 1:], photometric="minisblack",
                                    planarconfig="contig"), {"channels": (2, 3, 4)}, "photo"),
    "ImageJ TIFF, channels as colours": (lambda: tiff(np.moveaxis(np.dstack([PHOTO, PHOTO * 0])[..., :5], -1, 0),
                                         imagej=True, metadata={"axes": "CYX"}), {"channels": (0, 1, 2)}, "photo"),
    "OME-TIFF, channels as colours": (lambda: tiff(np.moveaxis(np.dstack([PHOTO, PHOTO * 0])[..., :5], -1, 0), ome=True,
                                      photometric="minisblack", metadata={"axes": "CYX"}),
                                      {"channels": (0, 1, 2)}, "photo"),
    "DICOM, RGB": (lambda: dicom(PHOTO[None], "RGB"), {}, "photo"),
    "DICOM, second frame": (lambda: dicom(np.stack([PHOTO * 0, PHOTO]), "RGB"), {"frame": 1}, "photo"),
    "DICOM, palette": (lambda: dicom(INDICES[None], "PALETTE COLOR", **LUT), {}, "photo"),
    **{f"PNG, orientation {n}": (lambda n=n: encode(Image.fromarray(turned(PHOTO, n)), exif=oriented(n)), {}, "photo")
       for n in range(1, 9)},
    **{f"TIFF, orientation {n}": (lambda n=n: tiff(turned(PHOTO, n), photometric="rgb",
                                  extratags=[(274, "H", 1, n, True)]), {}, "photo") for n in range(1, 9)},
    "WebP, orientation 6": (lambda: encode(Image.fromarray(turned(PHOTO, 6)), "WEBP", lossless=True, exif=oriented(6)),
                            {}, "photo"),
    "PNG, grey": (lambda: encode(Image.fromarray(PHOTO[..., 0])), {}, "grey"),
    "DICOM, 8 bits": (lambda: dicom(PHOTO[None, ..., 0]), {}, "grey"),
    "NIfTI, colour": (lambda: nifti(np.ascontiguousarray(PHOTO[::-1, ::-1].swapaxes(0, 1)[:, :, None]).view(
                      [("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]), {}, "photo"),
    # 16-bit colour: all bits, rounded
    "PNG, 16-bit colour": (lambda: png(DEEP, 2), {}, "photo from 16 bits"),
    "TIFF, 16-bit colour": (lambda: tiff(DEEP, photometric="rgb"), {}, "photo from 16 bits"),
    "JPEG 2000, 16-bit colour": (lambda: jp2(DEEP, 16), {}, "photo from 16 bits"),
    "DICOM, 16-bit colour": (lambda: dicom(DEEP[None], "RGB"), {}, "photo from 16 bits"),
    "TIFF, float colour": (lambda: tiff(DEEP.astype(np.float32) / 65535, photometric="rgb"), {}, "photo from 16 bits"),
    # transparency on white
    "PNG, RGBA": (lambda: encode(rgba()), {}, "photo on white"),
    "WebP, RGBA": (lambda: encode(rgba(), "WEBP", lossless=True, exact=True), {}, "photo on white"),
    "TIFF, RGBA": (lambda: tiff(np.asarray(rgba()), photometric="rgb", extrasamples=["unassalpha"]), {},
                   "photo on white"),
    "PNG, RGBA of 16 bits": (lambda: png(np.asarray(rgba()).astype(np.uint16) * 257, 6), {}, "photo on white"),
    "TIFF, RGBA of 16 bits": (lambda: tiff(np.asarray(rgba()).astype(np.uint16) * 257, photometric="rgb",
                              extrasamples=["unassalpha"]), {}, "photo on white"),
    "PNG, grey and alpha": (lambda: encode(Image.fromarray(np.dstack([PHOTO[..., 0], CLEAR]), mode="LA")), {},
                            "grey on white"),
    "PNG, grey and alpha of 16 bits": (lambda: png(np.dstack([PHOTO[..., 0], CLEAR]).astype(np.uint16) * 257, 4), {},
                                       "grey on white"),
    "TIFF, grey and alpha": (lambda: tiff(np.dstack([PHOTO[..., 0], CLEAR]), photometric="minisblack",
                             planarconfig="contig", extrasamples=["unassalpha"]), {}, "grey on white"),
    "TIFF, premultiplied": (lambda: tiff(np.dstack([FRONT, CLEAR]), photometric="rgb", extrasamples=["assocalpha"]),
                            {}, "photo on white"),
    "TIFF, premultiplied, 16 bits": (lambda: tiff(np.dstack([FRONT, CLEAR]).astype(np.uint16) * 257, photometric="rgb",
                                     extrasamples=["assocalpha"]), {}, "photo on white"),
    "PNG, 16-bit colour with a clear colour": (lambda: png(HALF.astype(np.uint16) * 257, 2, chunk(b"tRNS", bytes(6))),
                                               {}, "red on white"),
    "PNG, grey with a clear grey": (lambda: encode(Image.fromarray(PHOTO[..., 0]), transparency=0), {}, "clear grey"),
    "PNG, 16-bit grey with a clear grey": (lambda: png(PHOTO[..., :1].astype(np.uint16) * 257, 0,
                                           chunk(b"tRNS", bytes(2))), {}, "clear grey"),
    "PNG, palette with a clear colour": (lambda: _half("P", 0), {}, "red on white"),
    "PNG, RGB with a clear colour": (lambda: _half("RGB", (0, 0, 0)), {}, "red on white"),
    # measurements: the minimum to the maximum
    "PNG, 16-bit grey": (lambda: encode(Image.fromarray(RAISED)), {}, "ct"),
    "PGM, 16 bits": (lambda: pnm(RAISED), {}, "ct"),
    "JPEG 2000, 12-bit grey": (lambda: jp2(RAISED, 12), {}, "ct"),
    "JPEG 2000, 16-bit grey": (lambda: jp2(RAISED, 16), {}, "ct"),
    "TIFF, uint16": (lambda: tiff(RAISED, photometric="minisblack"), {}, "ct"),
    "TIFF, I;16B": (lambda: tiff(RAISED, photometric="minisblack", byteorder=">"), {}, "ct"),
    "TIFF, 12 bits packed": (lambda: tiff(RAISED, photometric="minisblack", bitspersample=12), {}, "ct"),
    "TIFF, int16": (lambda: tiff(CT, photometric="minisblack"), {}, "ct"),
    "TIFF, int32": (lambda: tiff(CT.astype(np.int32) * 70_000, photometric="minisblack"), {}, "ct"),
    "TIFF, float": (lambda: tiff(CT.astype(np.float32) / 4, photometric="minisblack"), {}, "ct"),
    "TIFF, one of 5 channels": (lambda: tiff(np.stack([CT * 0, CT, CT, CT, CT * 2], -1), photometric="minisblack",
                                planarconfig="contig"), {"channels": (1,)}, "ct"),
    "OME-TIFF, one channel of a plane": (lambda: tiff(np.stack([[CT * 0] * 5, [CT * 0, CT * 0, CT, CT * 0, CT * 0]]),
                                         ome=True, metadata={"axes": "ZCYX"}), {"channels": (2,), "frame": 1}, "ct"),
    "DICOM": (lambda: dicom(CT[None]), {}, "ct"),
    "DICOM, unsigned": (lambda: dicom(RAISED[None]), {}, "ct"),
    "DICOM, rescaled": (lambda: dicom(RAISED[None], RescaleSlope=1, RescaleIntercept=-1024), {}, "ct"),
    "NIfTI": (lambda: nifti(CT[::-1, ::-1].T[:, :, None]), {}, "ct"),
    "NIfTI, float, gzip": (lambda: nifti(CT[::-1, ::-1].T[:, :, None].astype(np.float32), packed=True), {}, "ct"),
    "TIFF, MINISWHITE": (lambda: tiff(RAISED, photometric="miniswhite"), {}, "ct inverted"),
    "DICOM, MONOCHROME1": (lambda: dicom(CT[None], "MONOCHROME1"), {}, "ct inverted"),
    "DICOM, a window": (lambda: dicom(RAISED[None], RescaleSlope=1, RescaleIntercept=-1024), {"window": WINDOW},
                        "ct in a window"),
    "DICOM, its own window": (lambda: dicom(CT[None], WindowCenter=500.5, WindowWidth=1001), {}, "ct in a window"),
    "TIFF, a window": (lambda: tiff(CT, photometric="minisblack"), {"window": WINDOW}, "ct in a window"),
    "NIfTI, its own window": (lambda: nifti(CT[::-1, ::-1].T[:, :, None], cal_min=0, cal_max=1000), {},
                              "ct in a window"),
    "TIFF, constant": (lambda: tiff(CT * 0 + 700, photometric="minisblack"), {}, "constant"),
    # few bits, ink
    "PNG, 1 bit": (lambda: encode(Image.fromarray(BITS)), {}, "bits"),
    "TIFF, 1 bit": (lambda: tiff(BITS, photometric="minisblack"), {}, "bits"),
    "TIFF, 1 bit, MINISWHITE": (lambda: tiff(BITS, photometric="miniswhite"), {}, "bits inverted"),
    "TIFF, 4 bits": (lambda: tiff(RIGHT.astype(np.uint8), photometric="minisblack", bitspersample=4), {}, "four bits"),
    "TIFF, CMYK": (lambda: tiff(INK, photometric="separated"), {}, "ink"),
    "TIFF, CMYK of 16 bits": (lambda: tiff(INK.astype(np.uint16) * 257, photometric="separated"), {}, "ink"),
}


def _half(mode, clear):
    image = Image.fromarray(HALF)
    if mode == "P":
        image = Image.fromarray((RIGHT >= 6).astype(np.uint8), mode="L").convert("P")
        image.putpalette([0, 0, 0, 255, 0, 0])
    return encode(image, transparency=clear)


def digest(array):
    return hashlib.sha256(str(array.shape).encode() + array.tobytes()).hexdigest()[:16]


@pytest.mark.parametrize("name", FILES)
def test_a_file_gives_the_computed_and_recorded_pixels(name):
    make, options, expected = FILES[name]
    data = make()
    shown = read_array(data, **options)
    assert shown.dtype == np.uint8 and shown.flags.writeable
    assert np.array_equal(shown, EXPECTED[expected])
    assert digest(shown) == HASHES[expected]


@pytest.mark.parametrize("name", FILES)
def test_the_header_gives_the_size_and_the_facts(name):
    make, options, expected = FILES[name]
    data = make()
    assert read_size(data, **options) == EXPECTED[expected].shape[:2]
    facts = describe(data, **options)
    assert (facts.height, facts.width) == EXPECTED[expected].shape[:2]
    assert facts.alpha or "white" not in expected
    assert not facts.rule.startswith("refused")


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_or_complete(name):
    """Complete if only an end marker or bytes after the pixels are missing."""
    make, options, expected = FILES[name]
    data = make()
    cuts = {len(data) - lost for lost in (1, 2, 4, 9, 16, 30)} | {len(data) * share // 12 for share in range(1, 12)}
    refused = 0
    for length in sorted(cut for cut in cuts if cut > 0):
        try:
            assert np.array_equal(read_array(data[:length], **options), EXPECTED[expected]), length
        except ImageError:
            refused += 1
    assert refused >= 8


def test_a_half_transparent_pixel_is_rounded():
    """101 with opacity 65 of 255 on white is 215.7."""
    pixel = np.full((1, 1, 4), (101, 101, 101, 65), np.uint8)
    assert read_array(encode(Image.fromarray(pixel)))[0, 0].tolist() == [216] * 3


def quadrants():
    """Red and green above blue and white: flat areas, which JPEG changes by a level or two."""
    colours = np.array([[(200, 20, 20), (20, 200, 20)], [(20, 20, 200), (230, 230, 230)]], np.uint8)
    return colours.repeat(16, 0).repeat(24, 1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "CMYK"])
def test_a_turned_jpeg_is_upright_within_three_levels(orientation, mode):
    stored = Image.fromarray(turned(quadrants(), orientation)).convert(mode)
    data = encode(stored, "JPEG", quality=95, subsampling=0, exif=oriented(orientation))
    assert np.abs(read_array(data).astype(int) - quadrants()).max() <= 3
    assert read_size(data) == (32, 48)
    assert describe(data).orientation == orientation


def test_a_ycbcr_tiff_of_jpeg_strips_is_rgb_within_six_levels():
    stored = np.asarray(Image.fromarray(quadrants()).convert("YCbCr"))  # tifffile does not convert
    turn = [(274, "H", 1, 6, True)]
    data = tiff(turned(stored, 6), photometric="ycbcr", compression="jpeg", subsampling=(1, 1), extratags=turn)
    assert describe(data).photometric == "YCBCR"
    assert read_size(data) == (32, 48)
    assert np.abs(read_array(data).astype(int) - quadrants()).max() <= 6


REFUSED = {
    "TIFF, 5 channels": (lambda: tiff(np.zeros((9, 12, 5), np.uint8), photometric="minisblack", planarconfig="contig"),
                         {}, r"has 1 samples per pixel.*this has 5.*\(r, g, b\) for"),
    "TIFF, RGB and an unnamed sample": (lambda: tiff(np.zeros((9, 12, 4), np.uint8), photometric="rgb",
                                        extrasamples=["unspecified"]), {}, "this has 4 .*UNSPECIFIED"),
    "OME-TIFF, 5 channels": (lambda: tiff(np.zeros((5, 9, 12), np.uint8), ome=True, metadata={"axes": "CYX"},
                             photometric="minisblack"), {}, "a TIFF of 5 channels needs"),
    "a channel that is not there": (lambda: tiff(np.zeros((9, 12, 5), np.uint8), photometric="minisblack",
                                    planarconfig="contig"), {"channels": (5,)}, "channels must be in 0 to 4"),
    "two channels": (lambda: encode(photo()), {"channels": (0, 1)}, "one .grey. or three"),
    "TIFF, NaN": (lambda: tiff(np.full((9, 12), np.nan, np.float32)), {}, "NaN"),
    "TIFF, infinity behind a window": (lambda: tiff(np.full((9, 12), np.inf, np.float32)), {"window": (0, 1)},
                                       "infinite"),
    "TIFF, complex": (lambda: tiff(np.zeros((9, 12), np.complex64)), {}, "real numbers"),
    "TIFF, signed colour": (lambda: tiff(PHOTO.astype(np.int16), photometric="rgb"), {}, "signed colour"),
    "TIFF, float colour over 1": (lambda: tiff(PHOTO.astype(np.float32), photometric="rgb"), {}, "must be in 0 to 1"),
    "TIFF, CIELAB": (lambda: tiff(PHOTO, photometric="cielab"), {}, "CIELAB"),
    "TIFF, volume": (lambda: tiff(np.zeros((8, 16, 16), np.uint8), photometric="minisblack", volumetric=True,
                     tile=(8, 16, 16)), {}, "one plane"),
    "TIFF, an empty strip": (lambda: _emptied(), {}, "strip or tile of a TIFF is empty"),
    "ImageJ TIFF, 5 channels": (lambda: tiff(np.zeros((5, 9, 12), np.uint8), imagej=True, metadata={"axes": "CYX"}),
                                {}, "a TIFF of 5 channels needs"),
    "a channel of a file of one": (lambda: tiff(np.stack([CT, CT]), photometric="minisblack"), {"channels": (1,)},
                                   "channels must be in 0 to 0"),
    "a window for a PGM": (lambda: pnm(RAISED), {"window": WINDOW}, "takes no window"),
    "JPEG of 12 bits": (lambda: imagecodecs.jpeg_encode(RAISED, bitspersample=12), {}, "JPEG of 8 bits"),
    "JPEG 2000, two samples without names": (lambda: jp2(PHOTO[..., :2], 8), {}, "must name its 2 samples"),
    "TIFF, cut in its last strip": (lambda: tiff(PHOTO, photometric="rgb")[:-1], {}, "pixels of the page end at byte"),
    "TIFF, the third page missing": (lambda: _pages_of(3, 2), {"frame": 1}, "next page of this TIFF is missing"),
    "JPEG, CMYK without Adobe's mark": (lambda: _unmarked(), {}, "Adobe's mark"),
    "PostScript": (lambda: encode(photo(), "EPS"), {}, "must be whole and one of"),
    "TGA": (lambda: encode(photo(), "TGA"), {}, "must be whole and one of"),
    "DICOM without a preamble": (lambda: dicom(CT[None])[132:], {}, "DICM at byte 128"),
    "DICOM, no image": (lambda: bundled("test-SR.dcm"), {}, "holds no image"),
    "DICOM, cut short": (lambda: bundled("MR_truncated.dcm"), {}, "less than expected"),
    "a slice of a PNG": (lambda: encode(photo()), {"slice": 3}, "a picture does not take slice"),
    "a magnification of a DICOM": (lambda: dicom(CT[None]), {"magnification": 10.0}, "must be given by its path"),
    "a magnification and microns": (lambda: b"-", {"magnification": 10.0, "microns_per_pixel": 1.0}, "both are given"),
    "a window upside down": (lambda: encode(photo()), {"window": (5, 5)}, "low < high"),
    "the third frame of two": (lambda: dicom(np.stack([CT, CT])), {"frame": 2}, "has 2"),
    "a frame below 0": (lambda: tiff(PHOTO, photometric="rgb"), {"frame": -1}, "frame -1 does not exist"),
    "over the limit": (lambda: nifti(CT[:, :, None]), {"max_pixels": 107}, "over the limit of 107"),
}


def _emptied():
    """A TIFF whose second strip has no bytes, as an interrupted writer leaves it."""
    data = bytearray(tiff(PHOTO, photometric="rgb", rowsperstrip=5))
    tag = tifffile.TiffFile(io.BytesIO(data)).pages[0].tags["StripByteCounts"]
    width = {3: 2, 4: 4, 16: 8}[int(tag.dtype)]
    data[tag.valueoffset + width : tag.valueoffset + 2 * width] = bytes(width)
    return bytes(data)


def _pages_of(count, kept):
    """A TIFF of `count` pages, truncated after the first `kept`."""
    data = tiff(np.zeros((count, 9, 12, 3), np.uint8) + 7, photometric="rgb", contiguous=False, metadata=None)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        return data[: file.pages[kept].offset]


def _unmarked():
    data = encode(photo().convert("CMYK"), "JPEG")
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_needs_guessing_is_refused_with_a_reason(name):
    make, options, message = REFUSED[name]
    data = make()
    with pytest.raises(ImageError, match=message):
        read_array(data, name="scan", **options)


def test_facts_of_files_with_hidden_properties():
    five = describe(tiff(np.zeros((9, 12, 5), np.uint8), photometric="minisblack", planarconfig="contig"))
    assert (five.samples, five.rule[:8]) == (5, "refused:")
    deep = describe(png(DEEP, 2))
    assert (deep.bits, deep.samples) == (16, 3)
    assert deep.rule == "0 to the maximum of the fewest bits that hold all samples: 8, 10, 12, 14, 16"
    scan = describe(dicom(np.stack([CT, CT]), "MONOCHROME1", PixelSpacing=[1, 2]))
    assert (scan.frames, scan.values, scan.photometric) == (2, "signed", "MONOCHROME1")
    assert "inverted" in scan.rule and any("1 x 2 mm" in note for note in scan.notes)
    about = PngInfo()
    about.add_text("comment", "not an orientation")
    plain = describe(encode(photo(), pnginfo=about))
    assert (plain.orientation, plain.kind, plain.compression) == (1, "PNG", "deflate")

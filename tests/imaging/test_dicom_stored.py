"""Stored values of DICOM: only the bits that the header states; a frame that contradicts it is refused."""

import io

import imagecodecs
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom import uid
from pydicom.pixels.encoders import RLELosslessEncoder

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array
from tests.support.image_files import compressed, dicom, encode

RAMP = np.linspace(0, 4095, 9 * 12).astype(np.uint16).reshape(9, 12)  # 12 bits
OVERLAY = RAMP | (np.arange(12) % 2 << 15).astype(np.uint16)  # a bit above them in every other column
SIGNED = (RAMP.astype(np.int32) - 2048).astype(np.int16)
BITS = {"BitsStored": 12, "HighBit": 11}
GREY = {"window": (0, 4095)}
EXPECTED = np.rint(RAMP / 4095 * 255)


def rle(values):
    options = {"rows": 9, "columns": 12, "samples_per_pixel": 1, "bits_allocated": 16, "bits_stored": 16,
               "pixel_representation": 0, "number_of_frames": 1,
               "photometric_interpretation": "MONOCHROME2"}
    return RLELosslessEncoder.encode(values.tobytes(), encoding_plugin="pydicom", **options)


def j2k(values, **options):
    return imagecodecs.jpeg2k_encode(values, level=0, codecformat="j2k", **options)


def jls(values):
    return imagecodecs.jpegls_encode(values)


def lossless(values, **options):
    return imagecodecs.jpeg_encode(values, lossless=True, **options)


def frame(data, syntax, dtype=np.uint16, **tags):
    return compressed([data], syntax, (9, 12), dtype, **{**BITS, **tags})


def masked(values):
    return (values.view(np.uint16) & 0xFFF).view(np.int16)


FILES = {
    "plain": lambda: dicom(RAMP[None], **BITS),
    "an overlay": lambda: dicom(OVERLAY[None], **BITS),
    "HighBit 15": lambda: dicom(RAMP[None] << 4, BitsStored=12, HighBit=15),
    "HighBit 13, and bits on either side": lambda: dicom(RAMP[None] << 2 | 0xC003, BitsStored=12, HighBit=13),
    "RLE": lambda: frame(rle(OVERLAY), uid.RLELossless),
    "RLE, HighBit 15": lambda: frame(rle(RAMP << 4), uid.RLELossless, HighBit=15),
    "JPEG 2000": lambda: frame(j2k(OVERLAY), uid.JPEG2000Lossless),
    "JPEG 2000 of 12 bits": lambda: frame(j2k(RAMP, bitspersample=12), uid.JPEG2000Lossless),
    "JPEG 2000, HighBit 15": lambda: frame(j2k(RAMP << 4), uid.JPEG2000Lossless, HighBit=15),
    "JPEG-LS": lambda: frame(jls(OVERLAY), uid.JPEGLSLossless),
    "JPEG lossless": lambda: frame(lossless(OVERLAY), uid.JPEGLosslessSV1),
}


@pytest.mark.parametrize("name", FILES)
def test_bits_outside_the_header_s_range_change_nothing(name):
    assert np.array_equal(read_array(FILES[name](), **GREY)[..., 0], EXPECTED)


WITH_A_SIGN = {
    "plain": lambda: dicom(masked(SIGNED)[None], **BITS),
    "an overlay": lambda: dicom((masked(SIGNED).view(np.uint16) | 0x4000)[None], PixelRepresentation=1, **BITS),
    "HighBit 15": lambda: dicom((SIGNED << 4)[None], BitsStored=12, HighBit=15),
    "RLE": lambda: frame(rle(masked(SIGNED).view(np.uint16)), uid.RLELossless, np.int16),
    "JPEG 2000 that has no sign": lambda: frame(j2k(masked(SIGNED).view(np.uint16)), uid.JPEG2000Lossless, np.int16),
    "JPEG 2000 of 12 bits without a sign": lambda: frame(j2k(masked(SIGNED).view(np.uint16), bitspersample=12),
                                                         uid.JPEG2000Lossless, np.int16),
    "lossy JPEG 2000 of 12 bits without a sign": lambda: frame(j2k(masked(SIGNED).view(np.uint16), bitspersample=12),
                                                               uid.JPEG2000, np.int16),
    "JPEG 2000 that has one": lambda: frame(j2k(SIGNED), uid.JPEG2000Lossless, np.int16),
    "JPEG-LS": lambda: frame(jls(masked(SIGNED).view(np.uint16)), uid.JPEGLSLossless, np.int16),
    "JPEG lossless": lambda: frame(lossless(masked(SIGNED).view(np.uint16)), uid.JPEGLosslessSV1, np.int16),
}


@pytest.mark.parametrize("name", WITH_A_SIGN)
def test_the_sign_is_the_highest_bit_that_is_stored(name):
    assert np.array_equal(read_array(WITH_A_SIGN[name](), window=(-2048, 2047))[..., 0], EXPECTED)


SKIN = np.full((16, 32, 3), (200, 50, 30), np.uint8)


def jpeg(mark=True, **options):
    """SKIN as a JPEG of luma and chroma, with or without JFIF's mark."""
    data = encode(Image.fromarray(SKIN), "JPEG", quality=95, **options)
    return data if mark else _without(data, b"\xff\xe0")


def _without(data, marker):
    at = data.index(marker)
    return data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]


def adobe(data, transform):
    mark = b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00" + bytes([transform])
    return data[:2] + mark + data[2:]


def unmarked_rgb():
    """RGB as the three components, without a mark in the JPEG."""
    return _without(encode(Image.fromarray(SKIN), "JPEG", quality=95, keep_rgb=True), b"\xff\xee").replace(
        b"R\x11\x00G\x11\x00B\x11\x00", b"\x01\x11\x00\x02\x11\x00\x03\x11\x00").replace(
        b"\x03R\x00G\x00B\x00", b"\x03\x01\x00\x02\x00\x03\x00")


COLOURS = {
    "JFIF, called RGB": (lambda: jpeg(), "RGB"),
    "JFIF, called YBR_FULL_422": (lambda: jpeg(), "YBR_FULL_422"),
    "no mark, subsampled, called RGB": (lambda: jpeg(mark=False), "RGB"),
    "no mark, not subsampled, called YBR_FULL": (lambda: jpeg(mark=False, subsampling=0), "YBR_FULL"),
    "Adobe's 1, called RGB": (lambda: adobe(jpeg(mark=False, subsampling=0), 1), "RGB"),
    "Adobe's 1, called YBR_FULL": (lambda: adobe(jpeg(mark=False), 1), "YBR_FULL"),
    "Adobe's 0, called YBR_FULL": (lambda: adobe(unmarked_rgb(), 0), "YBR_FULL"),
    "identifiers RGB, called YBR_FULL_422": (lambda: encode(Image.fromarray(SKIN), "JPEG", quality=95, keep_rgb=True),
                                             "YBR_FULL_422"),
    "no mark, not subsampled, called RGB": (lambda: unmarked_rgb(), "RGB"),
}


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("syntax", [uid.JPEGBaseline8Bit, uid.JPEGExtended12Bit], ids=["baseline", "extended"])
@pytest.mark.parametrize("planar", [0, 1])
def test_the_colours_of_a_jpeg_are_those_that_it_contains(name, syntax, planar):
    """By its own mark, else its subsampling, else the header."""
    make, kind = COLOURS[name]
    data = compressed([make()], syntax, SKIN.shape, kind=kind, PlanarConfiguration=planar)
    assert np.abs(read_array(data).astype(int) - SKIN).max() < 6
    assert describe(data).photometric == kind


@pytest.mark.parametrize("planar", [0, 1])
@pytest.mark.parametrize("kind, mixed", [("YBR_RCT", True), ("RGB", True), ("RGB", False)])
def test_the_colours_of_a_jpeg_2000_are_rgb(kind, mixed, planar):
    card = np.stack([np.full((9, 12), 200), np.arange(108).reshape(9, 12), np.full((9, 12), 30)], -1).astype(np.uint8)
    data = j2k(card, mct=mixed, reversible=True)
    tags = {"kind": kind, "PlanarConfiguration": planar}
    assert np.array_equal(read_array(compressed([data], uid.JPEG2000Lossless, card.shape, **tags)), card)


def test_eight_bits_in_sixteen_are_eight():
    grey = encode(Image.fromarray(np.full((9, 12), 100, np.uint8)), "JPEG", quality=95)
    data = compressed([grey], uid.JPEGBaseline8Bit, (9, 12), np.uint16, BitsStored=8, HighBit=7)
    assert np.abs(read_array(data).astype(int) - 100).max() <= 1


def test_overlays_that_the_header_places_above_the_pixels_are_not_shown():
    """Four of them, so that all bits above vary (PS3.5 8.1.2 until 2004: OverlayBitPosition)."""
    planes = np.random.default_rng(0).integers(0, 16, RAMP.shape).astype(np.uint16)
    data = dicom((RAMP | planes << 12)[None], **BITS)
    with pytest.raises(ImageError, match="the 4 above it hold 15 values"):
        read_array(data)
    placed = pydicom.dcmread(io.BytesIO(data))
    placed.add_new((0x6000, 0x0100), "US", 16)
    placed.add_new((0x6000, 0x0102), "US", 12)
    buffer = io.BytesIO()
    placed.save_as(buffer, enforce_file_format=True)
    assert np.array_equal(read_array(buffer.getvalue(), **GREY)[..., 0], EXPECTED)


def without(data, *names, **tags):
    """A DICOM file without some elements."""
    made = pydicom.dcmread(io.BytesIO(data))
    for name in names:
        del made[name]
    for name, value in tags.items():
        setattr(made, name, value)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def test_float_pixels_have_no_bits():
    floats = {"FloatPixelData": np.linspace(-1, 1, 108, dtype="<f4").tobytes(), "BitsAllocated": 32}
    data = without(dicom(RAMP[None]), "PixelData", "BitsStored", "HighBit", "PixelRepresentation", **floats)
    shown = read_array(data)[..., 0].ravel()
    assert shown[0] == 0 and shown[-1] == 255 and (np.diff(shown.astype(int)) >= 2).all()
    with pytest.raises(ImageError, match="float pixels have no BitsStored"):
        read_array(without(dicom(RAMP[None]), "PixelData", **floats))


ONE = np.zeros((1, 9, 12), np.uint8)
REFUSED = {
    "BitsStored over BitsAllocated": (lambda: dicom(RAMP[None], BitsStored=17, HighBit=16), "BitsStored must be 1 to"),
    "pixels in two of the bits above": (
        lambda: dicom(RAMP[None], BitsStored=10, HighBit=9), "BitsStored and HighBit state 10 bits up to bit 9"),
    "pixels in the bits above": (lambda: dicom(RAMP[None] << 4, **BITS), "the 4 above it hold 1[0-9] values"),
    "BitsAllocated of 12": (lambda: dicom(RAMP[None], BitsAllocated=12, **BITS), "1 or a multiple of 8"),
    "no BitsStored": (lambda: without(dicom(RAMP[None]), "BitsStored"), "pixels need a BitsStored"),
    "no pixels": (lambda: without(dicom(RAMP[None]), "PixelData"), "holds no pixels"),
    "a palette without its tables": (lambda: dicom(ONE, "PALETTE COLOR"), "needs three lookup tables"),
    "HighBit below the bits stored": (lambda: dicom(RAMP[None], BitsStored=12, HighBit=10), "HighBit of 11 to 15"),
    "HighBit beyond the word": (lambda: dicom(RAMP[None], BitsStored=12, HighBit=16), "HighBit of 11 to 15"),
    "HighBit beyond the frame": (lambda: frame(j2k(RAMP, bitspersample=12), uid.JPEG2000Lossless, HighBit=15),
                                 "has 12 bits, but the header states"),
    "a frame of more bits than the word": (lambda: compressed([j2k(RAMP)], uid.JPEG2000Lossless, (9, 12)),
                                           "has 16 bits, but the header states BitsAllocated 8"),
    "a sign that is lost": (lambda: frame(j2k(RAMP, bitspersample=12), uid.JPEG2000Lossless, np.int16, BitsStored=16,
                            HighBit=15), "signed values need all 16 bits"),
    "lossy values beyond BitsStored": (lambda: frame(j2k(OVERLAY), uid.JPEG2000), "lossy values of 16 bits must fit"),
    "rows": (lambda: compressed([j2k(RAMP)], uid.JPEG2000Lossless, (8, 12), np.uint16), "Rows is 8 .* but 9"),
    "columns of a JPEG": (lambda: compressed([jpeg()], uid.JPEGBaseline8Bit, (16, 33, 3), kind="RGB"),
                          "Columns is 33 .* but 32"),
    "a colour JPEG called grey": (lambda: compressed([jpeg()], uid.JPEGBaseline8Bit, (16, 32)), "SamplesPerPixel is 1"),
    "half a JPEG, with an end marker": (lambda: compressed([_half()], uid.JPEGBaseline8Bit, (61, 83)),
                                        "must fill its picture"),
    "no JPEG at all": (lambda: compressed([b"nothing here"], uid.JPEGBaseline8Bit, (9, 12)), "must begin with a JPEG"),
    "a transform that YBR_FULL denies": (lambda: compressed([j2k(SKIN, mct=True)], uid.JPEG2000Lossless, SKIN.shape,
                                         kind="YBR_FULL"), "has a component transform"),
    "YBR_RCT without a transform": (lambda: compressed([j2k(SKIN, mct=False)], uid.JPEG2000Lossless, SKIN.shape,
                                    kind="YBR_RCT"), "has no component transform"),
    "YBR_RCT that is not compressed": (lambda: dicom(SKIN[None], "YBR_RCT"), "cannot be YBR_RCT"),
    "YBR_PARTIAL_422": (lambda: dicom(SKIN[None], "YBR_PARTIAL_422"), "cannot be YBR_PARTIAL_422"),
    "YBR of 16 bits": (lambda: dicom(SKIN[None].astype(np.uint16), "YBR_FULL"), "must have 8 bits per sample"),
    "RGB of one sample": (lambda: dicom(ONE, "RGB"), "RGB has 3 samples per pixel, not 1"),
    "grey of three": (lambda: dicom(SKIN[None]), "MONOCHROME2 has 1 samples per pixel, not 3"),
    "frames that are not named": (lambda: dicom(np.stack([RAMP] * 3), NumberOfFrames=2), "but this file has 648"),
    "rows that are not named": (lambda: dicom(RAMP[None], Rows=8), "must have 192 bytes, but this file has 216"),
    "compressed frames that are not named": (lambda: compressed([j2k(RAMP)] * 2, uid.JPEG2000Lossless, (9, 12),
                                             np.uint16, NumberOfFrames=1), "NumberOfFrames is 1 .* but the file has 2"),
    "RLE frames that are not named": (lambda: compressed([rle(RAMP)] * 3, uid.RLELossless, (9, 12), np.uint16,
                                      NumberOfFrames=2), "NumberOfFrames is 2 .* but the file has 3"),
}


def _half():
    noise = np.random.default_rng(0).integers(0, 255, (61, 83), dtype=np.uint8)
    whole = encode(Image.fromarray(noise), "JPEG", quality=90)
    return whole[: len(whole) // 2] + b"\xff\xd9"


@pytest.mark.parametrize("name", REFUSED)
def test_a_frame_and_a_header_that_contradict_each_other_are_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ImageError, match=message):
        read_array(make())


NOISE = np.random.default_rng(0).integers(0, 255, (41, 53, 3), dtype=np.uint8)
DEEP = NOISE[..., 0].astype(np.uint16) * 16
FRAMES = {
    "grey": (lambda: encode(Image.fromarray(NOISE[..., 0]), "JPEG"), uid.JPEGBaseline8Bit, NOISE[..., 0],
             "MONOCHROME2"),
    "luma and chroma": (lambda: encode(Image.fromarray(NOISE), "JPEG"), uid.JPEGBaseline8Bit, NOISE, "YBR_FULL_422"),
    "RGB": (lambda: encode(Image.fromarray(NOISE), "JPEG", keep_rgb=True), uid.JPEGBaseline8Bit, NOISE, "RGB"),
    "12 bits": (lambda: imagecodecs.jpeg_encode(DEEP, bitspersample=12), uid.JPEGExtended12Bit, DEEP, "MONOCHROME2"),
    "lossless": (lambda: lossless(DEEP), uid.JPEGLosslessSV1, DEEP, "MONOCHROME2"),
    "lossless RGB": (lambda: lossless(NOISE), uid.JPEGLosslessSV1, NOISE, "RGB"),
    "JPEG-LS": (lambda: jls(DEEP), uid.JPEGLSLossless, DEEP, "MONOCHROME2"),
    "JPEG 2000": (lambda: j2k(DEEP), uid.JPEG2000Lossless, DEEP, "MONOCHROME2"),
}


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("end", [b"", b"\xff\xd9"], ids=["no end", "an end"])
def test_a_frame_whose_data_end_early_is_refused_in_a_complete_file(name, end):
    make, syntax, values, kind = FRAMES[name]
    whole, about = make(), (syntax, values.shape, values.dtype, kind)
    assert read_array(compressed([whole], *about)).shape == (41, 53, 3)
    for share in (0.3, 0.9, 0.98):
        with pytest.raises(ImageError, match="cannot be decoded"):
            read_array(compressed([whole[: int(len(whole) * share)] + end], *about))


def test_fragments_of_one_frame_are_not_frames():
    """Some writers split a frame, and a fragment may begin with zeros."""
    whole = j2k(RAMP & 0xF00)
    at = next(n for n in range(len(whole) // 2 * 2 - 2, 0, -2) if whole[n : n + 2] == b"\0\0")
    made = pydicom.dcmread(io.BytesIO(frame(whole, uid.JPEG2000Lossless)))
    items = [b"\xfe\xff\x00\xe0" + (len(one) + len(one) % 2).to_bytes(4, "little") + one + b"\0" * (len(one) % 2)
             for one in (b"", whole[:at], whole[at:])]
    made.PixelData = b"".join(items)
    buffer = io.BytesIO()
    made.save_as(buffer, enforce_file_format=True)
    plain = read_array(dicom((RAMP & 0xF00)[None], **BITS), **GREY)
    assert np.array_equal(read_array(buffer.getvalue(), **GREY), plain)


def test_a_deflated_file_equals_the_plain_one():
    plain = pydicom.dcmread(io.BytesIO(dicom(RAMP[None], **BITS)))
    plain.file_meta.TransferSyntaxUID = uid.DeflatedExplicitVRLittleEndian
    buffer = io.BytesIO()
    plain.save_as(buffer, enforce_file_format=True)
    assert np.array_equal(read_array(buffer.getvalue(), **GREY)[..., 0], EXPECTED)

"""DICOM is displayed by its standard's rules; compressed frames give the values that were stored."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array
from tests.support.image_files import bundled, dicom

VALUES = np.array([[[-200, 0, 100, 300, 500]]])


def shown(data, **options):
    return read_array(data, **options)[0, :, 0].tolist()


def spread(values, low, high):
    return [round(255 * min(max((value - low) / (high - low), 0), 1)) for value in values]


def item(**tags):
    made = Dataset()
    for key, value in tags.items():
        setattr(made, key, value)
    return made


def table(values, first, bits):
    """A VOI LUT whose entries begin at stored value `first`."""
    one = item(LUTDescriptor=[len(values), first, bits], LUTData=np.array(values, "<u2").tobytes())
    one["LUTData"].VR = "OW"
    return Sequence([one])


FUNCTIONS = {
    "LINEAR": spread(VALUES.ravel(), 150 - 0.5 - 299 / 2, 150 - 0.5 + 299 / 2),
    "LINEAR_EXACT": spread(VALUES.ravel(), 0, 300),
    "SIGMOID": [round(255 / (1 + np.exp(-4 * (value - 150) / 300))) for value in VALUES.ravel()],
}  # PS3.3 C.11.2.1.2 and C.11.2.1.3


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_window_is_applied_by_its_function(function):
    data = dicom(VALUES, WindowCenter=150, WindowWidth=300, VOILUTFunction=function)
    assert shown(data) == FUNCTIONS[function]
    assert shown(data, window=(0, 500)) == spread(VALUES.ravel(), 0, 500)


def test_the_first_of_several_windows_is_used():
    assert shown(dicom(VALUES, WindowCenter=[150, 40], WindowWidth=[300, 400])) == FUNCTIONS["LINEAR"]


def test_an_unknown_function_and_an_invalid_width_are_refused():
    with pytest.raises(ImageError, match="LINEAR, LINEAR_EXACT or SIGMOID, not CURVED"):
        read_array(dicom(VALUES, WindowCenter=1, WindowWidth=9, VOILUTFunction="CURVED"))
    with pytest.raises(ImageError, match="a LINEAR window must be at least 1 wide .*, not 0.5: pass window"):
        read_array(dicom(VALUES, WindowCenter=1, WindowWidth=0.5))
    with pytest.raises(ImageError, match="a SIGMOID window must be over 0 wide .*, not 0: pass window"):
        read_array(dicom(VALUES, WindowCenter=1, WindowWidth=0, VOILUTFunction="SIGMOID"))


@pytest.mark.parametrize("centre", [0.5, 100.5, 101, -0.5])
def test_a_window_of_width_1_is_a_threshold(centre):
    """PS3.3 C.11.2.1.2.1: black up to the centre less a half, white beyond."""
    seen = shown(dicom(VALUES, WindowCenter=centre, WindowWidth=1))
    assert seen == [255 * (one > centre - 0.5) for one in VALUES.ravel()]


@pytest.mark.parametrize("bits, top", [(8, 255), (12, 4095), (16, 65535)])
def test_a_voi_lut_covers_its_full_range_and_clips_at_its_ends(bits, top):
    """Its range is that of its bits, even if entries use less; 401 entries do not wrap at 8 bits."""
    entries = np.linspace(0, top, 401).astype(int)
    data = dicom(VALUES, VOILUTSequence=table(entries, 0, bits))
    chosen = entries[np.clip(VALUES.ravel(), 0, 400)]
    assert shown(data) == spread(chosen, 0, top)
    assert describe(data).rule == "the file's VOI LUT"


def test_a_voi_lut_whose_entries_exceed_its_bits_is_refused():
    with pytest.raises(ImageError, match="12 bits holds at most 4095, not 5000: pass window"):
        read_array(dicom(VALUES, VOILUTSequence=table([0, 5000], 0, 12)))


def test_an_enhanced_file_states_rescale_and_window_per_frame():
    window = Sequence([item(WindowCenter=150.5, WindowWidth=301)])
    rescales = [Sequence([item(RescaleSlope=slope, RescaleIntercept=0, RescaleType="US")]) for slope in (1, 3)]
    groups = [item(PixelValueTransformationSequence=rescale) for rescale in rescales]
    data = dicom(
        np.concatenate([VALUES, VALUES]),
        SharedFunctionalGroupsSequence=Sequence([item(FrameVOILUTSequence=window)]),
        PerFrameFunctionalGroupsSequence=Sequence(groups),
    )
    assert shown(data) == spread(VALUES.ravel(), 0, 300)
    assert shown(data, frame=1) == spread(VALUES.ravel() * 3, 0, 300)
    assert describe(data, frame=1).rule == "0 to 300, the file's own window"


def test_a_frame_without_its_functional_groups_is_refused():
    """It would be shown without the rescale and the window that the file states per frame."""
    macro = Sequence([item(RescaleSlope=1, RescaleIntercept=0)])
    groups = Sequence([item(PixelValueTransformationSequence=macro)])
    data = dicom(np.concatenate([VALUES, VALUES]), PerFrameFunctionalGroupsSequence=groups)
    read_array(data)
    with pytest.raises(ImageError, match="an item for each frame .* has 1, none for frame 1"):
        read_array(data, frame=1)


def test_padding_is_left_out_of_the_range_and_saturates():
    data = dicom(np.array([[[-2000, 0, 500, 1000]]]), PixelPaddingValue=-2000)
    assert shown(data) == [0, 0, 128, 255]
    limited = dicom(np.array([[[-2000, -1999, 0, 1000]]]), PixelPaddingValue=-2000, PixelPaddingRangeLimit=-1990)
    assert shown(limited) == [0, 0, 0, 255]
    assert shown(dicom(np.full((1, 1, 3), -2000), PixelPaddingValue=-2000)) == [0, 0, 0]


def test_monochrome1_is_inverted_after_its_window():
    data = dicom(VALUES, "MONOCHROME1", WindowCenter=150, WindowWidth=300, VOILUTFunction="LINEAR_EXACT")
    assert shown(data) == [255 - value for value in FUNCTIONS["LINEAR_EXACT"]]


def test_signed_values_of_twelve_bits_are_signed():
    """-1 in 12 bits is 0x0FFF, and the bits above may hold anything."""
    stored = np.array([[[0x0FFF, 0x0000, 0xF7FF]]], np.uint16)  # -1, 0, 2047
    data = dicom(stored, BitsStored=12, HighBit=11, PixelRepresentation=1)
    assert shown(data, window=(-1, 2047)) == [0, 0, 255]
    assert describe(data).values == "signed"


def test_an_8_bit_palette_stored_in_16_bits_is_not_black():
    colours = {}
    for name, entries in (("Red", (0, 250)), ("Green", (10, 20)), ("Blue", (90, 0))):
        colours[f"{name}PaletteColorLookupTableDescriptor"] = [2, 0, 16]
        colours[f"{name}PaletteColorLookupTableData"] = np.array(entries, "<u2").tobytes()
    data = dicom(np.array([[[0, 1, 7]]], np.uint8), "PALETTE COLOR", **colours)
    assert read_array(data)[0].tolist() == [[0, 10, 90], [250, 20, 0], [250, 20, 0]]  # beyond the last: the last


MR = ["MR_small_implicit", "MR_small_bigendian", "MR_small_RLE", "MR_small_jp2klossless", "MR_small_jpeg_ls_lossless"]


@pytest.mark.parametrize("name", MR)
def test_a_lossless_transfer_syntax_changes_nothing(name):
    """Compared with the stored values of the uncompressed file: 64 x 64, signed, in a window of 1600 at 600."""
    plain = pydicom.dcmread(io.BytesIO(bundled("MR_small.dcm")))
    stored = np.frombuffer(plain.PixelData, "<i2").reshape(64, 64)
    assert (plain.WindowCenter, plain.WindowWidth) == (600, 1600)
    expected = np.rint(np.clip((stored + 200.0) / 1599, 0, 1) * 255)
    assert np.array_equal(read_array(bundled(f"{name}.dcm"))[..., 0], expected)


# Rows of the test card, as pydicom's own tests name them.
BARS = {5: (255, 0, 0), 15: (255, 128, 128), 25: (0, 255, 0), 45: (0, 0, 255), 65: (0, 0, 0), 75: (64, 64, 64),
        85: (192, 192, 192), 95: (255, 255, 255)}
CARDS = {
    "SC_rgb_rle": 0,  # RLE
    "SC_rgb_gdcm_KY": 0,  # JPEG 2000
    "SC_rgb_jpeg_gdcm": 0,  # JPEG lossless
    "SC_rgb_jls_lossy_line": 4,  # JPEG-LS, near lossless
    "SC_rgb_dcmtk_+eb+cy+n1": 6,  # JPEG, luma and chroma
    "SC_rgb_dcmtk_+eb+cr": 4,  # JPEG, RGB inside
    "SC_rgb_rle_16bit": 0,
    "SC_ybr_full_422_uncompressed": 6,
}


@pytest.mark.parametrize("name", CARDS)
def test_the_bars_of_a_colour_card_have_their_colours(name):
    card = read_array(bundled(f"{name}.dcm"))
    for row, colour in BARS.items():
        assert np.abs(card[row, 50].astype(int) - colour).max() <= CARDS[name], row


def test_a_12_bit_jpeg_keeps_its_bits():
    """Two of its samples are 244 and 95, as in pydicom's own tests; the maximum is 264."""
    card = read_array(bundled("JPGExtended.dcm"), window=(0, 264))
    assert abs(card[420, 140, 0] - 255 * 244 / 264) <= 1.5 and abs(card[230, 120, 0] - 255 * 95 / 264) <= 1.5
    assert describe(bundled("JPGExtended.dcm")).bits == 12


@pytest.mark.parametrize("name", ["SC_rgb_jpeg_gdcm", "MR_small_jp2klossless", "SC_rgb_rle_2frame", "JPGExtended"])
def test_truncated_compressed_frames_are_refused(name):
    data = bundled(f"{name}.dcm")
    for length in (len(data) * 9 // 10, data.rindex(b"\xfe\xff\xdd\xe0")):
        with pytest.raises(ImageError, match="cannot be decoded.*End of file"):
            read_array(data[:length])


REFUSED = {
    "tiles of a slide": ({"TotalPixelMatrixRows": 100, "TotalPixelMatrixColumns": 100}, "tiles of a slide"),
    "hue and saturation": ({"PhotometricInterpretation": "HSV"}, "RGB, YBR or palette colour, not HSV"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_without_a_single_image_is_refused(name):
    tags, message = REFUSED[name]
    with pytest.raises(ImageError, match=message):
        read_array(dicom(VALUES, **tags))


@pytest.mark.parametrize("tags, expected", [
    ({"PixelSpacing": [0.7, 0.7]}, 700.0), ({"ImagerPixelSpacing": [0.14, 0.14]}, 140.0),
    ({"PixelSpacing": [0.7, 0.7], "ImagerPixelSpacing": [0.14, 0.14]}, 700.0), ({"PixelSpacing": [0.7, 0.9]}, None),
    ({"PixelAspectRatio": [1, 1]}, None), ({}, None), ({"PixelSpacing": [0, 0]}, None),
])
def test_the_size_of_a_pixel_is_the_headers_in_micrometres(tags, expected):
    assert describe(dicom(VALUES, **tags)).um_per_px == (None if expected is None else pytest.approx(expected))


def test_an_enhanced_file_states_the_size_of_a_pixel_per_frame():
    groups = [item(PixelMeasuresSequence=Sequence([item(PixelSpacing=[side, side])])) for side in (0.5, 0.25)]
    data = dicom(np.concatenate([VALUES, VALUES]), PerFrameFunctionalGroupsSequence=Sequence(groups))
    assert [describe(data, frame=frame).um_per_px for frame in (0, 1)] == [500, 250]

"""Rescale, windows, lookup tables and padding of DICOM: complete pairs and plausible numbers."""

import io

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array
from tests.support.image_files import bundled, dicom

RAMP = np.linspace(0, 4095, 9 * 12).astype(np.uint16).reshape(1, 9, 12)
WINDOW = {"WindowCenter": 40, "WindowWidth": 400}
FULL = {"RescaleSlope": 2, "RescaleIntercept": -1024}


def same(one, other):
    return np.array_equal(read_array(one), read_array(other))


def lut(values, first, bits, count=None):
    made = Dataset()
    made.LUTDescriptor, made.LUTData = [count or len(values), first, bits], np.array(values, "<u2").tobytes()
    made["LUTData"].VR, made["LUTDescriptor"].VR = "OW", "US"
    return Sequence([made])


def written(tag, text, **tags):
    """A DICOM file with this text as a number, which pydicom itself would not write."""
    data = dicom(RAMP, **{tag: "1234567.5"}, **tags)
    assert data.count(b"1234567.5 ") == 1
    return data.replace(b"1234567.5 ", text.ljust(10).encode())


EIGHT = (RAMP >> 5).astype(np.uint8)  # 0 to 127


@pytest.mark.parametrize("kind", ["MONOCHROME1", "MONOCHROME2"])
def test_a_rescale_by_one_and_zero_changes_nothing(kind):
    """PS3.3 C.11.1.1.2: the output is the slope times the stored value, plus the intercept."""
    rescaled = dicom(EIGHT, kind, RescaleSlope="1.0", RescaleIntercept="0")
    assert same(dicom(EIGHT, kind), rescaled)
    assert describe(rescaled).rule == describe(dicom(EIGHT, kind)).rule and not describe(rescaled).notes
    assert read_array(dicom(EIGHT)).max() == 127 and read_array(dicom(EIGHT, **FULL)).max() == 255


@pytest.mark.parametrize("lost, other", [("RescaleSlope", 1), ("RescaleIntercept", 0)])
@pytest.mark.parametrize("empty", [False, True])
def test_a_rescale_with_one_number_is_completed_and_noted(lost, other, empty):
    given = {name: value for name, value in FULL.items() if name != lost}
    half = dicom(RAMP, **WINDOW, **given, **({lost: None} if empty else {}))
    assert same(half, dicom(RAMP, **WINDOW, **given, **{lost: other}))
    assert not same(half, dicom(RAMP, **WINDOW))
    assert describe(half).notes == ("rescaled before the window", f"a rescale without {lost}, taken as {other}")


def test_a_frame_s_rescale_is_not_completed_from_the_file_s():
    """The functional group replaces the file's elements: its own intercept, and no slope from elsewhere."""
    macro = Dataset()
    macro.RescaleIntercept = 100
    group = Dataset()
    group.PixelValueTransformationSequence = Sequence([macro])
    data = dicom(RAMP, **WINDOW, **FULL, SharedFunctionalGroupsSequence=Sequence([group]))
    assert same(data, dicom(RAMP, **WINDOW, RescaleSlope=1, RescaleIntercept=100))


def test_values_through_a_modality_lut_come_before_the_window():
    entries = np.arange(4096) // 4
    data = dicom(RAMP, **WINDOW, ModalityLUTSequence=lut(entries, 0, 16))
    assert same(data, dicom(RAMP // 4, **WINDOW))
    assert describe(data).notes == ("rescaled before the window",)


def test_a_modality_lut_of_signed_values_may_begin_below_zero_if_written_unsigned():
    values = np.array([[[-1000, 0, 1000]]], np.int16)
    data = dicom(values, ModalityLUTSequence=lut(np.arange(2001), 2**16 - 1000, 16))
    assert read_array(data)[0, :, 0].tolist() == [0, 128, 255]


def test_a_table_of_a_big_endian_file_is_read_as_big_endian():
    def with_table(name, words):
        made = pydicom.dcmread(io.BytesIO(bundled(name)))
        del made.WindowCenter, made.WindowWidth
        made.VOILUTSequence = lut(np.arange(4096) * 7, 0, 16)
        made.VOILUTSequence[0].LUTData = (np.arange(4096) * 7).astype(words).tobytes()
        buffer = io.BytesIO()
        made.save_as(buffer)
        return buffer.getvalue()

    assert same(with_table("MR_small_bigendian.dcm", ">u2"), with_table("MR_small.dcm", "<u2"))


PADDED = np.array([[[-2000, 0, 500, 1000]]], np.int16)
PADDINGS = {
    "as it is": (PADDED, {"PixelPaddingValue": ("SS", -2000)}),
    "of signed pixels, without a sign": (PADDED, {"PixelPaddingValue": ("US", 2**16 - 2000)}),
    "of unsigned pixels, with a sign": (np.array([[[2**16 - 2000, 0, 500, 1000]]], np.uint16),
                                        {"PixelPaddingValue": ("SS", -2000)}),
    "of 12 bits, without a sign": (PADDED, {"PixelPaddingValue": ("US", 2096), "BitsStored": 12, "HighBit": 11}),
    "a range, both without a sign": (np.array([[[-2000, 0, 500, 1000]]], np.int16), {
        "PixelPaddingValue": ("US", 2**16 - 2048), "PixelPaddingRangeLimit": ("US", 2**16 - 1999)}),
}


@pytest.mark.parametrize("name", PADDINGS)
def test_padding_is_left_out_however_its_sign_is_written(name):
    """Its bits are those of the pixels (PS3.3 C.7.5.1.1.2)."""
    values, tags = PADDINGS[name]
    plain = pydicom.dcmread(io.BytesIO(dicom(values)))
    for tag, value in tags.items():
        if isinstance(value, tuple):
            plain.add_new(pydicom.datadict.tag_for_keyword(tag), *value)
        else:
            setattr(plain, tag, value)
    buffer = io.BytesIO()
    plain.save_as(buffer, enforce_file_format=True)
    shown = read_array(buffer.getvalue())[0, :, 0].tolist()
    assert shown[1:] == [0, 128, 255]


REFUSED = {
    "both empty": (lambda: dicom(RAMP, RescaleSlope=None, RescaleIntercept=None), "but both are empty"),
    "a slope alone, and empty": (lambda: dicom(RAMP, RescaleSlope=None), "but both are empty"),
    "a slope of 0": (lambda: dicom(RAMP, RescaleSlope=0, RescaleIntercept=5), "the slope of a rescale must not be 0"),
    "NaN": (lambda: written("RescaleSlope", "nan", RescaleIntercept=0), "RescaleSlope must be a finite number"),
    "infinity": (lambda: written("RescaleIntercept", "-inf", RescaleSlope=1), "RescaleIntercept must be a finite"),
    "text": (lambda: written("RescaleIntercept", "none", RescaleSlope=1), "RescaleIntercept must be a number"),
    "two slopes": (lambda: dicom(RAMP, RescaleSlope=[1, 2], RescaleIntercept=0), "must be one number, not"),
    "a rescale and a LUT": (lambda: dicom(RAMP, **FULL, ModalityLUTSequence=lut([0, 1], 0, 16)), "but this has both"),
    "a LUT of fewer entries": (lambda: dicom(RAMP, ModalityLUTSequence=lut([0, 1], 0, 16, count=3)),
                               "must have the 3 entries that it states, not"),
    "a LUT of fewer bits": (lambda: dicom(RAMP, ModalityLUTSequence=lut([0, 300], 0, 8)),
                            "a modality LUT of 8 bits holds at most 255, not 300"),
    "a VOI LUT of fewer entries": (lambda: dicom(RAMP, VOILUTSequence=lut(range(99), 0, 16, count=200)),
                                   "a VOI LUT must have the 200 entries"),
    "a centre alone": (lambda: dicom(RAMP, WindowCenter=40), "a window needs a centre and a width"),
    "a width alone": (lambda: dicom(RAMP, WindowCenter=None, WindowWidth=40), "this file has none and 40"),
    "a centre of NaN": (lambda: written("WindowCenter", "nan", WindowWidth=40), "WindowCenter must be a finite"),
    "padding that no pixel has": (lambda: dicom(RAMP, BitsStored=12, HighBit=11, PixelPaddingValue=63536),
                                  "0 to 4095 .* not 63536"),
    "a limit of no padding": (lambda: dicom(RAMP, PixelPaddingRangeLimit=5), "padding needs a value"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_half_a_pair_and_invalid_numbers_are_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ImageError, match=message):
        read_array(make())


def test_the_caller_s_window_replaces_half_a_window_of_the_file():
    assert same(dicom(RAMP), dicom(RAMP)) and read_array(dicom(RAMP, WindowCenter=40), window=(0, 4095)).max() == 255


def test_facts_state_why_a_rescale_is_refused():
    assert describe(dicom(RAMP, RescaleSlope=0, RescaleIntercept=5)).rule.startswith("refused: the slope of a rescale")


def test_facts_name_pixels_that_are_not_square():
    assert describe(dicom(RAMP, PixelAspectRatio=[4, 3])).notes == ("pixels of 4 x 3 (a ratio) are shown square",)

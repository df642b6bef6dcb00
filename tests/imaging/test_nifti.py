"""The slice of a NIfTI volume is the selected one, however the volume is stored."""

import gzip
import itertools

import nibabel
import numpy as np
import pytest
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array, read_size
from tests.support.image_files import nifti

VOLUME = np.random.default_rng(0).integers(0, 256, (7, 9, 5), dtype=np.uint8)  # towards right, front, head
SLICES = {"sagittal": 2, "coronal": 6, "axial": 3}
SHOWN = {
    "axial": VOLUME[::-1, ::-1, 3].T,  # the patient's right on the left, the front at the top
    "coronal": VOLUME[::-1, 6, ::-1].T,  # the patient's right on the left, the head at the top
    "sagittal": VOLUME[2, ::-1, ::-1].T,  # the front on the left, the head at the top
}
STORED = [codes for axes in itertools.permutations(("RL", "AP", "SI")) for codes in itertools.product(*axes)]


def stored_as(codes):
    """VOLUME as stored by a scanner whose axes run towards these sides."""
    image = nibabel.Nifti1Image.from_bytes(nifti(VOLUME, spacing=(2, 3, 4)))
    turns = ornt_transform(io_orientation(image.affine), axcodes2ornt(codes))
    return image.as_reoriented(turns).to_bytes()


@pytest.mark.parametrize("codes", STORED, ids="".join)
@pytest.mark.parametrize("axis", SHOWN)
def test_a_slice_along_a_named_axis_is_the_same_however_the_volume_is_stored(codes, axis):
    data = stored_as(codes)
    shown = read_array(data, axis=axis, slice=SLICES[axis])
    assert np.array_equal(shown[..., 0], SHOWN[axis])
    assert read_size(data, axis=axis, slice=SLICES[axis]) == SHOWN[axis].shape


def test_the_nose_points_up_and_the_liver_is_on_the_left():
    """In an axial slice of a volume stored from left to right and from back to front."""
    volume = np.zeros((11, 11, 1), np.uint8)
    volume[5, 10], volume[10, 5] = 200, 100  # nose, the patient's right
    shown = read_array(nifti(volume))[..., 0]
    assert shown[0, 5] == 200 and shown[5, 0] == 100


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_slice_along_a_numbered_axis_needs_no_orientation(axis):
    data = nifti(VOLUME, code=0)
    assert np.array_equal(read_array(data, axis=axis, slice=1)[..., 0], VOLUME.take(1, axis).T)
    with pytest.raises(ImageError, match="states none .qform and sform codes 0.: pass axis=0"):
        read_array(data, slice=1)


def test_the_middle_slice_and_one_of_four_volumes():
    volumes = np.stack([VOLUME, VOLUME[::-1]], -1)
    shown = read_array(nifti(volumes), slice="middle", volume=1)
    assert np.array_equal(shown[..., 0], VOLUME[:, ::-1, 2].T)


def test_slope_and_intercept_come_before_the_window():
    data = _sloped(nifti(np.array([[[0]], [[500]], [[1000]]], np.int16)), 2, -1000)  # -1000, 0, 1000
    assert read_array(data, window=(-1000, 0))[0, :, 0].tolist() == [255, 255, 0]  # from the patient's right


def _sloped(data, slope, intercept):
    """NIfTI-1 with a slope and an intercept in its header, which nibabel does not write for an array."""
    return data[:112] + np.array([slope, intercept], "<f4").tobytes() + data[120:]


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("intercept", [5.0, np.nan])
def test_an_invalid_slope_counts_as_none(slope, intercept):
    """scl_slope 0 means no scaling (nifti1.h); so must a slope that is not a number."""
    plain = nifti(VOLUME.astype(np.int16))
    assert np.array_equal(read_array(_sloped(plain, slope, intercept), slice=1), read_array(plain, slice=1))


@pytest.mark.parametrize("low, high", [(0, np.inf), (-np.inf, 3), (np.nan, 3), (3, 3), (30, 3), (0, 0)])
def test_an_invalid_display_range_is_not_a_window(low, high):
    plain = nifti(VOLUME.astype(np.int16))
    assert np.array_equal(read_array(nifti(VOLUME.astype(np.int16), cal_min=low, cal_max=high), slice=1),
                          read_array(plain, slice=1))


def test_zeros_after_the_voxels_change_nothing():
    assert np.array_equal(read_array(nifti(VOLUME) + bytes(999), slice=1), read_array(nifti(VOLUME), slice=1))


def _patched(data, at, code):
    return data[:at] + np.array([code], "<i2").tobytes() + data[at + 2 :]


COLOUR = np.zeros((7, 9, 5), [("R", "u1"), ("G", "u1"), ("B", "u1")])


def test_facts_of_a_volume():
    facts = describe(nifti(VOLUME, spacing=(2, 3, 4)))
    assert (facts.kind, facts.height, facts.width, facts.frames, facts.bits) == ("NIfTI", 9, 7, 5, 8)
    assert facts.rule.startswith("refused: a volume of 5 slices")
    assert facts.notes == ("stored as RAS", "7 x 9 x 5 voxels of 2 x 3 x 4 mm")
    assert describe(nifti(VOLUME), axis="coronal", slice="middle").frames == 9


REFUSED = {
    "no slice": (lambda: nifti(VOLUME), {}, "a volume of 5 slices .axial. needs a selection"),
    "a slice beyond the last": (lambda: nifti(VOLUME), {"slice": 5}, "slice 5 does not exist, the volume has 5"),
    "a slice below 0": (lambda: nifti(VOLUME), {"slice": -1}, "slice -1 does not exist"),
    "no volume": (lambda: nifti(np.stack([VOLUME, VOLUME], -1)), {"slice": 0}, "a file of 2 volumes needs"),
    "a volume beyond the last": (lambda: nifti(VOLUME), {"slice": 0, "volume": 1}, "volume 1 does not exist"),
    "a pair of files": (lambda: nifti(VOLUME).replace(b"n+1\0", b"ni1\0"), {"slice": 0}, "save it as .nii"),
    "five axes": (lambda: nifti(np.zeros((2, 2, 2, 2, 3), np.uint8)), {"slice": 0}, "2 to 4 axes"),
    "complex": (lambda: nifti(np.zeros((2, 2, 2), np.complex64)), {"slice": 0}, "real numbers"),
    "NaN": (lambda: nifti(np.full((2, 2, 2), np.nan, np.float32)), {"slice": 0}, "NaN"),
    "cut short behind the slice": (lambda: nifti(VOLUME)[:-1], {"slice": 0}, "has 667 bytes, but this has 666"),
    "gzip cut short": (lambda: nifti(VOLUME, packed=True)[:-1], {"slice": 0}, "cannot be decoded"),
    "bits of another type": (lambda: _patched(nifti(VOLUME.astype(np.int16)), 70, 2), {"slice": 0},
                             "datatype has 8 bits, but its bitpix is 16"),
    "a volume that is not named": (lambda: nifti(VOLUME) + VOLUME.tobytes(), {"slice": 0}, "further slices follow"),
    "the same, gzipped": (lambda: gzip.compress(nifti(VOLUME) + VOLUME.tobytes()), {"slice": 0}, "slices follow"),
    "a slope without an intercept": (lambda: _sloped(nifti(VOLUME), 2, np.nan), {"slice": 0}, "invalid intercept"),
    "a slope of colour": (lambda: _sloped(nifti(COLOUR), 2, 0), {"slice": 0}, "colour takes no slope"),
    "gzip of something else": (lambda: nifti(VOLUME, packed=True)[:40], {"slice": 0}, "a picture does not take slice"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_missing_selection_or_an_invalid_file_is_refused(name):
    make, options, message = REFUSED[name]
    data = make()
    with pytest.raises(ImageError, match=message):
        read_array(data, name="brain.nii", **options)

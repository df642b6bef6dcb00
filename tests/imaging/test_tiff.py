"""The pages of a TIFF compared with what its tags and description state: planes, flags and bits."""

import io

import numpy as np
import pytest
import tifffile

from medstudy.errors import ImageError
from medstudy.imaging import describe, read_array, read_size
from tests.support.image_files import tiff

PLANES = np.arange(4 * 9 * 12, dtype=np.uint8).reshape(4, 9, 12)
RAMP = np.linspace(0, 4095, 9 * 12).astype(np.uint16).reshape(9, 12)  # 12 bits
CAMERA = np.stack([RAMP, RAMP // 2, RAMP // 4], -1)


def grey(values):
    return np.repeat(values[..., None], 3, -1)


def written(*pages):
    """A TIFF with these pages: (pixels, options)."""
    buffer = io.BytesIO()
    with tifffile.TiffWriter(buffer) as file:
        for pixels, options in pages:
            file.write(pixels, metadata=None, photometric="minisblack", **options)
    return buffer.getvalue()


def behind_one(axes):
    return tiff(PLANES, imagej=True, metadata={"axes": axes}, truncate=True)


def described(text, pages=1):
    return tiff(PLANES[:pages], description=text, metadata=None, photometric="minisblack")


OME = (
    '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0"><Pixels '
    'ID="Pixels:0" DimensionOrder="XYCZT" Type="uint8" SizeX="12" SizeY="9" SizeC="{c}" SizeZ="{z}" SizeT="1">'
    '<Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
)
ELSEWHERE = (
    '<TiffData IFD="0" FirstC="{c}"><UUID FileName="{c}.tif">urn:uuid:1111111{c}-1111-1111-1111-111111111111</UUID>'
    "</TiffData>"
)
MORE = {
    "ImageJ, channels behind one page": lambda: behind_one("CYX"),
    "ImageJ, slices behind one page": lambda: behind_one("ZYX"),
    "ImageJ, pages that are missing": lambda: described("ImageJ=1.53\nimages=4\nchannels=4\nhyperstack=true\n", 3),
    "tifffile, planes behind one page": lambda: tiff(PLANES, truncate=True, photometric="minisblack"),
    "OME, channels that are missing": lambda: described(OME.format(c=4, z=1, data='<TiffData IFD="0"/>')),
    "OME, slices that are missing": lambda: described(OME.format(c=1, z=4, data='<TiffData IFD="0"/>'), 2),
    "OME, channels in other files": lambda: described(OME.format(c=2, z=1, data="".join(
        ELSEWHERE.format(c=c) for c in range(2)))),
}


@pytest.mark.parametrize("name", MORE)
def test_planes_that_are_not_pages_are_not_ignored(name):
    data = MORE[name]()
    for options in ({}, {"channels": (0,)}):
        with pytest.raises(ImageError, match=r"states \d planes, but the pages of this file hold \d"):
            read_array(data, **options)
    assert describe(data).rule.startswith("refused: ")
    assert np.array_equal(read_array(data, frame=0), grey(PLANES[0]))


def test_red_green_and_blue_of_one_page_are_not_planes():
    colour = np.moveaxis(PLANES[:3], 0, -1)
    stated = OME.format(c=3, z=1, data='<TiffData IFD="0"/>')
    for options in ({"description": stated}, {"description": "ImageJ=1.53\nimages=3\nchannels=3\n"}):
        assert np.array_equal(read_array(tiff(colour, photometric="rgb", metadata=None, **options)), colour)


SMALL = PLANES[3, ::2, ::2] > 100
FLAGS = {
    "a copy": {"subfiletype": 1},
    "a mask": {"subfiletype": 4},
    "a copy of a mask": {"subfiletype": 5},
    "a copy, by the older tag": {"extratags": [(255, "H", 1, 2, True)]},
}


@pytest.mark.parametrize("name", FLAGS)
def test_flagged_pages_are_not_frames(name):
    flag = FLAGS[name]
    data = written((SMALL, flag), (PLANES[0], {}), (SMALL, flag), (PLANES[1], {}))
    assert np.array_equal(read_array(data), grey(PLANES[0])) and read_size(data) == (9, 12)
    assert np.array_equal(read_array(data, frame=1), grey(PLANES[1]))
    facts = describe(data)
    assert facts.frames == 2 and "2 pages are flagged as reduced copies or masks, and are no frames" in facts.notes
    with pytest.raises(ImageError, match="frame 2 does not exist, the file has 2"):
        read_array(data, frame=2)
    with pytest.raises(ImageError, match="all of its 1 are flagged"):
        read_array(written((SMALL, flag)))
    assert describe(written((SMALL, flag))).rule.startswith("refused")


def test_a_page_of_several_is_a_frame():
    """NewSubfileType 2 only means that there are other pages."""
    data = written((PLANES[0], {"subfiletype": 2}), (PLANES[1], {"subfiletype": 2}))
    assert np.array_equal(read_array(data, frame=1), grey(PLANES[1]))


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_16_bit_camera_colour_is_scaled_by_the_fewest_bits_that_hold_it(bits):
    """The largest sample decides; hues are kept, and black stays black."""
    top = 2**bits - 1
    for colour in (CAMERA.astype(float) / 4095 * top, CAMERA.astype(float) / 4095 * (top // 2 + 1)):
        stored = colour.astype(np.uint16)
        expected = np.rint(stored / top * 255)
        assert np.array_equal(read_array(tiff(stored, photometric="rgb")), expected)
    assert describe(tiff(stored, photometric="rgb")).rule.startswith("0 to the maximum of the fewest bits")
    assert np.array_equal(read_array(tiff(stored, photometric="rgb"), window=(0, 65535)), np.rint(stored / 65535 * 255))


def test_16_bit_opacity_keeps_its_range_if_colours_use_12_bits():
    clear = np.where(RAMP < 2000, 0, 65535).astype(np.uint16)
    data = tiff(np.dstack([CAMERA, clear]), photometric="rgb", extrasamples=["unassalpha"])
    expected = np.where(clear[..., None], np.rint(CAMERA / 4095 * 255), 255)
    assert np.array_equal(read_array(data), expected)
    twelve = np.dstack([CAMERA, np.where(clear, 4095, 0).astype(np.uint16)])
    assert np.array_equal(read_array(tiff(twelve, photometric="rgb", extrasamples=["unassalpha"])), expected)


def test_12_bit_ink_in_16_bits_is_scaled():
    full = np.zeros((9, 12, 4), np.uint16) + np.array([0, 4095, 4095, 0], np.uint16)
    assert read_array(tiff(full, photometric="separated"))[0, 0].tolist() == [255, 0, 0]


def test_packed_bits_are_read_and_stated():
    half = CAMERA // 2
    data = tiff(half, photometric="rgb", bitspersample=12)
    assert np.array_equal(read_array(data), np.rint(half / 4095 * 255))


def stating(low, high, values=CAMERA, **options):
    tags = [(340, "H", 1, low, True), (341, "H", 1, high, True)]
    return tiff(values, extratags=tags, metadata=None, **options)


def test_a_range_stated_by_the_page_is_its_window():
    data = stating(0, 8191, photometric="rgb")
    assert np.array_equal(read_array(data), np.rint(CAMERA / 8191 * 255))
    assert describe(data).rule == "0 to 8191, the file's own window"
    assert np.array_equal(read_array(stating(0, 8191, RAMP))[..., 0], np.rint(RAMP / 8191 * 255))
    assert np.array_equal(read_array(stating(0, 99, PLANES[0], photometric="minisblack")), grey(PLANES[0]))


def test_samples_outside_the_stated_range_or_bits_are_refused():
    with pytest.raises(ImageError, match="0 to 2047, but are 0 to 4095"):
        read_array(stating(0, 2047, RAMP))
    assert read_array(stating(0, 2047, RAMP), window=(0, 4095)).max() == 255
    ome = {"ome": True, "photometric": "minisblack"}
    with pytest.raises(ImageError, match="SignificantBits, 0 to 1023, but are 0 to 4095"):
        read_array(tiff(RAMP, metadata={"axes": "YX", "SignificantBits": 10}, **ome))
    fitting = tiff(RAMP, metadata={"axes": "YX", "SignificantBits": 12}, **ome)
    assert np.array_equal(read_array(fitting)[..., 0], np.rint(RAMP / 4095 * 255))


def test_significant_bits_of_colour_are_its_range():
    quarter = CAMERA // 4
    data = tiff(quarter, photometric="rgb", ome=True, metadata={"axes": "YXS", "SignificantBits": 12})
    assert np.array_equal(read_array(data), np.rint(quarter / 4095 * 255))
    assert describe(data).rule == "0 to 4095, the full range of 12 bits"

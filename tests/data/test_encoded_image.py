"""A picture knows its size and name without decoding, and always decodes to the same pixels."""

import hashlib
import io

import numpy as np
import pytest
from PIL import Image

from medstudy import imaging
from medstudy.data import encoded_image, gallery
from medstudy.data.encoded_image import Picture
from medstudy.errors import ImageError
from tests.conftest import make_example

PIXELS = np.random.default_rng(0).integers(0, 256, (31, 47, 3), dtype=np.uint8)


def jpeg(**options):
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def test_a_pil_image_survives_as_a_picture():
    picture = Picture.of(Image.fromarray(PIXELS), "noise")
    assert (picture.height, picture.width) == (31, 47)
    assert np.array_equal(picture.pixels(), PIXELS)
    assert encoded_image.pil(picture).mode == "RGB" and np.array_equal(np.asarray(encoded_image.pil(picture)), PIXELS)


def test_size_and_hash_are_of_the_bytes_and_decode_nothing(monkeypatch):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = jpeg(exif=exif)
    monkeypatch.setattr(imaging, "read_array", None)
    picture = Picture(data, "photo")
    assert (picture.height, picture.width) == (47, 31)
    assert picture.sha256 == hashlib.sha256(data).hexdigest()


def test_pixels_are_not_kept():
    picture = Picture(jpeg(), "photo")
    first = picture.pixels()
    first[:] = 0
    assert picture.pixels().any()
    assert not any(isinstance(held, np.ndarray) for held in vars(picture).values())


@pytest.mark.parametrize("look", [lambda p: p.height, lambda p: p.pixels()], ids=["size", "pixels"])
def test_an_unreadable_picture_is_named(look):
    with pytest.raises(ImageError, match="scan 7"):
        look(Picture(jpeg()[:20], "scan 7"))


def test_a_pil_image_is_returned_unchanged():
    image = Image.fromarray(PIXELS)
    assert encoded_image.pil(image) is image


def test_the_gallery_draws_pictures():
    from dataclasses import replace

    example = make_example(0, (31, 47))
    example = replace(example, image=Picture.of(example.image, "noise"))
    (axis,) = gallery.draw([example], columns=1).axes
    assert np.array_equal(axis.images[0].get_array(), example.image.pixels())
    assert "47 x 31 px" in axis.get_title(loc="left")

"""Makes imagecodecs pydicom's decoder of JPEG and JPEG-LS frames; Pillow converts their colours or cannot read them.

A decoding plugin by pydicom's rules (https://pydicom.github.io/pydicom/stable/guides/decoding/decoder_plugins.html).
The decoder of each transfer syntax is fixed, so that pixels do not depend on what else is installed.
"""

from __future__ import annotations

import imagecodecs
import numpy as np
from pydicom import uid
from pydicom.pixels import get_decoder
from pydicom.pixels.decoders.base import DecodeRunner

from medstudy.errors import ImageError
from medstudy.imaging.codestream import Codestream, parse
from medstudy.imaging.common_formats import check_jpeg_data

LABEL = "imagecodecs"
EOI = b"\xff\xd9"
MORE = bytes(range(0x51, 0x91))  # arbitrary entropy-coded data without a marker
ASIS = {"colorspace": "RGB", "outcolorspace": "RGB"}  # the same on both sides: no conversion


def samples(data: bytes) -> np.ndarray:
    """A JPEG's samples as stored, without a colour conversion."""
    return imagecodecs.jpeg_decode(data, **(ASIS if parse(data).samples == 3 else {}))


def check_frame_data(data: bytes, stream: Codestream, transfer_syntax: str) -> None:
    """Raises ImageError for a JPEG or JPEG-LS frame without an end marker, for which CharLS may search for seconds.

    Also for JPEG data that end before the picture does: libjpeg would fill the rest without an error.
    """
    if EOI not in data:
        raise ImageError("cannot be decoded: a JPEG must have an end marker, but this has none: fetch it again")
    if DECODE[transfer_syntax] is not samples:
        return
    if stream.bits <= 8:
        check_jpeg_data(data, "RGB" if stream.samples == 3 else "GRAY")
        return
    end = data.rfind(EOI)
    more = data[: end if end > 0 else len(data)] + MORE + EOI  # changes only pixels whose data are missing
    if not np.array_equal(samples(data), samples(more)):
        raise ImageError("cannot be decoded: the data of a JPEG must fill its picture, but end early: fetch it again")


DECODE = {
    uid.JPEGBaseline8Bit: samples,
    uid.JPEGExtended12Bit: samples,
    uid.JPEGLossless: samples,
    uid.JPEGLosslessSV1: samples,
    uid.JPEGLSLossless: imagecodecs.jpegls_decode,
    uid.JPEGLSNearLossless: imagecodecs.jpegls_decode,
}
DECODER_DEPENDENCIES = dict.fromkeys(DECODE, ("numpy", "imagecodecs"))
PLUGIN = {
    uid.RLELossless: "pydicom",
    uid.JPEG2000Lossless: "pylibjpeg",
    uid.JPEG2000: "pylibjpeg",
    uid.HTJ2KLossless: "pylibjpeg",
    uid.HTJ2KLosslessRPCL: "pylibjpeg",
    uid.HTJ2K: "pylibjpeg",
    **dict.fromkeys(DECODE, LABEL),
}


def is_available(transfer_syntax: str) -> bool:
    """Called by pydicom."""
    return transfer_syntax in DECODE


def plugin(transfer_syntax: str) -> str:
    """The label of a transfer syntax's decoder; "" if nothing is compressed or no decoder exists."""
    label = PLUGIN.get(transfer_syntax, "")
    if label == LABEL and LABEL not in get_decoder(transfer_syntax).available_plugins:
        get_decoder(transfer_syntax).add_plugin(LABEL, (__name__, "decode_frame"))
    return label


def decode_frame(src: bytes, runner: DecodeRunner) -> bytes:
    """One frame's samples, interleaved, in 8 bits, or 16 if they need them. Called by pydicom."""
    values = DECODE[runner.transfer_syntax](src)
    runner.set_option("bits_allocated", values.dtype.itemsize * 8)
    if values.ndim == 3:
        runner.set_option("planar_configuration", 0)
    return np.ascontiguousarray(values).tobytes()

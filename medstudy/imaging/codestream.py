"""Parses the header of a compressed frame: its size, samples, bits and colour space.

JPEG (ISO/IEC 10918-1), JPEG-LS (ISO/IEC 14495-1) and JPEG 2000 (ISO/IEC 15444-1). Nothing is decoded.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from medstudy.errors import ImageError

SOI, SOC_SIZ = b"\xff\xd8", b"\xff\x4f\xff\x51"
FRAME = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})  # SOF markers; C4, C8, CC are tables and reserved
APP0, APP14 = 0xE0, 0xEE
COD = 0x52
RGB_IDS = ([82, 71, 66], [114, 103, 98])  # "RGB", "rgb"
Space = Literal["RGB", "YBR", ""]


@dataclass(frozen=True)
class Codestream:
    """What the header states. samples: per pixel. bits: per sample.

    signed: only JPEG 2000 can state it. space: the colour space of a JPEG, "" if not stated. mixed: whether a JPEG 2000
    decodes to RGB by its own component transform.
    """

    height: int
    width: int
    samples: int
    bits: int
    signed: bool = False
    space: Space = ""
    mixed: bool = False


def parse(data: bytes) -> Codestream:
    """The header of one frame. Raises ImageError for any other format, and for a header cut short."""
    try:
        if data[:2] == SOI:
            return _jpeg(data)
        return _jpeg2000(data, data.index(SOC_SIZ))
    except (IndexError, ValueError) as error:
        raise ImageError("cannot be decoded: a compressed frame must begin with a JPEG or JPEG 2000 header") from error


def _jpeg(data: bytes) -> Codestream:
    applications = {}
    at = 2
    while data[at + 1] not in FRAME:
        if data[at + 1] == 0xFF:  # a fill byte before the marker
            at += 1
            continue
        end = at + 2 + _short(data, at + 2)
        applications[data[at + 1]] = data[at + 4 : end]
        at = end
    samples = data[at + 9]
    parts = [data[at + 10 + 3 * n : at + 13 + 3 * n] for n in range(samples)]  # identifier, subsampling, table
    return Codestream(
        height=_short(data, at + 5), width=_short(data, at + 7), samples=samples, bits=data[at + 4],
        space=_space(applications, parts) if samples == 3 else "",
    )


def _space(applications: dict[int, bytes], parts: list[bytes]) -> Space:
    """By JFIF's mark, else Adobe's, else identifiers that spell RGB, as in libjpeg; subsampling means YBR."""
    if applications.get(APP0, b"")[:4] == b"JFIF":
        return "YBR"
    if (adobe := applications.get(APP14, b""))[:5] == b"Adobe" and len(adobe) > 11:
        return "YBR" if adobe[11] else "RGB"
    if [part[0] for part in parts] in RGB_IDS:
        return "RGB"
    return "YBR" if len({part[1] for part in parts}) > 1 else ""


def _jpeg2000(data: bytes, start: int) -> Codestream:
    """Parse SIZ (A.5.1) and then COD (A.6.1), whose byte 8 is the component transform."""
    right, bottom, left, top = (int.from_bytes(data[at : at + 4], "big") for at in range(start + 8, start + 24, 4))
    depth = data[start + 42]
    at = start + 2
    while data[at + 1] != COD:
        at += 2 + _short(data, at + 2)
    return Codestream(
        height=bottom - top, width=right - left, samples=_short(data, start + 40), bits=(depth & 127) + 1,
        signed=bool(depth & 128), mixed=bool(data[at + 8]),
    )


def _short(data: bytes, at: int) -> int:
    return data[at] << 8 | data[at + 1]

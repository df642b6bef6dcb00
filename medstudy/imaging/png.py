"""Checks of a PNG's chunks (https://www.w3.org/TR/png-3/) where Pillow is too strict or too lenient.

Pillow refuses texts and profiles of over a megabyte, which do not affect pixels. And if the pixel data end early but as
a complete zlib stream, it fills the rest of the image with black.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from math import ceil

from medstudy.errors import ImageError

MARK = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
ORIENTED = (b"XML:com.adobe.xmp", b"Raw profile type ")  # keywords of texts that may state an orientation
SAMPLES = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type
PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))  # Adam7
PROFILE = 2**20  # bytes; Pillow's limit for a colour profile
PIECE = 2**20  # bytes decompressed at a time


def slim(data: bytes) -> bytes:
    """The file without texts (except those that may state an orientation) and without a profile over a megabyte."""
    chunks = list(_chunks(data))
    kept = [(start, end) for name, start, end in chunks if not _is_idle(name, data[start + 8 : end - 4])]
    return data if len(kept) == len(chunks) else MARK + b"".join(data[start:end] for start, end in kept)


def has_chunk(data: bytes, name: bytes) -> bool:
    """Whether there is a chunk of this name."""
    return any(name == other for other, _, _ in _chunks(data))


def is_plain(data: bytes) -> bool:
    """Whether it has 8 bits per sample, no palette, no transparent colour (tRNS), and is not interlaced."""
    return data[24] == 8 and data[25] != 3 and not data[28] and not has_chunk(data, b"tRNS")


def check_pixel_data(data: bytes) -> None:
    """Raises ImageError if the pixel data are shorter than the header requires, or do not match their checksum."""
    width, height = (int.from_bytes(data[at : at + 4], "big") for at in (16, 20))
    bits = data[24] * SAMPLES[data[25]]
    passes = PASSES if data[28] else ((0, 0, 1, 1),)
    sides = [(ceil((width - x) / across), ceil((height - y) / down)) for x, y, across, down in passes]
    expected = sum(rows * (1 + ceil(columns * bits / 8)) for columns, rows in sides if columns > 0 and rows > 0)
    length, stream = 0, zlib.decompressobj()
    intact = True
    for name, start, end in _chunks(data):
        if name == b"IDAT":
            intact &= zlib.crc32(data[start + 4 : end - 4]) == int.from_bytes(data[end - 4 : end])
            piece = stream.decompress(data[start + 8 : end - 4], PIECE)
            while piece and length < expected:
                length += len(piece)
                piece = stream.decompress(stream.unconsumed_tail, PIECE)
    if length < expected:
        raise ImageError(
            f"cannot be decoded: a PNG of {height} x {width} needs {expected:,} bytes of pixels, but this has "
            f"{length:,}: fetch it again"
        )
    if not intact:
        raise ImageError("cannot be decoded: the pixels of a PNG must match its checksum, but do not: fetch it again")


def check_palette(data: bytes, greatest: int) -> None:
    """Raises ImageError for an index beyond the palette, which has no colour."""
    entries = next((end - start - 12) // 3 for name, start, end in _chunks(data) if name == b"PLTE")
    if greatest >= entries:
        raise ImageError(f"a PNG's pixels must be in its palette, 0 to {entries - 1}, not {greatest}: save it as RGB")


def clear_grey(data: bytes, stored: int) -> int:
    """The transparent grey of a 2- or 4-bit PNG (tRNS, as stored) on Pillow's 8-bit scale."""
    return stored * (255 // (2 ** data[24] - 1)) if data[25] == 0 and data[24] in (2, 4) else stored


def _chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """(name, start, end) of each chunk; the last ends with the file."""
    at = 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], at, min(end, len(data))
        at = end


def _is_idle(name: bytes, body: bytes) -> bool:
    """Whether a chunk affects no pixel: a text without an orientation, or a profile longer than Pillow accepts."""
    if name in TEXTS:
        return not body.startswith(ORIENTED)
    if name != b"iCCP":
        return False
    try:
        stream = zlib.decompressobj()
        stream.decompress(body[body.index(b"\0") + 2 :], PROFILE)
        return bool(stream.unconsumed_tail)
    except (ValueError, zlib.error):
        return False

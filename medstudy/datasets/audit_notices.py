"""The unusual properties of an image file that an audit lists."""

from __future__ import annotations

from collections.abc import Iterator

from medstudy.imaging.read_options import ImageFacts
from medstudy.resolution.sizes import Size

LARGE = 12_845_056  # pixels: 16,384 visual tokens of Qwen2-VL


def of_image(facts: ImageFacts | None, size: Size) -> Iterator[tuple[str, str]]:
    """(notice, detail) of each unusual property of a file."""
    if size.pixels > LARGE:
        yield "very large", f"{size.height} x {size.width} pixels"
    if facts is None:
        return
    kind = f"{facts.kind}: {facts.rule}"
    if facts.values == "float":
        yield "float", kind
    elif facts.bits > 8:
        yield f"{facts.bits}-bit", kind
    if any(name in facts.photometric.upper() for name in ("CMYK", "YCCK", "SEPARATED")):
        yield "CMYK", kind
    if facts.orientation != 1:
        yield "EXIF-rotated", f"orientation {facts.orientation}: turned upright"
    if facts.alpha:
        yield "transparent", kind
    if facts.frames > 1:
        yield "several frames", f"{facts.frames} in {facts.kind}, of which one is read"
    for note in facts.notes:
        yield "note", note

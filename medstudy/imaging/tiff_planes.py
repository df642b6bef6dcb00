"""Finds the pages of a TIFF that are images, and what its description (OME, ImageJ, tifffile) states of them.

Pages flagged as reduced copies or as masks (NewSubfileType and SubfileType, TIFF 6.0 p. 36 and 40) are not frames. A
description may state that channels are pages. It may also state more planes than there are pages: several behind one
IFD, or some in other files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile, TiffPage

from medstudy.errors import ImageError
from medstudy.imaging.to_rgb import check_frame

REDUCED, MASK = 1, 4  # bits of NewSubfileType
NEW, OLD = 254, 255  # NewSubfileType, SubfileType
SHORT = 3  # type of a 16-bit tag
MAX_TAGS = 4096  # tags of a page that are examined


@dataclass(frozen=True)
class Stack:
    """Channels that are pages. shape: the axes except those of a page. axis: which of them is the channels."""

    shape: tuple[int, ...]
    axis: int
    pages: list

    @property
    def channels(self) -> int:
        return self.shape[self.axis]

    @property
    def frames(self) -> int:
        return len(self.pages) // self.channels

    def page(self, frame: int, channel: int) -> TiffPage:
        """The page of one channel of one frame."""
        others = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        at = list(np.unravel_index(frame, others))
        at.insert(self.axis, channel)
        return self.pages[int(np.ravel_multi_index(at, self.shape))].aspage()


@dataclass(frozen=True)
class Planes:
    """A file's pages and what its description states about them. data: the bytes of the file."""

    file: TiffFile
    data: bytes

    @cached_property
    def kept(self) -> list[int]:
        """The numbers of the pages that are neither reduced copies nor masks."""
        types = list(subfile_types(self.data))
        if len(types) != len(self.file.pages):  # a scanner's format, whose chain of pages only tifffile can follow
            types = [page.aspage().subfiletype for page in self.file.pages]
        return [number for number, flags in enumerate(types) if not flags & (REDUCED | MASK)]

    def full(self, frame: int | None) -> TiffPage:
        """The page of a frame. Raises ImageError if there is none."""
        if not self.kept:
            raise ImageError(
                f"a TIFF needs a page that is an image, but all of its {len(self.file.pages)} are flagged as reduced "
                f"copies or masks (NewSubfileType): save the full image as a page"
            )
        return self.file.pages[self.kept[check_frame(frame, len(self.kept))]].aspage()

    @cached_property
    def stack(self) -> Stack | None:
        """The channels that are pages, as OME or ImageJ state; None if a page holds all of them."""
        if len(self.file.pages) == 1:
            return None
        series = self.file.series[0]
        inner = len(series.keyframe.shape)
        axes, shape = series.axes[:-inner], series.shape[:-inner]
        whole = len(series.pages) == prod(shape) and None not in series.pages
        if "C" not in axes or shape[axes.index("C")] == 1 or not whole:
            return None
        return Stack(tuple(shape), axes.index("C"), list(series.pages))

    def check_declared(self) -> None:
        """Raises ImageError if the description states more planes than the pages hold."""
        for origin, planes, held in self._declared():
            if planes > held:
                raise ImageError(
                    f"{origin} states {planes} planes, but the pages of this file hold {held}; the others are behind "
                    f"a page, in other files, or missing: save each as a page, or pass frame for one that exists"
                )

    def _declared(self) -> Iterator[tuple[str, int, int]]:
        """(what states it, planes stated, planes held) of each description, counted in its own way."""
        held = len(self.kept)
        if self.file.is_imagej and (about := self.file.imagej_metadata):
            planes = prod(int(about.get(name, 1)) for name in ("channels", "slices", "frames"))
            planes = max(planes, int(about.get("images", 1)))
            counts_colours = planes > held and planes == self._samples()
            yield "ImageJ's description", planes, planes if counts_colours else held
        if self.file.is_ome:
            sides = ("SizeC", "SizeZ", "SizeT")
            planes = sum(prod(int(pixels.get(side, 1)) for side in sides) for pixels in self._pixels())
            yield "the OME-XML", planes, held if planes <= held else self._samples()
        if self.file.is_shaped and (shape := self.file.shaped_metadata[0].get("shape")):
            yield "the shape in the description", prod(shape) // self.full(0).size, held
        series = self.file.series[0]  # of any other kind, such as MetaMorph stacks
        yield "the file", prod(series.shape) // series.keyframe.size, len(series.pages)

    def _samples(self) -> int:
        """Samples per pixel, summed over all pages."""
        return sum(self.file.pages[number].aspage().samplesperpixel for number in self.kept)

    @cached_property
    def significant(self) -> int | None:
        """Used bits per sample, as OME-XML may state; None if not stated."""
        stated = [pixels.get("SignificantBits") for pixels in self._pixels()] if self.file.is_ome else []
        return int(stated[0]) if stated and stated[0] else None

    def _pixels(self) -> list[ElementTree.Element]:
        root = ElementTree.fromstring(self.file.ome_metadata)
        return [element for element in root.iter() if element.tag.rpartition("}")[2] == "Pixels"]


def subfile_types(data: bytes) -> Iterator[int]:
    """NewSubfileType of each page of a TIFF or BigTIFF, in order; an old SubfileType of 2, a reduced copy, counts as 1.

    Stops where the chain of pages ends or breaks.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    offset, count, entry = ("Q", "Q", 20) if big else ("I", "H", 12)
    at, seen = _number(data, order + offset, 8 if big else 4), set()
    while at and at not in seen and at < len(data):
        seen.add(at)
        length = _number(data, order + count, at)
        at += struct.calcsize(order + count)
        tags = {}
        for start in range(at, at + length * entry, entry)[:MAX_TAGS]:
            tag, kind = _number(data, order + "H", start), _number(data, order + "H", start + 2)
            if tag > OLD:  # tags are sorted
                break
            tags[tag] = _number(data, order + ("H" if kind == SHORT else "I"), start + entry - (8 if big else 4))
        yield tags.get(NEW, 0) | (tags.get(OLD) == 2)
        at = _number(data, order + offset, at + length * entry)


def _number(data: bytes, kind: str, at: int) -> int:
    """The number at a byte; 0 beyond the end."""
    return struct.unpack_from(kind, data, at)[0] if at + struct.calcsize(kind) <= len(data) else 0

"""Which pages of a TIFF are pictures, and what its description (OME, ImageJ, tifffile) states of planes and bits.

Pages that are flagged as reduced copies or as masks (NewSubfileType and SubfileType, TIFF 6.0 p. 36 and 40) are no
frames. A description may name channels that are pages, and more planes than there are pages: behind one IFD, or in
other files.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from xml.etree import ElementTree

import numpy as np
from tifffile import TiffFile, TiffPage

from medstudy.errors import ImageError


@dataclass(frozen=True)
class Stack:
    """Channels that are pages: how many there are of each axis but those of a page, and which axis is the channels."""

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
    """A file's pages and what its description says of them."""

    file: TiffFile

    @cached_property
    def all(self) -> list[TiffPage]:
        return [page.aspage() for page in self.file.pages]

    @cached_property
    def kept(self) -> list[TiffPage]:
        """The pages that are neither reduced copies nor masks."""
        return [page for page in self.all if not (page.is_reduced or page.is_mask)]

    @property
    def full(self) -> list[TiffPage]:
        """As `kept`. Raises ImageError where there are none."""
        if not self.kept:
            raise ImageError(
                f"a TIFF needs a page that is a picture, but all of its {len(self.all)} are flagged as reduced copies "
                f"or masks (NewSubfileType): save the full one as a page"
            )
        return self.kept

    @cached_property
    def stack(self) -> Stack | None:
        """The channels that OME or ImageJ say are pages; None where a page holds them all."""
        if len(self.all) == 1:
            return None
        series = self.file.series[0]
        inner = len(series.keyframe.shape)
        axes, shape = series.axes[:-inner], series.shape[:-inner]
        whole = len(series.pages) == prod(shape) and None not in series.pages
        if "C" not in axes or shape[axes.index("C")] == 1 or not whole:
            return None
        return Stack(tuple(shape), axes.index("C"), list(series.pages))

    def check_declared(self) -> None:
        """Raises ImageError where the description names more planes than the pages hold."""
        for who, planes, held in self._declared():
            if planes > held:
                raise ImageError(
                    f"{who} states {planes} planes, but the pages of this file hold {held}; the others stand behind "
                    f"them, elsewhere, or are missing: save each as a page, or pass frame for one that is there"
                )

    def _declared(self) -> Iterator[tuple[str, int, int]]:
        """Who states how many planes, and how many there are as they count."""
        held = len(self.full)
        samples = sum(page.samplesperpixel for page in self.full)
        if self.file.is_imagej and (about := self.file.imagej_metadata):
            planes = prod(int(about.get(name, 1)) for name in ("channels", "slices", "frames"))
            planes = max(planes, int(about.get("images", 1)))
            yield "ImageJ's description", planes, samples if planes == samples else held  # some count red, green, blue
        if self.file.is_ome:
            sides = ("SizeC", "SizeZ", "SizeT")
            yield "the OME-XML", sum(prod(int(one.get(side, 1)) for side in sides) for one in self._pixels()), samples
        if self.file.is_shaped and (shape := self.file.shaped_metadata[0].get("shape")):
            yield "the shape in the description", prod(shape) // self.full[0].size, held
        series = self.file.series[0]  # of any other kind, as MetaMorph's stacks
        yield "the file", prod(series.shape) // series.keyframe.size, len(series.pages)

    @cached_property
    def significant(self) -> int | None:
        """Bits of a sample that are used, as OME-XML may state; None where nothing does."""
        stated = [one.get("SignificantBits") for one in self._pixels()] if self.file.is_ome else []
        return int(stated[0]) if stated and stated[0] else None

    def _pixels(self) -> list[ElementTree.Element]:
        root = ElementTree.fromstring(self.file.ome_metadata)
        return [one for one in root.iter() if one.tag.rpartition("}")[2] == "Pixels"]


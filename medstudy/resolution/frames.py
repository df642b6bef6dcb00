"""Where an image lies in what a model is shown, so that coordinates can be moved between the two."""

from __future__ import annotations

from dataclasses import dataclass

from medstudy.resolution.sizes import Size, View

Point = tuple[float, float]  # x from the left, y from the top


@dataclass(frozen=True)
class Frame:
    """The rectangle of the whole image, of size `native`, in what is shown, of size `shown`: in pixels of the latter.

    A padded view has it in the middle of its canvas; around a crop alone it is larger than what is shown. crops:
    whether crops of the image follow it in the prompt, whose own coordinates are not meant.
    """

    native: Size
    shown: Size
    left: float
    top: float
    width: float
    height: float
    crops: bool = False

    @classmethod
    def of(cls, view: View, native: Size) -> Frame:
        """The frame of a view: its last step, centred on its canvas as `resize` does. A blind view has an empty one."""
        height, width = view.steps[-1] if view.steps else (0, 0)
        left, top = (view.size.width - width) // 2, (view.size.height - height) // 2
        if view.crop is None or not view.steps:
            return cls(native, view.size, left, top, width, height, bool(view.crops))
        across, down = width / view.crop.width, height / view.crop.height  # shown pixels a native pixel
        left, top = left - across * view.crop.left, top - down * view.crop.top
        return cls(native, view.size, left, top, across * native.width, down * native.height, bool(view.crops))

    @property
    def seen(self) -> bool:
        """Whether any of the image is shown."""
        return self.width > 0 and self.height > 0

    def to_shown(self, point: Point) -> Point:
        """A point of the image, in native pixels, in shown pixels."""
        x, y = point
        return self.left + x * self.width / self.native.width, self.top + y * self.height / self.native.height

    def to_native(self, point: Point) -> Point:
        """A point in shown pixels, in native pixels of the image."""
        x, y = point
        return (x - self.left) * self.native.width / self.width, (y - self.top) * self.native.height / self.height

    @property
    def rectangle(self) -> list[float]:
        """left, top, width, height, as a prediction row has it; empty if nothing is shown."""
        return [float(self.left), float(self.top), float(self.width), float(self.height)] if self.seen else []

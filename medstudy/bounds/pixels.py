"""A reader's view of an image without any pre-training: fixed filters at several scales. Nothing in it is learned.

Each image, as shown, is cut into a pyramid: full size, and halved again and again. On each level these maps are made:
- the grey level, and two colour differences (red - green, blue - yellow);
- the Laplacian of each of the three: spots, 3 x 3 pixels of the level wide;
- of the grey level the size of the gradient (edges) and the two curvatures (eigenvalues of the Hessian: a spot has two
  of the same sign, a line or a spicule has one).
`medstudy.bounds.pooling` turns the maps into one vector, as it does with the features of a tower.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from medstudy.bounds import pooling

LEVELS = 4  # of the pyramid: spots 1 to 8 pixels in radius, as shown
OPPONENT = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1.0, -1.0, 0.0], [-0.5, -0.5, 1.0]])  # grey, red-green, blue-yellow
MAPS = ("grey", "red - green", "blue - yellow", "spots (grey)", "spots (red - green)", "spots (blue - yellow)", "edges",
        "larger curvature", "smaller curvature")
_SMOOTH, _SLOPE, _BEND = ([1.0, 2.0, 1.0], [-1.0, 0.0, 1.0], [1.0, -2.0, 1.0])


def _filter(vertical: list[float], horizontal: list[float], scale: float) -> torch.Tensor:
    return torch.outer(torch.tensor(vertical), torch.tensor(horizontal))[None, None] / scale


SLOPES = torch.cat([_filter(_SMOOTH, _SLOPE, 8), _filter(_SLOPE, _SMOOTH, 8)])
BENDS = torch.cat([_filter(_SMOOTH, _BEND, 4), _filter(_BEND, _SMOOTH, 4), _filter(_SLOPE, _SLOPE, 4)])


def describe(pixels: torch.Tensor) -> list[torch.Tensor]:
    """[height, width, 3] uint8, as shown -> one vector for each block of `pooling.BLOCKS`, over all maps and levels."""
    channels, parts = opponent(pixels), []
    for level in range(LEVELS):
        if level:
            channels = functional.avg_pool2d(channels, 2, ceil_mode=True)
        parts.append(pooling.of_maps(maps(channels)))
    return [torch.cat(block) for block in zip(*parts, strict=True)]


def opponent(pixels: torch.Tensor) -> torch.Tensor:
    """[height, width, 3] uint8 -> [3, height, width]: grey level in [0, 1], red - green, blue - yellow."""
    return torch.einsum("hwc,oc->ohw", pixels.float() / 255, OPPONENT)


def maps(channels: torch.Tensor) -> torch.Tensor:
    """[3, h, w] opponent channels -> [9, h, w], in the order of `MAPS`."""
    padded = functional.pad(channels[:, None], (1, 1, 1, 1), mode="replicate")
    across, down, twist = functional.conv2d(padded, BENDS).unbind(1)
    slopes = functional.conv2d(padded[:1], SLOPES)[0]
    middle, spread = (across[0] + down[0]) / 2, ((across[0] - down[0]).square() / 4 + twist[0].square()).sqrt()
    return torch.stack([*channels, *(across + down), slopes.norm(dim=0), middle + spread, middle - spread])

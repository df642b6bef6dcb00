"""A packed row: its tokens, and its layout, which says which token may attend to which."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch

from medstudy.resolution.sizes import Reduction


@dataclass(frozen=True)
class Segments:
    """Lengths of query runs, and of the key runs that they attend to, one pair each."""

    queries: tuple[int, ...]
    keys: tuple[int, ...]

    def on(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor, int, int]:
        """Cumulative query and key lengths [n + 1] int32, and the longest of each; cached for the other layers."""
        held = self.__dict__.setdefault("_held", {})
        if device not in held:
            sums = [torch.tensor([0, *n]).cumsum(0).to(device, torch.int32) for n in (self.queries, self.keys)]
            held[device] = (*sums, max(self.queries), max(self.keys))
        return held[device]


@dataclass(frozen=True)
class RowLayout:
    """The layout of a packed row: the prefixes of all its images, then the branches of each, image by image.

    prefixes: length of each image's prefix; branches: for each image the length of each of its branches; bidirectional:
    for each image the runs (start, end) of its prefix whose tokens attend to each other in both directions, () if none.
    """

    prefixes: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    bidirectional: tuple[tuple[tuple[int, int], ...], ...] = ()

    def __len__(self) -> int:
        return self.shared + sum(map(sum, self.branches))

    @property
    def shared(self) -> int:
        """Length of all prefixes: where the branches begin."""
        return sum(self.prefixes)

    @property
    def pairs(self) -> int:
        """Query-key pairs that the layout allows."""
        own = sum(n * (n + 1) // 2 for n in (*self.prefixes, *(n for image in self.branches for n in image)))
        own += sum((end - start) * (end - start - 1) // 2 for image in self.bidirectional for start, end in image)
        return own + sum(p * sum(image) for p, image in zip(self.prefixes, self.branches, strict=True))

    @cached_property
    def image(self) -> torch.Tensor:
        """[S] the image of each token."""
        counts = torch.tensor([*self.prefixes, *map(sum, self.branches)])
        return torch.repeat_interleave(torch.arange(len(self.prefixes)).repeat(2), counts)

    @cached_property
    def branch(self) -> torch.Tensor:
        """[S] the branch of each token, counted over the row; -1 in a prefix."""
        lengths = torch.tensor([n for image in self.branches for n in image], dtype=torch.long)
        return torch.cat([torch.full((self.shared,), -1), torch.repeat_interleave(torch.arange(len(lengths)), lengths)])

    @cached_property
    def place(self) -> torch.Tensor:
        """[S] the position of each token in a sequence of only its prefix and its branch."""
        own = [torch.arange(n) for n in self.prefixes]
        own += [torch.arange(p, p + n) for p, image in zip(self.prefixes, self.branches, strict=True) for n in image]
        return torch.cat(own)

    @cached_property
    def block(self) -> torch.Tensor:
        """[S] the run, counted over the row, of a token that attends in both directions; -1 for all others."""
        block, start, count = torch.full((len(self),), -1), 0, 0
        for prefix, runs in zip(self.prefixes, self.bidirectional, strict=False):
            for first, end in runs:
                block[start + first : start + end] = count
                count += 1
            start += prefix
        return block

    @cached_property
    def mask(self) -> torch.Tensor:
        """[S, S] bool, True where a query may attend to a key: the definition that the tests compare kernels with."""
        return self.within(None)

    def within(self, window: int | None) -> torch.Tensor:
        """`mask` for a layer that attends to fewer than `window` places back."""
        order, image, branch, block = torch.arange(len(self)), self.image, self.branch, self.block
        same = (image[:, None] == image) & ((branch == -1) | (branch[:, None] == branch))
        ahead = (block[:, None] == block) & (block >= 0)
        near = True if window is None else self.place > self.place[:, None] - window
        return same & near & ((order[:, None] >= order) | ahead)

    def masks(self, device: torch.device, window: int | None = None) -> tuple[tuple[torch.Tensor | None, ...], ...]:
        """For each image the bool masks of its prefix and of its branches, cached for the other layers.

        [prefix, prefix], or None if that is causal; and [branch tokens, prefix + branch tokens].
        """
        held = self.__dict__.setdefault("_held", {})
        reach = max(self.prefixes) + max((n for image in self.branches for n in image), default=0)
        window = None if window is None or window >= reach else window  # a window that covers all is none
        if (device, window) not in held:
            alone = [replace(self, prefixes=(p,), branches=(image,), bidirectional=self.bidirectional[i : i + 1])
                     for i, (p, image) in enumerate(zip(self.prefixes, self.branches, strict=True))]
            held[device, window] = tuple(layout._masks(device, window) for layout in alone)
        return held[device, window]

    def _masks(self, device: torch.device, window: int | None) -> tuple[torch.Tensor | None, torch.Tensor]:
        """`masks` of a layout of one image."""
        (prefix,), causal = self.prefixes, window is None and not any(self.bidirectional)
        if causal:
            return None, _branch_mask(prefix, self.branches[0]).to(device)
        whole = self.within(window)
        return whole[:prefix, :prefix].to(device), whole[prefix:].to(device)

    @cached_property
    def own(self) -> Segments:
        """Every prefix attends to itself, and every branch to itself."""
        lengths = (*self.prefixes, *(n for image in self.branches for n in image))
        return Segments(lengths, lengths)

    @cached_property
    def back(self) -> Segments:
        """All branches of an image attend to its prefix."""
        return Segments(tuple(map(sum, self.branches)), self.prefixes)


@dataclass(frozen=True)
class Row:
    """Token ids of one image's prefix and of its branches; branch k's answer starts at its token `answers[k]`."""

    prefix: list[int]
    branches: list[list[int]]
    answers: list[int]
    grids: torch.Tensor  # [images, 3] grid of each image of the prefix (`Family.grid`)
    patches: tuple[int, ...]  # patches of each image in the tower
    reductions: tuple[Reduction, ...] = ()  # of each image's visual tokens; none: all are kept

    def __len__(self) -> int:
        return len(self.prefix) + sum(map(len, self.branches))


@dataclass(frozen=True)
class PackedRow:
    """A packed row of S tokens, Q branches and A answer tokens.

    ids [1, S]; positions [axes, 1, S]: three axes with M-RoPE, else one; at [A]: the place that predicts each answer
    token; targets [A]: that token; question [A]: its branch; last [Q]: each branch's last place; grids [images, 3];
    visual: the number of visual tokens. reductions: of each image's tokens, () if all are kept; then places
    [axes, places] are the positions from which those of the kept tokens are taken (`medstudy.engine.compression`).
    """

    ids: torch.Tensor
    positions: torch.Tensor
    layout: RowLayout
    at: torch.Tensor
    targets: torch.Tensor
    question: torch.Tensor
    last: torch.Tensor
    grids: torch.Tensor
    visual: int
    reductions: tuple[Reduction, ...] = ()
    places: torch.Tensor | None = None

    def to(self, device: torch.device) -> PackedRow:
        tensors = {name: part for name, part in vars(self).items() if isinstance(part, torch.Tensor)}
        return replace(self, **{name: part.to(device, non_blocking=True) for name, part in tensors.items()})


@dataclass(frozen=True)
class VisualTokens:
    """What the language model reads of a row's images: tokens [N, width], and DeepStack's for its first layers.

    kept: [N] where tokens were left out or pooled, the place of each in `PackedRow.places`.
    """

    tokens: torch.Tensor
    deep: tuple[torch.Tensor, ...] = ()
    kept: torch.Tensor | None = None


def _branch_mask(prefix: int, lengths: tuple[int, ...]) -> torch.Tensor:
    """[branch tokens, prefix + branch tokens] bool: the whole prefix, and the own branch causally."""
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.long))
    order = torch.arange(len(branch))
    own = (branch[:, None] == branch) & (order[:, None] >= order)
    return torch.cat([torch.ones(len(branch), prefix, dtype=torch.bool), own], 1)

"""Visual tokens pooled or pruned between a family's mergers and its language model, and the positions of what is left.

`medstudy.resolution.compress` has the rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn.functional import avg_pool2d, normalize

from medstudy.engine.row_layout import Row, VisualTokens
from medstudy.resolution.sizes import Reduction, TokenGrid

Positions = Callable[[list[int], torch.Tensor], torch.Tensor]  # `Family.positions`


def reduced(seen: VisualTokens, reductions: Sequence[Reduction]) -> VisualTokens:
    """The visual tokens that are left of a row's images, one reduction each; DeepStack's are reduced alike.

    `kept` [N] numbers the tokens that are left among `PackedRow.places`.
    """
    if not reductions:
        return seen
    counts = [reduction.grid.tokens for reduction in reductions]
    images = zip(reductions, *(part.split(counts) for part in (seen.tokens, *seen.deep)), strict=True)
    layers, kept, start = [], [], 0
    for reduction, tokens, *deep in images:
        if reduction.share < 1:
            chosen = prune(tokens, reduction)
            layers.append([part[chosen] for part in (tokens, *deep)])
            kept.append(start + chosen)
            start += len(tokens)
        else:
            layers.append([pool(part, reduction) for part in (tokens, *deep)])
            kept.append(start + torch.arange(reduction.left, device=tokens.device))
            start += reduction.left
    tokens, *deep = (torch.cat(parts) for parts in zip(*layers, strict=True))
    return VisualTokens(tokens, tuple(deep), torch.cat(kept))


def pool(tokens: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    """[tokens, width] of an image -> the mean of each block, [left, width]; blocks at the edge may be smaller."""
    if reduction.pool == 1:
        return tokens
    grid, size = reduction.grid, reduction.pool
    planes = tokens.view(*grid, -1).permute(0, 3, 1, 2)
    return avg_pool2d(planes, size, ceil_mode=True).permute(0, 2, 3, 1).reshape(reduction.left, -1)


@torch.no_grad()
def prune(tokens: torch.Tensor, reduction: Reduction) -> torch.Tensor:
    """[left] indices of the tokens [tokens, width] that are kept, in reading order."""
    if reduction.rule == "even":
        return torch.arange(reduction.left, device=tokens.device) * len(tokens) // reduction.left
    values = tokens.to(torch.promote_types(tokens.dtype, torch.float32))
    if reduction.rule == "norm":
        worth = values.norm(dim=-1)
    else:
        worth = -normalize(values, dim=-1) @ normalize(values.mean(0), dim=-1)
    return worth.argsort(descending=True, stable=True)[: reduction.left].sort().values


def positions(row: Row, of: Positions, image_token: int, merge: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [axes, prefix] of a row's prefix, and [axes, places] of all places from which its tokens are kept.

    merge: patches of a visual token, a side. Which pruned tokens are kept is known after the tower has run; until then
    the prefix has the positions of the first places of each image.
    """
    full, grids, left = [], [], iter(row.reductions)
    reduction, missing = None, 0
    for token in row.prefix:
        full.append(token)
        if token != image_token:
            continue
        if not missing:
            reduction = next(left)
            missing = reduction.left
        missing -= 1
        if not missing and reduction.share < 1:
            full += [image_token] * (reduction.grid.tokens - reduction.left)
    for reduction, grid in zip(row.reductions, row.grids, strict=True):
        pooled = reduction.pooled
        grids.append(grid if reduction.pool == 1 else torch.tensor([1, pooled.rows * merge, pooled.columns * merge]))
    whole = of(full, torch.stack(grids))
    places = whole[:, torch.tensor(full) == image_token]
    shown = torch.ones(len(full), dtype=torch.bool)
    shown[torch.tensor(full) == image_token] = torch.cat([_first(reduction) for reduction in row.reductions])
    return whole[:, shown], places


def plain(count: int) -> Reduction:
    """The reduction of `count` tokens that keeps all of them."""
    return Reduction(TokenGrid(1, 1, count))


def _first(reduction: Reduction) -> torch.Tensor:
    """[places] bool: the first of them, as many as are left."""
    return torch.arange(reduction.grid.tokens if reduction.share < 1 else reduction.left) < reduction.left

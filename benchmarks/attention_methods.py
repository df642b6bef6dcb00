"""Attention alone over one packed row, forward and backward: our kernels against the methods of others.

The row is an image of 1008² pixels with 10 questions at Qwen2-VL-2B's heads. All methods get the same numbers, and what
they give is compared with sdpa's by the relative norm of the difference (`off`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch.nn.functional import scaled_dot_product_attention

from benchmarks.runner import NotRun
from medstudy.costs import device_rate
from medstudy.engine import attention, attention_kernels
from medstudy.engine.attention import Heads
from medstudy.engine.row_layout import RowLayout

PREFIX, BRANCHES = 1296 + 30, (24,) * 10
REPEATS = 20
Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, RowLayout, float], torch.Tensor]


def dense(query, key, value, plan: RowLayout, scale: float) -> torch.Tensor:
    """torch's sdpa with the whole tree as a dense mask [S, S]: what packing without a kernel of its own does."""
    return scaled_dot_product_attention(query, key, value, _mask(plan, query.device), scale=scale, enable_gqa=True)


def separate(query, key, value, plan: RowLayout, scale: float) -> torch.Tensor:
    """Every question a causal sequence of its own, with its own copy of the prefix: what plain trainers do."""
    prefix, branches = plan.prefixes[0], plan.branches[0]
    at, made = prefix, []
    for length in branches:
        place = torch.cat([torch.arange(prefix), torch.arange(at, at + length)]).to(query.device)
        parts = (part[:, :, place] for part in (query, key, value))
        made.append(scaled_dot_product_attention(*parts, is_causal=True, scale=scale, enable_gqa=True))
        at += length
    return torch.cat([made[0][:, :, :prefix], *(one[:, :, prefix:] for one in made)], 2)


def flex(query, key, value, plan: RowLayout, scale: float, tree: bool) -> torch.Tensor:
    """FlexAttention, compiled: the tree as a rule over images and branches, or as a look-up in the dense mask."""
    from torch.nn.attention.flex_attention import flex_attention

    if query.device.type == "cpu":
        raise NotRun("FlexAttention has no backward pass on a CPU")
    compiled = _kept("flex", lambda: torch.compile(flex_attention, dynamic=False))
    return compiled(query, key, value, block_mask=_blocks(plan, query.device, tree), scale=scale, enable_gqa=True)


def activated(query, key, value, plan: RowLayout, scale: float) -> torch.Tensor:
    """torch's own calls, once torch was asked to take flash-attn 4 for them."""
    from torch.nn import attention as of_torch

    if missing := attention.missing("prefix_fa4", query.device):
        raise NotRun(missing)
    _kept("FA4", lambda: of_torch.activate_flash_attention_impl("FA4"))
    return attention.cascade(query, key, value, plan, scale, attention_kernels.TorchFlash)


METHODS: dict[str, Attend] = {
    "sdpa with a dense mask": dense,
    "sdpa, a sequence a question": separate,
    "FlexAttention with a tree mask": partial(flex, tree=True),
    "FlexAttention with a dense mask": partial(flex, tree=False),
    "torch's varlen with FA4 activated": activated,  # the last one: it stays active
}


def line(bench, name: str) -> Iterator[dict]:
    """Milliseconds of a forward and backward pass by our kernel and by the method of that name."""
    device = torch.device(bench.device)
    heads = Heads(4, 2, 16) if bench.tiny else attention.QWEN2_VL_2B
    plan = RowLayout((20,), ((3, 4),)) if bench.tiny else RowLayout((PREFIX,), (BRANCHES,))
    dtype = torch.bfloat16 if bench.device == "cuda" else torch.float32
    parts = _numbers(plan, heads, device, dtype)
    chosen = bench.family.attention.name
    exact = _pass(attention.sdpa, parts, plan)
    found = _pass(METHODS[name], parts, plan)
    off = max(float((a - b).float().norm() / a.float().norm()) for a, b in zip(exact, found, strict=True))
    ours = 1e3 * device_rate.seconds(partial(_pass, attention.FUNCTIONS[chosen], parts, plan), device, REPEATS)
    peer = 1e3 * device_rate.seconds(partial(_pass, METHODS[name], parts, plan), device, REPEATS)
    yield {
        "name": f"attention of a row, {chosen}", "unit": "ms forward and backward, a layer", "ours": ours,
        "peer": peer, "peer_name": name, "ratio": peer / ours, "goal": None, "floor": None, "off": off,
    }


def _numbers(plan: RowLayout, heads: Heads, device: torch.device, dtype: torch.dtype) -> list[torch.Tensor]:
    maker = torch.Generator().manual_seed(0)
    counts = (heads.queries, heads.keys, heads.keys, heads.queries)
    shapes = [(1, count, len(plan), heads.width) for count in counts]
    return [torch.randn(shape, generator=maker).to(device, dtype) for shape in shapes]


def _pass(attend: Attend, parts: list[torch.Tensor], plan: RowLayout) -> list[torch.Tensor]:
    *inputs, grad = parts
    inputs = [part.detach().requires_grad_() for part in inputs]
    output = attend(*inputs, plan, inputs[0].shape[-1] ** -0.5)
    output.backward(grad)
    return [output.detach(), *(part.grad for part in inputs)]


def _kept(name: str, make: Callable[[], object]):
    """What is made once a process."""
    if name not in _KEPT:
        _KEPT[name] = make()
    return _KEPT[name]


_KEPT: dict[object, object] = {}


def _mask(plan: RowLayout, device: torch.device) -> torch.Tensor:
    return _kept(("mask", plan, device), lambda: plan.mask.to(device))


def _blocks(plan: RowLayout, device: torch.device, tree: bool):
    from torch.nn.attention.flex_attention import create_block_mask

    image, branch, mask = plan.image.to(device), plan.branch.to(device), _mask(plan, device)

    def by_rule(batch, head, query, key):
        inside = (branch[key] == -1) | (branch[query] == branch[key])
        return (image[query] == image[key]) & inside & (query >= key)

    def by_mask(batch, head, query, key):
        return mask[query, key]

    rule = by_rule if tree else by_mask
    return _kept(("blocks", plan, tree), lambda: create_block_mask(rule, None, None, len(plan), len(plan), device))

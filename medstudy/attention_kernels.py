"""Kernels for attention within segments, and the exact merge of two of their calls.

A branch looks at itself in one call and at its image's prefix in another. The two parts are merged by their
log-sum-exp; in the backward pass both calls get the merged output and log-sum-exp, which makes their gradients exact
and copies no key. The calls are those of flash-attn 4 (compute capability 9.0 and above), of flash-attn 2, or of torch
itself.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Protocol

import torch

from medstudy.row_layout import Plan, Segments


def flash_attn_2() -> str | None:
    """The version of flash-attn 2, None where it is not installed; imports nothing.

    Its compiled module counts: flash-attn 4 alone makes a package `flash_attn` too.
    """
    return _version("flash-attn") if importlib.util.find_spec("flash_attn_2_cuda") else None


def flash_attn_4() -> str | None:
    """The version of flash-attn 4, None where it or the compiler that it needs is not installed; imports nothing."""
    package, compiler = (importlib.util.find_spec(name) for name in ("flash_attn", "cutlass"))
    if package is None or compiler is None:
        return None
    folders = package.submodule_search_locations or ()
    return _version("flash-attn-4") if any(Path(one, "cute", "interface.py").is_file() for one in folders) else None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # put there without a package manager
        return "of unknown version"


class Kernel(Protocol):
    """Attention within segments: query [T, heads, D], key and value [T', key heads, D], log-sum-exp [heads, T]."""

    def forward(self, query, key, value, segments: Segments, causal: bool, scale: float): ...  # -> output, lse, state

    def backward(self, grad, query, key, value, output, lse, state, segments: Segments, causal: bool, scale: float): ...


class TorchFlash:
    """The variable-length flash attention that ships with torch (what torch.nn.attention.varlen calls)."""

    @staticmethod
    def forward(query, key, value, segments, causal, scale):
        place = segments.on(query.device)
        made = torch.ops.aten._flash_attention_forward(query, key, value, *place, 0.0, causal, False, scale=scale)
        return made[0], made[1], (made[2], made[3])

    @staticmethod
    def backward(grad, query, key, value, output, lse, state, segments, causal, scale):
        place = segments.on(query.device)
        return torch.ops.aten._flash_attention_backward(
            grad, query, key, value, output, lse, *place, 0.0, causal, *state, scale=scale
        )


class FlashAttn2:
    """The functions below flash_attn.flash_attn_varlen_func: its own backward does not take a merged output."""

    @staticmethod
    def forward(query, key, value, segments, causal, scale):
        from flash_attn.flash_attn_interface import _flash_attn_varlen_forward

        place = segments.on(query.device)
        output, lse, _, state = _flash_attn_varlen_forward(
            query, key, value, *place, dropout_p=0.0, softmax_scale=scale, causal=causal
        )
        return output, lse, state

    @staticmethod
    def backward(grad, query, key, value, output, lse, state, segments, causal, scale):
        from flash_attn.flash_attn_interface import _flash_attn_varlen_backward

        grads = tuple(torch.empty_like(part) for part in (query, key, value))
        _flash_attn_varlen_backward(
            grad, query, key, value, output, lse, *grads, *segments.on(query.device),
            dropout_p=0.0, softmax_scale=scale, causal=causal, window_size_left=-1, window_size_right=-1,
            softcap=0.0, alibi_slopes=None, rng_state=state,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )  # fmt: skip
        return grads


class FlashAttn4:
    """The functions below flash_attn.cute.flash_attn_varlen_func, compiled at their first use.

    As torch.nn.attention's own registration of "FA4" calls them: output and log-sum-exp of the backward pass are
    arguments, and a window is None where there is none.
    https://github.com/Dao-AILab/flash-attention/blob/main/flash_attn/cute/interface.py
    """

    @staticmethod
    def forward(query, key, value, segments, causal, scale):
        from flash_attn.cute.interface import _flash_attn_fwd

        output, lse, *_ = _flash_attn_fwd(
            query, key, value, softmax_scale=scale, causal=causal, return_lse=True, **_keywords(segments, query.device)
        )
        return output, lse, None  # it draws no random numbers

    @staticmethod
    def backward(grad, query, key, value, output, lse, state, segments, causal, scale):
        from flash_attn.cute.interface import _flash_attn_bwd

        return _flash_attn_bwd(
            query, key, value, output, grad, lse, softmax_scale=scale, causal=causal,
            deterministic=torch.are_deterministic_algorithms_enabled(), **_keywords(segments, query.device),
        )  # fmt: skip


def _keywords(segments: Segments, device: torch.device) -> dict[str, object]:
    names = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")
    return dict(zip(names, segments.on(device), strict=True))


class Cascade(torch.autograd.Function):
    """Attention over a plan by two calls of a kernel; query [S, heads, D], key and value [S, key heads, D]."""

    @staticmethod
    def forward(ctx, query, key, value, plan: Plan, kernel: Kernel, scale: float):
        at = plan.shared
        output, lse, own = kernel.forward(query, key, value, plan.own, True, scale)
        back = None
        if at < len(plan):
            seen, seen_lse, back = kernel.forward(query[at:], key[:at], value[:at], plan.back, False, scale)
            whole = torch.logaddexp(lse[:, at:], seen_lse)
            merged = _weighted(output[at:], lse[:, at:] - whole) + _weighted(seen, seen_lse - whole)
            output = torch.cat([output[:at], merged.to(output.dtype)])
            lse = torch.cat([lse[:, :at], whole], 1)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.about = (plan, kernel, scale, own, back)
        return output

    @staticmethod
    def backward(ctx, grad):
        query, key, value, output, lse = ctx.saved_tensors
        plan, kernel, scale, own, back = ctx.about
        at, grad = plan.shared, grad.contiguous()
        grads = kernel.backward(grad, query, key, value, output, lse, own, plan.own, True, scale)
        if at < len(plan):
            low = (query[at:], key[:at], value[:at], output[at:], lse[:, at:].contiguous())
            for whole, place, part in zip(
                grads,
                (slice(at, None), slice(0, at), slice(0, at)),
                kernel.backward(grad[at:], *low, back, plan.back, False, scale),
                strict=True,
            ):
                whole[place] += part
        return *grads, None, None, None


def _weighted(output: torch.Tensor, log_weight: torch.Tensor) -> torch.Tensor:
    """[T, heads, D] times exp of [heads, T], in the wider of the two types (a log-sum-exp is in float32 at least)."""
    return output * log_weight.exp().T[..., None].to(torch.promote_types(output.dtype, log_weight.dtype))

"""Kernels for attention within segments, and the exact merge of two of their calls.

A branch attends to itself in one call and to its image's prefix in another. The two parts are merged by their
log-sum-exp. In the backward pass both calls get the merged output and log-sum-exp, which makes their gradients exact
and copies no key. The kernels are those of flash-attn 4 (compute capability 9.0 and above), flash-attn 2, or torch.
"""

from __future__ import annotations

import importlib.util
from importlib import metadata
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx

from medstudy.engine.row_layout import RowLayout, Segments


def flash_attn_2() -> str | None:
    """The version of flash-attn 2, or None if it is not installed; imports nothing.

    The test is its compiled module, because flash-attn 4 alone also installs a package `flash_attn`.
    """
    return _version("flash-attn") if importlib.util.find_spec("flash_attn_2_cuda") else None


def flash_attn_4() -> str | None:
    """The version of flash-attn 4, or None if it or its compiler is not installed; imports nothing."""
    package, compiler = (importlib.util.find_spec(name) for name in ("flash_attn", "cutlass"))
    if package is None or compiler is None:
        return None
    folders = package.submodule_search_locations or ()
    installed = any(Path(folder, "cute", "interface.py").is_file() for folder in folders)
    return _version("flash-attn-4") if installed else None


def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:  # installed without a package manager
        return "of unknown version"


Forward = tuple[Tensor, Tensor, object]  # output, log-sum-exp, and a state that the backward pass needs


class Kernel(Protocol):
    """Attention within segments: query [T, heads, D], key and value [T', key heads, D], log-sum-exp [heads, T]."""

    @staticmethod
    def forward(
        query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool, scale: float
    ) -> Forward: ...

    @staticmethod
    def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, state: object,
                 segments: Segments, causal: bool, scale: float) -> tuple[Tensor, ...]: ...


class TorchFlash:
    """The variable-length flash attention that ships with torch (what torch.nn.attention.varlen calls)."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool, scale: float) -> Forward:
        place = segments.on(query.device)
        output, lse, *random, _ = torch.ops.aten._flash_attention_forward(
            query, key, value, *place, 0.0, causal, False, scale=scale
        )
        return output, lse, random

    @staticmethod
    def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, state: object,
                 segments: Segments, causal: bool, scale: float) -> tuple[Tensor, ...]:
        place = segments.on(query.device)
        return torch.ops.aten._flash_attention_backward(
            grad, query, key, value, output, lse, *place, 0.0, causal, *state, scale=scale
        )


class FlashAttn2:
    """The functions below flash_attn.flash_attn_varlen_func, whose own backward cannot take a merged output."""

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool, scale: float) -> Forward:
        from flash_attn.flash_attn_interface import _flash_attn_varlen_forward

        place = segments.on(query.device)
        output, lse, _, state = _flash_attn_varlen_forward(
            query, key, value, *place, dropout_p=0.0, softmax_scale=scale, causal=causal
        )
        return output, lse, state

    @staticmethod
    def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, state: object,
                 segments: Segments, causal: bool, scale: float) -> tuple[Tensor, ...]:
        from flash_attn.flash_attn_interface import _flash_attn_varlen_backward

        grads = tuple(torch.empty_like(part) for part in (query, key, value))
        _flash_attn_varlen_backward(
            grad, query, key, value, output, lse, *grads, *segments.on(query.device),
            dropout_p=0.0, softmax_scale=scale, causal=causal, window_size_left=-1, window_size_right=-1,
            softcap=0.0, alibi_slopes=None, rng_state=state,
            deterministic=torch.are_deterministic_algorithms_enabled(),
        )
        return grads


class FlashAttn4:
    """The functions below flash_attn.cute.flash_attn_varlen_func, compiled at their first use.

    They are called as torch.nn.attention's own registration of "FA4" does: the backward pass takes output and
    log-sum-exp as arguments, and None stands for no window.
    https://github.com/Dao-AILab/flash-attention/blob/main/flash_attn/cute/interface.py
    """

    @staticmethod
    def forward(query: Tensor, key: Tensor, value: Tensor, segments: Segments, causal: bool, scale: float) -> Forward:
        from flash_attn.cute.interface import _flash_attn_fwd

        output, lse, *_ = _flash_attn_fwd(
            query, key, value, softmax_scale=scale, causal=causal, return_lse=True, **_keywords(segments, query.device)
        )
        return output, lse, None  # it draws no random numbers

    @staticmethod
    def backward(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, output: Tensor, lse: Tensor, state: object,
                 segments: Segments, causal: bool, scale: float) -> tuple[Tensor, ...]:
        from flash_attn.cute.interface import _flash_attn_bwd

        return _flash_attn_bwd(
            query, key, value, output, grad, lse, softmax_scale=scale, causal=causal,
            deterministic=torch.are_deterministic_algorithms_enabled(), **_keywords(segments, query.device),
        )


def _keywords(segments: Segments, device: torch.device) -> dict[str, object]:
    names = ("cu_seqlens_q", "cu_seqlens_k", "max_seqlen_q", "max_seqlen_k")
    return dict(zip(names, segments.on(device), strict=True))


class Cascade(torch.autograd.Function):
    """Attention over a layout by two calls of a kernel; query [S, heads, D], key and value [S, key heads, D]."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, query: Tensor, key: Tensor, value: Tensor, layout: RowLayout, kernel: Kernel, scale: float
    ) -> Tensor:
        at = layout.shared  # the branches begin here
        output, lse, own = kernel.forward(query, key, value, layout.own, True, scale)
        back = None
        if at < len(layout):
            to_prefix, prefix_lse, back = kernel.forward(query[at:], key[:at], value[:at], layout.back, False, scale)
            whole = torch.logaddexp(lse[:, at:], prefix_lse)
            merged = _weighted(output[at:], lse[:, at:] - whole) + _weighted(to_prefix, prefix_lse - whole)
            output = torch.cat([output[:at], merged.to(output.dtype)])
            lse = torch.cat([lse[:, :at], whole], 1)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.constants = (layout, kernel, scale, own, back)
        return output

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse = ctx.saved_tensors
        layout, kernel, scale, own, back = ctx.constants
        at, grad = layout.shared, grad.contiguous()
        grads = kernel.backward(grad, query, key, value, output, lse, own, layout.own, True, scale)
        if at < len(layout):
            low = (query[at:], key[:at], value[:at], output[at:], lse[:, at:].contiguous())
            parts = kernel.backward(grad[at:], *low, back, layout.back, False, scale)
            places = (slice(at, None), slice(0, at), slice(0, at))  # queries of branches, keys and values of prefixes
            for whole, place, part in zip(grads, places, parts, strict=True):
                whole[place] += part
        return *grads, None, None, None


def _weighted(output: Tensor, log_weight: Tensor) -> Tensor:
    """[T, heads, D] times exp of [heads, T], in the wider of the two types (a log-sum-exp is at least float32)."""
    return output * log_weight.exp().T[..., None].to(torch.promote_types(output.dtype, log_weight.dtype))

"""Attention over a packed row: each branch attends to its image's prefix and to itself, and to nothing else.

All kernels compute the same result. On CUDA it takes two calls without a mask (`medstudy.engine.attention_kernels`):
every prefix and every branch within itself (causal), and every image's branches to its prefix. Elsewhere it is torch's
sdpa, one image at a time: its prefix causal, its branches with a boolean mask. `choose` names the kernel and the
reason. Nothing is fetched from a hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import import_utils

from medstudy.engine import attention_maps
from medstudy.engine.attention_kernels import (
    Cascade,
    FlashAttn2,
    FlashAttn4,
    Kernel,
    TorchFlash,
    flash_attn_2,
    flash_attn_4,
)
from medstudy.engine.row_layout import RowLayout
from medstudy.errors import ModelError

log = logging.getLogger(__name__)


def sdpa(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: RowLayout, scale: float,
    window: int | None = None,
) -> torch.Tensor:
    """Query [1, heads, S, D], key and value [1, key heads, S, D] -> [1, heads, S, D], one image at a time.

    window: how many places a token attends to, itself included; None: all.
    """
    sizes = [*layout.prefixes, *map(sum, layout.branches)]
    queries, keys, values = (part.split(sizes, dim=2) for part in (query, key, value))
    grouped = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    count, masks = len(layout.prefixes), layout.masks(query.device, window)
    outputs = [scaled_dot_product_attention(queries[i], keys[i], values[i], mask, is_causal=mask is None, **grouped)
               for i, (mask, _) in enumerate(masks)]
    for i, (_, mask) in enumerate(masks):
        visible = [torch.cat([part[i], part[count + i]], 2) for part in (keys, values)]  # prefix and branches
        outputs.append(scaled_dot_product_attention(queries[count + i], *visible, mask, **grouped))
    return torch.cat(outputs, 2)


def cascade(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: RowLayout, scale: float, kernel: Kernel
) -> torch.Tensor:
    """The same as `sdpa`, by two calls of a kernel. Raises ModelError for tensors of 32 bits on a GPU."""
    if query.is_cuda and query.dtype.itemsize != 2:
        raise ModelError(
            f"Flash attention computes in 16 bits, but the model gives it {query.dtype}: training keeps its weights in "
            "float32. Save the model and load it again, or run it under torch.autocast."
        )
    parts = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    return Cascade.apply(*parts, layout, kernel, scale).transpose(0, 1)[None]


def _interface(function: Callable, masked: bool = False) -> Callable:
    """A kernel as transformers calls it. Without a layout (generate, a plain batch) it is transformers' own sdpa.

    masked: whether the function handles windows and tokens that attend in both directions, which some families have.
    """

    @torch.compiler.disable
    def attend(
        module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
        attention_mask: torch.Tensor | None, scaling: float | None = None, layout: RowLayout | None = None,
        **kwargs: object,
    ) -> tuple[torch.Tensor, None]:
        if layout is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        window = kwargs.get("sliding_window")
        if kwargs.get("dropout") or not masked and (window is not None or any(layout.bidirectional)):
            raise ModelError(
                "A shared prefix needs attention without sliding window and dropout, but the model's configuration "
                "asks for one of them. Set use_sliding_window to false and attention_dropout to 0 in its config.json."
            )
        more = {"window": window} if masked else {}
        query, key, value = _computed(query, key, value)
        attention_maps.note(query, key, layout, query.shape[-1] ** -0.5 if scaling is None else scaling, window)
        return function(query, key, value, layout, scaling, **more).transpose(1, 2).contiguous(), None

    return attend


FUNCTIONS = {
    "prefix_sdpa": sdpa,
    "prefix_masked": sdpa,
    "prefix_fa4": partial(cascade, kernel=FlashAttn4),
    "prefix_flash": partial(cascade, kernel=FlashAttn2),
    "prefix_varlen": partial(cascade, kernel=TorchFlash),
}
for _name, _function in FUNCTIONS.items():
    AttentionInterface.register(_name, _interface(_function, masked=_name == "prefix_masked"))
    AttentionMaskInterface.register(_name, sdpa_mask)


class Heads(NamedTuple):
    """A language model's attention heads."""

    queries: int
    keys: int
    width: int


QWEN2_VL_2B = Heads(queries=12, keys=2, width=128)
QWEN2_VL_TOWER = Heads(queries=16, keys=16, width=80)
NEEDS = {"prefix_fa4": ("flash-attn-4", flash_attn_4), "prefix_flash": ("flash-attn", flash_attn_2)}
TOWERS = {"prefix_fa4": "flash_attention_4", "prefix_flash": "flash_attention_2"}  # transformers' names
CAPABILITY = {"prefix_fa4": (9, 0)}  # the least that has a backward pass


class KernelChoice(NamedTuple):
    """A kernel's name, and why it was chosen."""

    name: str
    why: str


def choose(device: torch.device, dtype: torch.dtype, heads: Heads = QWEN2_VL_2B,
           among: tuple[str, ...] = ("prefix_fa4", "prefix_flash", "prefix_varlen")) -> KernelChoice:
    """The first kernel of `among` that reproduces sdpa's numbers on this device, else sdpa; logged with the reason."""
    choice = _choose(device, dtype, heads, among)
    log.info("attention: %s, because %s", *choice)
    return choice


def _choose(device: torch.device, dtype: torch.dtype, heads: Heads, among: tuple[str, ...]) -> KernelChoice:
    if device.type != "cuda":
        return KernelChoice("prefix_sdpa", f"a {device.type} has no variable-length flash attention")
    if dtype not in (torch.bfloat16, torch.float16):
        return KernelChoice("prefix_sdpa", f"flash attention computes in 16 bits, and the model is in {dtype}")
    refused = []
    for name in among:
        if lacking := missing(name, device):
            refused.append(lacking)
            continue
        fault = _fault(name, device, dtype, heads)
        if fault is None and name in TOWERS:  # the vision tower will use it too
            fault = _fault(name, device, dtype, QWEN2_VL_TOWER)
        if fault is None:
            return KernelChoice(name, "; ".join([*refused, "it gives sdpa's numbers here, forward and backward"]))
        refused.append(f"{name} {fault}")
    return KernelChoice("prefix_sdpa", "; ".join(refused))


def install(model: PreTrainedModel, choice: KernelChoice) -> None:
    """Let the language model use the chosen kernel, and the vision tower the same flash-attn if transformers has it.

    transformers is asked for a kernel only if it finds the package itself; otherwise it would look for it on a hub.
    """
    vision = TOWERS.get(choice.name, "sdpa")
    if choice.name == "prefix_fa4" and not getattr(import_utils, "is_flash_attn_4_available", bool)():
        vision = "sdpa"
    model.set_attn_implementation({"text_config": choice.name, "vision_config": vision})


def missing(name: str, device: torch.device) -> str | None:
    """What a kernel needs and this machine lacks, a package or a compute capability; None if nothing is missing."""
    package, version = NEEDS.get(name, ("", None))
    if version is not None and version() is None:
        return f"{package} is not installed"
    least = CAPABILITY.get(name)
    if least is not None and (has := torch.cuda.get_device_capability(device)) < least:
        needed, present = ("{}.{}".format(*version) for version in (least, has))
        return f"{package} needs compute capability {needed} for its backward pass, this GPU has {present}"
    return None


def _fault(name: str, device: torch.device, dtype: torch.dtype, heads: Heads) -> str | None:
    """What is wrong with a kernel on this device, compared with sdpa on a small layout; None if nothing is."""
    layout = RowLayout((70, 33), ((5, 17, 1), (9, 130)))
    generator = torch.Generator().manual_seed(0)
    counts = (heads.queries, heads.keys, heads.keys, heads.queries)
    shapes = [(1, count, len(layout), heads.width) for count in counts]
    query, key, value, grad = (torch.randn(shape, generator=generator).to(device, dtype) for shape in shapes)
    results = []
    for function in (sdpa, FUNCTIONS[name]):
        parts = [part.detach().clone().requires_grad_() for part in (query, key, value)]
        try:
            output = function(*parts, layout, heads.width**-0.5)
            output.backward(grad)
        except Exception as error:  # a kernel of another version may raise anything
            return f"cannot run ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        results.append([output.detach(), *(part.grad for part in parts)])
    off = max(float((a - b).float().norm() / a.float().norm()) for a, b in zip(*results, strict=True))
    return None if off < 0.02 else f"differs from sdpa by {off:.1%}"


def _computed(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Cast to the type of a surrounding autocast: rotated queries and keys are float32, and kernels need one type."""
    kind = parts[0].device.type
    if not torch.is_autocast_enabled(kind):
        return parts
    return tuple(part.to(torch.get_autocast_dtype(kind)) for part in parts)

"""Attention over a packed row: every branch looks at its image's prefix and at itself, nothing looks anywhere else.

All kernels compute the same thing. On CUDA two calls without a mask (`medstudy.attention_kernels`): every prefix and
every branch by itself (causal), and every image's branches at its prefix. Everywhere else torch's sdpa, an image at a
time: its prefix causal, its branches with a boolean mask. `choose` names the kernel and the reason, and nothing is
fetched from a hub.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import NamedTuple

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.utils import import_utils

from medstudy.attention_kernels import (
    Cascade,
    FlashAttn2,
    FlashAttn4,
    Kernel,
    Segments,
    TorchFlash,
    flash_attn_2,
    flash_attn_4,
)
from medstudy.errors import ModelError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """The layout of a packed row: the prefixes of all its images, then the branches of each, image by image.

    prefixes: tokens of each image's prefix; branches: for each image the tokens of each of its branches; both: for each
    image the runs (start, end) of its prefix whose tokens look at each other in both directions, () where none do.
    """

    prefixes: tuple[int, ...]
    branches: tuple[tuple[int, ...], ...]
    both: tuple[tuple[tuple[int, int], ...], ...] = ()

    def __len__(self) -> int:
        return self.shared + sum(map(sum, self.branches))

    @property
    def shared(self) -> int:
        """Tokens of all prefixes: where the branches begin."""
        return sum(self.prefixes)

    @property
    def pairs(self) -> int:
        """Query-key pairs that the layout allows."""
        own = sum(n * (n + 1) // 2 for n in (*self.prefixes, *(n for image in self.branches for n in image)))
        own += sum((end - start) * (end - start - 1) // 2 for image in self.both for start, end in image)
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
        """[S] where each token stands in a sequence of its prefix and its branch alone."""
        own = [torch.arange(n) for n in self.prefixes]
        own += [torch.arange(p, p + n) for p, image in zip(self.prefixes, self.branches, strict=True) for n in image]
        return torch.cat(own)

    @cached_property
    def block(self) -> torch.Tensor:
        """[S] the run, counted over the row, of a token that looks both ways; -1 of all others."""
        made, start, count = torch.full((len(self),), -1), 0, 0
        for prefix, runs in zip(self.prefixes, self.both, strict=False):
            for first, end in runs:
                made[start + first : start + end] = count
                count += 1
            start += prefix
        return made

    @cached_property
    def mask(self) -> torch.Tensor:
        """[S, S] bool, True where a query may look: the definition, which the tests hold the kernels to."""
        return self.within(None)

    def within(self, window: int | None) -> torch.Tensor:
        """`mask` for a layer that looks back fewer than `window` places."""
        order, image, branch, block = torch.arange(len(self)), self.image, self.branch, self.block
        same = (image[:, None] == image) & ((branch == -1) | (branch[:, None] == branch))
        ahead = (block[:, None] == block) & (block >= 0)
        near = True if window is None else self.place > self.place[:, None] - window
        return same & near & ((order[:, None] >= order) | ahead)

    def masks(self, device: torch.device, window: int | None = None) -> tuple[tuple[torch.Tensor | None, ...], ...]:
        """For each image its prefix's [prefix, prefix], None where that is causal, and its branches' bool mask.

        The latter is [branch tokens, prefix + branch tokens]. Kept for the other layers.
        """
        held = self.__dict__.setdefault("_held", {})
        reach = max(self.prefixes) + max((n for image in self.branches for n in image), default=0)
        window = None if window is None or window >= reach else window  # it reaches all
        if (device, window) not in held:
            alone = [replace(self, prefixes=(p,), branches=(image,), both=self.both[i : i + 1])
                     for i, (p, image) in enumerate(zip(self.prefixes, self.branches, strict=True))]  # fmt: skip
            held[device, window] = tuple(one._masks(device, window) for one in alone)
        return held[device, window]

    def _masks(self, device: torch.device, window: int | None) -> tuple[torch.Tensor | None, torch.Tensor]:
        """`masks` of a plan of one image."""
        (prefix,), causal = self.prefixes, window is None and not any(self.both)
        if causal:
            return None, _branch_mask(prefix, self.branches[0]).to(device)
        whole = self.within(window)
        return whole[:prefix, :prefix].to(device), whole[prefix:].to(device)

    @cached_property
    def own(self) -> Segments:
        """Every prefix and every branch by itself."""
        lengths = (*self.prefixes, *(n for image in self.branches for n in image))
        return Segments(lengths, lengths)

    @cached_property
    def back(self) -> Segments:
        """All branches of an image, looking at its prefix."""
        return Segments(tuple(map(sum, self.branches)), self.prefixes)


def sdpa(query, key, value, plan: Plan, scale: float, window: int | None = None) -> torch.Tensor:
    """Query [1, heads, S, D], key and value [1, key heads, S, D] -> [1, heads, S, D]: an image at a time.

    window: places that a token looks back, itself among them; None: all.
    """
    sizes = [*plan.prefixes, *map(sum, plan.branches)]
    queries, keys, values = (part.split(sizes, dim=2) for part in (query, key, value))
    grouped = {"scale": scale, "enable_gqa": query.shape[1] != key.shape[1]}
    count, masks = len(plan.prefixes), plan.masks(query.device, window)
    made = [scaled_dot_product_attention(queries[i], keys[i], values[i], mask, is_causal=mask is None, **grouped)
            for i, (mask, _) in enumerate(masks)]  # fmt: skip
    for i, (_, mask) in enumerate(masks):
        seen = [torch.cat([part[i], part[count + i]], 2) for part in (keys, values)]
        made.append(scaled_dot_product_attention(queries[count + i], *seen, mask, **grouped))
    return torch.cat(made, 2)


def cascade(query, key, value, plan: Plan, scale: float, kernel: Kernel) -> torch.Tensor:
    """The same shapes as `sdpa`, by two calls of a kernel."""
    parts = (part[0].transpose(0, 1).contiguous() for part in (query, key, value))
    return Cascade.apply(*parts, plan, kernel, scale).transpose(0, 1)[None]


def _interface(function: Callable, masked: bool = False) -> Callable:
    """As transformers calls it. Without a plan (generate, a plain batch) it is transformers' own sdpa.

    masked: whether the function knows windows and tokens that look both ways; a family that has them decodes by them.
    """

    def attend(module, query, key, value, attention_mask, scaling=None, plan: Plan | None = None, **kwargs):
        if plan is None:
            return sdpa_attention_forward(module, query, key, value, attention_mask, scaling=scaling, **kwargs)
        window = kwargs.get("sliding_window")
        if kwargs.get("dropout") or not masked and (window is not None or any(plan.both)):
            raise ModelError(
                "A shared prefix needs attention without sliding window and dropout, but the model's configuration "
                "asks for one of them. Set use_sliding_window to false and attention_dropout to 0 in its config.json."
            )
        more = {"window": window} if masked else {}
        query, key, value = _computed(query, key, value)
        return function(query, key, value, plan, scaling, **more).transpose(1, 2).contiguous(), None

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


class Choice(NamedTuple):
    """A kernel's name, and why it is the one."""

    name: str
    why: str


def choose(device: torch.device, dtype: torch.dtype, heads: Heads = QWEN2_VL_2B,
           among: tuple[str, ...] = ("prefix_fa4", "prefix_flash", "prefix_varlen")) -> Choice:  # fmt: skip
    """The first kernel of `among` that gives sdpa's numbers on this device, else sdpa; logged with the reason."""
    choice = _choose(device, dtype, heads, among)
    log.info("attention: %s, because %s", *choice)
    return choice


def _choose(device: torch.device, dtype: torch.dtype, heads: Heads, among: tuple[str, ...]) -> Choice:
    if device.type != "cuda":
        return Choice("prefix_sdpa", f"a {device.type} has no variable-length flash attention")
    if dtype not in (torch.bfloat16, torch.float16):
        return Choice("prefix_sdpa", f"flash attention computes in 16 bits, and the model is in {dtype}")
    refused = []
    for name in among:
        if lacking := missing(name, device):
            refused.append(lacking)
            continue
        fault = _fault(name, device, dtype, heads)
        if fault is None and name in TOWERS:  # it will serve the vision tower too
            fault = _fault(name, device, dtype, QWEN2_VL_TOWER)
        if fault is None:
            return Choice(name, "; ".join([*refused, "it gives sdpa's numbers here, forward and backward"]))
        refused.append(f"{name} {fault}")
    return Choice("prefix_sdpa", "; ".join(refused))


def install(model, choice: Choice) -> None:
    """Let the language model use the chosen kernel, and the vision tower its flash-attn, where transformers knows it.

    transformers is asked for a kernel only where it finds the package itself: else it would look for it on a hub.
    """
    vision = TOWERS.get(choice.name, "sdpa")
    if choice.name == "prefix_fa4" and not getattr(import_utils, "is_flash_attn_4_available", bool)():
        vision = "sdpa"
    model.set_attn_implementation({"text_config": choice.name, "vision_config": vision})


def missing(name: str, device: torch.device) -> str | None:
    """The package that a kernel needs and this environment lacks, or the capability that the GPU lacks."""
    package, version = NEEDS.get(name, ("", None))
    if version is not None and version() is None:
        return f"{package} is not installed"
    least = CAPABILITY.get(name)
    if least is not None and (has := torch.cuda.get_device_capability(device)) < least:
        return f"{package} needs compute capability {least[0]}.{least[1]} for its backward pass, this GPU has " + (
            f"{has[0]}.{has[1]}"
        )
    return None


def _fault(name: str, device: torch.device, dtype: torch.dtype, heads: Heads) -> str | None:
    """What is wrong with a kernel on this device, measured against sdpa on a small plan; None when nothing is."""
    plan = Plan((70, 33), ((5, 17, 1), (9, 130)))
    maker = torch.Generator().manual_seed(0)
    counts = (heads.queries, heads.keys, heads.keys, heads.queries)
    shapes = [(1, count, len(plan), heads.width) for count in counts]
    query, key, value, grad = (torch.randn(shape, generator=maker).to(device, dtype) for shape in shapes)
    results = []
    for function in (sdpa, FUNCTIONS[name]):
        parts = [part.detach().clone().requires_grad_() for part in (query, key, value)]
        try:
            output = function(*parts, plan, heads.width**-0.5)
            output.backward(grad)
        except Exception as error:  # a kernel of another version may refuse in any way
            return f"cannot run ({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        results.append([output.detach(), *(part.grad for part in parts)])
    off = max(float((a - b).float().norm() / a.float().norm()) for a, b in zip(*results, strict=True))
    return None if off < 0.02 else f"differs from sdpa by {off:.1%}"


def _computed(*parts: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """In the type of an autocast around them: rotated queries and keys are in float32, and kernels take no mixture."""
    kind = parts[0].device.type
    if not torch.is_autocast_enabled(kind):
        return parts
    return tuple(part.to(torch.get_autocast_dtype(kind)) for part in parts)


def _branch_mask(prefix: int, lengths: tuple[int, ...]) -> torch.Tensor:
    branch = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.long))
    order = torch.arange(len(branch))
    own = (branch[:, None] == branch) & (order[:, None] >= order)
    return torch.cat([torch.ones(len(branch), prefix, dtype=torch.bool), own], 1)

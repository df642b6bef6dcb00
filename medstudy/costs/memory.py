"""Peak memory of a job, by formula from a model's sizes and its largest pass. All numbers are bytes.

What a layer keeps for the backward pass is counted tensor by tensor (tests compare the sum with what torch keeps).
Attention is assumed to keep its input and output and nothing quadratic, as flash and memory-efficient kernels do.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from medstudy.costs.job_workload import JobWorkload, Pass
from medstudy.engine import flops
from medstudy.models.family import Family
from medstudy.params import Optimisation
from medstudy.training import mixed_precision, optimizers

# Python running torch, transformers, accelerate and datasets: measured at 660 to 920 MB on Linux, at 880 to 1000 MB
# where Python compiles the packages itself
PROCESS = 800 * 2**20


def training(family: Family, options: Optimisation, stored: bool, passes: Iterable[Pass]) -> float:
    """Peak of one training process: weights, gradients, optimizer states, and the largest pass.

    family: prepared for training (`medstudy.training.setup`); a sketch is enough. Under FSDP each process holds a
    share of the states, and for a time whole layers.
    """
    states = weights(family.model) + trained(family.model) + optimizer_states(family.model, options)
    if options.processes > 1 and options.sharding == "fsdp":
        states = states / options.processes + together(family)
    else:
        states += copies(family.model)
    tower, again = any(parameter.requires_grad for parameter in family.tower), options.gradient_checkpointing
    return states + max((peak(family, work, tower, stored, again) for work in largest(passes)), default=0.0)


def evaluation(family: Family, stored: bool, workload: JobWorkload) -> float:
    """Peak of an evaluation: weights, and the largest pass with its key-value cache. Scoring options uses no cache."""
    shape, size = family.shape, element(family)
    decoding = (work.tokens * cache(shape) * size + moving(family, work, stored) for work in largest(workload.passes))
    scoring = (moving(family, work, stored) for work in largest(workload.scored))
    return weights(family.model) + max([*decoding, *scoring], default=0.0)


def largest(passes: Iterable[Pass]) -> list[Pass]:
    """The passes that no other exceeds or equals in every number: one of them needs most, by any increasing formula."""
    undominated: list[Pass] = []
    # Sorted by tokens, so that an earlier pass is never smaller in tokens: only patches and scores are compared
    for work in sorted(set(passes), key=lambda work: (work.tokens, work.patches, work.scores), reverse=True):
        if not any(other.patches >= work.patches and other.scores >= work.scores for other in undominated):
            undominated.append(work)
    return undominated


def kept(family: Family, work: Pass, tower: bool, stored: bool, again: bool = False) -> float:
    """What a pass keeps for its backward pass.

    tower: whether the vision tower is trained; a frozen one keeps nothing. stored: its features come from the disk.
    again: gradient checkpointing, which keeps the input of a layer or block and recomputes the rest.
    """
    shape, size = family.shape, element(family)
    stream = 4 if mixed_precision.is_mixed(family.model) else size  # a number of the residual stream
    blocks = shape.blocks * (stream * shape.width if again else size * _block(shape)) * tower
    merged = size * 4 * family.feature_width
    layer = stream * shape.hidden if again else _layer(shape, size)
    return (
        work.tokens * shape.layers * layer
        + work.patches * (blocks + merged + _input(family, stored) * (tower or stored))
        + work.scores * shape.vocabulary * _logits(size)
    )


def peak(family: Family, work: Pass, tower: bool, stored: bool, again: bool = False) -> float:
    """Peak of a forward and backward pass; the arguments are those of `kept`.

    It is what the pass keeps and the gradients of one layer, or one block of a frozen tower. With gradient
    checkpointing, the recomputed layer, or a trained tower's block and its gradients, are added.
    """
    shape, size = family.shape, element(family)
    layer = work.tokens * _layer(shape, size)
    block = work.patches * (size * _block(shape) + _input(family, stored)) * (not stored)
    held = kept(family, work, tower, stored, again)
    if again:
        return max(held + 2 * layer, held + 2 * block * tower, block)
    return max(held + layer, block)


def moving(family: Family, work: Pass, stored: bool) -> float:
    """What a pass without gradients holds at once: one layer or one block, and the logits."""
    shape, size = family.shape, element(family)
    layer = work.tokens * _layer(shape, size)
    block = work.patches * size * _block(shape) * (not stored)
    return max(layer, block) + work.patches * _input(family, stored) + work.scores * shape.vocabulary * _logits(size)


def weights(model: torch.nn.Module) -> int:
    """All parameters, tied ones once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def trained(model: torch.nn.Module) -> int:
    """The gradients: as large as the parameters that require them."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def optimizer_states(model: torch.nn.Module, options: Optimisation) -> int:
    """AdamW keeps two numbers per trained weight, Muon (matrices only) one, in the weight's dtype."""
    total = 0
    for optimizer in optimizers.build(model, options):
        numbers = 1 if type(optimizer).__name__ == "Muon" else 2
        groups = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        total += numbers * sum(parameter.numel() * parameter.element_size() for parameter in groups)
    return total


def copies(model: torch.nn.Module) -> int:
    """The 16-bit copies that autocast makes of float32 weights for a pass (`medstudy.training.mixed_precision`)."""
    if not mixed_precision.is_mixed(model):
        return 0
    size = mixed_precision.model_dtype(model).itemsize
    return sum(size * p.numel() for p in model.parameters() if p.dtype == torch.float32)


def together(family: Family) -> float:
    """What a process under FSDP gathers at its peak: weights in the type of computation, and gradients.

    These are the parameters outside layers and blocks (embeddings, head, mergers), the current layer, and the weights
    of the next layer.
    """
    model, size = family.model, element(family)
    units = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    counts = [[(p.numel(), p.requires_grad) for p in unit.parameters()] for unit in units]
    layer = max(sum(number for number, _ in count) for count in counts) if counts else 0
    rest = sum(p.numel() for p in model.parameters()) - sum(number for count in counts for number, _ in count)
    gradients = max((sum(number * needed for number, needed in count) for count in counts), default=0)
    return size * (rest + 2 * layer) + 4 * (rest + gradients)


def cache(shape: flops.ModelShape) -> int:
    """Keys and values of a token in all layers: a count of numbers, not bytes."""
    return 2 * shape.layers * shape.keys


def element(family: Family) -> int:
    """Size of a number in the type of computation."""
    return (mixed_precision.model_dtype(family.model) or family.model.dtype).itemsize


def _layer(shape: flops.ModelShape, size: int) -> float:
    """What one layer of the language model keeps of a token.

    - two norms: the input in float32, normalised, and weighted;
    - query and output, the output again as a row and as the projection's input;
    - key and value, and both again where a branch attends to its prefix;
    - the gate of the feed-forward part, its activation, the other half, and their product.
    """
    inner = (shape.layer_weights - 2 * shape.hidden * (shape.attention + shape.keys)) / (3 * shape.hidden)
    norms = 2 * shape.hidden * (4 + 2 * size)
    return norms + size * (4 * shape.attention + 4 * shape.keys + 4 * inner)


def _block(shape: flops.ModelShape) -> float:
    """What one block of the tower keeps of a patch, as a count of numbers.

    The inputs and outputs of two norms, query, key, value, and the output three times. The feed-forward part keeps
    three times its width (four times if gated, each of its three matrices having a third of its weights).
    """
    return 10 * shape.width + 1.5 * (shape.block_weights - 4 * shape.width**2) / shape.width


def _input(family: Family, stored: bool) -> int:
    """A patch as it enters the model: its features, or its pixels in float32."""
    if stored:
        return family.feature_width * element(family)
    return 3 * family.patch_size**2 * 4


def _logits(size: int) -> int:
    """A logit: as computed, then in float32 its log-softmax, its gradient and a copy."""
    return size + 12

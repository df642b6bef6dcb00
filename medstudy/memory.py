"""How much memory a job needs at its peak, by formula from a model's sizes and its largest pass; bytes throughout.

What a layer keeps for the backward pass is counted tensor by tensor (tests hold the sum to what torch really keeps).
Attention is taken to keep its input, output and nothing quadratic, as flash and memory-efficient kernels do.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch

from medstudy import cost, optimizers, precision
from medstudy.demand import Demand, Pass
from medstudy.params import Optimisation

# python with torch, transformers, accelerate and datasets at work: 660 to 920 MB seen on Linux; 880 to 1000 where it
# compiles packages itself
PROCESS = 800 * 2**20


def training(family, options: Optimisation, stored: bool, passes: Iterable[Pass]) -> float:
    """Of one process: weights, gradients, optimizer states, and the largest pass; the family as it is trained.

    A sketch will do for it (`medstudy.trainable`). Processes that share the weights hold a part of these states, and
    for a while the layers at work whole.
    """
    states = weights(family.model) + trained(family.model) + optimizer_states(family.model, options)
    if options.processes > 1 and options.sharding == "fsdp":
        states = states / options.processes + together(family)
    else:
        states += copies(family.model)
    tower, again = any(parameter.requires_grad for parameter in family.tower), options.gradient_checkpointing
    return states + max((peak(family, one, tower, stored, again) for one in largest(passes)), default=0.0)


def evaluation(family, stored: bool, demand: Demand) -> float:
    """Weights, and the largest pass with its cache of keys and values; options are scored without a cache."""
    shape, size = family.shape, element(family)
    asked = (one.tokens * cache(shape) * size + moving(family, one, stored) for one in largest(demand.passes))
    scored = (moving(family, one, stored) for one in largest(demand.scored))
    return weights(family.model) + max([*asked, *scored], default=0.0)


def largest(passes: Iterable[Pass]) -> list[Pass]:
    """Those that no other exceeds or equals in every number: one of them takes most, by whatever formula."""
    made: list[Pass] = []
    for one in sorted(set(passes), key=lambda one: (one.tokens, one.patches, one.scores), reverse=True):
        if not any(other.patches >= one.patches and other.scores >= one.scores for other in made):
            made.append(one)
    return made


def kept(family, one: Pass, tower: bool, stored: bool, again: bool = False) -> float:
    """What a pass keeps for its backward pass.

    tower: whether the vision tower is trained; a frozen one keeps nothing. stored: its features come from the disk.
    again: gradient checkpointing, which keeps the input of a layer or block and computes the rest again.
    """
    shape, size = family.shape, element(family)
    stream = 4 if precision.mixed(family.model) else size  # of what goes from layer to layer
    blocks = shape.blocks * (stream * shape.width if again else size * _block(shape)) * tower
    merged = size * 4 * family.feature_width
    layer = stream * shape.hidden if again else _layer(shape, size)
    return (
        one.tokens * shape.layers * layer
        + one.patches * (blocks + merged + _input(family, stored) * (tower or stored))
        + one.scores * shape.vocabulary * _logits(size)
    )


def peak(family, one: Pass, tower: bool, stored: bool, again: bool = False) -> float:
    """Of a forward and backward pass: what it keeps and the gradients of one layer, or a frozen tower's block.

    With gradient checkpointing also that layer itself, computed again, or a trained tower's block and its gradients.
    """
    shape, size = family.shape, element(family)
    layer = one.tokens * _layer(shape, size)
    block = one.patches * (size * _block(shape) + _input(family, stored)) * (not stored)
    held = kept(family, one, tower, stored, again)
    if again:
        return max(held + 2 * layer, held + 2 * block * tower, block)
    return max(held + layer, block)


def moving(family, one: Pass, stored: bool) -> float:
    """What a pass without gradients holds at once: one layer or one block, and the logits."""
    shape, size = family.shape, element(family)
    layer = one.tokens * _layer(shape, size)
    block = one.patches * size * _block(shape) * (not stored)
    return max(layer, block) + one.patches * _input(family, stored) + one.scores * shape.vocabulary * _logits(size)


def weights(model) -> int:
    """Bytes of all parameters; tied ones once."""
    return sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())


def trained(model) -> int:
    """Bytes of those that require gradients, and of their gradients."""
    return sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)


def optimizer_states(model, options: Optimisation) -> int:
    """AdamW keeps two numbers a trained weight, Muon one for its matrices, in the weight's type."""
    total = 0
    for optimizer in optimizers.build(model, options):
        numbers = 1 if type(optimizer).__name__ == "Muon" else 2
        groups = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        total += numbers * sum(parameter.numel() * parameter.element_size() for parameter in groups)
    return total


def copies(model) -> int:
    """Bytes of the 16-bit copies that autocast makes of float32 weights for a pass (`medstudy.precision`)."""
    if not precision.mixed(model):
        return 0
    return sum(precision.own(model).itemsize * p.numel() for p in model.parameters() if p.dtype == torch.float32)


def together(family) -> float:
    """Bytes that a process holds whole for a while under FSDP: weights as they are computed with, and gradients.

    Of all that is not in a layer or block (embeddings, head, mergers), of the layer at work, and the weights of the
    next one.
    """
    model, size = family.model, element(family)
    units = [module for module in model.modules() if type(module).__name__ in (model._no_split_modules or ())]
    counts = [[(p.numel(), p.requires_grad) for p in unit.parameters()] for unit in units]
    layer = max(sum(number for number, _ in count) for count in counts) if counts else 0
    rest = sum(p.numel() for p in model.parameters()) - sum(number for count in counts for number, _ in count)
    learns = max((sum(number * learnt for number, learnt in count) for count in counts), default=0)
    return size * (rest + 2 * layer) + 4 * (rest + learns)


def cache(shape: cost.Shape) -> int:
    """Keys and values of a token in all layers, in numbers."""
    return 2 * shape.layers * shape.keys


def element(family) -> int:
    """Bytes of a number as the model computes it."""
    return (precision.own(family.model) or family.model.dtype).itemsize


def _layer(shape: cost.Shape, size: int) -> float:
    """One layer of the language model, bytes a token.

    Two norms: the input in float32, normalised, and weighted. Query, output, output as a row and as the projection's
    input; key and value, and both again where a branch looks at its prefix; the feed-forward part's gate, its
    activation, the other half, and their product.
    """
    inner = (shape.layer_weights - 2 * shape.hidden * (shape.attention + shape.keys)) / (3 * shape.hidden)
    norms = 2 * shape.hidden * (4 + 2 * size)
    return norms + size * (4 * shape.attention + 4 * shape.keys + 4 * inner)


def _block(shape: cost.Shape) -> float:
    """One block of the tower, numbers a patch.

    Two norms' inputs and outputs, query, key, value, and the output three times; the feed-forward part keeps three
    times its width (a gated one four times, of matrices a third of its weights each).
    """
    return 10 * shape.width + 1.5 * (shape.block_weights - 4 * shape.width**2) / shape.width


def _input(family, stored: bool) -> int:
    """What stands for a patch before the model: its features, or its pixels in float32."""
    if stored:
        return family.feature_width * element(family)
    return 3 * family.patch_size**2 * 4


def _logits(size: int) -> int:
    """Bytes of a logit: as computed, then in float32 its log-softmax, its gradient and a copy."""
    return size + 12

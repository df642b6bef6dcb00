"""AdamW, or Muon for the matrices inside the network with AdamW for the rest, by one learning rate.

Muon (https://kellerjordan.github.io/posts/muon/; torch.optim.Muon) with the scale of Moonlight
(https://arxiv.org/abs/2502.16982), at which AdamW's learning rates hold. LOG.md has what it saves here.
"""

from __future__ import annotations

import math

import torch

from medstudy.params import Optimisation

BETAS = (0.9, 0.98)


def build(model: torch.nn.Module, options: Optimisation) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's trainable parameters; no decay for norms and biases."""
    inner = _inner(model) if options.optimizer == "muon" else []
    taken = {id(p) for p in inner}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in taken]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    fused = all(p.is_cuda for p in rest)
    made = [torch.optim.AdamW(groups, lr=options.learning_rate, betas=BETAS, fused=fused or None)]
    if inner:
        settings = {"lr": options.learning_rate, "weight_decay": options.weight_decay}
        made.append(torch.optim.Muon(inner, adjust_lr_fn="match_rms_adamw", **settings))
    return made


def schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear rise over the share `warmup` of the steps, then a cosine to zero."""
    rise = max(1, round(warmup * steps))

    def factor(step: int) -> float:
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def _inner(model: torch.nn.Module) -> list[torch.nn.Parameter]:
    """The matrices that act on activations: neither embeddings nor the head that shares their shape."""
    outer = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    named = model.named_parameters()
    return [p for n, p in named if p.requires_grad and p.ndim == 2 and id(p) not in outer and "lm_head" not in n]

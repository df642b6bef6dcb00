"""AdamW; or Muon for the matrices inside the network and AdamW for the rest, with one learning rate.

Muon (https://kellerjordan.github.io/posts/muon/; torch.optim.Muon) uses the scale of Moonlight
(https://arxiv.org/abs/2502.16982), so AdamW's learning rates can be reused. LOG.md reports what it saves here.

torch's Muon orthogonalises in bfloat16, whatever the type of the weights. On a GPU that is fast. A CPU without bfloat16
instructions (most laptops) takes ten times as long for the whole training step, and one with them rounds differently.
So on every CPU our Muon computes in the weights' own type; on a GPU it is torch's, unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch

from medstudy.params import Optimisation

BETAS = (0.9, 0.98)


class Muon(torch.optim.Muon):
    """torch.optim.Muon with Moonlight's scale; on a CPU it computes in the type of the weights, with the same state."""

    def __init__(self, params: Iterable[torch.nn.Parameter], lr: float, weight_decay: float):
        super().__init__(params, lr, weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        if any(parameter.device.type != "cpu" for group in self.param_groups for parameter in group["params"]):
            return super().step()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, group)

    def _move(self, parameter: torch.nn.Parameter, group: dict) -> None:
        """Update one matrix: momentum, Nesterov's look-ahead, orthogonalisation, decay, a step of AdamW's size."""
        gradient, state, momentum = parameter.grad, self.state[parameter], group["momentum"]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(gradient)
        buffer = state["momentum_buffer"].lerp_(gradient, 1 - momentum)
        update = orthogonal(gradient.lerp(buffer, momentum), group["ns_coefficients"], group["ns_steps"], group["eps"])
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        parameter.add_(update, alpha=-0.2 * math.sqrt(max(parameter.shape)) * group["lr"])


def orthogonal(matrix: torch.Tensor, coefficients: Sequence[float], steps: int, eps: float) -> torch.Tensor:
    """[m, n] -> [m, n] of the same type, its singular values brought near 1 by Muon's Newton–Schulz iteration."""
    a, b, c = coefficients
    tall = matrix.shape[0] > matrix.shape[1]
    update = matrix.T if tall else matrix
    update = update / update.norm().clamp(min=eps)  # now no singular value is above 1
    for _ in range(steps):
        gram = update @ update.T
        update = torch.addmm(update, torch.addmm(gram, gram, gram, beta=b, alpha=c), update, beta=a)
    return update.T if tall else update


def build(model: torch.nn.Module, options: Optimisation) -> list[torch.optim.Optimizer]:
    """The optimizers of a model's trainable parameters; no decay for norms and biases.

    None has an empty group: torch's state dicts refuse them. Muon may take all (of LoRA, whose weights are matrices).
    """
    inner = _inner(model) if options.optimizer == "muon" else []
    inner_ids = {id(p) for p in inner}
    rest = [p for p in model.parameters() if p.requires_grad and id(p) not in inner_ids]
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.is_cuda for p in rest)
    optimizers: list[torch.optim.Optimizer] = []
    if groups:
        optimizers.append(torch.optim.AdamW(groups, lr=options.learning_rate, betas=BETAS, fused=fused or None))
    if inner:
        optimizers.append(Muon(inner, options.learning_rate, options.weight_decay))
    return optimizers


def schedule(optimizer: torch.optim.Optimizer, steps: int, warmup: float) -> torch.optim.lr_scheduler.LRScheduler:
    """Linear warm-up over the fraction `warmup` of the steps, then cosine decay to zero."""
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

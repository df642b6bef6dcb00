"""Several processes, one per device: each holds all weights (DDP) or a shard of them (FSDP); the gradients are equal.

The module that is wrapped is the whole loss (`Objective`), because the engine calls parts of the model, not the model.
DDP is accelerate's. FSDP is torch's own `fully_shard`: accelerate 1.15 offers FSDP on accelerators only, silently
falls back to DDP on CPUs, where our tests run, and wants to wrap model and optimizers itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.utils import broadcast
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from medstudy.training import mixed_precision

# Some parameters have no gradient: those of a part that a family skips, or of mergers whose output is unused.
DDP = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True)


class Objective(torch.nn.Module):
    """A loss as a module around its model, so that DDP and FSDP find the parameters.

    loss(content) -> a sum over the questions of a pass, computed in the model's own type
    (`medstudy.training.mixed_precision`).
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[object], torch.Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, content: object) -> torch.Tensor:
        with mixed_precision.autocast(self.model):
            return self.loss(content)


def wrap(objective: Objective, accelerator: Accelerator, sharding: str) -> torch.nn.Module:
    """Move the objective to this process's device and wrap it for several processes; sharding: "ddp" or "fsdp".

    FSDP shards the parameters in place: build optimizers after this.
    """
    objective = objective.to(accelerator.device)
    if accelerator.num_processes == 1:
        return objective
    return {"ddp": _replicated, "fsdp": _sharded}[sharding](objective, accelerator)


def summing(wrapped: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Around a backward pass: DDP sums gradients over processes only after a step's last pass, FSDP after each."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()


def settle(wrapped: torch.nn.Module) -> None:
    """After forward passes without a backward pass: under FSDP, shard the parameters again."""
    if isinstance(wrapped, FSDPModule):
        wrapped.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of a tensor that processes shard; all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _replicated(objective: Objective, accelerator: Accelerator) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # accelerate passes it on
        return accelerator.prepare_model(objective)


def _sharded(objective: Objective, accelerator: Accelerator) -> torch.nn.Module:
    """Shard each layer of the language model and each block of the tower by itself, all else as one unit."""
    for parameter in objective.parameters():
        if parameter.requires_grad:
            broadcast(parameter.data)
    model, mesh = objective.model, init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    kind = torch.bfloat16 if mixed_precision.is_mixed(model) else None
    policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32 if kind else None)
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    return fully_shard(objective, mesh=mesh, mp_policy=policy)

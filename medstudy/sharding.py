"""Several processes, one a device: every one holds all weights (DDP), or its share of them (FSDP); the same gradients.

What is wrapped is the whole loss (`Objective`), because the engine calls a model's parts, not the model. DDP is
accelerate's. FSDP is torch's own `fully_shard`: accelerate (1.15, seen) knows FSDP on accelerators alone and on CPUs
makes DDP of it without a word, which would leave this untested, and it wants to wrap model and optimizers itself.
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
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from medstudy import precision

# Some parameters have no gradient: those of a part that a family leaves out, or of mergers that nothing reads.
DDP = DistributedDataParallelKwargs(broadcast_buffers=False, find_unused_parameters=True, gradient_as_bucket_view=True)


class Objective(torch.nn.Module):
    """A loss as a module over the model that it is computed from: what processes share is its parameters.

    loss(content) -> a sum over the questions of a pass, computed in the model's own type (`medstudy.precision`).
    """

    def __init__(self, model: torch.nn.Module, loss: Callable[[object], torch.Tensor]):
        super().__init__()
        self.model, self.loss = model, loss

    def forward(self, content) -> torch.Tensor:
        with precision.computing(self.model):
            return self.loss(content)


def wrap(objective: Objective, accelerator: Accelerator, sharding: str) -> torch.nn.Module:
    """The objective on this process's device, ready for a step of all processes; sharding: "ddp" or "fsdp".

    Under FSDP the parameters become shares in place: build optimizers after this.
    """
    objective = objective.to(accelerator.device)
    if accelerator.num_processes == 1:
        return objective
    return {"ddp": _replicated, "fsdp": _sharded}[sharding](objective, accelerator)


def summing(wrapped: torch.nn.Module, last: bool) -> AbstractContextManager:
    """Around a backward pass: DDP adds gradients up after a step's last one alone, FSDP after each."""
    return wrapped.no_sync() if isinstance(wrapped, DistributedDataParallel) and not last else nullcontext()


def settle(wrapped: torch.nn.Module) -> None:
    """After passes without a backward one: under FSDP the parameters are shares again."""
    if isinstance(wrapped, FSDPModule):
        wrapped.reshard()


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor of which every process holds a share, as one; all processes must ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def share(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's share of a whole tensor, laid out as `like`, which may be whole itself."""
    if not isinstance(like, DTensor):
        return tensor
    return distribute_tensor(tensor.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def gathered(tree, keep: bool):
    """A tree of dicts and lists with its shares as whole tensors on the CPU; None in their place without `keep`."""
    if isinstance(tree, dict):
        return {name: gathered(part, keep) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)):
        return [gathered(part, keep) for part in tree]
    if isinstance(tree, DTensor):
        one = whole(tree.detach())
        return one.cpu() if keep else None
    return tree


def _replicated(objective: Objective, accelerator: Accelerator) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)  # accelerate passes it on
        return accelerator.prepare_model(objective)


def _sharded(objective: Objective, accelerator: Accelerator) -> torch.nn.Module:
    """Every layer of the language model and block of the tower by itself, the rest (tied embeddings too) together."""
    for parameter in objective.parameters():
        if parameter.requires_grad:
            broadcast(parameter.data)
    model, mesh = objective.model, init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    kind = torch.bfloat16 if precision.mixed(model) else None
    policy = MixedPrecisionPolicy(param_dtype=kind, reduce_dtype=torch.float32 if kind else None)
    for module in model.modules():
        if type(module).__name__ in (model._no_split_modules or ()):
            fully_shard(module, mesh=mesh, mp_policy=policy)
    return fully_shard(objective, mesh=mesh, mp_policy=policy)

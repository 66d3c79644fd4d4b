"""What the processes of a training do together: agree, add up, share work and shard models.

Every function is called by all ranks, in the same order; with one process each does nothing or all of it. Collectives
have no timeout, because a long wait is not an error. A rank that is lost ends the others by its pipe (`processes.py`)
or its host's link (`gang.py`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MethodType
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from runtime.gang import INTERFACE, Rendezvous
from runtime.processes import PROCESSES, RANK
from serve import Call, Cancelled, ServiceError

ON_GPU = torch.cuda.is_available()
FOREVER = timedelta(days=365)
T = TypeVar("T")


# -- The group --------------------------------------------------------------------------------------------------------


def join_processes(rendezvous: Rendezvous | None) -> None:
    """Make the process group of this runtime, or of those of all hosts of a gang; returns when all are in it."""
    if rendezvous is None:
        return
    # A host's name may lead elsewhere, or nowhere.
    os.environ.setdefault("GLOO_SOCKET_IFNAME", INTERFACE)
    os.environ.setdefault("NCCL_SOCKET_IFNAME", INTERFACE)
    if ON_GPU:
        torch.cuda.set_device(0)  # the one that this rank sees
    listener = rendezvous.listener
    # pyright: ignore below, because torch documents the class and its stubs leave it out.
    store = dist.TCPStore(  # pyright: ignore[reportPrivateImportUsage]
        rendezvous.host,
        rendezvous.port,
        PROCESSES,
        is_master=listener is not None,
        timeout=FOREVER,
        master_listen_fd=listener.detach() if listener else None,
    )
    # Tensors on a GPU go by NCCL; flags, sums of numbers and rows stay on the CPU.
    backend = "cpu:gloo,cuda:nccl" if ON_GPU else "cpu:gloo"
    dist.init_process_group(backend, store=store, rank=RANK, world_size=PROCESSES, timeout=FOREVER)
    count_processes()
    on_gpu = int(sum_over_processes(torch.tensor(ON_GPU, dtype=torch.int64)))
    if on_gpu not in (0, PROCESSES):
        raise SystemExit(f"{on_gpu} of {PROCESSES} processes see a GPU; ACECODER_PROCESSES is a host's number of GPUs.")


def count_processes() -> int:
    """The number of processes that take part, counted; raises `RuntimeLost` when it is not what was asked for."""
    counted = int(sum_over_processes(torch.ones(())).item())
    if counted != PROCESSES:
        raise ServiceError(
            "RuntimeLost", f"{counted} processes take part in the training, and {PROCESSES} were asked for."
        )
    return counted


def decided(*flags: bool) -> tuple[bool, ...]:
    """The flags as rank 0 has them."""
    if PROCESSES == 1:
        return flags
    decision = torch.tensor(flags, dtype=torch.uint8)
    dist.broadcast(decision, 0)
    return tuple(map(bool, decision.tolist()))


def raise_if_cancelled(call: Call) -> None:
    """Raise `Cancelled` in all ranks when rank 0 was asked to stop."""
    if decided(call.cancelled)[0]:
        raise Cancelled


def sum_over_processes(tensor: torch.Tensor) -> torch.Tensor:
    """Put the sum of the ranks' tensors into each; returns it."""
    if PROCESSES > 1:
        dist.all_reduce(tensor)
    return tensor


def gather_rows(rows: list[T] | None) -> list[list[T]]:
    """The rows of each rank, in order. Raises `Cancelled` when a rank stopped before it had any (None)."""
    gathered: list[list[T] | None] = [rows]
    if PROCESSES > 1:
        gathered = [None] * PROCESSES
        dist.all_gather_object(gathered, rows)
    whole = [rows for rows in gathered if rows is not None]
    if len(whole) < PROCESSES:
        raise Cancelled
    return whole


def shares(chunks: Sequence[T]) -> Iterator[tuple[T, bool]]:
    """This rank's share of `chunks`, which are dealt out in turn, and whether a chunk counts.

    Each rank gets as many, because a rank that runs nothing would leave the others alone in a collective: where chunks
    run out, the last one is repeated and does not count.
    """
    for first in range(0, len(chunks), PROCESSES):
        index = first + RANK
        yield chunks[min(index, len(chunks) - 1)], index < len(chunks)


def accumulated(model: nn.Module, chunks: Sequence[T], whole_steps: bool) -> Iterator[tuple[T, bool]]:
    """`shares` of the micro-batches of one optimizer step, each for a forward and a backward pass of `model`.

    With `whole_steps`, a sharded model is gathered once for all of them and its gradients are summed after the last
    one. Between them, each device holds whole weights and gradients.
    """
    own = list(shares(chunks))
    sharded = model if whole_steps and isinstance(model, FSDPModule) else None
    for index, share in enumerate(own):
        if sharded is not None:
            is_last = index == len(own) - 1
            sharded.set_reshard_after_forward(False)
            sharded.set_reshard_after_backward(is_last)
            sharded.set_requires_gradient_sync(is_last)
            sharded.set_is_last_backward(is_last)
        yield share
    if sharded is not None:
        sharded.set_reshard_after_forward(True)
        # The backward pass does not come to what lies below the lowest trained block.
        for unit in sharded.modules():
            if isinstance(unit, FSDPModule):
                unit.reshard()


# -- Gradients and parameters -----------------------------------------------------------------------------------------


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Add up the gradients of all ranks; those of a sharded model are added up during the backward pass."""
    for parameter in parameters:
        if parameter.grad is not None and not isinstance(parameter.grad, DTensor):
            sum_over_processes(parameter.grad)


def clip_gradients(parameters: Iterable[nn.Parameter], max_norm: float) -> float:
    """Clip the gradients to a norm of at most `max_norm`; returns the norm before."""
    return whole(nn.utils.clip_grad_norm_(list(parameters), max_norm)).item()


def shard(model: nn.Module, blocks: Iterable[nn.Module], computed_in: torch.dtype | None = None) -> None:
    """Shard the parameters of a model over the ranks by FSDP2 (`fully_shard`), each of `blocks` as one unit.

    A unit is whole on a device only while it computes; the model's arithmetic stays the same. It may lie on the CPU
    before and is moved to the device unit by unit.

    With `computed_in`, autocast's type, weights of blocks go between devices as that type instead of float32, which is
    half of the bytes. Matrices are cast to it before they are multiplied anyway; of a block, only the weights of its
    norms are rounded that would not be. What stands outside of blocks, and all gradients, go as float32.
    """
    if PROCESSES == 1:
        raise ServiceError(
            "InvalidInput",
            "execution.sharding is 'fsdp', and this runtime has one process; name a device class with several GPUs "
            "(execution.deviceClass), or set sharding to 'none'.",
        )
    mesh = init_device_mesh("cuda" if ON_GPU else "cpu", (PROCESSES,))
    # Inputs stay as autocast has them: the residual stream is float32.
    of_blocks = MixedPrecisionPolicy(param_dtype=computed_in, reduce_dtype=torch.float32, cast_forward_inputs=False)
    for unit in (*blocks, model):
        policy = of_blocks if computed_in and unit is not model else MixedPrecisionPolicy()
        sharded: FSDPModule = fully_shard(unit, mesh=mesh, reshard_after_forward=True, mp_policy=policy)
        # The sum, which gloo has too, instead of the mean.
        sharded.set_gradient_divide_factor(1.0)
        sharded.set_force_sum_reduction_for_comms(True)


def forward_by(function: Any, model: nn.Module, *args: Any) -> Any:
    """`function(model, *args)`, which may use parts of a sharded model as its `forward` may."""
    if not isinstance(model, FSDPModule):
        return function(model, *args)
    if not hasattr(model, function.__name__):
        setattr(model, function.__name__, MethodType(function, model))
        register_fsdp_forward_method(model, function.__name__)
    return getattr(model, function.__name__)(*args)


def whole(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor with the shards of all ranks."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def sharded_like(tensor: torch.Tensor, parameter: torch.Tensor) -> torch.Tensor:
    """This rank's shard of a whole tensor, by the layout of `parameter`; it does not hold on to the whole."""
    if not isinstance(parameter, DTensor):
        return tensor
    return distribute_tensor(tensor, parameter.device_mesh, parameter.placements, src_data_rank=None).clone()


def collect(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Whole tensors on the CPU by name, at rank 0; nothing at the others. What has two names stays one tensor."""
    collected: dict[int, torch.Tensor] = {}
    named = {}
    for name, tensor in tensors.items():
        if id(tensor) not in collected:
            full = whole(tensor.detach())
            collected[id(tensor)] = full.cpu().contiguous() if RANK == 0 else torch.empty(0)
        named[name] = collected[id(tensor)]
    return named if RANK == 0 else {}

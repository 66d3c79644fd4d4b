"""What all trainings share about checkpoints: small, complete, few, and written by the clock.

A checkpoint holds what changes: trainable weights, optimizer, position. The start model is an input of the training and
is read again when it resumes. The time of a checkpoint never changes a result: a training that resumes in the same
environment is bit-identical, and the checkpoint says what the environment was. Its tensors are whole, so any number of
processes can resume from it.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from operations import TrainingEnvironment
from runtime.files import new_folder
from runtime.gang import MEMBERS
from runtime.models import DEVICE, IN_BFLOAT16
from runtime.parallel import collect, count_processes, sharded_like
from runtime.processes import PROCESSES, RANK
from serve import Call, ServiceError

KEPT_CHECKPOINTS = 2
WEIGHTS_FILE = "trainable.safetensors"
OPTIMIZER_FILE = "optimizer.safetensors"
ENVIRONMENTS_FILE = "environments.json"


WRITING_SHARE = 0.02
"""Largest share of a training's time in which it stands still while checkpoints are written. Those of large models take
long: 84 GB at 5 GB/s are 17 s, which every 30 s would be a third of the time."""


class CheckpointClock:
    """Says when the next checkpoint is due: `seconds` after the last one, later where writing takes `WRITING_SHARE`.

    The last one tells how long writing takes. 0 seconds are a checkpoint after each step.

    Example: with 30 seconds and a checkpoint that took 17 s to write, the next one is due after 833 s.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._asked = clock()
        self._due = self._asked + seconds

    def due(self) -> bool:
        """Whether a checkpoint is due. The one that is written now began with this question."""
        self._asked = self._clock()
        return self._asked >= self._due

    def restart(self) -> None:
        """Take note that a checkpoint has been written."""
        now = self._clock()
        pause = (now - self._asked) * (1 / WRITING_SHARE - 1)
        self._due = now + (max(self._seconds, pause) if self._seconds > 0 else 0)


# -- Environments -----------------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """What the bits of a result depend on, apart from its inputs and settings."""
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else f"cpu{' in bfloat16' * IN_BFLOAT16}",
        "cpuCapability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "processes": PROCESSES,
        **({"hosts": MEMBERS} if MEMBERS > 1 else {}),
    }


def environments(config: Mapping[str, Any], resume_from: str | None, call: Call) -> list[TrainingEnvironment]:
    """The environments of a training in order, each {step (the first in it is the next), **`environment`, microBatch,
    microBatchTokens?, sharding}. `hosts` is in it where there are several.

    Two or more mean that the training resumed in another environment, so that its bits cannot be repeated. A message
    says so when it happens. The training continues, because the steps that are done are worth more than the last bits.
    """
    count_processes()
    current: dict[str, Any] = {
        **environment(),
        "microBatch": config["microBatch"],
        "sharding": config.get("sharding") or "none",
    }
    if config.get("microBatchTokens"):
        current["microBatchTokens"] = config["microBatchTokens"]
    if resume_from is None:
        return [_at_step(0, current)]
    document = _read_environments(Path(resume_from))
    before = {key: value for key, value in document["environments"][-1].items() if key != "step"}
    if before == current:
        return document["environments"]
    changes = ", ".join(
        f"{key} {before.get(key)} -> {current.get(key)}"
        for key in {**before, **current}
        if before.get(key) != current.get(key)
    )
    message = f"goes on from step {document['step']} in another environment ({changes}): no longer bit-identical"
    print(message, file=sys.stderr, flush=True)
    call.progress(document["step"], 0, message)
    return [*document["environments"], _at_step(document["step"], current)]


def _at_step(step: int, current: Mapping[str, Any]) -> TrainingEnvironment:
    place: TrainingEnvironment = {
        "step": step,
        "torch": current["torch"],
        "device": current["device"],
        "cpuCapability": current["cpuCapability"],
        "threads": current["threads"],
        "processes": current["processes"],
        "microBatch": current["microBatch"],
        "sharding": current["sharding"],
    }
    if "microBatchTokens" in current:
        place["microBatchTokens"] = current["microBatchTokens"]
    if "hosts" in current:
        place["hosts"] = current["hosts"]
    return place


def _read_environments(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / ENVIRONMENTS_FILE).read_text())
    except (OSError, ValueError) as error:
        raise ServiceError("InvalidInput", f"There is no {folder / ENVIRONMENTS_FILE} of a checkpoint.") from error


# -- Reading and writing ----------------------------------------------------------------------------------------------


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of `model` that a training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def write_checkpoint(
    checkpoints: str,
    step: int,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    environments: list[TrainingEnvironment],
    write_rest: Callable[[Path], None],
) -> str:
    """Write a complete checkpoint and return its folder; `write_rest` adds what the training has of its own."""
    path = checkpoint_folder(checkpoints, step)
    weights, moments = collect(trainable_parameters(model)), optimizer_tensors(optimizer, model)
    if RANK == 0:
        with new_folder(path) as folder:
            save_file(weights, folder / WEIGHTS_FILE)
            save_file(moments, folder / OPTIMIZER_FILE)
            (folder / ENVIRONMENTS_FILE).write_text(json.dumps({"step": step, "environments": environments}))
            write_rest(folder)
        keep_newest(checkpoints)
    return path


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into `model`. Raises `InvalidInput` when they are not exactly its trainable ones."""
    parameters = trainable_parameters(model)
    with _open(folder / WEIGHTS_FILE) as tensors, torch.no_grad():
        if set(tensors.keys()) != parameters.keys():
            message = f"The checkpoint {folder} belongs to another model or upperLayers; resume with its own settings."
            raise ServiceError("InvalidInput", message)
        for name, parameter in parameters.items():
            parameter.copy_(sharded_like(tensors.get_tensor(name), parameter))


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, torch.Tensor]:
    """Adam's moments and step of each trainable parameter under "<parameter>/<moment>", at rank 0."""
    states = {name: optimizer.state[parameter] for name, parameter in trainable_parameters(model).items()}
    return collect({f"{name}/{key}": value for name, state in states.items() for key, value in state.items()})


def load_optimizer(optimizer: torch.optim.Optimizer, model: nn.Module, folder: Path) -> None:
    """Put Adam's state, as `optimizer_tensors` has it, into an optimizer. Raises `InvalidInput` for another model's."""
    trainable = trainable_parameters(model)
    # Adam keeps its step counter on the CPU, unless its kernel is fused.
    fused = any(group.get("fused") for group in optimizer.param_groups)
    with _open(folder / OPTIMIZER_FILE) as tensors:
        keys = [key.rsplit("/", 1) for key in tensors.keys()]  # noqa: SIM118 - not a dict
        if {name for name, _ in keys} != trainable.keys():
            raise ServiceError(
                "InvalidInput",
                f"The optimizer state in {folder} belongs to another model or upperLayers; start without resumeState.",
            )
        for name, moment in keys:
            value = tensors.get_tensor(f"{name}/{moment}")
            if moment != "step":
                value = sharded_like(value, trainable[name])
            elif not fused:
                value = value.cpu()
            optimizer.state[trainable[name]][moment] = value


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises `InvalidInput` when there is no such file."""
    with _open(path) as tensors:
        return {name: tensors.get_tensor(name) for name in tensors.keys()}  # noqa: SIM118 - not a dict


def _open(path: Path) -> Any:
    """A safetensors file, whose tensors are read one by one: a device may have no room for all of a sharded model's."""
    if not path.is_file():
        raise ServiceError("InvalidInput", f"There is no {path}; the checkpoint or state folder is incomplete.")
    return safe_open(path, "pt", device=str(DEVICE))


def checkpoint_folder(checkpoints: str, step: int) -> str:
    """Where the checkpoint after `step` optimizer steps lies; the name is the one transformers' Trainer uses."""
    return str(Path(checkpoints, f"checkpoint-{step}"))


def clear_checkpoints(checkpoints: str, resume_from: str | None) -> None:
    """Delete what an earlier attempt left, except the checkpoint to resume from."""
    if RANK != 0:
        return
    for folder in Path(checkpoints).glob("checkpoint-*"):
        if resume_from is None or folder.resolve() != Path(resume_from).resolve():
            shutil.rmtree(folder)


def keep_newest(checkpoints: str) -> None:
    """Delete all but the newest `KEPT_CHECKPOINTS` checkpoints."""
    folders = sorted(Path(checkpoints).glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in folders[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(folder)

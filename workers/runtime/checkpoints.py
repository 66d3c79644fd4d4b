"""What the two trainings share about checkpoints: small, complete, few, and written by the clock.

A checkpoint holds what changes: trainable weights, optimizer, position. The start model is an input of the training and
is read again when it resumes. When one is written never changes a result, because a resumed training is bit-identical.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from runtime.models import DEVICE
from serve import ServiceError

KEPT_CHECKPOINTS = 2
WEIGHTS_FILE = "trainable.safetensors"


class CheckpointClock:
    """Says when the next checkpoint is due: `seconds` after the last one."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.restart()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self._seconds

    def restart(self) -> None:
        self._last = time.monotonic()


def save_trainable(model: nn.Module, folder: Path) -> None:
    """Write the trainable parameters of `model` by name."""
    tensors = {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}
    save_file(tensors, folder / WEIGHTS_FILE)


def load_trainable(model: nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into `model`. Raises `InvalidInput` when they are not exactly its trainable ones."""
    tensors = load_tensors(folder / WEIGHTS_FILE)
    parameters = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if tensors.keys() != parameters.keys():
        message = f"The checkpoint {folder} belongs to another model or upperLayers; resume with its own settings."
        raise ServiceError("InvalidInput", message)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


def load_tensors(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a safetensors file. Raises `InvalidInput` when there is no such file."""
    if not path.is_file():
        raise ServiceError("InvalidInput", f"There is no {path}; the checkpoint or state folder is incomplete.")
    return load_file(path, device=str(DEVICE))


def checkpoint_folder(checkpoints: str, step: int) -> str:
    """Where the checkpoint after `step` optimizer steps lies; the name is the one transformers' Trainer uses."""
    return str(Path(checkpoints, f"checkpoint-{step}"))


def clear_checkpoints(checkpoints: str, resume_from: str | None) -> None:
    """Delete what an earlier attempt left, except the checkpoint to resume from."""
    for folder in Path(checkpoints).glob("checkpoint-*"):
        if resume_from is None or folder.resolve() != Path(resume_from).resolve():
            shutil.rmtree(folder)


def keep_newest(checkpoints: str) -> None:
    """Delete all but the newest `KEPT_CHECKPOINTS` checkpoints."""
    folders = sorted(Path(checkpoints).glob("checkpoint-*"), key=lambda folder: int(folder.name.split("-")[1]))
    for folder in folders[:-KEPT_CHECKPOINTS]:
        shutil.rmtree(folder)

"""What the trainings of a policy share: the order of rows, Adam, and the loop over optimizer steps.

The loss of a step is a sum over its tokens, so that micro-batches change nothing. Adam has the betas (0.9, 0.95) and no
weight decay, as in OpenRLHF. A seeded permutation orders the rows of each epoch, whose last step may be smaller. On
several processes each takes its share of a step's micro-batches, and gradients are summed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from operations import TrainingEnvironment
from runtime.checkpoints import (
    CheckpointClock,
    load_optimizer,
    load_trainable,
    trainable_parameters,
    write_checkpoint,
)
from runtime.micro_batches import limit
from runtime.models import deterministic, out_of_memory
from runtime.parallel import clip_gradients, decided, sum_gradients
from serve import Call, Cancelled, ServiceError

POSITION_FILE = "position.json"
ADAM_BETAS = (0.9, 0.95)

Curve = list[dict[str, float]]


def steps_of(rows: int, config: Mapping[str, Any]) -> list[list[int]]:
    """The indices of the rows of each optimizer step, epoch after epoch; config = {epochs, seed, batchSize}."""
    return list(_steps(rows, config["epochs"], config["seed"], config["batchSize"]))


def _steps(rows: int, epochs: int, seed: int, batch_size: int) -> Iterator[list[int]]:
    for epoch in range(epochs):
        order = np.random.Generator(np.random.PCG64([seed, epoch])).permutation(rows).tolist()
        for start in range(0, rows, batch_size):
            yield order[start : start + batch_size]


def whole_steps(config: Mapping[str, Any]) -> bool:
    """Whether a sharded model is whole from the first micro-batch of a step to the last; config = {sharding?}."""
    return config.get("sharding") == "fsdpStep"


def adam(model: PreTrainedModel, learning_rate: float) -> torch.optim.Adam:
    """The optimizer of what is trainable in `model`."""
    parameters = trainable_parameters(model).values()
    return torch.optim.Adam(parameters, lr=learning_rate, betas=ADAM_BETAS, fused=True)


def diverged(loss: float, grad_norm: float, step: int, learning_rate: float) -> ServiceError:
    """The error of a training whose loss or gradient is not finite at a step, counted from 1."""
    message = f"Loss {loss} and gradient norm {grad_norm} at step {step} with learning rate {learning_rate}"
    return ServiceError("TrainingDiverged", f"{message}; lower learningRate.")


@dataclass
class Training:
    """A model in training, with what is written to its checkpoints."""

    model: PreTrainedModel
    optimizer: torch.optim.Optimizer
    environments: list[TrainingEnvironment]
    """As `checkpoints.environments` gives them."""
    checkpoints: str
    config: Mapping[str, Any]
    """At least {learningRate, microBatch, checkpointSeconds}."""
    curve: Curve = field(default_factory=list)
    """{step, loss, gradNorm, ...} of each step that is done."""

    def resume(self, folder: Path) -> None:
        """Go on from a checkpoint. Raises `InvalidInput` for one of another model or `upperLayers`."""
        load_trainable(self.model, folder)
        load_optimizer(self.optimizer, self.model, folder)
        self.curve = json.loads((folder / POSITION_FILE).read_text())["curve"]

    def run(
        self,
        steps: Sequence[Sequence[int]],
        step: Callable[[Sequence[int], int], Mapping[str, float]],
        call: Call,
        message: str,
        write_rest: Callable[[Path], None] = lambda folder: None,
    ) -> Curve:
        """Take the steps that are left, and return the curve of all.

        `step` takes one optimizer step over rows, given its index, and returns {loss, gradNorm, ...}. A checkpoint is
        written when the clock says so and when the call is cancelled; `write_rest` adds what the training has of its
        own. Raises `TrainingDiverged`, `OutOfMemory`, and `Cancelled` after the last checkpoint.
        """
        clock = CheckpointClock(self.config["checkpointSeconds"])
        for index in range(len(self.curve), len(steps)):
            with deterministic(), out_of_memory(*limit(self.config)):
                metrics = step(steps[index], index)
            done = index + 1
            self.curve.append({"step": done, **metrics})
            call.progress(done, len(steps), message, metrics)
            cancelled, due = decided(call.cancelled, clock.due())
            if cancelled or due:
                call.checkpoint(done, self._write_checkpoint(done, write_rest))
                clock.restart()
            if cancelled:
                raise Cancelled
        return self.curve

    def apply_gradients(self, max_norm: float, loss: float) -> float:
        """Sum the gradients of all processes, clip them and step; returns the norm before clipping.

        `loss` is the step's, of all processes. Raises `TrainingDiverged` before the step where it or the norm is not
        finite: weights and optimizer are then those of the step before.
        """
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        sum_gradients(parameters)
        grad_norm = clip_gradients(parameters, max_norm)
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            raise diverged(loss, grad_norm, len(self.curve) + 1, self.config["learningRate"])
        self.optimizer.step()
        return grad_norm

    def _write_checkpoint(self, done: int, write_rest: Callable[[Path], None]) -> str:
        def write(folder: Path) -> None:
            write_rest(folder)
            (folder / POSITION_FILE).write_text(json.dumps({"steps": done, "curve": self.curve}))

        return write_checkpoint(self.checkpoints, done, self.model, self.optimizer, self.environments, write)

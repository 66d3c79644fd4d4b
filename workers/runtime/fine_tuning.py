"""Supervised fine-tuning of a policy on programs that pass: rejection sampling, the baseline of every RL result.

The loss of an optimizer step is the mean cross-entropy of its completion tokens. It is a sum over micro-batches, which
change nothing but rounding. Prompt tokens have no loss. A completion ends as the answer of a policy does: an open fence
is closed, and the end of sequence follows. Prompt and completion are encoded apart, because a policy that samples reads
the prompt's tokens and adds its own.

The learning rate rises linearly to its peak and stays there, or falls along a cosine. `runtime/training.py` says what
is the same as in the policy update.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from operations import FineTuneConfig, FineTuneParams, FineTuneResult
from runtime.checkpoints import clear_checkpoints, environments
from runtime.conversation import answer_ids, prompt_ids
from runtime.files import Row, read_rows
from runtime.log_probabilities import log_probabilities
from runtime.micro_batches import micro_batches
from runtime.models import load_policy, recompute_blocks, save_model
from runtime.parallel import accumulated, sum_over_processes
from runtime.processes import PROCESSES
from runtime.training import Training, adam, steps_of, whole_steps
from serve import Call, ServiceError

ROW_FIELDS = ("id", "questionId", "messages", "assistantPrefix", "completion")
MAX_GRAD_NORM = 1.0


def fine_tune(params: FineTuneParams, call: Call) -> FineTuneResult:
    """Train `model` on the completions of a file.

    rows: {id, questionId, messages, assistantPrefix, completion}, where the completion is the program after the prefix.
    A row with more than `maxLength` tokens, or than the model's context holds, is left out and counted.
    Bit-identical whether or not it was interrupted, in one environment.
    Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `TrainingDiverged`, `Cancelled` (after a last checkpoint).
    """
    config, resume_from = params["config"], params.get("resumeFrom")
    rows = read_rows(params["rows"], ROW_FIELDS)
    clear_checkpoints(params["checkpoints"], resume_from)
    been_in = environments(config, resume_from, call)
    policy, tokenizer = load_policy(
        params["model"], upper_layers=config["upperLayers"], sharding=config.get("sharding", "none")
    )
    fitting = _fitting(tokenizer, rows, min(config["maxLength"], _context(policy)))
    if not fitting:
        raise ServiceError(
            "InvalidInput",
            f"None of the {len(rows)} rows has at most {config['maxLength']} tokens (maxLength) and fits into the "
            "model's context; raise maxLength or sample shorter programs.",
        )
    if config.get("gradientCheckpointing"):
        recompute_blocks(policy)
    training = Training(policy, adam(policy, config["learningRate"]), been_in, params["checkpoints"], config)
    if resume_from:
        training.resume(Path(resume_from))
    steps = steps_of(len(fitting), config)

    def step(indices: Sequence[int], index: int) -> Mapping[str, float]:
        for group in training.optimizer.param_groups:
            group["lr"] = learning_rate(index, len(steps), config)
        return _optimizer_step(training, fitting, indices)

    curve = training.run(steps, step, call, "fine-tuning the policy")
    save_model(policy, tokenizer, params["output"])
    return {
        "steps": len(curve),
        "processes": PROCESSES,
        "environments": been_in,
        "rows": len(fitting),
        "tooLong": len(rows) - len(fitting),
        "tokens": sum(len(row["completionIds"]) for row in fitting),
        "curve": [{"step": int(point["step"]), "loss": point["loss"]} for point in curve],
    }


def learning_rate(index: int, steps: int, config: FineTuneConfig) -> float:
    """Learning rate of the step `index`, from 0, of `steps`.

    With w = ceil(warmupRatio * steps): peak * (index + 1) / w below w. From there on the peak, or with the schedule
    "cosine" peak * (1 + cos(pi * (index - w) / (steps - w))) / 2.
    """
    peak, warmup = config["learningRate"], math.ceil(config["warmupRatio"] * steps)
    if index < warmup:
        return peak * (index + 1) / warmup
    if config["schedule"] == "constant":
        return peak
    return peak * 0.5 * (1 + math.cos(math.pi * (index - warmup) / (steps - warmup)))


def _optimizer_step(training: Training, rows: Sequence[Row], indices: Sequence[int]) -> dict[str, float]:
    """One step over the rows `indices`; its loss is in nats per completion token."""
    tokens = sum(len(rows[index]["completionIds"]) for index in indices)
    loss_sum = torch.zeros(1, dtype=torch.float64)
    training.optimizer.zero_grad()
    for chunk, counts in accumulated(
        training.model, micro_batches(rows, indices, training.config), whole_steps(training.config)
    ):
        logp_BT, mask_BT = log_probabilities(training.model, [rows[index] for index in chunk], temperature=1.0)
        loss = -(logp_BT * (counts * mask_BT / tokens)).sum()
        loss.backward()
        loss_sum += loss.item()
    loss_of_all = sum_over_processes(loss_sum).item()
    return {"loss": loss_of_all, "gradNorm": training.apply_gradients(MAX_GRAD_NORM, loss_of_all)}


def _fitting(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int) -> list[dict[str, Any]]:
    """Rows {id, promptIds, completionIds} of at most `max_length` tokens."""
    encoded = [
        {
            "id": row["id"],
            "promptIds": prompt_ids(tokenizer, row["messages"], row["assistantPrefix"]),
            "completionIds": answer_ids(tokenizer, row["assistantPrefix"], row["completion"]),
        }
        for row in rows
    ]
    return [row for row in encoded if len(row["promptIds"]) + len(row["completionIds"]) <= max_length]


def _context(model: PreTrainedModel) -> int:
    return model.config.max_position_embeddings

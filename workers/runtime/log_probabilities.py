"""Log-probabilities of completions by a policy: of each token, with a mask, and the entropy where it is wanted.

They are those of logits / temperature, by the models as they are trained here and not as the sampler saw them. The
output head sees no prompt and no padding, and `output_head.py` sees to it that it sees a chunk of tokens at a time.

Tensor names end in their shape: B rollouts, T completion positions, X prompt and completion positions, N completion
tokens of all rows, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from runtime.files import Row
from runtime.micro_batches import micro_batches
from runtime.models import DEVICE, autocast, load_policy, warm_policy
from runtime.output_head import token_log_probabilities
from runtime.parallel import forward_by, raise_if_cancelled, shares, sum_over_processes
from runtime.processes import PROCESSES
from serve import Call, ServiceError

FIXED = ("old_BT", "reference_BT", "entropy_BT", "mask_BT")
"""What the models are asked before an update and what stays fixed during it; float32 [B, T]."""


def log_probabilities(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token, and mask: float32 [B, T], 0 outside the mask.

    Rows are {promptIds, completionIds}. Prompts are padded on the left and completions on the right: the completions of
    a batch then share their columns.
    """
    logp_BT, _, mask_BT = log_probabilities_and_entropies(model, rows, temperature, entropies=False)
    return logp_BT, mask_BT


def log_probabilities_and_entropies(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float, entropies: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `log_probabilities`, with the entropy of each token's distribution in nats between the two, [B, T]."""
    width_P, width_T = (max(len(row[name]) for row in rows) for name in ("promptIds", "completionIds"))
    ids, attended, mask = [], [], []
    for row in rows:
        prompt, completion = row["promptIds"], row["completionIds"]
        before, behind = width_P - len(prompt), width_T - len(completion)
        ids.append([0] * before + prompt + completion + [0] * behind)
        attended.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * behind)
        mask.append([1.0] * len(completion) + [0.0] * behind)
    at = [index * width_T + place for index, row in enumerate(rows) for place in range(len(row["completionIds"]))]
    mask_BT = torch.tensor(mask, device=DEVICE)
    at_N = torch.tensor(at, device=DEVICE)
    inputs = (torch.tensor(ids, device=DEVICE), torch.tensor(attended, device=DEVICE), width_T, at_N)
    with autocast():
        if _head_is_all(model):
            logp_N, entropy_N = forward_by(_by_chunks, model, *inputs, temperature, entropies)
        else:
            logp_N, entropy_N = _by_all_logits(model, *inputs, temperature, entropies)
    zero = torch.zeros(mask_BT.numel(), device=DEVICE)
    return (
        zero.index_copy(0, at_N, logp_N).view_as(mask_BT),
        zero.index_copy(0, at_N, entropy_N).view_as(mask_BT),
        mask_BT,
    )


def fixed_log_probabilities(
    policy: PreTrainedModel, reference_path: str | None, rollouts: Sequence[Row], config: Mapping[str, Any], call: Call
) -> dict[str, torch.Tensor]:
    """The tensors that `FIXED` names, over all rollouts.

    Without `reference_path` the policy is its own reference, as in a first round, and is asked once.
    """
    shape = (len(rollouts), max(len(row["completionIds"]) for row in rollouts))
    logs = {name: torch.zeros(shape, device=DEVICE) for name in FIXED}
    reference = None
    if reference_path and config.get("sharding", "none") == "none":
        reference = warm_policy(reference_path, torch.float32)[0]
    elif reference_path:
        reference = load_policy(reference_path, sharding=config["sharding"])[0]
    done = 0
    for chunk, counts in shares(micro_batches(rollouts, range(len(rollouts)), config)):
        raise_if_cancelled(call)
        rows = [rollouts[index] for index in chunk]
        old_bT, entropy_bT, mask_bT = log_probabilities_and_entropies(policy, rows, config["temperature"])
        reference_bT = log_probabilities(reference, rows, config["temperature"])[0] if reference else old_bT
        if not counts:
            continue
        for name, values_bT in zip(FIXED, (old_bT, reference_bT, entropy_bT, mask_bT), strict=True):
            logs[name][chunk, : values_bT.shape[-1]] = values_bT
        done += len(chunk) * PROCESSES
        call.progress(min(done, len(rollouts)), len(rollouts), "log-probabilities of the rollouts")
    return {name: sum_over_processes(values) for name, values in logs.items()}  # a rollout's row is 0 in other ranks


def sampler_log_probabilities(rollouts: Sequence[Row], mask_BT: torch.Tensor) -> torch.Tensor:
    """The sampler's log-probabilities [B, T] as the rollouts carry them, 0 outside the mask.

    Raises `InvalidInput` for a rollout that does not carry one for each token.
    """
    sampler_BT = torch.zeros_like(mask_BT)
    for index, row in enumerate(rollouts):
        if len(row.get("logProbs") or ()) != len(row["completionIds"]):
            raise ServiceError(
                "InvalidInput",
                f"Rollout {row['id']} has {len(row.get('logProbs') or ())} log-probabilities of the sampler for "
                f"{len(row['completionIds'])} tokens; importance weights need one for each.",
            )
        sampler_BT[index, : len(row["logProbs"])] = torch.tensor(row["logProbs"], device=mask_BT.device)
    return sampler_BT


_heads_that_are_all: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _head_is_all(model: PreTrainedModel) -> bool:
    """Whether the model's logits are its output head over its last hidden states and nothing else.

    Some models scale or cap them, each by a setting of its own. So the model is asked with a few tokens, once; those
    of one alone could all be 0, which is what an embedding has for padding.
    """
    if model not in _heads_that_are_all:
        embedding: Any = model.get_input_embeddings()
        with torch.no_grad():
            ids_BX = torch.arange(8, device=DEVICE)[None] % embedding.num_embeddings
            _heads_that_are_all[model] = forward_by(_logits_are_of_head, model, ids_BX)
    return _heads_that_are_all[model]


def _logits_are_of_head(model: Any, ids_BX: torch.Tensor) -> bool:
    head, body = model.get_output_embeddings(), model.base_model
    if not isinstance(head, nn.Linear) or body is model:
        return False
    hidden_BXH = body(input_ids=ids_BX, use_cache=False).last_hidden_state
    return torch.equal(head(hidden_BXH), model.forward(input_ids=ids_BX, use_cache=False).logits)


def _by_chunks(
    model: Any, ids_BX: torch.Tensor, attended_BX: torch.Tensor, width_T: int, at_N: torch.Tensor, temperature: float,
    entropies: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """Log-probabilities and entropies [N] of the completion tokens at `at_N` of [B, T] in a row."""
    hidden_BXH = model.base_model(**_inputs(ids_BX, attended_BX)).last_hidden_state
    # What stands before a token tells of it.
    hidden_NH = hidden_BXH[:, -width_T - 1 : -1].flatten(0, 1).index_select(0, at_N)
    ids_N = ids_BX[:, -width_T:].flatten()[at_N]
    return token_log_probabilities(hidden_NH, model.get_output_embeddings(), ids_N, temperature, entropies)


def _by_all_logits(
    model: Any, ids_BX: torch.Tensor, attended_BX: torch.Tensor, width_T: int, at_N: torch.Tensor, temperature: float,
    entropies: bool,
) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
    """The same by the logits as the model gives them."""
    logits_BTV = model(**_inputs(ids_BX, attended_BX), logits_to_keep=width_T + 1).logits[:, :-1]
    all_logp_NV = (logits_BTV.flatten(0, 1).index_select(0, at_N).float() / temperature).log_softmax(-1)
    logp_N = all_logp_NV.gather(-1, ids_BX[:, -width_T:].flatten()[at_N, None]).squeeze(-1)
    if not entropies:
        return logp_N, torch.zeros_like(logp_N)
    return logp_N, -(all_logp_NV.exp() * all_logp_NV).sum(-1)


def _inputs(ids_BX: torch.Tensor, attended_BX: torch.Tensor) -> dict[str, Any]:
    return {
        "input_ids": ids_BX,
        "attention_mask": attended_BX,
        "position_ids": (attended_BX.cumsum(-1) - 1).clamp(min=0),
        "use_cache": False,
    }

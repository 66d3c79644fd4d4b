"""Log-probabilities of completions by a policy: of each token, with a mask, and the entropy where it is wanted.

They are those of logits / temperature, by the models as they are trained here and not as the sampler saw them.

Tensor names end in their shape: B rollouts, T completion positions, X prompt and completion positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from runtime.files import Row
from runtime.models import DEVICE, autocast, load_policy, warm_policy
from runtime.parallel import raise_if_cancelled, shares, sum_over_processes
from runtime.processes import PROCESSES
from serve import Call, ServiceError

FIXED = ("old_BT", "reference_BT", "entropy_BT", "mask_BT")
"""What the models are asked before an update and what stays fixed during it; float32 [B, T]."""


def log_probabilities(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token, and mask: float32 [B, T], 0 outside the mask.

    Rows are {promptIds, completionIds}. Prompts are padded on the left and completions on the right: the completions of
    a batch then share their columns, and the output head sees no prompt.
    """
    all_logp_BTV, ids_BT, mask_BT = _distributions(model, rows, temperature)
    return _of_tokens(all_logp_BTV, ids_BT, mask_BT), mask_BT


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
    for chunk, counts in shares(micro_batches(rollouts, range(len(rollouts)), config["microBatch"])):
        raise_if_cancelled(call)
        rows = [rollouts[index] for index in chunk]
        all_logp_bTV, ids_bT, mask_bT = _distributions(policy, rows, config["temperature"])
        old_bT = _of_tokens(all_logp_bTV, ids_bT, mask_bT)
        entropy_bT = -(all_logp_bTV.exp() * all_logp_bTV).sum(-1) * mask_bT
        del all_logp_bTV  # the largest tensor, and the reference makes another one
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


def micro_batches(rows: Sequence[Row], indices: Sequence[int], micro_batch: int) -> list[list[int]]:
    """`indices` in chunks of `micro_batch`, longest completion first; a loss that is a sum leaves their order free."""
    ordered = sorted(indices, key=lambda index: (-len(rows[index]["completionIds"]), index))
    return [ordered[start : start + micro_batch] for start in range(0, len(ordered), micro_batch)]


def _distributions(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probabilities of the whole vocabulary [B, T, V], ids of the completions [B, T], and mask [B, T]."""
    width_P, width_T = (max(len(row[name]) for row in rows) for name in ("promptIds", "completionIds"))
    ids, attended, mask = [], [], []
    for row in rows:
        prompt, completion = row["promptIds"], row["completionIds"]
        before, behind = width_P - len(prompt), width_T - len(completion)
        ids.append([0] * before + prompt + completion + [0] * behind)
        attended.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * behind)
        mask.append([1.0] * len(completion) + [0.0] * behind)
    ids_BX = torch.tensor(ids, device=DEVICE)
    attended_BX = torch.tensor(attended, device=DEVICE)
    mask_BT = torch.tensor(mask, device=DEVICE)
    with autocast():
        logits_BTV = model(
            input_ids=ids_BX,
            attention_mask=attended_BX,
            position_ids=(attended_BX.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=width_T + 1,
        ).logits[:, :-1]
    return (logits_BTV.float() / temperature).log_softmax(-1), ids_BX[:, width_P:], mask_BT


def _of_tokens(all_logp_BTV: torch.Tensor, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    return all_logp_BTV.gather(-1, ids_BT[..., None]).squeeze(-1) * mask_BT

"""Log-probabilities of completions by a policy: of each token, with a mask, and the entropy where it is wanted.

They are those of logits / temperature, by the models as they are trained here and not as the sampler saw them. The
output head sees no prompt and no padding, and `output_head.py` sees to it that it sees a chunk of tokens at a time.

Tensor names end in their shape: B rollouts, T completion positions, X positions of a row as the model takes it, N
completion tokens of all rollouts, H hidden, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import nn
from transformers import PreTrainedModel

from runtime import packing
from runtime.adapters import switched_off
from runtime.files import Row
from runtime.micro_batches import micro_batches
from runtime.models import DEVICE, autocast, load_policy, warm_policy
from runtime.output_head import token_log_probabilities
from runtime.packing import can_pack, pack
from runtime.parallel import forward_by, raise_if_cancelled, shares, sum_over_processes
from runtime.processes import PROCESSES
from serve import Call, ServiceError

FIXED = ("old_BT", "reference_BT", "entropy_BT", "mask_BT")
"""What the models are asked before an update and what stays fixed during it; float32 [B, T]."""


def log_probabilities(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token, and mask: float32 [B, T], 0 outside the mask.

    Rows are {promptIds, completionIds}. They stand in one row without padding where the model's attention allows it
    (`packing.py`), and are padded otherwise.
    """
    logp_BT, _, mask_BT = log_probabilities_and_entropies(model, rows, temperature, entropies=False)
    return logp_BT, mask_BT


def log_probabilities_and_entropies(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float, entropies: bool = True
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As `log_probabilities`, with the entropy of each token's distribution in nats between the two, [B, T]."""
    width_T = max(len(row["completionIds"]) for row in rows)
    batch = _packed(rows, width_T) if _packs(model) else _padded(rows, width_T)
    mask_BT = torch.tensor(
        [[1.0] * len(row["completionIds"]) + [0.0] * (width_T - len(row["completionIds"])) for row in rows],
        device=DEVICE,
    )
    way = _by_chunks if _head_is_all(model) else _by_all_logits
    with autocast():
        logp_N, entropy_N = forward_by(way, model, batch, temperature, entropies)
    zero = torch.zeros(mask_BT.numel(), device=DEVICE)
    return (
        zero.index_copy(0, batch.place_N, logp_N).view_as(mask_BT),
        zero.index_copy(0, batch.place_N, entropy_N).view_as(mask_BT),
        mask_BT,
    )


def fixed_log_probabilities(
    policy: PreTrainedModel, reference_path: str | None, rollouts: Sequence[Row], config: Mapping[str, Any], call: Call
) -> dict[str, torch.Tensor]:
    """The tensors that `FIXED` names, over all rollouts.

    Without `reference_path` the policy is its own reference, as in a first round, and is asked once. The reference of a
    policy with adapters is the policy with its adapters switched off, and no second copy of the weights is loaded.
    """
    shape = (len(rollouts), max(len(row["completionIds"]) for row in rollouts))
    logs = {name: torch.zeros(shape, device=DEVICE) for name in FIXED}
    reference, below = None, bool(config.get("lora"))
    if reference_path and below:
        reference = policy
    elif reference_path and config.get("sharding", "none") == "none":
        reference = warm_policy(reference_path, torch.float32)[0]
    elif reference_path:
        reference = load_policy(reference_path, sharding=config["sharding"])[0]
    done = 0
    for chunk, counts in shares(micro_batches(rollouts, range(len(rollouts)), config)):
        raise_if_cancelled(call)
        rows = [rollouts[index] for index in chunk]
        old_bT, entropy_bT, mask_bT = log_probabilities_and_entropies(policy, rows, config["temperature"])
        with switched_off(policy) if below else nullcontext():
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


# -- Rows as a model takes them ---------------------------------------------------------------------------------------


class _Batch(NamedTuple):
    """The rows of a micro-batch. Their completion tokens stand in any order, which is one for all tensors."""

    inputs: dict[str, Any]
    """The arguments of the model's forward pass."""
    kept: int | torch.Tensor
    """The positions that tell of completion tokens: so many last ones of each row, or these."""
    at_N: torch.Tensor | slice
    """Where, of what is kept of all rows, the position before each completion token is."""
    ids_N: torch.Tensor
    place_N: torch.Tensor
    """The place of each completion token in [B, T]."""


def _packed(rows: Sequence[Row], width_T: int) -> _Batch:
    packed = pack(rows)
    tokens = [(index, place) for index in packed.order for place in range(len(rows[index]["completionIds"]))]
    return _Batch(
        packing.inputs(packed, DEVICE),
        torch.tensor(packed.before, device=DEVICE),
        slice(None),
        torch.tensor([rows[index]["completionIds"][place] for index, place in tokens], device=DEVICE),
        torch.tensor([index * width_T + place for index, place in tokens], device=DEVICE),
    )


def _padded(rows: Sequence[Row], width_T: int) -> _Batch:
    """Prompts are padded on the left and completions on the right: the completions then share their columns."""
    width_P = max(len(row["promptIds"]) for row in rows)
    ids, attended = [], []
    for row in rows:
        prompt, completion = row["promptIds"], row["completionIds"]
        before, behind = width_P - len(prompt), width_T - len(completion)
        ids.append([0] * before + prompt + completion + [0] * behind)
        attended.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * behind)
    attended_BX = torch.tensor(attended, device=DEVICE)
    tokens = [(index, place) for index, row in enumerate(rows) for place in range(len(row["completionIds"]))]
    return _Batch(
        {
            "input_ids": torch.tensor(ids, device=DEVICE),
            "attention_mask": attended_BX,
            "position_ids": (attended_BX.cumsum(-1) - 1).clamp(min=0),
            "use_cache": False,
        },
        width_T + 1,
        torch.tensor([index * (width_T + 1) + place for index, place in tokens], device=DEVICE),
        torch.tensor([rows[index]["completionIds"][place] for index, place in tokens], device=DEVICE),
        torch.tensor([index * width_T + place for index, place in tokens], device=DEVICE),
    )


# -- What a model can do ----------------------------------------------------------------------------------------------


_heads_that_are_all: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()
_models_that_pack: WeakKeyDictionary[nn.Module, bool] = WeakKeyDictionary()


def _packs(model: PreTrainedModel) -> bool:
    """Whether the model takes packed rows, as `packing.can_pack` finds, once."""
    if model not in _models_that_pack:
        with torch.no_grad():
            _models_that_pack[model] = forward_by(can_pack, model)
    return _models_that_pack[model]


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


# -- Forward passes ---------------------------------------------------------------------------------------------------


def _by_chunks(model: Any, batch: _Batch, temperature: float, entropies: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and entropies [N] of the completion tokens."""
    hidden_BXH = model.base_model(**batch.inputs).last_hidden_state
    kept = slice(-batch.kept, None) if isinstance(batch.kept, int) else batch.kept
    hidden_NH = hidden_BXH[:, kept].flatten(0, 1)[batch.at_N]
    return token_log_probabilities(hidden_NH, model.get_output_embeddings(), batch.ids_N, temperature, entropies)


def _by_all_logits(model: Any, batch: _Batch, temperature: float, entropies: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by the logits as the model gives them."""
    logits_BXV = model(**batch.inputs, logits_to_keep=batch.kept).logits
    all_logp_NV = (logits_BXV.flatten(0, 1)[batch.at_N].float() / temperature).log_softmax(-1)
    logp_N = all_logp_NV.gather(-1, batch.ids_N[:, None]).squeeze(-1)
    if not entropies:
        return logp_N, torch.zeros_like(logp_N)
    return logp_N, -(all_logp_NV.exp() * all_logp_NV).sum(-1)

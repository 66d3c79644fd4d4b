"""Scores of conversations by a reward model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from runtime.conversation import conversation_ids
from runtime.files import read_rows, write_rows
from runtime.models import DEVICE, out_of_memory, warm_reward_model
from serve import Call, ServiceError


def score(params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Score the responses of a file.

    params: model (folder of a reward model), rows (rows {id, messages, assistantPrefix, response}), output, microBatch.
    Output rows in input order: {id, score}, the score unbounded. Result: {rows, scoreMean, scoreStd} (population
    standard deviation; null without rows). Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `Cancelled`.
    """
    rows = read_rows(params["rows"], ("id", "messages", "assistantPrefix", "response"))
    model, tokenizer = warm_reward_model(params["model"])
    conversations = [
        conversation_ids(tokenizer, row["messages"], row["assistantPrefix"], row["response"]) for row in rows
    ]
    scores = score_conversations(model, conversations, params["microBatch"], call)
    write_rows(params["output"], ({"id": row["id"], "score": value} for row, value in zip(rows, scores, strict=True)))
    return {"rows": len(rows), **mean_and_std(scores)}


def score_conversations(
    model: PreTrainedModel, conversations: Sequence[Sequence[int]], micro_batch: int, call: Call
) -> list[float]:
    """The reward model's score of each conversation (token ids), in order.

    The score is the head's output at the last attended token, found by the mask: the padding token may equal the token
    that ends a conversation. Conversations of similar length share a batch.
    """
    context = model.config.max_position_embeddings
    if (longest := max(map(len, conversations), default=0)) > context:
        raise ServiceError(
            "InvalidInput",
            f"A conversation has {longest} tokens; the reward model's context is {context}. Leave it out.",
        )
    scores = [0.0] * len(conversations)
    order = sorted(range(len(conversations)), key=lambda index: len(conversations[index]))
    with torch.inference_mode(), out_of_memory("microBatch", micro_batch):
        for start in range(0, len(order), micro_batch):
            call.raise_if_cancelled()
            chunk = order[start : start + micro_batch]
            ids_BT, mask_BT = pad_right([conversations[index] for index in chunk], 0)
            hidden_BTH = model.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
            last_BH = hidden_BTH[torch.arange(len(chunk), device=DEVICE), mask_BT.sum(-1) - 1]
            for index, value in zip(chunk, model.score(last_BH).squeeze(-1).float().tolist(), strict=True):
                scores[index] = value
            call.progress(start + len(chunk), len(order), "scoring")
    return scores


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask of `sequences`, both int64 of shape [B, T] with T the longest length."""
    width = max(map(len, sequences))
    ids_BT = torch.tensor([[*ids, *[pad_id] * (width - len(ids))] for ids in sequences], device=DEVICE)
    mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences], device=DEVICE)
    return ids_BT, mask_BT


def mean_and_std(scores: Sequence[float]) -> dict[str, float | None]:
    """{scoreMean, scoreStd} with the population standard deviation; None for no scores."""
    if not scores:
        return {"scoreMean": None, "scoreStd": None}
    values = torch.tensor(scores, dtype=torch.float64)
    return {"scoreMean": values.mean().item(), "scoreStd": values.std(correction=0).item()}

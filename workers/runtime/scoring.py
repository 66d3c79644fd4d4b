"""Scores of conversations by a reward model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypedDict

import torch
from transformers import PreTrainedModel

from operations import ScoreParams, ScoreResult
from runtime.conversation import scored_ids, with_reward_template
from runtime.files import read_rows, write_rows
from runtime.models import DEVICE, has_own_conversations, out_of_memory, warm_reward_model
from runtime.parallel import forward_by, raise_if_cancelled, shares, sum_over_processes
from runtime.processes import PROCESSES, RANK
from serve import Call, ServiceError


def score(params: ScoreParams, call: Call) -> ScoreResult:
    """Score the responses of a file.

    params: model (folder of a reward model), rows (rows {id, messages, response, language?}: the conversation before
    the program, and the program), forms (of `conversation.reward_template`), output, microBatch. Output rows in input
    order: {id, score}, the score unbounded; a conversation that is longer than the model's context has no row. Result:
    {rows, tooLong, scoreMean, scoreStd} (population standard deviation; null without rows). Errors: `InvalidInput`,
    `ModelNotFound`, `OutOfMemory`, `Cancelled`.
    """
    rows = read_rows(params["rows"], ("id", "messages", "response"))
    model, tokenizer = warm_reward_model(params["model"])
    if not has_own_conversations(params["model"]):
        with_reward_template(tokenizer, params["forms"])
    conversations = [scored_ids(tokenizer, row["messages"], row["response"], row.get("language")) for row in rows]
    context = model.config.max_position_embeddings
    fitting = [index for index, ids in enumerate(conversations) if len(ids) <= context]
    scores = score_conversations(model, [conversations[index] for index in fitting], params["microBatch"], call)
    if RANK == 0:
        scored = ({"id": rows[index]["id"], "score": value} for index, value in zip(fitting, scores, strict=True))
        write_rows(params["output"], scored)
    return {"rows": len(fitting), "tooLong": len(rows) - len(fitting), **mean_and_std(scores)}


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
    # A row scored by another process is 0 here, so that the sum of all is the whole; float64 holds a score exactly.
    scores_B = torch.zeros(len(conversations), dtype=torch.float64)
    order = sorted(range(len(conversations)), key=lambda index: len(conversations[index]))
    chunks = [order[start : start + micro_batch] for start in range(0, len(order), micro_batch)]
    done = 0
    with torch.no_grad(), out_of_memory("microBatch", micro_batch):
        for chunk, counts in shares(chunks):
            raise_if_cancelled(call)
            ids_BT, mask_BT = pad_right([conversations[index] for index in chunk], 0)
            chunk_scores_B = forward_by(last_token_scores, model, ids_BT, mask_BT)
            if counts:
                scores_B[chunk] = chunk_scores_B.double().cpu()
                done += len(chunk) * PROCESSES
                call.progress(min(done, len(order)), len(order), "scoring")
    return sum_over_processes(scores_B).tolist()


def last_token_scores(model: Any, ids_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """The head's output [B] at the last attended token."""
    hidden_BTH = model.base_model(input_ids=ids_BT, attention_mask=mask_BT, use_cache=False).last_hidden_state
    last_BH = hidden_BTH[torch.arange(len(ids_BT), device=DEVICE), mask_BT.sum(-1) - 1]
    return model.score(last_BH).squeeze(-1)


def pad_right(sequences: Sequence[Sequence[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and attention mask of `sequences`, both int64 of shape [B, T] with T the longest length."""
    width = max(map(len, sequences))
    ids_BT = torch.tensor([[*ids, *[pad_id] * (width - len(ids))] for ids in sequences], device=DEVICE)
    mask_BT = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids in sequences], device=DEVICE)
    return ids_BT, mask_BT


class MeanAndStd(TypedDict):
    scoreMean: float | None
    scoreStd: float | None


def mean_and_std(scores: Sequence[float]) -> MeanAndStd:
    """{scoreMean, scoreStd} with the population standard deviation; None for no scores."""
    if not scores:
        return {"scoreMean": None, "scoreStd": None}
    values = torch.tensor(scores, dtype=torch.float64)
    return {"scoreMean": values.mean().item(), "scoreStd": values.std(correction=0).item()}

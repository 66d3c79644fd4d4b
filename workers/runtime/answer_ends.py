"""How RL teaches a policy to end its answers.

A rollout ends in one of three ways. Where the model wrote the end itself, the end is its last token, and a method of
the policy update trains it like the others. Where a stop string closed the code fence, the sampling was ended for the
model: it never drew the next token, so that no reward says anything about that token. The end of turn is added to such
a completion and learnt by imitation: the loss of an optimizer step gets

    endWeight * sum over closed answers of -log pi(end | question, answer) / number of the step's sampled tokens,

which pulls as one more token with advantage 1 would in a mean over tokens, until the policy ends by itself. As a
log-likelihood next to the policy's loss it is the term of PPO-ptx (InstructGPT, arXiv 2203.02155, equation 2). OpenRLHF
puts the end of sequence behind such a completion, too, but rewards it like a token that the policy chose. Advantages
have mean 0, so that then as much pulls away from the end as pulls towards it.

A rollout that the limit of tokens cut has no end: what becomes of it is a question of its reward
(`reinforcement.reward.truncated`).

Tensor names end in their shape: B rollouts, T completion positions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from runtime.files import Row
from runtime.samples import Endings

ANSWER = "A7c0f"
"""A text that no template writes, to find what a template writes behind an answer."""


def end_of_turn(tokenizer: PreTrainedTokenizerBase, endings: set[int]) -> int | None:
    """The token that ends an answer: the first behind it in the chat template at which sampling ends, else the
    tokenizer's end of sequence. `endings` are the tokens at which sampling ends."""
    conversation = [{"role": "user", "content": ANSWER}, {"role": "assistant", "content": ANSWER}]
    text: Any = tokenizer.apply_chat_template(conversation, tokenize=False)
    behind = tokenizer(text.rpartition(ANSWER)[2], add_special_tokens=False)["input_ids"]
    own: Any = tokenizer.eos_token_id
    return next((token for token in behind if token in endings), own)


def with_ends(rollouts: Sequence[Row], policy: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[Row]:
    """The rollouts, with the end of turn behind each completion that a stop string ended, which then has `end` true.

    Rows are {completionIds, logProbs?, finish?}; the sampler's log-probability of an end that it never drew is 0.
    """
    config: Any = policy.generation_config
    endings = Endings(config, tokenizer).tokens
    end = end_of_turn(tokenizer, endings)
    return [_with_end(row, end) if end is not None and _was_closed(row, endings) else row for row in rollouts]


def _was_closed(row: Row, endings: set[int]) -> bool:
    return row.get("finish") == "stop" and row["completionIds"][-1] not in endings


def _with_end(row: Row, end: int) -> Row:
    log_probs = {"logProbs": [*row["logProbs"], 0.0]} if row.get("logProbs") else {}
    return {**row, "completionIds": [*row["completionIds"], end], **log_probs, "end": True}


def split_ends(rollouts: Sequence[Row], mask_BT: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The mask of what the policy sampled, and the mask of the ends that `with_ends` added; `mask_BT` holds both."""
    end_BT = torch.zeros_like(mask_BT)
    for index, row in enumerate(rollouts):
        if row.get("end"):
            end_BT[index, len(row["completionIds"]) - 1] = 1
    return mask_BT - end_BT, end_BT


def sampled_length(row: Row) -> int:
    """Tokens of a completion that the policy sampled."""
    return len(row["completionIds"]) - bool(row.get("end"))


def end_loss(logp_BT: torch.Tensor, end_BT: torch.Tensor, weight: float, tokens: int) -> torch.Tensor:
    """The share of a micro-batch in the loss above, a scalar; `tokens` are those of the whole optimizer step."""
    return -weight * (logp_BT * end_BT).sum() / tokens


def end_probability(old_BT: torch.Tensor, end_BT: torch.Tensor) -> float | None:
    """Mean probability that the policy ends an answer where the fence closed it; None where none was closed."""
    closed = end_BT.sum()
    return ((old_BT.exp() * end_BT).sum() / closed).item() if closed else None

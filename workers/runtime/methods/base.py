"""What methods are made of: the data that they get, the data that they give, and the pieces that several share.

Tensor names end in their shape: B rollouts, T completion positions. A mask is 1 at completion tokens, which are
contiguous from position 0, and 0 behind them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

Ratio = Literal["token", "sequence"]


@dataclass(frozen=True)
class Round:
    """The rollouts of a round before the update."""

    reward_B: torch.Tensor
    """Reward of each rollout, clipped to `rewardClip`; float64, like the log-probabilities here.

    In float64 a batch of equal rewards has a deviation of 0. In float32 it has one of rounding errors, which the
    division blows up to advantages.
    """
    old_BT: torch.Tensor
    """Log-probabilities by the policy before the update."""
    reference_BT: torch.Tensor
    """Log-probabilities by the reference of the KL."""
    mask_BT: torch.Tensor
    group_B: torch.Tensor
    """Number of each rollout's question."""
    beta: float
    """Coefficient of the KL penalty."""


@dataclass(frozen=True)
class Advantages:
    """What a method makes of a round; both tensors are 0 outside the mask."""

    return_BT: torch.Tensor
    """Returns before baseline and scale."""
    advantage_BT: torch.Tensor


@dataclass(frozen=True)
class MicroBatch:
    """The rollouts of one backward pass, as the policy in training sees them."""

    logp_BT: torch.Tensor
    """Log-probabilities by the policy in training; the one tensor with a gradient."""
    old_BT: torch.Tensor
    reference_BT: torch.Tensor
    advantage_BT: torch.Tensor
    mask_BT: torch.Tensor
    step: Sequence[int]
    """Length in tokens of each completion of the whole optimizer step."""
    max_new_tokens: int
    """Limit of a completion when it was sampled."""
    clip: float
    clip_high: float
    beta: float
    importance_BT: torch.Tensor | float = 1.0
    """Weights for rollouts of another policy than `old_BT`; 1 where that policy was sampled."""
    counts: bool = True
    """False for a micro-batch that another process has in its share: its loss is 0."""


@dataclass(frozen=True)
class Loss:
    """The share of a micro-batch in the loss of its optimizer step: shares add up."""

    value: torch.Tensor
    """A scalar."""
    clipped: torch.Tensor
    """Number of tokens whose ratio is clipped."""


@dataclass(frozen=True)
class Method:
    """One method of the policy update."""

    source: str
    """Where it is defined, and the implementation that it equals."""
    advantages: Callable[[Round], Advantages]
    loss: Callable[[MicroBatch], Loss]
    compares_groups: bool
    """Whether it compares the rollouts of a question, so that each question needs two."""
    ratio: Ratio = "token"
    """What the probability ratio is taken of."""
    clip_high: float | None = None
    """Upper clip of the method's own; without one it is the lower clip."""


# -- KL ---------------------------------------------------------------------------------------------------------------


def k1(logp_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """log pi - log ref at each token: an unbiased estimate of KL(policy || reference) from samples of the policy."""
    return logp_BT - reference_BT


MOST_LOG_RATIO = 20.0
"""Nats to which a log-ratio is clamped before it is the exponent of a loss.

One token at which the policies differ by 100 nats would make the loss infinite, and with it the step of all others. A
ratio of e^20 is beyond every clip, and such a token pulls at nothing. NeMo-RL and verl clamp at the same value.
"""


def k3(logp_BT: torch.Tensor, reference_BT: torch.Tensor) -> torch.Tensor:
    """ref / pi - 1 - log(ref / pi) at each token: an estimate that is never negative (Schulman 2020).

    The log-ratio is clamped to `MOST_LOG_RATIO`.
    """
    log_ratio_BT = (logp_BT - reference_BT).clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO)
    return (-log_ratio_BT).exp() - 1 + log_ratio_BT


# -- Advantages -------------------------------------------------------------------------------------------------------


def token_rewards(kl_BT: torch.Tensor, reward_B: torch.Tensor, mask_BT: torch.Tensor, beta: float) -> torch.Tensor:
    """Per-token rewards [B, T]: -beta * KL_t everywhere, plus the sequence's reward at its last completion token."""
    reward_BT = -beta * kl_BT * mask_BT
    last_B = mask_BT.sum(-1).long() - 1
    reward_BT[torch.arange(len(last_B)), last_B] += reward_B
    return reward_BT


def returns(reward_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Undiscounted returns [B, T]: the sum of the rewards from each position to the end, 0 outside the mask."""
    return (reward_BT * mask_BT).flip(-1).cumsum(-1).flip(-1) * mask_BT


def batch_advantages(round: Round, kl_BT: torch.Tensor) -> Advantages:
    """Returns of penalised token rewards, normalised over all tokens of the round."""
    return_BT = returns(token_rewards(kl_BT, round.reward_B, round.mask_BT, round.beta), round.mask_BT)
    return Advantages(return_BT, normalised(return_BT, round.mask_BT))


def normalised(return_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Advantages [B, T]: returns normalised to mean 0 and deviation 1 over all masked-in tokens of the batch.

    The variance is at least 1e-8, so that equal returns give advantages of 0. The mean is taken off twice: Adam, which
    scales gradients up, would make a step of the rounding error that the first time leaves.
    """
    deviation = masked_std(return_BT, mask_BT).clamp(min=1e-4)
    centred_BT = return_BT - masked_mean(return_BT, mask_BT)
    return (centred_BT - masked_mean(centred_BT, mask_BT)) / deviation * mask_BT


def group_sums(values_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """The sum [B] over each rollout's group.

    Groups may differ in size, because rollouts that could not be judged are missing; each has at least two.
    """
    return values_B.new_zeros(int(group_B.max()) + 1).index_add(0, group_B, values_B)[group_B]


def group_sizes(group_B: torch.Tensor, like_B: torch.Tensor) -> torch.Tensor:
    """The number of rollouts [B] in each rollout's group, in the type of `like_B`."""
    return group_sums(torch.ones_like(like_B), group_B)


def group_centred(reward_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """Rewards [B] less the mean of their group; the mean is taken off twice, as in `normalised`."""
    size_B = group_sizes(group_B, reward_B)
    centred_B = reward_B - group_sums(reward_B, group_B) / size_B
    return centred_B - group_sums(centred_B, group_B) / size_B


def group_normalised(reward_B: torch.Tensor, group_B: torch.Tensor) -> torch.Tensor:
    """Rewards [B] less the mean of their group, divided by the sample deviation of the group plus 1e-4."""
    centred_B = group_centred(reward_B, group_B)
    size_B = group_sizes(group_B, reward_B)
    return centred_B / ((group_sums(centred_B**2, group_B) / (size_B - 1)).sqrt() + 1e-4)


def on_each_token(reward_B: torch.Tensor, advantage_B: torch.Tensor, mask_BT: torch.Tensor) -> Advantages:
    """The advantage of a sequence at each of its tokens."""
    return Advantages(reward_B[:, None] * mask_BT, advantage_B[:, None] * mask_BT)


# -- Loss -------------------------------------------------------------------------------------------------------------


def mean_of_tokens(batch: MicroBatch) -> torch.Tensor:
    """Weights [B, T] of a mean over all tokens of the step."""
    return batch.mask_BT / sum(batch.step)


def mean_of_sequences(batch: MicroBatch) -> torch.Tensor:
    """Weights [B, T] of a mean over each sequence's tokens, and then over the sequences of the step."""
    return batch.mask_BT / batch.mask_BT.sum(-1, keepdim=True) / len(batch.step)


def share_of_most_tokens(batch: MicroBatch) -> torch.Tensor:
    """Weights [B, T] of a sum that is divided by the most tokens that the step could have."""
    return batch.mask_BT / (len(batch.step) * batch.max_new_tokens)


def clipped_loss(batch: MicroBatch, weight_BT: torch.Tensor, ratio: Ratio = "token", penalty: bool = False) -> Loss:
    """PPO's clipped surrogate loss (arXiv 1707.06347, equation 7), weighted and summed.

    `weight_BT` is 0 outside the mask. Of a sequence's ratio every token carries the sequence's loss. With `penalty`,
    beta times `k3` is added. Importance weights weigh the surrogate alone and not that penalty, like the
    importance-sampling correction of TRL. The log-ratio is clamped to `MOST_LOG_RATIO`.
    """
    weight_BT = batch.counts * weight_BT
    mask_BT = (weight_BT > 0).to(batch.logp_BT.dtype)
    log_ratio_BT = (batch.logp_BT - batch.old_BT) * mask_BT
    if ratio == "sequence":
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    ratio_BT = log_ratio_BT.clamp(-MOST_LOG_RATIO, MOST_LOG_RATIO).exp()
    free_BT = ratio_BT * batch.advantage_BT
    clipped_BT = ratio_BT.clamp(1 - batch.clip, 1 + batch.clip_high) * batch.advantage_BT
    loss_BT = -torch.min(free_BT, clipped_BT) * batch.importance_BT
    if penalty and batch.beta > 0:
        loss_BT = loss_BT + batch.beta * k3(batch.logp_BT, batch.reference_BT)
    # `where`, because a ratio outside the mask may overflow, and 0 times infinity is not a number.
    value = torch.where(mask_BT > 0, loss_BT * weight_BT, 0.0).sum()
    return Loss(value, ((clipped_BT < free_BT) & (mask_BT > 0)).sum())


def importance_weights(
    old_BT: torch.Tensor, sampler_BT: torch.Tensor, mask_BT: torch.Tensor, ratio: Ratio, cap: float
) -> torch.Tensor:
    """Truncated importance weights [B, T]: min(pi_old / pi_sampler, cap), 0 outside the mask, without a gradient.

    They correct for rollouts of an older policy than the one that is updated (truncation: Ionides 2008, "Truncated
    Importance Sampling"); PPO's own ratio is taken of the policy before the update, as in AReaL's decoupled objective
    (arXiv 2505.24298, equation 5). A method whose ratio is the sequence's has the sequence's weight at each token.
    """
    log_weight_BT = (old_BT - sampler_BT) * mask_BT
    if ratio == "sequence":
        log_weight_BT = log_weight_BT.sum(-1, keepdim=True).expand_as(log_weight_BT)
    # Clamped before the exponential, which may overflow.
    return log_weight_BT.clamp(max=math.log(cap)).exp() * mask_BT


# -- Means ------------------------------------------------------------------------------------------------------------


def masked_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the masked-in tokens of the whole batch."""
    return (values_BT * mask_BT).sum() / mask_BT.sum()


def masked_std(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Population standard deviation over the masked-in tokens of the whole batch."""
    return masked_mean((values_BT - masked_mean(values_BT, mask_BT)) ** 2, mask_BT).sqrt()

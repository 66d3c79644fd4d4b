"""Dr. GRPO: arXiv 2503.20783 section 3.2, as TRL 1.16.0 (`loss_type` dr_grpo, `scale_rewards` none)."""

from __future__ import annotations

from runtime.methods.base import (
    Advantages,
    Loss,
    Method,
    MicroBatch,
    Round,
    clipped_loss,
    group_centred,
    on_each_token,
    share_of_most_tokens,
)


def advantages(round: Round) -> Advantages:
    """Rewards less the mean of the question's rollouts, not divided."""
    return on_each_token(round.reward_B, group_centred(round.reward_B, round.group_B), round.mask_BT)


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate plus beta times k3, summed and divided by sequences times `maxNewTokens`."""
    return clipped_loss(batch, share_of_most_tokens(batch), penalty=True)


METHOD = Method(
    "arXiv 2503.20783 section 3.2, as TRL 1.16.0 (loss_type dr_grpo, scale_rewards none)",
    advantages,
    loss,
    compares_groups=True,
)

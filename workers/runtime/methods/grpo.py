"""GRPO: arXiv 2402.03300 equations 3 and 4, as TRL 1.16.0 (`loss_type` grpo, `scale_rewards` group)."""

from __future__ import annotations

from runtime.methods.base import (
    Advantages,
    Loss,
    Method,
    MicroBatch,
    Round,
    clipped_loss,
    group_normalised,
    mean_of_sequences,
    on_each_token,
)


def advantages(round: Round) -> Advantages:
    """Rewards less the mean of the question's rollouts, divided by their sample deviation plus 1e-4."""
    return on_each_token(round.reward_B, group_normalised(round.reward_B, round.group_B), round.mask_BT)


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate plus beta times k3, averaged over each sequence and then over the sequences of the step."""
    return clipped_loss(batch, mean_of_sequences(batch), penalty=True)


METHOD = Method(
    "arXiv 2402.03300 equations 3 and 4, as TRL 1.16.0 (loss_type grpo, scale_rewards group)",
    advantages,
    loss,
    compares_groups=True,
)

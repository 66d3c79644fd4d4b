"""DAPO: arXiv 2503.14476 equations 8 to 10 (clip-higher, token-level loss), as TRL 1.16.0 (`loss_type` dapo)."""

from __future__ import annotations

from runtime.methods.base import (
    Advantages,
    Loss,
    Method,
    MicroBatch,
    Round,
    clipped_loss,
    group_normalised,
    mean_of_tokens,
    on_each_token,
)


def advantages(round: Round) -> Advantages:
    """Rewards less the mean of the question's rollouts, divided by their sample deviation plus 1e-4."""
    return on_each_token(round.reward_B, group_normalised(round.reward_B, round.group_B), round.mask_BT)


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate plus beta times k3, averaged over the tokens of the step."""
    return clipped_loss(batch, mean_of_tokens(batch), penalty=True)


METHOD = Method(
    "arXiv 2503.14476 equations 8 to 10 (clip-higher, token-level loss), as TRL 1.16.0 (loss_type dapo)",
    advantages,
    loss,
    compares_groups=True,
    clip_high=0.28,
)

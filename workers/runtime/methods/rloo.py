"""RLOO: arXiv 2402.14740 section 3, as TRL 1.16.0 (`RLOOTrainer`)."""

from __future__ import annotations

from runtime.methods.base import (
    Advantages,
    Loss,
    Method,
    MicroBatch,
    Round,
    clipped_loss,
    group_centred,
    group_sizes,
    k1,
    mean_of_sequences,
    on_each_token,
)


def advantages(round: Round) -> Advantages:
    """Rewards less beta times the sequence's k1, less the mean of the question's other rollouts."""
    kl_BT = k1(round.old_BT, round.reference_BT)
    reward_B = round.reward_B - round.beta * (kl_BT * round.mask_BT).sum(-1)
    size_B = group_sizes(round.group_B, reward_B)
    # A rollout's distance from its group's mean is (n - 1) / n of that from the mean of the others.
    advantage_B = group_centred(reward_B, round.group_B) * size_B / (size_B - 1)
    return on_each_token(reward_B, advantage_B, round.mask_BT)


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate of the sequence's ratio, averaged over the sequences of the step."""
    return clipped_loss(batch, mean_of_sequences(batch), ratio="sequence")


METHOD = Method(
    "arXiv 2402.14740 section 3, as TRL 1.16.0 (RLOOTrainer)",
    advantages,
    loss,
    compares_groups=True,
    ratio="sequence",
)

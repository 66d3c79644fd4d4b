"""REINFORCE++ as the AceCoder authors ran it: their fork of OpenRLHF, jdf-prog/OpenRLHF b2e2cdb.

It differs from `reinforce++` in two places: the KL estimate is not clamped, and the loss is averaged over each sequence
first.
"""

from __future__ import annotations

from runtime.methods.base import (
    Advantages,
    Loss,
    Method,
    MicroBatch,
    Round,
    batch_advantages,
    clipped_loss,
    k1,
    mean_of_sequences,
)


def advantages(round: Round) -> Advantages:
    """Token rewards less beta times k1; returns normalised over the tokens of the round."""
    return batch_advantages(round, k1(round.old_BT, round.reference_BT))


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate, averaged over each sequence and then over the sequences of the step."""
    return clipped_loss(batch, mean_of_sequences(batch))


METHOD = Method(
    "arXiv 2501.03262 section 3, as the AceCoder authors' fork of OpenRLHF, jdf-prog/OpenRLHF b2e2cdb",
    advantages,
    loss,
    compares_groups=False,
)

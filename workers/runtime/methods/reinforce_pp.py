"""REINFORCE++: arXiv 2501.03262 section 3, as OpenRLHF 0.11 (advantage estimator `reinforce`)."""

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
    mean_of_tokens,
)


def advantages(round: Round) -> Advantages:
    """Token rewards less beta times k1, which is clamped to 10; returns normalised over the tokens of the round."""
    return batch_advantages(round, k1(round.old_BT, round.reference_BT).clamp(-10.0, 10.0))


def loss(batch: MicroBatch) -> Loss:
    """The clipped surrogate, averaged over the tokens of the step."""
    return clipped_loss(batch, mean_of_tokens(batch))


METHOD = Method(
    "arXiv 2501.03262 section 3, as OpenRLHF 0.11 (advantage estimator reinforce)",
    advantages,
    loss,
    compares_groups=False,
)

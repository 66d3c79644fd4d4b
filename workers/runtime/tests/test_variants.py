"""Every variant of the policy update on fixed tensors, against references in float64 and against TRL.

The references are written from the published formulas, with loops over single rollouts and tokens, so that they share
nothing with the code but the numbers.
"""

from __future__ import annotations

import math
import statistics
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FUNCTIONS, question
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from runtime.policy_update import VARIANTS, advantages, kl_estimate, policy_loss, token_weights

LENGTHS = [5, 3, 1, 4, 6, 2, 2, 3]
GROUPS = [0, 0, 0, 1, 1, 1, 2, 2]  # of different sizes: a rollout that could not be judged is missing
REWARDS = [1.0, 0.0, 0.4, -3.0, 2.0, 0.5, 0.7, 0.7]
MAX_NEW_TOKENS, CLIP, CLIP_HIGH, BETA = 7, 0.2, 0.28, 0.07


def fixed(seed: int, scale: float) -> list[list[float]]:
    """Ragged log-probabilities of the rollouts, shape [B][length]."""
    generator = torch.Generator().manual_seed(seed)
    return [(-2 + scale * torch.randn(length, generator=generator, dtype=torch.float64)).tolist() for length in LENGTHS]


OLD, REFERENCE = fixed(1, 0.5), fixed(2, 6.0)  # far enough from the reference for the clamp of 10 to act
LOGP = [
    [old + move for old, move in zip(row, moves, strict=True)]
    for row, moves in zip(OLD, [[x + 2 for x in row] for row in fixed(3, 0.3)], strict=True)
]


def padded(rows: list[list[float]], fill: float = 0.0) -> torch.Tensor:
    return torch.tensor([row + [fill] * (max(LENGTHS) - len(row)) for row in rows], dtype=torch.float64)


MASK_BT = padded([[1.0] * length for length in LENGTHS])


# -- References -------------------------------------------------------------------------------------------------------


def reference_kl(log_pi: float, log_ref: float, name: str) -> float:
    """k1 in the methods that penalise the reward, k3 in those that penalise the loss; OpenRLHF 0.11 clamps at 10."""
    if name == "reinforce++":
        return max(-10.0, min(10.0, log_pi - log_ref))
    if name in ("reinforce++-acecoder", "rloo"):
        return log_pi - log_ref
    return math.exp(log_ref - log_pi) - (log_ref - log_pi) - 1


def reference_advantages(name: str) -> list[list[float]]:
    if name.startswith("reinforce++"):
        gains = []
        for reward, old, ref in zip(REWARDS, OLD, REFERENCE, strict=True):
            rewards = [-BETA * reference_kl(o, r, name) for o, r in zip(old, ref, strict=True)]
            rewards[-1] += reward
            gains.append([math.fsum(rewards[at:]) for at in range(len(rewards))])
        tokens = [gain for row in gains for gain in row]
        mean, variance = statistics.fmean(tokens), statistics.pvariance(tokens)
        return [[(gain - mean) / math.sqrt(max(variance, 1e-8)) for gain in row] for row in gains]
    result = []
    for at, length in enumerate(LENGTHS):
        members = [index for index, group in enumerate(GROUPS) if group == GROUPS[at]]
        value = dict(zip(members, (REWARDS[index] for index in members), strict=True))
        if name == "rloo":
            for index in members:
                pairs = zip(OLD[index], REFERENCE[index], strict=True)
                value[index] -= BETA * math.fsum(reference_kl(o, r, name) for o, r in pairs)
            others = [value[index] for index in members if index != at]
            advantage = value[at] - statistics.fmean(others)
        else:
            advantage = value[at] - statistics.fmean(value.values())
            if name in ("grpo", "dapo"):
                advantage /= statistics.stdev(value.values()) + 1e-4
        result.append([advantage] * length)
    return result


def reference_loss(name: str) -> float:
    high = CLIP_HIGH if name == "dapo" else CLIP
    rows = []
    for logp, old, ref, advantage in zip(LOGP, OLD, REFERENCE, reference_advantages(name), strict=True):
        if name == "rloo":
            ratio = math.exp(math.fsum(logp) - math.fsum(old))
            bounded = max(1 - CLIP, min(1 + high, ratio))
            rows.append([-min(ratio * a, bounded * a) for a in advantage])
            continue
        row = []
        for log_pi, log_old, log_ref, a in zip(logp, old, ref, advantage, strict=True):
            ratio = math.exp(log_pi - log_old)
            bounded = max(1 - CLIP, min(1 + high, ratio))
            penalty = 0.0 if name.startswith("reinforce++") else BETA * reference_kl(log_pi, log_ref, name)
            row.append(-min(ratio * a, bounded * a) + penalty)
        rows.append(row)
    if name in ("reinforce++", "dapo"):
        return statistics.fmean(value for row in rows for value in row)
    if name == "dr-grpo":
        return math.fsum(value for row in rows for value in row) / (len(rows) * MAX_NEW_TOKENS)
    return statistics.fmean(statistics.fmean(row) for row in rows)


def own_advantages(name: str, groups: list[int] = GROUPS) -> torch.Tensor:
    variant = VARIANTS[name]
    kl_BT = kl_estimate(padded(OLD), padded(REFERENCE), variant)
    reward_B = torch.tensor(REWARDS, dtype=torch.float64)
    return advantages(variant, reward_B, kl_BT, MASK_BT, torch.tensor(groups), BETA)[1]


@pytest.mark.parametrize("name", VARIANTS)
def test_advantages_equal_the_published_formula(name: str) -> None:
    torch.testing.assert_close(own_advantages(name), padded(reference_advantages(name)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_loss_equals_the_published_formula_and_clips(name: str) -> None:
    variant = VARIANTS[name]
    loss, clipped = policy_loss(
        variant, padded(LOGP), padded(OLD), padded(REFERENCE), own_advantages(name),
        token_weights(MASK_BT, LENGTHS, variant, MAX_NEW_TOKENS), CLIP, variant.clip_high or CLIP, BETA,
    )  # fmt: skip
    assert loss.item() == pytest.approx(reference_loss(name), abs=1e-6)
    assert 0 < clipped.item() < sum(LENGTHS)


@pytest.mark.parametrize("name", VARIANTS)
def test_micro_batches_add_up_to_the_step(name: str) -> None:
    variant, advantage_BT = VARIANTS[name], own_advantages(name)
    parts = [
        policy_loss(
            variant, padded(LOGP)[rows], padded(OLD)[rows], padded(REFERENCE)[rows], advantage_BT[rows],
            token_weights(MASK_BT[rows], LENGTHS, variant, MAX_NEW_TOKENS), CLIP, variant.clip_high or CLIP, BETA,
        )[0]
        for rows in ([0, 1, 2], [3, 4], [5, 6, 7])
    ]  # fmt: skip
    assert sum(parts).item() == pytest.approx(reference_loss(name), abs=1e-6)


@pytest.mark.parametrize("name", VARIANTS)
def test_a_group_of_equal_rewards_pulls_at_nothing_without_a_penalty(name: str) -> None:
    variant, reward_B = VARIANTS[name], torch.full((len(LENGTHS),), 0.1, dtype=torch.float64)
    advantage_BT = advantages(variant, reward_B, torch.zeros_like(MASK_BT), MASK_BT, torch.tensor(GROUPS), BETA)[1]
    assert advantage_BT.abs().max() < 1e-20  # Adam would make a step of a rounding error


# -- TRL --------------------------------------------------------------------------------------------------------------

TRL = {  # the published penalty, which TRL by default multiplies by the probability ratio
    "grpo": {"loss_type": "grpo", "scale_rewards": "group", "use_bias_correction_kl": False},
    "dr-grpo": {"loss_type": "dr_grpo", "scale_rewards": "none", "use_bias_correction_kl": False},
    "dapo": {"loss_type": "dapo", "scale_rewards": "group", "epsilon_high": CLIP_HIGH, "use_bias_correction_kl": False},
    "rloo": {},
}
ROWS, SIZE = 8, 4
"""Rollouts of TRL's one batch, and rollouts of a question."""


def moved(model: torch.nn.Module, by: float, seed: int) -> None:
    """Adds Gaussian noise of deviation `by` to every weight."""
    noise = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn(parameter.shape, generator=noise, dtype=parameter.dtype)


@pytest.mark.parametrize("name", TRL)
def test_advantages_loss_and_gradient_equal_those_of_trl(micro_model: Path, tmp_path: Path, name: str) -> None:
    rewards: list[float] = []

    def reward(completions: list[Any], **_: Any) -> list[float]:
        texts = [completion[0]["content"] for completion in completions]
        rewards[:] = [len(text) % 7 / 3 + text.count("n") for text in texts]
        return rewards

    config, trainer_class = (RLOOConfig, RLOOTrainer) if name == "rloo" else (GRPOConfig, GRPOTrainer)
    arguments = config(
        output_dir=str(tmp_path), per_device_train_batch_size=ROWS, num_generations=SIZE, max_completion_length=12,
        beta=BETA, epsilon=CLIP, temperature=1.0, num_iterations=2, bf16=False, use_cpu=True, report_to="none",
        gradient_checkpointing=False, seed=3, **TRL[name],
    )  # fmt: skip
    prompts = [{"prompt": question(code)} for code in FUNCTIONS[: ROWS // SIZE]]
    trainer = trainer_class(
        model=AutoModelForCausalLM.from_pretrained(micro_model, dtype=torch.float64),
        reward_funcs=reward, args=arguments, train_dataset=Dataset.from_list(prompts),
        processing_class=AutoTokenizer.from_pretrained(micro_model, padding_side="left"),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    moved(trainer.ref_model.double(), 0.01, seed=5)
    inputs = trainer._generate_and_score_completions([prompts[index // SIZE] for index in range(ROWS)])
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attended = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    mask_BT = inputs["completion_mask"].double()

    def log_probabilities(model: torch.nn.Module) -> torch.Tensor:
        return trainer._get_per_token_logps_and_entropies(model, ids, attended, mask_BT.shape[1])[0] * mask_BT

    with torch.no_grad():
        old_BT, reference_BT = log_probabilities(trainer.model), log_probabilities(trainer.ref_model)
    # The update is under way: the policy differs from the one that sampled.
    moved(trainer.model, 0.02, seed=7)
    variant = VARIANTS[name]
    advantage_BT = advantages(
        variant, torch.tensor(rewards, dtype=torch.float64), kl_estimate(old_BT, reference_BT, variant), mask_BT,
        torch.tensor([index // SIZE for index in range(ROWS)]), BETA,
    )[1]  # fmt: skip
    torch.testing.assert_close(advantage_BT, inputs["advantages"].double()[:, None] * mask_BT, atol=1e-6, rtol=1e-6)
    loss, clipped = policy_loss(
        variant, log_probabilities(trainer.model), old_BT, reference_BT, advantage_BT,
        token_weights(mask_BT, mask_BT.sum(-1).long().tolist(), variant, 12), CLIP, variant.clip_high or CLIP, BETA,
    )  # fmt: skip
    theirs = trainer._compute_loss(trainer.model, inputs)
    assert clipped.item() > 0
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    parameters = list(trainer.model.parameters())
    for own, their in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(own, their, atol=1e-6, rtol=1e-5)

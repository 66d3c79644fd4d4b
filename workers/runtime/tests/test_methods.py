"""Every method of the policy update on fixed tensors, against references in float64 and against TRL.

The references are written from the published formulas, with loops over single rollouts and tokens, so that they share
nothing with the code but the numbers.
"""

from __future__ import annotations

import ast
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FUNCTIONS, WORKERS, question
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

from runtime.methods import FILES, describe, find_method
from runtime.methods.base import Loss, MicroBatch, Round

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


def own_round(groups: list[int] = GROUPS, **changes: torch.Tensor) -> Round:
    """The fixed rollouts as a round, with the given fields changed."""
    fields: dict[str, torch.Tensor] = {
        "reward_B": torch.tensor(REWARDS, dtype=torch.float64), "old_BT": padded(OLD),
        "reference_BT": padded(REFERENCE), "mask_BT": MASK_BT, "group_B": torch.tensor(groups),
    }  # fmt: skip
    return Round(**(fields | changes), beta=BETA)


def own_advantages(name: str, groups: list[int] = GROUPS) -> torch.Tensor:
    return find_method(name).advantages(own_round(groups)).advantage_BT


def own_loss(name: str, rows: list[int] | slice = slice(None)) -> Loss:
    """The loss of a micro-batch of `rows` in a step of all rollouts."""
    method = find_method(name)
    return method.loss(
        MicroBatch(
            logp_BT=padded(LOGP)[rows], old_BT=padded(OLD)[rows], reference_BT=padded(REFERENCE)[rows],
            advantage_BT=own_advantages(name)[rows], mask_BT=MASK_BT[rows], step=LENGTHS,
            max_new_tokens=MAX_NEW_TOKENS, clip=CLIP, clip_high=method.clip_high or CLIP, beta=BETA,
        )
    )  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_advantages_equal_the_published_formula(name: str) -> None:
    torch.testing.assert_close(own_advantages(name), padded(reference_advantages(name)), atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", FILES)
def test_the_loss_equals_the_published_formula_and_clips(name: str) -> None:
    loss = own_loss(name)
    assert loss.value.item() == pytest.approx(reference_loss(name), abs=1e-6)
    assert 0 < loss.clipped.item() < sum(LENGTHS)


@pytest.mark.parametrize("name", FILES)
def test_micro_batches_add_up_to_the_step(name: str) -> None:
    parts = [own_loss(name, rows).value for rows in ([0, 1, 2], [3, 4], [5, 6, 7])]
    assert sum(parts).item() == pytest.approx(reference_loss(name), abs=1e-6)


def gradient_with(name: str, **changes: tuple[int, int, float]) -> tuple[torch.Tensor, torch.Tensor]:
    """(loss, gradient) at log-probabilities that are those of all policies, but for (row, token, nats) of some."""
    method = find_method(name)
    logp_BT = padded(OLD).requires_grad_()
    fields = {"old_BT": padded(OLD), "reference_BT": padded(OLD)}
    for field, (row, token, nats) in changes.items():
        fields[field][row, token] += nats
    batch = MicroBatch(
        logp_BT=logp_BT, **fields, advantage_BT=own_advantages(name), mask_BT=MASK_BT, step=LENGTHS,
        max_new_tokens=MAX_NEW_TOKENS, clip=CLIP, clip_high=method.clip_high or CLIP, beta=BETA,
    )  # fmt: skip
    loss = method.loss(batch).value
    loss.backward()
    assert logp_BT.grad is not None
    return loss.detach(), logp_BT.grad


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("nats", [-1000.0, -100.0, 100.0, 1000.0])
@pytest.mark.parametrize("other", ["old_BT", "reference_BT"])
def test_one_token_at_which_policies_are_far_apart_spoils_no_other(name: str, nats: float, other: str) -> None:
    loss, gradient_BT = gradient_with(name, **{other: (0, 1, nats)})
    assert loss.isfinite()
    assert gradient_BT.isfinite().all()
    torch.testing.assert_close(gradient_BT[1:], gradient_with(name)[1][1:])


@pytest.mark.parametrize("name", FILES)
def test_a_group_of_equal_rewards_pulls_at_nothing_without_a_penalty(name: str) -> None:
    reward_B = torch.full((len(LENGTHS),), 0.1, dtype=torch.float64)
    advantage_BT = find_method(name).advantages(own_round(reward_B=reward_B, reference_BT=padded(OLD))).advantage_BT
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
    method = find_method(name)
    made = method.advantages(
        Round(
            reward_B=torch.tensor(rewards, dtype=torch.float64), old_BT=old_BT, reference_BT=reference_BT,
            mask_BT=mask_BT, group_B=torch.tensor([index // SIZE for index in range(ROWS)]), beta=BETA,
        )
    )  # fmt: skip
    advantage_BT = made.advantage_BT
    torch.testing.assert_close(advantage_BT, inputs["advantages"].double()[:, None] * mask_BT, atol=1e-6, rtol=1e-6)
    own_part = method.loss(
        MicroBatch(
            logp_BT=log_probabilities(trainer.model), old_BT=old_BT, reference_BT=reference_BT,
            advantage_BT=advantage_BT, mask_BT=mask_BT, step=mask_BT.sum(-1).long().tolist(), max_new_tokens=12,
            clip=CLIP, clip_high=method.clip_high or CLIP, beta=BETA,
        )
    )  # fmt: skip
    loss, clipped = own_part.value, own_part.clipped
    theirs = trainer._compute_loss(trainer.model, inputs)
    assert clipped.item() > 0
    assert loss.item() == pytest.approx(theirs.item(), abs=1e-6)
    parameters = list(trainer.model.parameters())
    for own, their in zip(torch.autograd.grad(loss, parameters), torch.autograd.grad(theirs, parameters), strict=True):
        torch.testing.assert_close(own, their, atol=1e-6, rtol=1e-5)


# -- The registry -----------------------------------------------------------------------------------------------------

METHODS_FOLDER = WORKERS / "runtime/methods"


def test_every_file_of_the_folder_is_a_method_of_the_registry() -> None:
    files = {path.stem for path in METHODS_FOLDER.glob("*.py")} - {"__init__", "base"}
    assert sorted(FILES.values()) == sorted(files)
    assert [(name, find_method(name).clip_high) for name in FILES if find_method(name).clip_high] == [("dapo", 0.28)]


def test_methods_import_torch_and_nothing_else_that_is_installed() -> None:
    for path in METHODS_FOLDER.glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0
                imported.add(node.module or "")
        others = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
        assert others <= {"torch", "runtime.methods.base"}, path.name
        if path.stem in FILES.values():
            assert "runtime.methods.base" in others


def test_the_description_needs_no_torch() -> None:
    program = "import sys; sys.modules['torch'] = None; import runpy; sys.argv = ['runtime', '--describe'];" + (
        "runpy.run_module('runtime', run_name='__main__')"
    )
    described = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": str(WORKERS)}, capture_output=True, text=True, check=True
    )
    assert json.loads(described.stdout) == describe()

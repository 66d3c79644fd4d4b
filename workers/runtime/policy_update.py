"""One update of a policy over stored rollouts, by one of several published methods.

A pure consumer: prompts, completions and rewards come from a file, so an interrupted update costs neither tokens nor
executions. `VARIANTS` says what each method is and where it is defined; docs/algorithms.md has the same table in words.

On several processes each takes its share of the micro-batches, of the rollouts' log-probabilities as of each step, and
gradients are summed.

What all of them share: log-probabilities are those of logits / temperature, by the models as trained here, not as the
sampler saw them; the loss is a sum over the tokens of an optimizer step, so that micro-batches change nothing; Adam
with betas (0.9, 0.95) and no weight decay (OpenRLHF), gradient norm clipped, constant learning rate, state carried over
between rounds; a seeded permutation of the rollouts an epoch, whose last step may be smaller.

Tensor names end in their shape: B rollouts, T completion positions, X prompt and completion positions, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from runtime.checkpoints import (
    OPTIMIZER_FILE,
    CheckpointClock,
    clear_checkpoints,
    environments,
    load_optimizer,
    load_tensors,
    load_trainable,
    optimizer_tensors,
    trainable_parameters,
    write_checkpoint,
)
from runtime.files import Row, new_folder, read_rows
from runtime.models import DEVICE, autocast, deterministic, load_policy, out_of_memory, save_model, warm_policy
from runtime.parallel import (
    clip_gradients,
    decided,
    raise_if_cancelled,
    shares,
    sum_gradients,
    sum_over_processes,
)
from runtime.processes import PROCESSES, RANK
from serve import Call, Cancelled, ServiceError

LOG_PROBABILITIES_FILE = "log-probabilities.safetensors"
POSITION_FILE = "position.json"
ADAM_BETAS = (0.9, 0.95)
FIXED = ("old_BT", "reference_BT", "entropy_BT", "mask_BT")
"""What is asked of the models before the update and stays fixed during it; float32 [B, T]."""


@dataclass(frozen=True)
class Variant:
    """What a method leaves to its implementation, all of it."""

    source: str
    """Where it is defined, and the implementation that it equals."""
    penalty: Literal["token", "sequence", "loss"]
    """Where beta times the KL to the reference goes: off each token's reward, off the sequence's, or onto the loss."""
    estimator: Literal["k1", "k3"]
    """k1 = log pi - log ref, k3 = ref / pi - 1 - log(ref / pi) (Schulman 2020); in a reward at pi_old, constant."""
    kl_clamp: float | None
    """The estimate is clamped to this magnitude."""
    baseline: Literal["batch", "group", "others"]
    """What is subtracted: mean over the round's tokens, mean over the question's rollouts, mean over its other ones."""
    scale: Literal["batch", "group"] | None
    """Deviation that is divided by: over the round's tokens, over the question's rollouts, or none."""
    correction: int
    """Delta degrees of freedom of that deviation: 0 population, 1 sample."""
    epsilon: str
    """What keeps a deviation of 0 from dividing."""
    ratio: Literal["token", "sequence"]
    """What the probability ratio is taken of, and clipped."""
    aggregation: Literal["tokens", "sequences", "constant"]
    """Mean over a step's tokens; mean over each sequence, then over sequences; sum over sequences * maxNewTokens."""
    clip_high: float | None
    """Upper clip, where the method has one of its own; else it is the lower one."""


VARIANTS: dict[str, Variant] = {
    "reinforce++": Variant(
        "arXiv 2501.03262 section 3, as OpenRLHF 0.11 (advantage estimator reinforce)",
        "token", "k1", 10.0, "batch", "batch", 0, "variance at least 1e-8", "token", "tokens", None,
    ),
    "reinforce++-acecoder": Variant(
        "arXiv 2501.03262 section 3, as the AceCoder authors' fork of OpenRLHF, jdf-prog/OpenRLHF b2e2cdb",
        "token", "k1", None, "batch", "batch", 0, "variance at least 1e-8", "token", "sequences", None,
    ),
    "grpo": Variant(
        "arXiv 2402.03300 equations 3 and 4, as TRL 1.16.0 (loss_type grpo, scale_rewards group)",
        "loss", "k3", None, "group", "group", 1, "deviation plus 1e-4", "token", "sequences", None,
    ),
    "rloo": Variant(
        "arXiv 2402.14740 section 3, as TRL 1.16.0 (RLOOTrainer)",
        "sequence", "k1", None, "others", None, 1, "not divided", "sequence", "sequences", None,
    ),
    "dr-grpo": Variant(
        "arXiv 2503.20783 section 3.2, as TRL 1.16.0 (loss_type dr_grpo, scale_rewards none)",
        "loss", "k3", None, "group", None, 1, "not divided", "token", "constant", None,
    ),
    "dapo": Variant(
        "arXiv 2503.14476 equations 8 to 10 (clip-higher, token-level loss), as TRL 1.16.0 (loss_type dapo)",
        "loss", "k3", None, "group", "group", 1, "deviation plus 1e-4", "token", "tokens", 0.28,
    ),
}  # fmt: skip


def update_policy(params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Update `policy` once over the rollouts of a file.

    params: policy and reference (model folders), rollouts (rows {id, questionId, promptIds, completionIds, reward}),
    output (model folder), state (folder for the optimizer's state), resumeState? (state folder of the round before),
    checkpoints (folder), resumeFrom? (a checkpoint folder of the same update), importanceCap? (rows then carry
    logProbs, the sampler's of each completion token, and weigh as `importance_weights` says), config = {name (of
    `VARIANTS`), learningRate, beta, clip, clipHigh? (default: the variant's), maxNewTokens (of the sampling),
    rewardClip, batchSize (rollouts an optimizer step), microBatch (rollouts a backward pass), epochs, upperLayers (null
    = all), maxGradNorm, seed, temperature (of the sampling), checkpointSeconds, sharding? ("none" | "fsdp": models are
    shared by the processes)}.

    Result: {steps, processes, environments (of `checkpoints.environments`), trainedIds (the rollout of every use, in
    order), metrics: {loss, rewardMean, rewardStd (rewards as given), kl (nats a token, k1), entropy (nats a token,
    before the update), clipFraction (of tokens), gradNorm (before clipping, mean over steps), advantageStd (of the
    returns, before baseline and scale), nonZeroAdvantages (rollouts that pull at the policy), importanceMean? and
    importanceCapped? (mean weight, share of tokens at the cap)}, curve: [{step, loss, clipFraction, gradNorm}]}.
    Bit-identical whether or not it was interrupted, in one environment.
    Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `TrainingDiverged`, `Cancelled` (after a last checkpoint).
    """
    config, resume_from = params["config"], params.get("resumeFrom")
    rollouts = read_rows(params["rollouts"], ("id", "questionId", "promptIds", "completionIds", "reward"))
    _check(rollouts, params["rollouts"])
    variant = VARIANTS.get(config["name"])
    if variant is None:
        raise ServiceError("InvalidInput", f"Unknown algorithm '{config['name']}'; known are {', '.join(VARIANTS)}.")
    question, fewest = min(Counter(row["questionId"] for row in rollouts).items(), key=lambda item: item[1])
    if variant.baseline != "batch" and fewest < 2:
        raise ServiceError(
            "InvalidInput", f"Question {question} has one rollout; {config['name']} compares at least two."
        )
    clear_checkpoints(params["checkpoints"], resume_from)
    been_in = environments(config, resume_from, call)
    policy, tokenizer = load_policy(
        params["policy"], upper_layers=config["upperLayers"], sharding=config.get("sharding", "none")
    )
    parameters = trainable_parameters(policy).values()
    optimizer = torch.optim.Adam(parameters, lr=config["learningRate"], betas=ADAM_BETAS, fused=True)
    if resume_from:
        folder = Path(resume_from)
        logs = load_tensors(folder / LOG_PROBABILITIES_FILE)
        load_trainable(policy, folder)
        load_optimizer(optimizer, policy, folder)
        position = json.loads((folder / POSITION_FILE).read_text())
    else:
        with torch.no_grad(), out_of_memory("microBatch", config["microBatch"]):
            reference = params["reference"] if params["reference"] != params["policy"] else None
            logs = _old_log_probabilities(policy, reference, rollouts, config, call)
        if params.get("resumeState"):
            load_optimizer(optimizer, policy, Path(params["resumeState"]))
        position = {"steps": 0, "trainedIds": [], "curve": []}

    mask_BT = logs["mask_BT"]
    # In float64 a batch of equal rewards has a deviation of 0, not of rounding errors blown up to advantages.
    kl_BT = kl_estimate(logs["old_BT"].double(), logs["reference_BT"].double(), variant)
    reward_B = torch.tensor([row["reward"] for row in rollouts], dtype=torch.float64, device=DEVICE)
    clipped_B = reward_B.clamp(-config["rewardClip"], config["rewardClip"])
    questions = {row["questionId"]: None for row in rollouts}
    group_of = {question: index for index, question in enumerate(questions)}
    group_B = torch.tensor([group_of[row["questionId"]] for row in rollouts], device=DEVICE)
    return_BT, advantage_BT = advantages(variant, clipped_B, kl_BT, mask_BT, group_B, config["beta"])
    logs["advantage_BT"] = advantage_BT.float()
    cap = params.get("importanceCap")
    if cap is None:
        logs["importance_BT"] = mask_BT
    else:
        sampler_BT = _sampler_log_probabilities(rollouts, mask_BT)
        logs["importance_BT"] = importance_weights(logs["old_BT"], sampler_BT, mask_BT, variant, cap)

    clock = CheckpointClock(config["checkpointSeconds"])
    steps = list(_steps(len(rollouts), config))
    for indices in steps[position["steps"] :]:
        with deterministic(), out_of_memory("microBatch", config["microBatch"]):
            metrics = _optimizer_step(policy, optimizer, rollouts, indices, logs, variant, config)
        position["steps"] += 1
        if not (math.isfinite(metrics["loss"]) and math.isfinite(metrics["gradNorm"])):
            raise ServiceError(
                "TrainingDiverged",
                f"Loss {metrics['loss']} and gradient norm {metrics['gradNorm']} at step {position['steps']} "
                f"with learning rate {config['learningRate']}; lower learningRate.",
            )
        position["trainedIds"] += [rollouts[index]["id"] for index in indices]
        position["curve"].append({"step": position["steps"], **metrics})
        call.progress(position["steps"], len(steps), "updating the policy", metrics)
        cancelled, due = decided(call.cancelled, clock.due())
        if cancelled or due:

            def write_rest(folder: Path) -> None:
                save_file({name: logs[name] for name in FIXED}, folder / LOG_PROBABILITIES_FILE)
                (folder / POSITION_FILE).write_text(json.dumps(position))

            path = write_checkpoint(params["checkpoints"], position["steps"], policy, optimizer, been_in, write_rest)
            clock.restart()
            call.checkpoint(position["steps"], path)
            if cancelled:
                raise Cancelled
    save_model(policy, tokenizer, params["output"])
    state = optimizer_tensors(optimizer, policy)
    if RANK == 0:
        with new_folder(params["state"]) as folder:
            save_file(state, folder / OPTIMIZER_FILE)
    curve = position["curve"]
    return {
        "steps": position["steps"],
        "processes": PROCESSES,
        "environments": been_in,
        "trainedIds": position["trainedIds"],
        "metrics": {
            **{name: sum(point[name] for point in curve) / len(curve) for name in ("loss", "clipFraction", "gradNorm")},
            "rewardMean": reward_B.mean().item(),
            "rewardStd": reward_B.std(correction=0).item(),
            "kl": masked_mean((logs["old_BT"] - logs["reference_BT"]).double(), mask_BT).item(),
            "entropy": masked_mean(logs["entropy_BT"], mask_BT).item(),
            "advantageStd": masked_std(return_BT, mask_BT).item(),
            "nonZeroAdvantages": int(((advantage_BT.abs() > 1e-6) & (mask_BT > 0)).any(-1).sum()),
            **({} if cap is None else _importance_metrics(logs["importance_BT"], mask_BT, cap)),
        },
        "curve": curve,
    }


# -- The method, on tensors -------------------------------------------------------------------------------------------


def kl_estimate(logp_BT: torch.Tensor, reference_BT: torch.Tensor, variant: Variant) -> torch.Tensor:
    """The variant's estimate of KL(policy || reference) at each token [B, T], from samples of the policy."""
    log_ratio_BT = logp_BT - reference_BT
    kl_BT = log_ratio_BT if variant.estimator == "k1" else (-log_ratio_BT).exp() - 1 + log_ratio_BT
    return kl_BT if variant.kl_clamp is None else kl_BT.clamp(-variant.kl_clamp, variant.kl_clamp)


def token_rewards(kl_BT: torch.Tensor, reward_B: torch.Tensor, mask_BT: torch.Tensor, beta: float) -> torch.Tensor:
    """Per-token rewards [B, T]: -beta * KL_t everywhere, plus the sequence's reward at its last completion token.

    `mask_BT` is 1 at completion tokens, which are contiguous from position 0, and 0 behind them.
    """
    reward_BT = -beta * kl_BT * mask_BT
    last_B = mask_BT.sum(-1).long() - 1
    reward_BT[torch.arange(len(last_B)), last_B] += reward_B
    return reward_BT


def returns(reward_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Undiscounted returns [B, T]: the sum of the rewards from each position to the end, 0 outside the mask."""
    return (reward_BT * mask_BT).flip(-1).cumsum(-1).flip(-1) * mask_BT


def normalised_advantages(return_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Advantages [B, T]: returns normalised to mean 0 and deviation 1 over all masked-in tokens of the batch.

    Equal returns give advantages of 0, because the deviation is floored at 1e-4, and the mean is taken off twice: the
    rounding error that the first time leaves would be enough for Adam, which scales gradients up.
    """
    deviation = masked_std(return_BT, mask_BT).clamp(min=1e-4)
    centred_BT = return_BT - masked_mean(return_BT, mask_BT)
    return (centred_BT - masked_mean(centred_BT, mask_BT)) / deviation * mask_BT


def group_advantages(reward_B: torch.Tensor, group_B: torch.Tensor, variant: Variant) -> torch.Tensor:
    """Advantages [B] of sequence rewards against their own question's rollouts; `group_B` numbers the questions.

    Groups may differ in size, as rollouts that could not be judged are missing; each has at least two.
    """
    groups = int(group_B.max()) + 1

    def sum_B(values_B: torch.Tensor) -> torch.Tensor:
        """The sum over each rollout's group."""
        return values_B.new_zeros(groups).index_add(0, group_B, values_B)[group_B]

    size_B = sum_B(torch.ones_like(reward_B))
    # Twice, as in `normalised_advantages`.
    centred_B = reward_B - sum_B(reward_B) / size_B
    centred_B = centred_B - sum_B(centred_B) / size_B
    if variant.baseline == "others":
        # A rollout's distance from its group's mean is (n - 1) / n of that from the mean of the others.
        return centred_B * size_B / (size_B - 1)
    if variant.scale is None:
        return centred_B
    return centred_B / ((sum_B(centred_B**2) / (size_B - variant.correction)).sqrt() + 1e-4)


def advantages(
    variant: Variant,
    reward_B: torch.Tensor,
    kl_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    group_B: torch.Tensor,
    beta: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns and advantages of a round, both [B, T] and 0 outside the mask.

    `kl_BT` is the variant's estimate at the policy before the update; a penalty in the loss has no use for it.
    """
    if variant.baseline == "batch":
        return_BT = returns(token_rewards(kl_BT, reward_B, mask_BT, beta), mask_BT)
        return return_BT, normalised_advantages(return_BT, mask_BT)
    if variant.penalty == "sequence":
        reward_B = reward_B - beta * (kl_BT * mask_BT).sum(-1)
    advantage_B = group_advantages(reward_B, group_B, variant)
    return reward_B[:, None] * mask_BT, advantage_B[:, None] * mask_BT


def token_weights(mask_BT: torch.Tensor, step: Sequence[int], variant: Variant, max_new_tokens: int) -> torch.Tensor:
    """Weight [B, T] of each token's loss in a micro-batch; `step` holds the lengths in tokens of its whole step."""
    if variant.aggregation == "tokens":
        return mask_BT / sum(step)
    if variant.aggregation == "constant":
        return mask_BT / (len(step) * max_new_tokens)
    return mask_BT / mask_BT.sum(-1, keepdim=True) / len(step)


def policy_loss(
    variant: Variant,
    logp_BT: torch.Tensor,
    old_BT: torch.Tensor,
    reference_BT: torch.Tensor,
    advantage_BT: torch.Tensor,
    weight_BT: torch.Tensor,
    clip: float,
    clip_high: float,
    beta: float,
    importance_BT: torch.Tensor | float = 1.0,
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate loss (arXiv 1707.06347, equation 7), weighted and summed, and the tokens that it clips.

    `weight_BT` is 0 outside the mask; `importance_BT` is 1 where the policy itself was sampled, and weighs the
    surrogate alone, not the KL to the reference, as TRL's importance-sampling correction does. Of a sequence's ratio,
    every token carries the sequence's loss.
    """
    mask_BT = (weight_BT > 0).to(logp_BT.dtype)
    log_ratio_BT = (logp_BT - old_BT) * mask_BT
    if variant.ratio == "sequence":
        log_ratio_BT = log_ratio_BT.sum(-1, keepdim=True).expand_as(log_ratio_BT)
    ratio_BT = log_ratio_BT.exp()
    free_BT = ratio_BT * advantage_BT
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip_high) * advantage_BT
    loss_BT = -torch.min(free_BT, clipped_BT) * importance_BT
    if variant.penalty == "loss" and beta > 0:
        loss_BT = loss_BT + beta * kl_estimate(logp_BT, reference_BT, variant)
    # `where`, because outside the mask a ratio may overflow, and 0 times infinity is no number.
    loss = torch.where(mask_BT > 0, loss_BT * weight_BT, 0.0).sum()
    return loss, ((clipped_BT < free_BT) & (mask_BT > 0)).sum()


def importance_weights(
    old_BT: torch.Tensor, sampler_BT: torch.Tensor, mask_BT: torch.Tensor, variant: Variant, cap: float
) -> torch.Tensor:
    """Truncated importance weights [B, T]: min(pi_old / pi_sampler, cap), 0 outside the mask, without a gradient.

    They correct for rollouts of an older policy than the one that is updated (truncation: Ionides 2008, "Truncated
    Importance Sampling"); PPO's own ratio is taken of the policy before the update, as in AReaL's decoupled objective
    (arXiv 2505.24298, equation 5). A variant whose ratio is the sequence's has the sequence's weight at each token.
    """
    log_weight_BT = (old_BT - sampler_BT) * mask_BT
    if variant.ratio == "sequence":
        log_weight_BT = log_weight_BT.sum(-1, keepdim=True).expand_as(log_weight_BT)
    # Clamped before the exponential, which may overflow.
    return log_weight_BT.clamp(max=math.log(cap)).exp() * mask_BT


def masked_mean(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Mean over the masked-in tokens of the whole batch."""
    return (values_BT * mask_BT).sum() / mask_BT.sum()


def masked_std(values_BT: torch.Tensor, mask_BT: torch.Tensor) -> torch.Tensor:
    """Population standard deviation over the masked-in tokens of the whole batch."""
    return masked_mean((values_BT - masked_mean(values_BT, mask_BT)) ** 2, mask_BT).sqrt()


# -- Models and steps -------------------------------------------------------------------------------------------------


def _optimizer_step(
    policy: PreTrainedModel,
    optimizer: torch.optim.Optimizer,
    rollouts: Sequence[Row],
    indices: Sequence[int],
    logs: Mapping[str, torch.Tensor],
    variant: Variant,
    config: Mapping[str, Any],
) -> dict[str, float]:
    """One step over the rollouts `indices`; `logs` holds what is `FIXED` and `advantage_BT` of the whole round."""
    lengths = [len(rollouts[index]["completionIds"]) for index in indices]
    clip_high = config.get("clipHigh") or variant.clip_high or config["clip"]
    sums = torch.zeros(2, dtype=torch.float64)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    optimizer.zero_grad()
    for chunk, counts in shares(_micro_batches(rollouts, indices, config["microBatch"])):
        logp_BT, mask_BT, _ = _log_probabilities(policy, [rollouts[index] for index in chunk], config["temperature"])
        width = mask_BT.shape[-1]
        loss, clipped = policy_loss(
            variant,
            logp_BT,
            *(logs[name][chunk, :width] for name in ("old_BT", "reference_BT", "advantage_BT")),
            counts * token_weights(mask_BT, lengths, variant, config["maxNewTokens"]),
            config["clip"],
            clip_high,
            config["beta"],
            logs["importance_BT"][chunk, :width],
        )
        loss.backward()
        sums += torch.tensor([loss.item(), clipped.item()], dtype=torch.float64)
    sum_gradients(parameters)
    grad_norm = clip_gradients(parameters, config["maxGradNorm"])
    optimizer.step()
    loss_sum, clipped_sum = sum_over_processes(sums).tolist()
    return {"loss": loss_sum, "clipFraction": clipped_sum / sum(lengths), "gradNorm": grad_norm}


def _sampler_log_probabilities(rollouts: Sequence[Row], mask_BT: torch.Tensor) -> torch.Tensor:
    """The sampler's log-probabilities [B, T] as the rollouts carry them, 0 outside the mask."""
    sampler_BT = torch.zeros_like(mask_BT)
    for index, row in enumerate(rollouts):
        if len(row.get("logProbs") or ()) != len(row["completionIds"]):
            raise ServiceError(
                "InvalidInput",
                f"Rollout {row['id']} has {len(row.get('logProbs') or ())} log-probabilities of the sampler for "
                f"{len(row['completionIds'])} tokens; importance weights need one for each.",
            )
        sampler_BT[index, : len(row["logProbs"])] = torch.tensor(row["logProbs"], device=mask_BT.device)
    return sampler_BT


def _importance_metrics(importance_BT: torch.Tensor, mask_BT: torch.Tensor, cap: float) -> dict[str, float]:
    capped_BT = (importance_BT >= cap * (1 - 1e-6)).to(mask_BT.dtype)
    return {
        "importanceMean": masked_mean(importance_BT, mask_BT).item(),
        "importanceCapped": masked_mean(capped_BT, mask_BT).item(),
    }


def _old_log_probabilities(
    policy: PreTrainedModel, reference_path: str | None, rollouts: Sequence[Row], config: Mapping[str, Any], call: Call
) -> dict[str, torch.Tensor]:
    """What stays fixed during the update, each float32 [B, T] over all rollouts.

    Without `reference_path` the policy is its own reference, as in a first round, and is asked once.
    """
    shape = (len(rollouts), max(len(row["completionIds"]) for row in rollouts))
    logs = {name: torch.zeros(shape, device=DEVICE) for name in FIXED}
    reference = None
    if reference_path and config.get("sharding", "none") == "none":
        reference = warm_policy(reference_path, torch.float32)[0]
    elif reference_path:
        reference = load_policy(reference_path, sharding=config["sharding"])[0]
    done = 0
    for chunk, counts in shares(_micro_batches(rollouts, range(len(rollouts)), config["microBatch"])):
        raise_if_cancelled(call)
        rows = [rollouts[index] for index in chunk]
        old_bt, mask_bt, entropy_bt = _log_probabilities(policy, rows, config["temperature"], entropy=True)
        reference_bt = _log_probabilities(reference, rows, config["temperature"])[0] if reference else old_bt
        if not counts:
            continue
        for name, values in (
            ("old_BT", old_bt),
            ("reference_BT", reference_bt),
            ("entropy_BT", entropy_bt),
            ("mask_BT", mask_bt),
        ):
            logs[name][chunk, : values.shape[-1]] = values
        done += len(chunk) * PROCESSES
        call.progress(min(done, len(rollouts)), len(rollouts), "log-probabilities of the rollouts")
    return {name: sum_over_processes(values) for name, values in logs.items()}  # a rollout's row is 0 in other ranks


def _log_probabilities(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float, entropy: bool = False
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Log-probability of each completion token, mask, and entropy at its position if wanted: float32 [B, T], 0 outside
    the mask.

    Prompts are padded on the left and completions on the right, so that the completions of a batch share their columns
    and the output head sees no prompt.
    """
    width_P, width_T = (max(len(row[name]) for row in rows) for name in ("promptIds", "completionIds"))
    ids, attended, mask = [], [], []
    for row in rows:
        prompt, completion = row["promptIds"], row["completionIds"]
        before, behind = width_P - len(prompt), width_T - len(completion)
        ids.append([0] * before + prompt + completion + [0] * behind)
        attended.append([0] * before + [1] * (len(prompt) + len(completion)) + [0] * behind)
        mask.append([1.0] * len(completion) + [0.0] * behind)
    ids_BX = torch.tensor(ids, device=DEVICE)
    attended_BX = torch.tensor(attended, device=DEVICE)
    mask_BT = torch.tensor(mask, device=DEVICE)
    with autocast():
        logits_BTV = model(
            input_ids=ids_BX,
            attention_mask=attended_BX,
            position_ids=(attended_BX.cumsum(-1) - 1).clamp(min=0),
            use_cache=False,
            logits_to_keep=width_T + 1,
        ).logits[:, :-1]
    all_logp_BTV = (logits_BTV.float() / temperature).log_softmax(-1)
    logp_BT = all_logp_BTV.gather(-1, ids_BX[:, width_P:, None]).squeeze(-1) * mask_BT
    return logp_BT, mask_BT, -(all_logp_BTV.exp() * all_logp_BTV).sum(-1) * mask_BT if entropy else None


def _micro_batches(rollouts: Sequence[Row], indices: Sequence[int], micro_batch: int) -> list[list[int]]:
    """`indices` in chunks of `micro_batch`, longest first; the loss is a sum, so the order within a step is free."""
    ordered = sorted(indices, key=lambda index: (-len(rollouts[index]["completionIds"]), index))
    return [ordered[start : start + micro_batch] for start in range(0, len(ordered), micro_batch)]


def _steps(rollouts: int, config: Mapping[str, Any]) -> Iterator[list[int]]:
    """The rollouts of each optimizer step, epoch after epoch."""
    for epoch in range(config["epochs"]):
        order = np.random.Generator(np.random.PCG64([config["seed"], epoch])).permutation(rollouts).tolist()
        for start in range(0, rollouts, config["batchSize"]):
            yield order[start : start + config["batchSize"]]


def _check(rollouts: Sequence[Row], path: str) -> None:
    if not rollouts:
        raise ServiceError("InvalidInput", f"{path} holds no rollouts; a round needs at least one.")
    for row in rollouts:
        if not (row["promptIds"] and row["completionIds"] and math.isfinite(row["reward"])):
            raise ServiceError("InvalidInput", f"Rollout {row['id']} needs a prompt, a completion and a finite reward.")

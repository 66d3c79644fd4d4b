"""One update of a policy over stored rollouts, by one of several published methods.

The operation only consumes what is stored: prompts, completions and rewards come from a file, so that an interrupted
update costs neither tokens nor executions. `runtime/methods` has a file for each method, `runtime/training.py` says
what they share, and docs/reference/algorithms.md compares them in words.

Gradient norm is clipped, the learning rate is constant after a warm-up, and the optimizer's state is carried over
between rounds.

Tensor names end in their shape: B rollouts, T completion positions.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from operations import UpdatePolicyConfig, UpdatePolicyMetrics, UpdatePolicyParams, UpdatePolicyResult
from runtime import methods
from runtime.adapters import add_adapters, load_adapters, save_adapters
from runtime.answer_ends import end_loss, end_probability, sampled_length, split_ends, with_ends
from runtime.checkpoints import (
    OPTIMIZER_FILE,
    clear_checkpoints,
    environments,
    load_optimizer,
    load_tensors,
    optimizer_tensors,
)
from runtime.files import Row, new_folder, read_rows
from runtime.learning_rates import warmed_up
from runtime.log_probabilities import (
    FIXED,
    fixed_log_probabilities,
    log_probabilities,
    sampler_log_probabilities,
)
from runtime.methods.base import Advantages, Method, MicroBatch, Round, importance_weights, masked_mean, masked_std
from runtime.micro_batches import limit, micro_batches
from runtime.models import DEVICE, load_policy, out_of_memory, recompute_blocks, save_model
from runtime.parallel import accumulated, sum_over_processes
from runtime.processes import PROCESSES, RANK
from runtime.training import Curve, Training, adam, steps_of, whole_steps
from serve import Call, ServiceError

LOG_PROBABILITIES_FILE = "log-probabilities.safetensors"


def update_policy(params: UpdatePolicyParams, call: Call) -> UpdatePolicyResult:
    """Update `policy` once over the rollouts of a file.

    params: policy and reference (model folders), adapter? (folder of adapters that the policy has on top, and the
    reference has not), rollouts (rows {id, questionId, promptIds, completionIds, reward, finish? ("stop" | "length")}),
    output (model folder; with config.lora one of adapters), state (folder for the optimizer's state), resumeState?
    (state folder of the round before), checkpoints (folder), resumeFrom? (a checkpoint folder of the same update),
    importanceCap? (rows then carry logProbs, the sampler's of each completion token, and weigh as `importance_weights`
    says), warmUp? (of `learning_rates.warmed_up`), config = {name (of `methods.FILES`), learningRate, beta, clip,
    clipHigh? (default: the method's), endWeight (of the loss in `answer_ends`; 0: none), maxNewTokens (of the
    sampling), rewardClip, batchSize (rollouts an optimizer step), microBatch (rollouts a backward pass),
    microBatchTokens? (as `micro_batches.cut` has it), gradientCheckpointing? (blocks are computed again in the backward
    pass), epochs, upperLayers (null = all), lora? (as `adapters_config` has it, with base, what tells the model below:
    adapters alone are trained, fresh ones or those of `adapter`), maxGradNorm, seed, temperature (of the sampling),
    checkpointSeconds, sharding? ("none" | "fsdp": models are shared by the processes)}.

    Result: {steps, processes, environments (of `checkpoints.environments`), trainedIds (the rollout of every use, in
    order), metrics: {loss, rewardMean, rewardStd (rewards as given), kl (nats a token, k1), entropy (nats a token,
    before the update), clipFraction (of tokens), gradNorm (before clipping, mean over steps), advantageStd (of the
    returns, before baseline and scale), nonZeroAdvantages (rollouts that pull at the policy), importanceMean? and
    importanceCapped? (mean weight, share of tokens at the cap), endProbability? (before the update, where a fence
    closed answers)}, curve: [{step, loss, clipFraction, gradNorm}]}.
    Bit-identical whether or not it was interrupted, in one environment.
    Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `TrainingDiverged`, `Cancelled` (after a last checkpoint).
    """
    config, resume_from, lora = params["config"], params.get("resumeFrom"), params["config"].get("lora")
    if lora and (config["upperLayers"] is not None or config.get("sharding", "none") != "none"):
        raise ServiceError("InvalidInput", "lora excludes upperLayers and sharding; leave those null and 'none'.")
    rollouts = read_rows(params["rollouts"], ("id", "questionId", "promptIds", "completionIds", "reward"))
    _check(rollouts, params["rollouts"])
    method = _method(config["name"], rollouts)
    clear_checkpoints(params["checkpoints"], resume_from)
    been_in = environments(config, resume_from, call)
    policy, tokenizer = load_policy(
        params["policy"], upper_layers=config["upperLayers"], sharding=config.get("sharding", "none")
    )
    if lora and (adapter := params.get("adapter")):
        load_adapters(policy, adapter)
    elif lora:
        add_adapters(policy, lora, config["seed"])
    if config["endWeight"] > 0:
        rollouts = with_ends(rollouts, policy, tokenizer)
    if config.get("gradientCheckpointing"):
        recompute_blocks(policy)
    training = Training(policy, adam(policy, config["learningRate"]), been_in, params["checkpoints"], config)
    if resume_from:
        logs = load_tensors(Path(resume_from) / LOG_PROBABILITIES_FILE)
        training.resume(Path(resume_from))
    else:
        with torch.no_grad(), out_of_memory(*limit(config)):
            is_other = params["reference"] != params["policy"] or "adapter" in params
            reference = params["reference"] if is_other else None
            logs = fixed_log_probabilities(policy, reference, rollouts, config, call)
        if resume_state := params.get("resumeState"):
            load_optimizer(training.optimizer, policy, Path(resume_state))

    logs["mask_BT"], logs["end_BT"] = split_ends(rollouts, logs["mask_BT"])
    mask_BT = logs["mask_BT"]
    reward_B = torch.tensor([row["reward"] for row in rollouts], dtype=torch.float64, device=DEVICE)
    made = method.advantages(_round(rollouts, reward_B, logs, config))
    logs["advantage_BT"] = made.advantage_BT.float()
    cap = params.get("importanceCap")
    if cap is None:
        logs["importance_BT"] = mask_BT
    else:
        sampler_BT = sampler_log_probabilities(rollouts, mask_BT)
        logs["importance_BT"] = importance_weights(logs["old_BT"], sampler_BT, mask_BT, method.ratio, cap)

    steps = steps_of(len(rollouts), config)

    def step(indices: Sequence[int], index: int) -> dict[str, float]:
        for group in training.optimizer.param_groups:
            group["lr"] = config["learningRate"] * warmed_up(index, len(steps), params.get("warmUp"))
        return _optimizer_step(training, rollouts, indices, logs, method)

    def write_fixed(folder: Path) -> None:
        fixed = {**{name: logs[name] for name in FIXED}, "mask_BT": logs["mask_BT"] + logs["end_BT"]}
        save_file(fixed, folder / LOG_PROBABILITIES_FILE)

    curve = training.run(steps, step, call, "updating the policy", write_fixed)
    if lora:
        save_adapters(policy, lora, params["output"])
    else:
        save_model(policy, tokenizer, params["output"])
    state = optimizer_tensors(training.optimizer, policy)
    if RANK == 0:
        with new_folder(params["state"]) as folder:
            save_file(state, folder / OPTIMIZER_FILE)
    return {
        "steps": len(curve),
        "processes": PROCESSES,
        "environments": been_in,
        "trainedIds": [rollouts[index]["id"] for indices in steps for index in indices],
        "metrics": _metrics(curve, reward_B, made, logs, cap),
        "curve": [
            {
                "step": int(point["step"]),
                "loss": point["loss"],
                "clipFraction": point["clipFraction"],
                "gradNorm": point["gradNorm"],
            }
            for point in curve
        ],
    }


def _metrics(
    curve: Curve, reward_B: torch.Tensor, made: Advantages, logs: Mapping[str, torch.Tensor], cap: float | None
) -> UpdatePolicyMetrics:
    mask_BT = logs["mask_BT"]

    def mean(name: str) -> float:
        return sum(point[name] for point in curve) / len(curve)

    metrics: UpdatePolicyMetrics = {
        "loss": mean("loss"),
        "clipFraction": mean("clipFraction"),
        "gradNorm": mean("gradNorm"),
        "rewardMean": reward_B.mean().item(),
        "rewardStd": reward_B.std(correction=0).item(),
        "kl": masked_mean((logs["old_BT"] - logs["reference_BT"]).double(), mask_BT).item(),
        "entropy": masked_mean(logs["entropy_BT"], mask_BT).item(),
        "advantageStd": masked_std(made.return_BT, mask_BT).item(),
        "nonZeroAdvantages": int(((made.advantage_BT.abs() > 1e-6) & (mask_BT > 0)).any(-1).sum()),
    }
    if cap is not None:
        capped_BT = (logs["importance_BT"] >= cap * (1 - 1e-6)).to(mask_BT.dtype)
        metrics["importanceMean"] = masked_mean(logs["importance_BT"], mask_BT).item()
        metrics["importanceCapped"] = masked_mean(capped_BT, mask_BT).item()
    if (ending := end_probability(logs["old_BT"], logs["end_BT"])) is not None:
        metrics["endProbability"] = ending
    return metrics


def _method(name: str, rollouts: Sequence[Row]) -> Method:
    """The method, which can work with these rollouts. Raises `InvalidInput`."""
    if name not in methods.FILES:
        raise ServiceError("InvalidInput", f"Unknown algorithm '{name}'; known are {', '.join(methods.FILES)}.")
    method = methods.find_method(name)
    question, fewest = min(Counter(row["questionId"] for row in rollouts).items(), key=lambda item: item[1])
    if method.compares_groups and fewest < 2:
        raise ServiceError("InvalidInput", f"Question {question} has one rollout; {name} compares at least two.")
    return method


def _round(
    rollouts: Sequence[Row], reward_B: torch.Tensor, logs: Mapping[str, torch.Tensor], config: UpdatePolicyConfig
) -> Round:
    group_of = {question: index for index, question in enumerate({row["questionId"]: None for row in rollouts})}
    return Round(
        reward_B=reward_B.clamp(-config["rewardClip"], config["rewardClip"]),
        old_BT=logs["old_BT"].double(),
        reference_BT=logs["reference_BT"].double(),
        mask_BT=logs["mask_BT"],
        group_B=torch.tensor([group_of[row["questionId"]] for row in rollouts], device=DEVICE),
        beta=config["beta"],
    )


def _optimizer_step(
    training: Training,
    rollouts: Sequence[Row],
    indices: Sequence[int],
    logs: Mapping[str, torch.Tensor],
    method: Method,
) -> dict[str, float]:
    """One step over the rollouts `indices`; `logs` holds `FIXED`, `advantage_BT` and `importance_BT` of the round, and
    `end_BT`, which `mask_BT` leaves out."""
    config = training.config
    lengths = [sampled_length(rollouts[index]) for index in indices]
    sums = torch.zeros(2, dtype=torch.float64)
    training.optimizer.zero_grad()
    for chunk, counts in accumulated(training.model, micro_batches(rollouts, indices, config), whole_steps(config)):
        rows = [rollouts[index] for index in chunk]
        logp_BT, _ = log_probabilities(training.model, rows, config["temperature"])
        width = logp_BT.shape[-1]
        names = ("old_BT", "reference_BT", "advantage_BT", "importance_BT", "mask_BT")
        loss = method.loss(
            MicroBatch(
                logp_BT=logp_BT,
                **{name: logs[name][chunk, :width] for name in names},
                step=lengths,
                max_new_tokens=config["maxNewTokens"],
                clip=config["clip"],
                clip_high=config.get("clipHigh") or method.clip_high or config["clip"],
                beta=config["beta"],
                counts=counts,
            )
        )
        value = loss.value + counts * end_loss(
            logp_BT, logs["end_BT"][chunk, :width], config["endWeight"], sum(lengths)
        )
        value.backward()
        sums += torch.tensor([value.item(), loss.clipped.item()], dtype=torch.float64)
    loss_sum, clipped_sum = sum_over_processes(sums).tolist()
    grad_norm = training.apply_gradients(config["maxGradNorm"], loss_sum)
    return {"loss": loss_sum, "clipFraction": clipped_sum / sum(lengths), "gradNorm": grad_norm}


def _check(rollouts: Sequence[Row], path: str) -> None:
    if not rollouts:
        raise ServiceError("InvalidInput", f"{path} holds no rollouts; a round needs at least one.")
    for row in rollouts:
        if not (row["promptIds"] and row["completionIds"] and math.isfinite(row["reward"])):
            raise ServiceError("InvalidInput", f"Rollout {row['id']} needs a prompt, a completion and a finite reward.")

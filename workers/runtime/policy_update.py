"""One REINFORCE++ update of a policy over stored rollouts.

A pure consumer: prompts, completions and rewards come from a file, so an interrupted update costs neither tokens nor
executions. What the method leaves open is fixed here. Sources: P = REINFORCE++ (arXiv 2501.03262, section 3), C =
OpenRLHF with `advantage_estimator=reinforce` and otherwise its defaults, PPO = arXiv 1707.06347, equation 7.

| quantity           | definition                                                                           | source |
|--------------------|--------------------------------------------------------------------------------------|--------|
| token reward       | -beta * KL_t, plus the clipped sequence reward at the last completion token          | P, C   |
| KL_t               | log pi_old(a_t) - log pi_ref(a_t), the k1 estimator, constant during the update      | C      |
| log-probabilities  | of logits / temperature, by the models as trained here, not as the sampler saw them  | C      |
| return G_t         | sum of the token rewards from t to the end (gamma = 1)                               | P, C   |
| advantage A_t      | (G_t - mean) / max(std, 1e-4) over all completion tokens of the rollout batch,       | P, C   |
|                    | with the population std                                                              |        |
| loss               | mean over an optimizer step's tokens of -min(r A, clip(r, 1 - clip, 1 + clip) A),    | PPO, C |
|                    | r = pi / pi_old                                                                      |        |
| left out           | critic, entropy bonus, KL term in the loss                                           | P      |
| optimizer          | Adam, betas (0.9, 0.95), no weight decay, gradient norm clipped, constant learning   | C      |
|                    | rate, state carried over between rounds                                              |        |
| order              | a seeded permutation of the rollouts an epoch; its last step may be smaller          | here   |

Tensor names end in their shape: B rollouts, T completion positions, X prompt and completion positions, V vocabulary.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from transformers import PreTrainedModel

from runtime.checkpoints import (
    CheckpointClock,
    checkpoint_folder,
    clear_checkpoints,
    keep_newest,
    load_tensors,
    load_trainable,
    save_trainable,
)
from runtime.files import Row, new_folder, read_rows
from runtime.models import DEVICE, autocast, load_policy, out_of_memory, save_model, train_upper_layers, warm_policy
from serve import Call, Cancelled, ServiceError

OPTIMIZER_FILE = "optimizer.safetensors"
LOG_PROBABILITIES_FILE = "log-probabilities.safetensors"
POSITION_FILE = "position.json"
ADAM_BETAS = (0.9, 0.95)


def update_policy(params: Mapping[str, Any], call: Call) -> dict[str, Any]:
    """Update `policy` once over the rollouts of a file.

    params: policy and reference (model folders), rollouts (rows {id, questionId, promptIds, completionIds, reward}),
    output (model folder), state (folder for the optimizer's state), resumeState? (state folder of the round before),
    checkpoints (folder), resumeFrom? (a checkpoint folder of the same update), config = {learningRate, beta, clip,
    rewardClip, batchSize (rollouts an optimizer step), microBatch (rollouts a backward pass), epochs, upperLayers
    (null = all), maxGradNorm, seed, temperature (of the sampling), checkpointSeconds}.

    Result: {steps, trainedIds (the rollout of every use, in order), metrics: {loss, rewardMean, rewardStd (rewards as
    given), kl (nats a token, k1), entropy (nats a token, before the update), clipFraction, gradNorm (before clipping,
    mean over steps), advantageStd (of the returns, before normalisation), nonZeroAdvantages (rollouts that pull at the
    policy)}, curve: [{step, loss, clipFraction, gradNorm}]}. Bit-identical whether or not it was interrupted, on the
    same CPU settings. Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `TrainingDiverged`, `Cancelled` (after a
    last checkpoint).
    """
    config, resume_from = params["config"], params.get("resumeFrom")
    rollouts = read_rows(params["rollouts"], ("id", "questionId", "promptIds", "completionIds", "reward"))
    _check(rollouts, params["rollouts"])
    clear_checkpoints(params["checkpoints"], resume_from)
    policy, tokenizer = load_policy(params["policy"])
    train_upper_layers(policy, config["upperLayers"])
    trainable = {name: p for name, p in policy.named_parameters() if p.requires_grad}
    optimizer = torch.optim.Adam(trainable.values(), lr=config["learningRate"], betas=ADAM_BETAS)
    if resume_from:
        folder = Path(resume_from)
        logs = load_tensors(folder / LOG_PROBABILITIES_FILE)
        load_trainable(policy, folder)
        _load_optimizer(optimizer, trainable, folder)
        position = json.loads((folder / POSITION_FILE).read_text())
    else:
        with torch.no_grad(), out_of_memory("microBatch", config["microBatch"]):
            reference = params["reference"] if params["reference"] != params["policy"] else None
            logs = _old_log_probabilities(policy, reference, rollouts, config, call)
        if params.get("resumeState"):
            _load_optimizer(optimizer, trainable, Path(params["resumeState"]))
        position = {"steps": 0, "trainedIds": [], "curve": []}

    mask_BT = logs["mask_BT"]
    # In float64 a batch of equal rewards has a deviation of 0, not of rounding errors blown up to advantages.
    kl_BT = (logs["old_BT"] - logs["reference_BT"]).double()
    reward_B = torch.tensor([row["reward"] for row in rollouts], dtype=torch.float64, device=DEVICE)
    clipped_B = reward_B.clamp(-config["rewardClip"], config["rewardClip"])
    return_BT = returns(token_rewards(kl_BT, clipped_B, mask_BT, config["beta"]), mask_BT)
    advantage_BT = normalised_advantages(return_BT, mask_BT)

    clock = CheckpointClock(config["checkpointSeconds"])
    steps = list(_steps(len(rollouts), config))
    for indices in steps[position["steps"] :]:
        with out_of_memory("microBatch", config["microBatch"]):
            metrics = _optimizer_step(
                policy, optimizer, rollouts, indices, logs["old_BT"], advantage_BT.float(), config
            )
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
        if call.cancelled or clock.due():
            path = checkpoint_folder(params["checkpoints"], position["steps"])
            with new_folder(path) as folder:
                save_trainable(policy, folder)
                _save_optimizer(optimizer, trainable, folder)
                save_file(logs, folder / LOG_PROBABILITIES_FILE)
                (folder / POSITION_FILE).write_text(json.dumps(position))
            keep_newest(params["checkpoints"])
            clock.restart()
            call.checkpoint(position["steps"], path)
            if call.cancelled:
                raise Cancelled
    save_model(policy, tokenizer, params["output"])
    with new_folder(params["state"]) as folder:
        _save_optimizer(optimizer, trainable, folder)
    curve = position["curve"]
    return {
        "steps": position["steps"],
        "trainedIds": position["trainedIds"],
        "metrics": {
            **{name: sum(point[name] for point in curve) / len(curve) for name in ("loss", "clipFraction", "gradNorm")},
            "rewardMean": reward_B.mean().item(),
            "rewardStd": reward_B.std(correction=0).item(),
            "kl": masked_mean(kl_BT, mask_BT).item(),
            "entropy": masked_mean(logs["entropy_BT"], mask_BT).item(),
            "advantageStd": masked_std(return_BT, mask_BT).item(),
            "nonZeroAdvantages": int(((advantage_BT.abs() > 1e-6) & (mask_BT > 0)).any(-1).sum()),
        },
        "curve": curve,
    }


# -- The method, on tensors -------------------------------------------------------------------------------------------


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

    Equal returns give advantages of 0, because the deviation is floored at 1e-4.
    """
    deviation = masked_std(return_BT, mask_BT).clamp(min=1e-4)
    return (return_BT - masked_mean(return_BT, mask_BT)) / deviation * mask_BT


def clipped_loss(
    logp_BT: torch.Tensor, old_BT: torch.Tensor, advantage_BT: torch.Tensor, mask_BT: torch.Tensor, clip: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """PPO's clipped surrogate loss and how many tokens it clips, both summed over the masked-in tokens (scalars)."""
    ratio_BT = (logp_BT - old_BT).exp()
    free_BT = ratio_BT * advantage_BT
    clipped_BT = ratio_BT.clamp(1 - clip, 1 + clip) * advantage_BT
    loss = -(torch.min(free_BT, clipped_BT) * mask_BT).sum()
    return loss, ((clipped_BT < free_BT) * mask_BT).sum()


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
    old_BT: torch.Tensor,
    advantage_BT: torch.Tensor,
    config: Mapping[str, Any],
) -> dict[str, float]:
    """One step over the rollouts `indices`: the loss is a mean over all their tokens, whatever the micro-batches."""
    tokens = sum(len(rollouts[index]["completionIds"]) for index in indices)
    loss_sum = clipped_sum = 0.0
    optimizer.zero_grad()
    for chunk in _micro_batches(rollouts, indices, config["microBatch"]):
        logp_BT, _, mask_BT = _log_probabilities(policy, [rollouts[index] for index in chunk], config["temperature"])
        width = mask_BT.shape[-1]
        loss, clipped = clipped_loss(
            logp_BT, old_BT[chunk, :width], advantage_BT[chunk, :width], mask_BT, config["clip"]
        )
        (loss / tokens).backward()
        loss_sum += loss.item()
        clipped_sum += clipped.item()
    grad_norm = torch.nn.utils.clip_grad_norm_(
        [p for group in optimizer.param_groups for p in group["params"]], config["maxGradNorm"]
    ).item()
    optimizer.step()
    return {"loss": loss_sum / tokens, "clipFraction": clipped_sum / tokens, "gradNorm": grad_norm}


def _old_log_probabilities(
    policy: PreTrainedModel, reference_path: str | None, rollouts: Sequence[Row], config: Mapping[str, Any], call: Call
) -> dict[str, torch.Tensor]:
    """What stays fixed during the update, each float32 [B, T] over all rollouts.

    Without `reference_path` the policy is its own reference, as in a first round, and is asked once.
    """
    shape = (len(rollouts), max(len(row["completionIds"]) for row in rollouts))
    logs = {name: torch.zeros(shape, device=DEVICE) for name in ("old_BT", "reference_BT", "entropy_BT", "mask_BT")}
    reference = warm_policy(reference_path, torch.float32)[0] if reference_path else None
    done = 0
    for chunk in _micro_batches(rollouts, range(len(rollouts)), config["microBatch"]):
        call.raise_if_cancelled()
        rows = [rollouts[index] for index in chunk]
        old_bt, entropy_bt, mask_bt = _log_probabilities(policy, rows, config["temperature"])
        reference_bt = _log_probabilities(reference, rows, config["temperature"])[0] if reference else old_bt
        for name, values in (
            ("old_BT", old_bt),
            ("reference_BT", reference_bt),
            ("entropy_BT", entropy_bt),
            ("mask_BT", mask_bt),
        ):
            logs[name][chunk, : values.shape[-1]] = values
        done += len(chunk)
        call.progress(done, len(rollouts), "log-probabilities of the rollouts")
    return logs


def _log_probabilities(
    model: PreTrainedModel, rows: Sequence[Row], temperature: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Log-probability of each completion token, entropy at its position, and mask: float32 [B, T], 0 outside the mask.

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
    logp_BT = all_logp_BTV.gather(-1, ids_BX[:, width_P:, None]).squeeze(-1)
    with torch.no_grad():
        entropy_BT = -(all_logp_BTV.exp() * all_logp_BTV).sum(-1)
    return logp_BT * mask_BT, entropy_BT * mask_BT, mask_BT


def _micro_batches(rollouts: Sequence[Row], indices: Sequence[int], micro_batch: int) -> Iterator[list[int]]:
    """`indices` in chunks of `micro_batch`, longest first; the loss is a sum, so the order within a step is free."""
    ordered = sorted(indices, key=lambda index: (-len(rollouts[index]["completionIds"]), index))
    for start in range(0, len(ordered), micro_batch):
        yield ordered[start : start + micro_batch]


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


# -- Optimizer state --------------------------------------------------------------------------------------------------


def _save_optimizer(
    optimizer: torch.optim.Optimizer, trainable: Mapping[str, torch.nn.Parameter], folder: Path
) -> None:
    """Write Adam's moments and step of each trainable parameter under "<parameter>/<moment>"."""
    tensors = {
        f"{name}/{key}": value.cpu() for name, p in trainable.items() for key, value in optimizer.state[p].items()
    }
    save_file(tensors, folder / OPTIMIZER_FILE)


def _load_optimizer(
    optimizer: torch.optim.Optimizer, trainable: Mapping[str, torch.nn.Parameter], folder: Path
) -> None:
    tensors = load_tensors(folder / OPTIMIZER_FILE)
    states: dict[str, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        name, moment = key.rsplit("/", 1)
        # Adam keeps its step counter on the CPU.
        states.setdefault(name, {})[moment] = value.cpu() if moment == "step" else value
    if states.keys() != trainable.keys():
        message = f"The optimizer state in {folder} belongs to another model or upperLayers; start without resumeState."
        raise ServiceError("InvalidInput", message)
    for name, parameter in trainable.items():
        optimizer.state[parameter] = states[name]

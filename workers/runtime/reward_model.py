"""Bradley-Terry reward models from preference pairs, trained with TRL's `RewardTrainer`.

Loss (Bradley and Terry, 1952): the mean over pairs of -log sigmoid(r(chosen) - r(rejected)), plus
`centerRewardsCoefficient` times the mean of (r(chosen) + r(rejected))^2 (Eisenstein et al., arXiv 2312.09244). The
second term keeps the free offset of the scores near zero.

With `questionWeighting` a pair weighs 1 / the number of its question's pairs, scaled so that weights have mean 1. Every
question then counts the same, as in the paper's equation 1 (AceCoder, arXiv 2502.01718, section 2.3). The pairs of a
question follow each other, and each of its programs is scored once for all of them, as in InstructGPT (arXiv
2203.02155, section 3.5): the same loss for fewer forward passes. Without it, as in the authors' code, pairs are drawn
one by one, and a question with many pairs outweighs the others.

Sequence classifiers of transformers read the score at the last token that is not padding *by id*. Scoring here reads
it by the mask. Both mean the same token, because the padding token differs from the one that ends a conversation.

On several processes each has a trainer over its share of every step's micro-batches. Gradients are summed before the
step, so that all take the same one. The trainers know nothing of each other: they would fill up the last step with
pairs of the first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import get_peft_model
from torch.utils.data import DataLoader
from transformers import (
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer import SCHEDULER_NAME, TRAINER_STATE_NAME
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import DataCollatorForPreference, RewardTrainer

from operations import (
    HeldOutResult,
    RewardModelStep,
    ScoredPair,
    TrainingEnvironment,
    TrainRewardModelConfig,
    TrainRewardModelParams,
    TrainRewardModelResult,
)
from runtime.adapters import adapters_config
from runtime.checkpoints import (
    CheckpointClock,
    checkpoint_folder,
    clear_checkpoints,
    environments,
    load_optimizer,
    load_trainable,
    write_checkpoint,
)
from runtime.conversation import scored_ids, with_reward_template
from runtime.files import Row, read_rows
from runtime.micro_batches import cut, into, limit
from runtime.models import (
    DEVICE,
    IN_BFLOAT16,
    as_used,
    deterministic,
    has_own_conversations,
    load_reward_model,
    out_of_memory,
    save_model,
)
from runtime.parallel import clip_gradients, decided, shares, sum_gradients, sum_over_processes
from runtime.processes import PROCESSES
from runtime.scoring import mean_and_std, score_conversations
from runtime.training import diverged
from serve import Call, Cancelled, ServiceError

PAIR_FIELDS = ("id", "questionId", "messages", "chosen", "rejected")


def train_reward_model(params: TrainRewardModelParams, call: Call) -> TrainRewardModelResult:
    """Train a reward model on preference pairs and judge it on held-out pairs.

    params: model (start model's folder: a causal LM, which gets a fresh score head, or a reward model), train and
    heldOut (rows {id, questionId, messages, chosen, rejected, language?}: the conversation before the two programs),
    forms (of `conversation.reward_template`), output (model folder, whose chat template renders a question and a
    program as in the training), checkpoints (folder), resumeFrom? (a checkpoint of the same training), config =
    {learningRate, epochs, batchSize (pairs an optimizer step), microBatch (pairs a backward pass of one process; times
    processes a divisor of batchSize), microBatchTokens? (as `micro_batches.cut` has it, of both conversations of the
    pairs; held-out pairs are scored by microBatch), sharding? ("none" | "fsdp": the processes share the model),
    maxLength (tokens), upperLayers (null = all), lora? ({rank, alpha}: low-rank adapters on all linear layers, merged
    into the result), questionWeighting?, warmupRatio, schedule ("cosine" | "constant"), centerRewardsCoefficient (null
    = off), bf16? (default: where the device computes in bfloat16), gradientCheckpointing? (default: on a GPU), seed,
    checkpointSeconds, baseline? (judge the start model too)}.

    Result: {steps, processes, environments (of `checkpoints.environments`), pairs, tooLong and heldOutTooLong (pairs
    longer than maxLength, left out), curve: [{step, loss, accuracy}], heldOut, before?}, the last two as `_judge`
    returns them, `before` without rows. Bit-identical whether or not the training was interrupted, in one environment.
    Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`, `TrainingDiverged`, `Cancelled` (after a last checkpoint).
    """
    config, resume_from = params["config"], params.get("resumeFrom")
    sharding, lora = config.get("sharding", "none"), config.get("lora")
    by_rows = config.get("microBatchTokens") is None
    if by_rows and config["batchSize"] % (config["microBatch"] * PROCESSES):
        of_processes = f" times {PROCESSES} processes" if PROCESSES > 1 else ""
        raise ServiceError(
            "InvalidInput",
            f"batchSize {config['batchSize']} is no multiple of microBatch {config['microBatch']}{of_processes}.",
        )
    if lora and config["upperLayers"] is not None:
        raise ServiceError("InvalidInput", "lora and upperLayers exclude each other; leave one of them null.")
    if lora and sharding != "none":
        raise ServiceError("InvalidInput", "lora and sharding exclude each other; leave lora null or sharding 'none'.")
    train_rows, held_out_rows = read_rows(params["train"], PAIR_FIELDS), read_rows(params["heldOut"], PAIR_FIELDS)
    clear_checkpoints(params["checkpoints"], resume_from)
    been_in = environments(config, resume_from, call)
    set_seed(config["seed"])  # the fresh score head is drawn from it, alike in all processes
    model: Any  # adapters make another class of it
    model, tokenizer = load_reward_model(params["model"], upper_layers=config["upperLayers"], sharding=sharding)
    if not has_own_conversations(params["model"]):
        with_reward_template(tokenizer, params["forms"])
    fitting, fitting_held_out = (_fitting(tokenizer, rows, config["maxLength"]) for rows in (train_rows, held_out_rows))
    _separate_padding(tokenizer, {pair[side][-1] for pair in fitting for side in ("chosen_ids", "rejected_ids")})
    if not fitting:
        raise ServiceError(
            "InvalidInput",
            f"None of the {len(train_rows)} training pairs has at most maxLength = {config['maxLength']} tokens; raise "
            "maxLength or sample shorter programs.",
        )
    before = _judge(model, fitting_held_out, config["microBatch"], call) if config.get("baseline") else None
    if lora:
        # Low-rank adapters on every linear layer; the score head is trained as a whole.
        model = get_peft_model(model, adapters_config(lora, task_type="SEQ_CLS", modules_to_save=["score"]))
    if config.get("questionWeighting"):
        weights = question_weights([pair["questionId"] for pair in fitting])
        fitting = [{**pair, "weight": weight} for pair, weight in zip(fitting, weights, strict=True)]
    together = bool(config.get("questionWeighting"))
    steps = _training_steps(fitting, config["epochs"], config["batchSize"], config["seed"], together)
    watch = _Watch(call, config)
    micro_batches = _micro_batches(fitting, steps, config)
    pad_id: Any = tokenizer.pad_token_id  # `_separate_padding` has seen to it that there is one
    trainer = _Trainer(
        model=model,
        args=_arguments(
            config,
            params["checkpoints"],
            accumulated=-(-max(map(len, micro_batches)) // PROCESSES),
            steps=len(steps),
        ),
        train_dataset=Dataset.from_list(_share(fitting, micro_batches)),
        processing_class=tokenizer,
        data_collator=_Collator(pad_id),
        callbacks=[watch],
    )
    trainer.environments = been_in
    trainer.sizes = [len(chunk) for step in micro_batches for chunk, _ in shares(step)]
    with out_of_memory(*limit(config)):
        trainer.train(resume_from_checkpoint=resume_from)
    if watch.cancelled:
        raise Cancelled
    model = (model.merge_and_unload() if lora else model).eval()
    save_model(model, tokenizer, params["output"])
    # The scale of the scores, by which RL normalises, is that of the arithmetic of RL. Shards stay as they are.
    held_out = _judge(as_used(model) if sharding == "none" else model, fitting_held_out, config["microBatch"], call)
    history: list[dict[str, Any]] = trainer.state.log_history
    curve: list[RewardModelStep] = [
        {"step": log["step"], "loss": log["loss"], "accuracy": log["accuracy"]} for log in history if "loss" in log
    ]
    result: TrainRewardModelResult = {
        "steps": trainer.state.global_step,
        "processes": PROCESSES,
        "environments": been_in,
        "pairs": len(fitting),
        "tooLong": len(train_rows) - len(fitting),
        "heldOutTooLong": len(held_out_rows) - len(fitting_held_out),
        "curve": curve,
        "heldOut": held_out,
    }
    if before:
        result["before"] = {
            "pairs": before["pairs"],
            "questions": before["questions"],
            "accuracy": before["accuracy"],
            "meanMargin": before["meanMargin"],
            "scoreMean": before["scoreMean"],
            "scoreStd": before["scoreStd"],
        }
    return result


def question_weights(question_ids: Sequence[str]) -> list[float]:
    """Weight of each pair: inverse to the number of its question's pairs, with mean 1 over all pairs."""
    pairs = Counter(question_ids)
    return [len(question_ids) / (len(pairs) * pairs[question]) for question in question_ids]


def pair_loss(
    chosen_B: torch.Tensor, rejected_B: torch.Tensor, weight_B: torch.Tensor, center_rewards_coefficient: float
) -> torch.Tensor:
    """Weighted Bradley-Terry loss of B pairs, a scalar; with weights of 1 it is the one of TRL's `RewardTrainer`."""
    loss_B = -torch.nn.functional.logsigmoid(chosen_B - rejected_B)
    loss_B = loss_B + center_rewards_coefficient * (chosen_B + rejected_B) ** 2
    return (weight_B * loss_B).mean()


def _each_once(model: Any) -> Callable[..., Any]:
    """`model` as a function that computes conversations which occur several times in a batch once."""

    def forward(input_ids: torch.Tensor, attention_mask: torch.Tensor, **others: Any) -> Any:
        # Ids and mask in one number: where padding is, only the mask tells.
        distinct_DT, index_B = (2 * input_ids + attention_mask).unique(dim=0, return_inverse=True)
        outputs = model(input_ids=distinct_DT // 2, attention_mask=distinct_DT % 2, **others)
        outputs.logits = outputs.logits[index_B]
        return outputs

    return forward


class _Collator(DataCollatorForPreference):
    """TRL's collator, which also passes the pairs' weights on."""

    def torch_call(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super().torch_call(examples)
        batch["weight"] = torch.tensor([example["weight"] for example in examples])
        return batch


class _Trainer(RewardTrainer):
    """TRL's trainer with weighted pairs, steps taken with the other processes, and checkpoints of our own."""

    environments: list[TrainingEnvironment]
    sizes: list[int]
    """Rows of each micro-batch, in order."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._held: Any = self
        """This trainer without its types, by which model, optimizer and schedule may be missing."""
        self._right_and_all = torch.zeros(2, dtype=torch.float64)
        self._last_loss = 0.0
        """That of the newest micro-batch."""

    def get_train_dataloader(self) -> DataLoader[Any]:
        rows: Any = self._remove_unused_columns(self._held.train_dataset, description="training")
        ends = list(accumulate(self.sizes))
        batches = [list(range(end - size, end)) for size, end in zip(self.sizes, ends, strict=True)]
        return self.accelerator.prepare(DataLoader(rows, batch_sampler=batches, collate_fn=self.data_collator))

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        if "weight" not in self._signature_columns:
            self._signature_columns.append("weight")

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        weight_B = inputs.pop("weight")
        once: Any = _each_once(model)
        loss_and_outputs: Any = super().compute_loss(
            once, inputs, return_outputs=True, num_items_in_batch=num_items_in_batch
        )
        _, outputs = loss_and_outputs
        chosen_B, rejected_B = outputs.logits.squeeze(-1).chunk(2)
        loss = pair_loss(chosen_B, rejected_B, weight_B, self._held.args.center_rewards_coefficient or 0.0)
        counts_B = weight_B > 0
        right_B = (chosen_B > rejected_B) & counts_B
        self._right_and_all += torch.tensor([right_B.sum().item(), counts_B.sum().item()], dtype=torch.float64)
        return (loss, outputs) if return_outputs else loss

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        with deterministic():
            loss = super().training_step(*args, **kwargs)
        if self.accelerator.sync_gradients:  # after the last micro-batch of a step
            sum_gradients(self._held.model.parameters())
        self._last_loss = loss.item()
        return loss

    def _clip_grad_norm(self, model: Any) -> float:
        """The norm before clipping. Raises `TrainingDiverged` before the step that it would spoil."""
        norm = clip_gradients(model.parameters(), self.args.max_grad_norm)
        if not math.isfinite(norm):
            raise diverged(self._last_loss, norm, self.state.global_step + 1, self.args.learning_rate)
        return norm

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs:
            sums = torch.cat([torch.tensor([logs["loss"]], dtype=torch.float64), self._right_and_all])
            logs["loss"], right, pairs = sum_over_processes(sums).tolist()
            self._metrics["train"]["accuracy"] = [right / pairs]
            self._right_and_all.zero_()
        super().log(logs, start_time)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        held = self._held

        def write_rest(folder: Path) -> None:
            torch.save(held.lr_scheduler.state_dict(), folder / SCHEDULER_NAME)
            self._save_rng_state(str(folder))
            self.state.save_to_json(str(folder / TRAINER_STATE_NAME))

        write_checkpoint(
            held.args.output_dir, self.state.global_step, held.model, held.optimizer, self.environments, write_rest
        )

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_trainable(self._held.model, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        held = self._held
        load_optimizer(held.optimizer, held.model, Path(checkpoint))
        held.lr_scheduler.load_state_dict(torch.load(Path(checkpoint, SCHEDULER_NAME), weights_only=True))
        for group, rate in zip(held.optimizer.param_groups, held.lr_scheduler.get_last_lr(), strict=True):
            group["lr"] = rate


class _Watch(TrainerCallback):
    """Reports progress, asks for checkpoints by the clock, and stops on cancellation or divergence."""

    def __init__(self, call: Call, config: TrainRewardModelConfig) -> None:
        self._call = call
        self._config = config
        self._clock = CheckpointClock(config["checkpointSeconds"])
        self.cancelled = False

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "loss" not in logs:
            return
        if not (math.isfinite(logs["loss"]) and math.isfinite(logs["grad_norm"])):
            raise diverged(logs["loss"], logs["grad_norm"], state.global_step, self._config["learningRate"])
        self._call.progress(
            state.global_step,
            state.max_steps,
            "training the reward model",
            {"loss": logs["loss"], "accuracy": logs["accuracy"]},
        )
        # Logging comes after a step and before saving, so a diverged step is never saved.
        self.cancelled, due = decided(self._call.cancelled, self._clock.due())
        control.should_save = self.cancelled or due
        control.should_training_stop |= self.cancelled

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._clock.restart()
        self._call.checkpoint(state.global_step, checkpoint_folder(str(args.output_dir), state.global_step))


def _arguments(config: TrainRewardModelConfig, checkpoints: str, accumulated: int, steps: int) -> RewardConfig:
    """`accumulated` is the number of micro-batches that a process has in a step; the last step may have fewer."""
    on_gpu = DEVICE.type == "cuda"
    bf16, gradient_checkpointing = config.get("bf16"), config.get("gradientCheckpointing")
    return RewardConfig(
        output_dir=checkpoints,
        learning_rate=config["learningRate"],
        num_train_epochs=1,  # `_training_steps` holds all epochs
        train_sampling_strategy="sequential",
        gradient_accumulation_steps=accumulated,
        # A number from 1 on would be one of steps.
        warmup_steps=config["warmupRatio"] if config["warmupRatio"] < 1 else steps,
        lr_scheduler_type="cosine" if config["schedule"] == "cosine" else "constant_with_warmup",
        center_rewards_coefficient=config["centerRewardsCoefficient"],
        max_length=None,
        seed=config["seed"],
        bf16=IN_BFLOAT16 if bf16 is None else bf16,
        gradient_checkpointing=on_gpu if gradient_checkpointing is None else gradient_checkpointing,
        use_cpu=not on_gpu,
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


def _separate_padding(tokenizer: PreTrainedTokenizerBase, last_ids: set[int]) -> None:
    """Give the tokenizer a padding token other than the end of sequence and the tokens that close conversations."""
    eos_id: Any = tokenizer.eos_token_id
    taken = {eos_id, *last_ids}
    if tokenizer.pad_token_id in {None, *taken}:
        candidates = [*sorted(tokenizer.all_special_ids), *range(len(taken) + 1)]
        other = next(index for index in candidates if index not in taken)
        tokenizer.pad_token = tokenizer.convert_ids_to_tokens(other)


def _fitting(tokenizer: PreTrainedTokenizerBase, rows: Sequence[Row], max_length: int) -> list[dict[str, Any]]:
    """Pairs {id, questionId, chosen_ids, rejected_ids} whose conversations both have at most `max_length` tokens."""
    pairs = []
    for row in rows:
        chosen, rejected = (
            scored_ids(tokenizer, row["messages"], row[side], row.get("language")) for side in ("chosen", "rejected")
        )
        if max(len(chosen), len(rejected)) <= max_length:
            ids = {"chosen_ids": chosen, "rejected_ids": rejected}
            pairs.append({"id": row["id"], "questionId": row["questionId"], **ids})
    return pairs


def _training_steps(
    pairs: Sequence[Mapping[str, Any]], epochs: float, batch_size: int, seed: int, together: bool
) -> list[list[int]]:
    """Indices of the pairs of each step: a seeded permutation an epoch, cut after `epochs` times their number.

    With `together` questions are permuted, and the pairs of each follow each other. Otherwise pairs are, and within an
    optimizer step, where the order is free, those of similar length come together and share micro-batches.
    """
    questions: dict[Any, list[int]] = {}
    for index, pair in enumerate(pairs):
        questions.setdefault(pair["questionId"] if together else index, []).append(index)
    units = list(questions.values())
    order = [
        index
        for epoch in range(math.ceil(epochs))
        for unit in np.random.Generator(np.random.PCG64([seed, epoch])).permutation(len(units)).tolist()
        for index in units[unit]
    ][: round(epochs * len(pairs))]
    steps = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    if together:
        return steps
    lengths = [len(pair["chosen_ids"]) + len(pair["rejected_ids"]) for pair in pairs]
    return [sorted(step, key=lambda index: (lengths[index], index)) for step in steps]


def _micro_batches(
    pairs: Sequence[Mapping[str, Any]], steps: Sequence[list[int]], config: TrainRewardModelConfig
) -> list[list[list[int]]]:
    """The micro-batches of each step.

    The trainer accumulates the same number in all steps but the last one, so that steps which need fewer get more.
    """

    def widths(index: int) -> tuple[int, int]:
        longest = max(len(pairs[index]["chosen_ids"]), len(pairs[index]["rejected_ids"]))
        return longest, longest  # the two conversations of a pair are rows of one batch

    cuts = [cut(step, widths, config) for step in steps]
    most = -(-max(map(len, cuts)) // PROCESSES) * PROCESSES
    return [*(into(chunks, most) for chunks in cuts[:-1]), cuts[-1]]


def _share(pairs: Sequence[Mapping[str, Any]], micro_batches: Sequence[list[list[int]]]) -> list[dict[str, Any]]:
    """The pairs of this process in training order: its micro-batches of each step, with weights.

    The trainer takes the mean over a micro-batch and over its own micro-batches of a step, and gradients are summed
    over processes: weights make of it the mean over the step's pairs, also in the last step, which may be smaller.
    """
    rows = []
    for chunks in micro_batches:
        own = list(shares(chunks))
        for chunk, counts in own:
            scale = counts * len(own) * len(chunk) / sum(map(len, chunks))
            rows += [
                {name: pairs[index][name] for name in ("chosen_ids", "rejected_ids")}
                | {"weight": scale * pairs[index].get("weight", 1.0)}
                for index in chunk
            ]
    return rows


def _judge(model: Any, rows: Sequence[Row], micro_batch: int, call: Call) -> HeldOutResult:
    """Score tokenized held-out pairs: {pairs, questions, accuracy (share with chosen above rejected), meanMargin,
    scoreMean, scoreStd, rows: [{id, chosenScore, rejectedScore}]}; means are null without pairs."""
    conversations = [pair[side] for side in ("chosen_ids", "rejected_ids") for pair in rows]
    scores = score_conversations(model, conversations, micro_batch, call)
    scored: list[ScoredPair] = [
        {"id": row["id"], "chosenScore": chosen, "rejectedScore": rejected}
        for row, chosen, rejected in zip(rows, scores[: len(rows)], scores[len(rows) :], strict=True)
    ]
    margins = [row["chosenScore"] - row["rejectedScore"] for row in scored]
    figures = mean_and_std(scores)
    return {
        "pairs": len(rows),
        "questions": len({row["questionId"] for row in rows}),
        "accuracy": sum(margin > 0 for margin in margins) / len(margins) if margins else None,
        "meanMargin": sum(margins) / len(margins) if margins else None,
        "scoreMean": figures["scoreMean"],
        "scoreStd": figures["scoreStd"],
        "rows": scored,
    }

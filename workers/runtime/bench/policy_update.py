"""The policy update next to TRL's GRPO step without generation, in turns: part of `npm run bench:training`.

Both sides have the same weights, rollouts, batch, loss, beta, old and reference log-probabilities, clipping and Adam.
Ours is the runtime's operation as the worker calls it, from its progress message of one step to that of the next; TRL's
step is taken inside that message, outside our time. A step of TRL is what its training loop does with a stored batch:
`training_step` (loss and backward pass, with TRL's own metrics), clipping of the gradient, optimizer, zeroing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from runtime.bench.throughput import SHAPES, random_model
from runtime.files import Row, write_rows
from runtime.methods.base import group_normalised
from runtime.models import DEVICE, load_policy, make_deterministic
from runtime.policy_update import update_policy
from runtime.training import ADAM_BETAS
from serve import Call

GROUP, GROUPS = 4, 2
ROWS = GROUP * GROUPS
CONFIG = {
    "name": "grpo", "learningRate": 1e-6, "beta": 0.04, "clip": 0.2, "maxNewTokens": 128, "rewardClip": 10,
    "batchSize": ROWS, "microBatch": ROWS, "upperLayers": None, "maxGradNorm": 1.0, "seed": 1, "temperature": 0.8,
    "checkpointSeconds": 1e9, "endWeight": 0.0,
}  # fmt: skip
SAME_LOSS = 1e-3
"""The most by which the two losses of a step may differ: both sides must compute the same thing."""


def rollouts() -> list[Row]:
    """Rollouts of random tokens whose lengths differ as those of programs do."""
    generator = torch.Generator().manual_seed(1)

    def tokens(shortest: int, longest: int) -> list[int]:
        length = int(torch.randint(shortest, longest + 1, (1,), generator=generator))
        return torch.randint(3, 1000, (length,), generator=generator).tolist()

    prompts = [tokens(60, 100) for _ in range(GROUPS)]
    return [
        {
            "id": f"r{index}", "questionId": f"q{index // GROUP}", "promptIds": prompts[index // GROUP],
            "completionIds": tokens(48, 128), "reward": float(index % 3 == 0),
        }
        for index in range(ROWS)
    ]  # fmt: skip


class TrlStep:
    """TRL's trainer at work on a stored batch."""

    def __init__(self, model: str, rows: Sequence[Row], folder: str) -> None:
        policy, tokenizer = load_policy(model)
        on_gpu = DEVICE.type == "cuda"
        self._trainer = trainer = GRPOTrainer(
            model=policy,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=GRPOConfig(
                output_dir=folder, per_device_train_batch_size=ROWS, num_generations=GROUP, loss_type="grpo",
                scale_rewards="group", beta=CONFIG["beta"], epsilon=CONFIG["clip"], use_bias_correction_kl=False,
                max_completion_length=CONFIG["maxNewTokens"], temperature=CONFIG["temperature"],
                learning_rate=CONFIG["learningRate"], adam_beta1=ADAM_BETAS[0], adam_beta2=ADAM_BETAS[1],
                max_grad_norm=CONFIG["maxGradNorm"], num_iterations=10**6, steps_per_generation=1, bf16=on_gpu,
                use_cpu=not on_gpu, gradient_checkpointing=False, report_to="none", disable_tqdm=True,
            ),
            train_dataset=Dataset.from_list([{"prompt": "unused"}] * ROWS),
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.current_gradient_accumulation_steps = 1
        trainer.create_optimizer()
        trainer.model, trainer.optimizer = trainer.accelerator.prepare(trainer.model, trainer.optimizer)
        # A batch that was generated a step ago: the trainer takes it from its buffer.
        trainer._step, trainer._buffered_inputs = 1, [self._batch(rows)]

    def _batch(self, rows: Sequence[Row]) -> dict[str, torch.Tensor]:
        batch = {}
        for side, left in (("prompt", True), ("completion", False)):
            ids = [row[f"{side}Ids"] for row in rows]
            batch[f"{side}_ids"] = padded(ids, left)
            batch[f"{side}_mask"] = padded([[1] * len(row) for row in ids], left)
        reward_B = torch.tensor([row["reward"] for row in rows], dtype=torch.float64, device=DEVICE)
        group_B = torch.tensor([index // GROUP for index in range(len(rows))], device=DEVICE)
        with torch.no_grad():
            logp_BT = self._trainer._get_per_token_logps_and_entropies(
                self._trainer.model,
                torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
                torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
                batch["completion_ids"].shape[1],
            )[0]
        return {
            **batch,
            "advantages": group_normalised(reward_B, group_B).float(),
            "num_items_in_batch": batch["completion_mask"].sum(),
            "old_per_token_logps": logp_BT,
            "ref_per_token_logps": logp_BT,
        }

    def __call__(self) -> float:
        """Take one step; returns its loss."""
        trainer = self._trainer
        loss = trainer.training_step(trainer.model, [], None)
        trainer.accelerator.clip_grad_norm_(trainer.model.parameters(), CONFIG["maxGradNorm"])
        trainer.optimizer.step()
        trainer.model.zero_grad()
        return loss.item()


def padded(rows: Sequence[Sequence[int]], left: bool) -> torch.Tensor:
    width = max(map(len, rows))
    filled = [(list(row), [0] * (width - len(row))) for row in rows]
    return torch.tensor([pad + row if left else row + pad for row, pad in filled], device=DEVICE)


class Turns:
    """The call of our update; after each of our steps, TRL takes one."""

    def __init__(self, theirs: TrlStep) -> None:
        self._theirs = theirs
        self._last: float | None = None
        self.ours: list[float] = []
        self.trl: list[float] = []
        self.losses: list[tuple[float, float]] = []
        self.call = Call(1, self._take)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] != "progress" or message["message"] != "updating the policy":
            return
        ended = now()
        loss = self._theirs()
        after = now()
        # Neither side's first step counts: before ours there is no message, and both warm up in it.
        if self._last is not None:
            self.ours.append(ended - self._last)
            self.trl.append(after - ended)
            print(f"ours {self.ours[-1]:.3f} s, TRL {self.trl[-1]:.3f} s", file=sys.stderr, flush=True)
        self._last = after
        self.losses.append((message["metrics"]["loss"], loss))


def now() -> float:
    if DEVICE.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def main() -> None:
    """Measure; `--output` gets the measures as a JSON array."""
    parser = argparse.ArgumentParser(description="The policy update next to TRL's GRPO step, in turns.")
    parser.add_argument("--size", choices=SHAPES, default="0.14", help="shape of the model, whose weights are random")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--output", type=Path, required=True, help="file of the measures")
    arguments = parser.parse_args()
    make_deterministic(torch.get_num_threads())
    with tempfile.TemporaryDirectory() as home:
        model, rows, path = random_model(arguments.size, Path(home)), rollouts(), f"{home}/rollouts.jsonl"
        write_rows(path, rows)
        turns = Turns(TrlStep(model, rows, home))
        params = {
            "policy": model, "reference": model, "rollouts": path, "output": f"{home}/output",
            "state": f"{home}/state", "checkpoints": f"{home}/checkpoints",
            "config": {**CONFIG, "epochs": arguments.turns + 1},
        }  # fmt: skip
        update_policy(params, turns.call)
    for own, theirs in turns.losses:
        if not abs(own - theirs) < SAME_LOSS:
            sys.exit(f"The two sides do not compute the same: losses {turns.losses}.")
    tokens = sum(len(row["completionIds"]) for row in rows)
    ratios = [theirs / own for own, theirs in zip(turns.ours, turns.trl, strict=True)]
    note = f"{ROWS} rollouts, {tokens} tokens, in {len(ratios)} turns; from {min(ratios):.2f} to {max(ratios):.2f}"
    measures = [
        {"name": "policy update, throughput over TRL's", "value": statistics.median(ratios), "unit": "times",
         "bar": 1.6, "at": "least", "note": note},
        {"name": "policy update", "value": tokens / statistics.median(turns.ours), "unit": "completion tokens/s"},
        {"name": "TRL's GRPO step", "value": tokens / statistics.median(turns.trl), "unit": "completion tokens/s"},
    ]  # fmt: skip
    arguments.output.write_text(json.dumps(measures))


if __name__ == "__main__":
    main()

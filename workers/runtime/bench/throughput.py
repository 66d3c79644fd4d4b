"""Throughput of the runtime's operations on this device: `npm run bench:gpu`.

The models have the shape of published ones and random weights, so that an answer ends at its limit and every program is
as long as the others; the operations are those of the runtime process, from files to files. Times are taken between the
progress messages of their steps, so that loading and saving do not count, and the first steps, which warm up, neither.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, Qwen2Config, Qwen2ForCausalLM

from runtime.files import write_rows
from runtime.micro_model import train_tokenizer
from runtime.models import DEVICE, make_deterministic, make_room, save_model, warm_policy
from runtime.policy_update import update_policy
from runtime.reward_model import train_reward_model
from runtime.sampling import sample
from serve import Call

Shape = dict[str, int]
SHAPES: dict[str, tuple[type[PreTrainedModel], type[LlamaConfig | Qwen2Config], Shape]] = {
    "micro": (LlamaForCausalLM, LlamaConfig, {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "vocab_size": 1024,
    }),
    "0.14": (LlamaForCausalLM, LlamaConfig, {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "vocab_size": 49152,
    }),
    "0.5": (Qwen2ForCausalLM, Qwen2Config, {
        "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14,
        "num_key_value_heads": 2, "vocab_size": 151936,
    }),
    "1.5": (Qwen2ForCausalLM, Qwen2Config, {
        "hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
        "num_key_value_heads": 2, "vocab_size": 151936,
    }),
}  # fmt: skip
"""Models by billions of parameters: SmolLM2-135M, Qwen2.5-0.5B and Qwen2.5-1.5B; `micro` is for trying the bench."""
WARM_UP_STEPS = 2
QUESTION = {"role": "user", "content": "Write a function that returns the sum of the even numbers in a list. " * 4}
PREFIX = "```python\n"
PROGRAM = "def sum_even(items):\n    return sum(item for item in items if item % 2 == 0)\n"

Measure = dict[str, Any]


class Steps:
    """A call that notes when each step with the message `counted` ended."""

    def __init__(self, counted: str) -> None:
        self._counted = counted
        self._ended: list[float] = []
        self.call = Call(1, self._take)

    def _take(self, message: Mapping[str, Any]) -> None:
        if message["type"] == "progress" and message["message"] == self._counted:
            self._ended.append(time.perf_counter())

    def seconds(self) -> float:
        """Median time of a step, without the first ones."""
        ended = self._ended[WARM_UP_STEPS - 1 :]
        return statistics.median(after - before for before, after in pairwise(ended))


def random_model(name: str, folder: Path) -> str:
    """A model folder of that shape, its weights drawn on the device, with a small tokenizer; returns its path."""
    model_class, config_class, shape = SHAPES[name]
    tokenizer = train_tokenizer([QUESTION["content"], PREFIX + PROGRAM])
    torch.manual_seed(0)
    with torch.device(DEVICE):
        model = model_class(
            config_class(
                **shape,
                max_position_embeddings=2048,
                tie_word_embeddings=True,
                bos_token_id=None,
                eos_token_id=tokenizer.eos_token_id,
                pad_token_id=tokenizer.pad_token_id,
            )
        )
    save_model(model, tokenizer, str(folder / "model"))
    return str(folder / "model")


def sampling(model: str, folder: Path, rows: int, tokens: int) -> Measure:
    """One batch of `rows` programs of `tokens` tokens, sixteen a question, with prompt reading and decoding."""

    def requests(length: int) -> str:
        path = str(folder / "requests.jsonl")
        write_rows(path, (
            {
                "id": f"q{number}", "messages": [QUESTION], "assistantPrefix": PREFIX, "n": 16, "temperature": 1.0,
                "topP": 1, "maxNewTokens": length, "stop": ["\n```"],
                "seeds": [16 * number + index for index in range(16)],
            }
            for number in range(rows // 16)
        ))  # fmt: skip
        return path

    def run(length: int) -> int:
        output = str(folder / "samples.jsonl")
        params = {"model": model, "requests": requests(length), "output": output, "maxRows": rows}
        return sample(params, Call(1, lambda _: None))["tokens"]

    warm_policy(model)
    run(8)
    start = time.perf_counter()
    count = run(tokens)
    seconds = time.perf_counter() - start
    return {"value": count / seconds, "unit": "tokens/s", "note": f"{rows} rows of {tokens} tokens, topP 1"}


def reward_model(model: str, folder: Path, batch: int, repeats: int) -> Measure:
    """Steps of `batch` pairs, all weights, gradient checkpointing; a program is `repeats` functions."""
    pairs = str(folder / "pairs.jsonl")
    write_rows(pairs, (
        {
            "id": f"p{number}", "questionId": f"q{number}", "messages": [QUESTION],
            "chosen": PROGRAM * repeats, "rejected": PROGRAM.replace("==", "!=") * repeats,
        }
        for number in range(8 * batch)
    ))  # fmt: skip
    write_rows(str(folder / "none.jsonl"), [])
    steps = Steps("training the reward model")
    train_reward_model(
        {
            "model": model, "train": pairs, "heldOut": str(folder / "none.jsonl"), "output": str(folder / "reward"),
            "forms": {"python": {"request": "", "opening": PREFIX}},
            "checkpoints": str(folder / "checkpoints"),
            "config": {
                "learningRate": 1e-6, "epochs": 1, "batchSize": batch, "microBatch": batch, "maxLength": 2048,
                "upperLayers": None, "warmupRatio": 0.0, "schedule": "constant", "centerRewardsCoefficient": 0.01,
                "seed": 1, "checkpointSeconds": 1e9,
            },
        },
        steps.call,
    )  # fmt: skip
    return {"value": batch / steps.seconds(), "unit": "pairs/s", "note": f"{batch} pairs a step"}


def policy_update(model: str, folder: Path, batch: int, micro_batch: int, tokens: int) -> Measure:
    """GRPO steps of `batch` rollouts of 128 prompt and `tokens` completion tokens, all weights, its own reference."""
    rollouts = str(folder / "rollouts.jsonl")
    generator = torch.Generator().manual_seed(1)
    vocabulary = 1000  # the smallest shape has it
    write_rows(rollouts, (
        {
            "id": f"q{number // 8}/{number % 8}", "questionId": f"q{number // 8}", "reward": float(number % 3 == 0),
            "promptIds": torch.randint(3, vocabulary, (128,), generator=generator).tolist(),
            "completionIds": torch.randint(3, vocabulary, (tokens,), generator=generator).tolist(),
        }
        for number in range(6 * batch)
    ))  # fmt: skip
    steps = Steps("updating the policy")
    update_policy(
        {
            "policy": model, "reference": model, "rollouts": rollouts, "output": str(folder / "policy"),
            "state": str(folder / "state"), "checkpoints": str(folder / "checkpoints"),
            "config": {
                "name": "grpo", "learningRate": 1e-6, "beta": 0.01, "clip": 0.2, "maxNewTokens": tokens,
                "rewardClip": 10, "batchSize": batch, "microBatch": micro_batch, "epochs": 1, "upperLayers": None,
                "maxGradNorm": 1.0, "seed": 1, "temperature": 1.0, "checkpointSeconds": 1e9,
                "endWeight": 0.0,
            },
        },
        steps.call,
    )  # fmt: skip
    note = f"{batch} rollouts of {tokens} tokens a step, {micro_batch} a backward pass"
    return {"value": batch * tokens / steps.seconds(), "unit": "completion tokens/s", "note": note}


def measures(name: str) -> list[Measure]:
    """All measures of one size, told on standard error as they come; a peak of memory only where there is a GPU."""
    small = name == "micro"
    size = name if small else f"{name} B"
    operations: dict[str, Callable[[str, Path], Measure]] = {
        "sampling": lambda *at: sampling(*at, rows=32 if small else 256, tokens=32 if small else 256),
        "reward model step": lambda *at: reward_model(*at, batch=4 if small else 16, repeats=1 if small else 12),
        "policy step": lambda *at: policy_update(*at, batch=16, micro_batch=8, tokens=32 if small else 256),
    }
    results = []
    with tempfile.TemporaryDirectory() as home:
        model = random_model(name, Path(home))
        for operation, run in operations.items():
            make_room(sys.maxsize)
            if DEVICE.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            with tempfile.TemporaryDirectory(dir=home) as folder:
                measured = [{"name": f"{size}: {operation}", **run(model, Path(folder))}]
            if DEVICE.type == "cuda":
                peak = torch.cuda.max_memory_allocated() / 2**30
                measured.append({"name": f"{size}: {operation}, memory", "value": peak, "unit": "GiB", "note": "peak"})
            for measure in measured:
                print(f"{measure['name']}: {measure['value']:.4g} {measure['unit']}", file=sys.stderr, flush=True)
            results += measured
    return results


def main() -> None:
    """Measure the sizes that are asked for; `--output` gets the measures after every size, as a JSON array."""
    parser = argparse.ArgumentParser(description="Throughput of sampling and training on models of random weights.")
    parser.add_argument("--sizes", nargs="+", choices=SHAPES, default=[name for name in SHAPES if name != "micro"])
    parser.add_argument("--output", type=Path, required=True, help="file of the measures")
    arguments = parser.parse_args()
    if DEVICE.type != "cuda" and arguments.sizes != ["micro"]:
        sys.exit("torch sees no CUDA device; only --sizes micro can be tried without one.")
    make_deterministic(torch.get_num_threads())
    results = []
    for name in arguments.sizes:
        results += measures(name)
        arguments.output.write_text(json.dumps(results))


if __name__ == "__main__":
    main()

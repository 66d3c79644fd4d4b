"""Peak memory of one policy step, plain and as the runtime takes it: part of `npm run bench:training`.

The plain step has the logits of all completion tokens at once and keeps the activations of every block. It is what the
runtime did in version 0.1.0. Each way runs in a process of its own, which notes its resident memory when the weights
are there, and the peak of it during the forward and the backward pass. A gradient is dropped as soon as it is whole,
and there is no optimizer, so that the difference is what a step needs next to weights, gradients and optimizer state.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from runtime.bench.throughput import SHAPES, random_model
from runtime.checkpoints import trainable_parameters
from runtime.files import Row
from runtime.log_probabilities import log_probabilities
from runtime.models import DEVICE, load_policy, make_deterministic, recompute_blocks

PROMPT = 64
TEMPERATURE = 0.8
WAYS = {"plain": (False, False), "chunks": (True, False), "checkpointing": (False, True), "both": (True, True)}
"""Log-probabilities in chunks, and gradient checkpointing."""
NEEDED_GB = {"0.5": 16}
"""Free memory that the plain way needs for 2,048 tokens; a host with less would end other processes."""
SAME = 1e-5
"""Nats per token by which the log-probabilities of the ways may differ."""


def plain_log_probabilities(model: Any, row: Row) -> torch.Tensor:
    """Log-probabilities [T] by the logits of the whole completion at once."""
    ids = torch.tensor([row["promptIds"] + row["completionIds"]], device=DEVICE)
    width = len(row["completionIds"])
    logits_1TV = model(
        input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=width + 1
    ).logits[:, :-1]
    all_logp_1TV = (logits_1TV.float() / TEMPERATURE).log_softmax(-1)
    return all_logp_1TV.gather(-1, ids[:, -width:, None]).flatten()


def step(model: str, chunks: bool, again: bool, tokens: int) -> dict[str, float]:
    """One step over one row of `tokens` tokens: {bytes, seconds, logp (mean of the tokens), gradient (sum of norms)}."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 1000, (tokens,), generator=generator).tolist()
    row = {"id": "r", "promptIds": ids[:PROMPT], "completionIds": ids[PROMPT:]}
    policy, _ = load_policy(model)
    if again:
        recompute_blocks(policy)
    norms: list[float] = []

    def drop(parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        norms.append(parameter.grad.norm().item())
        parameter.grad = None

    for parameter in trainable_parameters(policy).values():
        parameter.register_post_accumulate_grad_hook(drop)

    def take(row: Row) -> torch.Tensor:
        logp = log_probabilities(policy, [row], TEMPERATURE)[0] if chunks else plain_log_probabilities(policy, row)
        (-logp.mean()).backward()
        return logp.detach()

    take({**row, "completionIds": row["completionIds"][:4]})  # what libraries allocate once
    norms.clear()
    before, start = reset_peak(), time.perf_counter()
    logp = take(row)
    return {
        "bytes": peak() - before,
        "seconds": time.perf_counter() - start,
        "logp": logp.mean().item(),
        "gradient": sum(norms),
    }


def reset_peak() -> int:
    """Set the peak of this process to what it has now; returns that, in bytes."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def peak() -> int:
    """The most memory that this process had since `reset_peak`, in bytes."""
    if DEVICE.type == "cuda":
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def measured(model: str, ways: Sequence[str], tokens: int) -> dict[str, dict[str, float]]:
    """What `step` says of each way, each in a process of its own."""
    results = {}
    for way in ways:
        command = [sys.executable, "-m", "runtime.bench.step_memory", "--model", model, "--way", way]
        printed = subprocess.run([*command, "--tokens", str(tokens)], check=True, stdout=subprocess.PIPE, text=True)
        results[way] = json.loads(printed.stdout.splitlines()[-1])
        print(f"{way}: {results[way]}", file=sys.stderr, flush=True)
    return results


def main() -> None:
    """Measure; `--output` gets the measures as a JSON array."""
    parser = argparse.ArgumentParser(description="Peak memory of a policy step, plain and as the runtime takes it.")
    parser.add_argument("--size", choices=SHAPES, default="0.5", help="shape of the model, whose weights are random")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens of the one row")
    parser.add_argument("--output", type=Path, help="file of the measures")
    parser.add_argument("--model", help=argparse.SUPPRESS)
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    make_deterministic(torch.get_num_threads())
    if arguments.way:
        print(json.dumps(step(arguments.model, *WAYS[arguments.way], arguments.tokens)))
        return
    needed = NEEDED_GB.get(arguments.size, 0) * arguments.tokens / 2048
    if DEVICE.type == "cpu" and (free := psutil.virtual_memory().available / 1e9) < needed:
        sys.exit(f"{free:.0f} GB of memory are free, and the plain step needs about {needed:.0f}: end other programs.")
    with tempfile.TemporaryDirectory() as home:
        results = measured(random_model(arguments.size, Path(home)), list(WAYS), arguments.tokens)
    for way, result in results.items():
        for figure in ("logp", "gradient"):
            if not abs(result[figure] / results["plain"][figure] - 1) < SAME:
                sys.exit(f"{way} does not compute what plain does: {results}.")
    plain, note = results["plain"]["bytes"], f"{arguments.size} B, one row of {arguments.tokens} tokens"
    measures = [
        {"name": f"policy step, {way}", "value": results[way]["bytes"] / 1e9, "unit": "GB",
         "note": f"{note}, {results[way]['seconds']:.0f} s"}
        for way in WAYS
    ]  # fmt: skip
    measures.append(
        {"name": "policy step, peak memory over the plain one's", "value": 100 * results["both"]["bytes"] / plain,
         "unit": "%", "bar": 25, "at": "most", "note": "without weights, gradients and optimizer state"}
    )  # fmt: skip
    arguments.output.write_text(json.dumps(measures))


if __name__ == "__main__":
    main()

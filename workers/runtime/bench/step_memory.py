"""Peak memory of one policy step, plain and as the runtime takes it: part of `npm run bench:training`.

The plain step has the logits of all completion tokens at once and keeps the activations of every block, as the runtime
did in version 0.1.0. Memory is what the forward and the backward pass need next to weights, gradients and optimizer
state: a gradient is dropped as soon as it is whole, and there is no optimizer.

It is found in two ways. Counted: every tensor that an operation makes, from its making to its end, by operations that
compute nothing, so that any host can do it. Measured: the peak of a process's resident memory over what it has before
the step, where the host has as much memory free.

Tensor names end in their shape: T completion positions, V vocabulary.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import Any

import psutil
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from runtime import log_probabilities as chunked
from runtime.bench.throughput import SHAPES
from runtime.files import Row
from runtime.models import make_deterministic, recompute_blocks

PROMPT = 64
TEMPERATURE = 0.8
WAYS = {
    "plain": (False, False),
    "chunks": (True, False),
    "checkpointing": (False, True),
    "both": (True, True),
}
"""Whether log-probabilities are computed in chunks, and blocks again in the backward pass."""
MOST = 25
"""Bar of both together, in per cent of the plain step."""
SAME = 1e-5
"""Share by which log-probability and gradient of both may differ from the plain ones."""


class Counted(TorchDispatchMode):
    """Bytes of the tensors that operations make, at the most at once."""

    peak = 0

    def __init__(self) -> None:
        super().__init__()
        self._now = 0
        self._known: set[int] = set()

    def leave_out(self, tensor: torch.Tensor) -> None:
        """Count nothing for what is there before."""
        self._known.add(tensor.untyped_storage()._cdata)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        self.peak = max(self.peak, self._now)
        return made

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self._now += storage.nbytes()
            weakref.finalize(storage, self._take_off, storage._cdata, storage.nbytes())

    def _take_off(self, storage: int, size: int) -> None:
        self._known.discard(storage)
        self._now -= size


class Step:
    """A step of a model with random weights over one row of random tokens."""

    def __init__(self, size: str, tokens: int, way: str) -> None:
        self._chunks, again = WAYS[way]
        model_class, config_class, shape = SHAPES[size]
        ids = random.Random(1).choices(range(3, 1000), k=tokens)
        self.row = {"id": "r", "promptIds": ids[:PROMPT], "completionIds": ids[PROMPT:]}
        torch.manual_seed(0)
        config: Any = config_class(**shape, max_position_embeddings=tokens, tie_word_embeddings=True)
        self.model: Any = model_class(config).eval()
        if again:
            recompute_blocks(self.model)
        self.norms: list[torch.Tensor] = []
        for parameter in self.model.parameters():
            parameter.register_post_accumulate_grad_hook(self._drop)
        # It is, and the tensors that are counted hold no numbers to see it by.
        chunked._heads_that_are_all[self.model] = True

    def _drop(self, parameter: torch.Tensor) -> None:
        assert parameter.grad is not None
        self.norms.append(parameter.grad.norm())
        parameter.grad = None

    def take(self, row: Row) -> torch.Tensor:
        """Forward and backward pass; returns the mean log-probability of the completion."""
        of = chunked.log_probabilities(self.model, [row], TEMPERATURE)[0] if self._chunks else self._plain(row)
        (-of.mean()).backward()
        return of.detach().mean()

    def _plain(self, row: Row) -> torch.Tensor:
        ids, width = torch.tensor([row["promptIds"] + row["completionIds"]]), len(row["completionIds"])
        logits_TV = self.model(
            input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False, logits_to_keep=width + 1
        ).logits[0, :-1]
        return (logits_TV.float() / TEMPERATURE).log_softmax(-1).gather(-1, ids[0, -width:, None])


def counted(size: str, tokens: int, way: str) -> int:
    """Bytes that a step needs, by what its operations make."""
    fake: Any = FakeTensorMode(allow_non_fake_inputs=True)
    with fake:
        step = Step(size, tokens, way)
        count = Counted()
        for tensor in (*step.model.parameters(), *step.model.buffers()):
            count.leave_out(tensor)
        with count:
            step.take(step.row)
    return count.peak


def measured(size: str, tokens: int, way: str) -> dict[str, float]:
    """Bytes that a step needs in this process, its seconds, mean log-probability, and the sum of gradient norms."""
    step = Step(size, tokens, way)
    step.take({**step.row, "completionIds": step.row["completionIds"][:4]})  # what libraries allocate once
    step.norms.clear()
    Path("/proc/self/clear_refs").write_text("5")  # the peak is what there is now
    before, start = resident_peak(), time.perf_counter()
    logp = step.take(step.row).item()
    seconds, gradient = time.perf_counter() - start, torch.stack(step.norms).sum().item()
    return {"bytes": resident_peak() - before, "seconds": seconds, "logp": logp, "gradient": gradient}


def resident_peak() -> int:
    """The most memory that this process had, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def measured_apart(size: str, tokens: int, way: str) -> dict[str, float]:
    """As `measured`, in a process of its own."""
    command = [sys.executable, "-m", "runtime.bench.step_memory", "--size", size, "--tokens", str(tokens)]
    printed = subprocess.run([*command, "--way", way], check=True, stdout=subprocess.PIPE, text=True).stdout
    result = json.loads(printed.splitlines()[-1])
    print(f"{way}: {result}", file=sys.stderr, flush=True)
    return result


def main() -> None:
    """Count, and measure; `--output` gets the measures as a JSON array."""
    parser = argparse.ArgumentParser(description="Peak memory of a policy step, plain and as the runtime takes it.")
    parser.add_argument("--size", choices=SHAPES, default="0.5", help="shape of the model, whose weights are random")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens of the one row")
    parser.add_argument("--output", type=Path, help="file of the measures")
    parser.add_argument("--way", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    make_deterministic(torch.get_num_threads())
    size, tokens = arguments.size, arguments.tokens
    if arguments.way:
        print(json.dumps(measured(size, tokens, arguments.way)))
        return
    note = f"{size} B, one row of {tokens} tokens, without weights, gradients and optimizer state"
    bytes_of = {way: counted(size, tokens, way) for way in WAYS}
    measures = [
        {"name": f"policy step, {way}, counted", "value": bytes_of[way] / 1e9, "unit": "GB", "note": note}
        for way in WAYS
    ]
    measures.append(share("counted", bytes_of["both"] / bytes_of["plain"]))
    # Weights, a margin of a fifth, and what libraries have.
    parameters = sum(p.numel() for p in _without_weights(size).parameters())
    needed, free = 1.2 * (bytes_of["plain"] + 4 * parameters) + 1e9, psutil.virtual_memory().available
    if free < needed:
        print(f"Not measured: {free / 1e9:.0f} GB are free, and {needed / 1e9:.0f} are needed.", file=sys.stderr)
    else:
        results = {way: measured_apart(size, tokens, way) for way in ("plain", "both")}
        for figure in ("logp", "gradient"):
            if not abs(results["both"][figure] / results["plain"][figure] - 1) < SAME:
                sys.exit(f"The two ways do not compute the same: {results}.")
        for way, result in results.items():
            seconds = f"{note}, {result['seconds']:.0f} s"
            name = f"policy step, {way}, resident"
            measures.append({"name": name, "value": result["bytes"] / 1e9, "unit": "GB", "note": seconds})
        measures.append(share("resident", results["both"]["bytes"] / results["plain"]["bytes"]))
    arguments.output.write_text(json.dumps(measures))


def share(how: str, value: float) -> dict[str, Any]:
    """The measure that has the bar."""
    name = f"policy step, both over plain, {how}"
    return {"name": name, "value": 100 * value, "unit": "%", "bar": MOST, "at": "most"}


def _without_weights(size: str) -> Any:
    model_class, config_class, shape = SHAPES[size]
    with torch.device("meta"):
        config: Any = config_class(**shape, tie_word_embeddings=True)
        return model_class(config)


if __name__ == "__main__":
    main()

"""How many bytes of a policy change in rounds of RL: part of `npm run bench:training`.

A sampler that has the policy of the round before needs only what differs. GPUs sample in bfloat16, which most updates
of a small learning rate do not reach; what is stored for the trainer is float32, of which nearly every value changes.

The delta of a tensor is the exclusive or of its bits before and after, and its bytes are those that zlib makes of it.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import zlib
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from runtime.bench.policy_update import CONFIG, ROWS, rollouts
from runtime.bench.throughput import SHAPES, random_model
from runtime.files import write_rows
from runtime.models import make_deterministic
from runtime.policy_update import update_policy
from serve import Call

BITS = {torch.float32: torch.int32, torch.bfloat16: torch.int16}
LEARNING_RATE = 5e-7
"""That of the stage where nobody sets it."""


def tensors_by_file(folder: str) -> dict[str, Path]:
    """Where each tensor of a model folder is."""
    files = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            files |= dict.fromkeys(file.keys(), path)
    return files


def tensor(name: str, path: Path) -> torch.Tensor:
    with safe_open(path, "pt") as file:
        return file.get_tensor(name)


class Delta:
    """What differs between two policies in a type."""

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype, self._zlib = dtype, zlib.compressobj(level=1)
        self.values = self.changed = self.bytes = 0

    def add(self, before: torch.Tensor, after: torch.Tensor) -> None:
        bits = BITS[self._dtype]
        both = [each.to(self._dtype).contiguous().view(bits) for each in (before, after)]
        differs = both[0] ^ both[1]
        self.values += differs.numel()
        self.changed += int(differs.count_nonzero())
        self.bytes += len(self._zlib.compress(differs.numpy().data))

    def end(self) -> Delta:
        self.bytes += len(self._zlib.flush())
        return self

    @property
    def whole(self) -> int:
        return self.values * self._dtype.itemsize


def compared(before: str, after: str) -> dict[torch.dtype, Delta]:
    deltas = {dtype: Delta(dtype) for dtype in BITS}
    old, new = tensors_by_file(before), tensors_by_file(after)
    if old.keys() != new.keys():
        sys.exit(f"Only one of the policies has the tensors {sorted(old.keys() ^ new.keys())}.")
    for name in sorted(old):
        for delta in deltas.values():
            delta.add(tensor(name, old[name]), tensor(name, new[name]))
    return {dtype: delta.end() for dtype, delta in deltas.items()}


def main() -> None:
    """Measure; `--output` gets the measures as a JSON array."""
    parser = argparse.ArgumentParser(description="Bytes of a policy that change in rounds of RL.")
    parser.add_argument("--size", choices=SHAPES, default="0.14", help="shape of the model, whose weights are random")
    parser.add_argument("--model", help="folder of a model, instead of random weights")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--output", type=Path, required=True, help="file of the measures")
    arguments = parser.parse_args()
    make_deterministic(torch.get_num_threads())
    measures: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as home:
        policy = arguments.model or random_model(arguments.size, Path(home))
        path = f"{home}/rollouts.jsonl"
        write_rows(path, rollouts())
        reference, resumed = policy, {}
        for round_ in range(1, arguments.rounds + 1):
            output, state = f"{home}/policy-{round_}", f"{home}/state-{round_}"
            params = {
                "policy": policy, "reference": reference, "rollouts": path, "output": output, "state": state, **resumed,
                "checkpoints": f"{home}/checkpoints",
                "config": {**CONFIG, "epochs": 1, "learningRate": LEARNING_RATE},
            }  # fmt: skip
            print(f"round {round_} of {arguments.rounds} ...", file=sys.stderr, flush=True)
            update_policy(params, Call(1, lambda _: None))
            for dtype, delta in compared(policy, output).items():
                name = str(dtype).removeprefix("torch.")
                measures += [
                    {"name": f"round {round_}: values that change in {name}", "value": delta.changed / delta.values,
                     "unit": ""},
                    {"name": f"round {round_}: delta in {name}, of the weights", "value": delta.bytes / delta.whole,
                     "unit": "", "note": f"{delta.bytes / 1e6:.1f} of {delta.whole / 1e6:.1f} MB, {ROWS} rollouts"},
                ]  # fmt: skip
            policy, resumed = output, {"resumeState": state}
    arguments.output.write_text(json.dumps(measures))


if __name__ == "__main__":
    main()

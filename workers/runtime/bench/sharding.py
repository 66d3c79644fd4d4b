"""Memory and traffic of a sharded model during one optimizer step, against a formula: part of `npm run bench:training`.

Two processes that speak gloo share a model on the CPU, as GPUs do by NCCL. Each counts the bytes that it receives in
the collectives of a step, and those of all tensors that it holds between two micro-batches over those before the step.

By formula, for M micro-batches of a process, R processes, B and O parameters inside and outside of decoder blocks, and
weights that go as w bytes (4, or 2 with autocast), a process receives (R - 1) / R of

    `fsdp`      M (3 * 4 O + (2 w + 4) B)    each weight before both passes, each gradient after the backward pass
    `fsdpStep`  4 * 2 O + (w + 4) B          each once a step

and holds between two micro-batches

    `fsdp`      4 (B + O) / R                its shards of the gradients
    `fsdpStep`  (w + 4) B + 8 O              whole weights and gradients
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROCESSES = 2
MICRO_BATCHES = 3
MOST = 1
"""How far a figure may be from its formula, in per cent: FSDP pads what it cuts."""
SAME = {False: 1e-4, True: 1}
"""How far gradients may be from those of an unsharded model in the same arithmetic, in per cent of their norm: in
bfloat16 the weights of norms are rounded that autocast leaves as they are."""
WAYS = {
    "fsdp, float32": ("fsdp", False),
    "fsdp, bfloat16": ("fsdp", True),
    "fsdpStep, float32": ("fsdpStep", False),
    "fsdpStep, bfloat16": ("fsdpStep", True),
}


def formula(sharding: str, width: int, blocks: int, outside: int) -> tuple[float, float]:
    """Bytes that a process receives in a step, and holds between micro-batches; parameters of blocks and outside."""
    share = (PROCESSES - 1) / PROCESSES
    if sharding == "fsdpStep":
        return share * (8 * outside + (width + 4) * blocks), 8 * outside + (width + 4) * blocks
    return share * MICRO_BATCHES * (12 * outside + (2 * width + 4) * blocks), 4 * (blocks + outside) / PROCESSES


def measure(hidden: int, layers: int, rendezvous: str) -> None:
    """One process: prints {way: {traffic, memory, blocks, outside, gradients}} as JSON if it is rank 0."""
    from contextlib import nullcontext

    import torch
    import torch.distributed as dist
    from torch import nn
    from torch.distributed.tensor import DTensor
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import LlamaConfig, LlamaForCausalLM

    from runtime.models import decoder_blocks, make_deterministic
    from runtime.parallel import accumulated, shard
    from runtime.processes import RANK

    class Received(TorchDispatchMode):
        """Bytes that collectives bring from other processes."""

        total = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.name()
            if name.startswith("c10d::"):
                # Of an all-gather the output is whole, of a reduce-scatter the input.
                sizes = [t.nbytes for t in torch.utils._pytree.tree_leaves(args) if isinstance(t, torch.Tensor)]
                if "allgather" in name or "reduce_scatter" in name:
                    self.total += max(sizes) * (PROCESSES - 1) // PROCESSES
            return func(*args, **(kwargs or {}))

    def held() -> int:
        """Bytes of all tensors that exist, each storage once."""
        gc.collect()
        tensors = [each for each in gc.get_objects() if isinstance(each, torch.Tensor) and each.is_leaf]
        local = [each.to_local() if isinstance(each, DTensor) else each for each in tensors]
        grads = [each.grad for each in tensors if each.grad is not None]
        local += [each.to_local() if isinstance(each, DTensor) else each for each in grads]
        return sum({each.untyped_storage()._cdata: each.untyped_storage().nbytes() for each in local}.values())

    def fresh() -> LlamaForCausalLM:
        torch.manual_seed(1)
        config = LlamaConfig(
            vocab_size=512, hidden_size=hidden, intermediate_size=4 * hidden, num_hidden_layers=layers,
            num_attention_heads=4, tie_word_embeddings=False,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
        for parameter in model.parameters():
            if parameter.dim() == 1:  # of norms, which are ones in a fresh model
                nn.init.uniform_(parameter, 0.5, 1.5)
        return model

    def step(model: Any, chunk: torch.Tensor, in_bfloat16: bool) -> None:
        with torch.autocast("cpu", torch.bfloat16) if in_bfloat16 else nullcontext():
            logits = model(input_ids=chunk, use_cache=False).logits.float()
        (-logits.log_softmax(-1)[0, :-1].gather(-1, chunk[0, 1:, None]).sum()).backward()

    make_deterministic(1)
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=RANK, world_size=PROCESSES)
    ids = list(torch.randint(512, (PROCESSES * MICRO_BATCHES, 1, 8), generator=torch.Generator().manual_seed(2)))
    plain = {}
    for in_bfloat16 in (False, True):
        model = fresh()
        for chunk in ids:
            step(model, chunk, in_bfloat16)
        plain[in_bfloat16] = [p.grad for p in model.parameters()]
    found = {}
    for way, (sharding, in_bfloat16) in WAYS.items():
        model = fresh()
        blocks = sum(p.numel() for p in decoder_blocks(model).parameters())
        outside = sum(p.numel() for p in model.parameters()) - blocks
        shard(model, decoder_blocks(model), torch.bfloat16 if in_bfloat16 else None)
        before, between = held(), 0
        with Received() as received:
            for index, (chunk, _) in enumerate(accumulated(model, ids, sharding == "fsdpStep")):
                if index == 1:
                    between = held() - before
                step(model, chunk, in_bfloat16)
        off = sum(
            (p.grad.full_tensor() - grad).square().sum()
            for p, grad in zip(model.parameters(), plain[in_bfloat16], strict=True)
        )
        size = sum(grad.square().sum() for grad in plain[in_bfloat16])
        found[way] = {
            "traffic": received.total, "memory": between, "blocks": blocks, "outside": outside,
            "gradients": 100 * (off / size).sqrt().item(),
        }  # fmt: skip
        del model
    if RANK == 0:
        print(json.dumps(found))
    dist.destroy_process_group()


def main() -> None:
    """Write the measures to a file, as `test/bench/python.ts` reads them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--rendezvous", help="of one process; absent: start them")
    given = parser.parse_args()
    if given.rendezvous:
        measure(given.hidden, given.layers, given.rendezvous)
        return
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "runtime.bench.sharding", "--rendezvous", str(Path(folder, "rendezvous"))]
        command += ["--hidden", str(given.hidden), "--layers", str(given.layers)]
        ranks = [
            subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                env={**os.environ, "ACECODER_PROCESSES": str(PROCESSES), "ACECODER_RANK": str(rank)},
            )
            for rank in range(PROCESSES)
        ]
        outputs = [rank.communicate()[0] for rank in ranks]
    if any(rank.returncode for rank in ranks):
        sys.exit("A process of the bench has failed.")
    given.output.write_text(json.dumps(measures(json.loads(outputs[0]))))


def measures(found: dict[str, dict[str, float]]) -> list[dict[str, Any]]:
    """What was found, and how far it is from its formula."""
    rows: list[dict[str, Any]] = []
    for way, got in found.items():
        sharding, in_bfloat16 = WAYS[way]
        expected = formula(sharding, 2 if in_bfloat16 else 4, int(got["blocks"]), int(got["outside"]))
        for what, by_formula in zip(("traffic", "memory"), expected, strict=True):
            note = f"by formula {by_formula / 1e6:.2f} MB"
            rows.append({"name": f"{way}, {what}", "value": got[what] / 1e6, "unit": "MB", "note": note})
            off = 100 * abs(got[what] / by_formula - 1)
            rows.append(
                {"name": f"{way}, {what}, off its formula", "value": off, "unit": "%", "bar": MOST, "at": "most"}
            )
        bar = SAME[in_bfloat16]
        name = f"{way}, gradients off those of an unsharded model"
        rows.append({"name": name, "value": got["gradients"], "unit": "%", "bar": bar, "at": "most"})
    return rows


if __name__ == "__main__":
    main()

"""The real vLLM next to the model runtime's own arithmetic: `npm run test:vllm`, with the figures on standard output.

The contract of engines in test_engines.py is held to it by the same command.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import WORKERS, running
from test_engines import REAL_VLLM, Engine, needs_real_vllm

from runtime.log_probabilities import log_probabilities
from runtime.models import DEVICE, load_policy

pytestmark = needs_real_vllm

ENGINE_WITH_DTYPE = """
import torch
import runtime.models
runtime.models.INFERENCE_DTYPE = torch.{dtype}
from vllm_engine.__main__ import main
main()
"""
"""The engine's process, in an arithmetic that its device does not choose by itself."""


# Both round logits to the dtype, in bfloat16 to 1/16 from 8 on: single tokens differ by such a step, over 0.8.
@pytest.mark.parametrize(("dtype", "bound", "largest"), [("float32", 1e-3, 1e-3), ("bfloat16", 0.02, 0.0625 / 0.8)])
def test_log_probabilities_are_those_of_the_trainers_forward_pass(
    micro_model: Path,
    sampling_requests: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    dtype: str,
    bound: float,
    largest: float,
) -> None:
    (tmp_path / "engine_with_dtype.py").write_text(ENGINE_WITH_DTYPE.format(dtype=dtype))
    environment = {"PYTHONPATH": os.pathsep.join(map(str, (tmp_path, WORKERS)))}
    with running(tmp_path / "log", "engine_with_dtype", environment, REAL_VLLM) as process:
        process.receive()
        engine = Engine("vllm", process, micro_model, tmp_path, sampling_requests)
        rows = engine.rows("rows.jsonl", params={"logProbs": True}, n=8, seeds=list(range(8)), maxNewTokens=64)
    model, _ = load_policy(str(micro_model), getattr(torch, dtype))
    differences: list[float] = []
    with torch.no_grad():
        for row in rows:
            logp_BT, _ = log_probabilities(model, [row], 0.8)
            pairs: Any = zip(logp_BT[0].tolist(), row["logProbs"], strict=True)
            differences += [abs(ours - theirs) for ours, theirs in pairs]
    mean, at_99 = statistics.fmean(differences), statistics.quantiles(differences, n=100)[-1]
    with capsys.disabled():
        print(
            f"\nlog-probabilities of vLLM next to the runtime's, {dtype} on {DEVICE.type}: {len(differences)} tokens, "
            f"largest difference {max(differences):.2g}, 99th percentile {at_99:.2g}, mean {mean:.2g}"
        )
    assert mean <= bound
    assert max(differences) <= largest

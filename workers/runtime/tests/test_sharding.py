"""What a sharded model holds and sends, and its gradients, by the bench on two processes at a small size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from conftest import GUARD_SECONDS, WORKERS


def test_memory_and_traffic_follow_their_formulas_and_gradients_stay(tmp_path: Path) -> None:
    output = tmp_path / "measures.json"
    command = [sys.executable, "-m", "runtime.bench.sharding", "--hidden", "64", "--layers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(WORKERS)}
    subprocess.run([*command, "--output", str(output)], check=True, env=environment, timeout=GUARD_SECONDS)
    held = [row for row in json.loads(output.read_text()) if "bar" in row]
    assert len(held) == 3 * 4
    assert [row for row in held if row["value"] > row["bar"]] == []

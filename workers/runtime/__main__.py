"""The resident model runtime process: `PYTHONPATH=<repository>/workers python -m runtime`, spoken to as in `serve.py`.

`ACECODER_TORCH_THREADS` fixes the number of CPU threads (default: all cores). Results are bit-identical for the same
thread count, CPU capability and library versions, all of which the `ready` message states.
"""

from __future__ import annotations

import os
import platform

# Read by the libraries while they are imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads starve each other on shared cores
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
import transformers
import trl

from runtime.micro_model import build_micro_model
from runtime.models import DEVICE, check_model, import_model, make_deterministic
from runtime.policy_update import update_policy
from runtime.reward_model import train_reward_model
from runtime.sampling import sample
from runtime.scoring import score
from runtime.tables import check_table, export_table, import_table
from serve import serve

OPERATIONS = {
    "checkModel": check_model,
    "importModel": import_model,
    "buildMicroModel": build_micro_model,
    "sample": sample,
    "trainRewardModel": train_reward_model,
    "score": score,
    "updatePolicy": update_policy,
    "checkTable": check_table,
    "importTable": import_table,
    "exportTable": export_table,
}


def main() -> None:
    """Serve, deterministically, until the parent is gone."""
    threads = int(os.environ.get("ACECODER_TORCH_THREADS") or os.cpu_count() or 1)
    make_deterministic(threads)
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "trl": trl.__version__,
        "threads": str(threads),
        "cpuCapability": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
    }
    # An error of the device itself stays with the process: every later use of the device would meet it.
    serve(OPERATIONS, versions, useless_after=(torch.AcceleratorError,))


if __name__ == "__main__":
    main()

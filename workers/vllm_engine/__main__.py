"""The vLLM sampling engine: a process next to the model runtime, started by `python -m vllm_engine`.

It speaks as `serve.py` says and answers `sample` alone. It has its own environment and interpreter. It shares the
device with the model runtime, and therefore holds memory during a call only.
"""

from __future__ import annotations

import os
import platform

# Read by the libraries while they are imported. The engine runs in this process: its scheduling then depends on the
# requests alone, and an error of the device arrives here as what it is.
os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
os.environ["VLLM_NO_USAGE_STATS"] = "1"
# How long a prompt may be is decided by `read_samples`, for each engine alike.
os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

from operations import vllm_operations
from serve import importing, keep_running_without_log, serve

with importing():
    import torch
    import transformers
    import vllm

    from runtime.models import DEVICE
    from vllm_engine.engines import end_group
    from vllm_engine.sampling import sample


def _take_threads() -> None:
    """Compute by as many threads as the model runtime does; vLLM takes one where `OMP_NUM_THREADS` is not set."""
    threads = os.environ.get("OMP_NUM_THREADS") or os.environ.get("ACECODER_TORCH_THREADS") or str(os.cpu_count() or 1)
    os.environ["OMP_NUM_THREADS"] = threads
    torch.set_num_threads(int(threads))


def main() -> None:
    """Serve until the parent is gone."""
    keep_running_without_log()
    if DEVICE.type == "cpu":
        _take_threads()
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "vllm": vllm.__version__,
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "threads": str(torch.get_num_threads()),
    }
    serve(vllm_operations(sample=sample), versions, end_group)


if __name__ == "__main__":
    main()

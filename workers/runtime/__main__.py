"""The resident model runtime process: `PYTHONPATH=<repository>/workers python -m runtime`, spoken to as in `serve.py`.

`ACECODER_PROCESSES` is the number of its processes, each with its own device (default 1; see `processes.py`).
`ACECODER_GANG` makes it a member of a training on several hosts (see `gang.py`).
`ACECODER_TORCH_THREADS` fixes the number of CPU threads of each (default: all cores, divided among them). Results are
bit-identical in the same environment, which the `ready` message states next to the libraries' versions.

`python -m runtime --describe` prints the methods of the policy update and their settings as JSON, and ends.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import sys
from importlib import metadata

from operations import TrainRewardModelParams, TrainRewardModelResult, runtime_operations
from runtime import methods
from runtime.gang import MEMBERS, Gang, Rendezvous, on_all_hosts
from runtime.processes import PROCESSES, PROCESSES_HERE, RANK_HERE, OtherProcesses, on_all_processes, take_device
from serve import Call, importing, keep_running_without_log, serve

# Read by the libraries while they are imported. The first is how long a thread spins before it sleeps. The work of a
# small model comes in pieces of microseconds: to sleep between them takes as long as they do, and threads that never
# sleep starve each other on shared cores.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"


OF_RANK_0 = (
    "checkModel",
    "importModel",
    "buildMicroModel",
    "mergeAdapters",
    "checkTable",
    "importTable",
    "exportTable",
)
"""Operations of which the other ranks know nothing."""


def _train_reward_model(params: TrainRewardModelParams, call: Call) -> TrainRewardModelResult:
    """Train a reward model. What only it needs is imported now: that takes half as long as all other imports."""
    with importing():
        from runtime.reward_model import train_reward_model

    return train_reward_model(params, call)


def _rendezvous() -> tuple[Gang | None, Rendezvous | None]:
    """The links to other hosts, at the first process of each, and where this process finds the others; None without."""
    if PROCESSES == 1:
        return None, None
    if RANK_HERE > 0:
        return None, Rendezvous.read(os.environ["ACECODER_RENDEZVOUS"])
    if MEMBERS == 1:
        return None, Rendezvous.opened("127.0.0.1")
    gang = Gang(PROCESSES_HERE)
    return gang, gang.rendezvous


def main() -> None:
    """Start the other processes, and serve, deterministically, until the parent is gone."""
    if sys.argv[1:] == ["--describe"]:
        print(json.dumps(methods.describe()))
        return
    keep_running_without_log()
    gang, rendezvous = _rendezvous()
    others = OtherProcesses(rendezvous) if rendezvous and PROCESSES_HERE > 1 and RANK_HERE == 0 else None
    take_device()
    # Imported with the device taken, and by all processes at the same time.
    with importing():
        import torch
        import transformers

        from runtime.adapters import merge_adapters
        from runtime.checkpoints import environment
        from runtime.fine_tuning import fine_tune
        from runtime.micro_model import build_micro_model
        from runtime.models import check_model, import_model, make_deterministic, release_models
        from runtime.parallel import join_processes
        from runtime.policy_update import update_policy
        from runtime.sampling import sample
        from runtime.scoring import score
        from runtime.tables import check_table, export_table, import_table
    gc.freeze()  # what is there now stays, and a search for garbage may leave it out

    make_deterministic(int(os.environ.get("ACECODER_TORCH_THREADS") or max(1, (os.cpu_count() or 1) // PROCESSES_HERE)))
    join_processes(rendezvous)
    operations = runtime_operations(
        checkModel=check_model,
        importModel=import_model,
        buildMicroModel=build_micro_model,
        releaseModels=release_models,
        sample=sample,
        score=score,
        trainRewardModel=_train_reward_model,
        updatePolicy=update_policy,
        mergeAdapters=merge_adapters,
        fineTune=fine_tune,
        checkTable=check_table,
        importTable=import_table,
        exportTable=export_table,
    )
    versions = {
        "python": platform.python_version(),
        "transformers": transformers.__version__,
        "trl": metadata.version("trl"),
        **{name: str(value) for name, value in environment().items()},
    }
    # An error of the device itself stays with the process: every later use of the device would meet it.
    useless_after = (torch.AcceleratorError,)
    shared = {op: operation for op, operation in operations.items() if op not in OF_RANK_0}
    if others:
        shared = on_all_processes(shared, others, useless_after)
    if gang:
        shared = on_all_hosts(shared, gang)
    operations |= shared
    serve(operations, versions, useless_after=useless_after)


if __name__ == "__main__":
    main()

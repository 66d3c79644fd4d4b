#!/usr/bin/env python3
"""The model runtime on this host's device, whose trainings leave a record of each optimizer step and checkpoint.

The record is appended to the file CHAOS_RECORD, a JSON object a line. `at` is in seconds of the monotonic clock, which
all processes of a host share and which nobody moves. A training's name is the folder of its checkpoints by its key.
"""

import json
import os
import time
from pathlib import Path

from runtime import __main__ as runtime
from serve import serve

RECORD = os.environ["CHAOS_RECORD"]
TRAININGS = ("trainRewardModel", "fineTune", "updatePolicy")


def record(**what):
    line = json.dumps({"at": time.monotonic(), "pid": os.getpid(), **what}) + "\n"
    # One write, so that lines of two processes never mix.
    descriptor = os.open(RECORD, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def step_of(folder):
    """The step of a checkpoint's folder; 0 where there is none."""
    return int(folder.rsplit("-", 1)[1]) if folder else 0


class RecordedCall:
    """A call of `serve.py` that records the steps of a training."""

    def __init__(self, op, key, call):
        self._op = op
        self._key = key
        self._call = call

    def __getattr__(self, name):
        return getattr(self._call, name)

    def progress(self, done, total, message="", metrics=None):
        # A step has a loss. What is judged before and after the training has none.
        if metrics and "loss" in metrics:
            record(key=self._key, event="step", step=done)
        self._call.progress(done, total, message, metrics)

    def checkpoint(self, step, path):
        record(key=self._key, event="checkpoint", step=step)
        self._call.checkpoint(step, path)


def recorded(op, operation):
    def run(params, call):
        # .../checkpoints/<key>/<boot>/<attempt>
        key = Path(params["checkpoints"]).parts[-3]
        record(key=key, event="begin", step=step_of(params.get("resumeFrom")), op=op)
        return operation(params, RecordedCall(op, key, call))

    return run


def serve_recorded(operations, versions, **options):
    trainings = {op: recorded(op, operations[op]) for op in TRAININGS}
    serve({**operations, **trainings}, versions, **options)


if __name__ == "__main__":
    runtime.serve = serve_recorded
    runtime.main()

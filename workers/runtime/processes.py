"""The processes of one runtime: rank 0 speaks with the parent, and is itself the parent of the others.

With `ACECODER_PROCESSES` = N the runtime has one process per device. Rank 0 starts ranks 1 to N - 1 and speaks to them
as `serve.py` says. They end when their parent's end of the pipe closes, however rank 0 ended. An operation of all ranks
is sent to each; its result is that of rank 0, and an error of any rank ends it everywhere.

Ranks find each other by a store that the first rank holds, on a loopback port or at the address of its host. RANK and
WORLD_SIZE are not set: libraries that read them wrap models and split data by themselves.

A training of several hosts has a runtime on each (`gang.py`). Ranks count through all hosts. In each runtime the first
rank of its host is what is called rank 0 here.

Only the standard library is imported here, because the others are started before rank 0 imports torch.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO, NoReturn

from runtime.gang import MEMBER, MEMBERS, Rendezvous
from serve import (
    Call,
    Operation,
    ServiceError,
    as_service_error,
    how_ended,
    read_messages,
    spawn_service,
    write_message,
)

PROCESSES_HERE = int(os.environ.get("ACECODER_PROCESSES") or 1)
RANK_HERE = int(os.environ.get("ACECODER_RANK") or 0)
"""Among the processes of this runtime."""
PROCESSES = PROCESSES_HERE * MEMBERS
RANK = MEMBER * PROCESSES_HERE + RANK_HERE
"""Among the processes of all hosts of a training."""
GRACE_SECONDS = 5
"""Time in which the other ranks must end an operation that has failed in one; a rank in a collective cannot."""


class OtherProcesses:
    """Ranks 1 to N - 1, as rank 0 sees them. A rank that ends takes the whole runtime with it."""

    def __init__(self, rendezvous: Rendezvous) -> None:
        self._rendezvous = rendezvous
        self._changed = threading.Condition()
        self._call: Call | None = None
        """The running operation; the three below are about it."""
        self._answers: dict[int, dict[str, str] | None] = {}
        """The error of each rank that has ended it, None where it succeeded."""
        self._first_error: ServiceError | None = None
        self._requests = [self._start(rank) for rank in range(1, PROCESSES_HERE)]

    def run(
        self,
        op: str,
        operation: Operation,
        useless_after: tuple[type[Exception], ...],
        params: Mapping[str, Any],
        call: Call,
    ) -> Mapping[str, object]:
        """Run `operation`, which the other ranks know as `op`, on all ranks; returns the result of rank 0.

        Raises an error that all ranks have alike, and those of `useless_after`, with which rank 0 ends. Of others, the
        first is answered and the runtime ends, because ranks that were not in the same collectives cannot go on
        together.
        """
        with self._changed:
            self._call, self._answers, self._first_error = call, {}, None
        call.on_cancel.append(lambda: self._send({"id": call.id, "cancel": True}))
        self._send({"id": call.id, "op": op, "params": params})
        if call.cancelled:
            self._send({"id": call.id, "cancel": True})
        error: Exception | None = None
        result: Mapping[str, object] = {}
        try:
            result = operation(params, call)
        except useless_after:
            raise
        except Exception as raised:
            error = raised
            self._failed(as_service_error(error))
        with self._changed:
            self._changed.wait_for(lambda: len(self._answers) == PROCESSES_HERE - 1)
            self._call = None
        own = error and {"type": as_service_error(error).type, "message": str(as_service_error(error))}
        # Memory may have run out at another place in each rank.
        if any(answer != own for answer in self._answers.values()) or (own and own["type"] == "OutOfMemory"):
            self._end(call)
        if error:
            raise error
        return result

    def _start(self, rank: int) -> BinaryIO:
        """Start a rank; returns the file that takes its requests."""
        environment = {**os.environ, "ACECODER_RANK": str(rank), "ACECODER_RENDEZVOUS": str(self._rendezvous)}
        pid, requests, replies = spawn_service("runtime", environment)
        threading.Thread(target=self._listen, args=(rank, pid, replies), name=f"rank {rank}", daemon=True).start()
        return requests

    def _listen(self, rank: int, pid: int, replies: int) -> None:
        """Take the answers of a rank, and end the runtime when it ends."""
        for message in read_messages(replies):
            if message["type"] not in ("result", "error"):
                continue  # rank 0 alone says that it is ready, how far it is and what it has written
            if error := message.get("error"):
                of_rank = f"(process {rank + 1} of {PROCESSES_HERE})"
                self._failed(ServiceError(error["type"], f"{error['message']} {of_rank}"))
            with self._changed:
                self._answers[rank] = error
                self._changed.notify()
        how = how_ended(pid)
        with self._changed:
            # What rank 0 met in a collective, if anything, is a consequence.
            message = f"Process {rank + 1} of {PROCESSES_HERE} of the runtime {how}."
            self._first_error = ServiceError("RuntimeLost", message)
            print(self._first_error, file=sys.stderr, flush=True)
            self._end(self._call)

    def _send(self, message: Mapping[str, Any]) -> None:
        for requests in self._requests:
            with suppress(BrokenPipeError):  # `_listen` deals with a rank that has ended
                write_message(requests, message)

    def _failed(self, error: ServiceError) -> None:
        """Note the first error of the running operation, and end the runtime when a rank does not end it by itself."""
        with self._changed:
            if self._first_error is not None:
                return
            self._first_error, call = error, self._call

        def give_up() -> None:
            with self._changed:
                if self._call is call:
                    self._end(call)

        timer = threading.Timer(GRACE_SECONDS, give_up)
        timer.daemon = True
        timer.start()

    def _end(self, call: Call | None) -> NoReturn:
        """End the runtime, which the other ranks follow; the running operation is answered with the first error."""
        try:
            if call and self._first_error:
                call.fail(self._first_error)
        finally:
            os._exit(1)


def on_all_processes(
    operations: Mapping[str, Operation], others: OtherProcesses, useless_after: tuple[type[Exception], ...]
) -> dict[str, Operation]:
    """The same operations, each run on all ranks at once; `useless_after` as in `serve`."""
    return {op: partial(others.run, op, operation, useless_after) for op, operation in operations.items()}


def take_device() -> None:
    """Leave this rank its own GPU alone, because libraries use every GPU that they see; before torch is imported."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(PROCESSES_HERE))))
    devices = [device.strip() for device in visible.split(",") if device.strip()]
    if not devices:
        return  # on CPU
    if len(devices) < PROCESSES_HERE:
        named = f"CUDA_VISIBLE_DEVICES names {len(devices)} devices: {visible}"
        sys.exit(f"ACECODER_PROCESSES is {PROCESSES_HERE}; {named}.")
    os.environ["CUDA_VISIBLE_DEVICES"] = devices[RANK_HERE]

"""JSON-lines service loop shared by the model runtime and the sandbox supervisor.

The parent (a Node worker) opens file descriptor 3 for requests and 4 for replies. Standard output and standard error
are left to libraries and go to a log file. Requests run one after the other on the main thread, because neither torch
nor a fork server is safe to drive from several threads. A reader thread takes requests and cancellations as they come.

    -> {"id": 1, "op": "sample", "params": {...}, "traceparent": "00-..."}     -> {"id": 1, "cancel": true}
    <- {"type": "ready", "versions": {...}}
    <- {"id": 1, "type": "progress", "done": 3, "total": 8, "message": "...", "metrics": {...}}
    <- {"id": 1, "type": "checkpoint", "step": 20, "path": "..."}
    <- {"id": 1, "type": "result", "result": {...}, "timing": {"waited": 0.1, "ran": 7.5}}
    <- {"id": 1, "type": "error", "error": {"type": "...", "message": "..."}, "timing": {...}}

`traceparent` (W3C Trace Context) may be absent. It is written next to the traceback of an unexpected error, so that the
log leads to the trace; the parent makes the span. `timing` is in seconds: before and in the operation.

SIGTERM is left to the parent: service managers and Slurm send it to every process of a job, and a training that ends by
it writes no checkpoint. The parent cancels what runs, and ends this process afterwards.

When the parent's end of descriptor 3 closes, the process ends its children and itself at once. A parent that was killed
cannot ask for it, and an orphaned training would hold a GPU.
"""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, BinaryIO, NoReturn

DISK_FULL_ERRNOS = (errno.ENOSPC, errno.EDQUOT)
DISK_FULL_SIGNS = (
    "No space left on device",
    "Disk quota exceeded",
    "No usable temporary directory",
    "unexpected pos",
    "file write failed",
    "iostream error",
)
"""In the messages of the operating system, whichever library passes them on, of `tempfile`, which tries each folder,
and of a `torch.save` that came short."""


@contextmanager
def importing() -> Generator[None, None, None]:
    """Import large libraries within the block; no garbage is looked for meanwhile.

    An import makes hundreds of thousands of objects, which stay. To look through them again and again takes a third of
    its time.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class ServiceError(Exception):
    """An error whose `type` the parent maps to a failure class; the message names the value and what to do."""

    def __init__(self, type: str, message: str) -> None:
        super().__init__(message)
        self.type = type


class Cancelled(ServiceError):
    """Raised inside an operation once the parent has asked to stop it."""

    def __init__(self) -> None:
        super().__init__("Cancelled", "The operation was cancelled on request.")


class Call:
    """One running request: how an operation reports progress and notices that it should stop."""

    def __init__(self, id: int, send: Callable[[dict[str, Any]], None], traceparent: str | None = None) -> None:
        self.id = id
        self.traceparent = traceparent
        self.asked_at = time.monotonic()
        self._send = send
        self._cancelled = threading.Event()
        self.on_cancel: list[Callable[[], None]] = []
        """What else is to hear of a cancellation."""

    @property
    def cancelled(self) -> bool:
        """Whether the parent has asked to stop this request."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        self._cancelled.set()
        for hear in self.on_cancel:
            hear()

    def raise_if_cancelled(self) -> None:
        """Raise `Cancelled` when the parent has asked to stop; long operations call this between steps."""
        if self.cancelled:
            raise Cancelled()

    def progress(self, done: int, total: int, message: str = "", metrics: Mapping[str, object] | None = None) -> None:
        """Report `done` of `total` units of work; display only, nothing may depend on it."""
        self._send(
            {
                "id": self.id,
                "type": "progress",
                "done": done,
                "total": total,
                "message": message,
                "metrics": dict(metrics or {}),
            }
        )

    def checkpoint(self, step: int, path: str) -> None:
        """Announce a complete checkpoint folder; the parent copies it while the training continues."""
        self._send({"id": self.id, "type": "checkpoint", "step": step, "path": path})

    def fail(self, error: ServiceError) -> None:
        """Answer the request with an error, for a process that ends before its operation does."""
        self._send(_error_reply(self.id, error))


def as_service_error(error: Exception) -> ServiceError:
    """The error as the parent is told of it; the type of an unexpected one is the name of its class.

    A full disk shows through whatever was made of it on the way: libraries and operations tell of a model that cannot
    be loaded, or of rows that cannot be read, and room that is made later mends all of it.
    """
    if isinstance(error, Cancelled):
        return error
    # The words of an operation's own error may be those of somebody's data; what led to it is not.
    if full := _disk_full(_led_to(error) if isinstance(error, ServiceError) else error):
        text = str(full) or repr(full)
        return ServiceError("DiskFull", f"the disk of this worker's files (ACECODER_HOME) is full: {text}")
    if isinstance(error, ServiceError):
        return error
    return ServiceError(type(error).__name__, str(error) or repr(error))


def _disk_full(error: BaseException | None) -> BaseException | None:
    """The first error that tells of a full disk, of those that led to `error`."""
    seen: set[int] = set()
    while error and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and error.errno in DISK_FULL_ERRNOS:
            return error
        if any(sign in str(error) for sign in DISK_FULL_SIGNS):
            return error
        error = _led_to(error)
    return None


def _led_to(error: BaseException) -> BaseException | None:
    return error.__cause__ or error.__context__


class _Log(io.TextIOWrapper):
    """A text stream to a log file, which loses what the file does not take."""

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def keep_running_without_log() -> None:
    """Let no line of a log that cannot be written, because its disk is full, end an operation or this process."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        file = io.FileIO(descriptor, "w", closefd=False)
        setattr(sys, name, _Log(file, encoding="utf-8", errors="backslashreplace", write_through=True))


Operation = Callable[[Any, Call], Mapping[str, object]]
"""A function of (params, call). `operations.py` says what each takes and returns."""


def spawn_service(module: str, env: Mapping[str, str], own_group: bool = False) -> tuple[int, BinaryIO, int]:
    """Start a Python module that serves as this one says, by this interpreter, as a child of a service.

    Returns its process id, the unbuffered file that takes its requests, and the descriptor of its replies. With
    `own_group` it leads a process group of its own.
    """
    child_requests, requests = os.pipe()
    replies, child_replies = os.pipe()
    command = [sys.executable, "-m", module]
    # The pipes' numbers lie above 4, because a service has its own 3 and 4 open.
    actions = [(os.POSIX_SPAWN_DUP2, child_requests, 3), (os.POSIX_SPAWN_DUP2, child_replies, 4)]
    if own_group:
        pid = os.posix_spawn(sys.executable, command, env, file_actions=actions, setpgroup=0)
    else:
        pid = os.posix_spawn(sys.executable, command, env, file_actions=actions)
    os.close(child_requests)
    os.close(child_replies)
    return pid, os.fdopen(requests, "wb", buffering=0), replies


def how_ended(pid: int) -> str:
    """Wait for a child; returns how it ended, in words.

    Example: "was ended by SIGKILL", or "ended with code 1".
    """
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def read_messages(descriptor: int) -> Iterator[dict[str, Any]]:
    """The messages of a descriptor until its writer has ended."""
    with os.fdopen(descriptor, "rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):  # a writer that is killed may leave half a line
                yield json.loads(line)


def write_message(file: BinaryIO, message: Mapping[str, Any]) -> None:
    """Write one message to an unbuffered file."""
    view = memoryview(json.dumps(message, ensure_ascii=True, separators=(",", ":")).encode() + b"\n")
    while view:
        view = view[file.write(view) :]


def _error_reply(id: int, error: ServiceError) -> dict[str, Any]:
    return {"id": id, "type": "error", "error": {"type": error.type, "message": str(error)}}


def _leave_to_parent(_signal: int, _frame: FrameType | None) -> None:
    """Takes a signal without ending. That it is ignored, programs that are started would inherit."""


def serve(
    operations: Mapping[str, Operation],
    versions: Mapping[str, str],
    on_orphaned: Callable[[], None] = lambda: None,
    useless_after: tuple[type[Exception], ...] = (),
) -> None:
    """Answer requests until the parent closes its end of descriptor 3.

    `operations` maps an op's name to a function of (params, call) that returns the result; `on_orphaned` ends whatever
    the process has started itself; after an error of `useless_after` nothing would work any more, so that the process
    ends and the parent starts another one. Never returns.
    """
    signal.signal(signal.SIGTERM, _leave_to_parent)
    replies = os.fdopen(4, "wb", buffering=0)
    os.set_inheritable(3, False)
    os.set_inheritable(4, False)
    write_lock = threading.Lock()
    pending: queue.Queue[tuple[Call, str, Mapping[str, Any]]] = queue.Queue()
    calls: dict[int, Call] = {}

    def send(message: Mapping[str, Any]) -> None:
        with write_lock:
            write_message(replies, message)

    def leave(code: int = 0) -> NoReturn:
        try:
            on_orphaned()
        finally:
            os._exit(code)

    def read_requests() -> None:
        for message in read_messages(3):
            if message.get("cancel"):
                if call := calls.get(message["id"]):
                    call.cancel()
                continue
            call = Call(message["id"], send, message.get("traceparent"))
            calls[call.id] = call
            pending.put((call, message["op"], message.get("params", {})))
        leave()

    threading.Thread(target=read_requests, name="requests", daemon=True).start()
    try:
        send({"type": "ready", "versions": dict(versions)})
        while True:
            call, op, params = pending.get()
            began_at = time.monotonic()
            try:
                call.raise_if_cancelled()
                if op not in operations:
                    raise ServiceError(
                        "InvalidInput", f"Unknown operation '{op}'; known are {', '.join(sorted(operations))}."
                    )
                reply = {"id": call.id, "type": "result", "result": operations[op](params, call)}
            except useless_after:
                traceback.print_exc()
                leave(1)
            except Exception as error:  # noqa: BLE001 - every failure must reach the parent as one reply
                if not isinstance(error, ServiceError):
                    if call.traceparent:
                        print(f"{op} of trace {call.traceparent}:", file=sys.stderr)
                    traceback.print_exc()
                reply = _error_reply(call.id, as_service_error(error))
            calls.pop(call.id, None)
            send({**reply, "timing": {"waited": began_at - call.asked_at, "ran": time.monotonic() - began_at}})
    except BrokenPipeError:
        leave()

"""Data parallelism: engines next to each other, each with its share of the devices.

A model of 28 attention heads does not go onto eight devices. It goes onto four, and two engines then use all eight.
Each engine is a process of this package, which the first process starts and speaks to as `serve.py` says. Requests are
dealt out in turn and whole, because the samples of a request share the cache of its prompt. The randomness of a row
comes from its own seed, so that it does not matter which engine samples it.

Only the standard library and `runtime.files` are imported here, so that no device is needed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn, cast

from operations import SampleParams, SampleProgress, SampleResult
from runtime.files import Row, read_rows, write_rows
from serve import Call, Cancelled, ServiceError, how_ended, read_messages, spawn_service, write_message

ENGINES = "ACECODER_VLLM_ENGINES"
"""The environment variable that says how many engines there are."""


def tensor_parallel_size(config: Any, devices: int) -> int:
    """Devices over which vLLM cuts a model with this configuration: the most of `devices` that it does not refuse.

    Each device gets as many attention heads and as much of a feed-forward layer, and either whole key-value heads or
    copies of one. Qwen2.5-Coder has 28 heads at 7B, 12 at 1.5B and 14 at 0.5B, so that eight devices never divide them.

    Example: 28 heads with 4 key-value heads and 18,944 inner values on 8 devices give 4.
    """
    heads = config.num_attention_heads
    key_value_heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or 0

    def divides(size: int) -> bool:
        shares = key_value_heads % size == 0 or size % key_value_heads == 0
        return heads % size == 0 and inner % size == 0 and shares

    return next(size for size in range(devices, 0, -1) if divides(size))


def division(config: Any, devices: int, asked: int | None) -> tuple[int, int]:
    """Engines next to each other and the devices of each: `asked` engines, or as many as have devices left.

    The larger cut comes first, because a model that fits onto a larger part of the devices may not fit onto a smaller
    one.

    Example: 28 heads on 8 devices give (2, 4); with 8 engines asked for they give (8, 1).
    """
    size = tensor_parallel_size(config, max(1, devices // asked) if asked else devices)
    return asked or devices // size, size


def engines_asked(devices: int) -> int | None:
    """The number of engines that `ACECODER_VLLM_ENGINES` asks for; None where it is not set.

    Raises `InvalidInput` for what is no whole number, and on GPUs for more engines than devices; `devices` is 0 on a
    CPU.
    """
    text = os.environ.get(ENGINES, "").strip()
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ServiceError("InvalidInput", f"{ENGINES} is {text!r}; give a whole number from 1 on.")
    if devices and int(text) > devices:
        raise ServiceError("InvalidInput", f"{ENGINES} is {text}, and the worker has {devices} devices; give fewer.")
    return int(text)


def environments(engines: int, size: int, threads: int, on_gpu: bool) -> list[dict[str, str]]:
    """What each engine finds in its environment: its `size` devices of the visible ones, or its share of `threads`."""
    one = {**os.environ, ENGINES: "1"}
    if not on_gpu:
        return [{**one, "OMP_NUM_THREADS": str(max(1, threads // engines))} for _ in range(engines)]
    named = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(engines * size))))
    devices = [device.strip() for device in named.split(",")]
    return [{**one, "CUDA_VISIBLE_DEVICES": ",".join(devices[at * size :][:size])} for at in range(engines)]


def end_group() -> None:
    """End the worker processes of an engine on several devices: all are in the group that this process leads."""
    if os.getpgid(0) == os.getpid():
        os.killpg(0, signal.SIGKILL)


class Engines:
    """Running engines. One that ends takes this process with it, whose parent then starts another."""

    def __init__(self, started_as: Sequence[Mapping[str, str]], end: Callable[[], None]) -> None:
        """Start an engine for each environment; `end` ends what this process has started, before it ends itself."""
        self.started_as = started_as
        self._end = end
        self._changed = threading.Condition()
        self._closing = False
        self._call: Call | None = None
        """The running operation; the three below are about it."""
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._progress: dict[int, tuple[int, int]] = {}
        self._open_rows = 0
        self._requests = []
        self._listeners: list[threading.Thread] = []
        for index, environment in enumerate(started_as):
            # A group of its own: the worker processes of an engine on several devices are in it, and end with it.
            pid, requests, replies = spawn_service("vllm_engine", environment, own_group=True)
            self._requests.append(requests)
            listener = threading.Thread(target=self._listen, args=(index, pid, replies), daemon=True)
            self._listeners.append(listener)
            listener.start()

    def sample(self, params: SampleParams, open_rows: int, call: Call) -> SampleResult:
        """Sample for checked requests, of which `open_rows` rows need the model, as one engine does.

        Raises the first error of an engine, after the others have been stopped.
        """
        requests = read_rows(params["requests"], ("id", "n"))
        output = Path(params["output"])
        output.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".engines-", dir=output.parent) as folder:
            parts = [Path(folder, str(index)) for index in range(len(self._requests))]
            dealt = {index: requests[index :: len(parts)] for index in range(min(len(parts), len(requests)))}
            with self._changed:
                self._call, self._answers, self._progress, self._open_rows = call, {}, {}, open_rows
            call.on_cancel.append(self._cancel)
            for index, rows in dealt.items():
                write_rows(f"{parts[index]}.in", rows)
                given = {**params, "requests": f"{parts[index]}.in", "output": f"{parts[index]}.out"}
                self._send(index, {"id": call.id, "op": "sample", "params": given})
            if call.cancelled:
                self._cancel()
            with self._changed:
                self._changed.wait_for(lambda: len(self._answers) == len(dealt))
                self._call = None
            errors = [answer["error"] for answer in self._answers.values() if "error" in answer]
            if call.cancelled and errors:
                raise Cancelled
            for error in errors:
                if error["type"] != "Cancelled":
                    raise ServiceError(error["type"], error["message"])
            write_rows(params["output"], _in_order(requests, [f"{part}.out" for part in parts]))
        results = [cast(SampleResult, answer["result"]) for answer in self._answers.values()]
        return {"rows": sum(result["rows"] for result in results), "tokens": sum(each["tokens"] for each in results)}

    def close(self) -> None:
        """End the engines; returns when their devices are free."""
        self._closing = True
        for requests in self._requests:
            requests.close()
        for listener in self._listeners:
            listener.join()

    def _listen(self, index: int, pid: int, replies: int) -> None:
        """Take the replies of an engine, and end this process when it ends by itself."""
        for message in read_messages(replies):
            if message["type"] == "progress":
                self._tell(index, message)
            elif message["type"] in ("result", "error"):
                if message["type"] == "error":
                    self._cancel()
                with self._changed:
                    self._answers[index] = message
                    self._changed.notify()
        how = how_ended(pid)
        if not self._closing:
            self._give_up(index, how)

    def _give_up(self, index: int, how: str) -> NoReturn:
        error = ServiceError("RuntimeLost", f"Engine {index + 1} of {len(self._requests)} of vLLM {how}.")
        print(error, file=sys.stderr, flush=True)
        try:
            with self._changed:
                if self._call:
                    self._call.fail(error)
        finally:
            self._end()
            os._exit(1)

    def _tell(self, index: int, message: Mapping[str, Any]) -> None:
        with self._changed:
            self._progress[index] = message["done"], message["metrics"]["tokens"]
            done, tokens = (sum(values) for values in zip(*self._progress.values(), strict=True))
            metrics: SampleProgress = {"tokens": tokens}
            if self._call:
                self._call.progress(done, self._open_rows, message["message"], metrics)

    def _cancel(self) -> None:
        with self._changed:
            call = self._call
        if call:
            for index in range(len(self._requests)):
                self._send(index, {"id": call.id, "cancel": True})

    def _send(self, index: int, message: Mapping[str, Any]) -> None:
        with suppress(BrokenPipeError):  # `_listen` deals with an engine that has ended
            write_message(self._requests[index], message)


def _in_order(requests: Sequence[Row], outputs: Sequence[str]) -> Iterator[Row]:
    """The rows that the engines wrote, in the order of the requests."""
    written = [iter(read_rows(path, ()) if Path(path).exists() else ()) for path in outputs]
    for at, request in enumerate(requests):
        for _ in range(request["n"]):
            yield next(written[at % len(written)])

"""The hosts of one training: a runtime on each, which together are ranks of one process group.

A gang lasts for one attempt at a training. Each member is a runtime that its worker starts for the attempt, with
`ACECODER_GANG`, and ends after it. Member 0 leads: it tells its worker where it listens, and each other member opens a
link there with the attempt's token. What has another token, such as a member of an earlier attempt, is refused.

The links stay open. They are to hosts what pipes are to the ranks of one host (`processes.py`): whichever end is lost,
the other ends too, because a rank that waits in a collective for a lost one would wait for ever. Where a network is
cut, no end is told, so that the system asks after the other end (TCP keepalive).

Only the standard library is imported here, because links are opened before torch is imported.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from serve import Call, Cancelled, Operation, ServiceError, write_message

_SETTINGS: Mapping[str, Any] = json.loads(os.environ.get("ACECODER_GANG") or "{}")
"""As the worker gives them: {member, members, token, host (own address), interface (that of the address), leader?
(host and port of member 0's links, for the others)}."""
MEMBER: int = _SETTINGS.get("member", 0)
MEMBERS: int = _SETTINGS.get("members", 1)
INTERFACE: str = _SETTINGS.get("interface", "lo")
"""Network interface by which the ranks of all hosts speak; loopback without a gang."""

REPLIES = 4
"""Descriptor of the worker's end, as in `serve.py`."""
HANDSHAKE_SECONDS = 30
IDLE_SECONDS, PROBE_SECONDS, PROBES = 5, 2, 3
"""A silent link is asked after, and given up after 5 + 3 x 2 s without an answer."""
LOST_SECONDS = IDLE_SECONDS + PROBE_SECONDS * PROBES + 2
"""Time in which a link tells that its other end is lost."""


@dataclass(frozen=True)
class Rendezvous:
    """Where ranks find each other: a store that the first rank holds."""

    host: str
    port: int
    listener: socket.socket | None = None
    """The store's socket, at the first rank."""

    @classmethod
    def opened(cls, host: str) -> Rendezvous:
        """One that this process holds, on a free port."""
        listener = socket.create_server((host, 0))
        return cls(host, listener.getsockname()[1], listener)

    @classmethod
    def read(cls, text: str) -> Rendezvous:
        """One that another process holds, as `str` writes it."""
        host, port = text.rsplit(":", 1)
        return cls(host, int(port))

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Gang:
    """A member's links to the others: of member 0 one to each, of the others one to member 0."""

    def __init__(self, processes: int) -> None:
        """Open the links. `processes` of this host take part.

        Member 0 returns at once and takes the others in when they come. The others return when they are taken in.
        Raises `SystemExit` where member 0 refuses this one or cannot be reached.
        """
        self._processes = processes
        self._changed = threading.Condition()
        self._links: dict[int, socket.socket] = {}
        self._call: Call | None = None
        """The running operation."""
        self._has_ended_here = False
        self._has_ended_there = MEMBER == 0
        """Whether the operation has ended on this member, and on the leader."""
        if MEMBER == 0:
            self.rendezvous = Rendezvous.opened(_SETTINGS["host"])
            listener = socket.create_server((_SETTINGS["host"], 0))
            _in_thread(self._take_in, listener)
            address = f"{_SETTINGS['host']}:{listener.getsockname()[1]}"
            with open(REPLIES, "wb", buffering=0, closefd=False) as replies:
                write_message(replies, {"type": "listening", "address": address})
        else:
            self.rendezvous = self._join(Rendezvous.read(_SETTINGS["leader"]))

    def run(self, operation: Operation, params: Mapping[str, Any], call: Call) -> Mapping[str, object]:
        """Run `operation`, which runs on all members; returns its result when it has ended on member 0.

        A cancellation of any member is one of all. Member 0 may still write a checkpoint, or the model, when the others
        have nothing to do, and they stay for it.
        """
        with self._changed:
            self._call = call
        if MEMBER == 0:
            try:
                return self._operate(operation, params, call)
            finally:
                with self._changed:
                    self._has_ended_here = True
                self._tell({"ended": True})
        call.on_cancel.append(lambda: self._tell({"cancel": True}))
        if call.cancelled:
            self._tell({"cancel": True})
        try:
            result = self._operate(operation, params, call)
        except Cancelled:
            self._wait_for_leader()
            raise
        self._wait_for_leader()
        return result

    def _operate(self, operation: Operation, params: Mapping[str, Any], call: Call) -> Mapping[str, object]:
        """Run `operation`. Where a member is lost, that is the error, and not what a collective says of it.

        A collective fails as soon as the other end is closed, which may be before the link to that member tells it.
        """
        try:
            return operation(params, call)
        except (ServiceError, Cancelled):
            raise
        except Exception:
            with self._changed:
                # `_lost` ends this process meanwhile.
                self._changed.wait_for(lambda: False, LOST_SECONDS)
            raise

    def _wait_for_leader(self) -> None:
        with self._changed:
            self._has_ended_here = True
            self._changed.wait_for(lambda: self._has_ended_there)

    # -- Links --------------------------------------------------------------------------------------------------------

    def _take_in(self, listener: socket.socket) -> None:
        while True:
            link, _ = listener.accept()
            _in_thread(self._greet, link)

    def _greet(self, link: socket.socket) -> None:
        """Take a member in, or refuse it; then listen to it."""
        lines, member = _lines(link), 0
        try:
            link.settimeout(HANDSHAKE_SECONDS)
            hello = next(lines)
            member = hello["member"]
            refusal = self._refusal(hello)
            if refusal is None:
                with self._changed:
                    if member in self._links:
                        refusal = f"host {member + 1} is there already"
                    else:
                        self._links[member] = link
            _send(link, {"refused": refusal} if refusal else {"store": self.rendezvous.port})
        except (OSError, ValueError, KeyError, TypeError, StopIteration):
            refusal = "no member"
        if refusal:
            print(f"A link to this gang was refused: {refusal}.", file=sys.stderr, flush=True)
            link.close()
            return
        self._listen(member, link, lines)

    def _refusal(self, hello: Mapping[str, Any]) -> str | None:
        if hello["token"] != _SETTINGS["token"]:
            return "another attempt has taken its place"
        if hello["member"] not in range(1, MEMBERS):
            return f"there are {MEMBERS} hosts"
        if hello["processes"] != self._processes:
            return f"it has {hello['processes']} processes, and the first host has {self._processes}"
        return None

    def _join(self, leader: Rendezvous) -> Rendezvous:
        try:
            link = socket.create_connection((leader.host, leader.port), HANDSHAKE_SECONDS)
            lines = _lines(link)
            _send(link, {"token": _SETTINGS["token"], "member": MEMBER, "processes": self._processes})
            answer = next(lines)
        except (OSError, StopIteration) as error:
            raise SystemExit(f"The first host of the gang cannot be reached at {leader}: {error}") from error
        if "refused" in answer:
            raise SystemExit(f"The first host of the gang refuses this one: {answer['refused']}.")
        self._links[0] = link
        _in_thread(self._listen, 0, link, lines)
        return Rendezvous(leader.host, answer["store"])

    def _listen(self, member: int, link: socket.socket, lines: Iterator[Mapping[str, Any]]) -> None:
        link.settimeout(None)
        link.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in (("KEEPIDLE", IDLE_SECONDS), ("KEEPINTVL", PROBE_SECONDS), ("KEEPCNT", PROBES)):
            link.setsockopt(socket.IPPROTO_TCP, getattr(socket, f"TCP_{option}"), value)
        with suppress(OSError, ValueError):
            for message in lines:
                with self._changed:
                    call = self._call
                    self._has_ended_there |= "ended" in message
                    self._changed.notify_all()
                if "cancel" in message and call:
                    call.cancel()
        self._lost(member)

    def _lost(self, member: int) -> None:
        """End the runtime, which its ranks follow, unless the operation is over; it is answered with `RuntimeLost`."""
        with self._changed:
            if self._has_ended_here and self._has_ended_there:
                return
            error = ServiceError("RuntimeLost", f"The runtime of host {member + 1} of {MEMBERS} of the gang was lost.")
            print(error, file=sys.stderr, flush=True)
            try:
                if self._call:
                    self._call.fail(error)
            finally:
                os._exit(1)

    def _tell(self, message: Mapping[str, Any]) -> None:
        with self._changed:
            links = list(self._links.values())
        for link in links:
            with suppress(OSError):  # `_listen` deals with a member that has ended
                _send(link, message)


def on_all_hosts(operations: Mapping[str, Operation], gang: Gang) -> dict[str, Operation]:
    """The same operations, each of which ends on all members together."""
    return {op: partial(gang.run, operation) for op, operation in operations.items()}


def _send(link: socket.socket, message: Mapping[str, Any]) -> None:
    link.sendall(json.dumps(message).encode() + b"\n")


def _lines(link: socket.socket) -> Iterator[Mapping[str, Any]]:
    for line in link.makefile("rb"):
        yield json.loads(line)


def _in_thread(target: Callable[..., None], *args: Any) -> None:
    threading.Thread(target=target, args=args, name="gang", daemon=True).start()

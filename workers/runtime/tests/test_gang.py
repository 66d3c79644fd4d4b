"""A training by the runtimes of two hosts, which are two processes here, against one runtime of two processes."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import GUARD_SECONDS, Process, weight_digests
from test_processes import STEPS, params_of, runtime, undisturbed  # noqa: F401 - fixtures

TOKEN = "the attempt"
HOST = {"host": "127.0.0.1", "interface": "lo"}


class Member:
    """The runtime of one host."""

    def __init__(self, folder: Path, processes: int = 1, **settings: Any) -> None:
        self.log = folder / f"member-{settings['member']}.log"
        gang = {"token": TOKEN, "members": 2, **HOST, **settings}
        environment = {"ACECODER_GANG": json.dumps(gang), "ACECODER_PROCESSES": str(processes)}
        self.process = Process(self.log, environment=environment, is_forked=True)
        self.messages: list[dict[str, Any]] = []

    def receive(self, kind: str) -> dict[str, Any]:
        """The next message of a kind; those before it are kept."""
        while (message := self.process.receive())["type"] != kind:
            assert message["type"] in ("progress", "checkpoint"), message
            self.messages.append(message)
        return message

    def begin(self, op: str, params: dict[str, Any]) -> None:
        self.process.send({"id": 1, "op": op, "params": params})

    def ended(self) -> int:
        return self.process.child.wait(timeout=GUARD_SECONDS)

    def end(self) -> None:
        self.process.child.kill()
        self.process.child.wait()


@contextmanager
def gang(folder: Path, processes: int = 1, **of_follower: Any) -> Iterator[tuple[Member, Member]]:
    """Two members that have been started, the leader first."""
    folder.mkdir(exist_ok=True)
    leader = Member(folder, processes, member=0)
    follower = None
    try:
        address = leader.receive("listening")["address"]
        follower = Member(folder, processes, **{"member": 1, "leader": address, **of_follower})
        yield leader, follower
    finally:
        for member in (leader, follower):
            if member:
                member.end()


def on_two_disks(make: Callable[..., Any], op: str, folder: Path, **changes: Any) -> list[dict[str, Any]]:
    return [make(op, folder / host, **changes) for host in ("leader", "follower")]


def train(members: tuple[Member, Member], op: str, params: list[dict[str, Any]]) -> dict[str, Any]:
    """The leader's result of a training that both members begin."""
    for member, given in zip(members, params, strict=True):
        assert member.receive("ready")["versions"]["hosts"] == "2"
        member.begin(op, given)
    results = [member.receive("result")["result"] for member in members]
    return results[0]


@pytest.mark.parametrize(("op", "sharding"), [("trainRewardModel", "none"), ("fineTune", "fsdp")])
def test_two_hosts_train_in_the_bits_of_two_processes(
    params_of: Callable[..., Any], undisturbed: Callable[..., Any], tmp_path: Path, op: str, sharding: str,  # noqa: F811
) -> None:  # fmt: skip
    with gang(tmp_path / "gang") as members:
        result = train(members, op, on_two_disks(params_of, op, tmp_path, config={"sharding": sharding}))
    folder, expected = undisturbed(op, sharding)
    assert [part.pop("hosts") for part in result["environments"]] == [2]
    assert result == expected
    assert weight_digests(tmp_path / "leader/output") == weight_digests(folder / "output")
    assert not (tmp_path / "follower/output").exists()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_killed_member_ends_the_other_and_the_training_goes_on_in_the_same_bits(
    params_of: Callable[..., Any], undisturbed: Callable[..., Any], tmp_path: Path, killed: int,  # noqa: F811
) -> None:  # fmt: skip
    op = "trainRewardModel"
    with gang(tmp_path / "gang") as members:
        for member, given in zip(
            members, on_two_disks(params_of, op, tmp_path, config={"checkpointSeconds": 0}), strict=True
        ):
            member.receive("ready")
            member.begin(op, given)
        while members[0].receive("checkpoint")["step"] < 3:
            pass
        os.kill(members[killed].process.child.pid, signal.SIGKILL)
        other = members[1 - killed]
        assert other.receive("error")["error"] == {
            "type": "RuntimeLost", "message": f"The runtime of host {killed + 1} of 2 of the gang was lost.",
        }  # fmt: skip
        assert other.ended() == 1
    newest = max((tmp_path / "leader/checkpoints").glob("checkpoint-?"), key=lambda folder: folder.name)
    assert 3 <= int(newest.name[-1]) < STEPS
    with gang(tmp_path / "again") as members:
        result = train(members, op, on_two_disks(params_of, op, tmp_path, resumeFrom=str(newest)))
    folder, expected = undisturbed(op, "none")
    assert [point["step"] for point in result["curve"]] == [*range(1, STEPS + 1)]
    assert result["curve"] == expected["curve"]
    assert weight_digests(tmp_path / "leader/output") == weight_digests(folder / "output")


def test_a_cancellation_of_any_member_is_one_of_all(
    params_of: Callable[..., Any], tmp_path: Path,  # noqa: F811
) -> None:  # fmt: skip
    with gang(tmp_path / "gang") as members:
        for member, given in zip(members, on_two_disks(params_of, "fineTune", tmp_path), strict=True):
            member.receive("ready")
            member.begin("fineTune", given)
        members[1].receive("progress")
        members[1].process.send({"id": 1, "cancel": True})
        assert [member.receive("error")["error"]["type"] for member in members] == ["Cancelled", "Cancelled"]
        (checkpoint,) = [message for message in members[0].messages if message["type"] == "checkpoint"]
        assert Path(checkpoint["path"]).is_dir()


def test_who_does_not_belong_to_the_attempt_is_refused(tmp_path: Path) -> None:
    leader = Member(tmp_path, member=0)
    try:
        address = leader.receive("listening")["address"]
        for changes, why in (
            ({"token": "an earlier attempt"}, "another attempt has taken its place"),
            ({"member": 2}, "there are 2 hosts"),
            ({"processes": 2}, "it has 2 processes, and the first host has 1"),
        ):
            stranger = Member(tmp_path, **{"member": 1, "leader": address, **changes})
            assert stranger.ended() == 1
            assert stranger.log.read_text() == f"The first host of the gang refuses this one: {why}.\n"
        # What says nothing that can be understood is refused too, and ends nothing.
        host, port = address.split(":")
        with socket.create_connection((host, int(port))) as link:
            link.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert link.recv(1) == b""
        follower = Member(tmp_path, member=1, leader=address)
        try:
            for member in (leader, follower):
                assert member.receive("ready")["versions"]["processes"] == "2"
        finally:
            follower.end()
        assert leader.ended() == 1
    finally:
        leader.end()


def test_hosts_with_several_processes_each_are_one_group(
    params_of: Callable[..., Any], tmp_path: Path,  # noqa: F811
) -> None:  # fmt: skip
    with gang(tmp_path / "gang", processes=2) as members:
        params = on_two_disks(params_of, "fineTune", tmp_path, config={"epochs": 1})
        result = train(members, "fineTune", params)
    assert (result["processes"], result["environments"][0]["hosts"]) == (4, 2)

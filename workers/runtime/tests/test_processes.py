"""Trainings, sampling and scoring on two real processes that speak gloo, against one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from conftest import FORMS, GUARD_SECONDS, WORKERS, Process, Recorder, read_jsonl, weight_digests, write_jsonl
from safetensors.torch import load_file
from test_fine_tuning import CONFIG as FINE_TUNING_CONFIG
from test_policy_update import CONFIG as UPDATE_CONFIG
from test_reward_model import CONFIG as REWARD_CONFIG

from runtime.fine_tuning import fine_tune
from runtime.policy_update import update_policy
from runtime.reward_model import train_reward_model
from runtime.sampling import sample
from runtime.scoring import score

STEPS = 8


class Runtime:
    """A runtime of two processes, started again where it has ended."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: Process | None = None
        self._id = 0
        self.ready: dict[str, Any] = {}

    @property
    def process(self) -> Process:
        if self._process is None or self._process.child.poll() is not None:
            environment = {"ACECODER_PROCESSES": "2"}
            self._process = Process(self._folder / "runtime.log", environment=environment, is_forked=True)
            self.ready = self._process.receive()
        return self._process

    def pids(self) -> list[int]:
        """Of all ranks, rank 0 first."""
        rank_0 = psutil.Process(self.process.child.pid)
        return [rank_0.pid, *(child.pid for child in rank_0.children())]

    def call(
        self, op: str, params: dict[str, Any], on_message: Callable[[dict[str, Any]], None] = lambda message: None
    ) -> dict[str, Any]:
        """The reply that ends the operation; `on_message` sees what comes before it."""
        process = self.process
        self._id += 1
        process.send({"id": self._id, "op": op, "params": params})
        while (message := process.receive())["type"] not in ("result", "error"):
            on_message(message)
        assert message["id"] == self._id
        return message

    def result(self, op: str, params: dict[str, Any]) -> dict[str, Any]:
        reply = self.call(op, params)
        assert reply["type"] == "result", reply
        return reply["result"]

    def cancel(self) -> None:
        self.process.send({"id": self._id, "cancel": True})

    def close(self) -> None:
        if self._process is not None:
            self._process.child.kill()
            self._process.child.wait()


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    runtime = Runtime(tmp_path_factory.mktemp("runtime"))
    yield runtime
    runtime.close()


def gone(pids: list[int]) -> bool:
    """Whether all processes end."""
    deadline = time.monotonic() + GUARD_SECONDS
    while any(psutil.pid_exists(pid) and psutil.Process(pid).status() != "zombie" for pid in pids):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


TRAININGS = {"updatePolicy": update_policy, "trainRewardModel": train_reward_model, "fineTune": fine_tune}


@pytest.fixture(scope="module")
def params_of(
    micro_model: Path, pairs: str, rollouts: str, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Any]]:
    """The parameters of a training that works in `folder`; its last step is smaller than the others."""
    uneven = write_jsonl(tmp_path_factory.mktemp("uneven") / "rollouts.jsonl", read_jsonl(Path(rollouts))[:125])

    completions = [{**row, "completion": row["chosen"]} for row in read_jsonl(Path(pairs))[:23]]
    programs = write_jsonl(tmp_path_factory.mktemp("programs") / "rows.jsonl", completions)

    def make(op: str, folder: Path, **changes: Any) -> dict[str, Any]:
        common = {"output": str(folder / "output"), "checkpoints": str(folder / "checkpoints")}
        if op == "updatePolicy":
            config = {**UPDATE_CONFIG, "epochs": 2, "microBatch": 6}
            own = {"policy": str(micro_model), "reference": str(micro_model), "rollouts": uneven}
            own["state"] = str(folder / "state")
        elif op == "fineTune":
            # 23 programs in steps of six: the last step of each of two epochs is smaller.
            config = {**FINE_TUNING_CONFIG, "epochs": 2, "batchSize": 6, "microBatch": 2}
            own = {"model": str(micro_model), "rows": programs}
        else:
            config = {**REWARD_CONFIG, "microBatch": 3, "baseline": True, "questionWeighting": True}
            own = {"model": str(micro_model), "train": pairs, "heldOut": pairs, "forms": FORMS}
        config |= changes.pop("config", {})
        return {**common, **own, "config": config, **changes}

    return make


@pytest.fixture(scope="module")
def undisturbed(
    runtime: Runtime, params_of: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str, str], tuple[Path, dict[str, Any]]]:
    """Folder and result of a training on two processes that nothing interrupts, made when first asked for."""
    made: dict[tuple[str, str], tuple[Path, dict[str, Any]]] = {}

    def get(op: str, sharding: str = "none") -> tuple[Path, dict[str, Any]]:
        if (op, sharding) not in made:
            folder = tmp_path_factory.mktemp(f"{op}-{sharding}")
            params = params_of(op, folder, config={"sharding": sharding})
            made[op, sharding] = folder, runtime.result(op, params)
        return made[op, sharding]

    return get


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


def distance(start: Path, one: Path, other: Path) -> float:
    """How far two trained models are apart, as a share of the way that training moved the first."""
    before, a, b = weights(start), weights(one), weights(other)
    assert a.keys() == b.keys()
    moved = sum(((a[name] - before[name]) ** 2).sum().item() for name in before.keys() & a.keys())
    apart = sum(((a[name] - b[name]) ** 2).sum().item() for name in a)
    return (apart / moved) ** 0.5


def test_two_processes_are_counted(runtime: Runtime) -> None:
    pids = runtime.pids()
    assert runtime.ready["versions"]["processes"] == "2"
    assert len(pids) == 2
    environments = [Path(f"/proc/{pid}/environ").read_bytes().split(b"\0") for pid in pids[1:]]
    assert all(b"ACECODER_RANK=1" in environment for environment in environments)


# Adam divides a gradient by its own size, so that the rounding of a sum in float32 shows where a gradient is nearly
# nothing: two models are compared by how far they are apart, as a share of how far the training moved them.
@pytest.mark.parametrize("op", TRAININGS)
@pytest.mark.parametrize("sharding", ["none", "fsdp"])
def test_two_processes_train_as_one(
    runtime: Runtime, params_of: Callable[..., Any], undisturbed: Callable[..., Any], micro_model: Path, tmp_path: Path,
    op: str, sharding: str,
) -> None:  # fmt: skip
    alone = TRAININGS[op](params_of(op, tmp_path), Recorder().call)
    folder, together = undisturbed(op, sharding)
    assert (alone["processes"], together["processes"]) == (1, 2)
    assert [part["sharding"] for part in together["environments"]] == [sharding]
    assert together["steps"] == alone["steps"] == STEPS
    others = {"updatePolicy": ["gradNorm", "clipFraction"], "trainRewardModel": ["accuracy"], "fineTune": []}
    for name in ("loss", *others[op]):
        assert [point[name] for point in together["curve"]] == pytest.approx(
            [point[name] for point in alone["curve"]], rel=1e-3, abs=1e-5
        )
    assert distance(micro_model, tmp_path / "output", folder / "output") < 0.01
    layout = [sorted(file.name for file in (path / "output").iterdir()) for path in (tmp_path, folder)]
    assert layout[0] == layout[1]
    if op == "updatePolicy":
        assert together["trainedIds"] == alone["trainedIds"]
        fixed = ("kl", "entropy", "rewardMean", "advantageStd", "nonZeroAdvantages")
        assert [together["metrics"][name] for name in fixed] == [alone["metrics"][name] for name in fixed]
        assert weights(tmp_path / "state").keys() == weights(folder / "state").keys()
    elif op == "fineTune":
        counted = ("rows", "tooLong", "tokens")
        assert [together[name] for name in counted] == [alone[name] for name in counted]
    else:
        assert together["before"] == alone["before"]
        assert together["heldOut"]["accuracy"] == alone["heldOut"]["accuracy"]
        assert together["heldOut"]["meanMargin"] == pytest.approx(alone["heldOut"]["meanMargin"], rel=1e-3)


@pytest.mark.parametrize("op", TRAININGS)
def test_two_processes_share_a_model_and_cut_by_tokens_as_one_cuts_by_rows(
    runtime: Runtime, params_of: Callable[..., Any], micro_model: Path, tmp_path: Path, op: str
) -> None:
    plain = {"sharding": "none", "epochs": 1}
    alone = TRAININGS[op](params_of(op, tmp_path / "alone", config=plain), Recorder().call)
    lean = {"sharding": "fsdp", "epochs": 1, "microBatchTokens": 400, "gradientCheckpointing": True}
    together = runtime.result(op, params_of(op, tmp_path / "together", config=lean))
    assert together["environments"][0]["microBatchTokens"] == 400
    assert [point["loss"] for point in together["curve"]] == pytest.approx(
        [point["loss"] for point in alone["curve"]], rel=1e-3, abs=1e-5
    )
    assert distance(micro_model, tmp_path / "alone/output", tmp_path / "together/output") < 0.01


def test_two_processes_train_adapters_as_one(runtime: Runtime, params_of: Callable[..., Any], tmp_path: Path) -> None:
    config = {"lora": {"rank": 8, "alpha": 16, "base": "0" * 64}, "epochs": 1}
    update_policy(params_of("updatePolicy", tmp_path / "one", config=config), Recorder().call)
    runtime.result("updatePolicy", params_of("updatePolicy", tmp_path / "two", config=config))
    # B starts at 0, so that all of it is what the training moved.
    one, two = (
        {name: tensor for name, tensor in weights(tmp_path / run / "output").items() if "lora_B" in name}
        for run in ("one", "two")
    )
    apart = sum((one[name] - two[name]).square().sum() for name in one)
    assert apart < 0.01**2 * sum(tensor.square().sum() for tensor in one.values())


@pytest.mark.parametrize(("op", "upper_layers"), [("updatePolicy", None), ("updatePolicy", 1), ("fineTune", None)])
def test_a_model_that_is_whole_during_a_step_is_trained_as_one_that_is_sharded_again(
    runtime: Runtime, params_of: Callable[..., Any], micro_model: Path, tmp_path: Path, op: str,
    upper_layers: int | None,
) -> None:  # fmt: skip
    config = {"epochs": 1, "upperLayers": upper_layers}
    folders = {}
    for sharding in ("fsdp", "fsdpStep"):
        folders[sharding] = tmp_path / sharding
        result = runtime.result(op, params_of(op, folders[sharding], config={**config, "sharding": sharding}))
        assert result["environments"][0]["sharding"] == sharding
    # Sums over micro-batches and over processes are taken in another order.
    assert distance(micro_model, *(folder / "output" for folder in folders.values())) < 0.01


@pytest.mark.parametrize(
    ("op", "more"), [("updatePolicy", {}), ("trainRewardModel", {"gradientCheckpointing": True, "baseline": False})]
)
def test_a_sharded_model_may_be_trained_in_part(
    runtime: Runtime, params_of: Callable[..., Any], micro_model: Path, tmp_path: Path, op: str, more: dict[str, Any]
) -> None:
    config = {"upperLayers": 1, "epochs": 1, **more}
    one, two = tmp_path / "one", tmp_path / "two"
    TRAININGS[op](params_of(op, one, config=config), Recorder().call)
    runtime.result(op, params_of(op, two, config={**config, "sharding": "fsdp"}))
    assert distance(micro_model, one / "output", two / "output") < 0.01
    frozen = set(weight_digests(micro_model)) & set(weight_digests(one / "output"))
    assert len(frozen) == 3
    assert frozen < set(weight_digests(two / "output"))


def test_samples_and_scores_are_those_of_one_process(
    runtime: Runtime, micro_model: Path, sampling_requests: Callable[..., str], pairs: str,
    undisturbed: Callable[..., Any], tmp_path: Path,
) -> None:  # fmt: skip
    sampling = {"model": str(micro_model), "requests": sampling_requests(), "maxRows": 24, "logProbs": True}
    rows = [{**row, "response": row["chosen"]} for row in read_jsonl(Path(pairs))]
    scoring = {
        "model": str(undisturbed("trainRewardModel")[0] / "output"), "microBatch": 4, "forms": FORMS,
        "rows": write_jsonl(tmp_path / "rows.jsonl", rows),
    }  # fmt: skip
    for op, operation, params in (("sample", sample, sampling), ("score", score, scoring)):
        one, two = str(tmp_path / f"{op}-1.jsonl"), str(tmp_path / f"{op}-2.jsonl")
        assert runtime.result(op, {**params, "output": two}) == operation({**params, "output": one}, Recorder().call)
        assert Path(one).read_bytes() == Path(two).read_bytes()


@pytest.mark.parametrize(("op", "sharding", "rank"), [("updatePolicy", "fsdp", 1), ("trainRewardModel", "none", 0)])
def test_a_killed_rank_ends_the_runtime_and_the_training_goes_on_in_the_same_bits(
    runtime: Runtime, params_of: Callable[..., Any], undisturbed: Callable[..., Any], tmp_path: Path,
    op: str, sharding: str, rank: int,
) -> None:  # fmt: skip
    params = params_of(op, tmp_path, config={"sharding": sharding, "checkpointSeconds": 0})
    pids, process = runtime.pids(), runtime.process

    def kill(message: dict[str, Any]) -> None:
        if message["type"] == "checkpoint" and message["step"] == 3:
            os.kill(pids[rank], signal.SIGKILL)

    if rank == 0:
        with pytest.raises(AssertionError, match="the process closed its replies"):
            runtime.call(op, params, kill)
    else:
        error = runtime.call(op, params, kill)["error"]
        assert error == {"type": "RuntimeLost", "message": "Process 2 of 2 of the runtime was ended by SIGKILL."}
    assert process.child.wait(timeout=GUARD_SECONDS) != 0
    assert gone(pids)

    newest = max((tmp_path / "checkpoints").glob("checkpoint-?"), key=lambda folder: folder.name)
    assert 3 <= int(newest.name[-1]) < STEPS
    config = {"sharding": sharding}
    resumed = runtime.result(op, params_of(op, tmp_path, resumeFrom=str(newest), config=config))
    folder, expected = undisturbed(op, sharding)
    assert resumed == expected
    assert weight_digests(tmp_path / "output") == weight_digests(folder / "output")


@pytest.mark.parametrize(("op", "sharding"), [("updatePolicy", "none"), ("trainRewardModel", "fsdp")])
def test_a_cancelled_training_goes_on_from_its_checkpoint_on_any_number_of_processes(
    runtime: Runtime, params_of: Callable[..., Any], undisturbed: Callable[..., Any], micro_model: Path, tmp_path: Path,
    op: str, sharding: str,
) -> None:  # fmt: skip
    pids, checkpoints = runtime.pids(), []

    def cancel(message: dict[str, Any]) -> None:
        if message["type"] == "checkpoint":
            checkpoints.append(message)
        elif message["done"] == 3 and message["total"] == STEPS:
            runtime.cancel()

    reply = runtime.call(op, params_of(op, tmp_path, config={"sharding": sharding}), cancel)
    assert reply["error"]["type"] == "Cancelled"
    (checkpoint,) = checkpoints
    assert 3 <= checkpoint["step"] < STEPS
    assert runtime.pids() == pids  # no rank was left alone in a collective

    folder, expected = undisturbed(op, sharding)
    resume = {"resumeFrom": checkpoint["path"]}
    assert runtime.result(op, params_of(op, tmp_path, **resume, config={"sharding": sharding})) == expected
    assert weight_digests(tmp_path / "output") == weight_digests(folder / "output")
    recorder = Recorder()
    alone = TRAININGS[op](params_of(op, tmp_path, **resume), recorder.call)
    began, went_on = alone["environments"]
    assert [began] == expected["environments"]
    assert (went_on["step"], went_on["processes"], went_on["sharding"]) == (checkpoint["step"], 1, "none")
    assert "in another environment (processes 2 -> 1" in recorder.messages[0]["message"]
    assert distance(micro_model, tmp_path / "output", folder / "output") < 0.01


def test_an_error_that_all_ranks_have_leaves_the_runtime_as_it_is(
    runtime: Runtime, params_of: Callable[..., Any], tmp_path: Path
) -> None:
    pids = runtime.pids()
    reply = runtime.call("trainRewardModel", params_of("trainRewardModel", tmp_path, config={"microBatch": 4}))
    assert reply["error"] == {
        "type": "InvalidInput", "message": "batchSize 12 is no multiple of microBatch 4 times 2 processes."
    }  # fmt: skip
    reply = runtime.call("updatePolicy", params_of("updatePolicy", tmp_path, config={"learningRate": 1e30}))
    assert reply["error"]["type"] == "TrainingDiverged"
    assert runtime.pids() == pids


def test_an_error_of_one_rank_is_told_and_ends_the_runtime(
    runtime: Runtime, params_of: Callable[..., Any], tmp_path: Path
) -> None:
    # The shortest completion is in the last of two micro-batches, which is the share of rank 1.
    rows = [
        {"id": f"r{length}", "questionId": "q", "promptIds": [1], "completionIds": [2] * length, "reward": 0.0}
        for length in (9, 8, 7)
    ]
    rows.append({**rows[0], "id": "broken", "completionIds": [10**6]})
    path = write_jsonl(tmp_path / "rollouts.jsonl", rows)
    pids, process = runtime.pids(), runtime.process
    started = time.monotonic()
    params = params_of("updatePolicy", tmp_path, rollouts=path, config={"microBatch": 2})
    error = runtime.call("updatePolicy", params)["error"]
    assert error["type"] == "IndexError"
    assert error["message"].endswith("(process 2 of 2)")
    assert process.child.wait(timeout=GUARD_SECONDS) != 0
    assert gone(pids)
    assert time.monotonic() - started < GUARD_SECONDS


def test_all_ranks_leave_with_the_worker(runtime: Runtime, params_of: Callable[..., Any], tmp_path: Path) -> None:
    pids, process = runtime.pids(), runtime.process
    process.send({"id": 10**6, "op": "updatePolicy", "params": params_of("updatePolicy", tmp_path)})
    assert process.receive()["type"] == "progress"
    process.close_requests()
    assert process.child.wait(timeout=GUARD_SECONDS) == 0
    assert gone(pids)


@pytest.mark.parametrize(
    ("rank", "visible", "own"),
    [(0, "GPU-a,GPU-b", "GPU-a"), (1, "GPU-a, GPU-b", "GPU-b"), (1, None, "1"), (1, "", "")],
)
def test_each_rank_sees_its_own_gpu_alone(rank: int, visible: str | None, own: str) -> None:
    finished = take_device(rank, visible)
    assert (finished.returncode, finished.stdout) == (0, f"{own}\n")


def test_fewer_gpus_than_processes_are_refused() -> None:
    finished = take_device(0, "GPU-a")
    assert finished.returncode == 1
    assert finished.stderr == "ACECODER_PROCESSES is 2; CUDA_VISIBLE_DEVICES names 1 devices: GPU-a.\n"


def take_device(rank: int, visible: str | None) -> subprocess.CompletedProcess[str]:
    """A process of its own that prints the GPUs that it has left itself."""
    program = "import os, runtime.processes; runtime.processes.take_device(); print(os.environ['CUDA_VISIBLE_DEVICES'])"
    environment = {"PYTHONPATH": str(WORKERS), "ACECODER_PROCESSES": "2", "ACECODER_RANK": str(rank)}
    if visible is not None:
        environment["CUDA_VISIBLE_DEVICES"] = visible
    return subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)

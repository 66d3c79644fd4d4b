from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Recorder, read_jsonl, weight_digests, write_jsonl
from transformers import AutoModelForCausalLM, PreTrainedModel

from runtime.methods import FILES, SETTINGS, find_method
from runtime.methods.base import MicroBatch, importance_weights, normalised, returns, token_rewards
from runtime.policy_update import update_policy
from runtime.sampling import sample
from runtime.training import Training
from serve import Cancelled, ServiceError

CONFIG = {
    "name": "reinforce++", "maxNewTokens": 64, "learningRate": 1e-4, "beta": 0.01, "clip": 0.2, "rewardClip": 10,
    "batchSize": 32, "microBatch": 8, "epochs": 1, "upperLayers": None, "maxGradNorm": 1.0, "endWeight": 1.0, "seed": 5,
    "temperature": 0.8, "checkpointSeconds": 1e9,
}  # fmt: skip
MASK_BT = torch.tensor([[1.0, 1.0, 1.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
KL_BT = torch.tensor([[0.2, -0.4, 1.0], [0.5, 9.0, 9.0]], dtype=torch.float64)
REWARD_B = torch.tensor([1.0, -2.0], dtype=torch.float64)


def test_token_rewards_put_the_reward_on_the_last_completion_token() -> None:
    expected = torch.tensor([[-0.02, 0.04, 0.9], [-2.05, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(token_rewards(KL_BT, REWARD_B, MASK_BT, beta=0.1), expected)


def test_returns_sum_to_the_end() -> None:
    reward_BT = torch.tensor([[-0.02, 0.04, 0.9], [-2.05, 7.0, 7.0]], dtype=torch.float64)
    expected = torch.tensor([[0.92, 0.94, 0.9], [-2.05, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(returns(reward_BT, MASK_BT), expected)


def test_advantages_are_normalised_over_all_tokens_of_the_batch() -> None:
    # Returns 3, 1, 1 and -1: mean 1, population variance (4 + 0 + 0 + 4) / 4 = 2.
    return_BT = torch.tensor([[3.0, 1.0, 1.0], [-1.0, 0.0, 0.0]], dtype=torch.float64)
    expected = torch.tensor([[2**0.5, 0.0, 0.0], [-(2**0.5), 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(normalised(return_BT, MASK_BT), expected)


def test_equal_returns_pull_at_nothing() -> None:
    assert normalised(0.7 * MASK_BT, MASK_BT).abs().max() < 1e-20


def test_clipped_loss_takes_the_pessimistic_bound() -> None:
    # Ratios 1.5, 0.5 and 1.1 with advantages 1, -1 and 2: min(1.5, 1.2) + min(-0.5, -0.8) + min(2.2, 2.2) = 2.6.
    ratio_BT = torch.tensor([[1.5, 0.5, 1.1], [1.0, 3.0, 3.0]], dtype=torch.float64)
    advantage_BT = torch.tensor([[1.0, -1.0, 2.0], [0.5, 5.0, 5.0]], dtype=torch.float64)
    none_BT = torch.zeros(2, 3, dtype=torch.float64)
    batch = MicroBatch(ratio_BT.log(), none_BT, none_BT, advantage_BT, MASK_BT, [3, 1], 64, 0.2, 0.2, 0.0)
    loss = find_method("reinforce++").loss(batch)
    assert loss.value.item() == pytest.approx(-(2.6 + 0.5) / 4)
    assert loss.clipped.item() == 2


def test_a_ratio_outside_the_mask_cannot_spoil_the_loss() -> None:
    logp_BT = torch.tensor([[0.0, 0.0, 1e4], [0.0, 0.0, 0.0]], requires_grad=True)
    none_BT, mask_BT = torch.zeros(2, 3), torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]])
    batch = MicroBatch(logp_BT, none_BT, none_BT, torch.ones(2, 3), mask_BT, [2, 3], 64, 0.2, 0.2, 0.1)
    loss = find_method("grpo").loss(batch).value
    loss.backward()
    assert loss.isfinite()
    assert logp_BT.grad.isfinite().all()


def update(
    model: Path, rollouts: str, folder: Path, recorder: Recorder | None = None, **changes: Any
) -> dict[str, Any]:
    params = {
        "policy": str(model), "reference": str(model), "rollouts": rollouts, "output": str(folder / "output"),
        "state": str(folder / "state"), "checkpoints": str(folder / "checkpoints"),
        "config": {**CONFIG, **changes.pop("config", {})}, **changes,
    }  # fmt: skip
    return update_policy(params, (recorder or Recorder()).call)


def log_probability(model: PreTrainedModel, row: dict[str, Any]) -> float:
    """Of the whole completion at the temperature of the update, by one plain forward pass."""
    ids, start = torch.tensor([row["promptIds"] + row["completionIds"]]), len(row["promptIds"])
    with torch.no_grad():
        logp = (model(input_ids=ids).logits[0, start - 1 : -1] / CONFIG["temperature"]).log_softmax(-1)
    return logp.gather(-1, ids[0, start:, None]).sum().item()


def preference(model: Path, rows: list[dict[str, Any]]) -> float:
    """How much likelier the model makes right programs than wrong ones, in nats."""
    policy = AutoModelForCausalLM.from_pretrained(model)
    right, wrong = ([log_probability(policy, row) for row in rows if row["reward"] == reward] for reward in (1.0, 0.0))
    return sum(right) / len(right) - sum(wrong) / len(wrong)


def test_an_update_makes_right_programs_likelier(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    result = update(micro_model, rollouts, tmp_path)
    rows = read_jsonl(Path(rollouts))
    assert sorted(result["trainedIds"]) == sorted(row["id"] for row in rows)
    assert result["steps"] == len(result["curve"]) == len(rows) / CONFIG["batchSize"]
    metrics = result["metrics"]
    assert metrics["rewardMean"] == pytest.approx(sum(row["reward"] for row in rows) / len(rows))
    assert metrics["kl"] == 0  # the policy is its own reference
    assert metrics["entropy"] > 0
    assert metrics["nonZeroAdvantages"] == len(rows)
    assert preference(tmp_path / "output", rows) > preference(micro_model, rows) + 0.05


def test_old_log_probabilities_and_kl_are_those_of_plain_forward_passes(
    micro_model: Path, rollouts: str, tmp_path: Path
) -> None:
    update(micro_model, rollouts, tmp_path / "first", config={"learningRate": 1e-3})
    policy_path = tmp_path / "first/output"
    result = update(policy_path, rollouts, tmp_path / "second", reference=str(micro_model))
    policy, reference = (AutoModelForCausalLM.from_pretrained(path) for path in (policy_path, micro_model))
    rows = read_jsonl(Path(rollouts))
    log_ratio = sum(log_probability(policy, row) - log_probability(reference, row) for row in rows)
    tokens = sum(len(row["completionIds"]) for row in rows)
    assert result["metrics"]["kl"] == pytest.approx(log_ratio / tokens, abs=1e-5)


def test_equal_rewards_leave_the_policy_alone(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    rows = [{**row, "reward": 0.7} for row in read_jsonl(Path(rollouts))]
    result = update(micro_model, write_jsonl(tmp_path / "equal.jsonl", rows), tmp_path)
    assert result["metrics"]["nonZeroAdvantages"] == 0
    assert weight_digests(tmp_path / "output") == weight_digests(micro_model)


@pytest.mark.parametrize(("upper_layers", "stop_at"), [(None, 3), (2, 8)])
@pytest.mark.parametrize("name", ["reinforce++", "grpo"])
def test_a_resumed_update_ends_in_the_same_bytes(
    micro_model: Path, rollouts: str, tmp_path: Path, name: str, upper_layers: int | None, stop_at: int
) -> None:
    config = {"name": name, "upperLayers": upper_layers, "epochs": 2}
    undisturbed = update(micro_model, rollouts, tmp_path / "a", config=config)
    recorder = Recorder(cancel_at=("updating the policy", stop_at))
    with pytest.raises(Cancelled):
        update(micro_model, rollouts, tmp_path / "b", recorder, config=config)
    (checkpoint,) = recorder.checkpoints()
    assert checkpoint["step"] == stop_at
    resumed = update(micro_model, rollouts, tmp_path / "b", resumeFrom=checkpoint["path"], config=config)
    assert resumed == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")
    assert weight_digests(tmp_path / "a/state") == weight_digests(tmp_path / "b/state")


def test_the_optimizer_state_carries_over(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    update(micro_model, rollouts, tmp_path / "first")
    policy = tmp_path / "first/output"
    fresh = update(policy, rollouts, tmp_path / "fresh", reference=str(micro_model))
    carried = update(
        policy, rollouts, tmp_path / "carried", reference=str(micro_model), resumeState=str(tmp_path / "first/state")
    )
    assert fresh["metrics"]["kl"] == carried["metrics"]["kl"] != 0
    assert fresh["curve"][0] == carried["curve"][0]  # the first loss sees the same weights, the second other ones
    assert fresh["curve"][1] != carried["curve"][1]
    assert weight_digests(tmp_path / "fresh/output") != weight_digests(tmp_path / "carried/output")
    with pytest.raises(ServiceError, match="belongs to another model or upperLayers"):
        update(policy, rollouts, tmp_path / "x", resumeState=str(tmp_path / "first/state"), config={"upperLayers": 1})


def test_micro_batches_do_not_change_the_step(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    one = update(micro_model, rollouts, tmp_path / "one", config={"microBatch": 32})
    many = update(micro_model, rollouts, tmp_path / "many", config={"microBatch": 5})
    assert one["trainedIds"] == many["trainedIds"]
    assert [point["gradNorm"] for point in one["curve"]] == pytest.approx(
        [point["gradNorm"] for point in many["curve"]], rel=1e-3
    )


def test_divergence_names_step_and_learning_rate(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    recorder = Recorder()
    with pytest.raises(ServiceError, match=r"step 2 with learning rate 1e\+30") as error:
        update(micro_model, rollouts, tmp_path, recorder, config={"learningRate": 1e30, "checkpointSeconds": 0})
    assert error.value.type == "TrainingDiverged"
    assert not (tmp_path / "output").exists()
    (kept,) = recorder.checkpoints()
    assert (kept["step"], Path(kept["path"]).is_dir()) == (1, True)


@pytest.mark.parametrize(("loss", "gradient"), [(math.inf, 1.0), (math.nan, 1.0), (1.0, math.nan), (1.0, -math.inf)])
def test_a_loss_or_gradient_that_is_not_finite_takes_no_step(tmp_path: Path, loss: float, gradient: float) -> None:
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([weight], lr=0.1)
    model: Any = None  # the step has only to do with its optimizer
    training = Training(model, optimizer, [], str(tmp_path), {"learningRate": 0.1})
    weight.grad = torch.tensor([0.5, gradient])
    with pytest.raises(ServiceError, match=r"at step 1 with learning rate 0\.1; lower learningRate") as error:
        training.apply_gradients(1.0, loss)
    assert error.value.type == "TrainingDiverged"
    assert weight.tolist() == [1.0, 2.0]
    assert not optimizer.state


# What their formulas give is tested elsewhere to 1e-6; all of them learn in the long tests.
@pytest.mark.parametrize(
    "name", [name if name == "dapo" else pytest.param(name, marks=pytest.mark.long) for name in FILES]
)
def test_every_method_makes_right_programs_likelier(
    micro_model: Path, rollouts: str, tmp_path: Path, name: str
) -> None:
    result = update(micro_model, rollouts, tmp_path, config={"name": name, "learningRate": 3e-4, "epochs": 3})
    assert result["metrics"]["clipFraction"] > 0  # several updates a round, so that clipping is exercised
    rows = read_jsonl(Path(rollouts))
    assert preference(tmp_path / "output", rows) > preference(micro_model, rows) + 0.05


def test_an_unknown_method_is_refused(micro_model: Path, rollouts: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="Unknown algorithm 'ppo'; known are reinforce") as error:
        update(micro_model, rollouts, tmp_path, config={"name": "ppo"})
    assert error.value.type == "InvalidInput"


def test_a_group_of_one_is_refused_where_groups_are_compared(micro_model: Path, tmp_path: Path) -> None:
    rows = [{"id": "r1", "questionId": "q7", "promptIds": [1], "completionIds": [2], "reward": 0.0}]
    path = write_jsonl(tmp_path / "rollouts.jsonl", rows)
    with pytest.raises(ServiceError, match="Question q7 has one rollout; rloo compares at least two") as error:
        update(micro_model, path, tmp_path, config={"name": "rloo"})
    assert error.value.type == "InvalidInput"


def test_an_empty_rollout_is_refused_by_id(micro_model: Path, tmp_path: Path) -> None:
    rows = [{"id": "r1", "questionId": "q", "promptIds": [1], "completionIds": [], "reward": 0.0}]
    with pytest.raises(ServiceError, match="Rollout r1") as error:
        update(micro_model, write_jsonl(tmp_path / "rollouts.jsonl", rows), tmp_path)
    assert error.value.type == "InvalidInput"


def test_importance_weights_are_truncated_ratios_of_the_policy_to_its_sampler() -> None:
    old_BT = torch.tensor([[-1.0, -2.0, -1.0], [-1.0, -9.0, -9.0]])
    sampler_BT = torch.tensor([[-1.0, -1.0, -3.0], [-1.5, 0.0, 0.0]])
    ratio = [math.exp(x) for x in (0.0, -1.0, 2.0, 0.5)]
    by_token = importance_weights(old_BT, sampler_BT, MASK_BT.float(), find_method("reinforce++").ratio, 2.0)
    assert by_token.tolist() == [pytest.approx([1.0, ratio[1], 2.0]), pytest.approx([ratio[3], 0.0, 0.0])]
    by_sequence = importance_weights(old_BT, sampler_BT, MASK_BT.float(), find_method("rloo").ratio, 3.0)
    assert by_sequence.tolist() == [pytest.approx([math.e] * 3), pytest.approx([ratio[3], 0.0, 0.0])]
    none_BT, one_BT = torch.zeros(1, 3), torch.ones(1, 3)
    batch = MicroBatch(none_BT, none_BT, none_BT, one_BT, one_BT, [3], 64, 0.2, 0.2, 0.0, by_token[:1])
    loss = find_method("reinforce++").loss(batch).value
    assert loss.item() == pytest.approx(-(1 + ratio[1] + 2) / 3)


def test_rollouts_of_the_policy_itself_weigh_one(
    micro_model: Path, sampling_requests: Callable[..., str], rollouts: str, tmp_path: Path
) -> None:
    samples = tmp_path / "log-probs.jsonl"
    requests = {"requests": sampling_requests(), "output": str(samples), "maxRows": 128, "logProbs": True}
    sample({"model": str(micro_model), **requests}, Recorder().call)
    rows = [
        {**row, "logProbs": sampled["logProbs"]}
        for row, sampled in zip(read_jsonl(Path(rollouts)), read_jsonl(samples), strict=True)
    ]
    plain = update(micro_model, rollouts, tmp_path / "plain")
    weighed = update(
        micro_model, write_jsonl(tmp_path / "weighed.jsonl", rows), tmp_path / "weighed", importanceCap=2.0
    )
    assert weighed["metrics"]["importanceMean"] == pytest.approx(1, abs=1e-4)
    assert weighed["metrics"]["importanceCapped"] == 0
    assert weighed["metrics"]["gradNorm"] == pytest.approx(plain["metrics"]["gradNorm"], rel=1e-3)


def test_importance_weights_need_the_samplers_log_probabilities(
    micro_model: Path, rollouts: str, tmp_path: Path
) -> None:
    with pytest.raises(ServiceError, match=r"Rollout q0/0 has 0 log-probabilities of the sampler"):
        update(micro_model, rollouts, tmp_path, importanceCap=2.0)


class Read(dict[str, Any]):
    """A configuration that notes what is read of it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        self.names.add(name)
        return super().__getitem__(name)

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def test_an_update_reads_the_settings_of_the_list_and_those_of_the_round(
    micro_model: Path, rollouts: str, tmp_path: Path
) -> None:
    config = Read(CONFIG)
    folders = {name: str(tmp_path / name) for name in ("output", "state", "checkpoints")}
    models = {"policy": str(micro_model), "reference": str(micro_model)}
    update_policy({**models, **folders, "rollouts": rollouts, "config": config}, Recorder().call)
    of_the_round = {"maxNewTokens", "temperature", "seed"}
    of_the_device = {"microBatch", "microBatchTokens", "gradientCheckpointing", "sharding", "checkpointSeconds"}
    of_all_rounds = {"warmupRatio"}  # the stage makes `warmUp` of it, which knows the rounds
    assert config.names == {*SETTINGS, *of_the_round, *of_the_device} - of_all_rounds

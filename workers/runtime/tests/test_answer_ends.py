from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from conftest import Recorder, read_jsonl, weight_digests, write_jsonl
from test_policy_update import CONFIG, log_probability, update
from transformers import AutoModelForCausalLM, AutoTokenizer

from runtime.answer_ends import end_loss, end_of_turn, end_probability, split_ends, with_ends
from runtime.bench.answer_ends import BAR, measured
from runtime.learning_rates import warmed_up
from serve import Cancelled


@pytest.fixture(scope="session")
def finished(rollouts: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The rollouts as a round stores them: every fourth was cut, and every fourth ended by the model itself."""
    rows = read_jsonl(Path(rollouts))
    for index, row in enumerate(rows):
        row["finish"] = "length" if index % 4 == 3 else "stop"
        if index % 4 == 2:
            row["completionIds"] = [*row["completionIds"], 2]  # the micro model's end of turn
    return write_jsonl(tmp_path_factory.mktemp("finished") / "rollouts.jsonl", rows)


def test_the_end_is_that_of_the_template_where_sampling_ends_there(micro_model: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    text, start, end = (tokenizer.convert_tokens_to_ids(f"<|{name}|>") for name in ("endoftext", "im_start", "im_end"))
    assert tokenizer.eos_token_id == end
    assert end_of_turn(tokenizer, {end}) == end
    tokenizer.eos_token = "<|endoftext|>"  # as in base models that got a chat template
    assert end_of_turn(tokenizer, {text, end}) == end
    assert end_of_turn(tokenizer, {text}) == text
    assert end_of_turn(tokenizer, {text, start}) == text


def test_only_what_the_fence_closed_gets_an_end(micro_model: Path, finished: str) -> None:
    policy, tokenizer = AutoModelForCausalLM.from_pretrained(micro_model), AutoTokenizer.from_pretrained(micro_model)
    rows = [{**row, "logProbs": [-0.5] * len(row["completionIds"])} for row in read_jsonl(Path(finished))]
    unknown = [{name: value for name, value in row.items() if name != "finish"} for row in rows]
    assert with_ends(unknown, policy, tokenizer) == unknown
    for index, (row, ended) in enumerate(zip(rows, with_ends(rows, policy, tokenizer), strict=True)):
        if index % 4 > 1:
            assert ended == row
        else:
            ids, log_probs = [*row["completionIds"], tokenizer.eos_token_id], [*row["logProbs"], 0.0]
            assert ended == {**row, "completionIds": ids, "logProbs": log_probs, "end": True}


def test_the_loss_of_ends_is_its_formula() -> None:
    logp_BT = torch.tensor([[-0.1, -0.2, -3.0], [-0.4, -1.5, 0.0], [-0.7, -0.9, -0.3]], requires_grad=True)
    rows = [
        {"completionIds": [5, 6, 2], "end": True},
        {"completionIds": [5, 2], "end": True},
        {"completionIds": [5] * 3},
    ]
    mask_BT, end_BT = split_ends(rows, torch.tensor([[1.0, 1, 1], [1, 1, 0], [1, 1, 1]]))
    assert mask_BT.tolist() == [[1, 1, 0], [1, 0, 0], [1, 1, 1]]
    loss = end_loss(logp_BT, end_BT, 0.5, 6)
    assert loss.item() == pytest.approx(0.5 * (3.0 + 1.5) / 6)
    loss.backward()
    torch.testing.assert_close(logp_BT.grad, -0.5 / 6 * end_BT)
    assert end_probability(logp_BT.detach(), end_BT) == pytest.approx((math.exp(-3) + math.exp(-1.5)) / 2)
    assert end_probability(logp_BT.detach(), torch.zeros(3, 3)) is None


@pytest.mark.parametrize("name", ["reinforce++", "grpo", "rloo"])
def test_ends_change_nothing_of_what_a_method_makes_of_the_rewards(
    micro_model: Path, finished: str, tmp_path: Path, name: str
) -> None:
    config = {"name": name, "batchSize": 128}
    with_loss, without = (
        update(micro_model, finished, tmp_path / str(weight), config={**config, "endWeight": weight})
        for weight in (1.0, 0.0)
    )
    own, other = with_loss["metrics"], without["metrics"]
    rows = read_jsonl(Path(finished))
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    log_p = [
        log_probability(model, {**row, "completionIds": [*row["completionIds"], 2]}) - log_probability(model, row)
        for index, row in enumerate(rows)
        if index % 4 < 2
    ]
    tokens = sum(len(row["completionIds"]) for row in rows)
    assert own["endProbability"] == pytest.approx(sum(map(math.exp, log_p)) / len(log_p), abs=1e-4)
    assert own["loss"] - other["loss"] == pytest.approx(-sum(log_p) / tokens, abs=1e-5)
    assert "endProbability" not in other
    for metric in ("advantageStd", "entropy", "kl", "nonZeroAdvantages", "clipFraction"):
        assert own[metric] == pytest.approx(other[metric], abs=1e-5)


def test_an_update_with_ends_resumes_in_the_same_bytes(micro_model: Path, finished: str, tmp_path: Path) -> None:
    warm = {"warmUp": {"ratio": 0.5, "round": 1, "rounds": 2}}
    undisturbed = update(micro_model, finished, tmp_path / "a", **warm)
    recorder = Recorder(cancel_at=("updating the policy", 2))
    with pytest.raises(Cancelled):
        update(micro_model, finished, tmp_path / "b", recorder, **warm)
    (checkpoint,) = recorder.checkpoints()
    resumed = update(micro_model, finished, tmp_path / "b", resumeFrom=checkpoint["path"], **warm)
    assert resumed == undisturbed
    assert weight_digests(tmp_path / "a/output") == weight_digests(tmp_path / "b/output")


def test_the_learning_rate_rises_over_rounds_as_over_the_steps_of_all() -> None:
    rounds, steps, ratio = 10, 4, 0.25
    rates = [
        warmed_up(index, steps, {"ratio": ratio, "round": number, "rounds": rounds})
        for number in range(1, rounds + 1)
        for index in range(steps)
    ]
    assert rates == pytest.approx([min(1.0, (step + 1) / (ratio * rounds * steps)) for step in range(rounds * steps)])
    assert warmed_up(0, 4, None) == warmed_up(0, 4, {"ratio": 0, "round": 1, "rounds": 3}) == 1
    assert warmed_up(3, 4, {"ratio": 1, "round": 3, "rounds": 3}) == 1


def test_a_warm_up_makes_smaller_steps(micro_model: Path, finished: str, tmp_path: Path) -> None:
    quarter = CONFIG["learningRate"] / 4
    config = {"batchSize": 128}
    warm = update(micro_model, finished, tmp_path / "warm", config=config, warmUp={"ratio": 1, "round": 1, "rounds": 4})
    slow = update(micro_model, finished, tmp_path / "slow", config={**config, "learningRate": quarter})
    assert warm["metrics"] == slow["metrics"]
    assert weight_digests(tmp_path / "warm/output") == weight_digests(tmp_path / "slow/output")


@pytest.mark.long
def test_rl_teaches_a_policy_to_end_its_answers(tmp_path: Path) -> None:
    shares = measured(tmp_path, rounds=6)
    assert shares["before"] < 0.05
    assert shares["after"] >= BAR
    assert shares["without"] < 0.5

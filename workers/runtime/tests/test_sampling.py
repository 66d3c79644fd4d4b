from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import FUNCTIONS, PREFIX, Recorder, question, read_jsonl
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from runtime.samples import Endings, Sample
from runtime.sampling import choose_tokens, sample
from serve import Cancelled, ServiceError

PROBABILITIES = torch.tensor([0.5, 0.25, 0.125, 0.125])


@pytest.mark.parametrize(
    ("temperature", "top_p", "uniform", "token"),
    [
        (0.0, 1.0, 0.99, 0),  # greedy
        (1.0, 1.0, 0.0, 0),
        (1.0, 1.0, 0.4999, 0),
        (1.0, 1.0, 0.5, 1),
        (1.0, 1.0, 0.76, 2),
        (1.0, 1.0, 0.99999994, 3),  # the largest float32 below 1
        (1.0, 0.6, 0.66, 0),  # nucleus {0, 1}: two thirds belong to token 0
        (1.0, 0.6, 0.67, 1),
        (1.0, 0.4, 0.99, 0),  # the most likely token is always in the nucleus
        (0.5, 1.0, 0.72, 0),  # squared: 16, 4, 1, 1 of 22, so token 0 up to 0.727
        (0.5, 1.0, 0.73, 1),
    ],
)
def test_tokens_follow_the_inverse_cdf(temperature: float, top_p: float, uniform: float, token: int) -> None:
    chosen = choose_tokens(
        PROBABILITIES.log()[None], torch.tensor([temperature]), torch.tensor([top_p]), torch.tensor([uniform])
    )
    assert chosen.tolist() == [token]


def test_rows_with_different_settings_share_a_batch() -> None:
    chosen = choose_tokens(
        PROBABILITIES.log().expand(3, 4),
        torch.tensor([1.0, 0.0, 1.0]),
        torch.tensor([1.0, 1.0, 0.6]),
        torch.tensor([0.9, 0.9, 0.9]),
    )
    assert chosen.tolist() == [3, 0, 1]


def test_a_nucleus_wider_than_the_candidates_is_exact() -> None:
    logits = torch.zeros(1, 4000)
    chosen = choose_tokens(logits, torch.ones(1), torch.tensor([0.5]), torch.tensor([0.9]))
    assert chosen.item() == pytest.approx(1800, abs=2)  # 0.9 of the 2000 tokens that make half the mass


def run(model: Path, requests: str, output: Path, max_rows: int = 64) -> list[dict[str, Any]]:
    sample({"model": str(model), "requests": requests, "output": str(output), "maxRows": max_rows}, Recorder().call)
    return read_jsonl(output)


def test_rows_come_in_request_and_sample_order_and_repeat_exactly(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    rows = run(micro_model, sampling_requests(), tmp_path / "a.jsonl")
    assert [(row["id"], row["index"]) for row in rows] == [
        (f"q{n}", i) for n in range(len(FUNCTIONS)) for i in range(8)
    ]
    run(micro_model, sampling_requests(), tmp_path / "b.jsonl")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()
    assert len({row["text"] for row in rows}) > len(FUNCTIONS)


def test_a_row_depends_on_its_seed_and_not_on_its_batch(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    wide = run(micro_model, sampling_requests(), tmp_path / "wide.jsonl", max_rows=128)
    narrow = run(micro_model, sampling_requests(), tmp_path / "narrow.jsonl", max_rows=5)
    same = [a["completionIds"] == b["completionIds"] for a, b in zip(wide, narrow, strict=True)]
    assert sum(same) / len(same) > 0.98  # another batch shape may round a probability differently
    one_seed = run(micro_model, sampling_requests(seeds=[9] * 8), tmp_path / "one.jsonl")
    assert all(row["text"] == one_seed[index - index % 8]["text"] for index, row in enumerate(one_seed))


def test_text_ends_before_the_stop_and_ids_keep_what_was_emitted(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    for row in run(micro_model, sampling_requests(), tmp_path / "stop.jsonl"):
        emitted = tokenizer.decode(row["completionIds"])
        assert emitted.startswith(row["text"])
        assert "```" not in row["text"]
        if row["finish"] == "stop":
            assert emitted.removeprefix(row["text"]).startswith("\n```") or emitted.endswith(tokenizer.eos_token)
        assert tokenizer.decode(row["promptIds"]).endswith(f"<|im_start|>assistant\n{PREFIX}")
    short = run(micro_model, sampling_requests(maxNewTokens=3), tmp_path / "short.jsonl")
    assert {(row["finish"], len(row["completionIds"])) for row in short} == {("length", 3)}


@pytest.mark.parametrize("stop", ["\n```", "return", "; ", "=", "é", "\n"])
def test_a_stop_string_is_found_where_reading_after_every_token_finds_it(micro_model: Path, stop: str) -> None:
    tokenizer = AutoTokenizer.from_pretrained(micro_model)
    generation = GenerationConfig(eos_token_id=tokenizer.eos_token_id)
    always = Endings(generation, tokenizer)
    always.may_complete = lambda token, stops: True  # type: ignore[method-assign]
    endings = Endings(generation, tokenizer)
    request = {"stop": [stop], "maxNewTokens": 400, "seeds": [1]}
    generator = random.Random(stop)
    texts = [f"def f(é):\n    x = 1; y = é\n    return x\n{tail}" for tail in ("```", "``", "```\n", "é; é")]
    for ids in (
        *(tokenizer.encode(text) for text in texts),
        *([generator.randrange(len(tokenizer)) for _ in range(400)] for _ in range(20)),
    ):
        rows = [Sample(request, [], 0), Sample(request, [], 0)]
        for row, how in zip(rows, (always, endings), strict=True):
            for token in ids:
                row.append(token, how)
                if row.finish:
                    break
        assert (rows[0].ids, rows[0].text, rows[0].finish) == (rows[1].ids, rows[1].text, rows[1].finish)
    plain = stop[-1].isascii() and stop[-1].isprintable() and stop[-1] != " "
    skipped = sum(not endings.may_complete(token, [stop]) for token in range(len(tokenizer)))
    assert (skipped > 0.5 * len(tokenizer)) == plain


def test_greedy_rows_equal_generate(micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path) -> None:
    rows = run(micro_model, sampling_requests(temperature=0, stop=[]), tmp_path / "greedy.jsonl")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(micro_model), AutoTokenizer.from_pretrained(micro_model)
    for number in (0, 5, 15):
        row = rows[8 * number]
        prompt = tokenizer.apply_chat_template(question(FUNCTIONS[number]), tokenize=False, add_generation_prompt=True)
        inputs = tokenizer(prompt + PREFIX, return_tensors="pt", add_special_tokens=False)
        assert inputs["input_ids"][0].tolist() == row["promptIds"]
        generated = model.generate(
            input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"], max_new_tokens=64, do_sample=False
        )
        assert generated[0, len(row["promptIds"]) :].tolist() == row["completionIds"]


def test_cancellation_leaves_no_output(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    params = {
        "model": str(micro_model),
        "requests": sampling_requests(),
        "output": str(tmp_path / "x.jsonl"),
        "maxRows": 4,
    }
    with pytest.raises(Cancelled):
        sample(params, Recorder(cancel_at=("sampling", 4)).call)
    assert not (tmp_path / "x.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"seeds": [1]}, "q0 has 1 seeds"), ({"maxNewTokens": 2000}, "context is 1024")],
)
def test_impossible_requests_are_refused(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ServiceError, match=message):
        run(micro_model, sampling_requests(**changes), tmp_path / "x.jsonl")


def test_a_missing_model_is_named(sampling_requests: Callable[..., str], tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="No model folder") as error:
        run(tmp_path / "nowhere", sampling_requests(), tmp_path / "x.jsonl")
    assert error.value.type == "ModelNotFound"


def test_log_probabilities_are_those_of_a_plain_forward_pass(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path
) -> None:
    path, temperature = tmp_path / "log-probs.jsonl", 0.7
    requests = sampling_requests(temperature=temperature, topP=0.9)
    sample(
        {"model": str(micro_model), "requests": requests, "output": str(path), "maxRows": 64, "logProbs": True},
        Recorder().call,
    )
    rows = read_jsonl(path)
    model = AutoModelForCausalLM.from_pretrained(micro_model)
    for row in rows[::17]:
        ids, start = torch.tensor([row["promptIds"] + row["completionIds"]]), len(row["promptIds"])
        with torch.no_grad():
            logp = (model(input_ids=ids).logits[0, start - 1 : -1] / temperature).log_softmax(-1)
        expected = logp.gather(-1, ids[0, start:, None]).squeeze(-1)
        assert row["logProbs"] == pytest.approx(expected.tolist(), abs=1e-4)
    assert [row["completionIds"] for row in rows] == [
        row["completionIds"] for row in run(micro_model, requests, tmp_path / "plain.jsonl")
    ]

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import FUNCTIONS, PREFIX, Recorder, normal_form, question, read_jsonl, weight_digests, write_jsonl

from runtime.micro_model import build_micro_model, train_tokenizer
from runtime.mutation import mutants
from runtime.sampling import sample
from serve import Call, ServiceError


def test_mutants_are_the_single_changes_of_a_program() -> None:
    assert mutants("def f(a):\n    return a < 3") == [
        "def f(a):\n    return",
        "def f(a):\n    return a <= 3",
        "def f(a):\n    return a < 4",
        "def f(a):\n    return a < 2",
    ]


@pytest.mark.parametrize("code", FUNCTIONS)
def test_mutants_parse_and_differ_from_the_program(code: str) -> None:
    variants = mutants(code)
    assert variants
    assert len({ast.dump(ast.parse(text)) for text in [code, *variants]}) == len(variants) + 1


def test_mutants_leave_docstrings_alone() -> None:
    variants = mutants('def f(n):\n    """Return n."""\n    return n')
    assert variants == ['def f(n):\n    """Return n."""', 'def f(n):\n    """Return n."""\n    return']


def test_samples_are_mostly_programs_and_right_in_some_cases(
    micro_model: Path, sampling_requests: Callable[..., str], tmp_path: Path, call: Call
) -> None:
    output = tmp_path / "samples.jsonl"
    sample({"model": str(micro_model), "requests": sampling_requests(), "output": str(output), "maxRows": 64}, call)
    rows = read_jsonl(output)
    programs = [normal_form(row["text"]) for row in rows]
    right = [program == normal_form(FUNCTIONS[int(row["id"][1:])]) for row, program in zip(rows, programs, strict=True)]
    assert sum(program is not None for program in programs) > 0.6 * len(rows)
    assert 0.1 < sum(right) / len(rows) < 0.9


def test_tokens_may_be_phrases_between_numbers() -> None:
    texts = [f"{PREFIX}def f(n):\n    return n * {x} + {y}" for x in range(2, 9) for y in range(2, 9)]
    words, phrases = (train_tokenizer(texts, flag) for flag in (False, True))
    answer = "def f(n):\n    return n * 7 + 12\n```"
    assert phrases.tokenize(answer)[:8] == ["defĠf(n):", "Ċ", "ĠĠĠĠreturnĠnĠ*Ġ", "7", "Ġ+Ġ", "1", "2", "Ċ"]
    assert len(phrases.tokenize(answer)) < len(words.tokenize(answer)) / 1.5
    for text in (answer, PREFIX + answer, "é 12\t\n\n 3"):
        assert phrases.decode(phrases(text)["input_ids"]) == text
    # A prompt's end and an answer's start are never one token.
    assert phrases.tokenize(PREFIX) + phrases.tokenize(answer) == phrases.tokenize(PREFIX + answer)


def test_the_same_seed_builds_the_same_bytes(corpus: str, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build_micro_model({"corpus": corpus, "output": str(tmp_path / name), "seed": seed, "steps": 3}, Recorder().call)
    assert weight_digests(tmp_path / "a") == weight_digests(tmp_path / "b") != weight_digests(tmp_path / "c")
    assert (tmp_path / "a/tokenizer.json").read_bytes() == (tmp_path / "b/tokenizer.json").read_bytes()


def test_a_completion_that_is_no_python_is_refused_by_row(tmp_path: Path, call: Call) -> None:
    rows = [
        {"messages": question(code), "assistantPrefix": PREFIX, "completion": code}
        for code in ("def f(n):\n    return -n", "def f(")
    ]
    corpus = write_jsonl(tmp_path / "corpus.jsonl", rows)
    with pytest.raises(ServiceError, match="row 2") as error:
        build_micro_model({"corpus": corpus, "output": str(tmp_path / "model"), "seed": 1, "steps": 1}, call)
    assert error.value.type == "InvalidInput"

"""Tables and source trees as rows: what the published schemas say, what the paper's pre-filters leave out, and back."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from runtime.tables import (
    check_table,
    entry_point,
    export_table,
    import_table,
    program_in,
    split_of,
    with_imports,
)
from serve import Call, ServiceError

QUESTION = "Write a function double(n) that returns twice n."


def imported(tmp_path: Path, **params: Any) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    output = tmp_path / "rows.jsonl"
    settings = {"heldOutShare": 0.0, "output": str(output), **params}
    result = import_table(settings, Call(1, lambda message: None))
    return [json.loads(line) for line in output.read_text().splitlines()], result


def parquet(tmp_path: Path, rows: list[dict[str, Any]], name: str = "table.parquet") -> str:
    path = tmp_path / name
    pq.write_table(pa.Table.from_pylist(rows), path)
    return str(path)


def test_evol_instruct_keeps_answers_with_a_python_function(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        [
            {
                "instruction": "Double it.",
                "response": "Here:\n```python\ndef f(n):\n    return 2 * n\nprint(f(2))\n```\nDone.",
            },
            {"instruction": "No code.", "response": "def is a word"},
            {"instruction": "A script.", "response": "```python\nx = 1\n```"},
            {"instruction": "Java.", "response": "```java\nclass A {}\n```"},
        ],
    )
    rows, result = imported(tmp_path, format="evolInstruct", kind="seeds", path=path)
    assert rows == [
        {"id": "evol_0", "source": "evol", "code": "def f(n):\n    return 2 * n\n", "instruction": "Double it."}
    ]
    assert result["dropped"] == {"noFunctionOrClass": 1, "noPythonFence": 2}


def test_oss_instruct_keeps_python_without_asking_for_a_function(tmp_path: Path) -> None:
    path = parquet(
        tmp_path,
        [
            {"lang": "python", "instruction": "A", "response": "```python\nx = 1\n```"},
            {"lang": "java", "instruction": "B", "response": "```java\nint x;\n```"},
        ],
    )
    rows, result = imported(tmp_path, format="ossInstruct", kind="seeds", path=path)
    assert [row["id"] for row in rows] == ["oss_0"]
    assert result["dropped"] == {"otherLanguage": 1}


def test_stack_functions_are_longer_than_100_characters(tmp_path: Path) -> None:
    path = parquet(tmp_path, [{"content": "x" * 100}, {"content": "y" * 101}])
    rows, result = imported(tmp_path, format="stackPythonFns", kind="seeds", path=path)
    assert [(row["id"], len(row["code"])) for row in rows] == [("bigcode_python_fns_1", 101)]
    assert result["dropped"] == {"tooShort": 1}


@pytest.mark.parametrize("column", ["test_cases", "tests"])
def test_acecode_is_read_as_questions_and_programs(tmp_path: Path, column: str) -> None:
    inferences = [
        {
            "model_name": "m",
            "completion_id": 0,
            "completion": "```python\ndef double(n):\n    return 2 * n\n```",
            "pass_rate": 1.0,
        },
        {"model_name": "m", "completion_id": 1, "completion": "def double(n): return n", "pass_rate": 0.5},
    ]
    tests = ["assert double(1) == 2", "assert double(0) == 0"]
    path = parquet(
        tmp_path,
        [
            {"id": "evol_1", "source": "evol", "question": QUESTION, column: tests, "inferences": inferences},
            {"id": "evol_2", "source": "evol", "question": "Nothing to test.", column: [], "inferences": []},
        ],
    )
    questions, result = imported(tmp_path, format="aceCode87K", kind="filteredQuestions", path=path)
    assert questions == [
        {
            "id": "evol_1",
            "seedId": "evol_1",
            "source": "evol",
            "question": QUESTION,
            "entryPoint": "double",
            "reference": "def double(n):\n    return 2 * n",
            "tests": tests,
            "split": "train",
        }
    ]
    assert result["dropped"] == {"noTests": 1}
    programs, _ = imported(tmp_path, format="aceCode87K", kind="programs", path=path)
    assert [(row["id"], row["questionId"], row["passRate"], row["program"]) for row in programs] == [
        ("evol_1/m/0", "evol_1", 1.0, "def double(n):\n    return 2 * n"),
        ("evol_1/m/1", "evol_1", 0.5, "def double(n): return n"),
    ]


ANSWERS = json.loads((Path(__file__).parents[3] / "test/fixtures/answers.json").read_text(encoding="utf-8"))["replies"]


@pytest.mark.parametrize("row", ANSWERS, ids=[row["what"] for row in ANSWERS])
def test_a_completion_has_the_program_that_is_found_in_it_everywhere(row: dict[str, str]) -> None:
    assert program_in(row["answer"], row["entryPoint"]) == row["program"]


def test_an_answer_with_an_example_of_its_use_gives_the_program_without_a_name_in_the_table(tmp_path: Path) -> None:
    answer = "```python\ndef double(n):\n    return {} * n\n```\nUse it so:\n```python\nprint(double(1))\n```"
    tests = ["assert double(1) == 2"]
    items = [{"model_name": "m", "completion_id": 0, "completion": answer.format(2), "pass_rate": 1.0}]
    rows = [{"id": "q", "source": "own", "question": QUESTION, "test_cases": tests, "inferences": items}]
    pairs = [{"id": "p", "instruction": QUESTION, "chosen": answer.format(2), "rejected": answer.format(3)}]
    right = "def double(n):\n    return 2 * n"
    tables = {"aceCode87K": parquet(tmp_path, rows, "a"), "aceCodePair300K": parquet(tmp_path, pairs, "b")}
    for form, kind, column in (
        ("aceCode87K", "filteredQuestions", "reference"),
        ("aceCode87K", "programs", "program"),
        ("aceCodePair300K", "pairs", "chosen"),
    ):
        (row,), _ = imported(tmp_path, format=form, kind=kind, path=tables[form])
        assert row[column] == right


def test_pairs_come_back_as_they_were_exported(tmp_path: Path) -> None:
    pair = {
        "id": "p1",
        "questionId": "q1",
        "split": "train",
        "question": QUESTION,
        "chosen": "def f():\n    return 1",
        "rejected": "def f():\n    return 2",
    }
    rows = tmp_path / "pairs.jsonl"
    rows.write_text(json.dumps(pair) + "\n")
    output = tmp_path / "out" / "data.parquet"
    written = export_table(
        {"format": "aceCodePair300K", "rows": str(rows), "output": str(output)}, Call(1, lambda message: None)
    )
    assert written["rows"] == 1
    assert pq.read_schema(output).names == ["instruction", "input", "chosen", "rejected", "id"]
    back, _ = imported(tmp_path, format="aceCodePair300K", kind="pairs", path=str(output))
    assert back[0] | {"questionId": "q1"} == pair


def test_questions_are_exported_with_the_published_columns(tmp_path: Path) -> None:
    questions, programs = tmp_path / "questions.jsonl", tmp_path / "programs.jsonl"
    questions.write_text(
        json.dumps({"id": "q1", "source": "simple", "question": QUESTION, "tests": ["assert double(1) == 2"]}) + "\n"
    )
    programs.write_text(
        json.dumps({"questionId": "q1", "index": 0, "program": "def double(n): ...", "passRate": 0.25}) + "\n"
    )
    output = tmp_path / "data.parquet"
    settings = {
        "format": "aceCode87K",
        "rows": str(questions),
        "programs": str(programs),
        "model": "tiny",
        "output": str(output),
    }
    export_table(settings, Call(1, lambda message: None))
    assert pq.read_table(output).to_pylist() == [
        {
            "id": "q1",
            "source": "simple",
            "question": QUESTION,
            "test_cases": ["assert double(1) == 2"],
            "inferences": [
                {"model_name": "tiny", "completion_id": 0, "completion": "def double(n): ...", "pass_rate": 0.25}
            ],
            "context_messages": [{"content": QUESTION, "role": "user"}],
        }
    ]


def published_features() -> Any:
    """Features of AceCode-87K as its card has them: a struct's members have an order."""
    from datasets import Features, List, Value

    text = Value("string")
    return Features(
        {
            "id": text,
            "source": text,
            "question": text,
            "test_cases": List(text),
            "inferences": List(
                {
                    "completion": text,
                    "completion_id": Value("int64"),
                    "model_name": text,
                    "pass_rate": Value("float64"),
                }
            ),
            "context_messages": List({"content": text, "role": text}),
        }
    )


def test_an_export_has_the_features_of_the_published_data_set_and_comes_back_row_by_row(tmp_path: Path) -> None:
    import datasets

    questions, programs = tmp_path / "questions.jsonl", tmp_path / "programs.jsonl"
    texts = [f"Question {number}: {QUESTION}" for number in range(3)]
    tests = ["assert double(1) == 2", "import math\nassert math.isclose(double(0.5), 1)"]
    given = [{"id": f"q{at}", "source": "own", "question": text, "tests": tests} for at, text in enumerate(texts)]
    questions.write_text("".join(json.dumps(row) + "\n" for row in given))
    sampled = [
        {
            "questionId": f"q{at}",
            "index": index,
            "program": f"def double(n):\n    return {index} * n\n",
            "passRate": rate,
        }
        | ({"sampler": sampler} if sampler else {})
        for at in (0, 2)
        for index, rate, sampler in ((0, 1.0, None), (1, 0.5, "other"))
    ]
    programs.write_text("".join(json.dumps(row) + "\n" for row in sampled))
    output = str(tmp_path / "data" / "train-00000-of-00001.parquet")
    settings: Any = {"format": "aceCode87K", "rows": str(questions), "programs": str(programs), "model": "tiny"}
    export_table({**settings, "output": output}, Call(1, lambda message: None))
    own = datasets.Dataset.from_parquet(output, cache_dir=str(tmp_path / "cache"))
    assert isinstance(own, datasets.Dataset)
    assert own.features == published_features()
    # Equal features are compared without the order of members, which Arrow minds.
    assert own.features.arrow_schema == published_features().arrow_schema
    assert own.cast(published_features()).features == published_features()
    published = datasets.Dataset.from_dict({name: [] for name in published_features()}, features=published_features())
    both = datasets.concatenate_datasets([published, own])
    assert [row["id"] for row in both] == ["q0", "q1", "q2"]
    assert [item["model_name"] for item in both[0]["inferences"]] == ["tiny", "other"]
    # What a chat template takes: a list of messages.
    assert [message["role"] for message in both[0]["context_messages"]] == ["user"]
    back, _ = imported(tmp_path, format="aceCode87K", kind="filteredQuestions", path=str(tmp_path / "data"))
    assert [{name: row[name] for name in ("id", "source", "question", "tests")} for row in back] == given
    rows, _ = imported(tmp_path, format="aceCode87K", kind="programs", path=str(tmp_path / "data"))
    assert [(row["questionId"], row["index"], row["program"], row["passRate"]) for row in rows] == [
        (row["questionId"], row["index"], row["program"], row["passRate"]) for row in sampled
    ]


def test_the_context_messages_of_an_export_are_what_a_chat_template_takes(tmp_path: Path) -> None:
    from jinja2 import Template

    questions = tmp_path / "questions.jsonl"
    questions.write_text(
        json.dumps({"id": "q", "source": "own", "question": QUESTION, "tests": ["assert f(1)"]}) + "\n"
    )
    output = str(tmp_path / "data.parquet")
    settings: Any = {"format": "aceCode87K", "rows": str(questions), "programs": None, "model": None, "output": output}
    export_table(settings, Call(1, lambda message: None))
    (messages,) = pq.read_table(output).column("context_messages").to_pylist()
    template = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    assert Template(template).render(messages=messages) == f"<|user|>{QUESTION}"


@pytest.mark.parametrize(
    ("tests", "reference", "name"),
    [
        (["assert abs(area(2) - 12.56) < 0.1", "assert abs(area(1) - 3.14) < 0.1"], "", "area"),
        (["assert sorted(pick([3, 1])) == [1, 3]"], "", "pick"),
        (["assert set(list(unique([1, 1]))) == {1}"], "", "unique"),
        (["assert not is_prime(4)", "assert is_prime(3) is True"], "", "is_prime"),
        (["assert math.isclose(root(4), 2.0)"], "", "root"),
        (["from math import isclose\nassert isclose(root(4), 2.0)"], "", "root"),
        (["assert Stack().push(1).size() == 1"], "", "Stack"),
        (["stack = Stack()\nstack.push(1)\nassert stack.size() == 1"], "", "Stack"),
        (["assert len(encode('a')) == 1", "assert decode(encode('a')) == 'a'"], "", "encode"),
        (["assert is_sorted(arrange([2, 1]))"], "def arrange(values):\n    return sorted(values)\n", "arrange"),
        (["assert sum([1, 2]) == 3"], "def sum(values):\n    return 3\n", "sum"),
        (["assert all(check(n) for n in range(3))"], "", "check"),
        ([{"call": "double(2)", "expect": "4"}], "", "double"),
        (["assert ("], "", None),
        (["assert 1 == 1"], "", None),
    ],
)
def test_the_entry_point_is_what_the_tests_are_about(tests: list[Any], reference: str, name: str | None) -> None:
    assert entry_point(tests, reference) == name


def test_import_lines_of_tests_stand_in_front_of_the_tests_that_use_them(tmp_path: Path) -> None:
    tests = ["import math", "from itertools import *", "assert math.floor(half(3)) == 1", "assert half(2) == 1"]
    assert with_imports(tests) == [
        "import math\nfrom itertools import *\nassert math.floor(half(3)) == 1",
        "from itertools import *\nassert half(2) == 1",
    ]
    path = parquet(tmp_path, [{"id": "a", "source": "evol", "question": QUESTION, "test_cases": [tests[0], tests[2]]}])
    questions, result = imported(tmp_path, format="aceCode87K", kind="filteredQuestions", path=path)
    assert result["dropped"] == {}
    assert (questions[0]["entryPoint"], questions[0]["tests"]) == (
        "half",
        ["import math\nassert math.floor(half(3)) == 1"],
    )


def test_programs_of_several_samplers_are_told_apart(tmp_path: Path) -> None:
    def item(model: str, number: int) -> dict[str, Any]:
        program = f"def f():\n    return {number}\n"
        return {"model_name": model, "completion_id": number, "completion": program, "pass_rate": 0.5}

    row = {"source": "evol", "question": QUESTION, "test_cases": ["assert f() == 1"]}
    several = {"id": "a", **row, "inferences": [item("7b", 0), item("7b", 1), item("32b", 0)]}
    path = parquet(tmp_path, [several, {"id": "b", **row, "inferences": [item("7b", 0)]}])
    programs, _ = imported(tmp_path, format="aceCode87K", kind="programs", path=path)
    assert [(program["questionId"], program.get("sampler")) for program in programs] == [
        ("a", "7b"),
        ("a", "7b"),
        ("a", "32b"),
        # With one sampler there is nothing to tell apart.
        ("b", None),
    ]


FENCED = "```python\ndef double(n):\n    return 2 * n\n```"


@pytest.mark.parametrize(
    "name", ["seeds.jsonl", "seeds.json", "seeds.csv", "seeds.parquet", "seeds.jsonl.gz", "s.csv.gz"]
)
def test_a_table_is_read_from_every_form_of_file(tmp_path: Path, name: str) -> None:
    rows = [{"instruction": 'Double "it",\nplease.', "response": FENCED}]
    if name.endswith(".parquet"):
        parquet(tmp_path, rows, name)
    elif ".csv" in name:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, ["instruction", "response"])
        writer.writeheader()
        writer.writerows(rows)
        body = ("\ufeff" + text.getvalue()).encode()
        (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    elif name.endswith(".json"):
        (tmp_path / name).write_text(json.dumps(rows, indent=1))
    else:
        body = json.dumps(rows[0]).encode() + b"\n"
        (tmp_path / name).write_bytes(gzip.compress(body) if name.endswith(".gz") else body)
    seeds, _ = imported(tmp_path, format="evolInstruct", kind="seeds", path=str(tmp_path / name))
    assert [(row["instruction"], row["code"]) for row in seeds] == [
        (rows[0]["instruction"], "def double(n):\n    return 2 * n\n")
    ]


def test_lists_of_a_csv_file_are_texts_of_json_or_of_python(tmp_path: Path) -> None:
    path = tmp_path / "questions.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "source", "question", "test_cases"])
        writer.writerow(["a", "evol", QUESTION, json.dumps(["assert double(1) == 2"])])
        writer.writerow(["b", "evol", QUESTION, str(["assert double('x') == 'xx'"])])
    rows, _ = imported(tmp_path, format="aceCode87K", kind="filteredQuestions", path=str(path))
    assert [row["tests"] for row in rows] == [["assert double(1) == 2"], ["assert double('x') == 'xx'"]]


def test_a_broken_line_of_a_csv_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "seeds.csv"
    path.write_text("instruction,response\nonly one cell\n")
    with pytest.raises(ServiceError, match=r"seeds.csv: line 2 has not as many cells as the head"):
        imported(tmp_path, format="evolInstruct", kind="seeds", path=str(path))


def test_checked_tests_come_back_as_they_were_exported(tmp_path: Path) -> None:
    checker = "def check(input, output, answer):\n    return output > 0"
    own = {"call": "double(2)", "property": "result == 4"}
    tests = ["assert double(1) == 2", {"call": "double(1)"}, own]
    row = {"id": "q1", "source": "simple", "question": QUESTION, "tests": tests, "checker": checker}
    rows = tmp_path / "questions.jsonl"
    rows.write_text(json.dumps(row) + "\n")
    output = str(tmp_path / "data.parquet")
    settings: Any = {"format": "aceCode87K", "rows": str(rows), "programs": None, "model": None, "output": output}
    export_table(settings, Call(1, lambda message: None))
    questions, _ = imported(tmp_path, format="aceCode87K", kind="filteredQuestions", path=output)
    assert questions[0]["tests"] == [tests[0], {"call": "double(1)", "checker": checker}, own]
    assert questions[0]["entryPoint"] == "double"


def test_an_installed_package_gives_its_functions(tmp_path: Path) -> None:
    rows, result = imported(tmp_path, format="package", kind="seeds", package="colorsys")
    assert {"colorsys"} == {row["source"].split("@")[0] for row in rows}
    assert any(row["id"].endswith(":colorsys.py:rgb_to_yiq") for row in rows)
    assert result["dropped"] == {"noArguments": 1} or result["rows"] > 5


def test_a_data_set_is_read_from_the_local_copy_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = "0" * 40
    copy = tmp_path / "hub" / "datasets--own--functions"
    for folder in ("refs", f"snapshots/{commit}/data"):
        (copy / folder).mkdir(parents=True)
    (copy / "refs" / "main").write_text(commit)
    content = "def double(n):\n    return 2 * n\n" + "# far from anything else\n" * 5
    parquet(copy / "snapshots" / commit / "data", [{"content": content}], "train-00000-of-00001.parquet")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision in ("main", commit):
        table = {"format": "stackPythonFns", "kind": "seeds", "dataset": "own/functions", "revision": revision}
        rows, result = imported(tmp_path, **table)
        assert [row["code"] for row in rows] == [content]
        assert result["source"] == f"own/functions@{commit}"
    with pytest.raises(ServiceError, match="data set own/functions cannot be had from the hub"):
        check_table({**table, "revision": "v2"}, Call(1, lambda message: None))


def test_the_split_is_a_stated_share_of_texts() -> None:
    held_out = sum(split_of(f"question {number}", 0.1) == "heldOut" for number in range(5000))
    assert 400 < held_out < 600


@pytest.mark.parametrize(
    ("params", "message"),
    [
        (
            {"format": "evolInstruct", "path": "/nowhere/x.parquet"},
            "There is no Parquet, JSON Lines or CSV file at /nowhere/x.parquet",
        ),
        ({"format": "sourceTree", "path": "/nowhere"}, "There is no source tree /nowhere"),
        ({"format": "package", "package": "no_such_package"}, "There is no package no_such_package"),
    ],
)
def test_what_is_not_there_is_named(params: dict[str, Any], message: str) -> None:
    with pytest.raises(ServiceError, match=message):
        check_table(params, Call(1, lambda message: None))


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="lacks the columns response of evolInstruct; it has instruction"):
        check_table(
            {"format": "evolInstruct", "path": parquet(tmp_path, [{"instruction": "x"}])}, Call(1, lambda message: None)
        )
    broken = tmp_path / "broken.parquet"
    broken.write_text("not a table")
    with pytest.raises(ServiceError, match="is no Parquet file"):
        check_table({"format": "evolInstruct", "path": str(broken)}, Call(1, lambda message: None))


def test_a_table_without_a_usable_row_is_an_error_that_counts(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"gives no row of kind seeds; left out: \{'tooShort': 1\}"):
        imported(tmp_path, format="stackPythonFns", kind="seeds", path=parquet(tmp_path, [{"content": "x"}]))

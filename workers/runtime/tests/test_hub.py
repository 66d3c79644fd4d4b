"""Data sets of the Hugging Face hub, by its own client, from a server on loopback that speaks its protocol."""

from __future__ import annotations

import gzip
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

from runtime.tables import check_table, import_table
from serve import Call, ServiceError

COMMITS = {"main": "1" * 40, "v1": "2" * 40}


class Hub:
    """Files of data sets by their commits, and what was asked for."""

    def __init__(self) -> None:
        self.files: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    def put(self, dataset: str, revision: str, files: dict[str, bytes]) -> None:
        self.files[f"{dataset}@{COMMITS[revision]}"] = files

    def answer(self, method: str, path: str) -> tuple[int, dict[str, str], bytes]:
        """The answer of the hub: what a revision holds, or a file of it."""
        parts = [unquote(part) for part in urlsplit(path).path.strip("/").split("/")]
        if parts[:2] == ["api", "datasets"]:
            dataset, revision = "/".join(parts[2:4]), parts[5] if len(parts) > 5 else "main"
            commit = COMMITS.get(revision, revision)
            files = self.files.get(f"{dataset}@{commit}")
            if files is None:
                return 404, {"X-Error-Code": "RevisionNotFound"}, b"{}"
            about: Any = {"id": dataset, "sha": commit, "siblings": [{"rfilename": name} for name in files]}
            if parts[4:5] == ["tree"]:
                about = [{"type": "file", "path": name, "size": len(body), "oid": "0"} for name, body in files.items()]
            return 200, {"Content-Type": "application/json"}, json.dumps(about).encode()
        if parts[0] == "datasets" and parts[3] == "resolve":
            commit, name = COMMITS.get(parts[4], parts[4]), "/".join(parts[5:])
            body = self.files.get(f"{'/'.join(parts[1:3])}@{commit}", {}).get(name)
            if body is None:
                return 404, {"X-Error-Code": "EntryNotFound"}, b""
            if method == "GET":
                self.asked.append(name)
            return 200, {"X-Repo-Commit": commit, "ETag": f'"{abs(hash(body)):x}"'}, body
        return 404, {}, b""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub on a free port, which the client asks in the place of the real one, with a cache of its own."""
    own = Hub()

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, headers, body = own.answer(self.command, self.path)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = _answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    own_address = f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, own_address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", own_address)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield own
    server.shutdown()
    server.server_close()
    thread.join()


def imported(tmp_path: Path, **params: Any) -> tuple[bytes, dict[str, Any]]:
    output = tmp_path / "rows.jsonl"
    table = {"format": "benchmarkRows", "kind": "tasks", "heldOutShare": 0.0, "output": str(output), **params}
    result = import_table(table, Call(1, lambda message: None))
    return output.read_bytes(), result


def test_files_of_a_benchmark_are_copied_in_the_order_that_is_asked_for(hub: Hub, tmp_path: Path) -> None:
    exact = b'{"task_id": "b", "base_input": [1.0, 18446744073709551616, Infinity]}'
    hub.put("own/bench", "main", {"first.jsonl": b'{"task_id": "newer"}'})
    hub.put(
        "own/bench",
        "v1",
        {"first.jsonl": b'{"task_id": "a"}\r\n', "data/second.jsonl.gz": gzip.compress(exact), "other.jsonl": b"{}"},
    )
    files = ["data/second.jsonl.gz", "first.jsonl"]
    rows, result = imported(tmp_path, dataset="own/bench", revision="v1", files=files)
    assert rows == exact + b'\n{"task_id": "a"}\n'
    assert result == {"rows": 2, "dropped": {}, "source": f"own/bench@{COMMITS['v1']}"}
    assert sorted(hub.asked) == sorted(files)


def test_the_rows_of_a_parquet_file_are_lines_of_json(hub: Hub, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = tmp_path / "table.parquet"
    pq.write_table(pa.Table.from_pylist([{"task_id": "BigCodeBench/0", "libs": ["os"], "test": "é"}]), table)
    hub.put("own/bench", "main", {"data/v0.1.4.parquet": table.read_bytes(), "README.md": b"about"})
    rows, result = imported(tmp_path, dataset="own/bench")
    assert [json.loads(line) for line in rows.splitlines()] == [
        {"task_id": "BigCodeBench/0", "libs": ["os"], "test": "é"}
    ]
    assert result["source"] == f"own/bench@{COMMITS['main']}"


def test_a_data_set_of_json_lines_alone_is_read_as_a_table_too(hub: Hub, tmp_path: Path) -> None:
    answer = "```python\ndef double(n):\n    return 2 * n\n```"
    rows = [{"instruction": "Double it.", "response": answer}, {"instruction": "Say hello.", "response": "hello"}]
    hub.put("own/evol", "main", {"data.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    seeds, result = imported(tmp_path, format="evolInstruct", kind="seeds", dataset="own/evol")
    assert [json.loads(line)["code"] for line in seeds.splitlines()] == ["def double(n):\n    return 2 * n\n"]
    assert result["dropped"] == {"noFunctionOrClass": 1}


ANSWER = "```python\ndef double(n):\n    return 2 * n\n```"


def lines(*instructions: str) -> bytes:
    rows = ({"instruction": instruction, "response": ANSWER} for instruction in instructions)
    return "\n".join(map(json.dumps, rows)).encode()


def test_the_published_file_of_evol_instruct_is_json_lines_with_its_own_name(hub: Hub, tmp_path: Path) -> None:
    files = {"README.md": b"---\nlicense: apache-2.0\n---\n", ".gitattributes": b""}
    hub.put("own/evol", "main", {**files, "data-evol_instruct-decontaminated.jsonl": lines("Double it.")})
    _, result = imported(tmp_path, format="evolInstruct", kind="seeds", dataset="own/evol")
    assert result == {"rows": 1, "dropped": {}, "source": f"own/evol@{COMMITS['main']}"}


def pairs(name: str, count: int) -> bytes:
    rows = (
        {"id": f"{name}{number}", "instruction": "Say it.", "input": "", "chosen": f"{name}{number}", "rejected": "no"}
        for number in range(count)
    )
    return "\n".join(map(json.dumps, rows)).encode()


CARD = b"""---
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train-*
- config_name: 32B
  data_files:
  - split: train
    path: 32B/train-*
---
# About
"""


@pytest.mark.parametrize(("card", "first"), [(CARD, "default"), (None, "data")])
def test_one_configuration_of_several_is_read_by_its_name(
    hub: Hub, tmp_path: Path, card: bytes | None, first: str
) -> None:
    files = {"data/train-00000-of-00001.jsonl": pairs("a", 3), "32B/train-00000-of-00001.jsonl": pairs("b", 2)}
    hub.put("own/pairs", "main", {**files, **({"README.md": card} if card else {})})
    table = {"format": "aceCodePair300K", "kind": "pairs", "dataset": "own/pairs"}
    with pytest.raises(ServiceError, match=f"has the configurations 32B, {first}: name one of them as 'configuration'"):
        imported(tmp_path, **table)
    with pytest.raises(ServiceError, match=f"has the configurations 32B, {first}, and no configuration 7B"):
        imported(tmp_path, **table, configuration="7B")
    assert not [name for name in hub.asked if name.endswith(".jsonl")]
    rows, result = imported(tmp_path, **table, configuration="32B")
    assert [json.loads(line)["id"] for line in rows.splitlines()] == ["b0", "b1"]
    assert result["source"] == f"own/pairs@{COMMITS['main']}:32B"
    # Nothing of the other configuration is downloaded.
    assert [name for name in hub.asked if name.endswith(".jsonl")] == ["32B/train-00000-of-00001.jsonl"]
    assert imported(tmp_path, **table, configuration=first)[1]["rows"] == 3


def test_one_split_of_several_is_read_by_its_name(hub: Hub, tmp_path: Path) -> None:
    hub.put("own/evol", "main", {"train.jsonl": lines("A", "B"), "test.jsonl": lines("C"), "dataset_infos.json": b"{}"})
    table = {"format": "evolInstruct", "kind": "seeds", "dataset": "own/evol"}
    with pytest.raises(ServiceError, match=r"has the splits test, train: name one of them as 'split'"):
        check_table({"heldOutShare": 0.0, **table}, Call(1, lambda message: None))
    assert imported(tmp_path, **table, split="train")[1]["rows"] == 2
    assert imported(tmp_path, **table, split="test")[1]["source"] == f"own/evol@{COMMITS['main']}:test"


@pytest.mark.parametrize(
    ("configs", "found"),
    [
        ("- config_name: default\n  data_files: a/*.jsonl", {"train": ["a/train.jsonl", "a/x.jsonl"]}),
        ("- config_name: default\n  data_files: [a/x.jsonl, b/y.jsonl]", {"train": ["a/x.jsonl", "b/y.jsonl"]}),
        (
            "- config_name: default\n  data_files: {train: a/x.jsonl, test: '**/y.jsonl'}",
            {"train": ["a/x.jsonl"], "test": ["b/y.jsonl"]},
        ),
        ("- config_name: default\n  data_dir: b", {"train": ["b/y.jsonl"]}),
        ("- config_name: default\n  data_dir: a\n  data_files: x.jsonl", {"train": ["a/x.jsonl"]}),
    ],
)
def test_the_forms_in_which_a_card_names_files(hub: Hub, tmp_path: Path, configs: str, found: dict[str, Any]) -> None:
    files = {name: lines(name) for name in ("a/x.jsonl", "a/train.jsonl", "b/y.jsonl")}
    hub.put("own/evol", "main", {**files, "README.md": f"---\nconfigs:\n{configs}\n---\n".encode()})
    for split, names in found.items():
        named = {"split": split} if len(found) > 1 else {}
        rows, _ = imported(tmp_path, format="evolInstruct", kind="seeds", dataset="own/evol", **named)
        assert [json.loads(line)["instruction"] for line in rows.splitlines()] == sorted(names)


def test_the_seeds_of_the_paper_are_those_of_its_three_sets(hub: Hub, tmp_path: Path) -> None:
    fenced = "```python\ndef double(n):\n    return 2 * n\n```"
    long = "def thrice(n):\n    return 3 * n\n" + "# far from anything else\n" * 5
    files: dict[str, list[dict[str, str]]] = {
        "ise-uiuc/Magicoder-Evol-Instruct-110K": [{"instruction": "Double it.", "response": fenced}],
        "ise-uiuc/Magicoder-OSS-Instruct-75K-Instruction-Response": [
            {"lang": "python", "instruction": "Double it.", "response": fenced},
            {"lang": "rust", "instruction": "Double it.", "response": fenced},
        ],
        "bigcode/stack-dedup-python-fns": [{"content": long}],
    }
    for dataset, rows in files.items():
        hub.put(dataset, "main", {"data.jsonl": "\n".join(map(json.dumps, rows)).encode()})
    table = {"format": "aceCoderSeeds", "kind": "seeds"}
    check_table({"heldOutShare": 0.0, **table}, Call(1, lambda message: None))
    seeds, result = imported(tmp_path, **table)
    assert [json.loads(line)["id"] for line in seeds.splitlines()] == ["evol_0", "oss_0", "bigcode_python_fns_0"]
    assert result["dropped"] == {"otherLanguage": 1}
    assert result["source"] == ", ".join(f"{dataset}@{COMMITS['main']}" for dataset in files)
    hub.files.popitem()
    with pytest.raises(ServiceError, match="data set bigcode/stack-dedup-python-fns cannot be had"):
        imported(tmp_path / "other", **table)


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"dataset": "own/bench", "files": ["absent.jsonl"]}, f"own/bench@{COMMITS['main']} has no file absent.jsonl"),
        ({"dataset": "own/bench", "files": ["*.jsonl"]}, r"has no file \*\.jsonl"),
        ({"dataset": "own/bench", "revision": "v2"}, "data set own/bench cannot be had from the hub"),
        ({"dataset": "own/nothing"}, "data set own/nothing cannot be had from the hub"),
        ({"dataset": "own/text"}, "has no Parquet, no JSON Lines and no CSV file"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: Hub, params: dict[str, Any], message: str) -> None:
    hub.put("own/bench", "main", {"test.jsonl": b"{}"})
    hub.put("own/text", "main", {"README.md": b"about"})
    table = {"format": "benchmarkRows", "kind": "tasks", "heldOutShare": 0.0, **params}
    with pytest.raises(ServiceError, match=message):
        check_table(table, Call(1, lambda message: None))

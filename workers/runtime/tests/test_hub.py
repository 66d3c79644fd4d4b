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
        ({"dataset": "own/text"}, "has no Parquet and no JSON Lines file"),
    ],
)
def test_what_the_hub_does_not_have_is_named(hub: Hub, params: dict[str, Any], message: str) -> None:
    hub.put("own/bench", "main", {"test.jsonl": b"{}"})
    hub.put("own/text", "main", {"README.md": b"about"})
    table = {"format": "benchmarkRows", "kind": "tasks", "heldOutShare": 0.0, **params}
    with pytest.raises(ServiceError, match=message):
        check_table(table, Call(1, lambda message: None))

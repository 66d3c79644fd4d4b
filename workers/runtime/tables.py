"""The border to the formats of others: Parquet, JSON Lines, Hugging Face data sets and source trees, as rows.

Schemas are those of the data sets' cards. What a pre-filter of the paper (section 2.2, and the authors' preprocessing
scripts) leaves out is counted by its reason.
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from operations import (
    CheckTableParams,
    CheckTableResult,
    ExportTableParams,
    ExportTableResult,
    ImportTableParams,
    ImportTableResult,
)
from runtime.files import Row, write_rows
from runtime.source_trees import seeds_of
from serve import Call, ServiceError

STACK_ROWS = 50_000
"""Rows of stack-dedup-python-fns that the paper takes: the first ones."""
STACK_CHARACTERS = 100
"""A function of stack-dedup-python-fns is longer than this."""
PROGRESS_ROWS = 2_000

PYTHON_FENCE = re.compile(r"```python[^\n]*\n(.*?)(?:```|\Z)", re.DOTALL)


TableParams = ImportTableParams | CheckTableParams


class Drops(Counter[str]):
    """Rows that were left out, by reason."""


def import_table(params: ImportTableParams, call: Call) -> ImportTableResult:
    """Read a table or source tree and write rows of the kind that is asked for.

    params: format, one of path, dataset (+ revision) and package, kind, heldOutShare, output. Result: {rows, dropped:
    {reason: count}, source}. Errors: `InvalidInput` that names what is missing or which column is not there.
    """
    if params["format"] == "benchmarkRows":
        return import_benchmark_rows(params, call)
    drops = Drops()
    reader = READERS[params["format"], params["kind"]]
    source, rows = reader(params, drops)

    def watched() -> Iterator[Row]:
        for number, row in enumerate(rows, start=1):
            if number % PROGRESS_ROWS == 0:
                call.raise_if_cancelled()
                call.progress(number, 0, f"rows read from {source}")
            yield row

    count = Counted(watched())
    write_rows(params["output"], count)
    if count.rows == 0:
        raise ServiceError(
            "InvalidInput", f"{source} gives no row of kind {params['kind']}; left out: {dict(drops) or 'none'}."
        )
    return {"rows": count.rows, "dropped": dict(sorted(drops.items())), "source": source}


def import_benchmark_rows(params: ImportTableParams, call: Call) -> ImportTableResult:
    """Write the rows of a benchmark's files one after the other, as JSON Lines.

    Lines of JSON are copied byte by byte, because a number that is read and written again may be another text.
    """
    source = table_of(params)
    rows = 0
    with Path(params["output"]).open("wb") as output:
        for line in benchmark_lines(source):
            rows += 1
            if rows % PROGRESS_ROWS == 0:
                call.raise_if_cancelled()
                call.progress(rows, 0, f"rows read from {source['name']}")
            output.write(line.rstrip(b"\r\n") + b"\n")
    if rows == 0:
        raise ServiceError("InvalidInput", f"{source['name']} gives no row of kind {params['kind']}.")
    return {"rows": rows, "dropped": {}, "source": source["name"]}


def benchmark_lines(source: Mapping[str, Any]) -> Iterator[bytes]:
    """Rows of all files as lines of JSON."""
    import pyarrow.parquet as pq

    for file in source["files"]:
        if file.suffix == ".parquet":
            for batch in pq.ParquetFile(file).iter_batches(batch_size=PROGRESS_ROWS):
                for row in batch.to_pylist():
                    # Dates and times are the only values of a table that JSON lacks and a benchmark has.
                    yield json.dumps(row, ensure_ascii=False, default=lambda value: value.isoformat()).encode()
        else:
            with opened(file) as lines:
                yield from (line for line in lines if line.strip())


def check_table(params: CheckTableParams, call: Call) -> CheckTableResult:
    """Whether what is to be read is there; reads no more than its schema. Errors: `InvalidInput`."""
    if params["format"] in ("sourceTree", "package"):
        tree_of(params)
        return {}
    for table in paper_tables(params) if params["format"] == "aceCoderSeeds" else [params]:
        source = table_of(table)
        if table["format"] != "benchmarkRows":
            columns_of(source, table["format"])
    return {}


def export_table(params: ExportTableParams, call: Call) -> ExportTableResult:
    """Write rows of this system as a Parquet file with a public schema.

    params: format (aceCode87K or aceCodePair300K), rows (filtered questions or pairs), programs (rows, for aceCode87K),
    model (name of the sampling model), output. Result: {rows, bytes}. The file has its final name when it is whole.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if params["format"] == "aceCode87K":
        schema = pa.schema(
            [
                ("id", pa.string()),
                ("source", pa.string()),
                ("question", pa.string()),
                ("test_cases", pa.list_(pa.string())),
                (
                    "inferences",
                    pa.list_(
                        pa.struct(
                            [
                                ("model_name", pa.string()),
                                ("completion_id", pa.int64()),
                                ("completion", pa.string()),
                                ("pass_rate", pa.float64()),
                            ]
                        )
                    ),
                ),
                ("context_messages", pa.list_(pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())])))),
            ]
        )
        inferences: dict[str, list[Row]] = {}
        for row in lines_of(params.get("programs"), ("questionId", "index", "program", "passRate")):
            inferences.setdefault(row["questionId"], []).append(
                {
                    "model_name": params["model"],
                    "completion_id": row["index"],
                    "completion": row["program"],
                    "pass_rate": row["passRate"],
                }
            )
        rows: Iterable[Row] = (
            {
                "id": row["id"],
                "source": row["source"],
                "question": row["question"],
                "test_cases": [_test_text(test, row.get("checker")) for test in row["tests"]],
                "inferences": inferences.get(row["id"], []),
                "context_messages": [[{"content": row["question"], "role": "user"}]],
            }
            for row in lines_of(params["rows"], ("id", "source", "question", "tests"), ("checker",))
        )
    else:
        schema = pa.schema([(name, pa.string()) for name in ("instruction", "input", "chosen", "rejected", "id")])
        rows = (
            {
                "instruction": row["question"],
                "input": "",
                "chosen": fenced(row["chosen"]),
                "rejected": fenced(row["rejected"]),
                "id": row["id"],
            }
            for row in lines_of(params["rows"], ("id", "question", "chosen", "rejected"))
        )

    part = Path(f"{params['output']}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    count = 0
    with pq.ParquetWriter(part, schema, compression="zstd") as writer:
        for batch in batches(rows, PROGRESS_ROWS):
            call.raise_if_cancelled()
            writer.write_table(pa.Table.from_pylist(batch, schema=schema))
            count += len(batch)
            call.progress(count, 0, "rows written")
    part.replace(params["output"])
    return {"rows": count, "bytes": Path(params["output"]).stat().st_size}


# --- tables -----------------------------------------------------------------------------------------------------------

COLUMNS: dict[str, tuple[str, ...]] = {
    "evolInstruct": ("instruction", "response"),
    "ossInstruct": ("lang", "instruction", "response"),
    "stackPythonFns": ("content",),
    "aceCode87K": ("id", "source", "question"),
    "aceCodePair300K": ("id", "instruction", "chosen", "rejected"),
}


def evol_seeds(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """Magicoder-Evol-Instruct: answers with a Python fence that hold a function or class."""

    def keep(row: Row) -> str | None:
        return None if "def " in row["response"] or "class " in row["response"] else "noFunctionOrClass"

    return instruct_seeds(params, drops, "evol", keep)


def oss_seeds(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """Magicoder-OSS-Instruct: answers in Python with a fence; the authors' script asks for no function here."""
    return instruct_seeds(params, drops, "oss", lambda row: None if row["lang"] == "python" else "otherLanguage")


def instruct_seeds(params: TableParams, drops: Drops, name: str, why_not: Any) -> tuple[str, Iterator[Row]]:
    source = table_of(params)
    columns = columns_of(source, params["format"])

    def rows() -> Iterator[Row]:
        for index, row in enumerate(read_table(source, columns)):
            reason = why_not(row)
            fence = PYTHON_FENCE.search(row["response"] or "")
            if reason is None and fence is None:
                reason = "noPythonFence"
            code = without_prints(fence.group(1)) if fence else ""
            if reason is None and not code.strip():
                reason = "empty"
            if reason is not None:
                drops[reason] += 1
                continue
            yield {"id": f"{name}_{index}", "source": name, "code": code, "instruction": row["instruction"]}

    return source["name"], rows()


def stack_seeds(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """stack-dedup-python-fns: the first functions longer than 100 characters."""
    source = table_of(params)
    columns = columns_of(source, "stackPythonFns")

    def rows() -> Iterator[Row]:
        kept = 0
        for index, row in enumerate(read_table(source, columns)):
            code = without_prints(row["content"] or "")
            if len(code) <= STACK_CHARACTERS:
                drops["tooShort"] += 1
            elif kept >= STACK_ROWS:
                drops["beyondTheFirst50000"] += 1
            else:
                kept += 1
                yield {"id": f"bigcode_python_fns_{index}", "source": "bigcode_python_fns", "code": code}

    return source["name"], rows()


PAPER_SEEDS: tuple[tuple[Literal["evolInstruct", "ossInstruct", "stackPythonFns"], str], ...] = (
    ("evolInstruct", "ise-uiuc/Magicoder-Evol-Instruct-110K"),
    ("ossInstruct", "ise-uiuc/Magicoder-OSS-Instruct-75K-Instruction-Response"),
    ("stackPythonFns", "bigcode/stack-dedup-python-fns"),
)
"""The three seed sets of the paper (section 2.2, table 1), by their names on the hub."""


def paper_tables(params: TableParams) -> list[TableParams]:
    """The tables of the three seed sets, as each of them alone would be asked for."""
    shared = {"kind": params["kind"], "heldOutShare": params["heldOutShare"]}
    return [CheckTableParams(format=form, dataset=dataset, **shared) for form, dataset in PAPER_SEEDS]


def paper_seeds(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """The seeds of the paper: those of its three sets, one after the other."""
    readers = (evol_seeds, oss_seeds, stack_seeds)
    read = [reader(table, drops) for reader, table in zip(readers, paper_tables(params), strict=True)]
    return ", ".join(name for name, _ in read), itertools.chain.from_iterable(rows for _, rows in read)


def acecode_questions(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """AceCode-87K as filtered questions. A program that passes all kept tests, where there is one, is the reference."""
    source = table_of(params)
    columns = columns_of(source, "aceCode87K")
    tests_column = "test_cases" if "test_cases" in columns else "tests"

    def rows() -> Iterator[Row]:
        for row in read_table(source, columns):
            tests = [_test_of(test) for test in row[tests_column] or [] if test and test.strip()]
            name = entry_point(test if isinstance(test, str) else f"assert {test.get('call')}" for test in tests)
            reason = (
                "noQuestion"
                if not (row["question"] or "").strip()
                else "noTests"
                if not tests
                else "noEntryPoint"
                if name is None
                else None
            )
            if reason is not None:
                drops[reason] += 1
                continue
            passing = [item for item in row.get("inferences") or [] if item.get("pass_rate") == 1]
            yield {
                "id": row["id"],
                "seedId": row["id"],
                "source": row["source"],
                "question": row["question"],
                "entryPoint": name,
                "reference": program_of(passing[0]["completion"]) if passing else "",
                "tests": tests,
                "split": split_of(row["question"], params["heldOutShare"]),
            }

    return source["name"], rows()


def acecode_programs(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """The samples of AceCode-87K as programs. It holds their pass rates and no verdicts of single tests."""
    source = table_of(params)
    columns = columns_of(source, "aceCode87K")
    if "inferences" not in columns:
        raise ServiceError("InvalidInput", f"{source['name']} has no column inferences, which holds the programs.")

    def rows() -> Iterator[Row]:
        for row in read_table(source, columns):
            for index, item in enumerate(row["inferences"] or []):
                program = program_of(item["completion"] or "")
                if not program.strip() or item["pass_rate"] is None:
                    drops["emptyProgram" if not program.strip() else "noPassRate"] += 1
                    continue
                yield {
                    "id": f"{row['id']}/{item['model_name']}/{index}",
                    "questionId": row["id"],
                    "split": split_of(row["question"], params["heldOutShare"]),
                    "question": row["question"],
                    "index": index,
                    "program": program,
                    "finish": "stop",
                    "outcomes": [],
                    "passRate": min(1.0, max(0.0, float(item["pass_rate"]))),
                }

    return source["name"], rows()


def acecode_pairs(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """AceCodePair-300K as pairs; its rows hold no pass rates."""
    source = table_of(params)
    columns = columns_of(source, "aceCodePair300K")

    def rows() -> Iterator[Row]:
        for row in read_table(source, columns):
            chosen, rejected = program_of(row["chosen"] or ""), program_of(row["rejected"] or "")
            if not chosen.strip() or not rejected.strip() or chosen == rejected:
                drops["emptyProgram" if not chosen.strip() or not rejected.strip() else "equalPrograms"] += 1
                continue
            yield {
                "id": row["id"],
                "questionId": hashlib.sha256(row["instruction"].encode()).hexdigest()[:32],
                "split": split_of(row["instruction"], params["heldOutShare"]),
                "question": row["instruction"],
                "chosen": chosen,
                "rejected": rejected,
            }

    return source["name"], rows()


TABLE_PATTERNS = (["*.parquet"], ["*.jsonl", "*.jsonl.gz", "*.json"])
"""What the rows of a data set stand in, the first that it has."""


def table_of(params: TableParams) -> dict[str, Any]:
    """The files of a path, or of a data set of the Hugging Face hub (or its local copy), with a name for both.

    The name of a data set holds the commit that was read. Errors: `InvalidInput` that names what is missing.
    """
    if (path := params.get("path")) is not None:
        place = Path(path)
        files = sorted(place.rglob("*.parquet")) if place.is_dir() else [place]
        if not place.exists() or not files:
            what = "file" if params["format"] == "benchmarkRows" else "Parquet file"
            raise ServiceError("InvalidInput", f"There is no {what} at {path} on the GPU worker.")
        return {"name": place.name, "files": files}
    dataset = _given(params, "dataset")
    if wanted := params.get("files"):
        folder = hub_folder(dataset, params.get("revision"), wanted)
        missing = [file for file in wanted if not (folder / file).is_file()]
        if missing:
            raise ServiceError("InvalidInput", f"The data set {dataset}@{folder.name} has no file {missing[0]}.")
        return {"name": f"{dataset}@{folder.name}", "files": [folder / file for file in wanted]}
    for patterns in TABLE_PATTERNS:
        folder = hub_folder(dataset, params.get("revision"), patterns)
        if files := sorted({file for pattern in patterns for file in folder.rglob(pattern)}):
            return {"name": f"{dataset}@{folder.name}", "files": files}
    raise ServiceError("InvalidInput", f"The data set {dataset} has no Parquet and no JSON Lines file.")


def hub_folder(dataset: str, revision: str | None, patterns: list[str]) -> Path:
    """The local copy of files of a data set, downloaded where it is not there. Its name is the commit.

    Errors: `InvalidInput` with the reason why it cannot be had.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(dataset, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise ServiceError(
            "InvalidInput", f"The data set {dataset} cannot be had from the hub: {str(error).splitlines()[0]}"
        ) from error


def opened(file: Path) -> BinaryIO:
    """A file of lines, unzipped where its name says so."""
    return cast(BinaryIO, gzip.open(file, "rb")) if file.suffix == ".gz" else file.open("rb")


def rows_of_lines(file: Path) -> Iterator[Row]:
    """Rows of a file of JSON Lines. Errors: `InvalidInput` that names the line."""
    with opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ServiceError("InvalidInput", f"{file.name}: line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ServiceError("InvalidInput", f"{file.name}: line {number} is no object.")
            yield row


def _given(params: TableParams, name: Literal["path", "dataset", "package"]) -> str:
    """What a format is read from. Raises `InvalidInput` where it is not given."""
    value = params.get(name)
    if value is None:
        raise ServiceError("InvalidInput", f"The format {params['format']} is read from a {name}, and none is given.")
    return value


def columns_of(source: Mapping[str, Any], format: str) -> list[str]:
    """The columns to read. Errors: `InvalidInput` that names those that are not there."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = source["files"][0]
    try:
        present = list(next(rows_of_lines(first), {})) if is_lines(first) else pq.read_schema(first).names
    except (OSError, pa.ArrowInvalid) as error:
        raise ServiceError("InvalidInput", f"{first} is no Parquet file: {error}") from error
    wanted = COLUMNS[format]
    missing = [name for name in wanted if name not in present]
    if format == "aceCode87K" and not {"test_cases", "tests"} & set(present):
        missing.append("test_cases")
    if missing:
        raise ServiceError(
            "InvalidInput",
            f"{source['name']} lacks the columns {', '.join(missing)} of {format}; it has {', '.join(present)}.",
        )
    optional = ("test_cases", "tests", "inferences") if format == "aceCode87K" else ()
    return [name for name in (*wanted, *optional) if name in present]


def read_table(source: Mapping[str, Any], columns: list[str]) -> Iterator[Row]:
    """Rows of all files in name order, a batch in memory at a time."""
    import pyarrow.parquet as pq

    for file in source["files"]:
        if is_lines(file):
            yield from ({name: row.get(name) for name in columns} for row in rows_of_lines(file))
            continue
        for batch in pq.ParquetFile(file).iter_batches(batch_size=PROGRESS_ROWS, columns=columns):
            yield from batch.to_pylist()


def is_lines(file: Path) -> bool:
    """Whether a file has JSON Lines, by its name."""
    return file.name.removesuffix(".gz").endswith((".jsonl", ".json"))


# --- source trees -----------------------------------------------------------------------------------------------------


def tree_seeds(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """Functions and classes of a source tree or of an installed package that load alone, in path order."""
    name, root = tree_of(params)
    return name, seeds_of(name, root, drops)


def tree_of(params: TableParams) -> tuple[str, Path]:
    """Name and root of a source tree. Errors: `InvalidInput` when there is none."""
    if params["format"] == "sourceTree":
        path = _given(params, "path")
        root = Path(path)
        if not root.exists():
            raise ServiceError("InvalidInput", f"There is no source tree {path} on the GPU worker.")
        return root.resolve().name, root
    package = _given(params, "package")
    try:
        spec = importlib.util.find_spec(package) if "." not in package else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or spec.origin in (None, "built-in", "frozen"):
        raise ServiceError(
            "InvalidInput", f"There is no package {package} with Python source in the GPU worker's environment."
        )
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    origin = Path(str(spec.origin))
    return f"{package}@{version}", Path(
        spec.submodule_search_locations[0]
    ) if spec.submodule_search_locations else origin


# --- texts ------------------------------------------------------------------------------------------------------------


def without_prints(code: str) -> str:
    """The code without lines that begin with print, as the authors' preprocessing leaves it."""
    return "\n".join(line for line in code.split("\n") if not line.startswith("print"))


def program_of(text: str) -> str:
    """The program of an answer: the text of its first Python fence, or all of it."""
    fence = PYTHON_FENCE.search(text)
    return fence.group(1) if fence else text


def fenced(program: str) -> str:
    return f"```python\n{program.rstrip()}\n```"


def entry_point(tests: Iterable[str]) -> str | None:
    """The function that the first test calls."""
    for test in tests:
        if match := re.search(r"assert\s+(?:not\s+)?\(?\s*([A-Za-z_]\w*)\s*\(", test):
            return match.group(1)
    return None


_BARE = {"call", "expect", "stdin", "stdout"}


def _test_text(test: Any, checker: str | None) -> str:
    """A test as a text: itself, or as JSON with the checker of its question where it leaves open how it is judged."""
    if isinstance(test, str):
        return test
    return json.dumps({**test, "checker": checker} if checker and test.keys() <= _BARE else test, sort_keys=True)


def _test_of(text: str) -> Any:
    """The test of such a text."""
    try:
        test = json.loads(text) if text.startswith("{") else None
    except ValueError:
        return text
    return test if isinstance(test, dict) and test.keys() & {"call", "stdin"} else text


def split_of(text: str, held_out_share: float) -> str:
    """heldOut for a stated share of texts, by their hash, so that it is the same for questions, programs and pairs."""
    position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "heldOut" if position < held_out_share else "train"


class Counted(Iterator[Row]):
    """Rows that are counted as they pass."""

    def __init__(self, rows: Iterator[Row]) -> None:
        self.rows = 0
        self._rows = rows

    def __next__(self) -> Row:
        row = next(self._rows)
        self.rows += 1
        return row


def lines_of(path: str | None, fields: tuple[str, ...], optional: tuple[str, ...] = ()) -> Iterator[Row]:
    """Rows of a JSON Lines file, one in memory at a time; none without a path. Optional fields may be missing."""
    if path is None:
        return
    with Path(path).open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield {name: row[name] for name in fields} | {name: row[name] for name in optional if name in row}


def batches(rows: Iterable[Row], size: int) -> Iterator[list[Row]]:
    batch: list[Row] = []
    for row in rows:
        batch.append(row)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


READERS = {
    ("evolInstruct", "seeds"): evol_seeds,
    ("ossInstruct", "seeds"): oss_seeds,
    ("stackPythonFns", "seeds"): stack_seeds,
    ("aceCoderSeeds", "seeds"): paper_seeds,
    ("sourceTree", "seeds"): tree_seeds,
    ("package", "seeds"): tree_seeds,
    ("aceCode87K", "filteredQuestions"): acecode_questions,
    ("aceCode87K", "programs"): acecode_programs,
    ("aceCodePair300K", "pairs"): acecode_pairs,
}

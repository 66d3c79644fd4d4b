"""The border to the formats of others: Parquet, JSON Lines, CSV, Hugging Face data sets and source trees, as rows.

Schemas are those of the data sets' cards. What a pre-filter of the paper (section 2.2, and the authors' preprocessing
scripts) leaves out is counted by its reason.
"""

from __future__ import annotations

import ast
import builtins
import csv
import gzip
import hashlib
import importlib.metadata
import importlib.util
import io
import itertools
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from client.acecoder_verifier import program_of

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
"""The code of a seed, as the authors' preprocessing takes it. Programs in answers are found by `program_in`."""

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
        elif _suffix_of(file.name) in TABLE_SUFFIXES[2]:
            yield from (json.dumps(row, ensure_ascii=False).encode() for row in rows_of_file(file))
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

    schema = published_schema(params["format"])
    if params["format"] == "aceCode87K":
        inferences: dict[str, list[Row]] = {}
        programs = lines_of(params.get("programs"), ("questionId", "index", "program", "passRate"), ("sampler",))
        for row in programs:
            inferences.setdefault(row["questionId"], []).append(
                {
                    "completion": row["program"],
                    "completion_id": row["index"],
                    "model_name": row.get("sampler", params["model"]),
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
                "context_messages": [{"content": row["question"], "role": "user"}],
            }
            for row in lines_of(params["rows"], ("id", "source", "question", "tests"), ("checker",))
        )
    else:
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


def published_schema(format: str) -> Any:
    """Columns of a published data set, in the order of its card: members of structs have an order too."""
    import pyarrow as pa

    if format == "aceCodePair300K":
        return pa.schema([(name, pa.string()) for name in ("instruction", "input", "chosen", "rejected", "id")])
    inference = [
        ("completion", pa.string()),
        ("completion_id", pa.int64()),
        ("model_name", pa.string()),
        ("pass_rate", pa.float64()),
    ]
    return pa.schema(
        [
            ("id", pa.string()),
            ("source", pa.string()),
            ("question", pa.string()),
            ("test_cases", pa.list_(pa.string())),
            ("inferences", pa.list_(pa.struct(inference))),
            ("context_messages", pa.list_(pa.struct([("content", pa.string()), ("role", pa.string())]))),
        ]
    )


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
            texts = [test for test in _listed(row[tests_column]) if test and test.strip()]
            tests = [_test_of(test) for test in with_imports(texts)]
            inferences = _listed(row.get("inferences"))
            passing = [item for item in inferences if item.get("pass_rate") == 1]
            completion = passing[0]["completion"] or "" if passing else ""
            reference = program_in(completion, entry_point(tests, completion) or "")
            name = entry_point(tests, reference)
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
            yield {
                "id": row["id"],
                "seedId": row["id"],
                "source": row["source"],
                "question": row["question"],
                "entryPoint": name,
                "reference": reference,
                "tests": tests,
                "split": split_of(row["question"], params["heldOutShare"]),
            }

    return source["name"], rows()


def acecode_programs(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """The samples of AceCode-87K as programs. It holds their pass rates and no verdicts of single tests."""
    source = table_of(params)
    columns = columns_of(source, "aceCode87K")
    tests_column = "test_cases" if "test_cases" in columns else "tests"
    if "inferences" not in columns:
        raise ServiceError("InvalidInput", f"{source['name']} has no column inferences, which holds the programs.")

    def rows() -> Iterator[Row]:
        for row in read_table(source, columns):
            inferences = _listed(row["inferences"])
            # Programs of several samplers for one question are no competitors: pairs are made within a sampler.
            several = len({item["model_name"] for item in inferences}) > 1
            name = entry_point([_test_of(test) for test in _listed(row[tests_column]) if test], "") or ""
            for index, item in enumerate(inferences):
                program = program_in(item["completion"] or "", name)
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
                } | ({"sampler": item["model_name"]} if several and item["model_name"] else {})

    return source["name"], rows()


def acecode_pairs(params: TableParams, drops: Drops) -> tuple[str, Iterator[Row]]:
    """AceCodePair-300K as pairs; its rows hold no pass rates."""
    source = table_of(params)
    columns = columns_of(source, "aceCodePair300K")

    def rows() -> Iterator[Row]:
        for row in read_table(source, columns):
            name = shared_name(row["chosen"] or "", row["rejected"] or "")
            chosen, rejected = program_in(row["chosen"] or "", name), program_in(row["rejected"] or "", name)
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


TABLE_SUFFIXES = ((".parquet",), (".jsonl", ".jsonl.gz", ".json", ".json.gz"), (".csv", ".csv.gz"))
"""What the rows of a data set stand in, the first that it has."""
NO_TABLES = {"dataset_info.json", "dataset_infos.json", "state.json", "config.json"}
"""Files of a data set that describe it."""
CARD = "README.md"


def table_of(params: TableParams) -> dict[str, Any]:
    """The files of a path, or of a data set of the Hugging Face hub (or its local copy), with a name for both.

    The name of a data set holds the commit that was read. Errors: `InvalidInput` that names what is missing, or lists
    the configurations or splits of which one has to be named.
    """
    if (path := params.get("path")) is not None:
        place = Path(path)
        named = [name for name in ("configuration", "split") if params.get(name) is not None]
        if place.is_file():
            if named:
                raise ServiceError("InvalidInput", f"{path} is one file, which has no {named[0]}.")
            return {"name": place.name, "files": [place]}
        present = sorted(file.relative_to(place).as_posix() for file in place.rglob("*") if file.is_file())
        chosen = table_files(f"the folder {path}", present, _card_of(place), params) if present else []
        if not chosen:
            what = "file" if params["format"] == "benchmarkRows" else "Parquet, JSON Lines or CSV file"
            raise ServiceError("InvalidInput", f"There is no {what} at {path} on the GPU worker.")
        return {"name": place.name, "files": [place / file for file in chosen]}
    dataset = _given(params, "dataset")
    if wanted := params.get("files"):
        folder = hub_folder(dataset, params.get("revision"), wanted)
        missing = [file for file in wanted if not (folder / file).is_file()]
        if missing:
            raise ServiceError("InvalidInput", f"The data set {dataset}@{folder.name} has no file {missing[0]}.")
        return {"name": f"{dataset}@{folder.name}", "files": [folder / file for file in wanted]}
    folder = hub_folder(dataset, params.get("revision"), [CARD])
    present = hub_files(dataset, folder)
    chosen = table_files(f"the data set {dataset}", present, _card_of(folder), params)
    if not chosen:
        raise ServiceError("InvalidInput", f"The data set {dataset} has no Parquet, no JSON Lines and no CSV file.")
    folder = hub_folder(dataset, folder.name, chosen)
    missing = [file for file in chosen if not (folder / file).is_file()]
    if missing:
        raise ServiceError("InvalidInput", f"The local copy of {dataset}@{folder.name} has no file {missing[0]}.")
    part = ":".join(value for name in ("configuration", "split") if (value := params.get(name)) is not None)
    return {"name": f"{dataset}@{folder.name}{part and f':{part}'}", "files": [folder / file for file in chosen]}


def table_files(place: str, present: list[str], card: Mapping[str, Any], params: TableParams) -> list[str]:
    """The files of one split of one configuration of a data set, in the order of their names.

    What there is, the head of the card says by the conventions of the hub; else the folders and names of the files.
    Errors: `InvalidInput` with the list where there are several and none is named, or where that one is not there.
    """
    tables = [file for file in present if _suffix_of(file) is not None and Path(file).name not in NO_TABLES]
    found = _configurations_of_card(card, tables) or _configurations_of_names(tables)
    if not found:
        return []
    configuration = _chosen(place, "configuration", found, params.get("configuration"))
    of = place if len(found) == 1 else f"the configuration {configuration} of {place}"
    return sorted(found[configuration][_chosen(of, "split", found[configuration], params.get("split"))])


def _chosen(place: str, what: str, found: Mapping[str, Any], wanted: str | None) -> str:
    if wanted is None and len(found) == 1:
        return next(iter(found))
    if wanted in found:
        return cast(str, wanted)
    has = f"{place} has the {what}{'s' if len(found) > 1 else ''} {', '.join(sorted(found))}"
    raise ServiceError(
        "InvalidInput",
        f"{has[0].upper()}{has[1:]}: name one of them as '{what}'."
        if wanted is None
        else f"{has[0].upper()}{has[1:]}, and no {what} {wanted}.",
    )


def _card_of(folder: Path) -> Mapping[str, Any]:
    """The YAML head of a data set's card; empty where there is none."""
    import yaml

    try:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    head = re.match(r"\A---\s*\n(.*?)\n---\s*(?:\n|\Z)", text, re.DOTALL)
    try:
        read = yaml.safe_load(head.group(1)) if head else None
    except yaml.YAMLError:
        return {}
    return read if isinstance(read, dict) else {}


def _configurations_of_card(card: Mapping[str, Any], tables: list[str]) -> dict[str, dict[str, list[str]]]:
    """Files by split by configuration, as the field `configs` of a card says. One without a file here is left out."""
    found: dict[str, dict[str, list[str]]] = {}
    configs = card.get("configs")
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict):
            continue
        name, folder = str(config.get("config_name", "default")), str(config.get("data_dir") or "").strip("./")
        inside = [file for file in tables if not folder or file.startswith(f"{folder}/")]
        splits: dict[str, list[str]] = {}
        for split, patterns in _patterns_of(config.get("data_files")):
            own = [f"{folder}/{pattern}" if folder else pattern.removeprefix("./") for pattern in patterns]
            matched = [file for file in tables if any(_matches(file, pattern) for pattern in own)]
            if matched:
                splits.setdefault(split, []).extend(matched)
        if "data_files" not in config and inside:
            splits = _splits_of(inside)
        if splits:
            found[name] = splits
    return found


def _patterns_of(data_files: Any) -> Iterator[tuple[str, list[str]]]:
    """Splits with their patterns, in each of the forms that a card may have them in."""
    if isinstance(data_files, dict):
        data_files = [{"split": split, "path": path} for split, path in data_files.items()]
    if not isinstance(data_files, list):
        data_files = [data_files] if data_files else []
    for entry in data_files:
        split, path = (entry.get("split", "train"), entry.get("path")) if isinstance(entry, dict) else ("train", entry)
        yield str(split), [str(each) for each in (path if isinstance(path, list) else [path])]


def _matches(file: str, pattern: str) -> bool:
    """Whether a path fits a pattern in which `*` stays in a folder and `**` does not."""
    spelled = re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*")
    return re.fullmatch(spelled.replace(r"\?", "[^/]"), file) is not None


SPLITS = "train|validation|valid|val|dev|test|eval"


def _configurations_of_names(tables: list[str]) -> dict[str, dict[str, list[str]]]:
    """Files by split by configuration, where no card says so: a folder with tables is a configuration, but one that is
    named as a split is.
    """
    of_kind: list[str] = []
    for suffixes in TABLE_SUFFIXES:
        of_kind = of_kind or [file for file in tables if _suffix_of(file) in suffixes]
    folders: dict[str, list[str]] = {}
    for file in of_kind:
        parts = [part for part in file.split("/")[:-1] if re.fullmatch(SPLITS, part) is None]
        folders.setdefault("/".join(parts) or "default", []).append(file)
    return {folder: _splits_of(files) for folder, files in folders.items()}


def _splits_of(files: list[str]) -> dict[str, list[str]]:
    """Files by split: what stands in front of `-00000-of-00001`, a name that begins with one, a folder, or `train`."""
    splits: dict[str, list[str]] = {}
    for file in files:
        *folders, name = file.split("/")
        numbered = re.match(r"(.+?)-\d{5}-of-\d{5}\b", name)
        begins = re.match(rf"({SPLITS})(?![a-zA-Z])", name)
        within = next((part for part in reversed(folders) if re.fullmatch(SPLITS, part)), None)
        split = numbered.group(1) if numbered else begins.group(1) if begins else within or "train"
        splits.setdefault(split, []).append(file)
    return splits


def _suffix_of(file: str) -> str | None:
    return next((suffix for kind in TABLE_SUFFIXES for suffix in kind if file.endswith(suffix)), None)


def hub_files(dataset: str, folder: Path) -> list[str]:
    """Files of a commit of a data set; of its local copy where the hub cannot be asked."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled

    try:
        return HfApi().list_repo_files(dataset, repo_type="dataset", revision=folder.name)
    except OfflineModeIsEnabled:
        return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    except Exception as error:
        raise ServiceError(
            "InvalidInput", f"The files of {dataset} cannot be listed at the hub: {str(error).splitlines()[0]}"
        ) from error


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


def rows_of_file(file: Path) -> Iterator[Row]:
    """Rows of a file of JSON Lines, of one JSON list, or of CSV. Errors: `InvalidInput` that names the line."""
    if _suffix_of(file.name) in TABLE_SUFFIXES[2]:
        yield from _rows_of_csv(file)
        return
    with opened(file) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            if number == 1 and line.lstrip().startswith(b"["):
                yield from _rows_of_list(file)
                return
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ServiceError("InvalidInput", f"{file.name}: line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise ServiceError("InvalidInput", f"{file.name}: line {number} is no object.")
            yield row


def _rows_of_list(file: Path) -> Iterator[Row]:
    with opened(file) as document:
        try:
            rows = json.load(document)
        except ValueError as error:
            raise ServiceError("InvalidInput", f"{file.name} is no JSON: {error}") from error
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict):
            raise ServiceError("InvalidInput", f"{file.name}: row {number} is no object.")
        yield row


MAX_CELL = 64 * 1024 * 1024
"""Characters of one cell of a CSV file."""


def _rows_of_csv(file: Path) -> Iterator[Row]:
    """Rows of a CSV file with a head, as texts; an empty cell is an empty text."""
    csv.field_size_limit(MAX_CELL)
    with opened(file) as binary, io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text:
        reader = csv.DictReader(text, strict=True)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise ServiceError(
                        "InvalidInput", f"{file.name}: line {reader.line_num} has not as many cells as the head."
                    )
                yield row
        except (csv.Error, UnicodeDecodeError) as error:
            raise ServiceError("InvalidInput", f"{file.name}: line {reader.line_num} is no CSV: {error}") from error


def _listed(value: Any) -> list[Any]:
    """A list as a table has it: itself, or, in CSV, a JSON or Python text of it."""
    if not isinstance(value, str):
        return list(value) if value is not None else []
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(value)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return []


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
        present = pq.read_schema(first).names if is_parquet(first) else list(next(rows_of_file(first), {}))
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
        if not is_parquet(file):
            yield from ({name: row.get(name) for name in columns} for row in rows_of_file(file))
            continue
        for batch in pq.ParquetFile(file).iter_batches(batch_size=PROGRESS_ROWS, columns=columns):
            yield from batch.to_pylist()


def is_parquet(file: Path) -> bool:
    """Whether a file is read as Parquet: its name does not say JSON Lines or CSV."""
    return _suffix_of(file.name) in (None, ".parquet")


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


def program_in(text: str, entry_point: str) -> str:
    """The program in a completion: itself where it is Python as it stands, such as what this system exports.

    Anything else is an answer, whose program is found as everywhere: `activities/policy/programs.ts` says how.
    """
    tree = _parsed(text)
    # A word, a list or an object of JSON is an expression of Python too.
    is_program = tree is not None and not all(isinstance(node, ast.Expr) for node in tree.body)
    return text if is_program and not _begins_with_a_mark(tree) else program_of(text, entry_point)


def _begins_with_a_mark(tree: ast.Module | None) -> bool:
    """Whether the first line is a label such as `python`, or a mark such as `[BEGIN]`."""
    match tree:
        case ast.Module(body=[ast.Expr(value=ast.Name() | ast.List(elts=[ast.Name()])), *_]):
            return True
        case _:
            return False


def shared_name(one: str, other: str) -> str:
    """The first function or class that two answers to one question both define; empty where there is none."""
    defined = [re.findall(r"^(?:(?:async[ \t]+)?def|class)[ \t]+(\w+)", text, re.MULTILINE) for text in (one, other)]
    return next((name for name in defined[0] if name in defined[1]), "")


def fenced(program: str) -> str:
    return f"```python\n{program.rstrip()}\n```"


def entry_point(tests: Iterable[Any], reference: str) -> str | None:
    """The function or class that tests are about: what most of them call.

    A name that the reference defines comes before one that it does not. Builtins, and what tests import or bind
    themselves, only change how values are compared.
    """
    texts = [test if isinstance(test, str) else f"assert {test.get('call')}" for test in tests]
    trees = [tree for text in texts if (tree := _parsed(text)) is not None]
    defined = _defined(reference)
    bound = {name for tree in trees for name in _bound(tree)}
    counts: Counter[str] = Counter()
    for tree in trees:
        called = dict.fromkeys(
            node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        )
        counts.update(name for name in called if name not in bound)
    own = [name for name in counts if name in defined]
    others = [name for name in counts if not hasattr(builtins, name)]
    # Of names that are called equally often the first stands, because `max` keeps it.
    return max(own or others, key=lambda name: counts[name], default=None)


def with_imports(tests: list[str]) -> list[str]:
    """Tests with the import lines that stand in front of them as tests of their own, each where it is used."""
    imports: list[tuple[set[str], str]] = []
    kept: list[str] = []
    for test in tests:
        tree = _parsed(test)
        if tree is not None and tree.body and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in tree.body):
            imports.append((_bound(tree), test.strip()))
            continue
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)} if tree is not None else set[str]()
        needed = [text for names, text in imports if "*" in names or names & used]
        kept.append("\n".join([*needed, test]))
    return kept


def _parsed(text: str) -> ast.Module | None:
    try:
        return ast.parse(text.strip())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _defined(program: str) -> set[str]:
    """Functions and classes at the top level of a program."""
    tree = _parsed(program)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in tree.body if isinstance(node, kinds)} if tree is not None else set()


def _bound(tree: ast.Module) -> set[str]:
    """Names that a text imports, defines or binds."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names.add(node.id)
        elif isinstance(node, ast.arg):
            names.add(node.arg)
    return names


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

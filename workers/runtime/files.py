"""Row files and folders that exist either completely or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from serve import ServiceError

Row = dict[str, Any]


def read_rows(path: str, fields: Iterable[str]) -> list[Row]:
    """Rows of a JSON Lines file in file order, each holding at least `fields`.

    Raises `InvalidInput` that names the file and line when the file is missing, a line is not a JSON object or a field
    is absent.
    """
    rows: list[Row] = []
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise ServiceError("InvalidInput", f"Cannot read rows from {path}: {error.strerror}.") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise ServiceError("InvalidInput", f"{path} line {number} is not JSON: {error}.") from error
        missing = sorted(set(fields) - row.keys()) if isinstance(row, dict) else ["a JSON object"]
        if missing:
            raise ServiceError("InvalidInput", f"{path} line {number} lacks {', '.join(missing)}.")
        rows.append(row)
    return rows


def write_rows(path: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write `rows` as JSON Lines; `path` appears only once every row is in it."""
    part = Path(f"{path}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")
    os.replace(part, path)


@contextmanager
def new_folder(path: str) -> Iterator[Path]:
    """A folder to fill, which takes its final name (replacing an older one) when the block ends without an error."""
    part = Path(f"{path}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    yield part
    shutil.rmtree(path, ignore_errors=True)
    os.replace(part, path)

"""GGUF files in one part or several: pieces of one file, and files of `gguf-split`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader, GGUFWriter

from runtime import models
from runtime.gguf_parts import join_parts
from runtime.models import check_model, import_model
from serve import Call, ServiceError

TENSORS = {f"blk.{number}.w": np.arange(96, dtype=np.float32).reshape(8, 12) + number for number in range(5)}


def write(path: Path, names: list[str], *, head: bool = True, split: tuple[int, int] | None = None) -> Path:
    """A GGUF file with these tensors; with the keys of a model, and with those of `gguf-split`: number and count."""
    writer = GGUFWriter(path, "llama")
    if head:
        writer.add_uint32("llama.block_count", 5)
        writer.add_float32("llama.rope.freq_base", 1e4)
        writer.add_bool("tokenizer.ggml.add_bos_token", False)
        writer.add_array("tokenizer.ggml.tokens", ["a", "b", "ü"])
        writer.add_array("tokenizer.ggml.scores", [0.0, 0.5, 1.0])
    if split:
        writer.add_uint16("split.no", split[0])
        writer.add_uint16("split.count", split[1])
        writer.add_int32("split.tensors.count", len(TENSORS))
    for name in names:
        writer.add_tensor(name, TENSORS[name])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def content(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    reader = GGUFReader(path)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    return fields, {tensor.name: (tensor.tensor_type, tensor.data.tolist()) for tensor in reader.tensors}


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write(tmp_path / "whole.gguf", [*TENSORS])


@pytest.fixture
def pieces(whole: Path, tmp_path: Path) -> list[Path]:
    data = whole.read_bytes()
    parts = [tmp_path / f"part{number}.bin" for number in range(3)]
    for number, part in enumerate(parts):
        part.write_bytes(data[number * 700 : (number + 1) * 700 if number < 2 else None])
    return parts


@pytest.fixture
def split(tmp_path: Path) -> list[Path]:
    names = [*TENSORS]
    return [
        write(tmp_path / "m-00001-of-00003.gguf", names[:2], split=(0, 3)),
        write(tmp_path / "m-00002-of-00003.gguf", names[2:4], head=False, split=(1, 3)),
        write(tmp_path / "m-00003-of-00003.gguf", names[4:], head=False, split=(2, 3)),
    ]


def test_pieces_are_put_one_after_the_other(whole: Path, pieces: list[Path], tmp_path: Path) -> None:
    join_parts(pieces, tmp_path / "joined.gguf")
    assert (tmp_path / "joined.gguf").read_bytes() == whole.read_bytes()


def test_files_of_gguf_split_are_merged(whole: Path, split: list[Path], tmp_path: Path) -> None:
    join_parts(split, tmp_path / "joined.gguf")
    assert content(tmp_path / "joined.gguf") == content(whole)


def test_parts_that_make_no_file_are_refused(split: list[Path], pieces: list[Path], tmp_path: Path) -> None:
    for parts, message in [
        (split[::-1], r"numbers \[2, 1, 0\]"),
        (split[:2], r"numbers \[0, 1\] of 3"),
        (pieces[1:], "part1.bin does not begin as a GGUF file"),
        ([split[0], pieces[1], split[1]], "and others do not: m-00001-of-00003.gguf, m-00002-of-00003.gguf"),
    ]:
        with pytest.raises(ServiceError, match=message) as error:
            join_parts(parts, tmp_path / "joined.gguf")
        assert error.value.type == "InvalidInput"


def test_a_source_reads_one_file_where_it_lies_and_joins_several(
    whole: Path, pieces: list[Path], tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[bytes] = []

    def load(name: str, gguf_file: str) -> Any:
        loaded.append(Path(name, gguf_file).read_bytes())
        raise ServiceError("ModelNotFound", "enough")

    monkeypatch.setattr(models, "_from_pretrained", load)
    before = {*tmp_path.iterdir()}
    for paths in [[whole], pieces]:
        source = {"kind": "ggufFile", "paths": [str(path) for path in paths]}
        assert check_model({"source": source}, call) == {"architecture": None}
        with pytest.raises(ServiceError, match="enough"):
            import_model({"source": source, "output": str(tmp_path / "out")}, call)
    assert loaded == [whole.read_bytes()] * 2
    assert {*tmp_path.iterdir()} == before


def test_a_part_that_is_not_there_is_named(pieces: list[Path], call: Call) -> None:
    pieces[1].unlink()
    with pytest.raises(ServiceError, match=r"There is no file .*part1\.bin") as error:
        check_model({"source": {"kind": "ggufFile", "paths": [str(path) for path in pieces]}}, call)
    assert error.value.type == "ModelNotFound"

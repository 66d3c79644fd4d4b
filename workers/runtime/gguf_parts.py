"""GGUF files in several parts: one file of them, as transformers reads it. `runtime.models` calls it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gguf import GGUFReader, GGUFValueType, GGUFWriter

from serve import ServiceError

MAGIC = b"GGUF"
SPLIT = "split."
"""The keys that `gguf-split` writes into each of its files."""


def join_parts(parts: Sequence[Path], output: Path) -> None:
    """Write one GGUF file of its parts, in their order: pieces of one file, or the files of `gguf-split`.

    Pieces are put one after the other. Files of `gguf-split` have a head each: the first one holds the keys of the
    model, and all hold tensors. Raises `InvalidInput` where the first part is no GGUF file, or the parts are a mixture.
    """
    heads = [_head(part) == MAGIC for part in parts]
    if not heads[0]:
        raise ServiceError("InvalidInput", f"{parts[0]} does not begin as a GGUF file does; give its parts in order.")
    if all(heads):
        _merge(parts, output)
    elif any(heads[1:]):
        names = ", ".join(part.name for part, head in zip(parts, heads, strict=True) if head)
        raise ServiceError("InvalidInput", f"Several parts begin as GGUF files do, and others do not: {names}.")
    else:
        with output.open("wb") as whole:
            for part in parts:
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole, 1 << 20)


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(len(MAGIC))


def _merge(parts: Sequence[Path], output: Path) -> None:
    readers = [GGUFReader(part) for part in parts]
    numbers = [_split_key(reader, "no") for reader in readers]
    if len(parts) > 1 and (numbers != [*range(len(parts))] or _split_key(readers[0], "count") != len(parts)):
        said = _split_key(readers[0], "count")
        message = f"The parts say to be the numbers {numbers} of {said}; give all parts of one file, in their order."
        raise ServiceError("InvalidInput", message)
    architecture = readers[0].fields["general.architecture"].contents()
    writer = GGUFWriter(output, architecture)
    for name, field in readers[0].fields.items():
        # The writer adds the first two by itself.
        if name == "general.architecture" or name.startswith(("GGUF.", SPLIT)):
            continue
        kind = field.types[0]
        writer.add_key_value(
            name, field.contents(), kind, sub_type=field.types[-1] if kind == GGUFValueType.ARRAY else None
        )
    tensors = [tensor for reader in readers for tensor in reader.tensors]
    for tensor in tensors:
        writer.add_tensor_info(
            tensor.name, tensor.data.shape, tensor.data.dtype, tensor.data.nbytes, tensor.tensor_type
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(tensor.data)
    writer.close()


def _split_key(reader: GGUFReader, name: str) -> int | None:
    field = reader.fields.get(f"{SPLIT}{name}")
    return int(field.contents()) if field else None

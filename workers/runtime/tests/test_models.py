from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import weight_digests
from transformers import PreTrainedModel

from runtime import models
from runtime.models import check_model, import_model, load_policy, out_of_memory, warm_policy
from serve import Call, ServiceError


def files(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_an_imported_folder_is_canonical(micro_model: Path, tmp_path: Path, call: Call) -> None:
    result = import_model({"source": {"kind": "folder", "path": str(micro_model)}, "output": str(tmp_path / "a")}, call)
    import_model({"source": {"kind": "folder", "path": str(tmp_path / "a")}, "output": str(tmp_path / "b")}, call)
    assert result["architecture"] == "LlamaForCausalLM"
    assert result["parameters"] == pytest.approx(1e6, rel=0.15)
    assert weight_digests(tmp_path / "a") == weight_digests(micro_model)
    assert files(tmp_path / "a") == files(tmp_path / "b")
    assert b"/" not in (tmp_path / "a/config.json").read_bytes()  # no path of this machine


def test_a_source_is_looked_up_without_loading_it(micro_model: Path, call: Call) -> None:
    folder = {"kind": "folder", "path": str(micro_model)}
    assert check_model({"source": folder}, call) == {"architecture": "LlamaForCausalLM"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "folder", "path": "/nowhere"}, "there is no config.json"),
        ({"kind": "gguf", "package": "no_such_package", "file": "m.gguf"}, "No file m.gguf in the Python package"),
        ({"kind": "gguf", "package": "no.such.package", "file": "m.gguf"}, "No file m.gguf in the Python package"),
        ({"kind": "gguf", "package": "torch", "file": "m.gguf"}, "No file m.gguf in the Python package torch"),
    ],
)
def test_a_source_that_is_not_there_is_named(source: dict[str, str], message: str, call: Call) -> None:
    with pytest.raises(ServiceError, match=message) as error:
        check_model({"source": source}, call)
    assert error.value.type == "ModelNotFound"


def test_a_model_without_chat_template_is_refused(micro_model: Path, tmp_path: Path, call: Call) -> None:
    shutil.copytree(micro_model, tmp_path / "base")
    (tmp_path / "base/chat_template.jinja").unlink()
    with pytest.raises(ServiceError, match="no chat template") as error:
        import_model(
            {"source": {"kind": "folder", "path": str(tmp_path / "base")}, "output": str(tmp_path / "a")}, call
        )
    assert error.value.type == "InvalidInput"
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    "source",
    [
        {"kind": "gguf", "package": "no_such_package", "file": "model.gguf"},
        {"kind": "gguf", "package": "json", "file": "model.gguf"},
        {"kind": "folder", "path": "/nowhere"},
        {"kind": "hub", "id": "not a model id", "revision": "main"},
    ],
)
def test_a_missing_model_is_not_found(source: dict[str, str], tmp_path: Path, call: Call) -> None:
    with pytest.raises(ServiceError) as error:
        import_model({"source": source, "output": str(tmp_path / "a")}, call)
    assert error.value.type == "ModelNotFound"


def test_a_model_stays_warm_until_its_folder_is_replaced(micro_model: Path, tmp_path: Path) -> None:
    shutil.copytree(micro_model, tmp_path / "model")
    first, _ = warm_policy(str(tmp_path / "model"))
    assert warm_policy(str(tmp_path / "model"))[0] is first
    shutil.rmtree(tmp_path / "model")
    shutil.copytree(micro_model, tmp_path / "model", copy_function=shutil.copyfile)
    assert warm_policy(str(tmp_path / "model"))[0] is not first


def test_warm_models_leave_when_memory_is_short(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, _ = warm_policy(str(micro_model))
    monkeypatch.setattr(models, "_free_memory", lambda: 0)
    models.make_room(1)
    assert warm_policy(str(micro_model))[0] is not first


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("can't allocate memory: you tried 9"),
    ],
)
def test_out_of_memory_names_the_setting(error: RuntimeError) -> None:
    with pytest.raises(ServiceError, match="lower microBatch") as raised, out_of_memory("microBatch", 64):
        raise error
    assert raised.value.type == "OutOfMemory"


def test_a_model_that_does_not_fit_is_named(micro_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(PreTrainedModel, "to", full)
    with pytest.raises(ServiceError, match=f"Out of memory on cpu: {micro_model} does not fit") as raised:
        load_policy(str(micro_model))
    assert raised.value.type == "OutOfMemory"


def test_other_errors_pass(micro_model: Path) -> None:
    with pytest.raises(RuntimeError, match="shape"), out_of_memory("microBatch", 64):
        raise RuntimeError("shape mismatch")
    assert json.loads((micro_model / "config.json").read_text())["dtype"] == "float32"

"""Low-rank adapters (LoRA, arXiv 2106.09685): on a model, in a folder, and merged into the weights.

A linear layer with weight W computes W x + (alpha / rank) B A x. W stays as it is, and A and B are trained. A starts
with random values and B with zeros, so that fresh adapters change nothing. There is no dropout.

A folder of adapters is one of the library PEFT: the tensors, and a configuration that names the model below. Adapters
are put into the model itself, which keeps its class: checkpoints, optimizer and log-probabilities see an ordinary model
of which little is trainable. PEFT is imported where adapters are used, because the engine vLLM has not got it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedModel

from operations import MergeAdaptersParams, MergeAdaptersResult, PolicyAdapters
from runtime.checkpoints import trainable_parameters
from runtime.files import new_folder
from runtime.models import load_policy, save_model
from runtime.parallel import collect
from runtime.processes import RANK
from serve import Call, ServiceError

if TYPE_CHECKING:
    from peft import LoraConfig

ADAPTERS_FILE = "adapter_model.safetensors"
CONFIG_FILE = "adapter_config.json"
ALL_LINEAR = "all-linear"
"""PEFT's word for every linear layer but the output head."""
_NAME, _PREFIX = "default", "base_model.model."
"""How PEFT names adapters inside a model, and what it puts before their names in a file."""


def adapters_config(lora: Mapping[str, Any], **more: Any) -> LoraConfig:
    """PEFT's configuration of `lora` = {rank, alpha, targetModules? (null: all linear layers but the output head)}."""
    from peft import LoraConfig

    return LoraConfig(
        r=lora["rank"], lora_alpha=lora["alpha"], target_modules=lora.get("targetModules") or ALL_LINEAR, **more
    )


def add_adapters(model: PreTrainedModel, lora: Mapping[str, Any], seed: int) -> None:
    """Put fresh adapters into `model`, which alone are trainable then; random values follow from `seed`.

    Raises `InvalidInput` for target modules that the model has not got.
    """
    from peft import inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            # Drawn on the CPU, wherever the model is, so that every device has the same.
            inject_adapter_in_model(adapters_config(lora), model)
        except ValueError as error:
            message = f"algorithm.lora.targetModules: {str(error).splitlines()[0]}"
            raise ServiceError("InvalidInput", message) from error


def load_adapters(model: PreTrainedModel, folder: str) -> None:
    """Put the adapters of a folder into `model`. Raises `InvalidInput` for another model's, or no such folder."""
    from peft import LoraConfig, inject_adapter_in_model

    tensors = _tensors(folder)
    config: dict[str, Any] = json.loads(Path(folder, CONFIG_FILE).read_text())
    inject_adapter_in_model(LoraConfig(**{**config, "inference_mode": False}), model)
    parameters = trainable_parameters(model)
    if {_stored(name) for name in parameters} != tensors.keys():
        raise ServiceError("InvalidInput", f"The adapters in {folder} are of another model than the one below them.")
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[_stored(name)])


@contextmanager
def adapted(model: PreTrainedModel, folder: str | None) -> Iterator[None]:
    """Have `model` carry the adapters of a folder within the block; None: it stays as it is."""
    if folder is None:
        yield
        return
    try:
        load_adapters(model, folder)
        yield
    finally:
        _take_off(model)


@contextmanager
def switched_off(model: PreTrainedModel) -> Iterator[None]:
    """Have `model` compute as the model below its adapters within the block."""
    layers = list(_layers(model).values())
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def save_adapters(model: PreTrainedModel, lora: PolicyAdapters, output: str) -> None:
    """Write the adapters of `model` as a folder that PEFT loads, by rank 0; `lora.base` names the model below."""
    tensors = collect({_stored(name): p for name, p in sorted(trainable_parameters(model).items())})
    if RANK != 0:
        return
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": lora["base"],
        "r": lora["rank"],
        "lora_alpha": lora["alpha"],
        "target_modules": lora.get("targetModules") or ALL_LINEAR,
        "lora_dropout": 0.0,
        "inference_mode": True,
    }
    with new_folder(output) as folder:
        save_file(tensors, folder / ADAPTERS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")


def merge_adapters(params: MergeAdaptersParams, call: Call) -> MergeAdaptersResult:
    """Write the model of folder `model` with the adapters of folder `adapter` added to its weights, in float32.

    Result: {architecture, parameters} of the whole model. Errors: `InvalidInput`, `ModelNotFound`, `OutOfMemory`.
    """
    call.progress(0, 2, "loading")
    model, tokenizer = load_policy(params["model"])
    load_adapters(model, params["adapter"])
    with torch.no_grad():
        for layer in _layers(model).values():
            layer.merge()
    _take_off(model)
    call.raise_if_cancelled()
    call.progress(1, 2, "saving")
    about = save_model(model, tokenizer, params["output"])
    return {"architecture": about["architecture"], "parameters": about["parameters"]}


def _layers(model: nn.Module) -> dict[str, Any]:
    """The layers with adapters, by their names."""
    from peft.tuners.lora import LoraLayer

    return {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}


def _take_off(model: PreTrainedModel) -> None:
    """Give `model` its own layers back."""
    for name, layer in _layers(model).items():
        model.set_submodule(name, layer.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config


def _stored(name: str) -> str:
    """Name of a parameter in a file of adapters."""
    return _PREFIX + name.replace(f".{_NAME}.", ".")


def _tensors(folder: str) -> dict[str, torch.Tensor]:
    if not (path := Path(folder, ADAPTERS_FILE)).is_file():
        raise ServiceError("InvalidInput", f"There is no {path}; the folder of adapters is incomplete.")
    return load_file(path)

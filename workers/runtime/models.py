"""Model folders: importing, loading, keeping warm, freezing and writing them.

A model folder is a Hugging Face folder with configuration, float32 safetensors, tokenizer and chat template. Weights
are cut into shards of one decoder block, so that blocks a training leaves alone keep their files' content, and a store
that addresses files by content keeps them once.
"""

from __future__ import annotations

import gc
import importlib.util
import os
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from operations import (
    CheckModelParams,
    CheckModelResult,
    ImportedModelSource,
    ImportModelParams,
    ImportModelResult,
    ReleaseModelsParams,
    ReleaseModelsResult,
)
from runtime.files import new_folder
from runtime.parallel import collect, shard
from runtime.processes import RANK
from serve import Call, ServiceError

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
IN_BFLOAT16 = DEVICE.type == "cuda" or os.environ.get("ACECODER_CPU_DTYPE") == "bfloat16"
"""Whether models compute in bfloat16, training over float32 weights. Most CPUs are slower in it; some are faster."""
INFERENCE_DTYPE = torch.bfloat16 if IN_BFLOAT16 else torch.float32
_AUTOCAST = torch.bfloat16 if IN_BFLOAT16 else None
"""The type in which `autocast` computes; None: it does nothing."""
WARM_MODELS = 2
OUT_OF_MEMORY_SIGNS = ("out of memory", "can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""In the messages of the allocators of CUDA and CPU, of a kernel that cannot be loaded, and of cuBLAS."""
HEADS_WITH_BIAS = ("v_head.summary.", "score.")
SCORE_SCALE_FILE = "acecoder_score_scale.json"
"""What every reward model that was trained here has next to its weights."""

Loaded = tuple[PreTrainedModel, PreTrainedTokenizerBase]
# Size and time of a folder's weight files: a folder may be replaced under the same path.
Stamp = tuple[tuple[str, int, int], ...]
_warm: OrderedDict[tuple[str, str, Stamp], Loaded] = OrderedDict()


def make_deterministic(threads: int) -> None:
    """Fix what torch would otherwise choose by itself; to be called before the first use of a GPU.

    Operations that have no deterministic implementation on a GPU warn, and run all the same.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS is deterministic only with a fixed workspace
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    # It costs time and serves debugging only.
    # pyright: ignore below, because the attribute is a property of the module's own class.
    torch.utils.deterministic.fill_uninitialized_memory = False  # pyright: ignore[reportAttributeAccessIssue]


@contextmanager
def deterministic() -> Iterator[None]:
    """Have operations without a deterministic implementation fail within the block, where training needs none of them.

    The gradient of torch's attention on a GPU asks for this: where it is only warned, the sums over blocks of keys come
    in any order, and trainings on conversations of more than one block differ in their last bits.
    """
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=True)


# -- Loading ----------------------------------------------------------------------------------------------------------


def warm_policy(path: str, dtype: torch.dtype = INFERENCE_DTYPE) -> Loaded:
    """The causal LM in folder `path` for inference, kept in memory for the next call."""
    return _keep_warm(path, f"policy {dtype}", lambda: load_policy(path, dtype))


def warm_reward_model(path: str) -> Loaded:
    """The reward model in folder `path` for inference, kept in memory for the next call."""
    return _keep_warm(path, "reward", lambda: load_reward_model(path, INFERENCE_DTYPE))


def load_policy(
    path: str, dtype: torch.dtype = torch.float32, upper_layers: int | None = None, sharding: str = "none"
) -> Loaded:
    """A causal LM that the caller may train, in evaluation mode. Raises `ModelNotFound`.

    `upper_layers` as `train_upper_layers` has it. With `sharding` other than "none" the processes of this runtime share
    the model, as `parallel.shard` does it.
    """
    model, tokenizer = _load(AutoModelForCausalLM, path, dtype)
    return _place(model, upper_layers, sharding, _AUTOCAST), tokenizer


def load_reward_model(
    path: str, dtype: torch.dtype = torch.float32, upper_layers: int | None = None, sharding: str = "none"
) -> Loaded:
    """A sequence classifier with one output; a causal LM's folder gets a fresh score head from torch's global seed.

    The head computes in float32. One with a bias is kept: the published AceCodeRM checkpoints hold one, by
    LLaMA-Factory's name `v_head.summary`.
    `upper_layers` and `sharding` as in `load_policy`.
    """
    model, tokenizer = _load(AutoModelForSequenceClassification, path, dtype, num_labels=1)
    model.score = ScoreHead(_head_with_bias(Path(path)) or model.score).eval()
    return _place(model, upper_layers, sharding), tokenizer


def has_own_conversations(path: str) -> bool:
    """Whether the model in folder `path` is a reward model that others trained, on conversations by its own template.

    Such are the published AceCodeRM checkpoints: Qwen's template ends an answer with the end of turn and a line break,
    at which they learnt to score. What was trained here has its own template or, before that, its prompts.
    """
    folder = Path(path)
    if (folder / SCORE_SCALE_FILE).is_file():
        return False
    architectures = AutoConfig.from_pretrained(path, local_files_only=True).architectures or []
    return any("SequenceClassification" in name for name in architectures) or _head_with_bias(folder) is not None


class ScoreHead(nn.Linear):
    """A score head that computes in float32, whatever the model below it and autocast do.

    In bfloat16 near-equal programs get equal scores: of 64 that differed in one constant, 13 were ties.
    """

    def __init__(self, head: Any) -> None:
        with torch.random.fork_rng(devices=[]):  # what is drawn here would change all that the seed gives later
            super().__init__(head.in_features, head.out_features, head.bias is not None)
        self.load_state_dict({name: tensor.float() for name, tensor in head.state_dict().items()})

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        with torch.autocast(input.device.type, enabled=False):
            return super().forward(input.float())


def as_used(model: PreTrainedModel) -> PreTrainedModel:
    """A reward model that was trained here, in the arithmetic in which `warm_reward_model` scores with it."""
    used: Any = model
    used.to(INFERENCE_DTYPE)
    used.score.float()
    return model


def make_room(bytes_needed: int) -> None:
    """Drop warm models, the longest unused first, until `bytes_needed` of memory are free or none is left."""
    while _warm and _free_memory() < bytes_needed:
        _warm.popitem(last=False)
        if DEVICE.type == "cuda":
            torch.cuda.empty_cache()


def weights_stamp(path: str) -> Stamp:
    """What tells whether the weights in folder `path` are those of before. Raises `ModelNotFound`."""
    return tuple((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in _weight_files(path))


def release_models(params: ReleaseModelsParams, call: Call) -> ReleaseModelsResult:
    """Drop all warm models, so that another process has the device's memory. params: none. Result: {}."""
    _warm.clear()
    if DEVICE.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
    return {}


def _keep_warm(path: str, role: str, load: Any) -> Loaded:
    key = (path, role, weights_stamp(path))
    if key not in _warm:
        while len(_warm) >= WARM_MODELS:
            _warm.popitem(last=False)
        _warm[key] = load()
    _warm.move_to_end(key)
    return _warm[key]


def _load(auto_class: Any, path: str, dtype: torch.dtype, **config: Any) -> Loaded:
    # Reading needs the weights once more while they are converted.
    make_room(2 * sum(file.stat().st_size for file in _weight_files(path)))
    model = auto_class.from_pretrained(path, dtype=dtype, local_files_only=True, **config)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    return model.eval(), tokenizer


def _place(
    model: Any, upper_layers: int | None, sharding: str, computed_in: torch.dtype | None = None
) -> PreTrainedModel:
    """Put a model onto the device, or its shards onto those of all processes, which must know what is trained."""
    train_upper_layers(model, upper_layers)
    try:
        if sharding == "none":
            return model.to(DEVICE)
        make_room(sys.maxsize)  # a model is sharded because memory is short
        shard(model, decoder_blocks(model), computed_in)
        return model
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        message = f"Out of memory on {DEVICE.type}: {model.name_or_path} does not fit; use devices with more memory."
        raise ServiceError("OutOfMemory", message) from error


def _weight_files(path: str) -> list[Path]:
    if Path(path, "adapter_config.json").is_file():
        raise ServiceError(
            "ModelNotFound",
            f"{path} holds adapters and no whole model: take the policy that the stage of RL ended with, into which "
            "the last ones are merged.",
        )
    if not Path(path, "config.json").is_file():
        raise ServiceError(
            "ModelNotFound", f"No model folder at {path}: there is no config.json; import the model first."
        )
    if not (files := sorted(Path(path).glob("*.safetensors"))):
        raise ServiceError("ModelNotFound", f"The model folder {path} holds no *.safetensors weights.")
    return files


def _head_with_bias(folder: Path) -> nn.Linear | None:
    """The score head of a model folder's weights, where it has a bias; transformers' own classifiers have none."""
    tensors = {}
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as weights:
            names = [name for name in weights.keys() if name.startswith(HEADS_WITH_BIAS)]  # noqa: SIM118 - not a dict
            tensors |= {name.rsplit(".", 1)[1]: weights.get_tensor(name) for name in names}
    if "bias" not in tensors:
        return None
    head = nn.Linear(tensors["weight"].shape[1], 1)
    head.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    return head


def _free_memory() -> int:
    return torch.cuda.mem_get_info()[0] if DEVICE.type == "cuda" else psutil.virtual_memory().available


# -- Structure --------------------------------------------------------------------------------------------------------


def decoder_blocks(model: PreTrainedModel) -> nn.ModuleList:
    """The model's decoder blocks, lowest first."""
    return next(child for child in model.base_model.children() if isinstance(child, nn.ModuleList))


def recompute_blocks(model: PreTrainedModel) -> None:
    """Have the backward pass compute each decoder block again from its input, the one thing that is kept of it.

    It is less memory for more time, and the same bits. Transformers' own way needs a model in training mode, which
    would switch dropout on. A sharded block is whole both times that it computes.
    """
    for block in decoder_blocks(model):
        again: Any = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
        block.forward = again


def train_upper_layers(model: PreTrainedModel, upper_layers: int | None) -> None:
    """Leave only the top `upper_layers` blocks, what follows them and an untied output head trainable; None means all.

    Autograd builds no graph below the lowest trainable block, so frozen blocks cost a forward pass only. Raises
    `InvalidInput` when the model has fewer blocks.
    """
    if upper_layers is None:
        return
    blocks = decoder_blocks(model)
    if not 1 <= upper_layers <= len(blocks):
        raise ServiceError("InvalidInput", f"upperLayers is {upper_layers}; the model has {len(blocks)} blocks.")
    model.requires_grad_(False)
    body = list(model.base_model.children())
    after_blocks = body[next(index for index, child in enumerate(body) if child is blocks) + 1 :]
    heads = [child for child in model.children() if child is not model.base_model]
    for module in (*blocks[-upper_layers:], *after_blocks, *heads):
        module.requires_grad_(True)
    # A tied output head is the embedding of the frozen bottom.
    model.get_input_embeddings().requires_grad_(False)


def autocast() -> AbstractContextManager[Any]:
    """bfloat16 arithmetic over float32 weights where `IN_BFLOAT16` says so; else nothing."""
    return torch.autocast(DEVICE.type, _AUTOCAST) if _AUTOCAST else nullcontext()


@contextmanager
def out_of_memory(setting: str, value: int) -> Iterator[None]:
    """Turn torch's out-of-memory errors into `OutOfMemory`, naming the execution setting to lower."""
    try:
        yield
    except RuntimeError as error:
        if not _is_out_of_memory(error):
            raise
        message = f"Out of memory on {DEVICE.type} with {setting} {value}; lower {setting}."
        raise ServiceError("OutOfMemory", message) from error


def _is_out_of_memory(error: RuntimeError) -> bool:
    return any(sign in str(error) for sign in OUT_OF_MEMORY_SIGNS)


# -- Writing and importing --------------------------------------------------------------------------------------------


def save_model(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, output: str) -> ImportModelResult:
    """Write a model folder, by rank 0 where several processes have the model; returns {architecture, parameters}."""
    architecture = type(model).__name__.removeprefix("FSDP")  # which `fully_shard` puts before
    about: ImportModelResult = {"architecture": architecture, "parameters": sum(p.numel() for p in model.parameters())}
    # The order of a model's own state depends on how it was made; shards are cut from names in a fixed order.
    state = collect(dict(sorted(model.state_dict(keep_vars=True).items())))
    if RANK != 0:
        return about
    for how_it_was_loaded in ("is_local", "local_files_only", "name_or_path"):
        tokenizer.init_kwargs.pop(how_it_was_loaded, None)
    block_bytes = max(sum(p.numel() * p.element_size() for p in block.parameters()) for block in decoder_blocks(model))
    with new_folder(output) as folder:
        model.save_pretrained(folder, state_dict=state, max_shard_size=block_bytes)
        tokenizer.save_pretrained(folder)
    return about


def check_model(params: CheckModelParams, call: Call) -> CheckModelResult:
    """Look a model source up without loading weights; of a hub model, only its configuration is fetched.

    params: source as of `import_model`. Result: {architecture}. Errors: `ModelNotFound`; `InvalidInput` for an unknown
    kind.
    """
    name, options = _locate(params["source"])
    if "gguf_file" in options:
        return {"architecture": None}
    try:
        config = AutoConfig.from_pretrained(name, **options)
    except (OSError, ValueError) as error:
        raise _not_found(name, error) from error
    return {"architecture": (config.architectures or [None])[0]}


def import_model(params: ImportModelParams, call: Call) -> ImportModelResult:
    """Materialise a model of any source into the canonical folder `output`.

    params: source = {kind: "gguf", package, file} (a GGUF file inside an installed Python package) | {kind: "ggufFile",
    paths} (a GGUF file, or its parts in their order) | {kind: "hub", id, revision} | {kind: "folder", path}; output.
    Result: {architecture, parameters}. Errors: `ModelNotFound`; `InvalidInput` for an unknown kind, parts that make no
    file, or a model without a chat template.
    """
    source = params["source"]
    call.progress(0, 2, "loading")
    with _whole(source, Path(params["output"]).parent) as (name, options):
        model, tokenizer = _from_pretrained(name, **options)
    if not tokenizer.chat_template:
        raise ServiceError("InvalidInput", f"The model of {source} has no chat template; use an instruction-tuned one.")
    call.raise_if_cancelled()
    call.progress(1, 2, "saving")
    return save_model(model, tokenizer, params["output"])


@contextmanager
def _whole(source: ImportedModelSource, folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """As `_locate`; a file in several parts is joined, in a room of `folder` that is there as long as the block."""
    name, options = _locate(source)
    if source["kind"] != "ggufFile" or len(source["paths"]) == 1:
        yield name, options
        return
    # The environments of the vLLM engine, which has its device and its errors from this module, are without gguf.
    from runtime.gguf_parts import join_parts

    with tempfile.TemporaryDirectory(prefix="gguf-", dir=folder) as room:
        join_parts([Path(part) for part in source["paths"]], Path(room, "model.gguf"))
        yield room, {"gguf_file": "model.gguf"}


def _locate(source: ImportedModelSource) -> tuple[str, dict[str, Any]]:
    """Name and options by which transformers loads a source. Raises `ModelNotFound` for what is not on this host."""
    if source["kind"] == "gguf":
        try:
            spec = importlib.util.find_spec(source["package"])
        except (ImportError, ValueError):
            spec = None
        location = spec.submodule_search_locations[0] if spec and spec.submodule_search_locations else None
        if location is None or not Path(location, source["file"]).is_file():
            message = f"No file {source['file']} in the Python package {source['package']}; install the package."
            raise ServiceError("ModelNotFound", message)
        return location, {"gguf_file": source["file"]}
    if source["kind"] == "ggufFile":
        if missing := [path for path in source["paths"] if not Path(path).is_file()]:
            raise ServiceError("ModelNotFound", f"There is no file {missing[0]}.")
        first = Path(source["paths"][0])
        return str(first.parent), {"gguf_file": first.name}
    if source["kind"] == "hub":
        return source["id"], {"revision": source["revision"]}
    if source["kind"] == "folder":
        _weight_files(source["path"])
        return source["path"], {"local_files_only": True}
    raise ServiceError(
        "InvalidInput", f"Unknown model source '{source['kind']}'; known are gguf, ggufFile, hub, folder."
    )


def _not_found(name: str, error: Exception) -> ServiceError:
    return ServiceError("ModelNotFound", f"Cannot load {name}: {str(error).splitlines()[0]}")


def _from_pretrained(name: str, **options: Any) -> Loaded:
    try:
        config = AutoConfig.from_pretrained(name, **options)
        classifier = any("SequenceClassification" in name for name in config.architectures or [])
        auto_class = AutoModelForSequenceClassification if classifier else AutoModelForCausalLM
        loaded = auto_class.from_pretrained(name, dtype=torch.float32, **options)
        if "gguf_file" not in options:
            folder = name if Path(name).is_dir() else snapshot_download(name, local_files_only=True, **options)
            if head := _head_with_bias(Path(folder)):
                reward_class = AutoModelForSequenceClassification
                loaded = reward_class.from_pretrained(folder, dtype=torch.float32, num_labels=1, local_files_only=True)
                loaded.score = head
        tokenizer = AutoTokenizer.from_pretrained(name, **options)
    except OSError as error:
        raise _not_found(name, error) from error
    if "gguf_file" not in options:
        return loaded.eval(), tokenizer
    # A model read from GGUF refuses to be saved; a fresh one of its configuration without the quantization does not.
    config: Any = loaded.config
    del config.quantization_config
    model = auto_class.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model.eval(), tokenizer

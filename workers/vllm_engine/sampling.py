"""Sampling by vLLM (0.33 on GPUs, 0.32 on CPUs), its offline `LLM` with token-id prompts.

Requests and answers are as in `runtime/samples.py`. Texts differ from those of the transformers engine, because vLLM
has its own generators. Each sample is a request with the sample's seed; where it ends and what its text is, the same
code decides as there.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from pydantic import ValidationError
from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from vllm import LLM, SamplingParams
from vllm.distributed import cleanup_dist_env_and_memory

from operations import SampleParams, SampleProgress, SampleResult
from runtime.models import DEVICE, INFERENCE_DTYPE, Stamp, out_of_memory, weights_stamp
from runtime.samples import Endings, Sample, read_samples, write_samples
from serve import Call, ServiceError
from vllm_engine.engines import Engines, division, end_group, engines_asked, environments

# The rest is for what the model runtime's process holds without a model.
DEVICE_MEMORY_SHARE = 0.85
# On a CPU, where a share would be one of the host's whole memory. A row of 32,768 tokens of a 7B model with 28 layers
# and 4 key-value heads of 128 needs 3.5 GiB in float32. vLLM itself prefers VLLM_CPU_KVCACHE_SPACE, in GiB.
CPU_CACHE_BYTES = 4 * 2**30

# The one engine of the process, with what it was made of; asleep between calls, its weights in the host's memory.
_warm: tuple[tuple[str, Stamp, int], LLM] | None = None
# Engines in processes of their own, in the place of `_warm`.
_group: Engines | None = None


def sample(params: SampleParams, call: Call) -> SampleResult:
    """Sample programs for the requests of a file; `maxRows` is how many each engine has in work at once.

    Raises `InvalidInput` for log-probabilities of a cut nucleus, which vLLM gives after the cut only.
    """
    path = params["model"]
    stamp = weights_stamp(path)
    tokenizer = AutoTokenizer.from_pretrained(path, local_files_only=True)
    config = AutoConfig.from_pretrained(path, local_files_only=True)
    samples = read_samples(params, tokenizer, config)
    if params.get("logProbs") and (cut := [row for row in samples if row.request["topP"] < 1]):
        raise ServiceError(
            "InvalidInput",
            f"Request {cut[0].request['id']} has topP {cut[0].request['topP']} and wants log-probabilities, which the "
            "engine vllm gives for topP 1 only; set topP to 1 or use the engine transformers.",
        )
    # What has ended before it began needs no model.
    open_rows = [row for row in samples if row.finish is None]
    engines, size = _division(config.get_text_config())
    if engines > 1:
        return _several(engines, size).sample(params, len(open_rows), call)
    endings = Endings(_generation_config(path, config), tokenizer)
    with out_of_memory("maxRows", params["maxRows"]), _engine(path, stamp, params["maxRows"]) as llm:
        ids = llm.enqueue(
            [{"prompt_token_ids": row.prompt} for row in open_rows],
            [_sampling_params(row, endings, params.get("logProbs", False)) for row in open_rows],
            use_tqdm=False,
        )
        outputs = []
        tokens = 0
        try:
            while llm.llm_engine.has_unfinished_requests():
                call.raise_if_cancelled()
                for output in llm.llm_engine.step():
                    outputs.append(output)
                    tokens += len(output.outputs[0].token_ids)
                    metrics: SampleProgress = {"tokens": tokens}
                    call.progress(len(outputs), len(open_rows), "sampling", metrics)
        except ServiceError:
            llm.llm_engine.abort_request(ids, internal=True)
            raise
    # vLLM numbers requests as they come.
    outputs.sort(key=lambda output: int(output.request_id))
    for row, output in zip(open_rows, outputs, strict=True):
        _complete(row, output.outputs[0], endings)
    return write_samples(params, samples)


def _sampling_params(row: Sample, endings: Endings, log_probs: bool) -> SamplingParams:
    request = row.request
    return SamplingParams(
        temperature=request["temperature"],
        top_p=request["topP"],
        seed=row.seed,
        max_tokens=request["maxNewTokens"],
        stop=request["stop"],
        stop_token_ids=sorted(endings.tokens),
        # Its own choice of ends is not asked; all of ours are named above.
        ignore_eos=True,
        # Stop strings are looked for in the text of all tokens, as `Sample.append` does.
        skip_special_tokens=False,
        logprobs=0 if log_probs else None,
    )


def _complete(row: Sample, completion: Any, endings: Endings) -> None:
    """Put what vLLM emitted into the row. Raises `RuntimeError` where vLLM and `Sample.append` end it at two places."""
    for token in completion.token_ids:
        row.append(token, endings)
        if row.finish:
            break
    if row.finish != completion.finish_reason or len(row.ids) != len(completion.token_ids):
        raise RuntimeError(
            f"Sample {row.index} of {row.request['id']}: vLLM ended it by {completion.finish_reason!r} after "
            f"{len(completion.token_ids)} tokens, its text ends by {row.finish!r} after {len(row.ids)}."
        )
    if completion.logprobs is not None:
        row.log_probs = [round(at[token].logprob, 6) for token, at in zip(row.ids, completion.logprobs, strict=True)]


def _generation_config(path: str, config: Any) -> GenerationConfig:
    try:
        return GenerationConfig.from_pretrained(path, local_files_only=True)
    except OSError:
        return GenerationConfig.from_model_config(config)


@contextmanager
def _engine(path: str, stamp: Stamp, max_rows: int) -> Iterator[LLM]:
    """The engine for the model in folder `path`, awake; after an error other than ours it is given up."""
    global _warm
    key = (path, stamp, max_rows)
    is_asleep = _warm is not None and _warm[0] == key
    if _warm is not None and is_asleep:
        llm = _warm[1]
    else:
        _drop()
        llm = _load(path, max_rows)
        _warm = (key, llm)
    try:
        if is_asleep:
            llm.wake_up()
        yield llm
    except ServiceError:
        llm.sleep(level=1)
        raise
    except BaseException:
        del llm
        _drop()
        raise
    llm.sleep(level=1)


def _division(config: Any) -> tuple[int, int]:
    """Engines for a model with this configuration, and the devices of each; on a CPU one engine unless told."""
    devices = torch.cuda.device_count() if DEVICE.type == "cuda" else 0
    asked = engines_asked(devices)
    return division(config, devices, asked) if devices else (asked or 1, 1)


def _several(engines: int, size: int) -> Engines:
    """That many engines of `size` devices each, started where they do not run yet."""
    global _group
    wanted = environments(engines, size, torch.get_num_threads(), DEVICE.type == "cuda")
    if _group is None or _group.started_as != wanted:
        _drop()
        _say_idle(engines * size)
        _group = Engines(wanted, end_group)
    return _group


def _say_idle(used: int) -> None:
    devices = torch.cuda.device_count() if DEVICE.type == "cuda" else used
    if used < devices:
        message = f"The heads of the model go onto {used} of {devices} devices; the others stay idle."
        print(message, file=sys.stderr, flush=True)


def _load(path: str, max_rows: int) -> LLM:
    config: Any = AutoConfig.from_pretrained(path, local_files_only=True).get_text_config()
    _, size = _division(config)
    _say_idle(size)
    try:
        return LLM(
            model=path,
            dtype=str(INFERENCE_DTYPE).removeprefix("torch."),
            tensor_parallel_size=size,
            # That of `read_samples`, and not a smaller one of the tokenizer, by which vLLM would refuse a whole file.
            max_model_len=config.max_position_embeddings,
            max_num_seqs=max_rows,
            # Of logits / temperature; the default mode gives those of the logits.
            logprobs_mode="processed_logprobs",
            **_device_options(),
        )
    except ValidationError:
        raise  # a ValueError, which quotes its input
    except ValueError as error:
        # vLLM refuses by this error a device that has less memory free than it is to use, or than one row needs.
        if "memory" not in str(error):
            raise
        raise ServiceError("OutOfMemory", f"vLLM: {str(error).splitlines()[0]} {_ROOM}") from error


def _device_options() -> dict[str, Any]:
    """Arguments of `LLM` that differ between devices."""
    if DEVICE.type == "cuda":
        return {"gpu_memory_utilization": DEVICE_MEMORY_SHARE, "enable_sleep_mode": True}
    return {
        "kv_cache_memory_bytes": CPU_CACHE_BYTES,
        # Where a step's budget of tokens cuts a prompt, vLLM 0.32 rewinds the generator of a seeded row by a call that
        # only those of CUDA have.
        "enable_chunked_prefill": False,
        # Compiled, a first load takes minutes.
        "enforce_eager": True,
    }


_ROOM = (
    "End what else uses the device, or give its worker a larger one."
    if DEVICE.type == "cuda"
    else "Lower VLLM_CPU_KVCACHE_SPACE (GiB, 4 unless told) in the GPU worker's environment, or raise it where one row "
    "does not fit."
)
"""What to do where memory is short."""


def _drop() -> None:
    global _group, _warm
    if _group is not None:
        _group.close()
        _group = None
    if _warm is None:
        return
    _warm = None
    gc.collect()
    cleanup_dist_env_and_memory()

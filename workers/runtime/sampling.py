"""Batched sampling of programs with a key-value cache.

Each prompt is read once, and its cache is copied for the prompt's samples. Rows that end leave the batch. A row draws
its tokens by inverse CDF from a stream of uniforms with the row's own seed, so its randomness does not depend on its
neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from transformers import DynamicCache, PreTrainedModel

from operations import SampleParams, SampleProgress, SampleResult
from runtime.adapters import adapted
from runtime.models import DEVICE, out_of_memory, warm_policy
from runtime.parallel import gather_rows, shares
from runtime.processes import RANK
from runtime.samples import Endings, Sample, read_samples, write_samples
from serve import Call, Cancelled

NUCLEUS_CANDIDATES = 256


def sample(params: SampleParams, call: Call) -> SampleResult:
    """Sample programs for the requests of a file: `runtime/samples.py` has the form of requests and answers.

    Batches are cut from the requests ordered by prompt length, which keeps padding small; they depend on the requests
    and `maxRows` only, and are dealt out to the processes as they are.
    """
    model, tokenizer = warm_policy(params["model"])
    samples = read_samples(params, tokenizer, model.config)
    endings = Endings(model.generation_config, tokenizer)
    # What has ended before it began needs no model.
    open_rows = [index for index, row in enumerate(samples) if row.finish is None]
    ordered = sorted(open_rows, key=lambda index: len(samples[index].prompt))
    batches = [ordered[start : start + params["maxRows"]] for start in range(0, len(ordered), params["maxRows"])]
    own = [batch for batch, counts in shares(batches) if counts]
    total, done, tokens = sum(map(len, own)), 0, 0
    finished: list[tuple[int, Sample]] | None
    try:
        # The model below stays warm and plain: the next call may come with other adapters.
        with torch.inference_mode(), out_of_memory("maxRows", params["maxRows"]), adapted(model, params.get("adapter")):
            for batch in own:
                rows = [samples[index] for index in batch]
                for row in _generate(model, endings, rows, call, params.get("logProbs", False)):
                    done += 1
                    tokens += len(row.ids)
                    metrics: SampleProgress = {"tokens": tokens}
                    call.progress(done, total, "sampling", metrics)
        finished = [(index, samples[index]) for batch in own for index in batch]
    except Cancelled:
        finished = None
    for rows in gather_rows(finished):
        for index, row in rows:
            samples[index] = row
    # The result is that of rank 0.
    return write_samples(params, samples) if RANK == 0 else {"rows": 0, "tokens": 0}


def _uniforms(row: Sample) -> np.ndarray:
    """Float32 uniforms in [0, 1), one a token; shape [maxNewTokens]."""
    generator = np.random.Generator(np.random.PCG64(row.seed))
    return generator.random(row.request["maxNewTokens"], dtype=np.float32)


def _generate(
    model: PreTrainedModel, endings: Endings, batch: list[Sample], call: Call, log_probs: bool = False
) -> Iterator[Sample]:
    """Complete `batch` in place and yield each row as it ends. Shapes: Q prompts, R rows, T positions, V vocabulary."""
    # Rows of one request share the object, so identity finds a batch's distinct prompts.
    prompts = list({id(row.prompt): row.prompt for row in batch}.values())
    prompt_of_row = {id(prompt): index for index, prompt in enumerate(prompts)}
    row_to_prompt_R = torch.tensor([prompt_of_row[id(row.prompt)] for row in batch], device=DEVICE)
    width = max(map(len, prompts))
    ids_QT = torch.tensor([[0] * (width - len(prompt)) + prompt for prompt in prompts], device=DEVICE)
    mask_QT = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=DEVICE)
    cache = DynamicCache(config=model.config)
    position_QT = (mask_QT.cumsum(-1) - 1).clamp(min=0)
    output = model(
        input_ids=ids_QT, attention_mask=mask_QT, position_ids=position_QT, past_key_values=cache, logits_to_keep=1
    )
    cache.batch_select_indices(row_to_prompt_R)
    logits_RV = output.logits[row_to_prompt_R, -1]
    mask_RT = mask_QT[row_to_prompt_R]
    temperature_R = torch.tensor([float(row.request["temperature"]) for row in batch], device=DEVICE)
    top_p_R = torch.tensor([float(row.request["topP"]) for row in batch], device=DEVICE)
    length = max(row.request["maxNewTokens"] for row in batch)
    uniform_RN = torch.tensor(np.stack([np.pad(u, (0, length - len(u))) for u in map(_uniforms, batch)]), device=DEVICE)
    alive = batch
    for step in range(length):
        call.raise_if_cancelled()
        token_R = choose_tokens(logits_RV.float(), temperature_R, top_p_R, uniform_RN[:, step])
        if log_probs:
            for row, log_prob in zip(alive, _log_probs(logits_RV, token_R, temperature_R), strict=True):
                row.log_probs.append(log_prob)
        for row, token in zip(alive, token_R.tolist(), strict=True):
            row.append(token, endings)
        yield from (row for row in alive if row.finish)
        keep = [index for index, row in enumerate(alive) if not row.finish]
        if not keep:
            return
        if len(keep) < len(alive):
            keep_R = torch.tensor(keep, device=DEVICE)
            cache.batch_select_indices(keep_R)
            alive = [alive[index] for index in keep]
            token_R, mask_RT, uniform_RN = token_R[keep_R], mask_RT[keep_R], uniform_RN[keep_R]
            temperature_R, top_p_R = temperature_R[keep_R], top_p_R[keep_R]
        mask_RT = torch.cat([mask_RT, mask_RT.new_ones(len(alive), 1)], dim=1)
        position_R1 = mask_RT.sum(-1, keepdim=True) - 1
        output = model(
            input_ids=token_R[:, None], attention_mask=mask_RT, position_ids=position_R1, past_key_values=cache
        )
        logits_RV = output.logits[:, -1]


def choose_tokens(
    logits_RV: torch.Tensor, temperature_R: torch.Tensor, top_p_R: torch.Tensor, uniform_R: torch.Tensor
) -> torch.Tensor:
    """Token ids, shape [R]: the arg max where the temperature is 0, else inverse-CDF samples of the nucleus.

    The nucleus (Holtzman et al., arXiv 1904.09751, section 3.1) is the smallest set of most likely tokens whose
    probability reaches `top_p_R`; at 1 it is the whole vocabulary, taken in vocabulary order. All inputs are float32;
    `uniform_R` lies in [0, 1).
    """
    token_R = logits_RV.argmax(-1)
    sampled = (temperature_R > 0).nonzero().squeeze(-1)
    if not len(sampled):
        return token_R
    probability_SV = (logits_RV[sampled] / temperature_R[sampled, None]).softmax(-1)
    for top_p in top_p_R[sampled].unique().tolist():
        rows = (top_p_R[sampled] == top_p).nonzero().squeeze(-1)
        draw = _inverse_cdf if top_p >= 1 else partial(_draw_from_nucleus, top_p)
        token_R[sampled[rows]] = draw(probability_SV[rows], uniform_R[sampled[rows]])
    return token_R


def _log_probs(logits_RV: torch.Tensor, token_R: torch.Tensor, temperature_R: torch.Tensor) -> list[float]:
    """Log-probability of each row's token under logits / temperature, to 1e-6; of the logits where that is 0."""
    scaled_RV = logits_RV.float() / temperature_R.where(temperature_R > 0, 1.0)[:, None]
    log_prob_R = scaled_RV.log_softmax(-1).gather(-1, token_R[:, None]).squeeze(-1)
    return [round(value, 6) for value in log_prob_R.tolist()]


def _draw_from_nucleus(top_p: float, probability_SV: torch.Tensor, uniform_S: torch.Tensor) -> torch.Tensor:
    # Sorting a whole vocabulary each step costs more than the model does, and a nucleus is almost always among the most
    # likely few hundred tokens; only the rows where it is not are sorted.
    best_SK, token_SK = probability_SV.topk(min(NUCLEUS_CANDIDATES, probability_SV.shape[-1]))
    drawn_S = _draw_from_sorted(top_p, best_SK, token_SK, uniform_S)
    wide = (best_SK.sum(-1) < top_p).nonzero().squeeze(-1)
    if len(wide):
        drawn_S[wide] = _draw_from_sorted(
            top_p, *probability_SV[wide].sort(descending=True, stable=True), uniform_S[wide]
        )
    return drawn_S


def _draw_from_sorted(
    top_p: float, probability_SK: torch.Tensor, token_SK: torch.Tensor, uniform_S: torch.Tensor
) -> torch.Tensor:
    more_likely_SK = probability_SK.cumsum(-1) - probability_SK
    choice_S = _inverse_cdf(probability_SK.masked_fill(more_likely_SK >= top_p, 0), uniform_S)
    return token_SK.gather(-1, choice_S[:, None]).squeeze(-1)


def _inverse_cdf(weight_SV: torch.Tensor, uniform_S: torch.Tensor) -> torch.Tensor:
    cdf_SV = weight_SV.cumsum(-1)
    target_S1 = uniform_S[:, None] * cdf_SV[:, -1:]
    return torch.searchsorted(cdf_SV, target_S1, right=True).squeeze(-1).clamp(max=weight_SV.shape[-1] - 1)

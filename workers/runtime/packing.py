"""Rollouts in one row without padding, the prompt of several computed once.

`log_probabilities.py` calls it. A group of rollouts has one prompt, and half of a training's tokens or more are prompts
and padding. Here the tokens of a micro-batch stand in a row, prompt by prompt, each followed by its completions:

    prompt 1, completion 1a, completion 1b, prompt 2, completion 2a

All that works token by token (embedding, projections, MLPs, norms) sees each prompt once. Attention alone tells tokens
apart: it runs for each completion over its own prompt and itself, causally. A completion's positions go on from its
prompt's. The results are those of padded rows but for rounding, and so are the gradients, because a shared prompt's
gradient is the sum over its completions.

Tensor names end in their shape: X positions of the row, Q query heads, K key-value heads, D size of a head.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from runtime.files import Row

ATTENTION = "prompt_groups"
"""Name of the attention by which Transformers finds it, and of the argument that brings `Packed.groups` to it."""
_NOT_SUPPORTED = ("sliding_window", "softcap", "position_bias", "s_aux", "cache")

Group = tuple[slice, list[slice]]
"""Where a prompt stands in the row, and where each of its completions does."""


class Packed(NamedTuple):
    """Rows {promptIds, completionIds} in one row."""

    ids: list[int]
    positions: list[int]
    groups: list[Group]
    order: list[int]
    """The rows' indices in the order in which their completions stand."""
    before: list[int]
    """For each completion token, in that order, the place of the token before it: what stands there tells of it."""


def pack(rows: Sequence[Row]) -> Packed:
    """Put rows together by their prompts, in the order in which these first appear.

    Example: of rows with the prompts [1, 2] and [1, 2] and the completions [3] and [4, 5], the ids are [1, 2, 3, 4, 5],
    the positions [0, 1, 2, 2, 3] and `before` is [1, 1, 3].
    """
    by_prompt: dict[tuple[int, ...], list[int]] = {}
    for index, row in enumerate(rows):
        by_prompt.setdefault(tuple(row["promptIds"]), []).append(index)
    packed = Packed([], [], [], [], [])
    for prompt, members in by_prompt.items():
        shared = _append(packed, prompt, 0)
        completions = []
        for index in members:
            completion = rows[index]["completionIds"]
            place = _append(packed, completion, len(prompt))
            completions.append(place)
            packed.before.extend([shared.stop - 1, *range(place.start, place.stop - 1)][: len(completion)])
        packed.order.extend(members)
        packed.groups.append((shared, completions))
    return packed


def _append(packed: Packed, ids: Sequence[int], position: int) -> slice:
    start = len(packed.ids)
    packed.ids.extend(ids)
    packed.positions.extend(range(position, position + len(ids)))
    return slice(start, len(packed.ids))


def inputs(packed: Packed, device: torch.device) -> dict[str, Any]:
    """The arguments of a model's forward pass, whose attention `can_pack` has set."""
    return {
        "input_ids": torch.tensor([packed.ids], device=device),
        "position_ids": torch.tensor([packed.positions], device=device),
        # Transformers hands a mask of four dimensions on as it is. Without one it makes a mask of X * X.
        "attention_mask": torch.ones(1, 1, 1, 1, dtype=torch.bool, device=device),
        ATTENTION: packed.groups,
        "use_cache": False,
    }


def attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention [1, X, Q, D] by torch's scaled dot product; query [1, Q, X, D], key and value [1, K, X, D].

    Without groups among the options it is Transformers' own. Raises `NotImplementedError` for a model whose attention
    is more than causal.
    """
    groups: list[Group] | None = options.pop(ATTENTION, None)
    if groups is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if more := [name for name in _NOT_SUPPORTED if options.get(name) is not None]:
        raise NotImplementedError(f"attention with {', '.join(more)}")
    options["is_causal"] = True
    outputs = []
    for prompt, completions in groups:
        for number, completion in enumerate(completions):
            own = [torch.cat((each[:, :, prompt], each[:, :, completion]), dim=2) for each in (query, key, value)]
            output, _ = sdpa_attention_forward(module, own[0], own[1], own[2], None, **options)
            outputs.append(output if number == 0 else output[:, prompt.stop - prompt.start :])
    return torch.cat(outputs, dim=1), None


AttentionInterface.register(ATTENTION, attention)
AttentionMaskInterface.register(ATTENTION, sdpa_mask)


def can_pack(model: Any) -> bool:
    """Whether a causal LM computes the same on packed rows; its attention is set so that it takes them.

    Models differ in what their blocks do besides attention (convolutions, recurrent states, windows). So the model is
    asked with three short rows, packed and alone. What keeps the attention from doing so leaves the model as it was.
    """
    if model.config._attn_implementation != "sdpa":
        return False
    number = model.get_input_embeddings().num_embeddings
    device = model.get_input_embeddings().weight.device
    ids = [(7 * index) % number for index in range(12)]
    rows = [
        {"promptIds": ids[:3], "completionIds": ids[3:8]},
        {"promptIds": ids[4:6], "completionIds": ids[1:4]},
        {"promptIds": ids[:3], "completionIds": ids[8:12]},
    ]
    packed = pack(rows)
    alone = []
    for index in packed.order:
        row = rows[index]["promptIds"] + rows[index]["completionIds"]
        at = slice(len(rows[index]["promptIds"]) - 1, len(row) - 1)
        alone.append(model.base_model(input_ids=torch.tensor([row], device=device), use_cache=False)[0][0, at])
    model.set_attn_implementation(ATTENTION)
    try:
        together = model.base_model(**inputs(packed, device))[0][0, packed.before]
        if torch.allclose(together, torch.cat(alone), rtol=1e-3, atol=1e-3 * together.abs().max().item()):
            return True
    except (NotImplementedError, RuntimeError, TypeError, ValueError):
        pass
    model.set_attn_implementation("sdpa")
    return False

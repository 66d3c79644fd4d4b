"""How the rows of an optimizer step are cut into micro-batches: by a number of rows, or by a budget of tokens.

The trainings call it, and scoring does. A cut depends on the rows and two settings alone, never on the device or the
number of processes, so that it can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from runtime.files import Row

Widths = tuple[int, ...]
"""Tokens of the parts of a row. Rows of a micro-batch are padded part by part to the longest."""


def micro_batches(rows: Sequence[Row], indices: Sequence[int], config: Mapping[str, Any]) -> list[list[int]]:
    """`indices` of rows {promptIds, completionIds} in micro-batches, cut as `cut` does.

    Rows of one prompt stay together, because `packing.py` computes it once: prompts in their order, of each the longest
    completion first. A loss that is a sum leaves their order free.
    """
    prompts: dict[tuple[int, ...], int] = {}
    number = {index: prompts.setdefault(tuple(rows[index]["promptIds"]), len(prompts)) for index in indices}
    ordered = sorted(indices, key=lambda index: (number[index], -len(rows[index]["completionIds"]), index))
    return cut(ordered, lambda index: (len(rows[index]["promptIds"]), len(rows[index]["completionIds"])), config)


def cut(indices: Sequence[int], widths: Callable[[int], Widths], config: Mapping[str, Any]) -> list[list[int]]:
    """`indices` in micro-batches, in their order; config = {microBatch, microBatchTokens?}.

    With `microBatchTokens` a micro-batch grows until another row would take it above so many tokens, padding included;
    a row that is longer alone is a micro-batch of one. Otherwise each has `microBatch` rows, the last one the rest.

    Example: rows of 3, 3 and 8 tokens with a budget of 8 are cut into [[0, 1], [2]].
    """
    budget = config.get("microBatchTokens")
    if budget is None:
        size = config["microBatch"]
        return [list(indices[start : start + size]) for start in range(0, len(indices), size)]
    chunks: list[list[int]] = []
    widest: Widths = ()
    for index in indices:
        wider = tuple(map(max, widest, widths(index))) if chunks else ()
        if chunks and (len(chunks[-1]) + 1) * sum(wider) <= budget:
            chunks[-1].append(index)
            widest = wider
        else:
            chunks.append([index])
            widest = widths(index)
    return chunks


def into(chunks: Sequence[list[int]], number: int) -> list[list[int]]:
    """At least `number` micro-batches, as far as there are rows: the one with most rows is halved, the first of equals.

    Example: [[0, 1, 2], [3]] into 3 are [[0, 1], [2], [3]].
    """
    parts = list(chunks)
    while len(parts) < number and (most := max(map(len, parts))) > 1:
        at = next(index for index, part in enumerate(parts) if len(part) == most)
        half = (most + 1) // 2
        parts[at : at + 1] = [parts[at][:half], parts[at][half:]]
    return parts


def limit(config: Mapping[str, Any]) -> tuple[str, int]:
    """Name and value of the setting that bounds a micro-batch: the one to lower when memory runs out."""
    name = "microBatch" if config.get("microBatchTokens") is None else "microBatchTokens"
    return name, config[name]

"""The probes of a reward model's card against reward models that are really trained, with and without a bias."""

from __future__ import annotations

import importlib.util
import random
from pathlib import Path
from statistics import mean, median
from typing import Any

import pytest
from conftest import FORMS, FUNCTIONS, WORKERS, Recorder, question, read_jsonl, write_jsonl

from runtime.mutation import mutants
from runtime.reward_model import train_reward_model
from runtime.scoring import score

CONFIG = {
    "learningRate": 1e-3, "epochs": 4, "batchSize": 16, "microBatch": 8, "maxLength": 256, "upperLayers": None,
    "warmupRatio": 0.1, "schedule": "cosine", "centerRewardsCoefficient": 0.01, "seed": 3, "checkpointSeconds": 1e9,
}  # fmt: skip


def _variants_module() -> Any:
    spec: Any = importlib.util.spec_from_file_location("variants", WORKERS / "sent" / "variants.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


VARIANTS = _variants_module()


def texts_of(function: str, seed: int) -> dict[str, str]:
    told = VARIANTS.told(function, 4, mutants, random.Random(f"{seed}/{function}"))
    return {"plain": told["plain"], **told["variants"], **dict(enumerate(told["mutants"]))}


def scores_of(folder: Path, texts: dict[str, dict[str, str]], tmp_path: Path) -> dict[tuple[str, str], float]:
    rows = [
        {"id": f"{at}/{name}", "messages": question(function), "response": text}
        for at, (function, variants) in enumerate(texts.items())
        for name, text in variants.items()
    ]
    params = {
        "model": str(folder),
        "rows": write_jsonl(tmp_path / "rows.jsonl", rows),
        "forms": FORMS,
        "output": str(tmp_path / "scores.jsonl"),
        "microBatch": 16,
    }
    score(params, Recorder().call)
    functions = list(texts)
    scores = {}
    for row in read_jsonl(tmp_path / "scores.jsonl"):
        at, name = row["id"].split("/")
        scores[functions[int(at)], name] = row["score"]
    return scores


@pytest.mark.long
@pytest.mark.parametrize("better", ["filledComments", "filledText"])
def test_a_trained_bias_moves_the_probe_of_its_name_most(micro_model: Path, tmp_path: Path, better: str) -> None:
    """Pairs say that a program with comments, or with text, is better than one with as long other lines."""
    filled = ("filledCode", "filledComments", "filledText")
    pairs = []
    for function in FUNCTIONS:
        for seed in range(4):
            texts = texts_of(function, seed)
            pairs += [(function, texts[better], texts[other]) for other in filled if other != better]
            pairs += [(function, texts["plain"], texts[mutant]) for mutant in (0, 1) if mutant in texts]
    rows = [
        {"id": str(at), "questionId": function, "messages": question(function), "chosen": chosen, "rejected": rejected}
        for at, (function, chosen, rejected) in enumerate(pairs)
    ]
    path = write_jsonl(tmp_path / "pairs.jsonl", rows)
    params = {
        "model": str(micro_model), "train": path, "heldOut": path, "forms": FORMS, "output": str(tmp_path / "output"),
        "checkpoints": str(tmp_path / "checkpoints"), "config": CONFIG,
    }  # fmt: skip
    train_reward_model(params, Recorder().call)
    # Other words than those of the training.
    texts = {function: texts_of(function, 99) for function in FUNCTIONS}
    scores = scores_of(tmp_path / "output", texts, tmp_path)
    means = {name: mean(scores[function, name] for function in FUNCTIONS) for name in ("plain", *filled)}
    gap = mean(
        scores[function, "plain"] - scores[function, str(name)]
        for function in FUNCTIONS
        for name in texts[function]
        if isinstance(name, int)
    )
    common = median(means[name] for name in filled)
    shifts = {name: (means[name] - common) / gap for name in filled}
    assert gap > 0
    assert max(shifts, key=lambda name: abs(shifts[name])) == better
    assert shifts[better] > 0.25

"""Whether RL teaches a policy to end its answers: part of `npm run bench:training`.

A micro model is trained to go on behind the closing fence, with more text than an answer may have. RL rewards right
programs, whose sampling ends at the fence as always. Then the policy is sampled without stop strings: what counts is
the share of answers that end by themselves. The same rounds with `endWeight` 0 are measured beside.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from runtime.files import Row, read_rows, write_rows
from runtime.micro_model import build_micro_model
from runtime.models import make_deterministic
from runtime.policy_update import update_policy
from runtime.sampling import sample
from serve import Call

OPENING, STOP = "```python\n", "\n```"
MOST_TOKENS, SAMPLES = 48, 8
BAR = 0.95
CONFIG = {
    "name": "reinforce++", "learningRate": 3e-4, "beta": 0.01, "clip": 0.2, "maxNewTokens": MOST_TOKENS,
    "rewardClip": 10, "batchSize": 32, "microBatch": 32, "epochs": 1, "upperLayers": None, "maxGradNorm": 1.0,
    "seed": 5, "temperature": 1.0, "checkpointSeconds": 1e9,
}  # fmt: skip


def corpus() -> list[Row]:
    """Questions whose answers, right ones and wrong ones, go on behind the fence."""
    rows = []
    for name, sign in (("add", "+"), ("subtract", "-"), ("multiply", "*"), ("join", "|")):
        for number in range(2, 6):
            right, wrong = (f"def {name}_{number}(n):\n    return n {sign} {value}" for value in (number, number + 3))
            prose = " ".join(f"It takes n and gives back n {sign} {number}, step {step}." for step in range(10))
            rows.append(
                {
                    "messages": [{"role": "user", "content": f"Write {name}_{number}(n)."}], "assistantPrefix": OPENING,
                    "answers": [f"{program}{STOP}\n\n{prose}" for program in (right, wrong)], "shares": [0.6, 0.4],
                    "right": right,
                }
            )  # fmt: skip
    return rows


def answers(model: str, rows: list[Row], folder: Path, stop: list[str], seed: int) -> list[Row]:
    """Samples for every question, with the row of `rows` that each answers."""
    requests, output = str(folder / "requests.jsonl"), str(folder / "answers.jsonl")
    write_rows(requests, (
        {
            "id": str(number), "messages": row["messages"], "assistantPrefix": OPENING, "n": SAMPLES,
            "temperature": 1.0, "topP": 1, "maxNewTokens": MOST_TOKENS, "stop": stop,
            "seeds": [seed + SAMPLES * number + index for index in range(SAMPLES)],
        }
        for number, row in enumerate(rows)
    ))  # fmt: skip
    sample({"model": model, "requests": requests, "output": output, "maxRows": 256}, quiet())
    return read_rows(output, ("id", "finish"))


def quiet() -> Call:
    """A call that tells nobody."""
    return Call(1, lambda _: None)


def ended(model: str, rows: list[Row], folder: Path) -> float:
    """Share of the answers that end by themselves, sampled without stop strings."""
    found = answers(model, rows, folder, [], 10**6)
    return sum(row["finish"] == "stop" for row in found) / len(found)


def rounds_of_rl(model: str, rows: list[Row], folder: Path, rounds: int, end_weight: float) -> tuple[str, list[float]]:
    """The policy after so many rounds, and `endProbability` of each."""
    policy, probabilities = model, []
    state: Mapping[str, Any] = {}
    for number in range(1, rounds + 1):
        rollouts = [
            {
                **row, "id": f"{row['id']}/{row['index']}", "questionId": row["id"],
                "reward": float(row["text"] == rows[int(row["id"])]["right"]),
            }
            for row in answers(policy, rows, folder, [STOP], 1000 * number)
        ]  # fmt: skip
        path, home = str(folder / "rollouts.jsonl"), folder / f"{end_weight}-{number}"
        write_rows(path, rollouts)
        result = update_policy(
            {
                "policy": policy, "reference": model, "rollouts": path, "output": str(home / "policy"),
                "state": str(home / "state"), "checkpoints": str(home / "checkpoints"), **state,
                "config": {**CONFIG, "endWeight": end_weight},
            },
            quiet(),
        )  # fmt: skip
        policy, state = str(home / "policy"), {"resumeState": str(home / "state")}
        probabilities.append(result["metrics"].get("endProbability", float("nan")))
        print(f"endWeight {end_weight}, round {number}: {result['metrics']}", file=sys.stderr, flush=True)
    return policy, probabilities


def measured(folder: Path, rounds: int) -> dict[str, float]:
    """Shares of answers that end by themselves: `before` RL, `after` it, and after it `without` the loss of ends."""
    rows, model = corpus(), str(folder / "model")
    write_rows(str(folder / "corpus.jsonl"), rows)
    build_micro_model({"corpus": str(folder / "corpus.jsonl"), "output": model, "seed": 7, "steps": 120}, quiet())
    shares = {"before": ended(model, rows, folder)}
    for name, weight in (("after", 1.0), ("without", 0.0)):
        shares[name] = ended(rounds_of_rl(model, rows, folder, rounds, weight)[0], rows, folder)
    return shares


def main() -> None:
    """Measure; `--output` gets the measures as a JSON array."""
    parser = argparse.ArgumentParser(description="Whether RL teaches a policy to end its answers.")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--output", type=Path, required=True, help="file of the measures")
    arguments = parser.parse_args()
    make_deterministic(torch.get_num_threads())
    with tempfile.TemporaryDirectory() as home:
        shares = measured(Path(home), arguments.rounds)
    note = f"micro model, {arguments.rounds} rounds of {len(corpus()) * SAMPLES} rollouts, no stop strings"
    measures = [
        {"name": "answers that end by themselves, before RL", "value": shares["before"], "unit": ""},
        {"name": "answers that end by themselves, after RL", "value": shares["after"], "unit": "", "bar": BAR,
         "at": "least", "note": note},
        {"name": "the same with endWeight 0", "value": shares["without"], "unit": ""},
    ]  # fmt: skip
    arguments.output.write_text(json.dumps(measures))


if __name__ == "__main__":
    main()

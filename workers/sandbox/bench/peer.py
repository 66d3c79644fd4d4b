"""EvalPlus as the peer of the bench: runs `untrusted_check` on the jobs of standard input, two processes at a time.

`python peer.py JOBS RESULTS` inside the outer wall, in an environment that has evalplus: JOBS is a JSON file of {id,
program, entryPoint, calls: [[argument, ...]], expected: [value]} with Python literals in texts, RESULTS gets {seconds,
outcomes: {id: [bool]}}.
"""

from __future__ import annotations

import ast
import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def check(job: dict[str, Any]) -> tuple[str, list[bool]]:
    """What the peer says of each test of a job."""
    from evalplus.eval import PASS, untrusted_check

    inputs = [ast.literal_eval(call) for call in job["calls"]]
    expected = [ast.literal_eval(value) for value in job["expected"]]
    # Without times of references each test has the peer's own minimum of wall time.
    status, details = untrusted_check(
        "humaneval", job["program"], inputs, job["entryPoint"], expected, 0, [0.0] * len(inputs), fast_check=False
    )
    passed = [bool(each) for each in details]
    return job["id"], [*passed, *[status == PASS] * (len(inputs) - len(passed))]


def main() -> None:
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    with ProcessPoolExecutor(2) as pool:
        list(pool.map(check, jobs[:2]))  # both sides are measured warm
        start = time.monotonic()
        outcomes = dict(pool.map(check, jobs))
        seconds = time.monotonic() - start
    with open(sys.argv[2], "w") as file:
        json.dump({"seconds": seconds, "outcomes": outcomes}, file)


if __name__ == "__main__":
    main()

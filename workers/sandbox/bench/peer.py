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
from concurrent.futures import ThreadPoolExecutor
from typing import Any


def main() -> None:
    from evalplus.eval import PASS, untrusted_check

    with open(sys.argv[1]) as file:
        jobs = json.load(file)

    def check(job: dict[str, Any]) -> tuple[str, list[bool]]:
        inputs = [ast.literal_eval(call) for call in job["calls"]]
        expected = [ast.literal_eval(value) for value in job["expected"]]
        # References are given no time here, so each test has the peer's own minimum of wall time.
        status, details = untrusted_check(
            "humaneval", job["program"], inputs, job["entryPoint"], expected, 0, [0.0] * len(inputs), fast_check=False
        )
        passed = [bool(each) for each in details] if details is not None else []
        return job["id"], [*passed, *[status == PASS] * (len(inputs) - len(passed))]

    start = time.monotonic()
    # Each check waits for a process of its own: two threads keep two of them running.
    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(pool.map(check, jobs))
    seconds = time.monotonic() - start
    with open(sys.argv[2], "w") as file:
        json.dump({"seconds": seconds, "outcomes": outcomes}, file)


if __name__ == "__main__":
    main()

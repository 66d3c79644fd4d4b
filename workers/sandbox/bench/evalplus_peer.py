"""EvalPlus as the peer of the bench of evaluation: its own check of MBPP+, two processes at a time.

`python evalplus_peer.py JOBS RESULTS` inside the outer wall, in an environment that has evalplus 0.3.1: JOBS is a JSON
file of {id, program, reference, entryPoint, atol, suites: [JSON text of inputs, ...]}. RESULTS gets {seconds,
lightSeconds, light: [id], statuses: {id: [status of each suite]}}. What references answer is known before the clock
starts. Light are the programs that are checked in less than a second.
"""

from __future__ import annotations

import json
import sys
import time
import types
from concurrent.futures import ProcessPoolExecutor
from typing import Any

LIGHT_SECONDS = 1.0

# Its modules import what downloads data sets, which nothing here does.
sys.modules["datasets"] = types.ModuleType("datasets")
vars(sys.modules["datasets"])["load_dataset"] = None


def expected_of(job: dict[str, Any]) -> dict[str, Any]:
    """The job with the inputs as EvalPlus has them, and with the answers and times of its reference."""
    from evalplus.data.mbpp import mbpp_deserialize_inputs
    from evalplus.eval._special_oracle import MBPP_OUTPUT_NOT_NONE_TASKS
    from evalplus.gen.util import trusted_exec

    known = []
    for text in job["suites"]:
        inputs = mbpp_deserialize_inputs(job["id"], json.loads(text))
        answers, times = trusted_exec(
            job["reference"],
            inputs,
            job["entryPoint"],
            record_time=True,
            output_not_none=job["entryPoint"] in MBPP_OUTPUT_NOT_NONE_TASKS,
        )
        known.append((inputs, answers, times))
    return {**job, "known": known}


def check(job: dict[str, Any]) -> tuple[str, list[str], float]:
    """Statuses of the suites of a job, and the seconds that they took."""
    from evalplus.eval import untrusted_check

    start = time.monotonic()
    statuses = [
        untrusted_check(
            "mbpp", job["program"], inputs, job["entryPoint"], answers, job["atol"], times, fast_check=True,
            min_time_limit=1.0, gt_time_limit_factor=4.0,
        )[0]
        for inputs, answers, times in job["known"]
    ]  # fmt: skip
    return job["id"], statuses, time.monotonic() - start


def main() -> None:
    with open(sys.argv[1]) as file:
        jobs = json.load(file)
    with ProcessPoolExecutor(2) as pool:
        known = list(pool.map(expected_of, jobs))
        list(pool.map(check, known[:2]))  # both sides are measured warm
        start = time.monotonic()
        found = list(pool.map(check, known))
        seconds = time.monotonic() - start
        light = [job for job, (_, _, took) in zip(known, found, strict=True) if took < LIGHT_SECONDS]
        start = time.monotonic()
        list(pool.map(check, light))
        light_seconds = time.monotonic() - start
    with open(sys.argv[2], "w") as file:
        result = {"seconds": seconds, "lightSeconds": light_seconds, "light": [job["id"] for job in light]}
        json.dump({**result, "statuses": {id: statuses for id, statuses, _ in found}}, file)


if __name__ == "__main__":
    main()

"""The verdict cases that are handed out with the project, each with the outcome that was decided beforehand."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from service import Service

FOLDER = Path(os.environ.get("ACECODER_SHARED") or Path(__file__).parents[4] / "shared") / "data" / "verdict-cases"

OTHERWISE = {
    "fn-fstring312": "needs Python 3.12 as the judging interpreter",
    "fn-pep695": "needs Python 3.12 as the judging interpreter",
    **dict.fromkeys(
        SETTING := ("fn-file", "io-tmpfile", "fn-numpy", "io-numpy"), "needs libraries, or a folder to write to"
    ),
    "x-multi-answer": "one text is named of several right ones: needs a checker",
}
"""Rows that are not as expected under the settings of this test, and why."""
LIMITS = {"fn-mem": {"memoryBytes": 2 << 30}, "io-mem": {"memoryBytes": 2 << 30}}
"""Rows that expect another setting than the usual one."""
READABLE = {"read /usr/share file", "hostname"}
"""Claims that name what is readable by design."""


def rows(group: str) -> list[dict[str, Any]]:
    file = FOLDER / f"{group}.jsonl"
    if not file.exists():
        pytest.skip(f"VERDICT CASES NOT CHECKED: {file} is not there; set ACECODER_SHARED.")
    with file.open(encoding="utf-8", newline="\n") as lines:
        return [json.loads(line) for line in lines]


def job(row: dict[str, Any]) -> dict[str, Any]:
    tests = row["tests"]
    if entry_point := row.get("entryPoint"):
        tests = [
            f"{test}\ncheck({entry_point})" if re.search(r"^def check\(", test, re.MULTILINE)
            else re.sub(r"\bcandidate\b(?=\s*\()", entry_point, test)
            for test in tests
        ]  # fmt: skip
    return {"id": row["id"], "program": row["program"], "tests": tests, "limits": LIMITS.get(row["id"], {})}


@pytest.mark.parametrize("group", ["function", "shape", "attack", "stdio"])
def test_rows_are_as_expected(service: Service, group: str) -> None:
    cases = rows(group)
    verdicts = service.ask("judge", jobs=list(map(job, cases)))["verdicts"]
    wrong: dict[str, Any] = {}
    for row, verdict in zip(cases, verdicts, strict=True):
        found = ["pass" if outcome["status"] == "pass" else "fail" for outcome in verdict["outcomes"]]
        if (found != row["expect"]) != (row["id"] in OTHERWISE):
            wrong[row["id"]] = verdict
    assert wrong == {}


def test_rows_that_need_a_setting_are_as_expected_with_it() -> None:
    cases = [row for group in ("function", "stdio") for row in rows(group) if row["id"] in SETTING]
    service = Service("--workers", "1", "--libraries", sys.prefix, "--scratch-mib", "16")
    verdicts = service.ask("judge", jobs=list(map(job, cases)))["verdicts"]
    service.close()
    assert len(cases) == len(SETTING)
    assert [verdict for verdict in verdicts if {each["status"] for each in verdict["outcomes"]} != {"pass"}] == []


def test_claims_of_isolation_hold(service: Service) -> None:
    cases = [row for row in rows("isolation") if row["id"] not in READABLE]
    verdicts = service.ask("judge", jobs=list(map(job, cases)))["verdicts"]
    assert [verdict["id"] for verdict in verdicts if verdict["outcomes"][0]["status"] in ("pass", "unjudged")] == []


def test_no_value_stops_the_service(service: Service) -> None:
    cases = rows("supervisor")
    neighbour = {"id": "neighbour", "program": "def f(x): return 2 * x", "tests": ["assert f(2) == 4"]}
    limits = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 0.5}
    verdicts = service.ask("judge", jobs=[*map(job, cases), neighbour], limits=limits)["verdicts"]
    assert verdicts[-1]["outcomes"] == [{"status": "pass"}]
    statuses = {outcome["status"] for verdict in verdicts[:-1] for outcome in verdict["outcomes"]}
    assert not {"pass", "unjudged"} & statuses


def test_the_thief_passes_nothing(service: Service) -> None:
    (row,) = rows("thief")
    reference = {"id": "r", "program": "def triple(x):\n    return 3 * x\n", "tests": ["assert triple(2) == 6"]}
    program = row["program"].replace("NAME", "triple")
    jobs = [reference, {**reference, "id": "thief", "program": program}] * 5
    verdicts = service.ask("judge", jobs=jobs, references=[reference])["verdicts"]
    passed = {verdict["id"] for verdict in verdicts if verdict["outcomes"][0]["status"] == "pass"}
    assert passed == {"r"}

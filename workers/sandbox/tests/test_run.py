"""The operation `run`: a script's own streams and exit status, and nothing of anything else."""

from __future__ import annotations

from typing import Any

import pytest

from sandbox.tests.service import QUICK, Service


def run(service: Service, program: str, stdin: str = "", **limits: float) -> dict[str, Any]:
    (told,) = service.ask("run", jobs=[{"id": "p", "program": program, "stdin": stdin}], limits={**QUICK, **limits})[
        "runs"
    ]
    return told


@pytest.mark.parametrize(
    ("program", "stdin", "code", "stdout", "stderr"),
    [
        ("print(int(input()) * 2)", "21\n", 0, "42\n", ""),
        ("import sys; sys.stderr.write('no newline'); print('x', end='')", "", 0, "x", "no newline"),
        ("assert 1 == 2, 'why'", "", 1, "", "AssertionError: why\n"),
        ("import sys; sys.exit(7)", "", 7, "", ""),
        ("raise SystemExit('said')", "", 1, "", "said\n"),
        ("raise SystemExit(-1)", "", 255, "", ""),
        ("exit()", "", 0, "", ""),
        ("def f(:", "", 1, "", "SyntaxError: invalid syntax\n"),
        ("import os; os.write(1, b'\\xff'); os._exit(3)", "", 3, "\udcff", ""),
        ("print(input() == '\\u2028\\x00')", "\u2028\0\n", 0, "True\n", ""),
        ("if __name__ == '__main__':\n    print('main')", "", 0, "main\n", ""),
    ],
)
def test_a_script_is_run_as_python_runs_it(
    service: Service, program: str, stdin: str, code: int, stdout: str, stderr: str
) -> None:
    told = run(service, program, stdin)
    assert (told["status"], told["exitCode"], told["stdout"]) == ("ended", code, stdout)
    assert told["stderr"].endswith(stderr)
    assert bool(told["stderr"]) == bool(stderr)
    assert told["cpuSeconds"] > 0


def test_a_traceback_shows_the_program_and_not_the_harness(service: Service) -> None:
    said = run(service, "def f():\n    return 1 / 0\nf()")["stderr"].splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-1] == "ZeroDivisionError: division by zero"
    assert [line for line in said if "File" in line] == [
        '  File "<program>", line 3, in <module>',
        '  File "<program>", line 2, in f',
    ]


@pytest.mark.parametrize(
    ("program", "status", "reason"),
    [
        ("while True: pass", "timeout", "out of CPU time"),
        ("try:\n    while True: pass\nexcept BaseException: print('swallowed')", "timeout", "out of CPU time"),
        ("import ctypes; ctypes.string_at(0)", "killed", "SIGSEGV"),
        ("print('x' * (5 << 20))", "killed", "wrote more than 4 MiB to standard output"),
    ],
)
def test_a_script_that_does_not_end_by_itself_has_no_exit_status(
    service: Service, program: str, status: str, reason: str
) -> None:
    told = run(service, program)
    assert (told["status"], told["exitCode"], told["reason"]) == (status, None, reason)


def test_standard_error_is_cut_and_ends_no_program(service: Service) -> None:
    told = run(service, "import sys\nfor _ in range(200): sys.stderr.write('e' * 10_000)\nprint('done')")
    assert (told["status"], told["stdout"], len(told["stderr"])) == ("ended", "done\n", 64 * 1024)


def test_no_descriptor_writes_another_answer(service: Service) -> None:
    program = """
import os
for descriptor in range(3, 70):
    try:
        os.write(descriptor, b'\\x00\\x00\\x00\\x11{"status": "ran"}' * 3)
    except OSError:
        pass
print(1, flush=True)
os._exit(4)
"""
    told = run(service, program)
    assert (told["status"], told["exitCode"], told["stdout"], told["stderr"]) == ("ended", 4, "1\n", "")


def test_many_runs_come_back_in_order_and_apart(service: Service) -> None:
    jobs = [{"id": str(at), "program": f"print({at}, input())", "stdin": f"in{at}\n"} for at in range(40)]
    runs = service.ask("run", jobs=jobs)["runs"]
    assert [(told["id"], told["stdout"]) for told in runs] == [(str(at), f"{at} in{at}\n") for at in range(40)]

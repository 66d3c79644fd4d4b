"""Bench of the sandbox: `npm run bench:sandbox`; ratios hold on a busy machine, absolute rates need a quiet one.

The reference load is read from `ACECODER_SHARED` (default: `../shared` beside the repository). The peer, EvalPlus, gets
an environment of its own from `peer.lock` and runs inside the outer wall, on the same programs and asserts, turn by
turn with ours. Limits are derived from each reference's own CPU time, as in `limits_from`.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox import wall
from sandbox.bench.load import Question, questions
from sandbox.tests.service import Service, descendants, zygotes

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOOPS = 16
KILLS = 50
PEER_SLICE = 8
"""The peer gets the programs of every so many-th question: a looping program costs it up to a minute."""
_LADDER = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
_FACTOR = 20

Job = dict[str, Any]
Verdicts = dict[str, list[str]]


def limits_from(reference_seconds: float) -> dict[str, float]:
    """Limits from the CPU time of a reference's whole run: each test gets 20 times that, rounded up to a few steps, so
    that a noisy measurement gives the same limits again.
    """
    per_test = next((step for step in _LADDER if step >= _FACTOR * reference_seconds), _LADDER[-1])
    return {"cpuSecondsPerTest": per_test, "cpuSecondsPerProgram": max(3.0, 4 * per_test)}


def judge(service: Service, jobs: Sequence[Job], **more: Any) -> tuple[Verdicts, dict[str, float], float]:
    """(statuses by job, CPU seconds by job, wall seconds) of one request."""
    start = time.monotonic()
    result = service.ask("judge", jobs=list(jobs), **more)
    seconds = time.monotonic() - start
    statuses = {v["id"]: [outcome["status"] for outcome in v["outcomes"]] for v in result["verdicts"]}
    return statuses, {m["id"]: m["cpuSeconds"] for m in result["measurements"]}, seconds


@contextmanager
def running() -> Iterator[Service]:
    service = Service("--workers", str(len(os.sched_getaffinity(0))))
    try:
        yield service
    finally:
        service.close()


@contextmanager
def endless_loops(count: int) -> Iterator[None]:
    """Busy neighbours, each in a session of its own, so that each gets a share of its own from the scheduler."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def _cpu_seconds(service: Service) -> float:
    """CPU seconds that the service and what it has run have used so far."""
    ticks = 0
    for pid in [service.process.pid, *descendants(service.process.pid)]:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def load_jobs(load: Sequence[Question], limits: dict[str, dict[str, float]]) -> list[Job]:
    return [
        {"id": f"{question.id}#{index}", "program": program, "tests": question.tests, "limits": limits[question.id]}
        for question in load
        for index, program in enumerate(question.programs)
    ]


def reference_jobs(load: Sequence[Question]) -> list[Job]:
    return [
        {
            "id": question.id,
            "program": question.reference,
            "tests": [f"{question.check}\ncheck({question.entry_point})"],
        }
        for question in load
    ]


# --- EvalPlus --------------------------------------------------------------------------------------------------------


def _as_call(test: str, entry_point: str) -> tuple[list[Any], Any] | None:
    """(arguments, expected value) of `assert f(literals) == literal`, which is what the peer can check."""
    match ast.parse(test).body:
        case [
            ast.Assert(
                test=ast.Compare(
                    left=ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]),
                    ops=[ast.Eq()],
                    comparators=[right],
                )
            )
        ] if name == entry_point:
            try:
                return [ast.literal_eval(argument) for argument in arguments], ast.literal_eval(right)
            except (ValueError, TypeError, SyntaxError):
                return None
    return None


def peer_python(home: Path) -> Path:
    """The interpreter of the peer's environment, made from the lock when it is not there."""
    environment = home / "bench" / "evalplus-0.3.1"
    python = environment / "bin" / "python"
    if not (environment / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", environment], check=True)
        pip = [python, "-m", "pip", "install", "--quiet", "--no-deps", "--require-hashes", "-r", HERE / "peer.lock"]
        subprocess.run(pip, check=True)
        (environment / "complete").touch()
    return python


def run_peer(python: Path, jobs: Sequence[Job]) -> tuple[dict[str, list[bool]], float]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "jobs.json").write_text(json.dumps(jobs))
        command = wall.peer_command([str(python.parents[1]), str(HERE)], folder)
        script = [str(python), "-B", str(HERE / "peer.py"), f"{folder}/jobs.json", f"{folder}/results.json"]
        environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": folder}
        subprocess.run([*command, *script], check=True, env=environment)
        results = json.loads(Path(folder, "results.json").read_text())
    return results["outcomes"], results["seconds"]


def against_peer(
    load: Sequence[Question], limits: dict[str, dict[str, float]], home: Path
) -> tuple[float, float, Counter[str]]:
    """(our programs/s, the peer's, tests by agreement) on the asserts that both can judge, question by question."""
    python = peer_python(home)
    ours_seconds = peers_seconds = 0.0
    programs = 0
    agreement: Counter[str] = Counter()
    with running() as service:
        judge(service, [{"id": "warm", "program": "", "tests": []}])
        for part in (load[at : at + 7] for at in range(0, len(load), 7)):
            jobs, peers_jobs = [], []
            for question in part:
                pairs = [(test, pair) for test in question.tests if (pair := _as_call(test, question.entry_point))]
                for index, program in enumerate(question.programs):
                    id = f"{question.id}#{index}"
                    tests = [test for test, _ in pairs]
                    jobs.append({"id": id, "program": program, "tests": tests, "limits": limits[question.id]})
                    calls = [repr(arguments) for _, (arguments, _) in pairs]
                    expected = [repr(value) for _, (_, value) in pairs]
                    peers_jobs.append(
                        {
                            "id": id,
                            "program": program,
                            "entryPoint": question.entry_point,
                            "calls": calls,
                            "expected": expected,
                        }
                    )
            statuses, _, seconds = judge(service, jobs)
            ours_seconds += seconds
            outcomes, seconds = run_peer(python, peers_jobs)
            peers_seconds += seconds
            programs += len(jobs)
            for job in jobs:
                for status, passed in zip(statuses[job["id"]], outcomes[job["id"]], strict=True):
                    agreement[_agreement(status, passed)] += 1
    return programs / ours_seconds, programs / peers_seconds, agreement


def _agreement(status: str, passed: bool) -> str:
    if (status == "pass") == passed:
        return "same"
    if passed:
        return f"they pass, we say {status}"
    return "we pass, they fail"


_EXPLANATIONS = {
    "they pass, we say assertion_failed": "EvalPlus compares floats with a tolerance, HumanEval/32 by its own oracle",
    "they pass, we say load_error": "they run the program's own text with other rules of loading",
    "they pass, we say timeout": "they give a test 4 s of wall time, we 20 times the reference's CPU time",
    "they pass, we say not_run": "we stop after the second time-out",
    "we pass, they fail": "they judge no test after one that ends or blocks the process",
}


# --- kill -9 ---------------------------------------------------------------------------------------------------------


def survive_kills(jobs: Sequence[Job], expected: Verdicts, kills: int) -> tuple[int, int]:
    """(programs lost, programs judged differently) while zygotes and supervisors are killed at random moments."""
    chance = random.Random(0)
    judged: Verdicts = {}
    different = done = 0
    service = Service()
    batches = [list(jobs[at : at + 40]) for at in range(0, len(jobs), 40)]
    while done < kills:
        for batch in batches:
            service.send({"id": 1, "op": "judge", "params": {"jobs": batch}})
            time.sleep(chance.uniform(0, 0.4))
            victims = zygotes(service)
            whole = chance.random() < 0.3 or not victims
            victim = service.process.pid if whole else chance.choice(victims)
            try:
                os.kill(victim, 9)
                done += 1
            except ProcessLookupError:
                pass
            if whole:
                # As a worker does: the batch is the unit that is run again.
                service.process.wait()
                service = Service()
                service.send({"id": 1, "op": "judge", "params": {"jobs": batch}})
            for verdict in service.reply()["result"]["verdicts"]:
                statuses = [outcome["status"] for outcome in verdict["outcomes"]]
                different += statuses != expected[verdict["id"]]
                judged[verdict["id"]] = statuses
            if done >= kills:
                break
    service.close()
    asked = {job["id"] for batch in batches for job in batch if job["id"] in judged or done < kills}
    return len(asked - judged.keys()), different


def memory_growth(programs: int) -> tuple[float, int, int]:
    """(growth of resident MiB, of descriptors, zombies left) of supervisor and zygotes over so many programs."""

    def resident(pids: Sequence[int]) -> float:
        return sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in pids) * 4096 / 2**20

    def descriptors(pids: Sequence[int]) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in pids)

    def some(start: int, count: int) -> list[Job]:
        return [
            {"id": str(at), "program": f"def f():\n    return {at}\n", "tests": ["assert f() == 1"]}
            for at in range(start, start + count)
        ]

    with running() as service:
        warm = min(programs // 4, 10_000)
        for start in range(0, warm, 500):
            judge(service, some(start, 500))
        pids = [service.process.pid, *zygotes(service)]
        before = resident(pids), descriptors(pids)
        for start in range(warm, programs, 500):
            judge(service, some(start, 500))
        zombies = sum(
            "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text() for pid in descendants(service.process.pid)
        )
        return resident(pids) - before[0], descriptors(pids) - before[1], zombies


# --- the table -------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(prog="npm run bench:sandbox --", description="Measures the sandbox.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--programs", type=int, default=100_000, help="programs of the memory measurement (100000)")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"times that something is killed ({KILLS})")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th question of the load (1)")
    options = parser.parse_args()
    shared = Path(os.environ.get("ACECODER_SHARED") or ROOT.parent / "shared")
    home = Path(os.environ.get("ACECODER_HOME") or ROOT / ".acecoder")
    try:
        every_question = questions(shared)
    except FileNotFoundError as error:
        print(f"The reference load is not there: {error.filename}. Set ACECODER_SHARED.", file=sys.stderr)
        return 2
    load = every_question[:: options.every]
    results: list[dict[str, Any]] = []

    def row(name: str, value: float, unit: str, bar: float | None = None, at_most: bool = False) -> None:
        met = bar is None or (value <= bar if at_most else value >= bar)
        results.append({"name": name, "value": round(value, 3), "unit": unit, "bar": bar, "met": met})
        bound = "" if bar is None else f"{'at most' if at_most else 'at least'} {bar:g}"
        print(
            f"{name:54s} {value:10.2f} {unit:14s} {bound:16s} {'' if bar is None else 'met' if met else 'MISSED'}",
            flush=True,
        )

    with running() as service:
        isolation = service.versions["isolation"]
        print(f"isolation {service.versions['level']} ({isolation}), Python {service.versions['python']}")
        references, cpu, _ = judge(service, reference_jobs(load), limits={"cpuSecondsPerTest": 2})
        with endless_loops(LOOPS):
            beside, _, _ = judge(
                service,
                [{**job, "program": job["program"] + "\n# again\n"} for job in reference_jobs(load)],
                limits={"cpuSecondsPerTest": 2},
            )
    limits = {id: limits_from(seconds) for id, seconds in cpu.items()}
    derived = Counter(each["cpuSecondsPerTest"] for each in limits.values())
    print(f"derived limits, seconds a test: {dict(sorted(derived.items()))}")
    row("references that pass", sum(s == ["pass"] for s in references.values()), "programs", len(load))
    row(
        f"references that pass beside {LOOPS} endless loops",
        sum(s == ["pass"] for s in beside.values()),
        "programs",
        len(load),
    )

    jobs = load_jobs(load, limits)
    runs, rates, cpu_rates = [], [], []
    for turn in range(3):
        # A new service each time: the cache is cold.
        with running() as service:
            if turn == 2:
                with endless_loops(LOOPS):
                    runs.append(judge(service, jobs)[0])
            else:
                statuses, _, seconds = judge(service, jobs)
                runs.append(statuses)
                rates.append(len(jobs) / seconds)
                cpu_rates.append(len(jobs) / _cpu_seconds(service))
    row("programs/s on the reference load", max(rates), "programs/s", 350)
    row("programs per CPU second, all processes", max(cpu_rates), "programs/s")
    tests = sum(len(statuses) for statuses in runs[0].values())
    changed = sum(len({run[id][at] for run in runs}) > 1 for id in runs[0] for at in range(len(runs[0][id])))
    print(f"verdicts: {dict(Counter(status for statuses in runs[0].values() for status in statuses))}")
    row(f"tests of {tests} that differ in three runs, one beside loops", changed, "tests", 0, at_most=True)
    generous = [{**job, "limits": limits_from(1)} for job in jobs]
    with running() as service:
        wide, _, _ = judge(service, generous)
    failed_by_limit = sum(
        ours != theirs == "pass" for id in wide for ours, theirs in zip(runs[0][id], wide[id], strict=True)
    )
    row("tests that pass with 5 s a test but not with our limits", failed_by_limit, "tests", 0, at_most=True)

    ours, peers, agreement = against_peer(
        every_question[::PEER_SLICE], {q.id: limits.get(q.id, limits_from(0.05)) for q in every_question}, home
    )
    row("programs/s on call == literal (ours)", ours, "programs/s")
    row("programs/s on call == literal (EvalPlus 0.3.1)", peers, "programs/s")
    row("times as fast as EvalPlus", ours / peers, "times", 10)
    print("agreement with EvalPlus by test")
    for kind, count in agreement.most_common():
        print(f"  {count:6d}  {kind:38s} {_EXPLANATIONS.get(kind, '')}")
    unexplained = sum(count for kind, count in agreement.items() if kind != "same" and kind not in _EXPLANATIONS)
    row("differences to EvalPlus without an explanation", unexplained, "tests", 0, at_most=True)

    if options.kills:
        lost, different = survive_kills(jobs, runs[0], options.kills)
        row(f"programs lost in {options.kills} kill -9", lost, "programs", 0, at_most=True)
        row(f"programs judged differently in {options.kills} kill -9", different, "programs", 0, at_most=True)
    if options.programs:
        mebibytes, descriptors, zombies = memory_growth(options.programs)
        row(f"growth of memory over {options.programs} programs", mebibytes, "MiB", 16, at_most=True)
        row("growth of file descriptors", descriptors, "descriptors", 0, at_most=True)
        row("zombies", zombies, "processes", 0, at_most=True)
    if options.json:
        machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {isolation}"
        print(json.dumps({"bench": "sandbox", "machine": machine, "results": results}))
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

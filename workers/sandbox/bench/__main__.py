"""Bench of the sandbox: `npm run bench:sandbox`; ratios hold on a busy machine, absolute rates need a quiet one.

The reference load is read from the folder `ACECODER_SHARED` (default: `../shared`). The peer, EvalPlus, gets its own
environment from `peer.lock` and runs inside the outer wall, on the same programs and asserts, turn by turn with ours.
Limits are derived from each reference's own CPU time, as the stages have it. Everything is killed as a user meets it:
through `npm run sandbox`, whose Node process is one of the victims.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import platform
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sandbox import wall
from sandbox.bench.http import Server
from sandbox.bench.load import Question, questions
from sandbox.bench.published import EXPLAINED, differences, sets
from sandbox.bench.ratios import against_version, cpu_seconds, numpy_against_stdlib
from sandbox.bench.supervisor import BAR_MEBIBYTES, BAR_SECONDS, RIGHT, forged_costs, returned_costs
from sandbox.tests import forms_of_tests as forms
from sandbox.tests.service import Service, descendants, zygotes

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOOPS = 16
CONNECTIONS = 16
_ROWS_OF_A_REQUEST = 16
_HTTP_PART, _HTTP_PASSES = 640, 4
"""Programs of a turn, and passes over the load."""
KILLS = 50
PARTS = (
    "references",
    "forms",
    "cases",
    "published",
    "speed",
    "before",
    "libraries",
    "http",
    "peer",
    "attacks",
    "supervisor",
    "checkers",
    "reverify",
    "kills",
    "growth",
)
WITHOUT_LOAD = {"supervisor", "checkers", "reverify"}
"""Parts that need none of the reference load."""
MUTANTS = 2_400
"""Of programs for questions with several right answers; some are right."""
_MOST = {"cpuSecondsPerTest": 5.0, "cpuSecondsPerProgram": 20.0}
_WIDE = {"cpuSecondsPerTest": 1.0, "cpuSecondsPerProgram": 20.0}

Job = dict[str, Any]
Verdicts = dict[str, list[str]]


def judge(service: Service, jobs: Sequence[Job], **more: Any) -> tuple[Verdicts, float]:
    """(statuses by job, wall seconds) of one request."""
    start = time.monotonic()
    result = service.ask("judge", jobs=list(jobs), **more)
    seconds = time.monotonic() - start
    return {v["id"]: [outcome["status"] for outcome in v["outcomes"]] for v in result["verdicts"]}, seconds


def derived_limits(service: Service, load: Sequence[Question]) -> dict[str, dict[str, float]]:
    """The limits of each question, from its reference."""
    jobs = reference_jobs(load)
    derived = service.ask("limits", jobs=jobs, limits=_MOST)["limits"]
    return {job["id"]: limits for job, limits in zip(jobs, derived, strict=True)}


@contextmanager
def running() -> Iterator[Service]:
    service = Service("--workers", str(len(os.sched_getaffinity(0))))
    try:
        yield service
    finally:
        service.close()


@contextmanager
def endless_loops(count: int) -> Iterator[None]:
    """Busy neighbours, each in its own session, so that the scheduler gives each its own share."""
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


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
            statuses, seconds = judge(service, jobs)
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


class CommandLine:
    """A running `npm run sandbox`; the Node process is the leader of its own group."""

    def __init__(self, home: Path, rows: Path, verdicts: Path) -> None:
        # Not through npm and tsx's own starter: the process that is killed shall be the one that does the work.
        command = [
            "node",
            "--import",
            "tsx",
            "infra/commands/sandbox.ts",
            "--input",
            str(rows),
            "--output",
            str(verdicts),
        ]
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env={**os.environ, "ACECODER_HOME": str(home)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def victims(self) -> dict[str, list[int]]:
        """Process ids by what they are."""
        found: dict[str, list[int]] = {"worker": [self.process.pid], "supervisor": [], "zygote": []}
        for pid in descendants(self.process.pid):
            try:
                words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[1:3] == [b"-m", b"sandbox"]:
                found["supervisor"].append(pid)
            elif words[0].startswith(b"/") and any(word.endswith(b"zygote.py") for word in words[:6]):
                found["zygote"].append(pid)
        return found


def survive_kills(jobs: Sequence[Job], kills: int, home: Path) -> tuple[int, int, Counter[str]]:
    """(programs lost, programs judged differently, kills by kind) while zygotes, supervisors and Node processes are
    killed at random moments and the command is run again until its output is complete.
    """
    chance = random.Random(0)
    killed: Counter[str] = Counter()
    lost = different = 0
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder, "programs.jsonl")
        rows.write_text("".join(json.dumps({k: job[k] for k in ("id", "program", "tests")}) + "\n" for job in jobs))

        def read(file: Path) -> list[tuple[str, list[str]]]:
            parsed = [json.loads(line) for line in file.read_text().splitlines()]
            return [(row["id"], [outcome["status"] for outcome in row["outcomes"]]) for row in parsed]

        quiet = Path(folder, "quiet.jsonl")
        if CommandLine(home, rows, quiet).process.wait(600) != 0:
            raise RuntimeError("npm run sandbox fails without being disturbed")
        expected = dict(read(quiet))
        attempt = 0
        while sum(killed.values()) < kills:
            attempt += 1
            verdicts = Path(folder, f"{attempt}.jsonl")
            while True:
                running = CommandLine(home, rows, verdicts)
                while running.process.poll() is None and sum(killed.values()) < kills:
                    time.sleep(chance.uniform(0.2, 2.5))
                    kind = chance.choice(["worker", "supervisor", "zygote"])
                    if running.process.poll() is None and (pids := running.victims()[kind]):
                        os.kill(chance.choice(pids), signal.SIGKILL)
                        killed[kind] += 1
                if running.process.wait(600) == 0:
                    break
            judged = read(verdicts)
            lost += len(jobs) - len({id for id, _ in judged})
            different += sum(statuses != expected[id] for id, statuses in judged) + len(judged) - len(dict(judged))
    return lost, different, killed


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


# --- attacks ---------------------------------------------------------------------------------------------------------


def suite(file: str) -> tuple[int, int]:
    """(tests that pass, those that do not) of a file of the test suite."""
    tests = str(HERE.parent / "tests" / file)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", tests]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error|skipped)", said)}
    # What is skipped was not tried: without the data there is no figure.
    bad = sum(counts.get(word, 0) for word in ("failed", "error", "skipped"))
    if bad or not counts:
        print(said[-3000:], file=sys.stderr)
    return counts.get("passed", 0), bad if counts else 1


def attacks() -> tuple[int, int]:
    """(attacks tried, those that did something they should not) of the test suite, in every mode of the service."""
    tests = str(HERE.parent / "tests")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-k", "attack", tests]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True).stdout
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (passed|failed|error)", said)}
    if counts.get("failed") or counts.get("error") or not counts:
        print(said[-3000:], file=sys.stderr)
    bad = counts.get("failed", 0) + counts.get("error", 0)
    return counts.get("passed", 0) + bad, bad if counts else 1


# --- HTTP against direct ---------------------------------------------------------------------------------------------


def measure_http(jobs: Sequence[Job], home: Path, row: Callable[..., None], not_above: Callable[..., None]) -> None:
    """Rows on the same programs by direct calls and over HTTP, turn by turn, with as many processes.

    A turn has more requests than there are connections, so that all of them are at work. Each pass has new services,
    because a service knows what it has judged. The speed of a host drifts by tens of percent within seconds, so the
    ratio is that of the turn in the middle, and the two ways take turns in going first.
    """
    jobs = [job for job in jobs if job["tests"]]
    judged: dict[str, Verdicts] = {}
    for rows, bar in ((_ROWS_OF_A_REQUEST, 0.9), (1, None)):
        seconds: dict[str, list[float]] = {"direct": [], "http": []}
        for turn in range(_HTTP_PASSES):
            with running() as service, Server(home) as server:
                warm = [{"id": str(at), "program": "", "tests": ["assert 1"]} for at in range(64)]
                judge(service, warm[:1])
                server.judge(warm, CONNECTIONS, 1)
                for number, part in enumerate(jobs[at : at + _HTTP_PART] for at in range(0, len(jobs), _HTTP_PART)):
                    for way in ("direct", "http") if (turn + number) % 2 == 0 else ("http", "direct"):
                        if way == "direct":
                            statuses, took = judge(service, part)
                        else:
                            statuses, took = server.judge(part, CONNECTIONS, rows)
                        seconds[way].append(took)
                        judged.setdefault(way, {}).update(statuses)
        rates = {way: _HTTP_PASSES * len(jobs) / sum(took) for way, took in seconds.items()}
        ratios = sorted(direct / http for direct, http in zip(seconds["direct"], seconds["http"], strict=True))
        each = f"{rows} program{'s' if rows > 1 else ''} a request"
        row(f"programs/s by direct calls, next to {each}", rates["direct"], "programs/s")
        row(f"programs/s over HTTP, {CONNECTIONS} connections, {each}", rates["http"], "programs/s")
        row(f"HTTP against direct, {each}", statistics.median(ratios), "times", bar)
        print(f"  by turn: {ratios[0]:.2f} to {ratios[-1]:.2f}; all together: {rates['http'] / rates['direct']:.2f}")
    not_above("programs judged differently over HTTP", _different(judged["direct"], judged["http"]), "programs")


def _different(ours: Verdicts, theirs: Verdicts) -> int:
    return sum(statuses != theirs.get(id) for id, statuses in ours.items())


def checked_questions() -> tuple[int, int, int, int, int, int]:
    """(right programs, those that pass, mutants whose answers are wrong, those that fail, mutants that are right and do
    not pass, faults of checkers) of the questions with several right answers.
    """
    sys.path.insert(0, str(HERE.parent / "tests"))
    import checker_cases

    right = [(question, program) for question in checker_cases.QUESTIONS for program in question.programs]
    mutants = checker_cases.sample(MUTANTS, seed=0)
    with running() as service:
        programs = checker_cases.judged(service.ask, right)
        results = [
            result
            for start in range(0, len(mutants), 300)
            for result in checker_cases.judged(service.ask, mutants[start : start + 300])
        ]
    for result in [*programs, *results]:
        if result.faults or result.passes != result.is_right:
            print(f"  {result.question.name}: {result.outcomes}\n{result.program}")
    wrong = [result for result in results if not result.is_right]
    return (
        len(programs),
        sum(result.passes and result.is_right for result in programs),
        len(wrong),
        sum(not result.passes and not result.faults for result in wrong),
        sum(result.is_right and not result.passes for result in results),
        sum(bool(result.faults) for result in results),
    )


# --- programs that were judged before --------------------------------------------------------------------------------


def reverified() -> list[dict[str, Any]]:
    """The measures of `npm run bench:reverify`: the real workflow, on a server and workers of its own."""
    command = ["node", "infra/commands/run.mjs", "bench", "reverify", "--json"]
    said = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(said.strip().splitlines()[-1])["results"]


# --- the table -------------------------------------------------------------------------------------------------------


def measure_speed(jobs: Sequence[Job], row: Callable[..., None], not_above: Callable[..., None]) -> None:
    """Rows on the whole load: programs/s, and verdicts of three runs, the last next to endless loops."""
    runs: list[Verdicts] = []
    rates, cpu_rates = [], []
    for turn in range(3):
        # A new service each time: the cache is cold.
        with running() as service:
            if turn == 2:
                with endless_loops(LOOPS):
                    runs.append(judge(service, jobs)[0])
            else:
                statuses, seconds = judge(service, jobs)
                runs.append(statuses)
                rates.append(len(jobs) / seconds)
                cpu_rates.append(len(jobs) / cpu_seconds(service))
    row("programs/s on the reference load", max(rates), "programs/s", 350)
    row("programs per CPU second, all processes", max(cpu_rates), "programs/s")
    tests = sum(len(statuses) for statuses in runs[0].values())
    changed = [
        f"{id} test {at}: {', '.join(by_run)}"
        for id in runs[0]
        for at, by_run in enumerate(zip(*(run[id] for run in runs), strict=True))
        if len(set(by_run)) > 1
    ]
    print(f"verdicts: {dict(Counter(status for statuses in runs[0].values() for status in statuses))}")
    not_above(f"tests of {tests} that differ in three runs", len(changed), "tests")
    for line in changed:
        print(f"  {line}")
    late = [job for job in jobs if {"timeout", "not_run", "load_error"} & set(runs[0][job["id"]])]
    with running() as service:
        wide, _ = judge(service, [{**job, "limits": _WIDE} for job in late])
    failed = sum(ours != theirs == "pass" for id in wide for ours, theirs in zip(runs[0][id], wide[id], strict=True))
    not_above("tests that pass with 1 s a test but not with our limits", failed, "tests")


def main() -> int:
    parser = argparse.ArgumentParser(prog="npm run bench:sandbox --", description="Measures the sandbox.")
    parser.add_argument("--json", action="store_true", help="print one JSON object on the last line")
    parser.add_argument("--programs", type=int, default=100_000, help="programs of the memory measurement (100000)")
    parser.add_argument("--kills", type=int, default=KILLS, help=f"times that something is killed ({KILLS})")
    parser.add_argument("--every", type=int, default=1, help="only every so many-th question of the load (1)")
    parser.add_argument("--only", choices=PARTS, action="append", help="only this part; may be repeated (all)")
    options = parser.parse_args()
    parts = options.only or PARTS
    shared = Path(os.environ.get("ACECODER_SHARED") or ROOT.parent / "shared")
    home = Path(os.environ.get("ACECODER_HOME") or ROOT / ".acecoder")
    try:
        every_question = [] if WITHOUT_LOAD.issuperset(parts) else questions(shared)
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

    def not_above(name: str, value: float, unit: str, bar: float = 0) -> None:
        row(name, value, unit, bar, at_most=True)

    with running() as service:
        isolation = service.versions["isolation"]
        print(f"isolation {service.versions['level']} ({isolation}), Python {service.versions['python']}")
        limits = derived_limits(service, load)
    derived = Counter(each["cpuSecondsPerTest"] for each in limits.values())
    print(f"derived limits, seconds a test: {dict(sorted(derived.items()))}")
    jobs = load_jobs(load, limits)
    if "references" in parts:
        references = [{**job, "limits": limits[job["id"]]} for job in reference_jobs(load)]
        with running() as service:
            quiet, _ = judge(service, references)
        with running() as service, endless_loops(LOOPS):
            beside, _ = judge(service, references)
        row("references that pass", sum(s == ["pass"] for s in quiet.values()), "programs", len(load))
        passing = sum(s == ["pass"] for s in beside.values())
        row(f"references that pass beside {LOOPS} loops", passing, "programs", len(load))
    if "forms" in parts:
        with running() as service:
            tests = {f"vacuous {n}": test for n, test in enumerate(forms.VACUOUS)} | forms.FORMS
            found, _ = judge(service, [{"id": id, "program": forms.RIGHT, "tests": [tests[id]]} for id in tests])
        kept = sum(found[id] == ["pass"] for id in tests if id not in forms.FORMS)
        not_above(f"tests that test nothing and are kept, of {len(forms.VACUOUS)} forms", kept, "tests")
        not_above(
            f"right tests lost, of {len(forms.FORMS)} forms", sum(found[id] != ["pass"] for id in forms.FORMS), "tests"
        )
    if "cases" in parts:
        for name, file in (
            ("groups of verdict-cases that are not as expected", "test_shared_cases.py"),
            ("walls behind which a program finds text of another", "test_memory.py"),
        ):
            passed, failed = suite(file)
            not_above(name, failed, f"of {passed + failed}")
    if "published" in parts:
        for name, programs, published in sets(shared):
            with running() as service:
                different = differences(service, programs, published)
            for each in different:
                print(f"  {each['id']}: {each['status']} {EXPLAINED.get(name, {}).get(each['id'], 'NOT EXPLAINED')}")
            unexplained = [each for each in different if each["id"] not in EXPLAINED.get(name, {})]
            row(f"{name}: programs judged as published", len(programs) - len(different), f"of {len(programs)}")
            not_above(f"{name}: others without a reason", len(unexplained), "programs")
    if "speed" in parts:
        measure_speed(jobs, row, not_above)
    if "before" in parts:
        with tempfile.TemporaryDirectory() as folder:
            ours, theirs, ratios, cpu_ratio = against_version(jobs, ROOT, Path(folder))
        row("programs/s, next to version 0.1.0", ours, "programs/s")
        row("programs/s of version 0.1.0", theirs, "programs/s")
        row("times as fast as version 0.1.0", ours / theirs, "times", 1)
        row("CPU time of version 0.1.0 over ours", cpu_ratio, "times", 1)
        print(f"  by turn: {ratios[0]:.2f} to {ratios[-1]:.2f}, {ratios[len(ratios) // 2]:.2f} in the middle")
    if "libraries" in parts:
        row("programs with numpy/s over programs without", numpy_against_stdlib(), "times", 0.5)
    if "http" in parts:
        measure_http(jobs, home, row, not_above)
    if "peer" in parts:
        ours, peers, agreement = against_peer(load, limits, home)
        row("programs/s on call == literal (ours)", ours, "programs/s")
        row("programs/s on call == literal (EvalPlus 0.3.1)", peers, "programs/s")
        row("times as fast as EvalPlus", ours / peers, "times", 12)
        print("agreement with EvalPlus by test")
        for kind, count in agreement.most_common():
            print(f"  {count:6d}  {kind:38s} {_EXPLANATIONS.get(kind, '')}")
        unexplained = sum(count for kind, count in agreement.items() if kind != "same" and kind not in _EXPLANATIONS)
        not_above("differences to EvalPlus without an explanation", unexplained, "tests")
    if "attacks" in parts:
        tried, failed = attacks()
        row("attacks tried, over all ways to start the sandbox", tried, "attacks", 49)
        not_above("attacks that did what they should not", failed, "attacks")
    if "supervisor" in parts:
        with running() as service:
            costs = [*forged_costs(), *returned_costs(service)]
        for cost in sorted(costs, key=lambda cost: -cost.seconds):
            print(f"  {cost.name:56s} {cost.seconds:7.3f} s {cost.mebibytes:7.1f} MiB  {cost.status}")
        slowest, largest = max(cost.seconds for cost in costs), max(cost.mebibytes for cost in costs)
        not_above(f"supervisor's CPU time of one of {len(costs)} hostile values", slowest, "s", BAR_SECONDS)
        not_above("supervisor's memory for one of them", largest, "MiB", BAR_MEBIBYTES)
        passed = sum(cost.status == "pass" and cost.name != RIGHT for cost in costs)
        not_above("of them, values that pass and are not right", passed, "values")
    if "reverify" in parts:
        for measure in reverified():
            row(measure["name"], measure["value"], measure["unit"], measure.get("bar"), measure.get("at") == "most")
    if "checkers" in parts:
        right, passed, wrong, killed, lost, faults = checked_questions()
        row("right programs of questions with several answers", right, "programs", 80)
        not_above("of them, programs that fail", right - passed, "programs")
        row("mutants of them that answer wrongly", wrong, "programs", 2_000)
        row("of them, mutants that fail", 100 * killed / max(1, wrong), "%", 99)
        not_above("mutants that answer rightly and fail", lost, "programs")
        not_above("mutants on which a checker has a fault", faults, "programs")
    if "kills" in parts:
        lost, different, killed = survive_kills([job for job in jobs if job["tests"]][::8], options.kills, home)
        print(f"kill -9: {dict(killed)}")
        not_above(f"programs lost in {options.kills} kill -9", lost, "programs")
        not_above("programs judged twice or differently", different, "programs")
    if "growth" in parts:
        mebibytes, descriptors, zombies = memory_growth(options.programs)
        not_above(f"growth of memory over {options.programs} programs", mebibytes, "MiB", 16)
        not_above("growth of file descriptors", descriptors, "descriptors")
        not_above("zombies", zombies, "processes")
    if options.json:
        machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, {isolation}"
        print(json.dumps({"bench": "sandbox", "machine": machine, "results": results}))
    return 0 if all(result["met"] for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())

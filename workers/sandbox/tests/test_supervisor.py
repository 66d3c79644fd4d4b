"""What hostile processes write ends no batch, passes nothing, and is read no further than it needs to be.

What it costs is measured: `npm run bench:sandbox -- --only supervisor`.
"""

from __future__ import annotations

import json
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from sandbox import asserts, verdicts
from sandbox.asserts import Interaction
from sandbox.bench.supervisor import EQUAL, FORGED, OUTPUTS
from sandbox.inside import program
from sandbox.pool import ENDED, Job, Limits, Report
from sandbox.verdicts import Test, Trial, Work, trial_of


def of_values(data: bytes, *tests: Test) -> Trial:
    return trial_of(Work("", tests, Limits()), 0, Job(""), Report(ENDED, records=data))


def of_output(test: Test, output: bytes) -> Trial:
    loaded = b"".join(len(text).to_bytes(4, "big") + text for text in (b"", b'{"status": "loaded"}'))
    return trial_of(Work("", (test,), Limits()), 0, Job("", stdin=""), Report(ENDED, records=loaded, output=output))


def records(*texts: bytes) -> bytes:
    return b"".join(len(text).to_bytes(4, "big") + text for text in (b"", b'{"status": "loaded"}', *texts))


@pytest.mark.parametrize("name", FORGED)
def test_forged_records_end_no_batch_and_pass_nothing(name: str) -> None:
    test, data = FORGED[name]
    trial = of_values(data(), test)
    assert len(trial.outcomes) == 1
    assert trial.deferred or trial.statuses[0] in ("killed", "assertion_failed", "raised")


@pytest.mark.parametrize("name", OUTPUTS)
def test_large_outputs_pass_nothing(name: str) -> None:
    test, output = OUTPUTS[name]
    assert of_output(test, output()).statuses[0] in ("killed", "assertion_failed")


def test_of_more_records_than_tests_only_the_first_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[bytes] = []
    monkeypatch.setattr(verdicts, "_read", lambda text, real=verdicts._read: (read.append(text), real(text))[1])
    trial = of_values(records(*[b'{"status":"values","values":[["i","%x"]]}' % at for at in range(1_000)]), EQUAL)
    assert trial.statuses == ["killed"]
    assert len(read) <= 5


def test_only_a_run_that_tells_late_tests_apart_may_say_so() -> None:
    data = records(b'{"status":"late"}', b'{"status":"end"}')
    assert of_values(data, EQUAL, EQUAL).statuses == ["killed", "not_run"]
    work, report = Work("", (EQUAL, EQUAL), Limits()), Report(ENDED, records=data)
    trial = trial_of(work, 0, Job("", late_after=1.0), report)
    assert (trial.statuses, trial.late, trial.last_time_out) == (["timeout", "not_run"], True, 0)


def test_equal_records_are_judged_once_and_their_outcomes_are_apart() -> None:
    record = b'{"status":"values","values":[["i","1"]]}'
    weak = "assert isinstance(f(), int)"
    first, second = (of_values(records(record, record), EQUAL, "assert f() == 2").outcomes for _ in range(2))
    assert first == second
    assert [outcome["status"] for outcome in first] == ["pass", "assertion_failed"]
    first[0]["reason"] = "changed"
    assert of_values(records(record), EQUAL).outcomes == [{"status": "pass"}]
    # What is said of a test is no part of what is kept of a record.
    assert "weak" not in of_values(records(record), EQUAL).outcomes[0]
    assert of_values(records(b'{"status":"ran"}'), weak).statuses == ["killed"]


def test_values_that_no_honest_process_sends_are_not_made() -> None:
    honest = json.dumps(["l", [["i", "1"]] * 19_000], separators=(",", ":"))
    forged = json.dumps(["l", [["i", "1"]] * 30_000], separators=(",", ":"))
    wanted = f"assert f() == [1] * {19_000}"
    assert of_values(records(b'{"status":"values","values":[' + honest.encode() + b"]}"), wanted).statuses == ["pass"]
    killed = of_values(records(b'{"status":"values","values":[' + forged.encode() + b"]}"), EQUAL)
    assert killed.outcomes == [{"status": "killed", "reason": "wrote to the result channel"}]
    # Members that nothing reads cost nothing either.
    more = b'{"status":"raised","reason":"x","more":[' + b",".join([b"0"] * 20_000) + b"]}"
    assert of_values(records(more), EQUAL).statuses == ["killed"]


@pytest.mark.parametrize("compare", asserts.COMPARISONS)
def test_long_outputs_are_compared_as_short_ones(compare: str) -> None:
    def same(written: str, wanted: str) -> bool:
        return of_output(Interaction("", wanted, compare), written.encode()).statuses == ["pass"]

    blanks = " " * 50_000
    assert same("1 2\n" + blanks, "1 2")
    assert same(f"1{blanks}2", f"1{blanks}2")
    assert same(f"1{blanks}2", "1 2") == (compare != "exact")
    assert same(f"1\t{blanks}\t2", "1 2") == (compare != "exact")
    assert not same(f"1{blanks}3", "1 2")
    assert not same("1 2\n" * 5_000, "1 2")
    assert not same("1 2 " * 5_000, "1 2")
    # A number may be spelled longer than it is expected.
    assert same("1.5" + "0" * 50, "1.5") == (compare in ("floats", "decimals"))
    assert same("x" * 2_000_000, "x" * 2_000_000)
    assert not same("x" * 2_000_000, "x" * 1_000)


@pytest.mark.parametrize("blank", [" ", "\t", "\n", "\r\n", "\u3000", "\U0001f600 "])
def test_white_space_counts_for_nothing_up_to_a_limit_that_is_told(blank: str) -> None:
    def outcome(bytes_: int, compare: str = "tokens") -> Any:
        return of_output(Interaction("", "1\n2", compare), f"1\n{blank * (bytes_ // len(blank.encode()))}2".encode())

    assert outcome(900_000).statuses == ["pass" if blank.isspace() else "assertion_failed"]
    assert outcome(900_000, "exact").statuses == ["assertion_failed"]
    long = outcome(1_200_000).outcomes[0]
    assert long["status"] == "assertion_failed"
    assert re.match(r"1,(199|200),\d{3} bytes, of which at most 1,000,403 are compared: got '1", long["reason"])


def test_every_number_of_an_output_may_stand_in_a_wide_column() -> None:
    wanted = "\n".join(f"{at}.5" for at in range(40_000))
    written = "\n".join(f"{at}.5".rjust(150) for at in range(40_000))
    assert of_output(Interaction("", wanted), written.encode()).statuses == ["pass"]


HONEST: dict[str, Any] = {
    "integers": 7,
    "floats": 1 / 3,
    "complex numbers": complex(1 / 3, -1e-300),
    "fractions": Fraction(1, 3),
    "decimals": Decimal("0.1"),
    "nothing": None,
    "texts that end like a tag": '["i["',
    "empty lists": [],
    "dictionaries": {"[": "]", 1: {}},
    "sets": {1, 2},
    "bytes": b"[",
}


@pytest.mark.parametrize("kind", HONEST)
def test_as_many_values_as_a_process_sends_are_read(kind: str) -> None:
    few, many = 1, 30_000
    while many - few > 1:
        middle = (few + many) // 2
        if program.encode([HONEST[kind]] * middle)[0] == "l":
            few = middle
        else:
            many = middle
    assert few >= 2_000
    assert _read_back([HONEST[kind]] * few)


@pytest.mark.parametrize("text", [",", '["', "é", "😀", "\0", '"', "\\"])
def test_as_long_texts_as_a_process_sends_are_read(text: str) -> None:
    length = 199_900 // len(text) // (1 if text.isascii() else 12)
    assert _read_back(text * length)


def _read_back(value: Any) -> bool:
    """Whether a value comes back as it was, from the text of a record with it."""
    encoded = program.encode(value)
    assert encoded[0] != "o"
    text = json.dumps({"status": "values", "values": [encoded]}, separators=(",", ":")).encode()
    (_, record) = verdicts._records(Report(ENDED, records=records(text)), 1)
    return asserts.decode(verdicts._whole(record)["values"][0]) == value


@pytest.mark.parametrize(
    "encoded",
    [
        ["l", [["o", ["t", True]]]],
        ["l", [["c", ["0x1p0", "0x1p0"]]] * 7_001],
        ["l", [["q", [["i", "1"], ["i", "3"]]]] * 7_001],
        ["d", [[["i", "1"]]]],
        ["c", ["0x1p0"]],
        ["q", [["i", "1"], ["f", "0x1p0"]]],
        ["q", [["i", 1], ["i", "3"]]],
        ["o", ["t"]],
        ["l", "x"],
        ["l", [1]],
        [["l"], []],
    ],
)
def test_values_in_another_form_are_malformed(encoded: Any) -> None:
    with pytest.raises(asserts.Malformed):
        asserts.decode(encoded)


def test_of_an_answer_nothing_is_read_but_the_answer() -> None:
    answer = "x" * 20_000
    good = f'{{"status":"answer","answer":"{answer}"}}'.encode()
    assert verdicts._record(good) == {"status": "answer", "answer": answer}
    for text in (good[:-1] + b',"more":[]}', good + b"}", good[:-2], good[:-1]):
        assert verdicts._record(text) is None


def test_an_output_that_is_no_text_is_told_and_never_equal() -> None:
    valid = b"a" * 4_000_001
    assert of_output(Interaction("", "a" * 4_000_001, "exact"), valid + b"\xff").statuses == ["assertion_failed"]
    assert of_output(Interaction("", "a" * 4_000_001, "exact"), valid).statuses == ["pass"]
    short = of_output(Interaction("", "a", "exact"), b"a\xff").outcomes[0]
    assert short["reason"] == _got("a\udcff")


def _got(text: str) -> str:
    return f"got {text!r}"

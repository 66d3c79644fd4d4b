"""Splitting asserts, and judging values outside."""

from __future__ import annotations

import math

import pytest

from sandbox import asserts

INT = ["i", "4"]
OBJECT = ["o", ["AlwaysEqual", True]]


@pytest.mark.parametrize(
    ("test", "sources"),
    [
        ("assert f(2) == 4", ["f(2)"]),
        ("assert 4 == f(2), 'message'", ["f(2)"]),
        ("assert f(g(2))[0].x == {'a': [1, -2.5, (None,)]}", ["f(g(2))[0].x"]),
        ("assert f(2) is None", ["f(2)"]),
        ("assert f(2) is not True", ["f(2)"]),
        ("assert not f(2)", ["f(2)"]),
        ("assert f(2)", ["f(2)"]),
        ("assert abs(f(2) - 1.5) < 1e-6", ["f(2)"]),
        ("assert 0 <= f(2) < 10 and f(3) != 2", ["f(2)", "f(3)"]),
        ("assert sorted(f(2)) == sorted([3, 1])", ["sorted(f(2))"]),
        ("assert len(f(2)) == 3", ["len(f(2))"]),
        ("assert f(2) in [1, 2] and f(3) == set()", ["f(2)", "f(3)"]),
        ("assert f(2) == [0] * 3 + [2 ** 3]", ["f(2)"]),
        ("assert math.isclose(f(2), 1.5, rel_tol=1e-9)", ["math.isclose", "f(2)"]),
        ("assert Stack().push(3) == [3]", ["Stack().push(3)"]),
        ("assert [f(i) for i in range(2)] == [0, 1]", ["[f(i) for i in range(2)]"]),
    ],
)
def test_expected_values_stay_outside(test: str, sources: list[str]) -> None:
    kind, codes = asserts.plan(test).step
    assert kind == "values"
    assert codes == [compile(source, "<test>", "eval", dont_inherit=True) for source in sources]


@pytest.mark.parametrize(
    "test",
    [
        "x = f(2)\nassert x == 4",
        "check(f)\nassert True",
        "assert f(2) == g(2)",
        "assert f(2) is 4",
        "assert f(2) == 4 or f(3) == 4",
        "assert all(f(i) == i for i in range(3))",
        "assert isinstance(f(2), int)",
        "assert f(2).startswith('a')",
        "assert f(2).__eq__(4)",
        "assert [f(i) == i for i in range(2)] == [True, True]",
        "assert f(2) == Point(1, 2)",
        "assert True",
        "assert f(2 ==",
        "f(2) == 4",
        "assert f(2) == " + "[" * 300 + "]" * 300,
        "assert f('" + "a" * 70_000 + "') == 4",
    ],
)
def test_everything_else_runs_inside(test: str) -> None:
    assert (asserts.plan(test).step, asserts.plan(test).holds) == (("run", test), None)


@pytest.mark.parametrize(
    ("test", "values", "status"),
    [
        ("assert f() == 4", [INT], "pass"),
        ("assert f() == 4.0", [INT], "pass"),
        ("assert f() == 5", [INT], "assertion_failed"),
        ("assert f() == True", [True], "pass"),
        ("assert f() is True", [["i", "1"]], "assertion_failed"),
        ("assert f() == (1, 2)", [["l", [["i", "1"], ["i", "2"]]]], "assertion_failed"),
        ("assert f() == {'a': {1}}", [["d", [["a", ["s", [["i", "1"]]]]]]], "pass"),
        ("assert f() == float('inf')", [["f", "inf"]], "pass"),
        ("assert f() == f2 + 1", [INT], None),
        ("assert abs(f() - 4.1) < 0.2", [INT], "pass"),
        ("assert abs(f() - 4.1) < 0.2", ["four"], "raised"),
        ("assert f() < 'a'", [INT], "raised"),
        ("assert f() == 0.5", [["q", [["i", "1"], ["i", "2"]]]], "pass"),
        ("assert f() == 1.5", [["m", "1.50"]], "pass"),
        ("assert f() == 4", [OBJECT], "assertion_failed"),
        ("assert f() != 5", [OBJECT], "assertion_failed"),
        ("assert f() in [4]", [OBJECT], "assertion_failed"),
        ("assert abs(f() - 4) < 1", [OBJECT], "assertion_failed"),
        ("assert [f()] == [4]", [OBJECT], "assertion_failed"),
        ("assert f() is not None", [OBJECT], "pass"),
        ("assert f()", [OBJECT], "pass"),
        ("assert not f()", [["o", ["Empty", False]]], "pass"),
        ("assert round(f(), 1) == 2.7", [["f", math.e.hex()]], "pass"),
        ("assert 2 ** f() == 16", [INT], "pass"),
        ("assert 2 ** f() == 16", [["i", "f" * 50]], "raised"),
    ],
)
def test_outcomes_follow_python(test: str, values: list[object], status: str | None) -> None:
    plan = asserts.plan(test)
    if status is None:
        assert plan.holds is None
    else:
        assert asserts.outcome(plan, values)["status"] == status


@pytest.mark.parametrize(
    "encoded",
    [
        {"i": "4"},
        ["i", 4],
        ["i", "xyz"],
        ["f", "1.0.0"],
        ["f", "0x1p99999"],
        ["b", "0"],
        ["s", [["l", []]]],
        ["d", [["a"]]],
        ["q", [["i", "1"], ["i", "0"]]],
        ["unknown", []],
        [],
        4,
        ["o", ["name", 1]],
        ["s", [["i", f"{(2**61 - 1) * factor:x}"] for factor in range(5_000)]],
    ],
)
def test_hostile_encodings_are_refused(encoded: object) -> None:
    with pytest.raises(asserts.Malformed):
        asserts.decode(encoded)


def test_deep_encodings_are_refused() -> None:
    encoded: object = ["l", []]
    for _ in range(100_000):
        encoded = ["l", [encoded]]
    with pytest.raises(asserts.Malformed):
        asserts.decode(encoded)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        -7,
        2.5,
        "a'\n\ud800",
        b"\x00",
        [1, (2,), ()],
        {3, 1, 2},
        set(),
        frozenset({1}),
        {"a": {1: 2}},
        [10**5000],
    ],
)
def test_literals_mean_the_value(value: object) -> None:
    assert eval(asserts.literal(value)) == value


def test_literals_of_sets_do_not_depend_on_order() -> None:
    assert asserts.literal({"b", "a", "c"}) == "{'a', 'b', 'c'}"

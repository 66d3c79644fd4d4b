"""Splitting asserts, and judging values outside."""

from __future__ import annotations

import math
from typing import Any

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
        ("assert f(2) == 4\nassert f(3) == 6 and g()", ["f(2)", "f(3)", "g()"]),
        ("A = {'a': 1}\ndef check(c):\n    assert c(2) == 4\n    assert c(c(2)) == 8\ncheck(f)", ["f(2)", "f(f(2))"]),
        ("f(2) == 4", ["f(2)"]),
        ("assert f(2) == g(2)", ["f(2)", "g(2)"]),
        ("assert (f(2) == 4, 'message')", ["f(2)"]),
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
        "assert f(2) is 4",
        "assert f(2) == 4 or f(3) == 4",
        "assert all(f(i) == i for i in range(3))",
        "assert isinstance(f(2), int)",
        "assert f(2).startswith('a')",
        "assert f(2).__eq__(4)",
        "assert [f(i) == i for i in range(2)] == [True, True]",
        "assert True",
        "assert f(2 ==",
        "x = f(2)\nx == 4",
        "assert f(2) == " + "[" * 300 + "]" * 300,
        "assert f('" + "a" * 70_000 + "') == 4",
    ],
)
def test_everything_else_runs_as_it_is(test: str) -> None:
    assert (asserts.plan(test).step, asserts.plan(test).holds) == (("text", test), None)


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
        ("assert f() == f2 + 1", [INT, ["i", "3"]], "pass"),
        ("assert f() == g()", [INT, OBJECT], "deferred"),
        ("assert abs(f() - 4.1) < 0.2", [INT], "pass"),
        ("assert abs(f() - 4.1) < 0.2", ["four"], "raised"),
        ("assert f() < 'a'", [INT], "raised"),
        ("assert f() == 0.5", [["q", [["i", "1"], ["i", "2"]]]], "pass"),
        ("assert f() == 1.5", [["m", "1.50"]], "pass"),
        ("assert f() == 4", [OBJECT], "deferred"),
        ("assert f() != 5", [OBJECT], "deferred"),
        ("assert f() in [4]", [OBJECT], "deferred"),
        ("assert abs(f() - 4) < 1", [OBJECT], "deferred"),
        ("assert [f()] == [4]", [OBJECT], "deferred"),
        ("assert f() in 'yes no'", [""], "assertion_failed"),
        ("assert f() == 2 ** 1000", [["i", f"{2**1000:x}"]], "pass"),
        ("assert f() == 2 ** 100000", [INT], "deferred"),
        ("assert f() - 1 > 10", [["i", "f" * 5_000]], "deferred"),
        ("assert f() == [0] * 2_000_000", [INT], "deferred"),
        ("assert round(f()) == 4", [["m", "1E+3000000"]], "deferred"),
        ("assert f() == 0.5", [["q", [["i", "1" * 100_000], ["i", "3" * 100_000]]]], "deferred"),
        ("assert f() is not None", [OBJECT], "pass"),
        ("assert f()", [OBJECT], "pass"),
        ("assert not f()", [["o", ["Empty", False]]], "pass"),
        ("assert round(f(), 1) == 2.7", [["f", math.e.hex()]], "pass"),
        ("assert 2 ** f() == 16", [INT], "pass"),
        ("assert 2 ** f() == 16", [["i", "f" * 50]], "deferred"),
    ],
)
def test_outcomes_follow_python(test: str, values: list[object], status: str | None) -> None:
    plan = asserts.plan(test)
    if status is None:
        assert plan.holds is None
    elif status == "deferred":
        with pytest.raises(asserts.Defer):
            asserts.outcome(plan, values)
    else:
        assert asserts.outcome(plan, values)["status"] == status


def test_the_first_assert_that_fails_decides() -> None:
    plan = asserts.plan("assert f() == 4\nassert g() == 5\nassert h()")
    failure: Any = {"status": "raised", "reason": "ValueError"}
    assert asserts.outcome(plan, [INT], failure) == failure
    assert asserts.outcome(plan, [INT, INT], failure)["reason"] == "got 4"
    with pytest.raises(asserts.Malformed):
        asserts.outcome(plan, [INT])


@pytest.mark.parametrize(
    ("test", "weak"),
    [
        ("assert f(1) == f(1)", True),
        ("assert f(1) is not None", True),
        ("assert f(1) != None", True),
        ("assert isinstance(f(1), int)", True),
        ("assert type(f(1)) == int", True),
        ("assert callable(f)", True),
        ("assert f(1) == 2 or True", True),
        ("assert len(f(1)) >= 0", True),
        ("assert isinstance(f(1), int) and f(1) is not None", True),
        ("assert isinstance(f(1), int) and f(1) == 2", False),
        ("assert f(1) is None", False),
        ("assert f(1)", False),
        ("assert f(1) == f(2)", False),
        ("import unittest\nclass T(unittest.TestCase):\n  def test_a(self): self.assertIsNotNone(f(1))", True),
        ("import unittest\nclass T(unittest.TestCase):\n  def test_a(self): self.assertEqual(f(1), 2)", False),
        ("with pytest.raises(ValueError): f(1)", False),
    ],
)
def test_weak_tests_are_known(test: str, weak: bool) -> None:
    assert asserts.plan(test).weak is weak


@pytest.mark.parametrize(
    ("written", "wanted", "compare", "same"),
    [
        ("1 \n2\n\n", "1\n2", "floats", True),
        ("\n1", "1", "floats", False),
        ("0.3333333333", "0.333333", "floats", True),
        ("0.3334", "0.333333", "floats", False),
        ("1000000.5", "1000000.0", "floats", True),
        ("4.0", "4", "floats", True),
        ("4.0000001", "4", "floats", False),
        ("1000001", "1000000", "floats", False),
        ("+5", "5", "floats", False),
        ("05", "5", "floats", False),
        ("1_0", "10", "floats", False),
        ("nan", "NaN", "floats", False),
        ("1\t2", "1 2", "floats", True),
        ("1\v2", "1 2", "floats", False),
        ("1\n2", "1 2", "floats", False),
        ("1\n2", "1 2", "tokens", True),
        ("1.0", "1", "tokens", False),
        ("1 ", "1", "exact", True),
        ("1 \n2", "1\n2", "exact", False),
        ("1E+3000000", "1E+3000001", "floats", False),
        ("9" * 100_000, "9" * 99_999 + "8", "floats", False),
        ("\n\n 1 \n2 \n", "1\n2", "decimals", True),
        ("1\n\n2", "1\n2", "decimals", False),
        ("4.0\t+05 1_0", "4 5 10", "decimals", True),
        ("1e2 -0", "100 0", "decimals", True),
        ("0.3333333333", "0.333333", "decimals", False),
        ("4.0000000000000000000000000000001", "4", "decimals", False),
        ("yes  1", "yes 1", "decimals", False),
        ("nan", "NaN", "decimals", False),
        ("sNaN", "1", "decimals", False),
        ("Infinity", "inf", "decimals", True),
        ("1 2 3", "1 2", "decimals", False),
        ("1", "", "decimals", False),
        ("", " \n", "decimals", True),
        ("1E+3000000", "1E+3000001", "decimals", False),
        ("1E+99999999999999999999", "1", "decimals", False),
        ("9" * 100_000 + ".0", "9" * 100_000, "decimals", True),
    ],
)
def test_outputs_are_compared_as_judges_do(written: str, wanted: str, compare: str, same: bool) -> None:
    assert asserts.same_output(written, asserts.Interaction("", wanted, compare)) is same


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


@pytest.mark.parametrize(
    "spelling",
    [
        "assert f(1) == 2", "assert f( 1 )==2", "assert f(1) == 2, 'message'", "assert 2 == f(1)",
        "assert f(1) == 1 + 1",
        "assert f(1) == int('2')", "assert f(1) == 2.0", "assert (f(1) == 2)", "assert f(1) == 0x2  # two", "f(1) == 2",
        "assert abs(f(1) - 2) < 1e-6", "assert f(1) == -(-2)", "assert not f(1) != 2", "assert not (f(1) != 2)",
        "assert not not f(1) == 2", "assert [f(1)] == [2]", "assert (f(1),) == (2,)", "assert all([f(1) == 2])",
        "assert any((f(1) == 2,))", "assert f(1) in [2]", "assert f(1) in {2}", "assert (f(1) == 2) is True",
        "assert (f(1) == 2) == True", "assert True == (f(1) == 2)", "assert (f(1) != 2) is False",
        "assert f(1) == 2 and True", "assert f(1) == 2 or False", "assert bool(f(1) == 2)", "assert f(1).__eq__(2)",
        "assert 2 <= f(1) <= 2", "assert f(3 - 2) == 2", "assert f(int('1')) == 2", "assert f(*[1]) == 2",
        "assert f(+1) == 2", "assert f(1) == 2\nassert 2 == f(1)", "assert f(1) == 2 and f(1) == 2",
        "import math\nassert f(1) == 2", "from solution import f\nassert f(1) == 2",
        "if f(1) != 2:\n    raise ValueError", "def test_f():\n    assert f(1) == 2",
        "async def test_f():\n    assert f(1) == 2",
        "def test_f():\n    assert f(1) == 2\ntest_f()",
        "class TestF:\n    def test_f(self):\n        assert f(1) == 2",
        "x = f(1)\nassert x == 2", "expected = 2\nassert f(1) == expected",
        "def test_f():\n    result = f(1)\n    expected: int = 2\n    assert result == expected, 'no'",
        "def check(candidate):\n    assert candidate(1) == 2\ncheck(f)",
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 2)\n"
        "if __name__ == '__main__':\n    unittest.main()",
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertTrue(f(1) == 2)",
        "import unittest\nclass T(unittest.TestCase):\n    def test_f(self):\n        self.assertFalse(f(1) != 2)",
    ],
)  # fmt: skip
def test_spelling_makes_no_other_test(spelling: str) -> None:
    assert asserts.normal(spelling) == ("f(1) == 2", "2")


def test_other_tests_are_other_tests() -> None:
    tests = ["assert f(1) == 2", "assert f(2) == 2", "assert f(1) == '2'", "assert f(1) == [2]", "assert f(1) == (2,)"]
    tests += ["assert f(1)", "assert not f(1)", "assert f(1) ==", "assert f(1) == None", "assert f(1.0) == 2"]
    tests += ["assert f(1) != 2", "assert f(1) in [2, 3]", "assert f(1) == 2 or f(1) == 3", "assert not f(1) < 2"]
    tests += ["assert f(1) >= 2", "assert f(1) == 2 and f(2) == 3", "assert any([f(1) == 2, f(1) == 3])"]
    tests += ["x = f(1)\nf(1)\nassert x == 2", "for x in [1]:\n    assert f(x) == 2", "x = 1\nx = 2\nassert f(x) == 2"]
    tests += ["def test_f(x):\n    assert f(1) == 2", "try:\n    assert f(1) == 2\nfinally:\n    pass"]
    tests += ["class T:\n    x = 3\n    def test_f(self):\n        assert f(1) == 2", "assert f([1], *[x]) == 2"]
    assert len({asserts.normal(test)[0] for test in tests}) == len(tests)
    assert (
        asserts.normal("assert f() == {1: 2, 'a': {1, 2}}")[1] == asserts.normal("assert g() == {'a': {2, 1}, 1: 2}")[1]
    )

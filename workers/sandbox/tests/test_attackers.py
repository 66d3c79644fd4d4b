"""The program that proposes inputs, run here on programs of this file alone."""

from __future__ import annotations

import ast
import json
import random
from typing import Any

import pytest

from sandbox import attackers

EVENS = "def evens(xs):\n    return sum(x for x in xs if x % 2 == 0)\n"
TESTS = ["assert evens([1, 2, 3, 4]) == 6", "assert evens([2, 8, 5]) == 10", "assert evens([7, 6]) == 6"]


def attack(reference: str = EVENS, tests: list[str] = TESTS, entry_point: str = "evens", **more: Any) -> dict[str, Any]:
    given = {
        "reference": reference,
        "entryPoint": entry_point,
        "tests": tests,
        "seed": 7,
        "pool": 200,
        "mutants": 50,
        "executions": 20_000,
        "callSeconds": 0.05,
        "strangest": 12,
        "killsPerMutant": 40,
        "obeysContract": True,
        **more,
    }
    return attackers.Attack(given).run()


def inputs(*arguments: list[Any]) -> list[attackers.Input]:
    return [attackers.Input(values, []) for values in arguments]


def test_same_seed_same_proposals_and_another_seed_others() -> None:
    first, second = json.dumps(attack()), json.dumps(attack())
    assert first == second
    assert json.dumps(attack(seed=8)) != first


def test_answers_are_those_of_the_reference() -> None:
    candidates = attack()["candidates"]
    assert len(candidates) > 100
    names: dict[str, Any] = {}
    exec(EVENS, names)  # noqa: S102 - a program of this file
    for candidate in candidates:
        assert eval(candidate["call"], names) == ast.literal_eval(candidate["answer"])


def test_survivors_of_the_tests_are_killed_by_candidates() -> None:
    told = attack(tests=["assert evens([2]) == 2"])
    survivors = told["mutants"]["survivors"]
    assert survivors
    assert any(each["killed"] for each in survivors)
    for candidate in told["candidates"]:
        assert all(survivors[at]["killed"] for at in candidate["kills"])


def test_an_endless_mutant_is_stopped_by_its_steps() -> None:
    reference = "def down(n):\n    while n > 0:\n        n -= 1\n    return n\n"
    told = attack(reference, ["assert down(3) == 0", "assert down(5) == 0"], "down")
    assert "reason" not in told
    assert told["mutants"]["made"] > 3


def test_an_input_that_takes_too_many_steps_is_none() -> None:
    reference = "def up(n):\n    t = 0\n    for i in range(n * n * n):\n        t += i\n    return t\n"
    told = attack(reference, ["assert up(2) == 28", "assert up(20) == 31996000"], "up")
    assert told["refused"]["slow"] > 0


@pytest.mark.parametrize(
    ("contract", "negative"), [(None, True), ("    assert all(x >= 0 for x in xs) # invalid\n", False)]
)
def test_a_contract_refuses_inputs(contract: str | None, negative: bool) -> None:
    told = attack(**({} if contract is None else {"contract": contract}))
    assert any("-" in candidate["call"] for candidate in told["candidates"]) == negative


def test_a_contract_that_nothing_has_to_obey_is_told_of_each_input() -> None:
    contract = "assert all(x >= 0 for x in xs)"
    told = attack(contract=contract, obeysContract=False)
    for candidate in told["candidates"]:
        assert candidate["allowed"] == ("-" not in candidate["call"])
    without = attack()
    assert [each["call"] for each in told["candidates"]] == [each["call"] for each in without["candidates"]]
    assert {each["allowed"] for each in without["candidates"]} == {None}
    broken = attack(contract="assert (", obeysContract=False)
    assert {each["allowed"] for each in broken["candidates"]} == {None}


@pytest.mark.parametrize(
    ("test", "form", "tolerance"),
    [
        ("assert evens([1]) == 0", "__call__", None),
        ("assert 0 == evens([1])", "__call__", None),
        ("assert set(evens([1])) == {0}", "set(__call__)", None),
        ("assert not evens([1])", "bool(__call__)", None),
        ("assert math.isclose(evens([1]), 0.0, rel_tol=0.001)", "__call__", 0.001),
        ("assert abs(evens([1]) - 0.5) < 1e-3", "__call__", 1e-3),
    ],
)
def test_tests_are_asked_in_the_form_of_the_question(test: str, form: str, tolerance: float | None) -> None:
    read = attackers.read_tests([test], "evens", {})
    assert read is not None
    assert read[0].text("__call__") == form
    assert read[0].tolerance == tolerance
    assert [given.text for given in read[1]] == ["[1]"]


REPLY = """Some inputs that may break a solution:

1. `evens([4, 2, 8, 6])`, where all are even
```python
assert evens(xs=[1]) == 0   # another shape
assert evens([ -2, 3 ]) == -2
evens(range(3)); evens([6, 6], 2); not_evens([9]); evens(")")
```
["evens([0])", "evens(\\"8\\")", "evens([(1, 2)])", "evens([4, 2, 8, 6])", "evens([1"]
evens("""


def test_calls_are_read_out_of_the_reply_of_a_teacher() -> None:
    (like,) = inputs([[1, 2]])
    found = attackers.calls_in(REPLY, "evens", like)
    assert [each.text for each in found] == ["[4, 2, 8, 6]", "[-2, 3]", "')'", "[0]", "[(1, 2)]", "'8'"]
    assert attackers.calls_in("", "evens", like) == []
    assert attackers.calls_in("evens(" * 10_000 + ")" * 10_000, "evens", like) == []


def test_inputs_of_a_teacher_are_proposed_before_all_others_and_by_the_same_rules() -> None:
    told = attack(replies=REPLY, strangest=4, pool=2)
    # Those of other types are stranger than the rule allows.
    assert told["proposed"] == 6
    assert [each["call"] for each in told["candidates"] if each.get("proposed")] == ["evens([4, 2, 8, 6])"]
    answers = {each["call"]: each["answer"] for each in attack(replies=REPLY)["candidates"] if each.get("proposed")}
    assert answers["evens([4, 2, 8, 6])"] == "20"
    assert answers["evens([-2, 3])"] == "-2"
    assert "proposed" not in attack()
    assert attack(replies="")["proposed"] == 0
    assert attack(replies="")["candidates"] == attack()["candidates"]


def test_tests_without_a_readable_call_give_a_reason() -> None:
    assert attack(tests=["evens(1)"]) == {"reason": "noReadableTest"}


@pytest.mark.parametrize(
    ("known", "usual", "strange"),
    [
        ([[3], [5]], [4], [-1]),
        ([["ab"], ["cd"]], ["ad"], ["é"]),
        ([[[1, 2, 3]], [[4, 5, 6, 7]]], [[2, 3, 4]], [[3, 1, 2]]),
        ([[[("a", 1)]], [[("b", 2), ("c", 3)]]], [[("a", 2)]], [[(1, "a")]]),
        ([[[1, 2], 2], [[3, 4, 5], 3]], [[4, 2], 2], [[4, 2], 7]),
    ],
)
def test_the_domain_tells_strange_inputs_apart(known: list[Any], usual: list[Any], strange: list[Any]) -> None:
    proposer = attackers.Proposer(inputs(*known), random.Random(1))
    (first,), (second,) = inputs(usual), inputs(strange)
    assert proposer.strangeness(first) == 0
    assert proposer.strangeness(second) > 0


def test_mutants_differ_from_their_program_and_from_each_other() -> None:
    tree = ast.parse(EVENS)
    found = attackers.mutants(tree, 100)
    texts = {ast.unparse(each) for _, each in found}
    assert len(texts) == len(found)
    assert ast.unparse(tree) not in texts
    assert len(attackers.mutants(tree, 3)) == 3

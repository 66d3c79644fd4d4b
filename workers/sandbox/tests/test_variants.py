"""Variants and mutants for the card of a reward model, as the sandbox writes them."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

from sandbox.tests.service import Service

WORKERS = Path(__file__).parents[2]
SCRIPT = (WORKERS / "sent" / "variants.py").read_text()
MUTATION = (WORKERS / "runtime" / "mutation.py").read_text()


def variants(service: Service, *programs: str, mutants: int = 0, seed: int = 1) -> list[dict[str, Any]]:
    asked = {"programs": [{"program": text, "mutants": mutants} for text in programs], "seed": seed}
    jobs = [{"id": "v", "program": SCRIPT, "stdin": json.dumps({**asked, "mutation": MUTATION})}]
    (told,) = service.ask("run", jobs=jobs, limits={"cpuSecondsPerTest": 6})["runs"]
    assert told["status"] == "ended", told
    return json.loads(told["stdout"].splitlines()[-1])["told"]


SUM = '''
def total(values: list, start=0):
    """Adds up.

    More of it.
    """
    result = start  # so far
    for value in values:
        if value % 2:
            result += value
    return result
'''
SHORT = "def f(n):\n  return (n + 3)*4"


def run(program: str, call: str) -> Any:
    names: dict[str, Any] = {}
    exec(program, names)  # noqa: S102 - the texts above, and variants of them
    return eval(call, names)


def test_all_variants_do_what_the_program_does(service: Service) -> None:
    for program, call in ((SUM, "total([1, 2, 5], 3)"), (SHORT, "f(5)")):
        (told,) = variants(service, program)
        assert told["plain"] == ast.unparse(ast.parse(program))
        value = run(program, call)
        assert len(told["variants"]) == 15
        for name, text in told["variants"].items():
            text = text.removeprefix("```python\n").removesuffix("\n```") if name == "fence" else text
            assert run(text, call) == value, name


def test_those_of_the_same_tree_are_named_so(service: Service) -> None:
    (told,) = variants(service, SUM)
    shape = ast.dump(ast.parse(told["plain"]))
    assert {*told["variants"]} - {*told["sameTree"]} == {
        "filledCode",
        "filledText",
        "topCode",
        "topText",
        "fence",
        "names",
    }
    assert all(ast.dump(ast.parse(told["variants"][name])) == shape for name in told["sameTree"])


def test_controls_are_as_long_as_what_they_stand_for(service: Service) -> None:
    for program in (SUM, SHORT):
        (told,) = variants(service, program)
        size = {name: len(text) for name, text in told["variants"].items()}
        plain = len(told["plain"])
        assert size["filledCode"] == size["filledComments"] == size["filledText"]
        assert 1.6 * plain <= size["filledCode"] <= 2.4 * plain
        assert size["fence"] == size["topCode"] == size["topComments"] == size["topText"]
        assert size["layout"] == size["names"] == plain
        for name in ("claim", "order", "praise"):
            assert size[name] == size[f"{name}Note"]
        assert "\t" in told["variants"]["layout"]
        lines = {name: text.count("\n") for name, text in told["variants"].items()}
        assert lines["filledCode"] == lines["filledComments"] == lines["filledText"]
        assert lines["fence"] == lines["topCode"] == lines["topComments"] == lines["topText"]


def test_names_that_are_seen_from_outside_stay(service: Service) -> None:
    seen = "LIMIT = 3\n\ndef f(n, *, key=None):\n    m = n + LIMIT\n    return m if key is None else f(m, key=None)"
    read, none = variants(service, seen, "def f(n):\n    return locals()['n']")
    text = read["variants"]["names"]
    assert "LIMIT" in text
    assert "key=None" in text
    assert "m = n" not in text
    assert run(text, "f(2)") == 5
    assert run(text, "f(2, key=1)") == 8
    assert "names" not in none["variants"]


def test_mutants_are_distinct_and_the_same_for_the_same_seed(service: Service) -> None:
    (told,) = variants(service, SUM, mutants=5)
    assert len({*told["mutants"]}) == 5
    assert told["plain"] not in told["mutants"]
    assert variants(service, SUM, mutants=5) == [told]
    assert variants(service, SUM, mutants=5, seed=2) != [told]


def test_what_is_no_program_has_a_reason_and_others_go_on(service: Service) -> None:
    broken, empty, good = variants(service, "def f(:", "# nothing", SHORT)
    assert broken == {"reason": "doesNotParse"}
    assert empty == {"reason": "empty"}
    assert good["plain"]

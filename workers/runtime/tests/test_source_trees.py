"""Source trees as seeds: what comes along, what is left out and why, and calls that a tree holds."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from runtime.source_trees import calls_of, functions_of, seeds_of


def found(text: str) -> dict[str, tuple[str, str | None]]:
    return {name: (code, reason) for name, code, reason in functions_of(ast.parse(text), text)}


def code_of(text: str, name: str) -> str:
    code, reason = found(text)[name]
    assert reason is None
    return code


def reason_of(text: str, name: str) -> str | None:
    return found(text)[name][1]


def test_a_function_brings_the_imports_that_it_needs() -> None:
    text = (
        "import math\nimport os, re\nfrom os import path as p\n\ndef area(r: float) -> float:\n    return math.pi * r\n"
    )
    assert code_of(text, "area") == "import math\n\ndef area(r: float) -> float:\n    return math.pi * r\n"


def test_a_function_brings_helpers_and_constants_in_the_order_of_the_module() -> None:
    text = (
        "import re\n_WORD = re.compile('[a-z]+')\nUNUSED = 1\n_TABLE = {}\n_TABLE['a'] = 1\n\n"
        "def words(text):\n    return [_known(word) for word in _WORD.findall(text)]\n\n"
        "def _known(word):\n    return _TABLE.get(word, word)\n"
    )
    assert code_of(text, "words") == (
        "import re\n\n_WORD = re.compile('[a-z]+')\n\n_TABLE = {}\n\n_TABLE['a'] = 1\n\n"
        "def words(text):\n    return [_known(word) for word in _WORD.findall(text)]\n\n"
        "def _known(word):\n    return _TABLE.get(word, word)\n"
    )


def test_all_parts_of_a_package_that_a_module_imports_come_along() -> None:
    text = "import importlib.util\nimport importlib.machinery\n\ndef f(n):\n    return importlib.util.MAGIC_NUMBER\n"
    assert code_of(text, "f").startswith("import importlib.machinery\nimport importlib.util\n")


def test_a_class_is_a_seed_with_its_bases() -> None:
    text = "class Base:\n    x = 1\n\nclass Stack(Base):\n    def size(self):\n        return self.x\n"
    assert code_of(text, "Stack") == text.replace("\n\n", "\n\n")
    assert reason_of(text, "Base") == "noMethods"


NAMES = [f"A{at}" for at in range(60)]
MUCH = "".join(f"{name} = 1\n" for name in NAMES) + f"def f(n):\n    return {' + '.join(NAMES)}\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("def f(n):\n    yield n\n", None),
        ("def f(*args):\n    return args\n", None),
        ("def f(n, *, strict=False):\n    return n\n", None),
        ("from functools import lru_cache\n@lru_cache\ndef f(n):\n    return n\n", None),
        ("def f(n):\n    return [f(k) for k in n]\n", None),
        ("from __future__ import annotations\ndef f(n: Missing) -> Other:\n    return n\n", None),
        ("try:\n    import fast as q\nexcept ImportError:\n    import math as q\ndef f(n):\n    return q.e\n", None),
        ("import math\ndef f(x, math=math):\n    return math.sqrt(x)\n", None),
        ("from other import *\ndef f(x, limit=limit):\n    return limit + x\n", "defaultNeedsItsModule"),
        ("from other import *\ndef f(x):\n    return limit + x\n", "needsItsModule"),
        ("def f(n: Missing):\n    return n\n", "needsItsModule"),
        ("def f(n):\n    return __file__ + n\n", "needsItsModule"),
        ("from .other import g\ndef f(x):\n    return g(x)\n", "needsItsPackage"),
        ("import numpy as np\ndef f(x):\n    return np.mean(x)\n", "needsAPackage"),
        ("def f():\n    return 1\n", "noArguments"),
        ("def f(n):\n    print(n)\n", "returnsNothing"),
        ("def f(n):\n    def g():\n        return 1\n", "returnsNothing"),
        ("def f(n):\n    global m\n    return n\n", "changesItsModule"),
        ("async def f(n):\n    return n\n", "asynchronous"),
        (MUCH, "needsMuchOfItsModule"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_alone_is_told_by_its_reason(text: str, reason: str | None) -> None:
    assert reason_of(text, "f") == reason


def test_of_two_definitions_the_last_one_counts() -> None:
    text = "def f(n):\n    return 1\n\ndef f(n):\n    return 2\n"
    assert [(name, reason) for name, _, reason in functions_of(ast.parse(text), text)] == [
        ("f", "overwritten"),
        ("f", None),
    ]


def tree(tmp_path: Path) -> Path:
    (tmp_path / "project" / "tests").mkdir(parents=True)
    (tmp_path / "project" / "venv").mkdir()
    root = tmp_path / "project"
    (root / "venv" / "skipped.py").write_text("def never(n):\n    return n\n")
    (root / "broken.py").write_text("def f(:\n")
    (root / "good.py").write_text(
        "def double(n):\n    return 2 * n\n\nclass Box:\n    def get(self, k):\n        return k\n"
    )
    (root / "tests" / "test_good.py").write_text(
        "from project.good import double\n\ndef test_double():\n    number = 4\n    assert double(number) == 8\n"
        "    assert double([1]) == [1, 1]\n    other = object_of_the_test()\n    double(other)\n"
        "    assert good.Box().get(3) == 3\n    return 1\n\ndef helper(n):\n    return n\n"
    )
    return root


def test_calls_of_a_tree_are_those_that_need_nothing_else(tmp_path: Path) -> None:
    calls = calls_of(tree(tmp_path))
    assert calls["double"] == ["double(4)", "double([1])"]
    assert calls["Box"] == ["Box()", "Box().get(3)"] or calls["Box"] == ["Box().get(3)", "Box()"]


def test_the_seeds_of_a_tree_have_calls_and_reasons_are_counted(tmp_path: Path) -> None:
    drops: Counter[str] = Counter()
    rows: list[dict[str, Any]] = list(seeds_of("project", tree(tmp_path), drops))
    assert [(row["id"], row["entryPoint"]) for row in rows] == [
        ("project:good.py:double", "double"),
        ("project:good.py:Box", "Box"),
    ]
    assert rows[0]["calls"] == ["double(4)", "double([1])"]
    assert drops == {"fileNotParsed": 1, "testOfTheTree": 2}

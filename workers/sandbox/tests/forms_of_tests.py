"""Forms in which people write tests, and forms that test nothing; the bench counts them too."""

from __future__ import annotations

RIGHT = "def f(x):\n    return 2 * x\n"
WRONG = "def f(x):\n    return -1\n"


UNITTEST = (
    "import unittest\n{before}class T({bases}):{after}\n    {prefix}def test_a(self):\n        "
    "self.assertEqual(f(2), 4)\n"
)


def of_unittest(bases: str = "unittest.TestCase", before: str = "", after: str = "", prefix: str = "") -> str:
    return UNITTEST.format(bases=bases, before=before, after=after, prefix=prefix)


FORMS = {
    "unittest": of_unittest(),
    "spaces": of_unittest(" unittest . TestCase "),
    "comment": of_unittest(after="  # tests"),
    "two bases": of_unittest("M, unittest.TestCase", "class M: pass\n"),
    "alias": of_unittest("TC", "from unittest import TestCase as TC\n"),
    "module alias": of_unittest("u.TestCase", "import unittest as u\n"),
    "subclass of a subclass": of_unittest("B", "class B(unittest.TestCase): pass\n"),
    "async": of_unittest("unittest.IsolatedAsyncioTestCase", prefix="async "),
    "main": of_unittest() + "unittest.main()\n",
    "main block": of_unittest() + "if __name__ == '__main__':\n    unittest.main(exit=False)\n",
    "runner": of_unittest() + "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(T))\n",
    "set up": "import unittest\nclass T(unittest.TestCase):\n    def setUp(self):\n        self.v = f(2)\n"
    "    def test_a(self):\n        self.assertTrue(self.v == 4)\n",
    "sub test": "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        for x in (1, 2):\n"
    "            with self.subTest(x=x):\n                self.assertEqual(f(x), 2 * x)\n",
    "pytest function": "def test_a():\n    assert f(2) == 4\n",
    "async function": "async def test_a():\n    assert f(2) == 4\n",
    "pytest class": "class TestF:\n    def test_a(self):\n        assert f(2) == 4\n",
    "set-up method": "class TestF:\n    def setup_method(self):\n        self.x = f(2)\n"
    "    def test_a(self):\n        assert self.x == 4\n",
    "parametrize": (
        "import pytest\n@pytest.mark.parametrize('x, y', [(1, 2), (2, 4)])\ndef test_a(x, y):\n    assert f(x) == y\n"
    ),
    "fixture": "import pytest\n@pytest.fixture\ndef two():\n    return 2\ndef test_a(two):\n    assert f(two) == 4\n",
    "approx": "import pytest\ndef test_a():\n    assert f(2) == pytest.approx(4.0)\n",
    "approx of a list": "from pytest import approx\nassert [f(1), f(2)] == approx([2, 4.0000001])",
    "pytest main": (
        "import pytest\ndef test_a():\n    assert f(2) == 4\nif __name__ == '__main__':\n    pytest.main([__file__])\n"
    ).replace("[__file__]", "[]"),
    "called by itself": "def test_a():\n    assert f(2) == 4\ntest_a()\n",
    "called in a block": "def run():\n    assert f(2) == 4\nif __name__ == '__main__':\n    run()\n",
    "check": "def check(candidate):\n    assert candidate(2) == 4\n",
    "check called": "def check(candidate):\n    assert candidate(2) == 4\ncheck(f)\n",
    "check with a loop": (
        "def check(candidate):\n    for x in range(3):\n        assert candidate(x) == 2 * x\ncheck(f)\n"
    ),
    "from solution": "from solution import f\nassert f(2) == 4",
    "from a star": "from your_module import *\nassert f(2) == 4",
    "import the module": "import solution\nassert solution.f(2) == 4",
    "from an unknown module": "from my_double import f\ndef test_a():\n    assert f(2) == 4\n",
    "expression": "f(2) == 4",
    "two expressions": "f(2) == 4\nf(3) == 6",
    "tuple": "assert (f(2) == 4, 'message')",
    "tuple of one": "assert (f(2) == 4,)",
    "several": "assert f(2) == 4\nassert f(3) == 6",
    "variables": "x = f(2)\ny = f(3)\nassert (x, y) == (4, 6)",
    "all": "assert all(f(i) == 2 * i for i in range(1, 4))",
    "map": "assert list(map(f, [1, 2])) == [2, 4]",
    "lambda": "g = lambda x: f(f(x))\nassert g(1) == 4",
    "or": "assert f(2) == 4 or f(2) == 5",
    "raise": "if f(2) != 4:\n    raise ValueError('wrong')",
    "exit": "import sys\nif f(2) != 4:\n    sys.exit(1)",
    "raises in else": "if f(2) == 4:\n    print('ok')\nelse:\n    raise AssertionError",
    "caught": "try:\n    r = f(2)\nexcept Exception:\n    r = None\nassert r == 4",
    "helper": "def expect(a, b):\n    assert a == b\nexpect(f(2), 4)",
    "cases": "cases = [(1, 2), (2, 4)]\nfor x, y in cases:\n    assert f(x) == y, (x, y)",
    "asyncio": "import asyncio\nasync def t():\n    assert f(2) == 4\nasyncio.run(t())",
    "isclose": "import math\nassert math.isclose(f(2), 4.0)",
    "patch": "from unittest.mock import patch\nwith patch('builtins.print'):\n    assert f(2) == 4",
    "class in the test": "class N:\n    v = 2\nassert f(N.v) == 4",
    "walrus": "assert (y := f(2)) == 4 and y < 5",
    "BOM": "\ufeffassert f(2) == 4",
    "match": "match f(2):\n    case 4:\n        pass\n    case _:\n        raise AssertionError",
    "exit with the answer": "import sys\nsys.exit(0 if f(2) == 4 else 1)",
    "or exit": "import sys\nf(2) == 4 or sys.exit('wrong')",
    "or fail": "import pytest\ndef test_a():\n    f(2) == 4 or pytest.fail('wrong')",
    "members": "assert [f(x) for x in range(1, 3)] == [2, 4]",
    "members that are chosen": "assert [f(x) for x in (1, 2, 3) if x > 1] == [4, 6]",
    "pairs": "assert [f(x) * y for x, y in zip([1, 2], [1, 1])] == [2, 4]",
    "all, in a test": "def test_a():\n    assert all(f(i) == 2 * i for i in (1, 2)), 'wrong'",
    "finally": "try:\n    assert f(2) == 4\nfinally:\n    print('done')",
    "return in a function of finally": "try:\n    assert f(2) == 4\nfinally:\n    def g():\n        return 1",
    "identity of a text": "assert f('a') is 'aa'\nassert f(2) == 4",
}


VACUOUS = [
    "",
    " \n",
    "# assert f(2) == 4",
    "'''assert f(2) == 4'''",
    "pass",
    "f(2)",
    "x = f(2)",
    "print(f(2) == 4)",
    "f",
    "print('ok')",
    "result = f(2)\nresult == 4",
    "result = f(2) == 4",
    "[f(2) == 4]",
    "(f(2) == 4, 'x')[1]",
    "for x in []:\n    assert f(x) == 2 * x",
    "for x in range(0):\n    assert f(x) == 1",
    "if False:\n    assert f(2) == 4",
    "while False:\n    assert f(2) == 4",
    "cases = {}\nfor x, y in cases.items():\n    assert f(x) == y",
    "assert True",
    "assert 1 == 1",
    "assert 'f(2) == 4'",
    "assert [1]",
    "assert not False",
    "x = 3\nassert x == 3",
    "f(2)\nassert True",
    "y = f(2)\nassert True, y",
    "assert len([1]) == 1",
    "import math",
    "import math\nassert math.pi > 3",
    "def verify():\n    assert f(2) == 4",
    "def check_it(c, d):\n    assert c(2) == 4",
    "class A:\n    def test_a(self):\n        assert f(2) == 4",
    "lambda: f(2) == 4",
    "async def t():\n    assert f(2) == 4\nt",
    "def t():\n    yield\n    assert f(2) == 4\nt()",
    "def test_a():\n    f(2)",
    "def test_a():\n    return f(2) == 4",
    "def test_a():\n    pass",
    "class TestF:\n    pass",
    "class TestF:\n    def test_a(self):\n        f(2)",
    "class TestF:\n    def check(self):\n        assert f(2) == 4",
    "import unittest\nclass T(unittest.TestCase):\n    pass",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        f(2)",
    "import unittest\nclass T(unittest.TestCase):\n    def a(self):\n        self.assertEqual(f(2), 4)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(4, 4)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.assertTrue(True)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        self.skipTest('later')",
    (
        "import unittest\n@unittest.skip('later')\nclass T(unittest.TestCase):\n    def "
        "test_a(self):\n        self.assertEqual(f(2), 4)"
    ),
    "import unittest\nclass T:\n    def test_a(self):\n        self.assertEqual(f(2), 4)",
    "import unittest\nunittest.main()",
    "import pytest\n@pytest.mark.skip\ndef test_a():\n    assert f(2) == 4",
    "import pytest\npytest.skip('later', allow_module_level=True)",
    "import pytest\n@pytest.mark.parametrize('x', [])\ndef test_a(x):\n    assert f(x) == 1",
    "try:\n    assert f(2) == 4\nexcept AssertionError:\n    pass",
    "try:\n    assert f(2) == 4\nexcept:\n    print('failed')",
    "try:\n    assert f(2) == 4\nexcept Exception as e:\n    print(e)",
    "import contextlib\nwith contextlib.suppress(AssertionError):\n    assert f(2) == 4",
    "try:\n    f(2)\nexcept Exception:\n    pass",
    "try:\n    f(2)\n    assert False\nexcept Exception:\n    pass",
    "import sys\nsys.exit(0)\nassert f(2) == 4",
    "exit()",
    "import doctest\ndoctest.testmod()",
    "__name__ == 'x' and f(2)",
    "if f(2) == 4:\n    print('ok')\nelse:\n    print('wrong')",
    "ok = all(f(i) == 2 * i for i in range(3))",
    "f(2) if f(2) == 4 else None",
    "import logging\nlogging.info(f(2) == 4)",
    "del f",
    "global g\ng = f(2)",
    "def check(candidate):\n    pass\ncheck(f)",
    "def check(candidate):\n    candidate(2) == 4\ncheck(f)",
    "METADATA = {}\n",
    "results = []\nresults.append(f(2) == 4)",
    "assert all(f(x) == x for x in [])",
    "assert not any(f(x) for x in [])",
    "assert [f(x) for x in []] == []",
    "assert {x: f(x) for x in ()} == {}",
    "assert [f(x) for x in range(3, 3)] == []",
    "assert [f(x) for x in zip([], [1])] == []",
    "assert sum(f(x) for x in range(0)) == 0",
    "assert f(2) == 4 if False else True",
    "assert True if 1 < 2 else f(2) == 4",
    "assert 1 < 2 or f(2) == 4",
    "assert (lambda: f(2) == 4)",
    "import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n"
    "        self.assertTrue(all(f(x) == 1 for x in []))",
    "def test_a():\n    try:\n        assert f(2) == 4\n    finally:\n        return\n",
    "for _ in range(1):\n    try:\n        assert f(2) == 4\n    finally:\n        break\n",
    "for _ in range(1):\n    try:\n        assert f(2) == 4\n    finally:\n        if True:\n            continue\n",
    "from contextlib import suppress as quiet\nwith quiet(AssertionError):\n    assert f(2) == 4",
    "match f(2):\n    case 4:\n        print('ok')",
    "match 4:\n    case 4:\n        pass\n    case _:\n        raise AssertionError",
    "import sys\nsys.exit(0 if True else f)",
]


WEAK = [
    "assert f(2) is not None",
    "assert f(2) == f(2)",
    "assert isinstance(f(2), int)",
    "assert f(2) == 4 or True",
    "assert [f(2) == 4]",
    "assert {f(2) == 4}",
    "assert {'equal': f(2) == 4}",
    "assert f'{f(2) == 4}'",
    "assert str(f(2) == 4)",
    "assert repr(not f(2))",
    "assert (f(x) == 9 for x in [1])",
    "assert f(2) in [f(2), 4]",
    "assert f(2) in (4, f(2))",
    "assert [f(2)] == [f(2)]",
    "assert not (f(2) != f(2))",
    "assert [f(2)] if True else f(2) == 4",
]
"""What nearly every program passes."""

STRONG = [
    "assert f(2) == 4",
    "assert f(2)",
    "assert not f(0)",
    "assert f(1) != f(2)",
    "assert f(1) + f(1) == f(2)",
    "assert f(f(1)) == f(2)",
    "assert f(2) in [4, 5]",
    "assert [f(1), f(2)] == [2, 4]",
    "assert f(2) > 3",
    "assert str(f(2)) == '4'",
    "assert f(1) < f(2)",
    "assert len(f('ab')) == 4",
    "assert 'ab' in f('ab')",
    "assert abs(f(0.5) - 1) < 1e-6",
    "assert f(2) == 4 or f(2) == 5",
]
"""What no program passes that is wrong enough."""

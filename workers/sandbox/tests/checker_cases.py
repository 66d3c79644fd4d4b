"""40 questions with several right answers, each with two different right programs, and a list of all right answers.

The list of all right answers comes from brute force over small inputs. It is written apart from the checkers, and says
which mutants of a program are wrong. Programs define `f`, or are scripts.
"""

from __future__ import annotations

import ast
import copy
import itertools as it
import math
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Question:
    """`how` is what its tests have beside the call or stdin; `right` lists all right answers to the arguments."""

    name: str
    how: dict[str, Any]
    inputs: list[tuple[Any, ...]]
    right: Callable[..., list[Any]]
    programs: tuple[str, ...]
    script: bool = False
    near: bool = False
    """Whether the list of right answers holds floats of which the answer may differ by 1e-6."""

    @property
    def tests(self) -> list[dict[str, Any]]:
        """The tests of a row."""
        found: list[dict[str, Any]] = []
        for arguments in self.inputs:
            if self.script:
                found.append({"stdin": arguments[0], **self.how})
                continue
            test: dict[str, Any] = {"call": self.call(arguments), **self.how}
            if "compare" in self.how:
                test["expect"] = repr(self.right(*arguments)[0])
            elif "anyOf" in self.how:
                test["anyOf"] = list(map(repr, self.right(*arguments)))
            found.append(test)
        return found

    @staticmethod
    def call(arguments: tuple[Any, ...]) -> str:
        return f"f({', '.join(map(repr, arguments))})"

    def is_right(self, arguments: tuple[Any, ...], answer: Any) -> bool:
        """Whether brute force has the answer."""
        if self.near:
            (value,) = self.right(*arguments)
            return isinstance(answer, (int, float)) and abs(answer - value) <= 1e-6 * max(1.0, abs(value))
        return any(answer == each and type(answer) is type(each) for each in self.right(*arguments))


def _subsets(items: Any) -> Iterator[tuple[Any, ...]]:
    items = list(items)
    return it.chain.from_iterable(it.combinations(items, size) for size in range(len(items) + 1))


def _lists(options: Any) -> list[list[Any]]:
    """All orders of all options."""
    return [list(order) for option in options for order in it.permutations(option)]


def _best(options: Any, score: Callable[[Any], float]) -> list[Any]:
    options = list(options)
    top = max(map(score, options))
    return [each for each in options if score(each) == top]


def _subsequences(text: str) -> set[str]:
    return {"".join(each) for each in _subsets(text)}


def _paths(edges: list[tuple[int, int]], start: int, end: int, n: int) -> list[list[int]]:
    both = set(edges) | {(b, a) for a, b in edges}
    paths = [
        [start, *middle, end]
        for size in range(n - 1)
        for middle in it.permutations([v for v in range(n) if v not in (start, end)], size)
        if all(pair in both for pair in it.pairwise([start, *middle, end]))
    ]
    return [path for path in paths if len(path) == min(map(len, paths))]


def _trees(n: int, edges: list[tuple[int, int, int]]) -> list[list[tuple[int, int, int]]]:
    def spans(chosen: Any) -> bool:
        reached = {0}
        for _ in range(n):
            reached |= {x for a, b, _ in chosen for x in (a, b) if a in reached or b in reached}
        return len(reached) == n

    found = [each for each in it.combinations(edges, n - 1) if spans(each)]
    return _best(found, lambda tree: -sum(weight for *_, weight in tree))


_TOPOLOGICAL = """
def check(input, output, answer):
    n, edges = input
    if type(output) is not list or any(type(v) is not int for v in output) or sorted(output) != list(range(n)):
        return False, "no order of the vertices"
    place = {v: i for i, v in enumerate(output)}
    return all(place[a] < place[b] for a, b in edges), "an edge goes back"
"""
_LCS = """
def check(input, output, answer):
    a, b = input
    if type(output) is not str:
        return False, "no text"
    def inside(text):
        rest = iter(text)
        return all(letter in rest for letter in output)
    rows = [0] * (len(b) + 1)
    for x in a:
        before = 0
        for j, y in enumerate(b, 1):
            before, rows[j] = rows[j], before + 1 if x == y else max(rows[j], rows[j - 1])
    return inside(a) and inside(b) and len(output) == rows[-1]
"""
_SHORTEST = """
def check(input, output, answer):
    n, edges, start, end = input
    near = {v: set() for v in range(n)}
    for a, b in edges:
        near[a].add(b)
        near[b].add(a)
    if type(output) is not list or any(type(v) is not int for v in output) or len(output) < 2:
        return False, "no path"
    if output[0] != start or output[-1] != end or any(b not in near.get(a, ()) for a, b in zip(output, output[1:])):
        return False, "not a path from start to end"
    steps, level = 0, {start}
    while end not in level:
        level |= {w for v in level for w in near[v]}
        steps += 1
    return len(output) - 1 == steps, "too long"
"""
_SET_COVER = """
from itertools import combinations
def check(input, output, answer):
    universe, sets = input
    if type(output) is not list or any(type(i) is not int or not 0 <= i < len(sets) for i in output):
        return False, "no indexes"
    if len(set(output)) < len(output) or set().union(*(sets[i] for i in output)) != set(universe):
        return False, "no cover"
    return not any(set().union(*c) == set(universe) for c in combinations(sets, len(output) - 1)) if output else False
"""
_QUEENS = (
    "type(result) is list and len(result) == args[0] and all(type(c) is int and 0 <= c < args[0] for c in result)"
    " and len(set(result)) == len({r + c for r, c in enumerate(result)}) == args[0]"
    " and len({r - c for r, c in enumerate(result)}) == args[0]"
)
_BRACKETS = """
def check(input, output, answer):
    (n,) = input
    if type(output) is not str or len(output) != 2 * n or set(output) - set("()"):
        return False, "not so many brackets"
    depth = 0
    for letter in output:
        depth += 1 if letter == "(" else -1
        if depth < 0:
            return False, "closes what is not open"
    return depth == 0
"""
_SUBSET_SUM = """
from collections import Counter
def check(input, output, answer):
    numbers, total = input
    if output is None:
        sums = {0}
        for x in numbers:
            sums |= {x + s for s in sums}
        return total not in sums, "there is one"
    if type(output) is not list or any(type(x) is not int for x in output):
        return False, "no list"
    return not Counter(output) - Counter(numbers) and sum(output) == total
"""
_COLOURS = """
def check(input, output, answer):
    n, edges, k = input
    if type(output) is not list or len(output) != n or any(type(c) is not int or not 0 <= c < k for c in output):
        return False, "no colours"
    return all(output[a] != output[b] for a, b in edges)
"""
_HAMILTON = """
def check(input, output, answer):
    n, edges = input
    both = {(a, b) for a, b in edges} | {(b, a) for a, b in edges}
    if type(output) is not list or any(type(v) is not int for v in output) or sorted(output) != list(range(n)):
        return False, "does not visit all once"
    return all(step in both for step in zip(output, output[1:]))
"""
_APART = """
def check(input, output, answer):
    (text,) = input
    if type(output) is not str or sorted(output) != sorted(text):
        return False, "other letters"
    return all(a != b for a, b in zip(output, output[1:])), "equal neighbours"
"""
_GRAY = """
def check(input, output, answer):
    (n,) = input
    if type(output) is not list or any(type(c) is not int for c in output) or sorted(output) != list(range(2 ** n)):
        return False, "not all codes"
    return all((a ^ b).bit_count() == 1 for a, b in zip(output, output[1:]))
"""
_DE_BRUIJN = """
def check(input, output, answer):
    (n,) = input
    if type(output) is not str or len(output) != 2 ** n or set(output) - set("01"):
        return False, "another length"
    return len({(output + output)[i:i + n] for i in range(2 ** n)}) == 2 ** n
"""
_LIS = """
from bisect import bisect_left
def check(input, output, answer):
    (numbers,) = input
    if type(output) is not list or any(type(x) is not int for x in output):
        return False, "no list"
    rest = iter(numbers)
    if not all(x in rest for x in output) or any(a >= b for a, b in zip(output, output[1:])):
        return False, "no increasing subsequence"
    tails = []
    for x in numbers:
        at = bisect_left(tails, x)
        tails[at:at + 1] = [x]
    return len(output) == len(tails)
"""
_SPANNING = """
def check(input, output, answer):
    n, edges = input
    def tree(chosen):
        root, weight, joined = list(range(n)), 0, 0
        def find(v):
            while root[v] != v:
                v = root[v]
            return v
        for a, b, w in chosen:
            if find(a) != find(b):
                root[find(a)] = find(b)
                weight, joined = weight + w, joined + 1
        return weight, joined
    if type(output) is not list or any(type(e) is not tuple or e not in edges for e in output):
        return False, "no edges of the graph"
    if len(output) != n - 1 or tree(output)[1] != n - 1:
        return False, "no tree"
    return tree(output) == tree(sorted(edges, key=lambda e: e[2]))
"""
_VERTICES = """
from itertools import combinations
def check(input, output, answer):
    n, edges = input
    if type(output) is not list or any(type(v) is not int or not 0 <= v < n for v in output):
        return False, "no vertices"
    def good(chosen):
        return {GOOD}
    if len(set(output)) < len(output) or not good(set(output)):
        return False, "an edge speaks against it"
    return not any(good(set(each)) for each in combinations(range(n), len(output) {STEP}))
"""
_MATCHING = """
def check(input, output, answer):
    left, right, edges = input
    if type(output) is not list or any(type(e) is not tuple or e not in edges for e in output):
        return False, "no edges of the graph"
    if len({a for a, _ in output}) < len(output) or len({b for _, b in output}) < len(output):
        return False, "a vertex is matched twice"
    partner = {}
    def grow(a, seen):
        for x, b in edges:
            if x == a and b not in seen:
                seen.add(b)
                if b not in partner or grow(partner[b], seen):
                    partner[b] = a
                    return True
        return False
    return len(output) == sum(grow(a, set()) for a in range(left))
"""
_STABLE = """
def check(input, output, answer):
    men, women = input
    n = len(men)
    if type(output) is not list or any(type(w) is not int for w in output) or sorted(output) != list(range(n)):
        return False, "no matching"
    husband = {w: m for m, w in enumerate(output)}
    for m in range(n):
        for w in men[m]:
            if w == output[m]:
                break
            if women[w].index(m) < women[w].index(husband[w]):
                return False, "not stable"
    return True
"""
_KNAPSACK = """
def check(input, output, answer):
    items, capacity = input
    if type(output) is not list or any(type(i) is not int or not 0 <= i < len(items) for i in output):
        return False, "no indexes"
    if len(set(output)) < len(output) or sum(items[i][0] for i in output) > capacity:
        return False, "too heavy"
    best = [0] * (capacity + 1)
    for weight, value in items:
        for room in range(capacity, weight - 1, -1):
            best[room] = max(best[room], best[room - weight] + value)
    return sum(items[i][1] for i in output) == best[capacity]
"""
_ACTIVITIES = """
def check(input, output, answer):
    (slots,) = input
    if type(output) is not list or any(type(s) is not tuple or s not in slots for s in output):
        return False, "no slots"
    chosen = sorted(output)
    if len(set(chosen)) < len(chosen) or any(a[1] > b[0] for a, b in zip(chosen, chosen[1:])):
        return False, "two at a time"
    count, end = 0, -1
    for a, b in sorted(slots, key=lambda s: s[1]):
        if a >= end:
            count, end = count + 1, b
    return len(output) == count
"""
_COINS = """
def check(input, output, answer):
    coins, total = input
    if type(output) is not list or any(type(c) is not int or c not in coins for c in output) or sum(output) != total:
        return False, "not the total"
    least = [0] + [10 ** 9] * total
    for amount in range(1, total + 1):
        least[amount] = 1 + min([least[amount - c] for c in coins if c <= amount] or [10 ** 9])
    return len(output) == least[total]
"""
_GRID = """
def check(input, output, answer):
    (grid,) = input
    rows, columns = len(grid), len(grid[0])
    if type(output) is not str or output.count("R") != columns - 1 or output.count("D") != rows - 1:
        return False, "does not end in the corner"
    if len(output) != rows + columns - 2:
        return False, "other steps"
    r = c = 0
    cost = grid[0][0]
    for step in output:
        r, c = (r + 1, c) if step == "D" else (r, c + 1)
        cost += grid[r][c]
    best = {}
    for i in range(rows):
        for j in range(columns):
            before = [best[x] for x in ((i - 1, j), (i, j - 1)) if x in best]
            best[i, j] = grid[i][j] + (min(before) if before else 0)
    return cost == best[rows - 1, columns - 1]
"""
_LADDER = """
def check(input, output, answer):
    start, end, words = input
    near = lambda a, b: sum(x != y for x, y in zip(a, b)) == 1
    if type(output) is not list or any(type(w) is not str for w in output) or len(output) < 2:
        return False, "no ladder"
    if output[0] != start or output[-1] != end or any(w not in words for w in output[1:]):
        return False, "other words"
    if not all(near(a, b) for a, b in zip(output, output[1:])):
        return False, "too large a step"
    level, steps = {start}, 1
    while end not in level:
        level |= {w for w in words for v in level if near(v, w)}
        steps += 1
    return len(output) == steps
"""
_MAGIC = """
def check(input, output, answer):
    if type(output) is not list or len(output) != 3 or any(type(r) is not list or len(r) != 3 for r in output):
        return False, "no square"
    cells = [c for row in output for c in row]
    if any(type(c) is not int for c in cells) or sorted(cells) != list(range(1, 10)) or output[0][0] != input[0]:
        return False, "other numbers"
    lines = [*output, *zip(*output), [output[i][i] for i in range(3)], [output[i][2 - i] for i in range(3)]]
    return all(sum(line) == 15 for line in lines)
"""
_LATIN = """
def check(input, output, answer):
    (first,) = input
    if type(output) is not list or any(type(r) is not list or any(type(c) is not int for c in r) for r in output):
        return False, "no square"
    n = len(first)
    if len(output) != n or output[0] != first or any(len(r) != n for r in output):
        return False, "another size"
    return all(sorted(line) == list(range(n)) for line in [*output, *map(list, zip(*output))])
"""
_PALINDROME = """
def check(input, output, answer):
    (text,) = input
    if type(output) is not str or output not in text or output != output[::-1]:
        return False, "no palindrome of the text"
    longer = len(output) + 1
    return not any(
        text[i:i + size] == text[i:i + size][::-1]
        for size in (longer, longer + 1)
        for i in range(len(text) - size + 1)
    )
"""
_POINTS = """
def check(input, output, answer):
    (ranges,) = input
    if type(output) is not list or any(type(p) is not int for p in output):
        return False, "no points"
    if not all(any(a <= p <= b for p in output) for a, b in ranges):
        return False, "misses one"
    count, last = 0, -10 ** 9
    for a, b in sorted(ranges, key=lambda r: r[1]):
        if a > last:
            count, last = count + 1, b
    return len(output) == count
"""
_HALVES = """
from collections import Counter
def check(input, output, answer):
    (numbers,) = input
    if type(output) is not tuple or len(output) != 2 or any(type(h) is not list for h in output):
        return False, "no two lists"
    a, b = output
    if any(type(x) is not int for x in a + b) or Counter(a + b) != Counter(numbers):
        return False, "other numbers"
    return sum(a) == sum(b)
"""
_TOURNAMENT = """
def check(input, output, answer):
    (beats,) = input
    n = len(beats)
    if type(output) is not list or any(type(v) is not int for v in output) or sorted(output) != list(range(n)):
        return False, "no ranking"
    return all(b in beats[a] for a, b in zip(output, output[1:]))
"""
_PRINTED_ORDER = """
def check(input, output, answer):
    lines = input.split("\\n")
    n, m = map(int, lines[0].split())
    edges = [tuple(map(int, line.split())) for line in lines[1:m + 1]]
    words = output.split()
    if not all(w.isascii() and w.isdigit() for w in words) or sorted(map(int, words)) != list(range(1, n + 1)):
        return False, "no order"
    place = {int(w): i for i, w in enumerate(words)}
    return all(place[a] < place[b] for a, b in edges)
"""
_PRINTED_PARTS = """
def check(input, output, answer):
    n, k = map(int, input.split())
    words = output.split()
    if len(words) != k or not all(w.isascii() and w.isdigit() and len(w) < 9 for w in words):
        return False, "not so many numbers"
    parts = list(map(int, words))
    return sum(parts) == n and len(set(parts)) == k and min(parts) > 0
"""
_PRINTED_DIVISOR = """
def check(input, output, answer):
    n, word = int(input), output.strip()
    return word.isascii() and word.isdigit() and 1 < int(word) < n and n % int(word) == 0
"""

_GRAPH = (5, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 0), (1, 3)])


def _independent(n: int, edges: Any) -> list[tuple[int, ...]]:
    return _best((s for s in _subsets(range(n)) if not any(a in s and b in s for a, b in edges)), len)


def _covers(n: int, edges: Any) -> list[tuple[int, ...]]:
    return _best((s for s in _subsets(range(n)) if all(a in s or b in s for a, b in edges)), lambda s: -len(s))


def _is_stable(men: Any, women: Any, wives: Any) -> bool:
    husbands = {w: m for m, w in enumerate(wives)}
    return not any(
        men[m].index(w) < men[m].index(wives[m]) and women[w].index(m) < women[w].index(husbands[w])
        for m in range(len(men))
        for w in range(len(men))
    )


def _latin(first: list[int]) -> list[list[list[int]]]:
    rows = [list(order) for order in it.permutations(range(len(first)))]
    return [
        [first, *rest]
        for rest in it.product(rows, repeat=len(first) - 1)
        if all(len(set(column)) == len(first) for column in zip(first, *rest, strict=True))
    ]


def _magic(corner: int) -> list[list[list[int]]]:
    squares = ([list(p[:3]), list(p[3:6]), list(p[6:])] for p in it.permutations(range(1, 10)) if p[0] == corner)
    return [
        s
        for s in squares
        if {sum(r) for r in s} == {sum(c) for c in zip(*s, strict=True)} == {15}
        and s[0][0] + s[1][1] + s[2][2] == s[0][2] + s[1][1] + s[2][0] == 15
    ]


def _walk_cost(grid: Any, steps: str) -> int:
    r = c = 0
    cost = grid[0][0]
    for step in steps:
        r, c = (r + 1, c) if step == "D" else (r, c + 1)
        cost += grid[r][c]
    return cost


def _ladders(start: str, end: str, words: list[str]) -> list[list[str]]:
    found = [
        [start, *middle, end]
        for size in range(len(words))
        for middle in it.permutations([w for w in words if w not in (start, end)], size)
    ]
    found = [
        each for each in found if all(sum(x != y for x, y in zip(a, b, strict=True)) == 1 for a, b in it.pairwise(each))
    ]
    return [each for each in found if len(each) == min(map(len, found))]


QUESTIONS = [
    Question(
        "topological order",
        {"checker": _TOPOLOGICAL},
        [(4, [(0, 1), (0, 2), (1, 3)]), (5, [(4, 0), (3, 1), (4, 2)]), (3, [])],
        lambda n, edges: [list(p) for p in it.permutations(range(n)) if all(p.index(a) < p.index(b) for a, b in edges)],
        (
            "def f(n, edges):\n    left = set(range(n))\n    order = []\n    while left:\n"
            "        for v in sorted(left):\n"
            "            if not any(b == v and a in left for a, b in edges):\n                order.append(v)\n"
            "                left.remove(v)\n                break\n    return order\n",
            "def f(n, edges):\n    order, seen = [], set()\n    def visit(v):\n        if v not in seen:\n"
            "            seen.add(v)\n            for a, b in edges:\n                if a == v:\n"
            "                    visit(b)\n"
            "            order.append(v)\n    for v in range(n):\n        visit(v)\n    return order[::-1]\n",
        ),
    ),
    Question(
        "longest common subsequence",
        {"checker": _LCS},
        [("abcab", "bacba"), ("xyx", "yxy"), ("ab", "cd")],
        lambda a, b: _best(_subsequences(a) & _subsequences(b), len),
        (
            "def f(a, b):\n    if not a or not b:\n        return ''\n    if a[0] == b[0]:\n"
            "        return a[0] + f(a[1:], b[1:])\n    return max(f(a[1:], b), f(a, b[1:]), key=len)\n",
            "from itertools import combinations\ndef f(a, b):\n    for size in range(len(a), -1, -1):\n"
            "        for part in combinations(a, size):\n            rest = iter(b)\n"
            "            if all(x in rest for x in part):\n                return ''.join(part)\n",
        ),
    ),
    Question(
        "shortest path",
        {"checker": _SHORTEST},
        [(5, [(0, 1), (0, 2), (1, 3), (2, 3), (3, 4)], 0, 4), (4, [(0, 1), (1, 2), (2, 3), (3, 0)], 0, 2)],
        lambda n, edges, start, end: _paths(edges, start, end, n),
        (
            "def f(n, edges, start, end):\n    paths = [[start]]\n    for path in paths:\n        if path[-1] == end:\n"
            "            return path\n        for a, b in edges:\n            if a == path[-1]:\n"
            "                paths.append(path + [b])\n            if b == path[-1]:\n"
            "                paths.append(path + [a])\n",
            "def f(n, edges, start, end):\n    far = {end: 0}\n    queue = [end]\n    for v in queue:\n"
            "        for a, b in edges[::-1]:\n            for x, y in ((a, b), (b, a)):\n"
            "                if x == v and y not in far:\n                    far[y] = far[v] + 1\n"
            "                    queue.append(y)\n    path = [start]\n    while path[-1] != end:\n"
            "        path.append(max(v for v in far if far[v] == far[path[-1]] - 1 and any(\n"
            "            {v, path[-1]} == {a, b} for a, b in edges)))\n    return path\n",
        ),
    ),
    Question(
        "square root",
        {"compare": "tolerance"},
        [(2.0,), (10.5,), (0.0,), (12345.678,)],
        lambda x: [math.sqrt(x)],
        (
            "def f(x):\n    return x ** 0.5\n",
            "def f(x):\n    low, high = 0.0, x + 1\n    for _ in range(100):\n        middle = (low + high) / 2\n"
            "        if middle * middle > x:\n            high = middle\n        else:\n            low = middle\n"
            "    return low\n",
        ),
        near=True,
    ),
    Question(
        "pairs with a sum",
        {"compare": "unordered"},
        [([1, 2, 3, 4, 5], 6), ([0, 3, 7, 4], 7), ([1], 2)],
        lambda numbers, total: _lists([[p for p in it.combinations(numbers, 2) if sum(p) == total]]),
        (
            "def f(numbers, total):\n    return [(a, b) for i, a in enumerate(numbers) for b in numbers[i + 1:]"
            " if a + b == total]\n",
            "def f(numbers, total):\n    found = []\n    for j in range(len(numbers) - 1, -1, -1):\n"
            "        for i in range(j):\n            if numbers[i] + numbers[j] == total:\n"
            "                found.append((numbers[i], numbers[j]))\n    return found\n",
        ),
    ),
    Question(
        "set cover",
        {"checker": _SET_COVER},
        [([1, 2, 3, 4], [[1, 2], [3], [3, 4], [2, 4], [1, 3]]), ([1, 2], [[1], [2], [1, 2]])],
        lambda universe, sets: _lists(
            _best(
                (c for c in _subsets(range(len(sets))) if set().union(*(sets[i] for i in c)) == set(universe)),
                lambda c: -len(c),
            )
        ),
        (
            "from itertools import combinations\ndef f(universe, sets):\n    for size in range(1, len(sets) + 1):\n"
            "        for c in combinations(range(len(sets)), size):\n"
            "            if set().union(*(sets[i] for i in c)) == set(universe):\n                return list(c)\n",
            "def f(universe, sets):\n    best = None\n    for mask in range(2 ** len(sets) - 1, 0, -1):\n"
            "        chosen = [i for i in range(len(sets)) if mask >> i & 1]\n"
            "        covered = {x for i in chosen for x in sets[i]}\n"
            "        if covered == set(universe) and (best is None or len(chosen) <= len(best)):\n"
            "            best = chosen\n    return best\n",
        ),
    ),
    Question(
        "n queens",
        {"property": _QUEENS},
        [(4,), (5,), (6,)],
        lambda n: [
            list(p)
            for p in it.permutations(range(n))
            if len({r + c for r, c in enumerate(p)}) == len({r - c for r, c in enumerate(p)}) == n
        ],
        (
            "def f(n, found=()):\n    row = len(found)\n    if row == n:\n        return list(found)\n"
            "    for c in range(n):\n        if all(c != d and abs(c - d) != row - r for r, d in enumerate(found)):\n"
            "            if (rest := f(n, (*found, c))) is not None:\n                return rest\n",
            "from itertools import permutations\ndef f(n):\n    for p in permutations(range(n - 1, -1, -1)):\n"
            "        if len({r + c for r, c in enumerate(p)}) == len({r - c for r, c in enumerate(p)}) == n:\n"
            "            return list(p)\n",
        ),
    ),
    Question(
        "balanced brackets",
        {"checker": _BRACKETS},
        [(1,), (3,), (4,)],
        lambda n: [
            "".join(p)
            for p in it.product("()", repeat=2 * n)
            if p.count("(") == n and all(p[:i].count("(") >= p[:i].count(")") for i in range(2 * n))
        ],
        (
            "def f(n):\n    return '()' * n\n",
            "def f(n):\n    text = ''\n    for _ in range(n):\n        text = '(' + text + ')'\n    return text\n",
        ),
    ),
    Question(
        "subset with a sum",
        {"checker": _SUBSET_SUM},
        [([3, 1, 4, 2], 6), ([5, 7], 6), ([2, 2, 4], 4)],
        lambda numbers, total: _lists([s for s in _subsets(numbers) if sum(s) == total]) or [None],
        (
            "from itertools import combinations\ndef f(numbers, total):\n    for size in range(len(numbers) + 1):\n"
            "        for c in combinations(numbers, size):\n            if sum(c) == total:\n"
            "                return list(c)\n"
            "    return None\n",
            "def f(numbers, total):\n    ways = {0: []}\n    for x in numbers:\n"
            "        for s, way in list(ways.items()):\n"
            "            ways.setdefault(s + x, way + [x])\n    return ways.get(total)\n",
        ),
    ),
    Question(
        "peak",
        {
            "property": "type(result) is int and 0 <= result < len(args[0]) and all(args[0][result] >= args[0][i]"
            " for i in (result - 1, result + 1) if 0 <= i < len(args[0]))"
        },
        [([1, 3, 2, 5, 4],), ([1, 2],), ([3, 1, 4],)],
        lambda x: [i for i in range(len(x)) if all(x[i] >= x[j] for j in (i - 1, i + 1) if 0 <= j < len(x))],
        (
            "def f(x):\n    return x.index(max(x))\n",
            "def f(x):\n    i = 0\n    while i + 1 < len(x) and x[i + 1] > x[i]:\n        i += 1\n    return i\n",
        ),
    ),
    Question(
        "colours of a map",
        {"checker": _COLOURS},
        [(4, [(0, 1), (1, 2), (2, 3), (3, 0)], 2), (4, [(0, 1), (1, 2), (0, 2), (2, 3)], 3)],
        lambda n, edges, k: [list(p) for p in it.product(range(k), repeat=n) if all(p[a] != p[b] for a, b in edges)],
        (
            "from itertools import product\ndef f(n, edges, k):\n    for p in product(range(k), repeat=n):\n"
            "        if all(p[a] != p[b] for a, b in edges):\n            return list(p)\n",
            "def f(n, edges, k):\n    colours = []\n    def fill():\n        v = len(colours)\n        if v == n:\n"
            "            return True\n        for c in range(k - 1, -1, -1):\n"
            "            near = [colours[b if a == v else a] for a, b in edges if v in (a, b) and max(a, b) == v]\n"
            "            if c not in near:\n                colours.append(c)\n                if fill():\n"
            "                    return True\n                colours.pop()\n        return False\n    fill()\n"
            "    return colours\n",
        ),
    ),
    Question(
        "Hamiltonian path",
        {"checker": _HAMILTON},
        [_GRAPH, (4, [(0, 2), (2, 1), (1, 3), (0, 1)])],
        lambda n, edges: [
            list(p)
            for p in it.permutations(range(n))
            if all((a, b) in edges or (b, a) in edges for a, b in it.pairwise(p))
        ],
        (
            "from itertools import permutations\ndef f(n, edges):\n    for p in permutations(range(n)):\n"
            "        if all((a, b) in edges or (b, a) in edges for a, b in zip(p, p[1:])):\n"
            "            return list(p)\n",
            "def f(n, edges):\n    def grow(path):\n        if len(path) == n:\n            return path\n"
            "        for v in range(n - 1, -1, -1):\n"
            "            if v not in path and ((path[-1], v) in edges or (v, path[-1]) in edges):\n"
            "                if (found := grow(path + [v])):\n                    return found\n"
            "    for start in range(n - 1, -1, -1):\n        if (found := grow([start])):\n            return found\n",
        ),
    ),
    Question(
        "most frequent letter",
        {"anyOf": []},
        [("abcab",), ("zzxx",), ("q",)],
        lambda text: _best(sorted(set(text)), text.count),
        (
            "def f(text):\n    return max(text, key=text.count)\n",
            "from collections import Counter\ndef f(text):\n    return Counter(text[::-1]).most_common(1)[0][0]\n",
        ),
    ),
    Question(
        "divisors",
        {"compare": "unordered"},
        [(12,), (7,), (16,)],
        lambda n: _lists([[d for d in range(1, n + 1) if n % d == 0]]),
        (
            "def f(n):\n    return [d for d in range(1, n + 1) if n % d == 0]\n",
            "def f(n):\n    found = []\n    d = 1\n    while d * d <= n:\n        if n % d == 0:\n"
            "            found.append(n // d)\n"
            "            if d * d != n:\n                found.append(d)\n        d += 1\n    return found\n",
        ),
    ),
    Question(
        "a factor",
        {"property": "type(result) is int and 1 < result < args[0] and args[0] % result == 0"},
        [(12,), (49,), (30,)],
        lambda n: [d for d in range(2, n) if n % d == 0],
        (
            "def f(n):\n    return next(d for d in range(2, n) if n % d == 0)\n",
            "def f(n):\n    d = n // 2\n    while n % d:\n        d -= 1\n    return d\n",
        ),
    ),
    Question(
        "no equal neighbours",
        {"checker": _APART},
        [("aabb",), ("aaabc",), ("xyz",)],
        lambda text: sorted({"".join(p) for p in it.permutations(text) if all(a != b for a, b in it.pairwise(p))}),
        (
            "from itertools import permutations\ndef f(text):\n    for p in permutations(text):\n"
            "        if all(a != b for a, b in zip(p, p[1:])):\n            return ''.join(p)\n",
            "def f(text):\n    letters = sorted(sorted(text), key=text.count, reverse=True)\n"
            "    out = [''] * len(text)\n"
            "    out[::2], out[1::2] = letters[:(len(text) + 1) // 2], letters[(len(text) + 1) // 2:]\n"
            "    return ''.join(out)\n",
        ),
    ),
    Question(
        "wiggle",
        {
            "property": "type(result) is list and all(type(x) is int for x in result) and sorted(result) =="
            " sorted(args[0]) and all((a < b) == (i % 2 == 0) and a != b for i, (a, b) in"
            " enumerate(zip(result, result[1:])))"
        },
        [([3, 1, 2, 5],), ([1, 2, 3],), ([9, 4, 7, 1, 6],)],
        lambda x: [
            list(p)
            for p in it.permutations(x)
            if all(a < b if i % 2 == 0 else a > b for i, (a, b) in enumerate(it.pairwise(p)))
        ],
        (
            "def f(x):\n    x = sorted(x)\n    for i in range(1, len(x) - 1, 2):\n"
            "        x[i], x[i + 1] = x[i + 1], x[i]\n"
            "    return x\n",
            "from itertools import permutations\ndef f(x):\n    for p in permutations(sorted(x, reverse=True)):\n"
            "        if all(a < b if i % 2 == 0 else a > b for i, (a, b) in enumerate(zip(p, p[1:]))):\n"
            "            return list(p)\n",
        ),
    ),
    Question(
        "even before odd",
        {
            "property": "type(result) is list and all(type(x) is int for x in result) and sorted(result) =="
            " sorted(args[0]) and all(a % 2 <= b % 2 for a, b in zip(result, result[1:]))"
        },
        [([3, 2, 4, 1],), ([1, 3],), ([2, 1, 2],)],
        lambda x: [list(p) for p in it.permutations(x) if all(a % 2 <= b % 2 for a, b in it.pairwise(p))],
        (
            "def f(x):\n    return sorted(x, key=lambda v: v % 2)\n",
            "def f(x):\n    out = []\n    for v in x:\n        if v % 2 == 0:\n            out.insert(0, v)\n"
            "        else:\n"
            "            out.append(v)\n    return out\n",
        ),
    ),
    Question(
        "gray code",
        {"checker": _GRAY},
        [(1,), (2,), (3,)],
        lambda n: [
            list(p) for p in it.permutations(range(2**n)) if all((a ^ b).bit_count() == 1 for a, b in it.pairwise(p))
        ],
        (
            "def f(n):\n    return [i ^ i >> 1 for i in range(2 ** n)]\n",
            "def f(n):\n    codes = [1, 0]\n    for bit in range(1, n):\n"
            "        codes = codes + [c | 1 << bit for c in reversed(codes)]\n    return codes\n",
        ),
    ),
    Question(
        "De Bruijn sequence",
        {"checker": _DE_BRUIJN},
        [(1,), (2,), (3,)],
        lambda n: [
            text
            for text in map("".join, it.product("01", repeat=2**n))
            if len({(text + text)[i : i + n] for i in range(2**n)}) == 2**n
        ],
        (
            "from itertools import product\ndef f(n):\n    for p in product('01', repeat=2 ** n):\n"
            "        text = ''.join(p)\n        if len({(text * 2)[i:i + n] for i in range(2 ** n)}) == 2 ** n:\n"
            "            return text\n",
            "def f(n):\n    text = '0' * n\n    seen = {text}\n    while True:\n        for bit in '10':\n"
            "            window = (text + bit)[len(text) + 1 - n:]\n            if window not in seen:\n"
            "                seen.add(window)\n                text += bit\n                break\n        else:\n"
            "            return text[n - 1:]\n",
        ),
    ),
    Question(
        "longest increasing subsequence",
        {"checker": _LIS},
        [([3, 1, 4, 2, 5],), ([2, 1],), ([1, 5, 2, 6, 3],)],
        lambda x: list(map(list, _best((s for s in _subsets(x) if all(a < b for a, b in it.pairwise(s))), len))),
        (
            "from itertools import combinations\ndef f(x):\n    for size in range(len(x), -1, -1):\n"
            "        for c in combinations(x, size):\n            if all(a < b for a, b in zip(c, c[1:])):\n"
            "                return list(c)\n",
            "def f(x):\n    best = []\n    for v in x:\n"
            "        best.append(max(([*b, v] for b in best if b[-1] < v), key=len, default=[v]))\n"
            "    return max(reversed(best), key=len)\n",
        ),
    ),
    Question(
        "minimum spanning tree",
        {"checker": _SPANNING},
        [
            (4, [(0, 1, 1), (1, 2, 2), (2, 3, 1), (3, 0, 2), (0, 2, 3)]),
            (3, [(0, 1, 5), (1, 2, 5), (0, 2, 5)]),
        ],
        lambda n, edges: _lists(_trees(n, edges)),
        (
            "def f(n, edges):\n    group = list(range(n))\n    tree = []\n"
            "    for a, b, w in sorted(edges, key=lambda e: e[2]):\n"
            "        if group[a] != group[b]:\n            tree.append((a, b, w))\n"
            "            group = [group[a] if g == group[b] else g for g in group]\n    return tree\n",
            "def f(n, edges):\n    seen, tree = {n - 1}, []\n    while len(seen) < n:\n"
            "        edge = min((e for e in edges[::-1] if (e[0] in seen) != (e[1] in seen)), key=lambda e: e[2])\n"
            "        tree.append(edge)\n        seen |= {edge[0], edge[1]}\n    return tree\n",
        ),
    ),
    Question(
        "independent set",
        {
            "checker": _VERTICES.replace("{GOOD}", "not any(a in chosen and b in chosen for a, b in edges)").replace(
                "{STEP}", "+ 1"
            )
        },
        [_GRAPH, (4, [(0, 1), (2, 3)])],
        lambda n, edges: _lists(_independent(n, edges)),
        (
            "from itertools import combinations\ndef f(n, edges):\n    for size in range(n, -1, -1):\n"
            "        for c in combinations(range(n), size):\n"
            "            if not any(a in c and b in c for a, b in edges):\n                return list(c)\n",
            "def f(n, edges):\n    def best(free):\n        if not free:\n            return []\n"
            "        v = max(free)\n"
            "        near = {x for e in edges if v in e for x in e}\n        with_v = [v] + best(free - near - {v})\n"
            "        without = best(free - {v})\n        return with_v if len(with_v) >= len(without) else without\n"
            "    return best(set(range(n)))\n",
        ),
    ),
    Question(
        "vertex cover",
        {
            "checker": _VERTICES.replace("{GOOD}", "all(a in chosen or b in chosen for a, b in edges)").replace(
                "{STEP}", "- 1"
            )
        },
        [_GRAPH, (4, [(0, 1), (2, 3)])],
        lambda n, edges: _lists(_covers(n, edges)),
        (
            "from itertools import combinations\ndef f(n, edges):\n    for size in range(n + 1):\n"
            "        for c in combinations(range(n), size):\n            if all(a in c or b in c for a, b in edges):\n"
            "                return list(c)\n",
            "def f(n, edges):\n    if not edges:\n        return []\n    a, b = edges[-1]\n"
            "    ways = [[v] + f(n, [e for e in edges if v not in e]) for v in (b, a)]\n"
            "    return min(ways, key=len)\n",
        ),
    ),
    Question(
        "bipartite matching",
        {"checker": _MATCHING},
        [(3, 3, [(0, 0), (0, 1), (1, 0), (2, 2), (2, 1)]), (2, 2, [(0, 0), (1, 0)])],
        lambda left, right, edges: _lists(
            _best(
                (s for s in _subsets(edges) if len({a for a, _ in s}) == len(s) == len({b for _, b in s})),
                len,
            )
        ),
        (
            "from itertools import combinations\ndef f(left, right, edges):\n"
            "    for size in range(len(edges), -1, -1):\n"
            "        for c in combinations(edges, size):\n"
            "            if len({a for a, b in c}) == size == len({b for a, b in c}):\n"
            "                return list(c)\n",
            "def f(left, right, edges):\n    partner = {}\n    def grow(a, seen):\n        for x, b in edges[::-1]:\n"
            "            if x == a and b not in seen:\n                seen.add(b)\n"
            "                if b not in partner or grow(partner[b], seen):\n                    partner[b] = a\n"
            "                    return True\n        return False\n    for a in range(left):\n        grow(a, set())\n"
            "    return [(a, b) for b, a in partner.items()]\n",
        ),
    ),
    Question(
        "stable matching",
        {"checker": _STABLE},
        [([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[1, 2, 0], [2, 0, 1], [0, 1, 2]]), ([[0, 1], [0, 1]], [[1, 0], [0, 1]])],
        lambda men, women: [list(p) for p in it.permutations(range(len(men))) if _is_stable(men, women, p)],
        (
            "def f(men, women):\n    n = len(men)\n    wife, husband, next_one = [None] * n, {}, [0] * n\n"
            "    free = list(range(n))\n    while free:\n        m = free.pop()\n        w = men[m][next_one[m]]\n"
            "        next_one[m] += 1\n        if w in husband and women[w].index(husband[w]) < women[w].index(m):\n"
            "            free.append(m)\n            continue\n        if w in husband:\n"
            "            free.append(husband[w])\n"
            "        husband[w] = m\n    for w, m in husband.items():\n        wife[m] = w\n    return wife\n",
            "from itertools import permutations\ndef f(men, women):\n    n = len(men)\n"
            "    for p in permutations(range(n - 1, -1, -1)):\n"
            "        if not any(men[m].index(w) < men[m].index(p[m])\n"
            "                   and women[w].index(m) < women[w].index(p.index(w))\n"
            "                   for m in range(n) for w in range(n)):\n            return list(p)\n",
        ),
    ),
    Question(
        "knapsack",
        {"checker": _KNAPSACK},
        [([(2, 3), (3, 4), (4, 7), (5, 7)], 7), ([(1, 1), (1, 1), (2, 2)], 2)],
        lambda items, capacity: _lists(
            _best(
                (s for s in _subsets(range(len(items))) if sum(items[i][0] for i in s) <= capacity),
                lambda s: sum(items[i][1] for i in s),
            )
        ),
        (
            "from itertools import combinations\ndef f(items, capacity):\n    n = len(items)\n"
            "    fit = [c for size in range(n + 1) for c in combinations(range(n), size)\n"
            "           if sum(items[i][0] for i in c) <= capacity]\n"
            "    return list(max(fit, key=lambda c: sum(items[i][1] for i in c)))\n",
            "def f(items, capacity):\n    best = {0: (0, [])}\n    for i, (w, v) in enumerate(items):\n"
            "        for used, (value, chosen) in sorted(best.items(), reverse=True):\n            room = used + w\n"
            "            if room <= capacity and best.get(room, (-1, []))[0] <= value + v:\n"
            "                best[room] = (value + v, [i] + chosen)\n"
            "    return max(best.values(), key=lambda b: b[0])[1]\n",
        ),
    ),
    Question(
        "activities",
        {"checker": _ACTIVITIES},
        [([(0, 3), (1, 2), (2, 4), (3, 5)],), ([(0, 9), (1, 2)],)],
        lambda slots: _lists(
            _best(
                (s for s in _subsets(slots) if all(a[1] <= b[0] or b[1] <= a[0] for a, b in it.combinations(s, 2))),
                len,
            )
        ),
        (
            "def f(slots):\n    chosen, end = [], 0\n    for a, b in sorted(slots, key=lambda s: s[1]):\n"
            "        if a >= end:\n            chosen.append((a, b))\n            end = b\n    return chosen\n",
            "def f(slots):\n    if not slots:\n        return []\n    first = max(slots, key=lambda s: s[0])\n"
            "    return [first] + f([s for s in slots if s[1] <= first[0]])\n",
        ),
    ),
    Question(
        "fewest coins",
        {"checker": _COINS},
        [([1, 3, 4], 6), ([1, 2, 5], 9), ([2, 3], 7)],
        lambda coins, total: [
            list(order)
            for size in range(total + 1)
            if any(sum(c) == total for c in it.combinations_with_replacement(coins, size))
            and not any(sum(c) == total for less in range(size) for c in it.combinations_with_replacement(coins, less))
            for order in it.product(coins, repeat=size)
            if sum(order) == total
        ],
        (
            "def f(coins, total):\n    ways = {0: []}\n    for amount in range(1, total + 1):\n"
            "        options = [ways[amount - c] + [c] for c in coins if amount - c in ways]\n"
            "        if options:\n            ways[amount] = min(options, key=len)\n    return ways[total]\n",
            "from itertools import product\ndef f(coins, total):\n    for size in range(total + 1):\n"
            "        for p in product(sorted(coins, reverse=True), repeat=size):\n            if sum(p) == total:\n"
            "                return list(p)\n",
        ),
    ),
    Question(
        "two squares",
        {
            "property": "type(result) is tuple and len(result) == 2 and all(type(x) is int and x >= 0 for x in result)"
            " and result[0] ** 2 + result[1] ** 2 == args[0]"
        },
        [(25,), (50,), (13,)],
        lambda n: [(a, b) for a in range(n + 1) for b in range(n + 1) if a * a + b * b == n],
        (
            "def f(n):\n    for a in range(n + 1):\n        for b in range(n + 1):\n"
            "            if a * a + b * b == n:\n"
            "                return a, b\n",
            "def f(n):\n    a = int(n ** 0.5)\n    while True:\n        b = round((n - a * a) ** 0.5)\n"
            "        if a * a + b * b == n:\n            return (a, b)\n        a -= 1\n",
        ),
    ),
    Question(
        "mean",
        {"compare": "tolerance"},
        [([0.1, 0.2, 0.3],), ([1.5, 2.5],), ([1e6, 1.0, -5.0],)],
        lambda x: [math.fsum(x) / len(x)],
        (
            "def f(x):\n    return sum(x) / len(x)\n",
            "def f(x):\n    mean = 0.0\n    for i, v in enumerate(x, 1):\n        mean += (v - mean) / i\n"
            "    return mean\n",
        ),
        near=True,
    ),
    Question(
        "cheapest walk",
        {"checker": _GRID},
        [([[1, 2, 1], [2, 9, 1], [1, 1, 1]],), ([[1, 1], [1, 1]],)],
        lambda grid: _best(
            {"".join(p) for p in it.permutations("D" * (len(grid) - 1) + "R" * (len(grid[0]) - 1))},
            lambda steps: -_walk_cost(grid, steps),
        ),
        (
            "def f(grid, r=0, c=0):\n    def best(r, c):\n        if r == len(grid) - 1 and c == len(grid[0]) - 1:\n"
            "            return grid[r][c], ''\n        ways = []\n        if r + 1 < len(grid):\n"
            "            cost, steps = best(r + 1, c)\n            ways.append((cost + grid[r][c], 'D' + steps))\n"
            "        if c + 1 < len(grid[0]):\n            cost, steps = best(r, c + 1)\n"
            "            ways.append((cost + grid[r][c], 'R' + steps))\n        return min(ways)\n"
            "    return best(0, 0)[1]\n",
            "def f(grid):\n    ways = {(0, 0): (grid[0][0], '')}\n    for r in range(len(grid)):\n"
            "        for c in range(len(grid[0])):\n            for a, b, step in ((r, c - 1, 'R'), (r - 1, c, 'D')):\n"
            "                if (a, b) in ways:\n                    cost = ways[a, b][0] + grid[r][c]\n"
            "                    if (r, c) not in ways or cost < ways[r, c][0]:\n"
            "                        ways[r, c] = (cost, ways[a, b][1] + step)\n    return ways[r, c][1]\n",
        ),
    ),
    Question(
        "word ladder",
        {"checker": _LADDER},
        [
            ("hit", "cog", ["hot", "dot", "dog", "lot", "log", "cog"]),
            ("ab", "cd", ["ad", "cb", "cd"]),
        ],
        lambda start, end, words: _ladders(start, end, words),
        (
            "def f(start, end, words):\n    ladders = [[start]]\n    for ladder in ladders:\n"
            "        if ladder[-1] == end:\n"
            "            return ladder\n        for w in words:\n"
            "            if w not in ladder and sum(a != b for a, b in zip(w, ladder[-1])) == 1:\n"
            "                ladders.append(ladder + [w])\n",
            "def f(start, end, words):\n    far = {end: [end]}\n    queue = [end]\n    for w in queue:\n"
            "        for v in [start, *words][::-1]:\n"
            "            if v not in far and sum(a != b for a, b in zip(w, v)) == 1:\n"
            "                far[v] = [v] + far[w]\n                queue.append(v)\n    return far[start]\n",
        ),
    ),
    Question(
        "magic square",
        {"checker": _MAGIC},
        [(2,), (8,)],
        _magic,
        (
            "from itertools import permutations\ndef f(corner):\n    for p in permutations(range(1, 10), 3):\n"
            "        if p[0] != corner or sum(p) != 15:\n            continue\n"
            "        square = [list(p), [5 - p[0] + p[2], 5, 5 + p[0] - p[2]],\n"
            "                  [10 - p[2], 10 - p[1], 10 - p[0]]]\n        cells = sum(square, [])\n"
            "        if sorted(cells) == list(range(1, 10)):\n            return square\n",
            "def f(corner):\n    square = [[8, 1, 6], [3, 5, 7], [4, 9, 2]]\n    for _ in range(4):\n"
            "        if square[0][0] == corner:\n            return square\n"
            "        square = [list(row) for row in zip(*square[::-1])]\n",
        ),
    ),
    Question(
        "Latin square",
        {"checker": _LATIN},
        [([0, 1, 2],), ([2, 0, 1],), ([1, 0, 2, 3],)],
        _latin,
        (
            "def f(first):\n    return [first[i:] + first[:i] for i in range(len(first))]\n",
            "def f(first):\n    rows = [list(first)]\n    while len(rows) < len(first):\n"
            "        rows.append(rows[-1][-1:] + rows[-1][:-1])\n    return rows\n",
        ),
    ),
    Question(
        "longest palindrome",
        {"checker": _PALINDROME},
        [("babad",), ("abba",), ("abc",)],
        lambda text: _best(
            {text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1) if text[i:j] == text[i:j][::-1]},
            len,
        ),
        (
            "def f(text):\n    for size in range(len(text), 0, -1):\n        for i in range(len(text) - size + 1):\n"
            "            part = text[i:i + size]\n            if part == part[::-1]:\n                return part\n",
            "def f(text):\n    best = ''\n    for i in range(len(text)):\n        for a, b in ((i, i), (i, i + 1)):\n"
            "            while a >= 0 and b < len(text) and text[a] == text[b]:\n                a, b = a - 1, b + 1\n"
            "            if b - a - 1 >= len(best):\n                best = text[a + 1:b]\n    return best\n",
        ),
    ),
    Question(
        "points in ranges",
        {"checker": _POINTS},
        [([(0, 2), (1, 3), (4, 5)],), ([(0, 1), (1, 2)],)],
        lambda ranges: [
            list(p)
            for size in range(1, 4)
            for p in it.product(range(7), repeat=size)
            if all(any(a <= x <= b for x in p) for a, b in ranges)
            and not any(
                all(any(a <= x <= b for x in q) for a, b in ranges) for q in it.product(range(7), repeat=size - 1)
            )
        ],
        (
            "def f(ranges):\n    points = []\n    for a, b in sorted(ranges, key=lambda r: r[1]):\n"
            "        if not points or a > points[-1]:\n            points.append(b)\n    return points\n",
            "def f(ranges):\n    points = []\n    for a, b in sorted(ranges, reverse=True):\n"
            "        if not points or b < points[-1]:\n            points.append(a)\n    return points\n",
        ),
    ),
    Question(
        "derangement",
        {
            "property": "type(result) is list and all(type(x) is int for x in result) and sorted(result) =="
            " list(range(args[0])) and all(x != i for i, x in enumerate(result))"
        },
        [(2,), (4,), (5,)],
        lambda n: [list(p) for p in it.permutations(range(n)) if all(x != i for i, x in enumerate(p))],
        (
            "def f(n):\n    return [(i + 1) % n for i in range(n)]\n",
            "from itertools import permutations\ndef f(n):\n    for p in permutations(range(n - 1, -1, -1)):\n"
            "        if all(x != i for i, x in enumerate(p)):\n            return list(p)\n",
        ),
    ),
    Question(
        "order of a graph (script)",
        {"checker": _PRINTED_ORDER},
        [("3 2\n1 2\n1 3\n",), ("4 2\n4 1\n3 2\n",)],
        lambda text: [
            " ".join(p)
            for p in it.permutations([str(v) for v in range(1, int(text.split()[0]) + 1)])
            if all(p.index(a) < p.index(b) for a, b in (line.split() for line in text.splitlines()[1:]))
        ],
        (
            "n, m = map(int, input().split())\nedges = [tuple(map(int, input().split())) for _ in range(m)]\n"
            "left = list(range(1, n + 1))\norder = []\nwhile left:\n    for v in left:\n"
            "        if not any(b == v and a in left for a, b in edges):\n            order.append(v)\n"
            "            left.remove(v)\n            break\nprint(*order)\n",
            "from itertools import permutations\nn, m = map(int, input().split())\n"
            "edges = [tuple(map(int, input().split())) for _ in range(m)]\n"
            "for p in permutations(range(n, 0, -1)):\n    if all(p.index(a) < p.index(b) for a, b in edges):\n"
            "        print(*p)\n        break\n",
        ),
        script=True,
    ),
    Question(
        "distinct parts (script)",
        {"checker": _PRINTED_PARTS},
        [("10 3\n",), ("6 2\n",), ("5 1\n",)],
        lambda text: [
            " ".join(map(str, p))
            for p in it.permutations(range(1, int(text.split()[0]) + 1), int(text.split()[1]))
            if sum(p) == int(text.split()[0])
        ],
        (
            "n, k = map(int, input().split())\nparts = list(range(1, k))\nprint(*parts, n - sum(parts))\n",
            "from itertools import combinations\nn, k = map(int, input().split())\n"
            "for c in combinations(range(n, 0, -1), k):\n    if sum(c) == n:\n        print(*c)\n        break\n",
        ),
        script=True,
    ),
]
"""40 questions."""


# --- mutants of programs ---------------------------------------------------------------------------------------------

_SWAPPED: dict[type[ast.AST], list[type[ast.AST]]] = {
    ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.In: [ast.NotIn], ast.NotIn: [ast.In], ast.Add: [ast.Sub],
    ast.Sub: [ast.Add], ast.Mult: [ast.Add], ast.Div: [ast.Mult], ast.FloorDiv: [ast.Mult], ast.Mod: [ast.FloorDiv],
    ast.Pow: [ast.Mult], ast.And: [ast.Or], ast.Or: [ast.And], ast.BitXor: [ast.BitOr], ast.RShift: [ast.LShift],
}  # fmt: skip
_NAMES = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list", "append": "remove", "sum": "len"}


def mutants(source: str) -> list[str]:
    """All programs that differ from `source` in one operator, constant, name, condition or statement."""
    tree = ast.parse(source)
    places = range(sum(1 for _ in ast.walk(tree)))
    found = dict.fromkeys(text for place in places for change in range(4) if (text := _mutant(tree, place, change)))
    found.pop(ast.unparse(tree), None)
    return list(found)


def _mutant(tree: ast.Module, place: int, change: int) -> str | None:
    """The program with one change of the node at `place`; None where there is no such change."""
    node = next(it.islice(ast.walk(tree), place, None))
    if not _change(copy.copy(node), change):
        return None
    copied = copy.deepcopy(tree)
    _change(next(it.islice(ast.walk(copied), place, None)), change)
    try:
        text = ast.unparse(ast.fix_missing_locations(copied))
        with warnings.catch_warnings(action="ignore"):
            compile(text, "<mutant>", "exec")
    except (SyntaxError, ValueError, TypeError):
        return None
    return text


def _changed_again(source: str, chance: random.Random) -> str | None:
    tree = ast.parse(source)
    size = sum(1 for _ in ast.walk(tree))
    tries = (_mutant(tree, chance.randrange(size), chance.randrange(2)) for _ in range(10))
    return next((text for text in tries if text), None)


def _change(target: ast.AST, change: int) -> bool:
    match target:
        case ast.Compare() if change < len(_SWAPPED.get(type(target.ops[0]), [])):
            swapped: Any = _SWAPPED[type(target.ops[0])][change]()
            target.ops = [swapped, *target.ops[1:]]
        case ast.BinOp() | ast.AugAssign() | ast.BoolOp() if change < len(_SWAPPED.get(type(target.op), [])):
            target.op = _SWAPPED[type(target.op)][change]()  # type: ignore[assignment]
        case ast.Constant(value=bool(value)) if change == 0:
            target.value = not value
        case ast.Constant(value=int(value)) if change < 2 and not isinstance(value, bool):
            target.value = value + (1, -1)[change]
        case ast.Constant(value=str(value)) if change == 0 and value:
            target.value = value[::-1] if value != value[::-1] else value + value[0]
        case ast.Name(id=name) | ast.Attribute(attr=name) if change == 0 and name in _NAMES:
            if isinstance(target, ast.Name):
                target.id = _NAMES[name]
            else:
                target.attr = _NAMES[name]
        case ast.Return(value=ast.expr() as value):
            if change == 0:
                target.value = ast.List([value], ast.Load())
            elif change == 1:
                target.value = ast.Constant(None)
            elif change == 2:
                target.value = ast.Subscript(value, ast.Slice(ast.Constant(1)), ast.Load())
            else:
                target.value = ast.BinOp(value, ast.Add(), copy.deepcopy(value))
        case ast.If() | ast.While() if change == 0:
            target.test = ast.UnaryOp(ast.Not(), target.test)
        case ast.If() if change == 1:
            target.test = ast.Constant(True)
        case ast.Break() | ast.Expr() if change == 0:
            return False
        case ast.FunctionDef() | ast.For() if change < 3 and len(target.body) > change + 1:
            target.body = target.body[:change] + target.body[change + 1 :]
        case ast.Slice(step=ast.expr()) if change == 0:
            target.step = None
        case _:
            return False
    return True


def sample(count: int, seed: int) -> list[tuple[Question, str]]:
    """So many mutants, an equal share of each question, the same for the same seed. Where a question has fewer with one
    change, the rest have two.
    """
    chance = random.Random(seed)
    pools: list[tuple[Question, list[str]]] = []
    share = -(-count // len(QUESTIONS))
    for question in QUESTIONS:
        once = list(dict.fromkeys(mutant for program in question.programs for mutant in mutants(program)))
        chance.shuffle(once)
        pool = dict.fromkeys(once[:share])
        for _ in range(4 * share):
            if len(pool) < share and (twice := _changed_again(chance.choice(once), chance)):
                pool[twice] = None
        chosen = list(pool)
        pools.append((question, chosen))
    return [(question, pool[turn]) for turn in range(share) for question, pool in pools if turn < len(pool)][:count]


# --- what the sandbox says of them -----------------------------------------------------------------------------------

LIMITS = {"cpuSecondsPerTest": 0.2, "cpuSecondsPerProgram": 1.0}
Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True)
class Result:
    """Whether brute force finds all answers of a program right, and whether its tests pass."""

    question: Question
    program: str
    is_right: bool
    outcomes: list[dict[str, Any]]

    @property
    def passes(self) -> bool:
        return all(outcome["status"] == "pass" for outcome in self.outcomes)

    @property
    def faults(self) -> list[str]:
        """What went wrong in the checker."""
        return [each["reason"] for each in self.outcomes if each["status"] in ("checker_failed", "unjudged")]


def judged(ask: Ask, pairs: list[tuple[Question, str]]) -> list[Result]:
    """Judge programs by their tests and, apart from these, by the lists of all right answers."""
    jobs = [
        {"id": str(at), "program": program, "tests": question.tests} for at, (question, program) in enumerate(pairs)
    ]
    verdicts = ask("judge", jobs=jobs, limits=LIMITS)["verdicts"]
    functions = [at for at, (question, _) in enumerate(pairs) if not question.script]
    calls = [
        {"id": str(at), "program": pairs[at][1], "calls": list(map(pairs[at][0].call, pairs[at][0].inputs))}
        for at in functions
    ]
    values = {int(each["id"]): each["results"] for each in ask("evaluate", jobs=calls, limits=LIMITS)["values"]}
    listed = [
        {
            "id": str(at),
            "program": program,
            "tests": [
                {"stdin": stdin, "anyOf": question.right(stdin)[:100], "compare": "tokens"}
                for (stdin,) in question.inputs
            ],
        }
        for at, (question, program) in enumerate(pairs)
        if question.script
    ]
    printed = {int(each["id"]): each["outcomes"] for each in ask("judge", jobs=listed, limits=LIMITS)["verdicts"]}
    results: list[Result] = []
    for at, (question, program) in enumerate(pairs):
        if question.script:
            is_right = all(outcome["status"] == "pass" for outcome in printed[at])
        else:
            is_right = all(
                result["status"] == "value" and question.is_right(arguments, _value(result["literal"]))
                for arguments, result in zip(question.inputs, values[at], strict=True)
            )
        results.append(Result(question, program, is_right, verdicts[at]["outcomes"]))
    return results


def _value(literal: str) -> Any:
    try:
        return ast.literal_eval(literal)
    except (ValueError, SyntaxError):
        return object()

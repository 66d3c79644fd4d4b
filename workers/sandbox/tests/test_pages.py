"""The memory of a zygote is laid out anew while its interpreter runs in it, and stays as it was where that fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

INSIDE = Path(__file__).parents[1] / "inside"
# In a process of its own: what is laid out is the memory of the process itself.
START = f"""
import sys
sys.path.insert(0, {str(INSIDE)!r})
import pages
pages.reserve()
import ast, decimal, json
def huge():
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("AnonHugePages:"))
def file_of(address):
    with open("/proc/self/maps") as file:
        for line in file:
            low, high = (int(end, 16) for end in line.split()[0].split("-"))
            if low <= address < high:
                return line.split()[1], line.split()[5:]
def works():
    assert json.loads(json.dumps([1.5, "a"])) == [1.5, "a"]
    assert eval(compile(ast.parse("sum(x * x for x in range(1000))", mode="eval"), "a", "eval")) == 332833500
    assert str(decimal.Decimal(1) / 7)[:6] == "0.1428"
    return True
"""


def run(script: str) -> str:
    said = subprocess.run(
        [sys.executable, "-c", START + script], capture_output=True, text=True, check=False, timeout=120
    )
    assert said.returncode == 0, said.stderr
    return said.stdout.strip()


def test_a_process_goes_on_in_huge_pages() -> None:
    script = """
before = huge()
pages.fill()
pages.collapse()
works()
found = [(start, end) for start, end in pages._text() if pages._up(start) < end // pages._HUGE * pages._HUGE]
print("no" if huge() == before else "yes", [file_of(pages._up(start)) for start, end in found])
"""
    said = run(script)
    if said.startswith("no"):
        pytest.skip("HUGE PAGES NOT TRIED: this kernel gives none")
    # Never to be written to and run at a time, and no longer the file's.
    assert "rw" not in said
    assert "wx" not in said
    assert "/" not in said


@pytest.mark.parametrize(
    "fault", ["pages._collapse = lambda start, size: False", "pages._libc.mremap = lambda *_: pages._FAILED"]
)
def test_where_there_are_none_nothing_changes(fault: str) -> None:
    script = f"""
before = [file_of(start) for start, _ in pages._text()]
{fault}
pages.fill()
pages.collapse()
assert [file_of(start) for start, _ in pages._text()] == before and before[0][1], before
print(works())
"""
    assert run(script) == "True"


def test_children_take_small_objects_from_fresh_pools() -> None:
    script = """
pages.fill()
for size in range(64, 513, 64):
    pools = {id(bytes(size - 33)) // pages._POOL for _ in range(4)}
    new = [bytes(size - 33) for _ in range(pages._POOL // size // 2)]
    assert len({id(each) // pages._POOL for each in new}) <= 2, size
print(works())
"""
    assert run(script) == "True"

"""Libraries and files: what a setting gives programs, and what it does not."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from service import Service

from sandbox import wall
from sandbox.libraries import Libraries, NotUsable

NUMPY = "import numpy as np\ndef f(x):\n    return np.mean(x)\n"
FILE = "def f(x):\n    with open('data.txt', 'w') as out:\n        out.write(x)\n    return open('data.txt').read()\n"


@pytest.fixture(scope="module")
def equipped() -> Iterator[Service]:
    """A service with the libraries of this interpreter's environment, and 8 MiB of files."""
    service = Service("--workers", "1", "--libraries", sys.prefix, "--scratch-mib", "8")
    trouble = service.versions.get("trouble", "")
    if f"lies in {wall.SCRATCH}" in trouble:
        service.close()
        pytest.skip(f"LIBRARIES AND FILES NOT TRIED: {trouble}")
    yield service
    service.close()


def test_what_the_folder_for_files_would_hide_is_refused_by_name() -> None:
    with tempfile.TemporaryDirectory(dir=wall.SCRATCH) as folder:
        Path(folder, "thing-1.0.dist-info").mkdir()
        Path(folder, "thing-1.0.dist-info/RECORD").write_text("thing.py,sha256=a,1\n")
        setting = wall.Setting(Libraries.find(folder), scratch_bytes=1024)
        with pytest.raises(wall.WallError, match=rf"/.* lies in {wall.SCRATCH}, .*; move it"):
            wall.start("bubblewrap", 0, setting)


def test_the_name_of_the_environment_is_part_of_what_verdicts_depend_on(equipped: Service, service: Service) -> None:
    name = Libraries.find(sys.prefix).name
    assert equipped.versions["importPolicy"] == (
        f"stdlib and {name}, no preamble, own module-level asserts and prints removed, files of 8 MiB"
    )
    assert service.versions["importPolicy"] == "stdlib, no preamble, own module-level asserts and prints removed"


def test_the_name_changes_with_what_is_installed_and_not_with_the_place(tmp_path: Path) -> None:
    def environment(place: str, version: str, line: str) -> str:
        package = tmp_path / place / "libs" / f"thing-{version}.dist-info"
        package.mkdir(parents=True)
        installed = (
            f"../../bin/thing,sha256={place},1\nthing.pyc,,\nthing-{version}.dist-info/INSTALLER,sha256={place},1"
        )
        (package / "RECORD").write_text(f"thing.py,sha256=a,1\nthing.so,sha256={line},1\n{installed}\n")
        return Libraries.find(str(package.parent)).name

    first = environment("a", "1.0", "abc")
    assert first.startswith("libs-")
    assert environment("b", "1.0", "abc") == first
    assert environment("c", "1.1", "abc") != first
    assert environment("d", "1.0", "abd") != first


def test_an_environment_that_cannot_be_used_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(NotUsable, match=r"no installed packages in .*nowhere: name a virtual environment"):
        Libraries.find(str(tmp_path / "nowhere"))
    (tmp_path / "lib/python2.7/site-packages").mkdir(parents=True)
    (tmp_path / "pyvenv.cfg").touch()
    with pytest.raises(NotUsable, match=r"are of python2.7, and python3.\d+ runs the programs: make them with"):
        Libraries.find(str(tmp_path))
    service = Service("--workers", "1", "--libraries", str(tmp_path))
    service.send({"id": 1, "op": "judge", "params": {"jobs": []}})
    error = service.reply()["error"]
    assert error["type"] == "SandboxUnavailable"
    assert "are of python2.7" in error["message"]
    service.close()


def test_functions_scripts_and_tests_may_import_them(equipped: Service) -> None:
    memory = {"memoryBytes": 512 * 1024 * 1024}
    assert equipped.statuses(NUMPY, "assert f([1, 2, 3]) == 2.0", **memory) == ["pass"]
    wrong = "import numpy as np\nassert np.allclose(f([1, 2]), 1.6)"
    right = "import numpy as np\nassert np.allclose(f([1, 2]), 1.5)"
    assert equipped.statuses(NUMPY, right, wrong, **memory) == ["pass", "assertion_failed"]
    by_name = "class TestF(unittest.TestCase):\n    def test_a(self):\n        self.assertEqual(np.sqrt(f([4])), 2)\n"
    assert equipped.judge(NUMPY, f"import unittest\n{by_name}", **memory) == [{"status": "pass", "inside": True}]
    script = {"stdin": "", "stdout": "3\n"}
    program = "import numpy as np\nprint(np.arange(3).sum())\n"
    jobs = [{"id": "s", "program": program, "tests": [script]}]
    assert equipped.ask("judge", jobs=jobs)["verdicts"][0]["outcomes"] == [{"status": "pass"}]


def test_what_is_imported_for_all_costs_no_program_memory_and_changes_no_verdict(equipped: Service) -> None:
    def statuses(jobs: int) -> list[str]:
        # Only as many as this let the zygote import numpy beforehand.
        full = "import numpy as np\ndef f(n):\n    return np.zeros(n, dtype=np.int8).sum() == 0\n"
        limits = {"memoryBytes": 512 * 1024 * 1024}
        programs = [
            {"id": str(n), "program": f"{full}# {jobs} {n}", "tests": ["assert f(100 << 20)"]} for n in range(jobs)
        ]
        plain = {"id": "plain", "program": f"def f(n): return len(bytes(n)) # {jobs}", "tests": ["assert f(700 << 20)"]}
        small = {**plain, "id": "small", "tests": ["assert f(400 << 20)"]}
        verdicts = equipped.ask("judge", jobs=[*programs, plain, small], limits=limits)["verdicts"]
        return [verdict["outcomes"][0]["status"] for verdict in verdicts]

    assert statuses(2) == ["pass"] * 2 + ["raised", "pass"]
    assert statuses(12) == ["pass"] * 12 + ["raised", "pass"]


def test_nothing_else_can_be_imported(equipped: Service, service: Service) -> None:
    for folder in {*Path(sys.base_prefix).glob("lib/python3*/site-packages"), Path("/usr/lib/python3/dist-packages")}:
        program = f"import os, sys\ndef f():\n    return os.listdir({str(folder)!r})\n"
        for each in (equipped, service):
            assert each.statuses(program, "assert f()") != ["pass"], folder
    packages = Libraries.find(sys.prefix).folder
    program = f"import sys\nsys.path.append({packages!r})\nimport numpy\ndef f(): return 1\n"
    assert service.statuses(program, "assert f() == 1") == ["load_error"]


def test_files_can_be_written_where_the_setting_allows_it(equipped: Service, service: Service) -> None:
    assert equipped.statuses(FILE, "assert f('a') == 'a'") == ["pass"]
    assert service.statuses(FILE, "assert f('a') == 'a'") == ["refused"]
    temporary = (
        "import sqlite3, tempfile\ndef f():\n    with tempfile.TemporaryDirectory() as folder:\n"
        "        base = sqlite3.connect(folder + '/x.db')\n        base.execute('create table t(a)')\n"
        "        base.execute('insert into t values (1)')\n        base.commit()\n"
        "        return base.execute('select a from t').fetchall()\n"
    )
    assert equipped.statuses(temporary, "assert f() == [(1,)]") == ["pass"]
    jobs = [
        {
            "id": "s",
            "program": "open('o', 'w').write('q')\nprint(open('o').read())",
            "tests": [{"stdin": "", "stdout": "q"}],
        }
    ]
    assert equipped.ask("judge", jobs=jobs)["verdicts"][0]["outcomes"] == [{"status": "pass"}]


def test_no_program_finds_the_files_of_another_and_none_writes_elsewhere(equipped: Service) -> None:
    leaves = (
        "import os\ndef f():\n    os.makedirs('/tmp/a/b')\n    open('/tmp/a/b/secret', 'w').write('x')\n"
        "    os.symlink('/usr', '/tmp/link')\n    os.chmod('/tmp/a/b', 0)\n    return 1\n"
    )
    finds = "import os\ndef f(): return os.listdir('/tmp'), os.getcwd()\n"
    for _ in range(2):
        assert equipped.statuses(leaves, "assert f() == 1") == ["pass"]
        assert equipped.statuses(finds, "assert f() == ([], '/tmp')") == ["pass"]
    for place in ("/usr/x", "/x", str(Path(sys.prefix) / "x"), "/dev/shm/x", "/tmp/../usr/x"):
        program = f"def f():\n    open({place!r}, 'w').write('x')\n    return 1\n"
        assert equipped.statuses(program, "assert f() == 1") != ["pass"], place


def test_files_end_at_the_limit(equipped: Service) -> None:
    one = "def f(n):\n    open('x', 'wb').write(bytes(n))\n    return 1\n"
    assert equipped.statuses(one, "assert f(6 << 20) == 1") == ["pass"]
    assert equipped.statuses(one, "assert f(9 << 20) == 1") == ["refused"]
    many = "def f(n):\n    for i in range(n):\n        open(str(i), 'wb').write(bytes(1 << 20))\n    return 1\n"
    assert equipped.statuses(many, "assert f(6) == 1") == ["pass"]
    assert equipped.statuses(many, "assert f(20) == 1") != ["pass"]


@pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap is not there")
def test_only_a_wall_with_its_own_mounts_gives_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    from sandbox import wall

    with pytest.raises(wall.WallError, match="only bubblewrap can give programs a folder to write to"):
        wall.start("bare", 0, wall.Setting(scratch_bytes=1 << 20))

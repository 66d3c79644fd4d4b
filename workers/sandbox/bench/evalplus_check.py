"""`python -m sandbox.bench.evalplus_check JOBS RESULTS HOME`: runs `evalplus_peer.py` behind the wall, in the
environment of EvalPlus that HOME has or gets.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from sandbox import wall
from sandbox.bench.__main__ import HERE, peer_python


def main() -> None:
    jobs, results, home = map(Path, sys.argv[1:4])
    python = peer_python(home)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(jobs, Path(folder, "jobs.json"))
        command = wall.peer_command([str(python.parents[1]), str(HERE)], folder)
        script = [
            str(python),
            "-B",
            "-P",
            str(HERE / "evalplus_peer.py"),
            f"{folder}/jobs.json",
            f"{folder}/results.json",
        ]
        environment = {"PYTHONHASHSEED": "0", "LANG": "C.UTF-8", "HOME": folder}
        subprocess.run([*command, *script], check=True, env=environment)
        shutil.copy(Path(folder, "results.json"), results)


if __name__ == "__main__":
    main()

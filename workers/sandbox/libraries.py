"""Libraries that programs and tests may import: one locked environment, named in every verdict.

An environment is a virtual environment or a folder of installed packages. Nothing else of the host can be imported but
the standard library. What a batch uses of it is imported once by the zygotes, so that an import costs a program next to
nothing.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
_IMPORT = re.compile(r"^[ \t]*(?:import[ \t]+([\w., \t]+)|from[ \t]+([\w.]+)[ \t]+import\b)", re.MULTILINE)
# Below it, starting zygotes anew costs more than it saves.
_LEAST_JOBS = 8
MOST_PRELOADED = 24
"""Modules that are imported for all programs."""

# They start threads when they are imported, which a fork does not copy.
_THREADED = frozenset({"jax", "tensorflow", "torch"})


def _is_content(line: str) -> bool:
    """Whether a line of a RECORD is about what a package holds: bytecode, scripts and what the installer notes differ
    from host to host.
    """
    path = line.split(",")[0]
    return not path.startswith("..") and not path.endswith(".pyc") and ".dist-info/" not in path


class NotUsable(Exception):
    """The environment cannot be used; the message names it and says what to do."""


@dataclass(frozen=True)
class Libraries:
    """An environment: its folder of packages, its name with a digest of what is installed, and what can be imported."""

    folder: str
    name: str
    modules: frozenset[str]

    @staticmethod
    def find(path: str) -> Libraries:
        """The environment at `path`. `NotUsable` where there is none, or where it is of another version of Python.

        The digest covers names and versions of all packages, and the digests of their files as they were installed.
        """
        place = Path(path).absolute()
        folder = place
        if (place / "pyvenv.cfg").exists():
            versions = sorted(each.parent.name for each in place.glob("lib/python*/site-packages"))
            if _VERSION not in versions:
                found = ", ".join(versions) or "no Python"
                raise NotUsable(
                    f"The libraries in {path} are of {found}, and {_VERSION} runs the programs: "
                    f"make them with {_VERSION}, or set ACECODER_SANDBOX_PYTHON."
                )
            folder = place / "lib" / _VERSION / "site-packages"
        packages = sorted(folder.glob("*.dist-info")) if folder.is_dir() else []
        if not packages:
            raise NotUsable(f"There are no installed packages in {path}: name a virtual environment that has some.")
        digest = hashlib.sha256()
        for package in packages:
            digest.update(package.name.encode() + b"\0")
            record = package / "RECORD"
            lines = record.read_text(encoding="utf-8").splitlines() if record.exists() else []
            digest.update("\n".join(sorted(filter(_is_content, lines))).encode())
        modules = frozenset(
            each.name.split(".")[0]
            for each in folder.iterdir()
            if (each.is_dir() and each.name.isidentifier()) or each.suffix in (".py", ".so")
        )
        return Libraries(str(folder), f"{place.name}-{digest.hexdigest()[:12]}", modules)

    def used(self, jobs: Iterable[Iterable[str]]) -> frozenset[str]:
        """Modules that enough of the jobs import, each given as its texts, to be imported for all of them."""
        counts: Counter[str] = Counter()
        for texts in jobs:
            counts.update(self._imported(texts))
        enough = [module for module, count in counts.most_common() if count >= _LEAST_JOBS]
        return frozenset(enough[:MOST_PRELOADED])

    def _imported(self, texts: Iterable[str]) -> set[str]:
        found: set[str] = set()
        for text in texts:
            for plain, source in _IMPORT.findall(text):
                for part in (plain or source).split(","):
                    module = part.split()[0] if part.split() else ""
                    root = module.split(".")[0]
                    if root in self.modules and root not in _THREADED:
                        found.add(module)
        return found

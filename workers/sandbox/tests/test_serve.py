"""What the service loop makes of a disk that is full: `/dev/full` refuses every byte as such a disk does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serve import Cancelled, ServiceError, as_service_error

WORKERS = Path(__file__).parents[2]


def write() -> None:
    with Path("/dev/full").open("w") as file:
        file.write("x")


def fail_with_quota() -> None:
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


def fail_without_temporary_folder() -> None:
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")  # as `tempfile` says it


def fail_hidden() -> None:
    try:
        write()
    except OSError:
        raise OSError("Can't load the tokenizer. Make sure that it is a correct path.")  # noqa: B904 - as libraries do


def fail_as_operation() -> None:
    try:
        fail_hidden()
    except OSError as error:
        raise ServiceError("ModelNotFound", "Cannot load it.") from error


def error_of(work: Callable[[], None]) -> Exception:
    with pytest.raises(Exception) as raised:  # noqa: PT011 - any
        work()
    return raised.value


@pytest.mark.parametrize(
    "work",
    [
        write, fail_with_quota, fail_without_temporary_folder, fail_hidden, fail_as_operation,
    ],
)  # fmt: skip
def test_a_full_disk_is_seen_through_what_was_made_of_it(work: Callable[[], None]) -> None:
    error = as_service_error(error_of(work))
    assert error.type == "DiskFull"
    assert "(ACECODER_HOME) is full: " in str(error)


@pytest.mark.parametrize(
    "text",
    [
        "Error while serializing: I/O error: No space left on device (os error 28)",
        "[enforce fail at inline_container.cc:671] . unexpected pos 704 vs 598",
        "write(): fd 3 failed with No space left on device",
        "[Errno 28] Error writing bytes to file. Detail: [errno 28] No space left on device",
        "PytorchStreamWriter failed writing file data/0: file write failed",
        "Disk quota exceeded (os error 122)",
    ],
)
def test_a_full_disk_is_seen_in_the_words_of_libraries(text: str) -> None:
    """Those of safetensors, of `torch.save` in three ways, of pyarrow and of tokenizers."""
    assert as_service_error(RuntimeError(text)).type == "DiskFull"


def test_other_errors_keep_their_type() -> None:
    quoting = ServiceError("InvalidInput", "rows.jsonl line 3 is not JSON: 'No space left on device'.")
    assert as_service_error(quoting) is quoting
    cancelled = Cancelled()
    cancelled.__context__ = error_of(write)
    assert as_service_error(cancelled) is cancelled
    assert as_service_error(error_of(lambda: Path("/none/at/all").read_text() and None)).type == "FileNotFoundError"


def test_a_log_that_cannot_be_written_ends_nothing() -> None:
    program = (
        "import sys, traceback, serve; serve.keep_running_without_log()\n"
        "for stream in (sys.stdout, sys.stderr): print('a line', file=stream, flush=True)\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: traceback.print_exc()\n"
        "sys.exit(7)"
    )

    def run(out: str) -> int:
        with Path(out).open("w") as log:
            return subprocess.run(
                [sys.executable, "-c", program],
                stdout=log,
                stderr=log,
                env={**os.environ, "PYTHONPATH": str(WORKERS)},
                check=False,
            ).returncode

    assert run("/dev/full") == 7
    with tempfile.TemporaryDirectory() as folder:
        assert run(f"{folder}/log") == 7
        lines = Path(folder, "log").read_text()
    assert lines.startswith("a line\na line\nTraceback")
    assert "ZeroDivisionError" in lines

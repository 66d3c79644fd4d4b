"""The program of an answer, by the answers that the server's own extraction is tested with."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "workers/client"))

from acecoder_verifier import program_of  # noqa: E402

ANSWERS = json.loads((ROOT / "test/fixtures/answers.json").read_text(encoding="utf-8"))["replies"]


@pytest.mark.parametrize("row", ANSWERS, ids=[row["what"] for row in ANSWERS])
def test_the_program_is_found(row: dict[str, str]) -> None:
    assert program_of(row["answer"], row["entryPoint"]) == row["program"]


def test_it_is_found_in_linear_time() -> None:
    for text in ("```\n" * 4_000, "(" + "This is it.\n" * 4_000, '"""' + "```\n" * 4_000):
        program_of(text, "f")
    # In quadratic time each of these takes minutes, and tags in tags overflow the stack.
    for text in (f"f{' ' * 200_000}x", "<code>" * 200_000, "<code " * 200_000, "<|im_end|>" * 20_000):
        program_of(text, "f")

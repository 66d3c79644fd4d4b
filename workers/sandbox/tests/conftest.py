"""One running sandbox for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service import Service


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    running = Service()
    if running.versions["isolation"] == "none":
        running.close()
        pytest.fail("No isolation works on this host, so nothing about the sandbox can be tested: install bubblewrap.")
    yield running
    running.close()

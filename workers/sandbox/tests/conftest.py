"""One running sandbox for all tests that leave it as they found it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from service import MODES, Service, why_no_other_user


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    running = Service()
    if running.versions["isolation"] == "none":
        running.close()
        pytest.fail("No isolation works on this host, so nothing about the sandbox can be tested: install bubblewrap.")
    yield running
    running.close()


@pytest.fixture(scope="session", params=MODES)
def attacked(request: pytest.FixtureRequest) -> Iterator[tuple[Service, bool]]:
    """A sandbox to attack, and whether its wall is the one that the tests' exact statuses are for."""
    mode = request.param
    usual = mode == "as started"
    if not usual and (why := why_no_other_user()):
        pytest.skip(f"ATTACKS NOT TRIED IN THE MODE '{mode}': {why}")
    running = Service("--minimum", "weak", mode=mode)
    assert running.versions["isolation"] != "none", mode
    assert (running.versions["level"] == "weak") == (mode == "no namespaces")
    yield running, usual
    running.close()

"""What all tests share: one region, served by the real binary."""

import os

import pytest

from region import BINARY, FOREIGN, Region

REGION = pytest.StashKey()


def pytest_configure(config):
    # The SDK runs in this process, and these would come before what the tests tell it.
    for name in FOREIGN:
        os.environ.pop(name, None)


def pytest_sessionstart(session):
    if not os.path.exists(BINARY):
        raise pytest.UsageError(f"no {BINARY}: cargo build -p calotype")


@pytest.fixture(scope="session")
def region(request):
    """A region that is served; everything in it is ended after the last test."""
    region = Region()
    request.config.stash[REGION] = region
    try:
        region.start()
        yield region
    finally:
        region.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    region = item.funcargs.get("region") or item.config.stash.get(REGION, None)
    if report.failed and region is not None and region.log.exists():
        report.sections.append(("calotype serve", region.log_tail()))

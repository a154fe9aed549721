"""What all tests share: one region, served by the real binary, and who holds its answers against the published API."""

import os
import pathlib
import subprocess

import oci
import pytest

import witness
from region import BINARY, FOREIGN, Region
from witness import TESTIMONY

REGION = pytest.StashKey()


def pytest_addoption(parser):
    parser.addoption("--sights", type=pathlib.Path, help="where to write who called what, as JSON")


def pytest_configure(config):
    # The SDK runs in this process, and these would come before what the tests tell it.
    for name in FOREIGN:
        os.environ.pop(name, None)


def pytest_sessionstart(session):
    if not os.path.exists(BINARY):
        raise pytest.UsageError(f"no {BINARY}: cargo build -p calotype")


def pytest_runtest_logstart(nodeid):
    TESTIMONY.test = nodeid.split("[")[0]


@pytest.fixture(autouse=True)
def every_answer_is_as_published():
    """Also those that a test does not look at."""
    yield
    faults = TESTIMONY.take_faults()
    assert not faults, "\n".join(faults[:20])


def pytest_sessionfinish(session):
    if file := session.config.getoption("--sights"):
        witness.report(file)


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


@pytest.fixture(scope="session")
def custom_disk(region, tmp_path_factory):
    """Namespace and bucket of an object `disk`: an empty disk, imported quickly."""
    disk = tmp_path_factory.mktemp("custom") / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1M"], check=True)
    storage = region.client(oci.object_storage.ObjectStorageClient)
    namespace, bucket = storage.get_namespace().data, "custom-disk"
    storage.create_bucket(namespace, oci.object_storage.models.CreateBucketDetails(
        name=bucket, compartment_id=region.tenancy))
    storage.put_object(namespace, bucket, "disk", disk.read_bytes())
    yield namespace, bucket
    storage.delete_object(namespace, bucket, "disk")
    storage.delete_bucket(namespace, bucket)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    region = item.funcargs.get("region") or item.config.stash.get(REGION, None)
    if report.failed and region is not None and region.log.exists():
        report.sections.append(("calotype serve", region.log_tail()))

"""A region whose images are in an object store: the same in every way, and its own disk may be lost."""

import shutil

import pytest

from guest import Guest
from region import Region, wait_until
from seaweedfs import SeaweedFs


@pytest.fixture(scope="module")
def server():
    server = SeaweedFs()
    try:
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def region(server):
    region = Region(
        "--store", "s3://images/region", "--store-endpoint", server.endpoint,
        "--store-credentials", server.credentials)
    try:
        region.start()
        yield region
    finally:
        region.close()


def launch(region, name, image=None):
    details = region.launch_details(name, image=image)
    id = region.compute.launch_instance(details).data.id
    wait_until(lambda: region.state(id) == "RUNNING", f"{name} is running")
    return Guest(region, id)


def test_images_outlive_the_regions_own_disk(region):
    builder = launch(region, "builder").reachable()
    builder.write("/etc/golden-file", "carried by the image\n")
    image = region.oci(
        "compute", "image", "create", "--compartment-id", region.tenancy,
        "--instance-id", builder.id, wait="AVAILABLE")
    builder.reachable()
    state = region.directory / "store"
    assert {entry.name for entry in state.iterdir()} == {"lock", "id", "index", "cache"}
    assert any((state / "cache").iterdir())

    # A crash, and the loss of everything that is kept here of the store.
    region.kill()
    shutil.rmtree(state)
    with pytest.raises(AssertionError, match="is open on host"):
        region.start()
    region.service = None
    region.start("--take-over")
    builder.reachable()
    copy = launch(region, "copy", image=image["id"]).reachable()
    assert copy.ssh("cat /etc/golden-file") == "carried by the image"
    region.stop()
    # Closed well, another may have it; the same may in any case.
    region.start()

"""Families, deprecation, protection and the bin, with our own command; moves, with the official CLI. No guest runs."""

import datetime

import oci
import pytest

from images import add_schema
from region import Refused, Region


@pytest.fixture(scope="module")
def region():
    region = Region("--region", "keeper-1")
    try:
        region.set("recycle_hours", "1")
        region.start()
        yield region
    finally:
        region.close()


@pytest.fixture(scope="module")
def make(region, tmp_path_factory):
    """Makes an image by importing a small file, which is much faster than capturing one."""
    file = tmp_path_factory.mktemp("disk") / "disk.raw"
    file.write_bytes(bytes(range(256)) * 4096)
    return lambda name: region.calotype("image", "import", str(file), "--name", name).strip()


def state(region, image):
    return region.compute.get_image(image).data.lifecycle_state


def refusal(region, *words):
    with pytest.raises(AssertionError) as error:
        region.calotype(*words)
    return str(error.value)


def test_a_family_stands_for_its_newest_image_that_is_not_deprecated(region, make):
    old, new = make("web-1"), make("web-2")
    for name in ("web-1", "web-2"):
        region.calotype("image", "edit", name, "--family", "web")
    assert region.calotype("image", "id", "family/web").strip() == new
    region.calotype("image", "edit", "web-2", "--deprecate", "now")
    assert region.calotype("image", "id", "family/web").strip() == old
    families = region.calotype("image", "families")
    assert "family/web" in families and old in families
    region.calotype("image", "edit", "web-2", "--deprecate", "never")
    assert region.calotype("image", "id", "family/web").strip() == new
    region.calotype("image", "edit", "web-2", "--no-family")
    assert region.calotype("image", "id", "family/web").strip() == old
    assert "no image" in refusal(region, "image", "id", "family/nothing")


def test_clients_of_oci_see_nothing_of_it(region, make):
    image = make("plain")
    before = region.oci("compute", "image", "get", "--image-id", image)
    region.calotype("image", "edit", "plain", "--family", "plain", "--protect")
    assert region.oci("compute", "image", "get", "--image-id", image) == before
    region.calotype("image", "edit", "plain", "--unprotect")


def test_a_protected_image_is_not_deleted(region, make):
    image = make("precious")
    region.calotype("image", "edit", "precious", "--protect")
    with pytest.raises(Refused) as error:
        region.oci("compute", "image", "delete", "--image-id", image, "--force")
    assert error.value.status == 403 and "--unprotect" in error.value.message
    region.calotype("image", "edit", "precious", "--unprotect")
    region.oci("compute", "image", "delete", "--image-id", image, "--force")
    assert state(region, image) == "DELETED"


def test_a_disabled_image_is_there_but_launches_nothing(region, make):
    image = make("retired")
    region.calotype("image", "edit", "retired", "--disable", "now")
    assert state(region, image) == "DISABLED"
    details = region.launch_details("x", image=image)
    with pytest.raises(oci.exceptions.ServiceError) as error:
        region.compute.launch_instance(details)
    assert "DISABLED" in error.value.message
    region.calotype("image", "edit", "retired", "--disable", "never")
    assert state(region, image) == "AVAILABLE"


def test_a_deleted_image_comes_back_with_all_it_had(region, make):
    image = make("undone")
    region.calotype("image", "edit", "undone", "--family", "undone")
    of_image = ["compute", "image-capability-schema", "list", "-c", region.tenancy, "--image-id", image]
    add_schema(region, image)
    schema = region.oci(*of_image)[0]["schema-data"]
    before = region.compute.get_image(image).data
    region.oci("compute", "image", "delete", "--image-id", image, "--force")
    assert state(region, image) == "DELETED"
    listed = region.oci("compute", "image", "list", "-c", region.tenancy, "--all")
    assert image not in [one["id"] for one in listed]
    assert image in region.calotype("image", "deleted")
    assert "no image" in refusal(region, "image", "id", "family/undone")
    assert not region.oci(*of_image)
    region.calotype("image", "restore", "undone")
    assert region.compute.get_image(image).data == before
    # A schema of its own again: only its id and name are others.
    assert region.oci(*of_image)[0]["schema-data"] == schema
    assert region.calotype("image", "id", "family/undone").strip() == image
    region.calotype("image", "export", image, str(region.directory / "undone.raw"))


def test_an_image_moves_to_another_compartment(region, make):
    image = make("mover")
    region.calotype("image", "edit", "mover", "--family", "movers")
    other = region.oci("iam", "compartment", "create", "-c", region.tenancy,
                       "--name", "other", "--description", "other")["id"]
    etag = region.compute.get_image(image).headers["etag"]
    with pytest.raises(Refused) as error:
        region.oci("compute", "image", "change-compartment", "--image-id", image,
                   "-c", other, "--if-match", "0" * 64)
    assert error.value.status == 412
    region.oci("compute", "image", "change-compartment", "--image-id", image,
               "-c", other, "--if-match", etag)
    listed = region.oci("compute", "image", "list", "-c", other)
    assert image in [one["id"] for one in listed]
    listed = region.oci("compute", "image", "list", "-c", region.tenancy, "--all")
    assert image not in [one["id"] for one in listed]
    assert "no image" in refusal(region, "image", "id", "family/movers")
    # An OCID is enough, wherever it is.
    assert region.calotype("image", "id", image).strip() == image


def test_dates_and_names_that_are_none_are_refused(region, make):
    make("dated")
    tomorrow = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=1)
    shown = region.calotype("image", "edit", "dated", "--disable", tomorrow.strftime("%Y-%m-%dT%H:%M:%SZ"))
    assert tomorrow.strftime("%Y-%m-%d") in shown and "AVAILABLE" in shown
    assert "--disable" in refusal(region, "image", "edit", "dated", "--disable", "tomorrow")
    assert "family" in refusal(region, "image", "edit", "dated", "--family", "a/b")

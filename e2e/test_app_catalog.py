"""The app catalog: an image is published with terms, agreed to, launched, and its terms hold for what is made of it."""

import json

import oci
import pytest

from region import Refused, Region, wait_until

NO_RETRY = oci.retry.NoneRetryStrategy()
TERMS, EULA = "https://example.com/terms", "https://example.com/eula"


@pytest.fixture(scope="module")
def region():
    """One of its own: the terms of an image stay with it."""
    region = Region("--region", "market-1")
    try:
        region.start()
        yield region
    finally:
        region.close()


@pytest.fixture(scope="module")
def publish(region, tmp_path_factory):
    """Publishes a version of a listing from a file, as an administrator would."""
    def publish(image, version, *actions):
        file = tmp_path_factory.mktemp("listings") / "listing.json"
        file.write_text(json.dumps({
            "displayName": "Golden", "publisherName": "ACME", "summary": "all that shines",
            "version": version, "image": image, "eulaLink": EULA, "oracleTermsOfUseLink": TERMS,
            "allowedActions": list(actions)}))
        return region.calotype("catalog", "add", str(file)).strip()
    return publish


def agreements(region, listing, version):
    return region.oci("compute", "pic", "agreements", "get", "--listing-id", listing,
                      "--resource-version", version)


def subscribe(region, listing, version, **changed):
    agreed = {**agreements(region, listing, version), **changed}
    return region.oci(
        "compute", "pic", "subscription", "create", "-c", region.tenancy, "--listing-id", listing,
        "--resource-version", version, "--eula-link", agreed["eula-link"],
        "--oracle-tou-link", agreed["oracle-terms-of-use-link"],
        "--signature", agreed["signature"], "--time-retrieved", agreed["time-retrieved"])


def refusal(call, *arguments, **named):
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        call(*arguments, retry_strategy=NO_RETRY, **named)
    return refused.value


def test_a_published_image_is_launched_by_who_agreed_and_its_terms_are_inherited(region, publish):
    tiny = region.tiny
    listing = publish(tiny, "1.0")
    [summary] = region.oci("compute", "pic", "listing", "list", "--publisher-name", "ACME")
    assert (summary["listing-id"], summary["display-name"]) == (listing, "Golden")
    assert region.oci("compute", "pic", "listing", "get", "--listing-id", listing)[
        "summary"] == "all that shines"
    [version] = region.oci("compute", "pic", "version", "list", "--listing-id", listing)
    assert version["listing-resource-id"] == tiny
    version = region.oci("compute", "pic", "version", "get", "--listing-id", listing,
                         "--resource-version", "1.0")
    assert (version["allowed-actions"], version["listing-resource-id"]) == ([], tiny)

    missing = refusal(region.compute.launch_instance, region.launch_details("early"))
    assert missing.status == 404
    assert f"not subscribed to version 1.0 of app catalog listing {listing}" in missing.message
    for field, value in [("signature", "0" * 64), ("eula-link", "https://example.com/other"),
                         ("time-retrieved", "2020-01-01T00:00:00Z")]:
        with pytest.raises(Refused) as refused:
            subscribe(region, listing, "1.0", **{field: value})
        assert refused.value.status == 400
    made = subscribe(region, listing, "1.0")
    assert (made["listing-id"], made["publisher-name"]) == (listing, "ACME")
    [listed] = region.oci("compute", "pic", "subscription", "list", "-c", region.tenancy)
    assert listed["listing-resource-version"] == "1.0"

    assert region.compute.get_image(tiny).data.create_image_allowed is False
    instance = region.compute.launch_instance(region.launch_details("agreed")).data
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs")
    details = oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=instance.id)
    forbidden = refusal(region.compute.create_image, details)
    assert "SNAPSHOT is not among the allowedActions of version 1.0" in forbidden.message
    region.calotype("instance", "mark-database", "agreed")
    forbidden = refusal(region.compute.create_image, details)
    assert "is a database system" in forbidden.message
    region.calotype("instance", "mark-database", "agreed", "--off")
    no_other_instance_launders_the_disk(region, instance.id)
    region.terminate(region.compute.get_instance(instance.id).data)
    region.oci("compute", "pic", "subscription", "delete", "-c", region.tenancy, "--listing-id",
               listing, "--resource-version", "1.0", "--force")
    missing = refusal(region.compute.launch_instance, region.launch_details("late"))
    assert missing.status == 404
    region.calotype("catalog", "remove", listing)
    assert not region.oci("compute", "pic", "listing", "list")
    # Its terms stay with the image, so that it can be launched only when it is published again.
    again = publish(tiny, "2.0")
    assert again != listing
    subscribe(region, again, "2.0")
    region.terminate(region.compute.launch_instance(region.launch_details("again")).data)
    region.compute.delete_app_catalog_subscription(again, region.tenancy, "2.0")
    region.calotype("catalog", "remove", again)


def no_other_instance_launders_the_disk(region, instance):
    """A publisher's terms, and the mark of a database, are those of the disk, whoever has it."""
    file = region.directory / "own.raw"
    file.write_bytes(bytes(1 << 20))
    own = region.calotype("image", "import", str(file), "--name", "own").strip()
    other = region.compute.launch_instance(region.launch_details("other", image=own, shape="VM.Standard2.1")).data.id
    for one in (instance, other):
        wait_until(lambda one=one: region.state(one) == "RUNNING", "it runs")
        region.compute.instance_action(one, "STOP")
        wait_until(lambda one=one: region.state(one) == "STOPPED", "it is stopped")
    own_disk = detach(region, other)
    region.calotype("instance", "mark-database", instance)
    disk = detach(region, instance)
    attach(region, other, disk)
    assert region.compute.get_instance(other).data.image_id == region.tiny
    details = oci.core.models.CreateImageDetails(compartment_id=region.tenancy, instance_id=other)
    assert "is a database system" in refusal(region.compute.create_image, details).message
    detach(region, other)
    attach(region, instance, disk)
    region.calotype("instance", "mark-database", instance, "--off")
    detach(region, instance)
    attach(region, other, disk)
    assert "SNAPSHOT is not among" in refusal(region.compute.create_image, details).message
    detach(region, other)
    attach(region, other, own_disk)
    attach(region, instance, disk)
    region.terminate(region.compute.get_instance(other).data)


def detach(region, instance):
    volume = region.compute.get_boot_volume_attachment(instance).data.boot_volume_id
    region.compute.detach_boot_volume(instance)
    return volume


def attach(region, instance, volume):
    region.compute.attach_boot_volume(oci.core.models.AttachBootVolumeDetails(
        instance_id=instance, boot_volume_id=volume))


def test_a_publisher_may_allow_captures_but_what_is_captured_is_never_exported(region, publish):
    """The flag is inherited along the way: image, instance, captured image."""
    tiny = region.tiny
    listing = publish(tiny, "3.0", "SNAPSHOT")
    subscribe(region, listing, "3.0")
    assert region.compute.get_image(tiny).data.create_image_allowed is True
    instance = region.compute.launch_instance(region.launch_details("captured")).data
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs")
    region.compute.instance_action(instance.id, "STOP")
    wait_until(lambda: region.state(instance.id) == "STOPPED", "the instance is stopped")
    image = region.compute.create_image(oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=instance.id, display_name="derived")).data
    wait_until(lambda: region.compute.get_image(image.id).data.lifecycle_state == "AVAILABLE", "it is captured")
    assert region.compute.get_image(image.id).data.create_image_allowed is True

    region.oci("os", "bucket", "create", "--name", "taken", "-c", region.tenancy)
    with pytest.raises(Refused) as refused:
        region.oci("compute", "image", "export", "to-object", "--image-id", image.id, "-bn", "taken",
                   "-ns", region.oci("os", "ns", "get"), "--name", "derived.oci")
    assert refused.value.status == 403 and "cannot be exported" in refused.value.message
    # Whoever agreed launches what was made of it; terms are agreed to once, for the published image.
    again = region.compute.launch_instance(region.launch_details("again", image=image.id)).data
    region.terminate(*(region.compute.get_instance(one).data for one in (instance.id, again.id)))
    region.compute.delete_image(image.id)

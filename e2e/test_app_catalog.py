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

"""The Python SDK, unmodified: its pagination, composite operations, waiters, and what it dereferences."""

import json
import pathlib
import socket
import uuid

import oci
import pytest

from guest import Guest
from region import CHECKOUT, wait_until

MODELS = CHECKOUT / "crates/calotype-server/tests/contract/oci-api.json"
NO_RETRY = oci.retry.NoneRetryStrategy()


@pytest.fixture(scope="module")
def published():
    return json.loads(pathlib.Path(MODELS).read_text())["models"]


@pytest.fixture(scope="module")
def launched(region):
    """An instance, launched and awaited by the SDK's composite operation."""
    composite = oci.core.ComputeClientCompositeOperations(region.compute)
    answer = composite.launch_instance_and_wait_for_state(
        region.launch_details("composite", freeform_tags={"made": "by the SDK"}),
        wait_for_states=["RUNNING"], waiter_kwargs={"max_interval_seconds": 1})
    Guest(region, answer.data.id).reachable()
    yield answer.data
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def captured(region, launched):
    """Work requests seen while an image was captured, and the image."""
    details = oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=launched.id, display_name="by the SDK")
    answer = region.compute.create_image(details, opc_retry_token="capture-once")
    seen = []

    def finished():
        seen.append(region.work_requests.get_work_request(
            answer.headers["opc-work-request-id"]).data)
        return seen[-1].status in ("SUCCEEDED", "FAILED", "CANCELED")

    wait_until(finished, "the capture is over", seconds=300, interval=0.05)
    image = oci.wait_until(
        region.compute, region.compute.get_image(answer.data.id), "lifecycle_state", "AVAILABLE",
        max_interval_seconds=1)
    return seen, image.data, answer


def assert_whole(published, service, resource):
    """Every attribute that the published model requires is there."""
    model = type(resource).__name__
    for attribute in published[service][model]["attributes"].values():
        if attribute.get("required"):
            value = getattr(resource, attribute["python"])
            assert value is not None, f"{model}.{attribute['python']}"


def test_the_sdk_finds_every_service_by_the_regions_metadata(region, monkeypatch):
    """Names below `localhost` are not resolved everywhere, so here they are."""
    resolve, asked = socket.getaddrinfo, set()

    def resolved(host, *arguments, **more):
        if isinstance(host, str) and host.endswith(".calotype.localhost"):
            asked.add(host)
            host = "127.0.0.1"
        return resolve(host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setenv("OCI_REGION_METADATA", region.environment["OCI_REGION_METADATA"])
    config = oci.config.from_file(region.environment["OCI_CONFIG_FILE"])
    iaas, identity = "iaas.home-1.calotype.localhost", "identity.home-1.oci.calotype.localhost"
    calls = [
        (oci.core.ComputeClient, iaas, lambda client: client.list_images(region.tenancy)),
        (oci.core.BlockstorageClient, iaas,
         lambda client: client.list_boot_volumes(compartment_id=region.tenancy)),
        (oci.core.VirtualNetworkClient, iaas, lambda client: client.list_vcns(region.tenancy)),
        (oci.identity.IdentityClient, identity, lambda client: client.list_regions()),
        (oci.work_requests.WorkRequestClient, iaas,
         lambda client: client.list_work_requests(region.tenancy)),
    ]
    for kind, host, call in calls:
        asked.clear()
        client = kind(config)
        client.base_client.session.verify = str(region.authority)
        assert call(client).status == 200
        assert asked == {host}


def test_pages_hold_everything_once_and_in_order(region):
    prefix = f"page-{uuid.uuid4().hex[:8]}"
    made = [
        region.network.create_vcn(oci.core.models.CreateVcnDetails(
            compartment_id=region.tenancy, cidr_block=f"10.{100 + number}.0.0/16",
            display_name=f"{prefix}-{number}")).data
        for number in range(5)
    ]

    def names(**how):
        listed = oci.pagination.list_call_get_all_results(
            region.network.list_vcns, region.tenancy, **how).data
        return [vcn.display_name for vcn in listed if vcn.display_name.startswith(prefix)]

    forward = [vcn.display_name for vcn in made]
    assert names(limit=2) == forward[::-1]
    assert names(limit=2, sort_by="TIMECREATED", sort_order="ASC") == forward
    assert names(limit=1, sort_by="DISPLAYNAME") == forward
    assert names(limit=3, sort_by="DISPLAYNAME", sort_order="DESC") == forward[::-1]
    assert names(display_name=forward[3], lifecycle_state="AVAILABLE") == [forward[3]]
    last = region.network.list_vcns(region.tenancy, limit=1000)
    assert not last.has_next_page
    for vcn in made:
        region.network.delete_vcn(vcn.id)
    wait_until(lambda: names(lifecycle_state="AVAILABLE") == [], "the networks are gone")


def test_compartments_are_created_listed_and_read(region, published):
    name = f"compartment-{uuid.uuid4().hex[:8]}"
    composite = oci.identity.IdentityClientCompositeOperations(region.identity)
    made = composite.create_compartment_and_wait_for_state(
        oci.identity.models.CreateCompartmentDetails(
            compartment_id=region.tenancy, name=name, description="for a test"),
        wait_for_states=["ACTIVE"]).data
    assert_whole(published, "identity", made)
    listed = oci.pagination.list_call_get_all_results(
        region.identity.list_compartments, region.tenancy, limit=1).data
    assert name in [compartment.name for compartment in listed]
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.identity.create_compartment(oci.identity.models.CreateCompartmentDetails(
            compartment_id=region.tenancy, name=name, description="the same again"))
    assert refused.value.status == 409
    assert region.compute.list_instances(made.id).data == []


def test_a_retry_token_makes_one_thing_however_often_it_is_sent(region):
    token = uuid.uuid4().hex

    def create(name):
        return region.network.create_vcn(oci.core.models.CreateVcnDetails(
            compartment_id=region.tenancy, cidr_block="10.9.0.0/16", display_name=name),
            opc_retry_token=token)

    first, again = create("once"), create("once")
    assert (first.data.id, first.headers["etag"]) == (again.data.id, again.headers["etag"])
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        create("twice")
    assert (refused.value.status, refused.value.code) == (409, "InvalidatedRetryToken")
    region.network.delete_vcn(first.data.id)


def test_an_etag_guards_updates_and_deletions(region, launched):
    first = region.compute.get_instance(launched.id)
    renamed = oci.core.models.UpdateInstanceDetails(display_name="renamed")
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.update_instance(launched.id, renamed, if_match="0" * 64)
    assert (refused.value.status, refused.value.code) == (412, "NoEtagMatch")
    after = region.compute.update_instance(launched.id, renamed, if_match=first.headers["etag"])
    assert after.data.display_name == "renamed"
    assert after.headers["etag"] != first.headers["etag"]
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.terminate_instance(launched.id, if_match=first.headers["etag"])
    assert refused.value.status == 412
    assert region.state(launched.id) == "RUNNING"


def test_what_first_boot_has_used_up_cannot_be_changed(region, launched):
    kept = {**launched.metadata, "more": "value"}
    update = oci.core.models.UpdateInstanceDetails(metadata=kept)
    assert region.compute.update_instance(launched.id, update).data.metadata == kept
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.update_instance(
            launched.id, oci.core.models.UpdateInstanceDetails(metadata={"more": "value"}))
    assert refused.value.status == 400
    assert "ssh_authorized_keys" in refused.value.message


def test_an_instance_has_everything_that_clients_read(region, launched, published):
    instance = region.compute.get_instance(launched.id).data
    assert_whole(published, "core", instance)
    for attribute in ("display_name", "fault_domain", "image_id", "source_details", "shape_config",
                      "launch_mode", "launch_options", "agent_config", "availability_config",
                      "instance_options", "metadata", "extended_metadata", "freeform_tags",
                      "defined_tags", "system_tags"):
        assert getattr(instance, attribute) is not None, attribute
    assert instance.freeform_tags == {"made": "by the SDK"}
    assert instance.source_details.image_id == instance.image_id == region.tiny
    assert instance.system_tags["calotype"]["accelerator"] in ("KVM", "TCG")
    assert (instance.shape_config.ocpus, instance.shape_config.memory_in_gbs) == (1, 1)

    [attachment] = region.compute.list_vnic_attachments(
        region.tenancy, instance_id=launched.id).data
    assert_whole(published, "core", attachment)
    assert attachment.lifecycle_state == "ATTACHED"
    vnic = region.network.get_vnic(attachment.vnic_id).data
    assert_whole(published, "core", vnic)
    assert vnic.is_primary and vnic.private_ip and vnic.public_ip and vnic.mac_address
    [private] = region.network.list_private_ips(vnic_id=vnic.id).data
    assert_whole(published, "core", private)
    public = region.network.get_public_ip_by_private_ip_id(
        oci.core.models.GetPublicIpByPrivateIpIdDetails(private_ip_id=private.id)).data
    assert_whole(published, "core", public)
    assert (private.ip_address, public.ip_address) == (vnic.private_ip, vnic.public_ip)

    [boot] = region.compute.list_boot_volume_attachments(
        region.domain, region.tenancy, instance_id=launched.id).data
    assert_whole(published, "core", boot)
    volume = region.block.get_boot_volume(boot.boot_volume_id).data
    assert_whole(published, "core", volume)
    assert volume.display_name == "composite (Boot Volume)"
    assert_whole(published, "core", region.network.get_subnet(vnic.subnet_id).data)


def test_a_launch_is_followed_by_its_work_request(region, launched, published):
    [request] = [
        one for one in region.work_requests.list_work_requests(
            region.tenancy, resource_id=launched.id).data
        if one.operation_type == "Launch Instance"
    ]
    request = region.work_requests.get_work_request(request.id).data
    assert_whole(published, "work_requests", request)
    assert (request.status, request.percent_complete) == ("SUCCEEDED", 100)
    assert request.time_accepted <= request.time_started <= request.time_finished
    [resource] = request.resources
    assert_whole(published, "work_requests", resource)
    assert (resource.entity_type, resource.action_type) == ("instance", "CREATED")
    assert resource.identifier == launched.id
    assert resource.entity_uri == f"/20160918/instances/{launched.id}"


def test_a_capture_tells_true_percentages(region, launched, captured):
    seen, image, _ = captured
    percents = [request.percent_complete for request in seen]
    assert percents == sorted(percents)
    assert percents[-1] == 100
    assert any(0 < percent < 100 for percent in percents)
    assert seen[-1].status == "SUCCEEDED"
    assert seen[-1].time_finished is not None
    made = [one for one in seen[-1].resources if one.action_type == "CREATED"]
    assert [(one.entity_type, one.identifier) for one in made] == [("image", image.id)]
    assert region.work_requests.list_work_request_errors(seen[-1].id).data == []
    assert region.work_requests.list_work_request_logs(seen[-1].id).data


def test_an_image_has_everything_that_clients_read(region, launched, captured, published):
    image = region.compute.get_image(captured[1].id).data
    assert_whole(published, "core", image)
    for attribute in ("display_name", "launch_mode", "launch_options", "size_in_mbs",
                      "billable_size_in_gbs", "base_image_id", "listing_type", "freeform_tags",
                      "defined_tags"):
        assert getattr(image, attribute) is not None, attribute
    platform = region.compute.get_image(region.tiny).data
    assert platform.compartment_id is None
    assert image.base_image_id == region.tiny
    inherited = ("operating_system", "operating_system_version", "launch_mode", "launch_options")
    for attribute in inherited:
        assert getattr(image, attribute) == getattr(platform, attribute), attribute
    shapes = region.compute.list_shapes(region.tenancy, image_id=image.id).data
    assert shapes
    for shape in shapes:
        assert_whole(published, "core", shape)


def test_a_capture_sent_again_is_the_same_capture(region, launched, captured):
    _, image, first = captured
    details = oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=launched.id, display_name="by the SDK")
    again = region.compute.create_image(details, opc_retry_token="capture-once")
    assert again.data.id == image.id
    assert again.headers["opc-work-request-id"] == first.headers["opc-work-request-id"]


def test_an_image_is_edited_and_filtered(region, captured):
    image = captured[1]
    composite = oci.core.ComputeClientCompositeOperations(region.compute)
    edited = composite.update_image_and_wait_for_state(
        image.id, oci.core.models.UpdateImageDetails(
            display_name="edited", operating_system="Own Linux", freeform_tags={"a": "b"}),
        wait_for_states=["AVAILABLE"]).data
    assert (edited.display_name, edited.freeform_tags) == ("edited", {"a": "b"})

    def found(**how):
        return [one.id for one in region.compute.list_images(region.tenancy, **how).data]

    assert found(display_name="edited") == [image.id]
    assert found(operating_system="Own Linux") == [image.id]
    # Platform images first; then the latest, whatever other tests have left.
    newest = found(lifecycle_state="AVAILABLE", sort_by="TIMECREATED", sort_order="DESC")
    assert newest[:2] == [region.tiny, image.id]
    assert image.id not in found(operating_system="Oracle Linux")
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.update_image(
            region.tiny, oci.core.models.UpdateImageDetails(display_name="mine"))
    assert refused.value.status == 404


def test_termination_is_awaited_by_its_work_request_and_stays_visible(region, launched, captured):
    before = set(region.machines())
    composite = oci.core.ComputeClientCompositeOperations(
        region.compute, work_request_client=region.work_requests)
    composite.terminate_instance_and_wait_for_work_request(
        launched.id, waiter_kwargs={"max_interval_seconds": 1})
    assert region.state(launched.id) == "TERMINATED"
    assert len(set(region.machines())) == len(before) - 1
    assert launched.id in [instance.id for instance in region.instances()]
    [attachment] = region.compute.list_vnic_attachments(
        region.tenancy, instance_id=launched.id).data
    assert attachment.lifecycle_state == "DETACHED"
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.terminate_instance(launched.id)
    assert refused.value.status == 404
    composite.delete_image_and_wait_for_state(captured[1].id, wait_for_states=["DELETED"])
    assert region.compute.get_image(captured[1].id).data.lifecycle_state == "DELETED"

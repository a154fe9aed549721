"""What the Python SDK adds to single calls: composite operations with their waiters, pages, and retries of faults that pass."""

import threading
import uuid

import oci
import pytest

from guest import Guest
from witness import TESTIMONY

QUICK = {"max_interval_seconds": 1, "max_wait_seconds": 300}
core = oci.core.models
PATIENT = oci.retry.RetryStrategyBuilder(
    max_attempts=60, retry_base_sleep_time_seconds=1, retry_max_wait_between_calls_seconds=1,
).get_retry_strategy()


def statuses(operation):
    """How an operation was answered in the present test."""
    return {one.status for one in TESTIMONY.sights
            if (one.test, one.operation) == (TESTIMONY.test, operation)}


@pytest.fixture(scope="module")
def compute(region):
    return oci.core.ComputeClientCompositeOperations(
        region.compute, work_request_client=region.work_requests)


@pytest.fixture(scope="module")
def network(region):
    return oci.core.VirtualNetworkClientCompositeOperations(region.network)


@pytest.fixture(scope="module")
def instance(region, compute):
    answer = compute.launch_instance_and_wait_for_work_request(
        region.launch_details("composites"), waiter_kwargs=QUICK)
    assert answer.data.status == "SUCCEEDED"
    [launched] = [one.identifier for one in answer.data.resources if one.entity_type == "instance"]
    Guest(region, launched).reachable()
    yield launched
    region.terminate(region.compute.get_instance(launched).data)


@pytest.fixture(scope="module")
def bucket(region):
    storage = region.client(oci.object_storage.ObjectStorageClient)
    namespace, name = storage.get_namespace().data, f"composites-{uuid.uuid4().hex[:8]}"
    storage.create_bucket(namespace, oci.object_storage.models.CreateBucketDetails(
        name=name, compartment_id=region.tenancy))
    yield namespace, name
    for one in storage.list_objects(namespace, name).data.objects:
        storage.delete_object(namespace, name, one.name)
    storage.delete_bucket(namespace, name)


@pytest.fixture(scope="module")
def image(region, compute, instance):
    answer = compute.create_image_and_wait_for_work_request(
        core.CreateImageDetails(
            compartment_id=region.tenancy, instance_id=instance, display_name="composites"),
        waiter_kwargs=QUICK)
    assert answer.data.status == "SUCCEEDED"
    [made] = [one.identifier for one in answer.data.resources if one.action_type == "CREATED"]
    return made


def export_to(bucket, name):
    namespace, bucket = bucket
    return core.ExportImageViaObjectStorageTupleDetails(
        namespace_name=namespace, bucket_name=bucket, object_name=name, export_format="QCOW2")


def test_an_instance_is_changed_stopped_and_started(compute, instance):
    changed = compute.update_instance_and_wait_for_state(
        instance, core.UpdateInstanceDetails(display_name="changed"), ["RUNNING"], waiter_kwargs=QUICK)
    assert changed.data.display_name == "changed"
    for action, state in [("STOP", "STOPPED"), ("START", "RUNNING")]:
        answer = compute.instance_action_and_wait_for_state(
            instance, action, [state], waiter_kwargs=QUICK)
        assert answer.data.lifecycle_state == state


def test_a_console_is_captured(compute, instance):
    history = compute.capture_console_history_and_wait_for_state(
        core.CaptureConsoleHistoryDetails(instance_id=instance), ["SUCCEEDED"], waiter_kwargs=QUICK)
    assert history.data.lifecycle_state == "SUCCEEDED"


def test_an_image_is_changed_and_exported(compute, image, bucket):
    changed = compute.update_image_and_wait_for_state(
        image, core.UpdateImageDetails(freeform_tags={"a": "b"}), ["AVAILABLE"], waiter_kwargs=QUICK)
    assert changed.data.freeform_tags == {"a": "b"}
    by_state = compute.export_image_and_wait_for_state(
        image, export_to(bucket, "by-state"), ["AVAILABLE"], waiter_kwargs=QUICK)
    assert by_state.data.lifecycle_state == "AVAILABLE"
    by_request = compute.export_image_and_wait_for_work_request(
        image, export_to(bucket, "by-request"), waiter_kwargs=QUICK)
    assert (by_request.data.operation_type, by_request.data.status) == ("Export Image", "SUCCEEDED")


def test_a_state_that_passes_is_waited_out_by_the_retry_strategy(region, compute, image, bucket):
    """An image that is being exported cannot be deleted: 409 IncorrectState, which the strategies retry."""
    exporting = region.compute.export_image(image, export_to(bucket, "deleted-meanwhile"))
    assert exporting.data.lifecycle_state == "EXPORTING"
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.delete_image(image, retry_strategy=oci.retry.NoneRetryStrategy())
    assert (refused.value.status, refused.value.code) == (409, "IncorrectState")
    compute.delete_image_and_wait_for_state(
        image, ["DELETED"], operation_kwargs={"retry_strategy": PATIENT}, waiter_kwargs=QUICK)
    assert region.compute.get_image(image).data.lifecycle_state == "DELETED"
    assert statuses("ComputeClient.delete_image") == {204, 409}


def test_a_region_that_is_away_for_a_moment_is_waited_out_by_the_retry_strategy(region):
    before = {one.id for one in region.images()}
    region.stop()
    with pytest.raises(oci.exceptions.RequestException):
        region.compute.list_images(region.tenancy, retry_strategy=oci.retry.NoneRetryStrategy())
    again = threading.Timer(1, region.start)
    again.start()
    listed = region.compute.list_images(region.tenancy, retry_strategy=PATIENT).data
    again.join()
    assert {one.id for one in listed} == before


def test_a_network_is_made_and_taken_apart(region, network):
    vcn = network.create_vcn_and_wait_for_state(
        core.CreateVcnDetails(compartment_id=region.tenancy, cidr_block="10.40.0.0/16"),
        ["AVAILABLE"], waiter_kwargs=QUICK).data
    subnet = network.create_subnet_and_wait_for_state(
        core.CreateSubnetDetails(
            compartment_id=region.tenancy, vcn_id=vcn.id, cidr_block="10.40.1.0/24"),
        ["AVAILABLE"], waiter_kwargs=QUICK).data
    assert (vcn.lifecycle_state, subnet.lifecycle_state) == ("AVAILABLE", "AVAILABLE")
    # The waiters take 404 for the end.
    network.delete_subnet_and_wait_for_state(subnet.id, ["TERMINATED"], waiter_kwargs=QUICK)
    network.delete_vcn_and_wait_for_state(vcn.id, ["TERMINATED"], waiter_kwargs=QUICK)
    assert vcn.id not in [one.id for one in region.network.list_vcns(region.tenancy).data]


def test_pages_are_gathered_up_to_a_limit_and_generated(region):
    made = [
        region.identity.create_compartment(oci.identity.models.CreateCompartmentDetails(
            compartment_id=region.tenancy, name=f"page-{uuid.uuid4().hex}", description="a page")).data.id
        for _ in range(3)
    ]
    asked = (region.identity.list_compartments, region.tenancy)
    whole = [one.id for one in oci.pagination.list_call_get_all_results(*asked, limit=1).data]
    assert set(whole) >= set(made)
    some = oci.pagination.list_call_get_up_to_limit(region.identity.list_compartments, 2, 1, region.tenancy)
    assert [one.id for one in some.data] == whole[:2]
    records = oci.pagination.list_call_get_all_results_generator(*asked[:1], "record", region.tenancy, limit=1)
    assert [one.id for one in records] == whole
    pages = oci.pagination.list_call_get_up_to_limit_generator(*asked[:1], 3, 2, "response", region.tenancy)
    assert [len(page.data) for page in pages] == [2, 1]


def test_a_boot_volume_outlives_its_instance_and_is_deleted(region, compute, instance):
    [attached] = region.compute.list_boot_volume_attachments(
        region.domain, region.tenancy, instance_id=instance).data
    compute.terminate_instance_and_wait_for_work_request(
        instance, operation_kwargs={"preserve_boot_volume": True}, waiter_kwargs=QUICK)
    block = oci.core.BlockstorageClientCompositeOperations(region.block)
    assert region.block.get_boot_volume(attached.boot_volume_id).data.lifecycle_state == "AVAILABLE"
    block.delete_boot_volume_and_wait_for_state(
        attached.boot_volume_id, ["TERMINATED"], waiter_kwargs=QUICK)

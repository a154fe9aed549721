"""Capability schemas and launch options: by the unmodified CLI and SDK, and as guests see them."""

import contextlib
import json

import oci
import pytest

from guest import Guest
from region import Refused, wait_until

MODELS = oci.core.models
FIRMWARE = "Compute.Firmware"
GLOBAL = ["compute", "global-image-capability-schema"]
SCHEMA = ["compute", "image-capability-schema"]
# What of a disk's and a network card's hardware a guest says: the drivers of vda/sda/nvme0n1 and of eth0.
DEVICES = """
disk=$(basename $(ls -d /sys/block/vda /sys/block/sda /sys/block/nvme0n1 2>/dev/null | head -n 1))
echo $disk $(readlink -f /sys/block/$disk/device | tr / '\\n' | grep -E '^(ata|host|virtio|nvme)[0-9]+$' | tr -d '0-9\\n') \
    $(basename $(readlink -f /sys/class/net/eth0/device/driver)) $(test -d /sys/firmware/efi && echo efi || echo bios)
"""


@pytest.fixture(scope="module")
def source(region):
    """A stopped instance to capture images of."""
    instance = region.compute.launch_instance(region.launch_details("capabilities")).data
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs", seconds=300)
    region.compute.instance_action(instance.id, "STOP")
    wait_until(lambda: region.state(instance.id) == "STOPPED", "the instance is stopped")
    yield instance.id
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def capture(region, source):
    def capture(name, instance=source, **more):
        image = region.compute.create_image(MODELS.CreateImageDetails(
            compartment_id=region.tenancy, instance_id=instance, display_name=name, **more)).data
        return oci.wait_until(
            region.compute, region.compute.get_image(image.id), "lifecycle_state", "AVAILABLE",
            max_interval_seconds=1).data
    return capture


@pytest.fixture(scope="module")
def image(capture):
    return capture("with a schema").id


@pytest.fixture(scope="module")
def version(region):
    return region.compute.list_compute_global_image_capability_schemas().data[0].current_version_name


def words(values, default=None, source="IMAGE"):
    return MODELS.EnumStringImageCapabilitySchemaDescriptor(source=source, values=values, default_value=default)


def create(region, image, version, data):
    return region.compute.create_compute_image_capability_schema(
        MODELS.CreateComputeImageCapabilitySchemaDetails(
            compartment_id=region.tenancy, image_id=image, schema_data=data,
            compute_global_image_capability_schema_version_name=version)).data


def refused(call, *arguments, **more):
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        call(*arguments, **more)
    return refusal.value


def launch(region, image, name="probe", **options):
    more = {"launch_options": MODELS.LaunchOptions(**options)} if options else {}
    details = region.launch_details(name, image=image, **more)
    return region.compute.launch_instance(details, retry_strategy=oci.retry.NoneRetryStrategy()).data


@contextlib.contextmanager
def ended(region, instance):
    """The instance is of use no more when this is over."""
    try:
        yield instance
    finally:
        region.terminate(region.compute.get_instance(instance.id).data)


def test_the_region_has_one_global_schema_with_versions(region):
    listed = region.oci(*GLOBAL, "list", "--all")
    assert [one["display-name"] for one in listed] == ["OCI.ComputeGlobalImageCapabilitySchema"]
    schema = listed[0]
    assert schema["compartment-id"] is None
    assert region.oci(*GLOBAL, "get", "--global-image-capability-schema-id", schema["id"]) == schema
    of = ["--global-image-capability-schema-id", schema["id"]]
    versions = region.oci("compute", "global-image-capability-schema-version", "list", *of, "--all")
    assert versions[0]["name"] == schema["current-version-name"] and len(versions) == 2
    current = region.oci("compute", "global-image-capability-schema-version", "get", *of,
                         "--global-image-capability-schema-version-name", schema["current-version-name"])
    elements = current["schema-data"]
    assert elements[FIRMWARE] == {
        "default-value": "UEFI_64", "descriptor-type": "enumstring", "source": "GLOBAL", "values": ["BIOS", "UEFI_64"]}
    assert {"NATIVE", "EMULATED", "PARAVIRTUALIZED", "CUSTOM"} <= set(elements["Compute.LaunchMode"]["values"])
    other = schema["id"][:-1] + ("a" if schema["id"][-1] != "a" else "b")
    assert refused(region.compute.get_compute_global_image_capability_schema, other).status == 404


def test_packers_steps_after_a_build(region, capture):
    """api.md, section 8, steps 10a-d, and that the image boots all the same."""
    compute, image = region.compute, capture("built").id
    assert compute.list_compute_image_capability_schemas(image_id=image).data == []
    schema = compute.list_compute_global_image_capability_schemas().data[0]
    version = compute.get_compute_global_image_capability_schema_version(
        schema.id, schema.current_version_name).data
    for descriptor in version.schema_data.values():
        descriptor.source = "IMAGE"
    create(region, image, version.name, version.schema_data)
    summary = compute.list_compute_image_capability_schemas(image_id=image).data[0]
    assert summary.schema_data.keys() == version.schema_data.keys()
    data = summary.schema_data
    data["Network.AttachmentType"] = words(["E1000", "VFIO", "PARAVIRTUALIZED"], "E1000")
    updated = compute.update_compute_image_capability_schema(
        summary.id, MODELS.UpdateComputeImageCapabilitySchemaDetails(
            schema_data=data, freeform_tags={"made": "by Packer"}, defined_tags={})).data
    assert updated.schema_data["Network.AttachmentType"].default_value == "E1000"
    instance = launch(region, image)
    with ended(region, instance):
        options = instance.launch_options
        # The disk boots by BIOS, whatever the default of the global schema.
        assert (options.firmware, options.network_type) == ("BIOS", "E1000")
        assert devices(region, instance) == ["vda", "virtio", "e1000", "bios"]


def devices(region, instance):
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs", seconds=300)
    return Guest(region, instance.id).reachable().ssh(DEVICES).split()


def test_a_schema_is_made_read_merged_updated_moved_and_deleted_by_the_cli(region, image, version, tmp_path):
    data = {FIRMWARE: {"descriptorType": "enumstring", "source": "IMAGE", "values": ["BIOS"], "defaultValue": "BIOS"}}
    file = tmp_path / "schema.json"
    file.write_text(json.dumps(data))
    made = region.oci(
        *SCHEMA, "create", "-c", region.tenancy, "--image-id", image, "--schema-data", f"file://{file}",
        "--global-image-capability-schema-version-name", version, wait="ACTIVE")
    assert made["schema-data"] == {FIRMWARE: {
        "default-value": "BIOS", "descriptor-type": "enumstring", "source": "IMAGE", "values": ["BIOS"]}}
    of = ["--image-capability-schema-id", made["id"]]
    listed = region.oci(*SCHEMA, "list", "--image-id", image)
    assert [(one["id"], one["schema-data"]) for one in listed] == [(made["id"], made["schema-data"])]
    merged = region.oci(*SCHEMA, "get", *of, "--is-merge-enabled", "true")["schema-data"]
    assert merged[FIRMWARE] == made["schema-data"][FIRMWARE]
    assert merged["Compute.SecureBoot"]["source"] == "GLOBAL" and len(merged) == 13
    assert region.compute.get_compute_image_capability_schema(image).data.id == made["id"]

    raw = region.compute.base_client.call_api(
        resource_path=f"/computeImageCapabilitySchemas/{made['id']}", method="GET",
        header_params={"accept": "application/json"}, response_type="object")
    assert raw.data["schemaData"] == data, "not a key more or less than was sent: Terraform compares"

    stale = ["--if-match", "stale", "--force"]
    with pytest.raises(Refused) as refusal:
        region.oci(*SCHEMA, "update", *of, "--display-name", "other", *stale)
    assert refusal.value.status == 412
    wide = json.dumps({FIRMWARE: {**data[FIRMWARE], "values": ["BIOS", "UEFI_64"]}})
    changed = region.oci(*SCHEMA, "update", *of, "--schema-data", wide, "--display-name", "wide", "--force")
    assert (changed["display-name"], changed["schema-data"][FIRMWARE]["values"]) == ("wide", ["BIOS", "UEFI_64"])

    compartment = region.oci("iam", "compartment", "create", "-c", region.tenancy, "--name", "schemas",
                             "--description", "schemas")["id"]
    region.oci(*SCHEMA, "change-compartment", *of, "--compartment-id", compartment)
    assert [one["id"] for one in region.oci(*SCHEMA, "list", "-c", compartment)] == [made["id"]]
    region.oci(*SCHEMA, "delete", *of, "--force", wait="DELETED")
    assert refused(region.compute.get_compute_image_capability_schema, made["id"]).status == 404
    assert refused(region.compute.get_compute_image_capability_schema, image).status == 404


def test_what_is_not_a_part_of_the_global_schema_is_refused_and_a_second_schema_is(region, image, version):
    def wrong(data, image=image, version=version):
        error = refused(create, region, image, version, data)
        return error.status, error.message

    status, message = wrong({"Compute.Colour": words(["RED"])})
    assert status == 400 and message.startswith("schemaData.Compute.Colour is not an element of")
    status, message = wrong({FIRMWARE: words(["BIOS", "OPENBOOT"])})
    assert status == 400 and "has OPENBOOT, and the global schema allows BIOS, UEFI_64" in message
    status, message = wrong({FIRMWARE: words(["BIOS"], "UEFI_64")})
    assert status == 400 and "defaultValue is UEFI_64" in message
    status, message = wrong({FIRMWARE: MODELS.BooleanImageCapabilitySchemaDescriptor(source="IMAGE")})
    assert status == 400 and "descriptorType is boolean, and the global schema has enumstring" in message
    assert wrong({}, version="none")[0] == 400
    assert wrong({}, image=region.tiny)[0] == 404
    first = create(region, image, version, {FIRMWARE: words(["BIOS"])})
    status, message = wrong({FIRMWARE: words(["BIOS"])})
    assert status == 409 and first.id in message
    region.compute.delete_compute_image_capability_schema(first.id)


def test_a_schema_decides_how_instances_boot_is_inherited_and_ends_with_its_image(region, capture, source, version):
    image = capture("narrow").id
    schema = create(region, image, version, {
        FIRMWARE: words(["BIOS"], "BIOS"),
        "Network.AttachmentType": words(["PARAVIRTUALIZED"], "PARAVIRTUALIZED"),
        "Storage.BootVolumeType": words(["NVME", "IDE"], "NVME"),
    })
    error = refused(launch, region, image, boot_volume_type="SCSI")
    assert (error.status, error.code) == (400, "InvalidParameter")
    assert "SCSI" in error.message and "Storage.BootVolumeType" in error.message and "NVME, IDE" in error.message
    assert refused(launch, region, image, firmware="UEFI_64").status == 400
    instance = launch(region, image)
    with ended(region, instance):
        assert devices(region, instance) == ["nvme0n1", "nvme", "virtio_net", "bios"]
        region.compute.instance_action(instance.id, "STOP")
        wait_until(lambda: region.state(instance.id) == "STOPPED", "the instance is stopped")
        heir = capture("heir", instance.id)
        inherited = region.compute.get_compute_image_capability_schema(heir.id).data
        assert inherited.id != schema.id and inherited.schema_data == schema.schema_data
        emulated = capture("emulated", instance.id, launch_mode="EMULATED")
        kept = region.compute.get_compute_image_capability_schema(emulated.id).data.schema_data
        assert kept.keys() == {FIRMWARE}
    region.compute.delete_image(image)
    assert refused(region.compute.get_compute_image_capability_schema, schema.id).status == 404
    with ended(region, launch(region, emulated.id)) as instance:
        assert devices(region, instance) == ["sda", "virtiohost", "e1000", "bios"]


@pytest.mark.parametrize("options, seen", [
    ({"boot_volume_type": "IDE", "network_type": "E1000"}, ["sda", "atahost", "e1000", "bios"]),
    ({"boot_volume_type": "ISCSI", "network_type": "VFIO"}, ["sda", "virtiohost", "virtio_net", "bios"]),
])
def test_launch_options_are_the_devices_that_a_guest_finds(region, options, seen):
    with ended(region, launch(region, region.tiny, **options)) as instance:
        assert instance.launch_mode == "CUSTOM"
        assert devices(region, instance) == seen


def test_uefi_is_the_firmware_that_looks_for_a_system(region):
    """The tiny image boots by BIOS only, so what is seen is the firmware itself."""
    with ended(region, launch(region, region.tiny, firmware="UEFI_64")) as instance:
        wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs", seconds=120)

        def console():
            history = region.compute.capture_console_history(
                MODELS.CaptureConsoleHistoryDetails(instance_id=instance.id)).data
            content = region.compute.get_console_history_content(history.id).data
            region.compute.delete_console_history(history.id)
            return content if isinstance(content, bytes) else str(content).encode()

        wait_until(lambda: b"BdsDxe" in console(), "the firmware says that it is UEFI", seconds=120, interval=1)


def test_a_boot_volume_remembers_how_it_was_booted(region):
    """Whatever the image that it was made of says."""
    first = launch(region, region.tiny, firmware="UEFI_64")
    wait_until(lambda: region.state(first.id) == "RUNNING", "the instance runs", seconds=120)
    volume = region.compute.get_boot_volume_attachment(first.id).data.boot_volume_id
    region.compute.terminate_instance(first.id, preserve_boot_volume=True)
    wait_until(lambda: region.state(first.id) == "TERMINATED", "the instance is gone")
    details = region.launch_details("probe")
    details.source_details = MODELS.InstanceSourceViaBootVolumeDetails(boot_volume_id=volume)
    with ended(region, region.compute.launch_instance(details).data) as second:
        assert second.launch_options.firmware == "UEFI_64"
        wait_until(lambda: region.state(second.id) == "RUNNING", "the instance runs", seconds=120)

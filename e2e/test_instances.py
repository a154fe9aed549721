"""The life of an instance between its launch and its end, with the official CLI and SDK: it is resized, moved, given
other devices and another disk. Two guests are shared by all tests, which are in the order of one story."""

import json

import oci
import pytest

from guest import launch_by_cli
from region import Refused, wait_until

FLEXIBLE = ("--shape", "VM.Standard.E4.Flex", "--shape-config", '{"ocpus": 1, "memoryInGBs": 1}')


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def worker(region):
    return launch_by_cli(region, "worker", *FLEXIBLE)


def update(region, guest, **changes):
    """Updates the instance and waits for its work request, as Terraform does."""
    details = oci.core.models.UpdateInstanceDetails(**changes)
    return finished(region, guest, region.compute.update_instance(guest.id, details))


def finished(region, guest, answer):
    """Waits for the work request of an answer."""
    request = answer.headers["opc-work-request-id"]
    waited = oci.wait_until(
        region.work_requests, region.work_requests.get_work_request(request),
        evaluate_response=lambda one: one.data.time_finished is not None, max_interval_seconds=1).data
    assert waited.status == "SUCCEEDED", region.work_requests.list_work_request_errors(request).data
    seen = [(one.entity_type, one.action_type, one.identifier) for one in waited.resources]
    assert seen == [("instance", "UPDATED", guest.id)]
    return answer.data


def test_names_tags_and_configurations_change_while_the_guest_runs(region, worker):
    boot = worker.boot
    agent = {"isMonitoringDisabled": True,
             "pluginsConfig": [{"name": "Vulnerability Scanning", "desiredState": "DISABLED"}]}
    changed = region.oci(
        "compute", "instance", "update", "--instance-id", worker.id, "--force",
        "--display-name", "renamed",
        "--extended-metadata", json.dumps({"deep": {"nested": [1, 2]}}),
        "--availability-config", json.dumps({"recoveryAction": "STOP_INSTANCE"}),
        "--agent-config", json.dumps(agent),
        "--instance-options", json.dumps({"areLegacyImdsEndpointsDisabled": True}))
    assert changed["display-name"] == "renamed"
    assert changed["availability-config"]["recovery-action"] == "STOP_INSTANCE"
    assert changed["agent-config"]["plugins-config"][0]["desired-state"] == "DISABLED"
    assert json.loads(worker.metadata("metadata/deep/nested")) == [1, 2]
    assert worker.imds("/opc/v1/instance/id")[0] == 404
    again = region.oci("compute", "instance", "update", "--instance-id", worker.id, "--force",
                       "--agent-config", json.dumps({"isManagementDisabled": True}))
    assert again["agent-config"]["is-monitoring-disabled"] is True, "what is absent stays"
    assert worker.boot == boot


def test_what_first_boot_used_up_must_be_repeated(region, worker):
    with pytest.raises(Refused) as refused:
        region.oci("compute", "instance", "update", "--instance-id", worker.id, "--force",
                   "--metadata", json.dumps({"colour": "blue"}))
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
    assert "ssh_authorized_keys" in refused.value.message
    metadata = {**worker.instance.metadata, "colour": "blue"}
    region.oci("compute", "instance", "update", "--instance-id", worker.id, "--force",
               "--metadata", json.dumps(metadata))
    assert worker.metadata("metadata/colour") == "blue"


def test_a_running_instance_is_resized_with_one_restart(region, worker):
    memory = "grep MemTotal /proc/meminfo | tr -dc 0-9"
    boot, before = worker.boot, int(worker.ssh(memory))
    answer = update(region, worker, shape_config=oci.core.models.UpdateInstanceShapeConfigDetails(
        memory_in_gbs=2))
    assert answer.shape_config.memory_in_gbs == 2
    assert worker.instance.lifecycle_state == "RUNNING"
    worker.reachable()
    assert int(worker.ssh(memory)) > before * 3 // 2
    assert worker.boot != boot
    assert worker.instance.shape_config.ocpus == 1, "what is absent stays"


def test_who_avoids_downtime_is_refused_what_needs_it(region, worker):
    with pytest.raises(Refused) as refused:
        region.oci("compute", "instance", "update", "--instance-id", worker.id, "--force",
                   "--shape", "VM.Standard.E3.Flex", "--update-operation-constraint", "AVOID_DOWNTIME")
    assert refused.value.status == 400
    assert "updateOperationConstraint" in refused.value.message
    boot = worker.boot
    answer = update(region, worker, fault_domain="FAULT-DOMAIN-2",
                    update_operation_constraint="AVOID_DOWNTIME")
    assert (answer.fault_domain, answer.lifecycle_state) == ("FAULT-DOMAIN-2", "RUNNING")
    assert worker.boot == boot


def test_a_shape_that_cannot_be_is_refused(region, worker):
    for shape, config, word in [
        ("VM.NoSuch.1", None, "VM.NoSuch.1"),
        ("VM.Standard.E4.Flex", {"ocpus": 1000}, "ocpus"),
        ("VM.Standard.E4.Flex", {"memoryInGBs": 1024}, "memoryInGBs"),
    ]:
        with pytest.raises(Refused) as refused:
            config = ["--shape-config", json.dumps(config)] if config else []
            region.oci("compute", "instance", "update", "--instance-id", worker.id, "--force",
                       "--shape", shape, *config)
        assert word in refused.value.message
    assert worker.instance.lifecycle_state == "RUNNING"


def test_another_kind_of_boot_disk_is_really_another_device(region, worker):
    update(region, worker, launch_options=oci.core.models.UpdateLaunchOptions(boot_volume_type="ISCSI"))
    worker.reachable()
    assert "sda" in worker.ssh("cat /proc/partitions")
    update(region, worker,
           launch_options=oci.core.models.UpdateLaunchOptions(boot_volume_type="PARAVIRTUALIZED"))
    worker.reachable()
    assert "vda" in worker.ssh("cat /proc/partitions")
    assert worker.instance.launch_mode == "CUSTOM"


def test_a_diagnostic_interrupt_reaches_the_kernel(region, worker):
    count = "awk '/^ *NMI:/ {print $2}' /proc/interrupts"
    before = int(worker.ssh(count))
    region.oci("compute", "instance", "action", "--instance-id", worker.id,
               "--action", "SENDDIAGNOSTICINTERRUPT")
    wait_until(lambda: int(worker.ssh(count)) > before, "the kernel counts it")
    assert worker.instance.lifecycle_state == "RUNNING"


@pytest.mark.parametrize("action", ["DIAGNOSTICREBOOT", "REBOOTMIGRATE"])
def test_an_action_starts_the_guest_anew(region, worker, action):
    boot = worker.boot
    region.oci("compute", "instance", "action", "--instance-id", worker.id, "--action", action,
               wait="RUNNING")
    assert worker.reachable().boot != boot


def test_the_body_of_an_action_must_be_of_the_action(region, worker):
    wrong = oci.core.models.ResetActionDetails(allow_dense_reboot_migration=True)
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.instance_action(worker.id, "STOP", instance_power_action_details=wrong)
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
    assert "actionType" in refused.value.message
    assert worker.instance.lifecycle_state == "RUNNING"


def test_an_instance_moves_alone(region, worker):
    elsewhere = region.oci("iam", "compartment", "create", "--compartment-id", region.tenancy,
                           "--name", "elsewhere", "--description", "elsewhere", wait="ACTIVE")["id"]
    volume = region.block.list_boot_volumes(compartment_id=region.tenancy).data[0]
    # By the SDK: the CLI's command of 3.95.1 ends with a KeyError of its own when it has been answered.
    for compartment in (elsewhere, region.tenancy):
        details = oci.core.models.ChangeInstanceCompartmentDetails(compartment_id=compartment)
        finished(region, worker, region.compute.change_instance_compartment(worker.id, details))
        assert worker.instance.compartment_id == compartment
        ids = [one["id"] for one in region.oci(
            "compute", "instance", "list", "--compartment-id", compartment, "--all")]
        assert worker.id in ids
        assert region.block.get_boot_volume(volume.id).data.compartment_id == region.tenancy
    assert worker.ssh("echo still here") == "still here"


def test_a_boot_volume_is_edited_and_moved(region, worker):
    [attached] = region.oci(
        "compute", "boot-volume-attachment", "list", "--availability-domain", region.domain,
        "--compartment-id", region.tenancy, "--instance-id", worker.id)
    assert (attached["id"], attached["lifecycle-state"]) == (worker.id, "ATTACHED")
    volume = attached["boot-volume-id"]
    edited = region.oci("bv", "boot-volume", "update", "--boot-volume-id", volume, "--force",
                        "--display-name", "the disk", "--vpus-per-gb", "20",
                        "--freeform-tags", '{"kept": "yes"}')
    assert (edited["display-name"], edited["vpus-per-gb"]) == ("the disk", 20)
    with pytest.raises(Refused) as refused:
        region.oci("bv", "boot-volume", "update", "--boot-volume-id", volume, "--vpus-per-gb", "15")
    assert "vpusPerGB" in refused.value.message
    for size, words in [("0", "it can only grow"), ("2", "between 50 and 32768")]:
        with pytest.raises(Refused) as refused:
            region.oci("bv", "boot-volume", "update", "--boot-volume-id", volume, "--size-in-gbs", size)
        assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
        assert words in refused.value.message
    other = region.oci("iam", "compartment", "create", "-c", region.tenancy, "--name", "volumes",
                       "--description", "for one", wait="ACTIVE")
    region.oci("bv", "boot-volume", "change-compartment", "--boot-volume-id", volume, "-c", other["id"])
    listed = region.oci("bv", "boot-volume", "list", "-c", other["id"])
    assert [one["id"] for one in listed] == [volume]
    region.oci("bv", "boot-volume", "change-compartment", "--boot-volume-id", volume, "-c", region.tenancy)


def boot_volume(region, guest):
    return region.compute.get_boot_volume_attachment(guest.id).data.boot_volume_id


def disk_gib(guest):
    """The size of the boot disk as the guest's kernel has it."""
    return int(guest.ssh("cat /sys/class/block/vda/size")) / 2**21


def grow(region, volume, gib):
    grown = region.oci("bv", "boot-volume", "update", "--boot-volume-id", volume, "--size-in-gbs", gib,
                       wait="AVAILABLE")
    assert (grown["size-in-gbs"], grown["size-in-mbs"]) == (gib, gib * 1024)


def test_a_boot_volume_grows_while_its_guest_runs(region, worker):
    boot, volume = worker.boot, boot_volume(region, worker)
    assert disk_gib(worker) < 50
    grow(region, volume, 50)
    wait_until(lambda: disk_gib(worker) == 50, "the guest sees it")
    assert worker.boot == boot
    with pytest.raises(Refused) as refused:
        region.oci("bv", "boot-volume", "update", "--boot-volume-id", volume, "--size-in-gbs", "49")
    assert refused.value.status == 400 and "can only grow" in refused.value.message


def test_a_boot_volume_is_cloned_and_grows_while_its_instance_is_stopped(region, worker):
    worker.write("/etc/kept", "of both\n")
    volume = boot_volume(region, worker)
    create = ("bv", "boot-volume", "create", "--source-boot-volume-id", volume)
    with pytest.raises(Refused) as refused:
        region.oci("--no-retry", *create)
    assert (refused.value.status, refused.value.code) == (409, "IncorrectState")
    assert "stop the instance, or detach the volume" in refused.value.message
    region.oci("compute", "instance", "action", "--instance-id", worker.id, "--action", "SOFTSTOP",
               wait="STOPPED")
    with pytest.raises(Refused) as refused:
        region.oci(*create, "--size-in-gbs", "49")
    assert refused.value.status == 400 and "can only grow" in refused.value.message
    clone = region.oci(*create, "--size-in-gbs", "60", "--display-name", "twin", wait="AVAILABLE")
    assert (clone["display-name"], clone["size-in-gbs"], clone["is-hydrated"]) == ("twin", 60, True)
    assert clone["source-details"] == {"id": volume, "type": "bootVolume"}
    grow(region, volume, 55)
    region.oci("compute", "instance", "action", "--instance-id", worker.id, "--action", "START",
               wait="RUNNING")
    assert disk_gib(worker.reachable()) == 55

    # Both run on what they share, and neither sees what the other writes.
    twin = launch_by_cli(region, "twin", "--source-boot-volume-id", clone["id"])
    assert (twin.ssh("cat /etc/kept"), disk_gib(twin)) == ("of both", 60)
    twin.write("/etc/kept", "of the twin\n")
    worker.write("/etc/kept", "of the worker\n")
    # Its termination cuts the power.
    twin.ssh("sync")
    # A clone of a volume that nobody has, when what it was cloned from is gone.
    region.oci("compute", "instance", "terminate", "--instance-id", twin.id, "--force",
               "--preserve-boot-volume", "true", wait="SUCCEEDED")
    again = region.oci("bv", "boot-volume", "create", "--source-boot-volume-id", clone["id"],
                       wait="AVAILABLE")
    region.oci("bv", "boot-volume", "delete", "--boot-volume-id", clone["id"], "--force",
               wait="TERMINATED")
    other = launch_by_cli(region, "other-twin", "--source-boot-volume-id", again["id"])
    assert other.ssh("cat /etc/kept") == "of the twin"
    region.terminate(other.instance)
    assert worker.ssh("cat /etc/kept") == "of the worker"


def test_a_boot_volume_is_detached_and_attached_again(region, worker):
    worker.write("/etc/kept", "on the disk\n")
    with pytest.raises(Refused) as refused:
        region.oci("--no-retry", "compute", "boot-volume-attachment", "detach", "--force",
                   "--boot-volume-attachment-id", worker.id)
    assert refused.value.code == "IncorrectState"
    region.oci("compute", "instance", "action", "--instance-id", worker.id, "--action", "SOFTSTOP",
               wait="STOPPED")
    volume = region.compute.get_boot_volume_attachment(worker.id).data.boot_volume_id
    region.oci("compute", "boot-volume-attachment", "detach", "--force",
               "--boot-volume-attachment-id", worker.id, wait="DETACHED")
    with pytest.raises(Refused) as refused:
        region.oci("--no-retry", "compute", "instance", "action", "--instance-id", worker.id,
                   "--action", "START")
    assert "no boot volume" in refused.value.message
    attached = region.oci("compute", "boot-volume-attachment", "attach", "--instance-id", worker.id,
                          "--boot-volume-id", volume, wait="ATTACHED")
    assert attached["boot-volume-id"] == volume
    region.oci("compute", "instance", "action", "--instance-id", worker.id, "--action", "START",
               wait="RUNNING")
    assert worker.reachable().ssh("cat /etc/kept") == "on the disk"


def test_a_platform_is_told_as_it_is_and_what_is_not_there_is_refused(region, worker):
    changed = update(region, worker, platform_config=oci.core.models.AmdVmUpdateInstancePlatformConfig(
        is_symmetric_multi_threading_enabled=True))
    assert changed.platform_config.type == "AMD_VM"
    assert changed.platform_config.is_secure_boot_enabled is False
    for config, word in [
        (oci.core.models.AmdVmLaunchInstancePlatformConfig(is_secure_boot_enabled=True), "isSecureBootEnabled"),
        (oci.core.models.IntelVmLaunchInstancePlatformConfig(), "must be AMD_VM"),
    ]:
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            region.compute.launch_instance(region.launch_details("shielded", platform_config=config))
        assert word in refused.value.message


def test_an_instance_is_given_another_disk_and_its_old_one_lives_on_elsewhere(region, worker):
    old = region.compute.get_boot_volume_attachment(worker.id).data.boot_volume_id
    region.oci(
        "compute", "instance", "update-instance-update-instance-source-via-image-details",
        "--instance-id", worker.id, "--source-details-image-id", region.tiny, "--force",
        "--source-details-is-preserve-boot-volume-enabled", "true", wait="RUNNING")
    new = region.compute.get_boot_volume_attachment(worker.id).data.boot_volume_id
    assert new != old
    assert worker.reachable().try_ssh("cat /etc/kept").returncode != 0
    kept = region.block.get_boot_volume(old).data
    assert (kept.lifecycle_state, kept.display_name) == ("AVAILABLE", "the disk")

    other = launch_by_cli(region, "other", "--source-boot-volume-id", old)
    assert other.ssh("cat /etc/kept") == "on the disk"
    assert other.instance.source_details.source_type == "bootVolume"
    region.oci("compute", "instance", "terminate", "--instance-id", other.id, "--force",
               "--preserve-boot-volume", "true", wait="SUCCEEDED")
    assert region.block.get_boot_volume(old).data.lifecycle_state == "AVAILABLE"

    # Back again, and what was replaced goes.
    update(region, worker,
           source_details=oci.core.models.UpdateInstanceSourceViaBootVolumeDetails(boot_volume_id=old))
    assert worker.reachable().ssh("cat /etc/kept") == "on the disk"
    assert region.block.get_boot_volume(new).data.lifecycle_state == "TERMINATED"


def test_an_image_is_chosen_by_what_it_is(region):
    image = region.compute.get_image(region.tiny).data
    wanted = oci.core.models.InstanceSourceImageFilterDetails(
        compartment_id=region.tenancy, operating_system=image.operating_system,
        operating_system_version=image.operating_system_version)
    source = oci.core.models.InstanceSourceViaImageDetails(
        instance_source_image_filter_details=wanted, boot_volume_vpus_per_gb=30)
    launched = region.compute.launch_instance(
        region.launch_details("by-filter", source_details=source)).data
    # Other tests may have made newer ones of it.
    alike = [one for one in region.images() if one.lifecycle_state == "AVAILABLE"
             and one.operating_system == image.operating_system
             and one.operating_system_version == image.operating_system_version]
    assert launched.image_id == max(alike, key=lambda one: one.time_created).id
    wait_until(lambda: region.state(launched.id) == "RUNNING", "it runs")
    volume = region.compute.get_boot_volume_attachment(launched.id).data.boot_volume_id
    assert region.block.get_boot_volume(volume).data.vpus_per_gb == 30
    region.terminate(region.compute.get_instance(launched.id).data)
    wanted.operating_system = "Plan 9"
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.launch_instance(region.launch_details("none", source_details=source))
    assert refused.value.status == 404


def test_devices_maintenance_and_credentials_are_answered(region, worker):
    free = region.oci("compute", "device", "list-instance", "--instance-id", worker.id,
                      "--is-available", "true", "--all")
    names = [device["name"] for device in free]
    assert len(names) == 32 and "/dev/oracleoci/oraclevdb" in names
    events = region.compute.list_instance_maintenance_events(region.tenancy, instance_id=worker.id)
    assert events.data == []
    with pytest.raises(oci.exceptions.ServiceError) as none:
        region.compute.get_instance_maintenance_reboot(worker.id)
    assert (none.value.status, none.value.code) == (404, "NotFound")
    with pytest.raises(Refused) as refused:
        region.oci("compute", "instance", "get-windows-initial-creds", "--instance-id", worker.id)
    assert refused.value.status == 400
    assert "Windows" in refused.value.message

"""The main job with the official CLI: customise a real instance, capture it, launch from it.

The tests tell one story and are in its order; what they share, they take from fixtures, so that each
can be run by itself.
"""

import concurrent.futures
import itertools
import json
import re
import socket
import threading

import oci
import pytest

from guest import launch_by_cli
from region import wait_until

CUSTOMISE = """set -e
sudo adduser --disabled-password --gecos '' painter
printf '#!/bin/sh\\necho painted by $(id -un painter)\\n' | sudo tee /usr/local/bin/paint >/dev/null
sudo chmod 755 /usr/local/bin/paint
"""
CARRIED = "cat /etc/golden-file; /usr/local/bin/paint; grep -o ^painter: /etc/passwd"
PROOF = "carried by the image\npainted by painter\npainter:"


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def builder(region):
    builder = launch_by_cli(region, "builder")
    builder.write("/etc/golden-file", "carried by the image\n")
    builder.ssh(CUSTOMISE)
    assert builder.ssh(CARRIED) == PROOF
    return builder


class Golden:
    """An image captured from the running builder, and what was seen meanwhile."""

    def __init__(self, region, builder):
        self.boot_before = builder.boot
        self.states = []
        watching = threading.Event()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            captured = pool.submit(
                region.oci, "compute", "image", "create", "--compartment-id", region.tenancy,
                "--instance-id", builder.id, "--display-name", "golden", wait="AVAILABLE")
            watcher = pool.submit(self.watch, region, builder, watching)
            try:
                wait_until(lambda: "CREATING_IMAGE" in self.states or captured.done(), "it begins")
                self.second = self.refusal_of_another(region, builder)
                self.image = captured.result()
            finally:
                watching.set()
            watcher.result()
        self.id = self.image["id"]

    def watch(self, region, builder, done):
        client = region.client(oci.core.ComputeClient)
        while not done.wait(0.05):
            state = client.get_instance(builder.id).data.lifecycle_state
            if self.states[-1:] != [state]:
                self.states.append(state)

    @staticmethod
    def refusal_of_another(region, builder):
        details = oci.core.models.CreateImageDetails(
            compartment_id=region.tenancy, instance_id=builder.id, display_name="second")
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            region.compute.create_image(details)
        return refused.value


@pytest.fixture(scope="module")
def golden(region, builder):
    return Golden(region, builder)


@pytest.fixture(scope="module")
def copies(region, golden):
    with concurrent.futures.ThreadPoolExecutor() as pool:
        names = ["copy-1", "copy-2"]
        return list(pool.map(lambda name: launch_by_cli(region, name, image=golden.id), names))


def test_platform_images_are_listed_first_and_belong_to_no_compartment(region):
    assert region.tiny
    listed = region.oci("compute", "image", "list", "--compartment-id", region.tenancy, "--all")
    assert (listed[0]["id"], listed[0]["compartment-id"]) == (region.tiny, None)
    assert listed[0]["lifecycle-state"] == "AVAILABLE"


def test_an_instance_can_be_customised_over_ssh(builder):
    assert builder.ssh(CARRIED) == PROOF
    assert builder.ssh("hostname") == "builder"


def test_a_running_instance_is_captured_and_runs_again(builder, golden):
    assert golden.image["lifecycle-state"] == "AVAILABLE"
    assert golden.image["base-image-id"] == builder.instance.image_id
    assert golden.image["size-in-mbs"] > 0
    assert golden.states == ["RUNNING", "CREATING_IMAGE", "RUNNING"]
    builder.reachable()
    assert builder.boot != golden.boot_before
    assert builder.ssh(CARRIED) == PROOF


def test_a_second_capture_meanwhile_is_refused_as_documented(golden):
    refused = golden.second
    assert (refused.status, refused.code) == (409, "Conflict")
    assert refused.message == "Conflict with another image operation, try again later"


def test_every_copy_carries_the_change(copies):
    assert [copy.ssh(CARRIED) for copy in copies] == [PROOF] * 2


def test_every_copy_is_itself(builder, copies):
    guests = [builder, *copies]
    identities = [guest.identity() for guest in guests]
    assert [one["hostname"] for one in identities] == ["builder", "copy-1", "copy-2"]
    assert [one["instance"] for one in identities] == [guest.id for guest in guests]
    for (one, other), what in itertools.product(
            itertools.combinations(identities, 2), identities[0]):
        assert one[what] and one[what] != other[what], f"two guests share their {what}"


def test_the_metadata_service_tells_a_guest_about_itself(region, copies):
    copy = copies[0]
    document = copy.metadata()
    assert document["displayName"] == document["hostname"] == "copy-1"
    assert document["image"] == copy.instance.image_id
    assert document["metadata"]["ssh_authorized_keys"].strip() == region.public_key
    assert (document["compartmentId"], document["state"]) == (region.tenancy, "Running")
    assert isinstance(document["timeCreated"], int)
    vnic = copy.metadata_vnics()[0]
    shown = region.oci("compute", "instance", "list-vnics", "--instance-id", copy.id)[0]
    assert (vnic["privateIp"], vnic["vnicId"]) == (shown["private-ip"], shown["id"])
    assert vnic["macAddr"].lower() == copy.ssh("cat /sys/class/net/eth0/address")
    assert vnic["privateIp"] in copy.ssh("ip -4 address show dev eth0")


def test_metadata_v2_demands_its_header_and_v1_can_be_switched_off(region, copies):
    copy, v2 = copies[0], "Authorization: Bearer Oracle"
    assert copy.imds("/opc/v2/instance/id") == (401, "")
    assert copy.imds("/opc/v2/instance/id", v2, "X-Forwarded-For: 10.0.0.1") == (403, "")
    assert copy.imds("/opc/v2/instance/nothing", v2) == (404, "")
    assert copy.imds("/opc/v1/instance/id") == (200, copy.id)
    region.oci("compute", "instance", "update", "--instance-id", copy.id, "--force",
               "--instance-options", '{"areLegacyImdsEndpointsDisabled": true}')
    assert copy.imds("/opc/v1/instance/id") == (404, "")
    assert copy.imds("/opc/v2/instance/id", v2) == (200, copy.id)


def test_instances_of_a_subnet_reach_each_other(region, copies):
    one, other = copies
    address = other.metadata_vnics()[0]["privateIp"]
    assert "SSH-2.0" in one.ssh(f"nc -w 10 {address} 22 </dev/null | head -c 7")
    assert one.ssh(f"sudo ping -c 1 -W 10 {address} >/dev/null && echo answered") == "answered"


def test_a_guest_reaches_nothing_on_the_hosts_loopback(region, copies):
    with socket.create_server(("127.0.0.1", 0)) as secret:
        port = secret.getsockname()[1]
        secret.settimeout(0)
        vnic = copies[0].metadata_vnics()[0]
        for address in ("169.254.169.254", vnic["virtualRouterIp"], "127.0.0.1"):
            for closed in (port, region.port):
                command = f"nc -w 3 {address} {closed} </dev/null && echo open || echo closed"
                assert copies[0].ssh(command) == "closed", f"{address}:{closed}"
        with pytest.raises(BlockingIOError):
            secret.accept()


def test_the_console_history_shows_the_boot(region, copies, tmp_path):
    history = region.oci("compute", "console-history", "capture",
                         "--instance-id", copies[0].id, wait="SUCCEEDED")
    content = tmp_path / "console"
    region.oci("compute", "console-history", "get-content", "--file", content,
               "--instance-console-history-id", history["id"], "--length", 1_000_000)
    assert f"tiny: ready, instance {copies[0].id}" in content.read_text(errors="replace")


def test_the_command_line_finds_an_instance_by_its_name(region, copies):
    printed = region.calotype("instance", "ssh", "copy-1", "-i", str(region.private_key),
                              "--", "hostname")
    assert printed.strip() == "copy-1"
    assert "copy-2" in region.calotype("instance", "list")


def test_power_actions_do_what_they_say(region, copies):
    copy = copies[1]

    def act(action, state):
        done = region.oci("compute", "instance", "action", "--instance-id", copy.id,
                          "--action", action, wait=state)
        assert done["lifecycle-state"] == state

    first = copy.boot
    act("SOFTSTOP", "STOPPED")
    assert len(region.machines()) == 2
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.instance_action(copy.id, "SOFTRESET")
    assert (refused.value.status, refused.value.code) == (409, "IncorrectState")
    act("START", "RUNNING")
    second = copy.reachable().boot
    act("SOFTRESET", "RUNNING")
    third = copy.reachable().boot
    assert len({first, second, third}) == 3
    assert copy.ssh(CARRIED) == PROOF
    assert copy.ssh("hostname") == "copy-2"
    act("STOP", "STOPPED")


def test_a_stopped_instance_is_captured_and_stays_stopped(region, copies):
    copy = copies[1]
    if region.state(copy.id) != "STOPPED":
        region.oci("compute", "instance", "action", "--instance-id", copy.id,
                   "--action", "STOP", wait="STOPPED")
    image = region.oci("compute", "image", "create", "--compartment-id", region.tenancy,
                       "--instance-id", copy.id, wait="AVAILABLE")
    assert re.fullmatch(r"image\d{14}", image["display-name"])
    assert region.state(copy.id) == "STOPPED"
    region.oci("compute", "image", "delete", "--image-id", image["id"], "--force", wait="DELETED")


def test_deleting_an_image_harms_no_instance_of_it(region, golden, copies):
    region.oci("compute", "image", "delete", "--image-id", golden.id, "--force", wait="DELETED")
    assert region.compute.get_image(golden.id).data.lifecycle_state == "DELETED"
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        region.compute.launch_instance(region.launch_details("late", image=golden.id))
    assert refused.value.status == 404
    # Everything is read again, from the disk.
    copy = copies[0]
    copy.ssh("echo 3 | sudo tee /proc/sys/vm/drop_caches >/dev/null")
    copy.ssh("find / -xdev -type f -exec cat {} + | wc -c")
    assert copy.ssh(CARRIED) == PROOF


def test_a_boot_volume_outlives_its_instance_when_asked_to(region, copies):
    copy = copies[0]
    copy.write("/etc/kept", "on the volume\n")
    copy.ssh("sync")
    attachment = region.oci(
        "compute", "boot-volume-attachment", "list", "--availability-domain", region.domain,
        "--compartment-id", region.tenancy, "--instance-id", copy.id)[0]
    volume = attachment["boot-volume-id"]
    region.oci("compute", "instance", "terminate", "--instance-id", copy.id, "--force",
               "--preserve-boot-volume", "true", wait="SUCCEEDED")
    assert region.state(copy.id) == "TERMINATED"
    assert boot_volumes(region)[volume] == "AVAILABLE"

    heir = launch_by_cli(region, "heir", "--source-boot-volume-id", volume)
    assert heir.ssh("cat /etc/kept; hostname") == "on the volume\nheir"
    region.oci("compute", "instance", "terminate", "--instance-id", heir.id, "--force",
               "--preserve-boot-volume", "false", wait="SUCCEEDED")
    assert boot_volumes(region).get(volume, "TERMINATED") == "TERMINATED"


def boot_volumes(region):
    """States of the boot volumes, by OCID."""
    listed = region.oci("bv", "boot-volume", "list", "--availability-domain", region.domain,
                        "--compartment-id", region.tenancy, "--all")
    return {volume["id"]: volume["lifecycle-state"] for volume in listed}


def test_identity_and_networks_are_there_after_init(region):
    domains = region.oci("iam", "availability-domain", "list")
    assert [domain["name"] for domain in domains] == [region.domain]
    faults = region.oci("iam", "fault-domain", "list", "--compartment-id", region.tenancy,
                        "--availability-domain", region.domain)
    assert [fault["name"] for fault in faults] == [f"FAULT-DOMAIN-{number}" for number in (1, 2, 3)]
    subscribed = region.oci("iam", "region-subscription", "list")
    assert [one["is-home-region"] for one in subscribed] == [True]
    [vcn] = region.oci("network", "vcn", "list", "--compartment-id", region.tenancy)
    [subnet] = region.oci("network", "subnet", "list", "--compartment-id", region.tenancy)
    assert subnet["vcn-id"] == vcn["id"]


def test_the_doctor_finds_what_the_region_needs_and_how_to_name_it(region):
    said = region.calotype("doctor")
    assert "MISSING" not in said
    assert "home-1" in said
    # Where the names are not resolved, it offers the lines that do it.
    name = "iaas.home-1.calotype.localhost"
    try:
        socket.getaddrinfo(name, region.port)
    except socket.gaierror:
        assert "/etc/hosts" in said and f"127.0.0.1 {name}" in said

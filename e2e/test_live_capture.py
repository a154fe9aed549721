"""Capturing an instance that runs on, with the official CLI and with the product's own command."""

import contextlib
import itertools
import json
import os
import pathlib
import signal
import threading
import time

import oci
import pytest

from guest import launch_by_cli
from region import Refused, command_lines, wait_until

# Writes the time into a file of a filesystem whose every write is on the disk when it returns. The
# file is there before, so that the writes need nothing of the image once the journal has gone round.
BEATS = """#!/bin/bash
dd if=/dev/zero of=/var/beats bs=1M count=8 && sync && mount -o remount,sync / || exit 1
exec 3<>/var/beats
while :; do echo ${EPOCHREALTIME/./} >&3; done
"""
READ_BEATS = "sudo tr -d '\\0' </var/beats"
SETTLED_BEATS = 600
MICROSECONDS = 1e-6


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def builder(region):
    """An instance that writes without a pause."""
    builder = launch_by_cli(region, "writer")
    builder.write("/etc/golden-file", "carried by the image\n")
    # Without it a cut of power, and a crash-consistent image, may leave the file empty.
    builder.ssh("sync")
    builder.write("/usr/local/bin/beats", BEATS, mode="755")
    builder.ssh("sudo sh -c 'setsid /usr/local/bin/beats >/dev/null 2>&1 </dev/null &'")
    wait_until(lambda: len(beats(builder)) > SETTLED_BEATS, "it writes")
    return builder


def capture(region, builder, way, name):
    tags = json.dumps({"calotype.capture": way})
    return region.oci(
        "compute", "image", "create", "--compartment-id", region.tenancy,
        "--instance-id", builder.id, "--display-name", name, "--freeform-tags", tags,
        wait="AVAILABLE")


@contextlib.contextmanager
def watched(region, builder):
    """Every state that the instance is seen in meanwhile."""
    client, done, states = region.client(type(region.compute)), threading.Event(), set()

    def watch():
        while not done.wait(0.02):
            states.add(client.get_instance(builder.id).data.lifecycle_state)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield states
    finally:
        done.set()
        watcher.join()


def beats(guest):
    """When the writes were, in seconds."""
    return [int(beat) * MICROSECONDS for beat in guest.ssh(READ_BEATS).split()]


def longest_gap(beats):
    return max(later - earlier for earlier, later in zip(beats, beats[1:]))


@pytest.mark.parametrize("way", ["crash-consistent", "quiesced"])
def test_an_instance_is_captured_while_it_runs_and_writes(region, builder, way):
    boot, begin = builder.boot, len(beats(builder))
    with watched(region, builder) as states:
        image = capture(region, builder, way, way)
    assert image["lifecycle-state"] == "AVAILABLE"
    assert image["freeform-tags"] == {"calotype.capture": way}
    assert states == {"RUNNING"}
    assert builder.boot == boot
    written = beats(builder)
    assert len(written) > begin, "it writes on"

    copy = launch_by_cli(region, f"{way}-copy", image=image["id"])
    assert copy.ssh("cat /etc/golden-file") == "carried by the image"
    # All that had come to the disk until some moment, and nothing after it.
    copied = beats(copy)
    assert len(copied) >= begin and copied == written[:len(copied)]
    # What the kernel found when it mounted the filesystem the first time.
    replayed = "recovery complete" in copy.ssh("sudo dmesg")
    assert replayed == (way == "crash-consistent")
    region.terminate(copy.instance)


def test_the_own_command_does_the_same(region, builder):
    boot = builder.boot
    printed = region.calotype("image", "create", "writer", "--name", "by-command", "--live")
    image = region.compute.get_image(printed.strip()).data
    assert (image.display_name, image.lifecycle_state) == ("by-command", "AVAILABLE")
    assert image.freeform_tags == {"calotype.capture": "quiesced"}
    assert builder.boot == boot


def test_an_unknown_way_is_refused_with_those_that_there_are(region, builder):
    with pytest.raises(Refused) as refused:
        capture(region, builder, "backwards", "never")
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
    for way in ("shutdown", "crash-consistent", "quiesced"):
        assert way in refused.value.message


def create_by_sdk(region, builder, name):
    """Asks for a quiesced capture, and waits for nothing."""
    details = oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=builder.id, display_name=name,
        freeform_tags={"calotype.capture": "quiesced"})
    return region.client(type(region.compute)).create_image(details)


def test_an_instance_without_the_agent_says_what_to_install(region, builder):
    builder.ssh("sudo killall -STOP qemu-ga")
    created = create_by_sdk(region, builder, "never")
    request = created.headers["opc-work-request-id"]
    wait_until(
        lambda: region.work_requests.get_work_request(request).data.status == "FAILED", "it fails")
    errors = region.work_requests.list_work_request_errors(request).data
    assert "qemu-guest-agent" in errors[0].message
    assert region.compute.get_image(created.data.id).data.lifecycle_state == "DELETED"
    assert region.state(builder.id) == "RUNNING"
    builder.ssh("sudo killall -CONT qemu-ga")
    capture(region, builder, "quiesced", "after-all")


def mark(region):
    """What the guard says of a guest: nothing, freezing or frozen."""
    return "".join(mark.read_text() for mark in region.directory.glob("instances/*/freeze")).strip()


def stop_the_service_while_it_freezes(region, builder):
    """The service is held at the moment at which it has the guest frozen; the image that it makes."""
    for attempt in itertools.count():
        created = create_by_sdk(region, builder, f"interrupted-{attempt}")
        wait_until(lambda: seen_frozen(region) or region.settled(builder.id), "it is frozen, or over", interval=0)
        region.service.send_signal(signal.SIGSTOP)
        time.sleep(1)
        if mark(region) == "frozen":
            return created.data.id
        # This process had to wait too long for the processor.
        region.service.send_signal(signal.SIGCONT)
        assert attempt < 20
        wait_until(lambda: region.settled(builder.id), "the capture comes to its end")


def seen_frozen(region, looks=1000):
    """Whether it is frozen at one of many looks: it is so for some thousandths of a second."""
    return any(mark(region) == "frozen" for _ in range(looks))


def test_a_guest_is_thawed_when_the_service_is_killed_while_it_is_frozen(region, builder):
    boot, before = builder.boot, len(beats(builder))
    image = stop_the_service_while_it_freezes(region, builder)
    region.kill()
    # Nobody serves the region, and yet:
    wait_until(lambda: not mark(region), "the guard thaws it", seconds=10)
    thawed = time.time()
    wait_until(lambda: last_write(region) > thawed, "the guest writes on")
    region.start()
    goes_on(region, builder, boot, before, image)


def test_a_guest_is_thawed_in_time_when_the_service_hangs(region, builder):
    boot, before = builder.boot, len(beats(builder))
    image = stop_the_service_while_it_freezes(region, builder)
    wait_until(lambda: not mark(region), "the guard's deadline comes", seconds=30)
    region.service.send_signal(signal.SIGCONT)
    goes_on(region, builder, boot, before, image)


def test_a_guest_is_thawed_by_the_next_service_when_all_who_knew_are_killed(region, builder):
    boot, before = builder.boot, len(beats(builder))
    image = stop_the_service_while_it_freezes(region, builder)
    for pid, line in command_lines():
        if line.endswith(b"\0freeze-guard\0") and parent(pid) == region.service.pid:
            os.kill(pid, signal.SIGKILL)
    region.kill()
    assert mark(region) == "frozen", "there is nobody left to thaw it"
    region.start()
    wait_until(lambda: not mark(region), "it is thawed", seconds=30)
    goes_on(region, builder, boot, before, image)


def last_write(region):
    """When a guest last wrote to its overlay, by the host's clock."""
    return max(layer.stat().st_mtime for layer in region.directory.glob("volumes/*/*.qcow2"))


def parent(pid):
    stat = pathlib.Path(f"/proc/{pid}/stat").read_text()
    return int(stat.rpartition(")")[2].split()[1])


def goes_on(region, builder, boot, before, image):
    """The guest writes, as it did before it was frozen, and the capture comes to its end."""
    builder.reachable()
    wait_until(lambda: region.settled(builder.id), "the capture comes to its end")
    assert region.compute.get_image(image).data.lifecycle_state == "AVAILABLE"
    assert builder.boot == boot
    after = beats(builder)
    assert longest_gap(after[before:]) > 0.5, "it was frozen"
    wait_until(lambda: len(beats(builder)) > len(after), "it writes on")

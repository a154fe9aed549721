"""`kill -9` of the service at random moments: nothing acknowledged is lost, nothing half-done is left.

Each round starts a capture and a launch, kills the service at moments that a seed chooses, starts it
again each time and then looks at everything. Failing moments are found again with the seed that the
failure names.
"""

import os
import random
import time

import oci
import pytest

from guest import Guest
from region import Region, wait_until
from wire import Wire

ROUNDS = int(os.environ.get("CALOTYPE_CRASH_ROUNDS", "3"))
SEED = int(os.environ.get("CALOTYPE_CRASH_SEED", "1839"))
# The service is killed more than once in a round, so that going on is interrupted too.
KILLS = 3
# Most of a capture is over by then: the guest's shutdown, sealing, restart, commit.
LATEST_SECONDS = 2.5
STEADY = {"RUNNING", "STOPPED", "TERMINATED"}


@pytest.fixture(scope="module")
def region():
    region = Region()
    try:
        region.start()
        yield region
    finally:
        region.close()


@pytest.fixture(scope="module")
def guests(region):
    """One guest that nobody touches, and one that is captured again and again."""
    launched = [
        region.compute.launch_instance(region.launch_details(name)).data.id
        for name in ("witness", "model")
    ]
    witness, model = [Guest(region, id) for id in launched]
    for guest in (witness, model):
        wait_until(lambda guest=guest: region.state(guest.id) == "RUNNING", "it is running")
        guest.reachable()
    model.write("/etc/model", "the model's own file\n")
    return witness, model


def test_a_command_that_waits_outlasts_a_restart_of_the_service(region, guests):
    _, model = guests
    command = region.begin("image", "create", model.id, "--name", "waited for")
    image = wait_until(
        lambda: [one for one in region.images() if one.display_name == "waited for"], "the capture has begun")[0]
    region.kill()
    region.start()
    out, err = command.communicate(timeout=120)
    assert command.returncode == 0, err
    assert out.strip() == image.id
    assert region.compute.get_image(image.id).data.lifecycle_state == "AVAILABLE"
    region.compute.delete_image(image.id)
    model.reachable()


def test_a_killed_service_goes_on_where_it_was(region, guests):
    witness, model = guests
    boot = witness.boot
    chance = random.Random(SEED)
    for round_ in range(ROUNDS):
        moments = [chance.uniform(0, LATEST_SECONDS) for _ in range(KILLS)]
        killed = ", ".join(f"{moment:.2f} s" for moment in moments)
        what = f"seed {SEED}, round {round_}, killed after {killed}"
        before = float(witness.ssh("cut -d ' ' -f 1 /proc/uptime"))
        image = capture(region, model)
        copy = region.compute.launch_instance(region.launch_details(f"copy-{round_}")).data.id
        for moment in moments:
            time.sleep(moment)
            region.kill()
            assert region.machines(), f"no guest outlived the service: {what}"
            region.start()

        wait_until(lambda: all_settled(region), f"everything is settled: {what}", seconds=240)
        assert witness.boot == boot, f"the witness was restarted: {what}"
        assert float(witness.ssh("cut -d ' ' -f 1 /proc/uptime")) > before, what
        assert model.reachable().ssh("cat /etc/model") == "the model's own file", what
        assert_acknowledged(region, image, copy, what)
        assert_nothing_is_left(region, what)
        region.terminate(region.compute.get_instance(copy).data)
        assert_nothing_is_left(region, what)

    # Nothing holds the model: it is captured again, and what was captured is launched.
    image = capture(region, model)
    wait_until(lambda: all_settled(region), "the last capture is over", seconds=240)
    assert region.compute.get_image(image).data.lifecycle_state == "AVAILABLE"
    last = region.compute.launch_instance(region.launch_details("last", image=image)).data.id
    wait_until(lambda: region.state(last) == "RUNNING", "the last copy is running")
    assert Guest(region, last).reachable().ssh("cat /etc/model") == "the model's own file"


def capture(region, guest):
    details = oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=guest.id)
    return region.compute.create_image(details).data.id


def all_settled(region):
    """Whether no workflow is at work and no resource is between two states."""
    requests = oci.pagination.list_call_get_all_results(
        region.work_requests.list_work_requests, region.tenancy).data
    return (
        all(request.status in ("SUCCEEDED", "FAILED", "CANCELED") for request in requests)
        and all(instance.lifecycle_state in STEADY for instance in region.instances())
        and all(image.lifecycle_state == "AVAILABLE" for image in region.images())
    )


def assert_acknowledged(region, image, copy, what):
    """What was answered is there: both actions were possible, so both were carried out."""
    assert region.compute.get_image(image).data.lifecycle_state == "AVAILABLE", what
    assert region.state(copy) == "RUNNING", what
    assert Guest(region, copy).reachable().ssh("hostname"), what


def assert_nothing_is_left(region, what):
    """Every image verifies, and there is no machine, file or lock that nothing in the catalog has."""
    wire = Wire(region)
    for image in region.images():
        answer = wire.ask("POST", f"/calotype/images/{image.id}/actions/verify")
        assert answer.status == 200, f"{image.display_name}: {answer.text}: {what}"

    instances = region.instances()
    running = [one for one in instances if one.lifecycle_state == "RUNNING"]
    assert len(region.machines()) == len(running), what
    alive = {short(one.id) for one in instances if one.lifecycle_state != "TERMINATED"}
    assert directories(region, "instances") <= alive, what

    volumes = region.block.list_boot_volumes(compartment_id=region.tenancy).data
    kept = {short(one.id) for one in volumes if one.lifecycle_state != "TERMINATED"}
    assert directories(region, "volumes") == kept, what


def directories(region, name):
    return {entry.name for entry in (region.directory / name).iterdir()}


def short(ocid):
    """The directory of a resource is called by the end of its OCID."""
    return ocid[-16:]

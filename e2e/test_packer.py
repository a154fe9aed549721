"""Packer from Debian's packages, unmodified: launches, provisions over SSH, captures, terminates.

Its version, 1.6.6, takes no endpoint and no domain: it always asks for `iaas.REGION.oraclecloud.com`. A proxy
leads it to the region, whose certificate holds for that name.
"""

import re
import shutil
import subprocess

import pytest

from connect_proxy import ConnectProxy
from guest import launch_by_cli
from region import CHECKOUT

TEMPLATE = CHECKOUT / "e2e/packer/golden.json"
GREETING = "provisioned by packer\n"


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def built(region):
    """What Packer printed, and the image that it made."""
    greeting = region.directory / "greeting"
    greeting.write_text(GREETING)
    variables = {
        "profile": region.environment["OCI_CONFIG_FILE"],
        "domain": region.domain,
        "compartment": region.tenancy,
        "subnet": region.subnet,
        "greeting": greeting,
    }
    assert region.tiny
    command = ["packer", "build", "-color=false", "-machine-readable"]
    command += [word for pair in variables.items() for word in ("-var", "{}={}".format(*pair))]
    with ConnectProxy(region.port) as proxy:
        environment = {
            **region.clean_environment(), "HTTPS_PROXY": proxy.url, "CHECKPOINT_DISABLE": "1",
        }
        done = subprocess.run(
            [*command, TEMPLATE], env=environment, text=True, capture_output=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    assert proxy.asked == {"iaas.home-1.oraclecloud.com:443"}
    [made] = re.findall(r"artifact,0,id,(\S+)", done.stdout)
    return made


def test_packer_is_the_one_that_debian_has():
    assert shutil.which("packer"), "no packer: scripts/setup --test"
    told = subprocess.run(["packer", "version"], text=True, capture_output=True, check=True)
    assert "v1.6.6" in told.stdout


def test_an_image_is_built_from_a_template(region, built):
    image = region.compute.get_image(built).data
    assert (image.display_name, image.lifecycle_state) == ("by-packer", "AVAILABLE")
    assert image.freeform_tags == {"made": "by-packer"}
    assert image.base_image_id == region.tiny


def test_the_builder_is_terminated(region, built):
    [builder] = [one for one in region.instances() if one.display_name == "packer-builder"]
    assert builder.lifecycle_state == "TERMINATED"


def test_an_instance_of_the_image_carries_what_was_provisioned(region, built):
    copy = launch_by_cli(region, "packer-copy", image=built)
    assert copy.ssh("cat /etc/greeting; stat -c %U /etc/greeting") == GREETING + "root"

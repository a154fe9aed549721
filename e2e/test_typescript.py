"""The SDK for TypeScript, unmodified, in a process of its own: lists, launches, captures, waits, terminates."""

import json
import shutil
import subprocess

import pytest

from region import CHECKOUT, SHAPE

STORY = CHECKOUT / "e2e/typescript/story.js"


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())


@pytest.fixture(scope="module")
def told(region):
    """What the story printed."""
    node = shutil.which("node")
    assert node and STORY.with_name("node_modules").exists(), "no SDK: scripts/setup --test"
    assert region.tiny
    question = {
        "profile": region.environment["OCI_CONFIG_FILE"], "tenancy": region.tenancy, "shape": SHAPE,
    }
    environment = {**region.clean_environment(), "STORY": json.dumps(question)}
    done = subprocess.run(
        [node, STORY], env=environment, text=True, capture_output=True, timeout=500)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def test_lists_are_iterated_over_all_pages(region, told):
    assert set(told["images"]) >= {region.tiny}
    assert told["listed"] == [told["running"]["id"]]


def test_a_launch_a_capture_and_a_termination_are_awaited(region, told):
    requests = (told["launching"], told["capturing"], told["terminating"])
    assert requests == ("SUCCEEDED",) * 3
    assert region.state(told["running"]["id"]) == "TERMINATED"


def test_models_are_read_with_their_names_and_types(region, told):
    assert told["running"]["sourceDetails"] == {
        **told["running"]["sourceDetails"], "sourceType": "image", "imageId": region.tiny}
    assert told["running"]["freeformTags"] == {"made": "by TypeScript"}
    assert (told["image"]["lifecycleState"], told["image"]["baseImageId"]) == ("AVAILABLE", region.tiny)
    assert told["image"]["timeCreated"].endswith("Z")


def test_an_etag_guards_an_image(told):
    assert told["renamed"] == "renamed by TypeScript"
    assert told["refusal"] == [412, "NoEtagMatch"]
    assert told["deleted"] == "DELETED"

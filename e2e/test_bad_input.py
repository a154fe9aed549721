"""Bad input gets the documented code, and a message that names the field and the limit."""

import base64
import copy
import uuid

import pytest

from region import SHAPE
from wire import Wire

NOBODY = "ocid1.{}.oc99.home-1.aaaaaaaanobodyhasthisidentifieratall2345672345672345672345"
# What a signature of a request with a body must cover.
BODY_HEADERS = ("content-length", "content-type", "x-content-sha256")


@pytest.fixture(scope="module")
def wire(region):
    return Wire(region)


@pytest.fixture(scope="module")
def launch(region):
    """A body with which an instance would be launched."""
    return {
        "availabilityDomain": region.domain,
        "compartmentId": region.tenancy,
        "displayName": "never",
        "shape": SHAPE,
        "sourceDetails": {"sourceType": "image", "imageId": region.tiny},
        "createVnicDetails": {"subnetId": region.subnet},
    }


@pytest.fixture(scope="module", autouse=True)
def nothing_is_created(region):
    before = {instance.id for instance in region.instances()}
    yield
    assert {instance.id for instance in region.instances()} == before
    assert not [image for image in region.images() if image.compartment_id]


def changed(body, **changes):
    """A copy of `body` in which dotted paths have other values; `...` takes one away."""
    body = copy.deepcopy(body)
    for path, value in changes.items():
        *parents, last = path.split("__")
        place = body
        for parent in parents:
            place = place.setdefault(parent, {})
        if value is ...:
            del place[last]
        else:
            place[last] = value
    return body


def refuses(answer, status, code, *words):
    assert (answer.status, answer.code) == (status, code), answer.text
    for word in words:
        assert word in answer.message, answer.message
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["opc-request-id"]


BODIES = {
    "is no JSON": (b'{"compartmentId": ', 400, "CannotParseRequest", "line 1"),
    "is no object": (b"[]", 400, "InvalidParameter", "body"),
    "is two values": (b"{} {}", 400, None),
    "is not UTF-8": (b'{"displayName": "\xff"}', 400, "CannotParseRequest"),
    "is nested too deeply": (b'{"extendedMetadata": {"a": ' + b"[" * 10_000, 400, "CannotParseRequest"),
}


@pytest.mark.parametrize("what", BODIES)
def test_a_body_that_cannot_be_read(wire, what):
    body, status, code, *words = BODIES[what]
    answer = wire.ask("POST", "/20160918/instances", body)
    refuses(answer, status, code or answer.code, *words)


LONG = "x" * 256
MISSING, INVALID, NOT_FOUND = "MissingParameter", "InvalidParameter", "NotAuthorizedOrNotFound"
LAUNCHES = {
    "has a field that there is not": ({"colour": "red"}, 400, INVALID, "colour", "not a known field"),
    "has an unknown field inside": (
        {"createVnicDetails__colour": "red"}, 400, INVALID, "createVnicDetails.colour"),
    "names no compartment": ({"compartmentId": ...}, 400, MISSING, "compartmentId"),
    "names no availability domain": ({"availabilityDomain": ...}, 400, MISSING, "availabilityDomain"),
    "names no shape": ({"shape": ...}, 400, MISSING, "shape"),
    "names no source": ({"sourceDetails": ...}, 400, MISSING, "sourceDetails"),
    "names no subnet": ({"createVnicDetails__subnetId": ...}, 400, MISSING, "subnetId"),
    "has a number as its name": ({"displayName": 5}, 400, INVALID, "displayName", "integer `5`"),
    "has text as an object": ({"metadata": "text"}, 400, INVALID, "metadata", "expected a map"),
    "has a number in its metadata": ({"metadata": {"a": 1}}, 400, INVALID, "metadata.a"),
    "has a fraction as a size": (
        {"sourceDetails__bootVolumeSizeInGBs": 50.5}, 400, INVALID, "bootVolumeSizeInGBs"),
    "has an over-long name": ({"displayName": LONG}, 400, INVALID, "displayName", "255"),
    "has an empty name": ({"displayName": ""}, 400, INVALID, "displayName", "between 1 and 255"),
    "has an over-long host name": ({"createVnicDetails__hostnameLabel": "h" * 64}, 400, INVALID,
                                   "hostnameLabel", "63"),
    "has a host name that is none": (
        {"createVnicDetails__hostnameLabel": "a_b"}, 400, INVALID, "hostnameLabel"),
    "has no OCID as its compartment": ({"compartmentId": "home"}, 400, INVALID, "compartmentId"),
    "has no OCID as its image": (
        {"sourceDetails__imageId": "ocid1.image"}, 400, INVALID, "imageId"),
    "names a compartment that there is not": (
        {"compartmentId": NOBODY.format("compartment")}, 404, NOT_FOUND),
    "names an image that there is not": (
        {"sourceDetails__imageId": NOBODY.format("image")}, 404, NOT_FOUND),
    "names a subnet that there is not": (
        {"createVnicDetails__subnetId": NOBODY.format("subnet")}, 404, NOT_FOUND),
    "names a shape that there is not": ({"shape": "VM.Enormous"}, 404, NOT_FOUND, "VM.Enormous"),
    "names a domain that there is not": (
        {"availabilityDomain": "Calo:MARS-AD-1"}, None, None, "vailability"),
    "names a fault domain that there is not": (
        {"faultDomain": "FAULT-DOMAIN-9"}, 400, INVALID, "faultDomain"),
    "asks for a flexible shape without a size": (
        {"shape": "VM.Standard.E4.Flex"}, 400, INVALID, "ShapeConfig"),
    "asks for more than the shape has": (
        {"shape": "VM.Standard.E4.Flex", "shapeConfig": {"ocpus": 1000}}, 400, INVALID,
        "shapeConfig.ocpus", "1000"),
    "asks for a size that the shape has not": (
        {"shapeConfig": {"ocpus": 7}}, 400, INVALID, "shapeConfig", "not a flexible shape"),
    "asks for a boot volume below the least": (
        {"sourceDetails__bootVolumeSizeInGBs": 49}, 400, INVALID, "bootVolumeSizeInGBs",
        "between 50 and 32768"),
    "asks for a boot volume above the most": (
        {"sourceDetails__bootVolumeSizeInGBs": 32769}, 400, INVALID, "bootVolumeSizeInGBs",
        "between 50 and 32768"),
    "has metadata over the limit": (
        {"metadata": {"a": "x" * 32_000}}, 400, INVALID, "metadata", "32001", "32000"),
    "has metadata over the limit together": (
        {"metadata": {"a": "x" * 16_000}, "extendedMetadata": {"b": "x" * 16_000}}, 400, INVALID,
        "extendedMetadata", "32000"),
    "has user data that is not base64": (
        {"metadata": {"user_data": "#!/bin/sh"}}, 400, INVALID, "user_data", "base64"),
    "has too many tags": (
        {"freeformTags": {f"tag-{number}": "" for number in range(11)}}, 400, INVALID,
        "freeformTags", "11", "10"),
    "asks for an address outside the subnet": (
        {"createVnicDetails__privateIp": "203.0.113.7"}, 400, INVALID, "privateIp"),
    "has no address as its address": (
        {"createVnicDetails__privateIp": "10.0.0.256"}, 400, INVALID, "privateIp"),
    "has an unknown source type": (
        {"sourceDetails": {"sourceType": "tape"}}, 400, INVALID, "sourceDetails"),
    "contradicts itself": (
        {"imageId": NOBODY.format("image")}, 400, INVALID, "imageId"),
}


@pytest.mark.parametrize("what", LAUNCHES)
def test_a_launch_that(wire, launch, what):
    changes, status, code, *words = LAUNCHES[what]
    answer = wire.ask("POST", "/20160918/instances", changed(launch, **changes))
    assert 400 <= answer.status < 500
    refuses(answer, status or answer.status, code or answer.code, *words)


QUERIES = {
    "has a parameter that there is not": ("?compartmentId={}&colour=red", 400, INVALID, "colour"),
    "lacks a required parameter": ("", 400, MISSING, "compartmentId"),
    "has an empty required parameter": ("?compartmentId=", 400, MISSING, "compartmentId"),
    "repeats a parameter": ("?compartmentId={}&limit=1&limit=2", 400, INVALID, "limit"),
    "has a word that is not one of those": (
        "?compartmentId={}&sortOrder=UP", 400, INVALID, "sortOrder", "ASC, DESC"),
    "has a limit that is no number": ("?compartmentId={}&limit=many", 400, INVALID, "limit"),
    "has a limit below the least": ("?compartmentId={}&limit=0", 400, INVALID, "limit", "1000"),
    "has a limit above the most": ("?compartmentId={}&limit=1001", 400, INVALID, "limit", "1000"),
    "has a page that was never given out": ("?compartmentId={}&page=x", 400, INVALID, "page"),
    "has no OCID as its compartment": ("?compartmentId=home", 400, INVALID, "compartmentId"),
    "names a compartment that there is not": (
        "?compartmentId=" + NOBODY.format("compartment"), 404, NOT_FOUND),
}


@pytest.mark.parametrize("what", QUERIES)
def test_a_list_that(region, wire, what):
    query, status, code, *words = QUERIES[what]
    answer = wire.ask("GET", "/20160918/instances" + query.format(region.tenancy))
    refuses(answer, status, code, *words)


def test_resources_that_do_not_exist_or_have_no_ocid(wire):
    for collection, kind in [("instances", "instance"), ("images", "image"), ("vcns", "vcn"),
                             ("bootVolumes", "bootvolume"), ("workRequests", "workrequest")]:
        answer = wire.ask("GET", f"/20160918/{collection}/{NOBODY.format(kind)}")
        refuses(answer, 404, NOT_FOUND, "Authorization failed or requested resource not found")
        refuses(wire.ask("GET", f"/20160918/{collection}/one"), 400, INVALID, "Id")


def test_an_action_that_there_is_not(region, wire):
    target = f"/20160918/instances/{NOBODY.format('instance')}"
    refuses(wire.ask("POST", f"{target}?action=DANCE"), 400, INVALID, "action", "SOFTSTOP")
    refuses(wire.ask("POST", target), 400, MISSING, "action")
    refuses(wire.ask("POST", f"{target}?action=STOP"), 404, NOT_FOUND)


def test_operations_that_there_are_not(wire):
    refuses(wire.ask("GET", "/20160918/volumes"), 501, "MethodNotImplemented", "ListVolumes")
    refuses(wire.ask("GET", "/20160918/carrots"), 404, "NotFound", "/20160918/carrots")
    answer = wire.ask("DELETE", "/20160918/images")
    refuses(answer, 405, "MethodNotAllowed", "DELETE")
    assert "POST" in answer.headers["allow"]


def test_an_etag_that_is_not_current(region, wire):
    name = f"vcn-{uuid.uuid4()}"
    vcn = wire.ask("POST", "/20160918/vcns", {
        "compartmentId": region.tenancy, "cidrBlock": "10.77.0.0/16", "displayName": name})
    assert vcn.status == 200, vcn.text
    target = f"/20160918/vcns/{vcn.json['id']}"
    refuses(wire.ask("DELETE", target, headers={"if-match": "0" * 64}), 412, "NoEtagMatch", "etag")
    current = wire.ask("GET", target).headers["etag"]
    assert wire.ask("DELETE", target, headers={"if-match": current}).status == 204


# Signatures.

LIST = "/20160918/instances?compartmentId={}"


def test_a_request_that_is_not_signed(region, wire):
    request = wire.prepare("GET", LIST.format(region.tenancy))
    del request.headers["authorization"]
    refuses(wire.send(request), 401, "NotAuthenticated", "not signed")


def test_a_signature_of_something_else(region, wire):
    request = wire.prepare("GET", LIST.format(region.tenancy))
    request.url = request.url.replace("instances", "images")
    refuses(wire.send(request), 401, "NotAuthenticated")


def test_a_signature_that_is_none(region, wire):
    for signature in ["Signature", 'Signature version="1"', "Basic YTpi", 'Signature signature="%"']:
        request = wire.prepare("GET", LIST.format(region.tenancy),
                               headers={"authorization": signature})
        refuses(wire.send(request), 401, "NotAuthenticated")


def test_a_key_that_nobody_has(region, wire):
    request = wire.prepare("GET", LIST.format(region.tenancy))
    other = ":".join(["00"] * 16)
    known = wire.key_id.rsplit("/")[-1]
    request.headers["authorization"] = request.headers["authorization"].replace(known, other)
    unknown = wire.send(request)
    refuses(unknown, 401, "NotAuthenticated")
    # The answer must not tell which keys there are.
    wrong = wire.prepare("GET", LIST.format(region.tenancy))
    wrong.url = wrong.url.replace("instances", "images")
    assert wire.send(wrong).json == unknown.json


def test_a_clock_that_is_more_than_five_minutes_off(region, wire):
    for seconds in (-310, 310):
        answer = wire.ask("GET", LIST.format(region.tenancy), seconds=seconds)
        refuses(answer, 401, "NotAuthenticated", "300 seconds")
        assert answer.headers["date"]
    for seconds in (-290, 290):
        assert wire.ask("GET", LIST.format(region.tenancy), seconds=seconds).status == 200


def test_a_body_that_is_not_the_signed_one(wire, launch):
    request = wire.prepare("POST", "/20160918/instances", launch)
    request.body = request.body.replace(b"never", b"other")
    refuses(wire.send(request), 401, "NotAuthenticated", "x-content-sha256")


@pytest.mark.parametrize("header", BODY_HEADERS)
def test_a_signature_that_does_not_cover_the_body(wire, launch, header):
    request = wire.prepare("POST", "/20160918/instances", launch)
    covered = request.headers["authorization"]
    request.headers["authorization"] = covered.replace(f" {header}", "")
    refuses(wire.send(request), 401, "NotAuthenticated")


def test_a_request_that_was_received_before(region, wire):
    body = {"compartmentId": region.tenancy, "cidrBlock": "10.78.0.0/16"}
    request = wire.prepare("POST", "/20160918/vcns", body)
    first = wire.send(request)
    assert first.status == 200, first.text
    refuses(wire.send(request), 401, "NotAuthenticated", "received before")
    assert wire.ask("DELETE", f"/20160918/vcns/{first.json['id']}").status == 204


def test_a_body_that_is_too_large(wire):
    body = b'{"displayName": "' + base64.b64encode(bytes(1024 * 1024)) + b'"}'
    refuses(wire.ask("POST", "/20160918/vcns", body), 413, "PayloadTooLarge", "1048576")

"""Every operation of the table, with arguments that are missing, malformed, unknown, foreign or stale.

Nothing here names an operation: the requests are made from the published API, and are well formed but for one thing.
"""

import json
import re
import urllib.parse

import oci
import pytest

from published import API
from region import wait_until
from wire import Wire

UNIQUE = "aaaaaaaanobodyhasthisidentifieratall2345672345672345672345"
UNKNOWN = "ocid1.{}.oc99.home-1." + UNIQUE
FOREIGN = "ocid1.{}.oc1.phx." + UNIQUE
SERVED = [one for one in API.served() if one["client"] != "ObjectStorageClient"]
TEXTS = {"cidrBlock": "10.200.0.0/16", "availabilityDomain": "Calo:HOME-1-AD-1", "ipAddress": "10.0.0.1",
         "id": UNKNOWN.format("bootvolume")}


def named(condition):
    """The operations of which something holds."""
    chosen = [one for one in SERVED if condition(one)]
    return pytest.mark.parametrize("operation", chosen, ids=[one["key"] for one in chosen])


def required(operation):
    return [one for one in operation["query_params"] if one.get("required")]


def body_model(operation):
    body = operation.get("body")
    return body and operation["models"].get(body["model"])


def required_attributes(operation):
    model = body_model(operation)
    if not model or operation["path_params"] or not operation["body"]["required"]:
        return []
    return [name for name, one in model["attributes"].items() if one.get("required")]


def ocids(operation):
    return [one["name"] for one in operation["path_params"] if one["name"].endswith("Id")]


@pytest.fixture(scope="module")
def wire(region):
    return Wire(region)


class Requests:
    """Requests for any operation, right in all but what is given."""

    def __init__(self, wire, known):
        self.wire, self.known = wire, known

    def ask(self, operation, path=None, query=None, body=None, headers=None):
        given = {one["name"]: self.value(one["name"], one) for one in operation["path_params"]}
        given.update(path or {})
        target = re.sub(r"\{(\w+)\}", lambda name: urllib.parse.quote(given[name[1]], safe=""),
                        operation["full_path"])
        asked = {one["name"]: self.value(one["name"], one) for one in required(operation)}
        asked.update(query or {})
        words = urllib.parse.urlencode({name: value for name, value in asked.items() if value is not ...})
        sent = self.body(operation) if body is None else body
        target = f"{target}?{words}" if words else target
        return self.wire.ask(operation["method"], target, sent, headers=headers)

    def body(self, operation):
        model = body_model(operation)
        return self.example(operation["models"], model) if model and operation["body"]["required"] else None

    def example(self, models, model):
        """The least that a model takes."""
        if choice := model.get("discriminator"):
            said, subtype = next(iter(choice["subtypes"].items()))
            return {**self.example(models, models[subtype]), choice["attribute"]: said}
        return {name: self.attribute(models, name, one) for name, one in model["attributes"].items()
                if one.get("required")}

    def attribute(self, models, name, attribute):
        kind = attribute["type"]
        if kind in models:
            return self.example(models, models[kind])
        if kind.startswith(("list", "dict")):
            return [] if kind.startswith("list") else {}
        plain = {"int": 1, "float": 1.0, "bool": False, "datetime": "2016-08-25T21:10:29.600Z"}
        return plain[kind] if kind in plain else self.value(name, attribute)

    def value(self, name, described):
        if described.get("enum"):
            return described["enum"][0]
        kind = name.removesuffix("Id").lower()
        return self.known.get(name) or TEXTS.get(name) or (
            UNKNOWN.format(kind) if name.endswith("Id") else "x")


@pytest.fixture(scope="module")
def requests(region, wire):
    """Requests in which the compartment is the tenancy, and nothing else is known."""
    return Requests(wire, {"compartmentId": region.tenancy})


def refuses(answer, *outcomes):
    assert (answer.status, answer.code) in outcomes, answer.text


@named(ocids)
@pytest.mark.parametrize("form", [UNKNOWN, FOREIGN], ids=["unknown", "foreign"])
def test_what_nobody_has_and_what_another_region_has_is_not_found(requests, operation, form):
    path = {name: form.format(name.removesuffix("Id").lower()) for name in ocids(operation)}
    refuses(requests.ask(operation, path), (404, "NotAuthorizedOrNotFound"))


@named(ocids)
def test_an_identifier_that_is_none_is_named(requests, operation):
    for name in ocids(operation):
        answer = requests.ask(operation, {name: "one"})
        refuses(answer, (400, "InvalidParameter"))
        assert name in answer.message


@named(required)
def test_a_parameter_that_is_missing_is_named(requests, operation):
    for parameter in required(operation):
        answer = requests.ask(operation, query={parameter["name"]: ...})
        refuses(answer, (400, "MissingParameter"))
        assert parameter["name"] in answer.message


@named(lambda operation: any(one.get("enum") for one in operation["query_params"]))
def test_a_parameter_with_a_word_of_its_own_is_named(requests, operation):
    for parameter in operation["query_params"]:
        if parameter.get("enum"):
            answer = requests.ask(operation, query={parameter["name"]: "SIDEWAYS"})
            refuses(answer, (400, "InvalidParameter"))
            assert parameter["name"] in answer.message


@named(lambda operation: operation["method"] == "GET")
def test_a_parameter_that_there_is_not_is_named(requests, operation):
    answer = requests.ask(operation, query={"colour": "red"})
    refuses(answer, (400, "InvalidParameter"))
    assert "colour" in answer.message


@named(required_attributes)
def test_an_attribute_that_is_missing_is_named(requests, operation):
    whole = requests.body(operation)
    for name in required_attributes(operation):
        left = {other: value for other, value in whole.items() if other != name}
        answer = requests.ask(operation, body=left)
        refuses(answer, (400, "MissingParameter"))
        assert name in answer.message


@named(lambda operation: body_model(operation) and operation["body"]["required"])
def test_a_body_that_cannot_be_read_is_refused(requests, operation):
    for body in (b'{"', b"[]"):
        answer = requests.ask(operation, body=body)
        refuses(answer, (400, "CannotParseRequest"), (400, "InvalidParameter"))
    answer = requests.ask(operation, body={**requests.body(operation), "colour": "red"})
    refuses(answer, (400, "InvalidParameter"))
    assert "colour" in answer.message


# What is there, with an etag that is not its own.


@pytest.fixture(scope="module")
def instance(region):
    """Running as far as the region is concerned; nobody waits for its guest."""
    launched = region.compute.launch_instance(region.launch_details("every-operation")).data
    wait_until(lambda: region.state(launched.id) == "RUNNING", "it runs")
    yield launched.id
    region.terminate(region.compute.get_instance(launched.id).data)


@pytest.fixture(scope="module")
def image(region, custom_disk):
    """An image of the caller's own, by the quickest way."""
    namespace, bucket = custom_disk
    source = oci.core.models.ImageSourceViaObjectStorageTupleDetails(
        source_image_type="QCOW2", namespace_name=namespace, bucket_name=bucket, object_name="disk")
    imported = region.compute.create_image(oci.core.models.CreateImageDetails(
        compartment_id=region.tenancy, display_name="every operation", image_source_details=source))
    image = imported.data.id
    wait_until(lambda: region.compute.get_image(image).data.lifecycle_state == "AVAILABLE", "it is there")
    yield image
    region.compute.delete_image(image)


@pytest.fixture(scope="module")
def existing(region, wire, instance, image):
    """What the parameters of paths can be."""
    compute, network = region.compute, region.network
    boot = compute.list_boot_volume_attachments(
        region.domain, region.tenancy, instance_id=instance).data[0]
    attachment = compute.list_vnic_attachments(region.tenancy, instance_id=instance).data[0]
    private = network.list_private_ips(vnic_id=attachment.vnic_id).data[0]
    vcn = network.get_vcn(network.get_subnet(region.subnet).data.vcn_id).data
    history = compute.capture_console_history(
        oci.core.models.CaptureConsoleHistoryDetails(instance_id=instance)).data
    return Requests(wire, {
        "compartmentId": region.identity.create_compartment(oci.identity.models.CreateCompartmentDetails(
            compartment_id=region.tenancy, name="every-operation", description="for a test")).data.id,
        "imageId": image, "instanceId": instance, "vcnId": vcn.id, "subnetId": region.subnet,
        "vnicId": attachment.vnic_id, "vnicAttachmentId": attachment.id, "privateIpId": private.id,
        "bootVolumeId": boot.boot_volume_id, "bootVolumeAttachmentId": boot.id,
        "instanceConsoleHistoryId": history.id, "rtId": vcn.default_route_table_id,
        "securityListId": vcn.default_security_list_id, "dhcpId": vcn.default_dhcp_options_id,
    })


def test_an_etag_that_is_not_current_lets_nothing_happen(existing):
    """One test for all, as they share what is there."""
    wrong, tried = [], 0
    for operation in SERVED:
        guarded = any(one["name"] == "if-match" for one in operation["header_params"])
        there = all(existing.known.get(one["name"]) for one in operation["path_params"])
        if guarded and there and operation["path_params"]:
            tried += 1
            answer = existing.ask(operation, headers={"if-match": "0" * 64})
            # Identity alone says so with another status.
            status = 409 if operation["client"] == "IdentityClient" else 412
            if (answer.status, answer.json and answer.json.get("code")) != (status, "NoEtagMatch"):
                wrong.append(f"{operation['key']}: {answer.status} {answer.text[:200]}")
    assert not wrong, json.dumps(wrong, indent=1)
    assert tried >= 8


# What was there, and is not any more.


@pytest.fixture(scope="module")
def deleted(region, wire):
    """The parameters of paths, of a network that was taken apart, a namespace of tags and a console's history."""
    network, core, tenancy = region.network, oci.core.models, region.tenancy
    vcn = network.create_vcn(core.CreateVcnDetails(compartment_id=tenancy, cidr_block="10.77.0.0/16")).data.id
    here = {"compartment_id": tenancy, "vcn_id": vcn}
    parts = {
        "subnetId": ("subnet", core.CreateSubnetDetails(cidr_block="10.77.1.0/24", **here)),
        "igId": ("internet_gateway", core.CreateInternetGatewayDetails(is_enabled=True, **here)),
        "rtId": ("route_table", core.CreateRouteTableDetails(route_rules=[], **here)),
        "securityListId": ("security_list", core.CreateSecurityListDetails(
            egress_security_rules=[], ingress_security_rules=[], **here)),
        "dhcpId": ("dhcp_options", core.CreateDhcpDetails(options=[core.DhcpDnsOption(
            type="DomainNameServer", server_type="VcnLocalPlusInternet")], **here)),
        "networkSecurityGroupId": ("network_security_group", core.CreateNetworkSecurityGroupDetails(**here)),
    }
    known = {"compartmentId": tenancy, "vcnId": vcn}
    for name, (kind, details) in parts.items():
        known[name] = getattr(network, f"create_{kind}")(details).data.id
        getattr(network, f"delete_{kind}")(known[name])
    network.delete_vcn(vcn)
    namespace = region.identity.create_tag_namespace(oci.identity.models.CreateTagNamespaceDetails(
        compartment_id=tenancy, name="Gone", description="for a test")).data.id
    region.identity.update_tag_namespace(namespace, oci.identity.models.UpdateTagNamespaceDetails(is_retired=True))
    region.identity.delete_tag_namespace(namespace)
    return Requests(wire, {**known, "tagNamespaceId": namespace, "tagName": "any"})


def test_what_was_deleted_is_not_found(deleted):
    wrong, tried = [], 0
    for operation in SERVED:
        names = [one["name"] for one in operation["path_params"]]
        if names and all(name in deleted.known for name in names) and names != ["compartmentId"]:
            tried += 1
            answer = deleted.ask(operation)
            if (answer.status, answer.code) != (404, "NotAuthorizedOrNotFound"):
                wrong.append(f"{operation['key']}: {answer.status} {answer.text[:200]}")
    assert not wrong, json.dumps(wrong, indent=1)
    assert tried >= 20

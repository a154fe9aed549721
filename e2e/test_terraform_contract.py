"""What the resources of Terraform's provider call, poll and read: the contract by which `apply`, a second `plan` and
`destroy` go through.

The provider cannot be installed from Debian's packages, so its calls are replayed, as read in terraform-provider-oci 8.28.0:
which states it takes for pending, what it follows in work requests, what it dereferences, and that every attribute
of the configuration comes back as it was sent; a difference would be a plan without end.
"""

import dataclasses
import uuid

import oci
import pytest

from published import API
from region import SHAPE, wait_until
from terraform import Provider, differences, filled

TAGS = {"freeformTags": {"made": "by terraform"}, "definedTags": {}}
SERVED = {one["operation_id"] for one in API.served()}


@dataclasses.dataclass
class Resource:
    """A resource of the provider. Words in braces are filled in with what the fixtures made."""
    name: str
    operation: str
    collection: str
    create: dict
    update: dict
    # States while it waits for the creation, and for the end; any other fails.
    pending: tuple = ("PROVISIONING",)
    active: str = "AVAILABLE"
    ending: tuple = ("AVAILABLE", "TERMINATING")
    ended: str = "TERMINATED"
    # The status of DELETE; the provider follows the work request of a compartment's.
    destroyed: int = 204
    # What the answer does not repeat.
    written_only: tuple = ()
    filters: dict = dataclasses.field(default_factory=dict)


RESOURCES = [
    Resource(
        "oci_core_vcn", "CreateVcn", "vcns",
        {"compartmentId": "{compartment}", "cidrBlocks": ["10.60.0.0/16"], "displayName": "tf",
         "dnsLabel": "tf", "isIpv6Enabled": False, **TAGS},
        {"displayName": "tf renamed", **TAGS}, written_only=("isIpv6Enabled",)),
    Resource(
        "oci_core_subnet", "CreateSubnet", "subnets",
        {"compartmentId": "{compartment}", "vcnId": "{vcn}", "cidrBlock": "10.61.3.0/24", "displayName": "tf",
         "dnsLabel": "tfsubnet", "prohibitPublicIpOnVnic": False, **TAGS},
        {"displayName": "tf renamed", **TAGS}, filters={"vcnId": "{vcn}"}),
    Resource(
        "oci_core_internet_gateway", "CreateInternetGateway", "internetGateways",
        {"compartmentId": "{compartment}", "vcnId": "{vcn}", "isEnabled": True, "displayName": "tf", **TAGS},
        {"displayName": "tf renamed", "isEnabled": False, **TAGS}, filters={"vcnId": "{vcn}"}),
    Resource(
        "oci_core_route_table", "CreateRouteTable", "routeTables",
        {"compartmentId": "{compartment}", "vcnId": "{vcn}", "routeRules": [], "displayName": "tf", **TAGS},
        {"displayName": "tf renamed", "routeRules": [], **TAGS}, filters={"vcnId": "{vcn}"}),
    Resource(
        "oci_core_security_list", "CreateSecurityList", "securityLists",
        {"compartmentId": "{compartment}", "vcnId": "{vcn}", "displayName": "tf",
         "egressSecurityRules": [
             {"destination": "0.0.0.0/0", "destinationType": "CIDR_BLOCK", "isStateless": False,
              "protocol": "all"}],
         "ingressSecurityRules": [
             {"source": "0.0.0.0/0", "sourceType": "CIDR_BLOCK", "isStateless": False, "protocol": "6",
              "tcpOptions": {"destinationPortRange": {"min": 22, "max": 22}}}], **TAGS},
        {"displayName": "tf renamed", **TAGS}, filters={"vcnId": "{vcn}"}),
    # With `enable_delete`; without it the provider leaves compartments where they are.
    Resource(
        "oci_identity_compartment", "CreateCompartment", "compartments",
        {"compartmentId": "{compartment}", "name": "tf-{unique}", "description": "by terraform", **TAGS},
        {"name": "tf-renamed-{unique}", "description": "renamed", **TAGS},
        pending=("CREATING",), active="ACTIVE", ending=("ACTIVE", "DELETING"), ended="DELETED",
        destroyed=202),
    Resource(
        "oci_core_boot_volume", "CreateBootVolume", "bootVolumes",
        {"compartmentId": "{compartment}", "availabilityDomain": "{domain}", "displayName": "tf",
         "sourceDetails": {"type": "bootVolume", "id": "{volume}"}, "sizeInGBs": 50, "vpusPerGB": 20, **TAGS},
        {"displayName": "tf renamed", "sizeInGBs": 60, "vpusPerGB": 30, **TAGS}, destroyed=202),
    Resource(
        "oci_core_image", "CreateImage", "images",
        {"compartmentId": "{compartment}", "displayName": "tf", "launchMode": "PARAVIRTUALIZED",
         "imageSourceDetails": {
             "sourceType": "objectStorageTuple", "namespaceName": "{namespace}",
             "bucketName": "{bucket}", "objectName": "disk", "sourceImageType": "QCOW2",
             "operatingSystem": "Tiny Linux", "operatingSystemVersion": "12"}, **TAGS},
        {"displayName": "tf renamed", "operatingSystem": "Own Linux", **TAGS},
        pending=("PROVISIONING", "IMPORTING"), ending=("DISABLED",), ended="DELETED",
        written_only=("imageSourceDetails",)),
    Resource(
        "oci_core_instance", "LaunchInstance", "instances",
        {"compartmentId": "{compartment}", "availabilityDomain": "{domain}", "displayName": "tf",
         "shape": SHAPE, "sourceDetails": {"sourceType": "image", "imageId": "{tiny}",
                                           "bootVolumeSizeInGBs": 50},
         "createVnicDetails": {"subnetId": "{subnet}", "assignPublicIp": True, "hostnameLabel": "tf",
                               "displayName": "tf-vnic"},
         "faultDomain": "FAULT-DOMAIN-2", "metadata": {"ssh_authorized_keys": "{key}"},
         "extendedMetadata": {"some": "words"}, **TAGS},
        {"displayName": "tf renamed", **TAGS},
        pending=("PROVISIONING", "STARTING"), active="RUNNING",
        ending=("TERMINATING",), written_only=("createVnicDetails",)),
]
RESOURCES = [one for one in RESOURCES if one.operation in SERVED]


@pytest.fixture(scope="module")
def provider(region):
    return Provider(region)


@pytest.fixture(scope="module")
def words(region, custom_disk):
    """What the words in braces stand for."""
    network, models = region.network, oci.core.models
    vcn = network.create_vcn(models.CreateVcnDetails(
        compartment_id=region.tenancy, cidr_block="10.61.0.0/16", dns_label="tfwords")).data.id
    namespace, bucket = custom_disk
    launched = region.compute.launch_instance(region.launch_details("tf-words")).data.id
    wait_until(lambda: region.state(launched) == "RUNNING", "it runs")
    volume = region.compute.get_boot_volume_attachment(launched).data.boot_volume_id
    region.compute.terminate_instance(launched, preserve_boot_volume=True)
    wait_until(lambda: region.state(launched) == "TERMINATED", "it is terminated")
    yield {
        "compartment": region.tenancy, "vcn": vcn, "namespace": namespace, "bucket": bucket,
        "domain": region.domain, "tiny": region.tiny, "subnet": region.subnet, "key": region.public_key,
        "unique": uuid.uuid4().hex[:8], "volume": volume,
    }
    region.block.delete_boot_volume(volume)
    network.delete_vcn(vcn)


class Applied:
    """A resource after `apply`."""

    def __init__(self, provider, resource, words):
        self.provider, self.resource = provider, resource
        self.sent = filled(resource.create, words)
        answer = provider.ask("POST", resource.collection, self.sent)
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["id"]
        if "opc-work-request-id" in answer.headers:
            assert provider.follow(answer, self.entity, "CREATED") == self.id
        self.path = f"{resource.collection}/{self.id}"
        self.read = provider.await_state(self.path, resource.pending, resource.active)

    @property
    def entity(self):
        """What work requests call it."""
        return self.resource.name.rsplit("_", 1)[1]

    @property
    def compared(self):
        return {name: value for name, value in self.sent.items() if name not in self.resource.written_only}


def named(one):
    return one.name


@pytest.mark.parametrize("resource", RESOURCES, ids=named)
def test_apply_plan_change_and_destroy_go_through(provider, words, resource):
    applied = Applied(provider, resource, words)
    assert differences(applied.compared, applied.read) == {}
    # A second refresh sees what the first saw.
    assert provider.get(applied.path) == applied.read
    if resource.name == "oci_core_instance":
        reads_what_belongs_to_an_instance(provider, applied)

    query = filled(resource.filters, words)
    listed = provider.all(resource.collection, compartmentId=words["compartment"], **query)
    assert [one for one in listed if one["id"] == applied.id] == [applied.read]

    if resource.operation.replace("Create", "Update").replace("Launch", "Update") in SERVED:
        changes_without_replacing(provider, applied, words)
    destroyed = provider.ask("DELETE", applied.path)
    assert destroyed.status_code == resource.destroyed, destroyed.text
    if resource.name == "oci_identity_compartment":
        assert provider.follow(destroyed, applied.entity, "DELETED") == applied.id
    provider.await_end(applied.path, resource.ending, resource.ended)


def test_a_compartment_moves_where_its_parent_is_changed_and_is_found_by_its_name(provider, words):
    """`compartment_id` is changed in place; and without `enable_delete`, a name that is taken means the one that has it."""
    def applied(parent, name, description="by terraform"):
        body = {"compartmentId": parent, "name": name, "description": description, **TAGS}
        return provider.ask("POST", "compartments", body)

    root, name = words["compartment"], f"tf-parent-{words['unique']}"
    target = applied(root, name).json()["id"]
    moved = applied(root, f"tf-moved-{words['unique']}").json()["id"]
    answer = provider.ask("POST", f"compartments/{moved}/actions/moveCompartment", {"targetCompartmentId": target})
    assert answer.status_code == 202, answer.text
    # The provider waits for the state alone, then reads.
    provider.await_state(f"compartments/{moved}", (), "ACTIVE")
    assert provider.get(f"compartments/{moved}")["compartmentId"] == target
    assert provider.follow(answer, "compartment", "UPDATED") == moved

    refused = applied(root, name, "once more")
    assert refused.status_code == 409 and "already exists" in refused.json()["message"]
    [found] = [one for one in provider.all("compartments", compartmentId=root) if one["name"] == name]
    assert found["id"] == target


def changes_without_replacing(provider, applied, words):
    resource = applied.resource
    update = filled(resource.update, words)
    answer = provider.ask("PUT", applied.path, update)
    assert answer.status_code == 200, answer.text
    # On anything but an instance, the header would have the provider wait for a resource IN_PROGRESS.
    assert resource.name == "oci_core_instance" or "opc-work-request-id" not in answer.headers
    read = provider.await_state(applied.path, ("UPDATING", *resource.pending), resource.active)
    assert differences({**applied.compared, **update}, read) == {}


def reads_what_belongs_to_an_instance(provider, applied):
    compartment, instance = applied.sent["compartmentId"], applied.id
    attached = provider.all("vnicAttachments", compartmentId=compartment, instanceId=instance)
    [vnic] = [provider.get(f"vnics/{one['vnicId']}") for one in attached
              if one["lifecycleState"] == "ATTACHED"]
    sent = applied.sent["createVnicDetails"]
    assert vnic["isPrimary"] and vnic["privateIp"] and vnic["publicIp"]
    assert differences({name: value for name, value in sent.items() if name != "assignPublicIp"}, vnic) == {}
    [boot] = provider.all("bootVolumeAttachments", compartmentId=compartment, instanceId=instance,
                          availabilityDomain=applied.sent["availabilityDomain"])
    volume = provider.get(f"bootVolumes/{boot['bootVolumeId']}")
    assert volume["sizeInGBs"] == applied.sent["sourceDetails"]["bootVolumeSizeInGBs"]
    # `state = "STOPPED"`, and back.
    for action, pending, state in [("STOP", "STOPPING", "STOPPED"), ("START", "STARTING", "RUNNING")]:
        answer = provider.ask("POST", f"instances/{instance}", action=action)
        assert answer.status_code == 200, answer.text
        provider.await_state(applied.path, (pending,), state)

"""What Terraform's provider does with images beyond `apply`: shape management, capability schemas, changes that a work
request reports, and every data source that a module about images reads."""

import dataclasses

import oci
import pytest

from region import SHAPE, wait_until
from terraform import Provider, differences, filled

MODELS = oci.core.models
FLEXIBLE = "VM.Standard.E4.Flex"
# One of those that imported images are for.
INTEL = "VM.Standard2.1"
SCHEMAS, GLOBAL = "computeImageCapabilitySchemas", "computeGlobalImageCapabilitySchemas"


@pytest.fixture(scope="module")
def provider(region):
    return Provider(region)


@pytest.fixture(scope="module")
def image(region, custom_disk):
    """A custom image, by the quickest way."""
    namespace, bucket = custom_disk
    source = MODELS.ImageSourceViaObjectStorageTupleDetails(
        source_image_type="QCOW2", namespace_name=namespace, bucket_name=bucket, object_name="disk",
        operating_system="Tiny Linux", operating_system_version="12")
    image = region.compute.create_image(MODELS.CreateImageDetails(
        compartment_id=region.tenancy, display_name="tf images", image_source_details=source)).data.id
    wait_until(lambda: region.compute.get_image(image).data.lifecycle_state == "AVAILABLE", "it is imported")
    yield image
    region.compute.delete_image(image)


@pytest.fixture(scope="module")
def instance(region):
    """A running instance of a shape whose size can change."""
    details = region.launch_details(
        "tf-images", shape=FLEXIBLE,
        shape_config=MODELS.LaunchInstanceShapeConfigDetails(ocpus=1, memory_in_gbs=1))
    instance = region.compute.launch_instance(details).data.id
    wait_until(lambda: region.state(instance) == "RUNNING", "it runs", seconds=300)
    yield instance
    region.terminate(region.compute.get_instance(instance).data)


def test_shape_management_adds_a_shape_finds_it_on_the_first_page_and_removes_it(region, provider, image):
    """`oci_core_shape_management`."""
    path = f"images/{image}/shapes/BM.Standard2.52"
    added = provider.ask("PUT", path)
    assert added.status_code == 200, added.text

    def shown():
        """The provider reads one page, and takes a shape that is not on it for removed."""
        page = provider.get("shapes", compartmentId=region.tenancy, imageId=image)
        return "BM.Standard2.52" in [one["shape"] for one in page]
    assert shown()
    assert provider.ask("DELETE", path).status_code == 204
    assert not shown()


def test_a_capability_schema_comes_back_key_by_key_and_changes_in_place(region, provider, image):
    """`oci_core_compute_image_capability_schema`: `schema_data` is compared as JSON texts."""
    version = provider.get(GLOBAL)[0]["currentVersionName"]
    data = {
        "Compute.Firmware": {"descriptorType": "enumstring", "source": "IMAGE", "defaultValue": "UEFI_64",
                             "values": ["UEFI_64"]},
        "Storage.ConsistentVolumeNaming": {"descriptorType": "boolean", "source": "IMAGE", "defaultValue": True},
    }
    sent = {"compartmentId": region.tenancy, "computeGlobalImageCapabilitySchemaVersionName": version,
            "imageId": image, "displayName": "tf", "schemaData": data,
            "freeformTags": {"made": "by terraform"}, "definedTags": {}}
    made = provider.ask("POST", SCHEMAS, sent)
    assert made.status_code == 200, made.text
    path = f"{SCHEMAS}/{made.json()['id']}"
    read = provider.get(path)
    assert differences(sent, read) == {}
    assert provider.get(path) == read and without_nulls(read["schemaData"]) == data

    merged = provider.get(path, isMergeEnabled="true")["schemaData"]
    assert merged.keys() > data.keys() and merged["Compute.Firmware"]["source"] == "IMAGE"
    listed = provider.all(SCHEMAS, compartmentId=region.tenancy, imageId=image)
    assert [one["id"] for one in listed] == [made.json()["id"]]

    changed = {"displayName": "tf renamed", "freeformTags": {}, "definedTags": {},
               "schemaData": {"Compute.Firmware": data["Compute.Firmware"]}}
    answer = provider.ask("PUT", path, changed)
    assert answer.status_code == 200, answer.text
    read = provider.get(path)
    assert differences({**sent, **changed}, read) == {}
    assert without_nulls(read["schemaData"]) == changed["schemaData"]
    assert provider.ask("DELETE", path).status_code == 204
    assert provider.ask("GET", path).status_code == 404


def without_nulls(data):
    """The provider writes down what is set."""
    return {name: {key: value for key, value in one.items() if value is not None} for name, one in data.items()}


@pytest.mark.parametrize("change", [
    {"shapeConfig": {"ocpus": 1, "memoryInGBs": 2}},
    {"shape": SHAPE},
    {"launchOptions": {"bootVolumeType": "NVME"}},
    {"faultDomain": "FAULT-DOMAIN-1"},
], ids=lambda change: next(iter(change)))
def test_a_change_of_an_instance_is_followed_by_its_work_request(provider, instance, change):
    """The provider panics when the header is missing, and fails when no instance was UPDATED."""
    answer = provider.ask("PUT", f"instances/{instance}", change)
    assert answer.status_code == 200, answer.text
    assert provider.follow(answer, "instance", "UPDATED") == instance
    read = provider.await_state(f"instances/{instance}", ("STOPPING", "STOPPED", "STARTING", "UPDATING"), "RUNNING")
    if "shape" not in change:
        assert differences(change, read) == {}
    assert read["shape"] == change.get("shape", read["shape"])


@dataclasses.dataclass
class DataSource:
    """A data source: what it asks, with words in braces, and what must be among the answers."""
    name: str
    path: str
    query: dict = dataclasses.field(default_factory=dict)
    holds: dict = dataclasses.field(default_factory=dict)

    @property
    def is_list(self):
        return self.name.endswith("s") and not self.path.endswith("}")


IN = {"compartmentId": "{compartment}"}
HERE = {**IN, "availabilityDomain": "{domain}"}
OF = {**IN, "instanceId": "{instance}"}
SOURCES = [
    DataSource("oci_core_images", "images", {
        **IN, "displayName": "tf images", "operatingSystem": "Tiny Linux", "operatingSystemVersion": "12",
        "shape": INTEL, "lifecycleState": "AVAILABLE", "sortBy": "TIMECREATED", "sortOrder": "DESC",
    }, {"id": "{image}"}),
    DataSource("oci_core_image", "images/{image}", holds={"displayName": "tf images"}),
    DataSource("oci_core_image_shapes", "images/{image}/shapes", holds={"shape": INTEL}),
    DataSource("oci_core_image_shape", "images/{image}/shapes/" + INTEL, holds={"imageId": "{image}"}),
    DataSource("oci_core_shapes", "shapes", {**HERE, "imageId": "{image}"}, {"shape": INTEL}),
    DataSource("oci_core_compute_global_image_capability_schemas", GLOBAL, holds={"id": "{global}"}),
    DataSource("oci_core_compute_global_image_capability_schema", GLOBAL + "/{global}",
               holds={"currentVersionName": "{version}"}),
    DataSource("oci_core_compute_global_image_capability_schemas_versions", GLOBAL + "/{global}/versions",
               holds={"name": "{version}"}),
    DataSource("oci_core_compute_global_image_capability_schemas_version", GLOBAL + "/{global}/versions/{version}",
               holds={"computeGlobalImageCapabilitySchemaId": "{global}"}),
    DataSource("oci_core_compute_image_capability_schemas", SCHEMAS, {**IN, "imageId": "{image}"}),
    DataSource("oci_core_instances", "instances", {**HERE, "displayName": "tf-images", "lifecycleState": "RUNNING"},
               {"id": "{instance}"}),
    DataSource("oci_core_instance", "instances/{instance}", holds={"imageId": "{tiny}"}),
    DataSource("oci_core_instance_devices", "instances/{instance}/devices"),
    DataSource("oci_core_vnic_attachments", "vnicAttachments", {**HERE, **OF}, {"vnicId": "{vnic}"}),
    DataSource("oci_core_vnic", "vnics/{vnic}", holds={"subnetId": "{subnet}"}),
    DataSource("oci_core_private_ips", "privateIps", {"vnicId": "{vnic}"}, {"vnicId": "{vnic}"}),
    DataSource("oci_core_public_ips", "publicIps",
               {**HERE, "scope": "AVAILABILITY_DOMAIN", "lifetime": "EPHEMERAL"}, {"assignedEntityType": "PRIVATE_IP"}),
    DataSource("oci_core_boot_volume_attachments", "bootVolumeAttachments", {**HERE, **OF},
               {"bootVolumeId": "{volume}"}),
    DataSource("oci_core_boot_volumes", "bootVolumes", HERE, {"id": "{volume}"}),
    DataSource("oci_core_boot_volume", "bootVolumes/{volume}", holds={"imageId": "{tiny}"}),
    DataSource("oci_core_console_histories", "instanceConsoleHistories", OF),
    DataSource("oci_core_instance_console_connections", "instanceConsoleConnections", OF),
    DataSource("oci_core_app_catalog_listings", "appCatalogListings"),
    DataSource("oci_core_app_catalog_subscriptions", "appCatalogSubscriptions", IN),
    DataSource("oci_core_vcns", "vcns", IN, {"id": "{vcn}"}),
    DataSource("oci_core_subnets", "subnets", {**IN, "vcnId": "{vcn}", "lifecycleState": "AVAILABLE"},
               {"id": "{subnet}"}),
    DataSource("oci_core_internet_gateways", "internetGateways", {**IN, "vcnId": "{vcn}"}),
    DataSource("oci_core_route_tables", "routeTables", {**IN, "vcnId": "{vcn}"}, {"vcnId": "{vcn}"}),
    DataSource("oci_core_security_lists", "securityLists", {**IN, "vcnId": "{vcn}"}, {"vcnId": "{vcn}"}),
    DataSource("oci_core_dhcp_options", "dhcps", {**IN, "vcnId": "{vcn}"}, {"vcnId": "{vcn}"}),
    DataSource("oci_core_network_security_groups", "networkSecurityGroups", {**IN, "vcnId": "{vcn}"}),
    DataSource("oci_identity_availability_domains", "availabilityDomains", IN, {"name": "{domain}"}),
    DataSource("oci_identity_fault_domains", "faultDomains", HERE, {"name": "FAULT-DOMAIN-1"}),
    DataSource("oci_identity_compartments", "compartments", {**IN, "compartmentIdInSubtree": "true"}),
    DataSource("oci_identity_tenancy", "tenancies/{compartment}", holds={"id": "{compartment}"}),
    DataSource("oci_identity_regions", "regions", holds={"name": "home-1"}),
    DataSource("oci_identity_region_subscriptions", "tenancies/{compartment}/regionSubscriptions",
               holds={"isHomeRegion": True}),
    DataSource("oci_identity_tag_namespaces", "tagNamespaces", IN),
    DataSource("oci_core_work_requests", "workRequests", {**IN, "resourceId": "{instance}"}, {"status": "SUCCEEDED"}),
]


@pytest.fixture(scope="module")
def words(region, provider, image, instance):
    """What the words in braces stand for."""
    in_it = {"compartmentId": region.tenancy, "instanceId": instance}
    schema = provider.get(GLOBAL)[0]
    return {
        "compartment": region.tenancy, "domain": region.domain, "tiny": region.tiny, "subnet": region.subnet,
        "vcn": region.network.get_subnet(region.subnet).data.vcn_id, "image": image, "instance": instance,
        "global": schema["id"], "version": schema["currentVersionName"],
        "vnic": provider.get("vnicAttachments", **in_it)[0]["vnicId"],
        "volume": provider.get("bootVolumeAttachments", availabilityDomain=region.domain, **in_it)[0]["bootVolumeId"],
    }


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.name)
def test_a_data_source_reads_what_is_there(provider, words, source):
    path, query, holds = source.path.format(**words), filled(source.query, words), filled(source.holds, words)
    if source.is_list:
        found = provider.all(path, **query) if pages(source) else provider.get(path, **query)
    else:
        found = [provider.get(path, **query)]
    if holds:
        assert any(holds.items() <= one.items() for one in found), found


def pages(source):
    """These lists come whole."""
    return source.path not in ("availabilityDomains", "faultDomains", "regions") and "region_sub" not in source.name

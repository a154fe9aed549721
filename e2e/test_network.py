"""Networks with the official CLI: every resource that Terraform's and the CLI's users make around an instance."""

import json

import oci
import pytest

from guest import launch_by_cli
from region import Refused

ANYWHERE = "0.0.0.0/0"


@pytest.fixture(scope="module")
def vcn(region):
    made = region.oci(
        "network", "vcn", "create", "-c", region.tenancy, "--cidr-block", "10.9.0.0/16",
        "--display-name", "lab", "--dns-label", "lab", wait="AVAILABLE")
    yield made
    region.oci("network", "vcn", "delete", "--vcn-id", made["id"], "--force", wait="TERMINATED")
    for kind, key in DEFAULTS:
        with pytest.raises(Refused) as refused:
            region.oci("network", kind, "get", f"--{ID[kind]}", made[key])
        assert refused.value.status == 404


DEFAULTS = [
    ("route-table", "default-route-table-id"),
    ("security-list", "default-security-list-id"),
    ("dhcp-options", "default-dhcp-options-id"),
]
ID = {
    "route-table": "rt-id", "security-list": "security-list-id", "dhcp-options": "dhcp-id",
    "internet-gateway": "ig-id", "nsg": "nsg-id",
}


def create(region, kind, vcn, **more):
    options = [word for name, value in more.items()
               for word in (f"--{name.replace('_', '-')}", value)]
    return region.oci(
        "network", kind, "create", "-c", region.tenancy, "--vcn-id", vcn["id"], *options,
        wait="AVAILABLE")


def delete(region, kind, resource):
    region.oci("network", kind, "delete", f"--{ID[kind]}", resource["id"], "--force",
               wait="TERMINATED")


def update(region, kind, resource, *options):
    return region.oci(
        "network", kind, "update", f"--{ID[kind]}", resource["id"], "--force", *options,
        wait="AVAILABLE")


def test_a_vcn_comes_with_defaults_that_are_changed_but_not_deleted(region, vcn):
    for kind, key in DEFAULTS:
        default = region.oci("network", kind, "get", f"--{ID[kind]}", vcn[key])
        assert default["display-name"].startswith("Default ")
        assert default["display-name"].endswith(" for lab")
        listed = region.oci("network", kind, "list", "-c", region.tenancy, "--vcn-id", vcn["id"])
        assert default["id"] in [one["id"] for one in listed]
        with pytest.raises(Refused) as refused:
            delete(region, kind, default)
        assert (refused.value.status, refused.value.code) == (409, "Conflict")
        tagged = update(region, kind, default, "--freeform-tags", '{"made": "here"}')
        assert tagged["freeform-tags"] == {"made": "here"}
    lists = region.oci("network", "security-list", "get", "--security-list-id",
                       vcn["default-security-list-id"])
    ingress = lists["ingress-security-rules"][0]
    assert ingress["protocol"] == "6"
    assert ingress["tcp-options"]["destination-port-range"] == {"max": 22, "min": 22}


def test_a_route_table_holds_its_gateway_and_a_subnet_its_route_table(region, vcn):
    gateway = create(region, "internet-gateway", vcn, is_enabled="true", display_name="out")
    rules = json.dumps([{"destination": ANYWHERE, "networkEntityId": gateway["id"]}])
    table = create(region, "route-table", vcn, route_rules=rules, display_name="public")
    rule = table["route-rules"][0]
    assert (rule["destination"], rule["destination-type"]) == (ANYWHERE, "CIDR_BLOCK")
    rules = json.dumps([{"protocol": "all", "destination": ANYWHERE}])
    lists = create(region, "security-list", vcn, egress_security_rules=rules,
                   ingress_security_rules="[]")
    options = json.dumps([
        {"type": "DomainNameServer", "serverType": "CustomDnsServer",
         "customDnsServers": ["192.0.2.1"]},
        {"type": "SearchDomain", "searchDomainNames": ["example.internal"]}])
    dhcp = create(region, "dhcp-options", vcn, options=options)
    assert dhcp["options"][0]["custom-dns-servers"] == ["192.0.2.1"]
    subnet = region.oci(
        "network", "subnet", "create", "-c", region.tenancy, "--vcn-id", vcn["id"],
        "--cidr-block", "10.9.1.0/24", "--route-table-id", table["id"], "--dhcp-options-id",
        dhcp["id"], "--security-list-ids", json.dumps([lists["id"]]), wait="AVAILABLE")
    assert subnet["route-table-id"] == table["id"]

    used = [("route-table", table, "Subnet"), ("security-list", lists, "Subnet"),
            ("dhcp-options", dhcp, "Subnet"), ("internet-gateway", gateway, "Route Table")]
    for kind, resource, user in used:
        with pytest.raises(Refused) as refused:
            delete(region, kind, resource)
        assert (refused.value.status, refused.value.code) == (409, "Conflict")
        assert f" {resource['id']} references the {user} ocid1." in refused.value.message
        assert refused.value.message.endswith(
            "You must remove the reference to proceed with this operation.")

    changed = region.oci(
        "network", "subnet", "update", "--subnet-id", subnet["id"], "--route-table-id",
        vcn["default-route-table-id"], "--dhcp-options-id", vcn["default-dhcp-options-id"],
        "--security-list-ids", json.dumps([vcn["default-security-list-id"]]), "--display-name",
        "renamed", "--force", wait="AVAILABLE")
    assert changed["display-name"] == "renamed"
    assert changed["route-table-id"] == vcn["default-route-table-id"]
    with pytest.raises(Refused) as refused:
        region.oci("network", "vcn", "delete", "--vcn-id", vcn["id"], "--force")
    assert f"references the Subnet {subnet['id']}." in refused.value.message
    for kind, resource, _ in used:
        delete(region, kind, resource)
    region.oci("network", "subnet", "delete", "--subnet-id", subnet["id"], "--force",
               wait="TERMINATED")


def test_a_part_is_used_as_what_it_is(region, vcn):
    """A subnet whose route table is no route table would be open, or closed, by nobody's will."""
    table, rules = vcn["default-route-table-id"], vcn["default-security-list-id"]
    subnet = region.oci("network", "subnet", "create", "-c", region.tenancy, "--vcn-id", vcn["id"],
                        "--cidr-block", "10.9.77.0/24", wait="AVAILABLE")
    for option, value in [("--route-table-id", rules), ("--route-table-id", vcn["id"]),
                          ("--security-list-ids", json.dumps([table])), ("--dhcp-options-id", table)]:
        with pytest.raises(Refused) as refused:
            region.oci("network", "subnet", "update", "--subnet-id", subnet["id"], option, value, "--force")
        assert refused.value.status == 404
    leading = [{"networkEntityId": table, "destination": ANYWHERE}]
    with pytest.raises(Refused) as refused:
        create(region, "route-table", vcn, route_rules=json.dumps(leading))
    assert "Internet Gateway" in refused.value.message
    region.oci("network", "subnet", "delete", "--subnet-id", subnet["id"], "--force", wait="TERMINATED")


def test_a_rule_that_makes_no_sense_is_refused_by_its_field(region, vcn):
    elsewhere = "ocid1.internetgateway.oc99.home-1.none"
    for kind, options, status, words in [
        ("route-table", {"route_rules": json.dumps(
            [{"destination": ANYWHERE, "networkEntityId": elsewhere}])}, 404,
         f"Either Internet Gateway with ID {elsewhere} does not exist"),
        ("route-table", {"route_rules": json.dumps(
            [{"destination": "10.0.0.1/8", "networkEntityId": elsewhere}])}, 400,
         "routeRules[0].destination must be a block"),
        ("security-list", {"egress_security_rules": "[]", "ingress_security_rules": json.dumps(
            [{"protocol": "tcp", "source": ANYWHERE}])}, 400,
         "ingressSecurityRules[0].protocol must be all or a number"),
        ("dhcp-options", {"options": "[]"}, 400, "options must have one DomainNameServer"),
    ]:
        with pytest.raises(Refused) as refused:
            create(region, kind, vcn, **options)
        assert refused.value.status == status
        assert refused.value.message.startswith(words)


def test_etags_guard_what_is_changed(region, vcn):
    network = region.network
    got = network.get_vcn(vcn["id"])
    details = oci.core.models.UpdateVcnDetails(display_name="lab")
    first = network.update_vcn(vcn["id"], details, if_match=got.headers["etag"])
    assert "opc-work-request-id" not in first.headers, "Terraform would wait for it"
    with pytest.raises(oci.exceptions.ServiceError) as stale:
        network.update_vcn(vcn["id"], details, if_match=got.headers["etag"])
    assert (stale.value.status, stale.value.code) == (412, "NoEtagMatch")
    resolver = network.get_vcn_dns_resolver_association(vcn["id"]).data
    assert (resolver.vcn_id, resolver.lifecycle_state) == (vcn["id"], "AVAILABLE")


def test_a_second_card_comes_and_goes_while_the_instance_is_stopped(region):
    shape = ("--shape", "VM.Standard.E4.Flex", "--shape-config", '{"ocpus": 1, "memoryInGBs": 1}')
    guest = launch_by_cli(region, "two-cards", *shape)
    attach = ("--no-retry", "compute", "instance", "attach-vnic", "--instance-id", guest.id, "--subnet-id", region.subnet,
              "--vnic-display-name", "second", "--assign-public-ip", "false", "--wait")
    with pytest.raises(Refused) as refused:
        region.oci(*attach)
    assert (refused.value.code, "RUNNING" in refused.value.message) == ("IncorrectState", True)

    power(region, guest, "SOFTSTOP", "STOPPED")
    second = region.oci(*attach)
    assert (second["display-name"], second["is-primary"], second["public-ip"]) == ("second", False, None)
    with pytest.raises(Refused) as refused:
        region.oci(*attach)
    assert refused.value.code == "LimitExceeded"
    power(region, guest, "START", "RUNNING")
    guest.reachable()
    assert guest.ssh("cat /sys/class/net/eth1/address") == second["mac-address"].lower()
    cards = guest.metadata_vnics()
    assert [one["vnicId"] for one in cards][1:] == [second["id"]]
    assert cards[1]["privateIp"] == second["private-ip"]
    shown = region.oci("compute", "instance", "list-vnics", "--instance-id", guest.id)
    assert sorted(one["is-primary"] for one in shown) == [False, True]

    power(region, guest, "SOFTSTOP", "STOPPED")
    region.oci("compute", "instance", "detach-vnic", "-c", region.tenancy, "--vnic-id", second["id"], "--force")
    primary = next(one for one in shown if one["is-primary"])
    with pytest.raises(Refused) as refused:
        region.oci("compute", "instance", "detach-vnic", "-c", region.tenancy, "--vnic-id", primary["id"], "--force")
    assert "primary" in refused.value.message
    power(region, guest, "START", "RUNNING")
    assert guest.reachable().try_ssh("test -e /sys/class/net/eth1").returncode != 0
    region.terminate(guest.instance)


def power(region, guest, action, state):
    region.oci("compute", "instance", "action", "--instance-id", guest.id, "--action", action, wait=state)


def test_a_vnic_joins_groups_and_is_renamed(region):
    default = region.oci("network", "subnet", "get", "--subnet-id", region.subnet)
    vcn = {"id": default["vcn-id"]}
    first, second = (create(region, "nsg", vcn, display_name=name) for name in ("web", "db"))
    details = region.launch_details("grouped")
    details.create_vnic_details.nsg_ids = [first["id"]]
    instance = region.compute.launch_instance(details).data
    [attachment] = region.oci("compute", "vnic-attachment", "list", "-c", region.tenancy,
                              "--instance-id", instance.id)
    assert region.oci("compute", "vnic-attachment", "get", "--vnic-attachment-id", attachment["id"]) == attachment
    vnic = attachment["vnic-id"]
    members = region.oci("network", "nsg", "vnics", "list", "--nsg-id", first["id"])
    assert [(one["vnic-id"], one["resource-id"]) for one in members] == [(vnic, instance.id)]
    with pytest.raises(Refused) as refused:
        delete(region, "nsg", first)
    assert f"references the VNIC {vnic}." in refused.value.message

    changed = region.oci(
        "network", "vnic", "update", "--vnic-id", vnic, "--nsg-ids", json.dumps([second["id"]]),
        "--hostname-label", "other", "--display-name", "card", "--skip-source-dest-check", "true",
        "--force")
    assert (changed["nsg-ids"], changed["hostname-label"]) == ([second["id"]], "other")
    assert changed["skip-source-dest-check"] is True
    delete(region, "nsg", first)

    [private] = region.oci("network", "private-ip", "list", "--vnic-id", vnic)
    assert private["hostname-label"] == "other"
    private = region.oci("network", "private-ip", "update", "--private-ip-id", private["id"],
                         "--display-name", "inside", "--hostname-label", "third", "--force")
    assert (private["display-name"], private["hostname-label"]) == ("inside", "third")
    public = region.oci("network", "public-ip", "get", "--public-ip-address", changed["public-ip"])
    assert public["private-ip-id"] == private["id"]
    public = region.oci("network", "public-ip", "update", "--public-ip-id", public["id"],
                        "--display-name", "outside", "--freeform-tags", '{"a": "b"}', "--force")
    assert (public["display-name"], public["freeform-tags"]) == ("outside", {"a": "b"})
    assert region.oci("network", "public-ip", "get", "--public-ip-id", public["id"]) == public
    assert region.oci("network", "private-ip", "get", "--private-ip-id", private["id"]) == private
    assert region.network.list_ipv6s(vnic_id=vnic).data == []
    with pytest.raises(Refused) as refused:
        region.oci("network", "subnet", "delete", "--subnet-id", region.subnet, "--force")
    assert f"The Subnet {region.subnet} references the VNIC {vnic}." in refused.value.message
    region.terminate(region.compute.get_instance(instance.id).data)
    delete(region, "nsg", second)

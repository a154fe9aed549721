"""Compartments with the official CLI: renamed, moved, deleted when they are empty, and recovered."""

import uuid

import oci
import pytest

from region import Refused

COMPARTMENT = ("iam", "compartment")


def create(region, parent=None, name=None):
    made = region.identity.create_compartment(oci.identity.models.CreateCompartmentDetails(
        compartment_id=parent or region.tenancy, description="for a test",
        name=name or f"team-{uuid.uuid4().hex[:8]}")).data
    return {"id": made.id, "name": made.name}


def get(region, compartment):
    return region.oci(*COMPARTMENT, "get", "-c", compartment["id"])


def delete(region, compartment):
    return region.oci(*COMPARTMENT, "delete", "-c", compartment["id"], "--force", wait="SUCCEEDED")


def refused(region, status, code, words, *command):
    with pytest.raises(Refused) as error:
        region.oci("--no-retry", *COMPARTMENT, *command)
    assert (error.value.status, error.value.code) == (status, code), error.value.stderr
    assert words in error.value.message


def test_is_renamed_described_and_tagged(region):
    team, other = create(region), create(region)
    name = team["name"] + ".renamed"
    changed = region.oci(*COMPARTMENT, "update", "-c", team["id"], "--name", name, "--description", "new",
                         "--freeform-tags", '{"cost": "42"}', "--force", wait="ACTIVE")
    assert (changed["name"], changed["description"]) == (name, "new")
    assert changed["freeform-tags"] == {"cost": "42"}
    refused(region, 409, "Conflict", "already exists",
            "update", "-c", team["id"], "--name", other["name"])
    refused(region, 400, "InvalidParameter", "can have only letters",
            "update", "-c", team["id"], "--name", "two words")
    refused(region, 409, "NoEtagMatch", "etag", "update", "-c", team["id"], "--name", "x", "--if-match", "0")
    refused(region, 400, "InvalidParameter", "root compartment",
            "update", "-c", region.tenancy, "--name", "x")
    # The name that it had is free again.
    create(region, name=team["name"])


def test_is_moved_with_what_is_below_it(region):
    team, target = create(region), create(region)
    child = create(region, team["id"])
    moved = region.oci(*COMPARTMENT, "move", "-c", team["id"], "--target-compartment-id", target["id"],
                       wait="SUCCEEDED")
    assert moved["status"] == "SUCCEEDED"
    [resource] = moved["resources"]
    assert (resource["entity-type"], resource["action-type"]) == ("compartment", "UPDATED")
    assert get(region, team)["compartment-id"] == target["id"]
    below = region.oci(*COMPARTMENT, "list", "-c", team["id"])
    assert [one["id"] for one in below] == [child["id"]]
    for into in (team, child):
        refused(region, 400, "InvalidParameter", "lies below it",
                "move", "-c", team["id"], "--target-compartment-id", into["id"])
    refused(region, 400, "InvalidParameter", "root compartment",
            "move", "-c", region.tenancy, "--target-compartment-id", team["id"])


def test_is_deleted_once_nothing_is_in_it_and_comes_back(region):
    team = create(region)
    vcn = region.network.create_vcn(oci.core.models.CreateVcnDetails(
        compartment_id=team["id"], cidr_block="10.9.0.0/16")).data
    parts = region.network.list_route_tables(team["id"], vcn_id=vcn.id).data
    assert parts
    refused(region, 409, "Conflict", "something in it", "delete", "-c", team["id"], "--force")
    region.network.delete_vcn(vcn.id)
    ended = delete(region, team)
    assert ended["operation-type"] == "DELETE_COMPARTMENT" and ended["percent-complete"] == 100
    [resource] = ended["resources"]
    assert resource["identifier"] == team["id"] and resource["action-type"] == "DELETED"
    listed = region.oci("iam", "work-request", "list", "-c", region.tenancy, "--resource-identifier", team["id"])
    assert [one["id"] for one in listed] == [ended["id"]]

    deleted = get(region, team)
    assert deleted["lifecycle-state"] == "DELETED"
    assert deleted["name"].startswith(team["name"] + ".")
    with pytest.raises(oci.exceptions.ServiceError) as error:
        region.network.create_vcn(oci.core.models.CreateVcnDetails(
            compartment_id=team["id"], cidr_block="10.9.0.0/16"))
    assert error.value.status == 404
    refused(region, 409, "IncorrectState", "is DELETED", "update", "-c", team["id"], "--name", "x")

    create(region, name=team["name"])
    recovered = region.oci(*COMPARTMENT, "recover", "-c", team["id"], wait="ACTIVE")
    assert (recovered["lifecycle-state"], recovered["name"]) == ("ACTIVE", deleted["name"])
    refused(region, 409, "IncorrectState", "is ACTIVE", "recover", "-c", team["id"])
    delete(region, team)


def test_a_deleted_parent_is_recovered_before_its_child(region):
    team = create(region)
    child = create(region, team["id"])
    refused(region, 409, "Conflict", child["id"], "delete", "-c", team["id"], "--force")
    delete(region, child)
    delete(region, team)
    refused(region, 409, "IncorrectState", "recover that first", "recover", "-c", child["id"])
    region.oci(*COMPARTMENT, "recover", "-c", team["id"], wait="ACTIVE")
    region.oci(*COMPARTMENT, "recover", "-c", child["id"], wait="ACTIVE")

"""Defined tags with the official CLI: namespaces, keys, what they allow, and what new resources get."""

import json

import oci
import pytest

from region import Refused, wait_until


@pytest.fixture(scope="module")
def namespace(region):
    made = region.oci("iam", "tag-namespace", "create", "-c", region.tenancy, "--name",
                      "Operations", "--description", "who pays", wait="ACTIVE")
    assert made["id"].startswith("ocid1.tagnamespace.")
    return made


@pytest.fixture(scope="module")
def keys(region, namespace):
    free = region.oci("iam", "tag", "create", "--tag-namespace-id", namespace["id"], "--name",
                      "CostCenter", "--description", "any")
    stages = {"validatorType": "ENUM", "values": ["lab", "live"]}
    stage = region.oci("iam", "tag", "create", "--tag-namespace-id", namespace["id"], "--name",
                       "Stage", "--description", "one of two", "--validator", json.dumps(stages))
    assert stage["validator"] == {"validator-type": "ENUM", "values": ["lab", "live"]}
    return {"CostCenter": free, "Stage": stage}


def vcn(region, **tags):
    return region.network.create_vcn(oci.core.models.CreateVcnDetails(
        compartment_id=region.tenancy, cidr_block="10.8.0.0/16", **tags),
        retry_strategy=oci.retry.NoneRetryStrategy()).data


def refused(region, status, words, **tags):
    with pytest.raises(oci.exceptions.ServiceError) as error:
        vcn(region, **tags)
    assert error.value.status == status
    assert words in error.value.message


def test_a_tag_needs_a_namespace_a_key_and_a_value_that_are_allowed(region, keys):
    refused(region, 400, "not authorized or not found: 'Nowhere'",
            defined_tags={"Nowhere": {"CostCenter": "1"}})
    refused(region, 400, "not authorized or not found: 'Operations.Nothing'",
            defined_tags={"Operations": {"Nothing": "1"}})
    refused(region, 400, 'must be one of lab, live',
            defined_tags={"Operations": {"Stage": "lost"}})
    refused(region, 400, "the limit is 10", freeform_tags={str(n): "" for n in range(11)})
    refused(region, 400, "the limit is 256", freeform_tags={"a": "b" * 257})
    refused(region, 400, "the limit is 256",
            defined_tags={"Operations": {"CostCenter": "b" * 257}})
    tags = {"operations": {"stage": "lab", "costcenter": "7"}}
    made = vcn(region, defined_tags=tags)
    assert made.defined_tags == tags, "names are told apart without their case"
    update = oci.core.models.UpdateVcnDetails
    changed = region.network.update_vcn(
        made.id, update(defined_tags={"Operations": {"Stage": "live"}})).data
    assert changed.defined_tags == {"Operations": {"Stage": "live"}}, "the whole map is replaced"
    changed = region.network.update_vcn(made.id, update(display_name="kept")).data
    assert changed.defined_tags == {"Operations": {"Stage": "live"}}
    region.network.delete_vcn(made.id)


def test_new_resources_get_the_defaults_of_their_compartment(region, keys):
    inner = region.oci("iam", "compartment", "create", "-c", region.tenancy, "--name", "inner",
                       "--description", "below", wait="ACTIVE")
    default = region.oci("iam", "tag-default", "create", "-c", region.tenancy,
                         "--tag-definition-id", keys["CostCenter"]["id"], "--value",
                         "made ${oci.datetime}")
    made = region.network.create_vcn(oci.core.models.CreateVcnDetails(
        compartment_id=inner["id"], cidr_block="10.8.0.0/16")).data
    assert made.defined_tags["Operations"]["CostCenter"].startswith("made 20")
    region.network.delete_vcn(made.id)
    region.oci("iam", "tag-default", "update", "--tag-default-id", default["id"], "--value", "",
               "--is-required", "true")
    refused(region, 400, "Operations.CostCenter is required")
    given = vcn(region, defined_tags={"Operations": {"CostCenter": "9"}})
    assert given.defined_tags == {"Operations": {"CostCenter": "9"}}
    region.network.delete_vcn(given.id)
    [listed] = region.oci("iam", "tag-default", "list", "-c", region.tenancy)
    assert listed["tag-definition-name"] == "CostCenter"
    read = region.oci("iam", "tag-default", "get", "--tag-default-id", default["id"])
    assert (read["value"], read["is-required"]) == ("", True)
    region.oci("iam", "tag-default", "delete", "--tag-default-id", default["id"], "--force")
    plain = vcn(region)
    assert plain.defined_tags == {}
    region.network.delete_vcn(plain.id)


def test_a_key_is_retired_taken_back_and_deleted_from_whatever_has_it(region, namespace, keys):
    tagged = vcn(region, defined_tags={"Operations": {"Stage": "lab", "CostCenter": "1"}})
    of = ("--tag-namespace-id", namespace["id"], "--tag-name", "Stage")
    with pytest.raises(Refused) as error:
        region.oci("iam", "tag", "delete", *of, "--force")
    assert (error.value.status, error.value.code) == (409, "Conflict")
    assert region.oci("iam", "tag", "get", *of)["validator"]["values"] == ["lab", "live"]
    retired = region.oci("iam", "tag", "retire", *of)
    assert (retired["is-retired"], retired["lifecycle-state"]) == (True, "INACTIVE")
    refused(region, 400, "Operations.Stage is retired",
            defined_tags={"Operations": {"Stage": "lab"}})
    kept = region.network.update_vcn(tagged.id, oci.core.models.UpdateVcnDetails(
        defined_tags=tagged.defined_tags)).data
    assert kept.defined_tags == tagged.defined_tags, "what was tagged may stay so"
    assert region.oci("iam", "tag", "reactivate", *of)["lifecycle-state"] == "ACTIVE"
    region.oci("iam", "tag", "retire", *of)
    region.oci("iam", "tag", "delete", *of, "--force")
    names = lambda: [one["name"] for one in region.oci(
        "iam", "tag", "list", "--tag-namespace-id", namespace["id"], "--all")]
    wait_until(lambda: names() == ["CostCenter"], "the key is gone")
    left = region.network.get_vcn(tagged.id).data
    assert left.defined_tags == {"Operations": {"CostCenter": "1"}}
    region.network.delete_vcn(tagged.id)


def test_a_namespace_goes_when_it_is_retired_and_empty(region):
    made = region.oci("iam", "tag-namespace", "create", "-c", region.tenancy, "--name", "brief",
                      "--description", "soon gone")
    of = ("--tag-namespace-id", made["id"])
    with pytest.raises(Refused) as error:
        region.oci("iam", "tag-namespace", "create", "-c", region.tenancy, "--name", "BRIEF",
                   "--description", "again")
    assert error.value.status == 409
    for words in (["delete", "--force"], ["retire"]):
        command = ("iam", "tag-namespace", words[0], *of, *words[1:])
        if words[0] == "delete":
            with pytest.raises(Refused) as error:
                region.oci(*command)
            assert "retire it first" in error.value.message
        else:
            assert region.oci(*command)["lifecycle-state"] == "INACTIVE"
    region.oci("iam", "tag-namespace", "delete", *of, "--force")
    listed = region.oci("iam", "tag-namespace", "list", "-c", region.tenancy)
    assert "brief" not in [one["name"] for one in listed]

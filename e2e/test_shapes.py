"""Shapes, and which of them an image can be launched with, by the unmodified CLI and SDK."""

import oci
import pytest

from guest import Guest
from region import Refused, wait_until

MODELS = oci.core.models
FLEXIBLE = "VM.Standard.E4.Flex"
MICRO = "VM.Standard.E2.1.Micro"


@pytest.fixture(scope="module")
def custom(region):
    """A custom image, captured from an instance that is terminated before anything is tested."""
    instance = region.compute.launch_instance(region.launch_details("shapes-source")).data
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs", seconds=300)
    region.compute.instance_action(instance.id, "STOP")
    wait_until(lambda: region.state(instance.id) == "STOPPED", "the instance is stopped")
    image = region.compute.create_image(MODELS.CreateImageDetails(
        compartment_id=region.tenancy, instance_id=instance.id, display_name="shapes")).data
    oci.wait_until(region.compute, region.compute.get_image(image.id), "lifecycle_state", "AVAILABLE",
                   max_interval_seconds=1)
    yield image.id
    region.terminate(*region.instances())


def entry(*arguments):
    return ["compute", "image-shape-compatibility-entry", *arguments]


def refused(region, *arguments):
    with pytest.raises(Refused) as refusal:
        region.oci(*arguments)
    return refusal.value


def launch(region, image, shape, **config):
    size = MODELS.LaunchInstanceShapeConfigDetails(**config) if config else None
    details = region.launch_details("sized", image=image, shape=shape, shape_config=size)
    return region.compute.launch_instance(details, retry_strategy=oci.retry.NoneRetryStrategy()).data


def launch_refused(region, image, shape, **config):
    with pytest.raises(oci.exceptions.ServiceError) as refusal:
        launch(region, image, shape, **config)
    return refusal.value.status, refusal.value.code, refusal.value.message


def test_the_catalogue_has_every_generation_and_says_what_clients_choose_by(region):
    shapes = region.oci("compute", "shape", "list", "--compartment-id", region.tenancy, "--all")
    by_name = {shape["shape"]: shape for shape in shapes}
    assert len(by_name) == len(shapes) >= 60
    for name in ("VM.Standard1.1", "VM.Standard.B1.1", "VM.Standard2.24", "VM.Standard3.Flex", "VM.Standard.E6.Flex",
                 "VM.Standard.A1.Flex", "VM.Optimized3.Flex", "BM.Standard2.52", "VM.GPU3.1", "VM.DenseIO2.8"):
        assert by_name[name]["quota-names"], name
    flexible = by_name[FLEXIBLE]
    assert flexible["ocpu-options"] | {"max-per-numa-node": None} == {
        "min": 1.0, "max": 64.0, "max-per-numa-node": None}
    assert flexible["memory-options"]["max-in-g-bs"] == 1024.0
    assert "VM.Standard2.1" in flexible["resize-compatible-shapes"]
    one = region.oci("compute", "shape", "list", "--compartment-id", region.tenancy, "--shape", FLEXIBLE)
    assert one == [flexible]


def test_the_list_of_an_image_is_inherited_edited_and_read(region, custom):
    listed = region.oci(*entry("list", "--image-id", custom, "--all"))
    inherited = region.oci(*entry("list", "--image-id", region.tiny, "--all"))
    assert [one["shape"] for one in listed] == [one["shape"] for one in inherited]
    assert {one["image-id"] for one in listed} == {custom}

    bounds = ["--ocpu-constraints", '{"min": 1, "max": 2}', "--memory-constraints", '{"minInGBs": 1, "maxInGBs": 4}']
    added = region.oci(*entry("add", "--image-id", custom, "--shape-name", FLEXIBLE, *bounds, "--force"))
    assert added == {
        "image-id": custom, "shape": FLEXIBLE,
        "ocpu-constraints": {"min": 1, "max": 2}, "memory-constraints": {"min-in-gbs": 1, "max-in-gbs": 4},
    }
    assert region.oci(*entry("get", "--image-id", custom, "--shape-name", FLEXIBLE)) == added
    # A second time it replaces the bounds: here with none.
    again = region.compute.add_image_shape_compatibility_entry(custom, FLEXIBLE).data
    assert (again.ocpu_constraints, again.memory_constraints) == (None, None)
    assert len(region.oci(*entry("list", "--image-id", custom, "--all"))) == len(listed)

    region.oci(*entry("remove", "--image-id", custom, "--shape-name", "VM.Standard1.1", "--force"))
    assert refused(region, *entry("get", "--image-id", custom, "--shape-name", "VM.Standard1.1")).status == 404
    pages = oci.pagination.list_call_get_all_results(
        region.compute.list_image_shape_compatibility_entries, custom, limit=7).data
    assert [one.shape for one in pages] == [
        one["shape"] for one in listed if one["shape"] != "VM.Standard1.1"]
    launchable = region.compute.list_shapes(region.tenancy, image_id=custom).data
    assert {one.shape for one in launchable} == {one.shape for one in pages}
    by_shape = region.compute.list_images(region.tenancy, shape="VM.Standard1.1").data
    assert custom not in [image.id for image in by_shape] and region.tiny in [image.id for image in by_shape]


def test_wrong_entries_are_refused_with_the_field_and_the_limit(region, custom):
    def add(shape, image=custom, **bounds):
        details = MODELS.AddImageShapeCompatibilityEntryDetails(**bounds)
        with pytest.raises(oci.exceptions.ServiceError) as refusal:
            region.compute.add_image_shape_compatibility_entry(
                image, shape, add_image_shape_compatibility_entry_details=details)
        return refusal.value

    ocpus, memory = MODELS.ImageOcpuConstraints, MODELS.ImageMemoryConstraints
    fixed = add("VM.Standard2.1", ocpu_constraints=ocpus(min=1))
    assert fixed.status == 400 and "ocpuConstraints can only be given for a flexible shape" in fixed.message
    crossed = add(FLEXIBLE, ocpu_constraints=ocpus(min=3, max=2))
    assert crossed.status == 400 and "minimum 3 above the maximum 2" in crossed.message
    beyond = add(FLEXIBLE, memory_constraints=memory(max_in_gbs=5000))
    assert beyond.status == 400 and "not between 1 and 1024" in beyond.message
    unknown = add("VM.Standard99.1")
    assert (unknown.status, unknown.message) == (404, "shape VM.Standard99.1 not found")
    assert add(FLEXIBLE, image=region.tiny).status == 404, "a platform image's list is nobody's to edit"
    part = entry("add", "--image-id", custom, "--shape-name", FLEXIBLE, "--ocpu-constraints", '{"min": 1.5}', "--force")
    assert refused(region, *part).status == 400
    remove = entry("remove", "--image-id", region.tiny, "--shape-name", FLEXIBLE, "--force")
    assert refused(region, *remove).status == 404


def test_a_launch_keeps_to_the_list_and_its_bounds(region, custom):
    compute = region.compute
    compute.remove_image_shape_compatibility_entry(custom, "VM.Standard1.2")
    assert launch_refused(region, custom, "VM.Standard1.2") == (
        400, "InvalidParameter", f"Shape VM.Standard1.2 is not valid for image {custom}.")
    compute.add_image_shape_compatibility_entry(
        custom, FLEXIBLE, add_image_shape_compatibility_entry_details=MODELS.AddImageShapeCompatibilityEntryDetails(
            ocpu_constraints=MODELS.ImageOcpuConstraints(min=1, max=1),
            memory_constraints=MODELS.ImageMemoryConstraints(min_in_gbs=1, max_in_gbs=2)))
    status, _, message = launch_refused(region, custom, FLEXIBLE, ocpus=2, memory_in_gbs=2)
    assert status == 400 and message.startswith("shapeConfig.ocpus 2 is not valid") and "at most 1" in message
    status, _, message = launch_refused(region, custom, FLEXIBLE, ocpus=1, memory_in_gbs=3)
    assert status == 400 and message.startswith("shapeConfig.memoryInGBs 3 is not valid")
    status, _, message = launch_refused(region, custom, FLEXIBLE)
    assert status == 400 and "Cannot launch flexible instance without ShapeConfig" in message

    instance = launch(region, custom, FLEXIBLE, ocpus=1, memory_in_gbs=1)
    assert (instance.shape_config.ocpus, instance.shape_config.memory_in_gbs, instance.shape_config.vcpus) == (1, 1, 2)
    guest = Guest(region, instance.id)
    wait_until(lambda: region.state(instance.id) == "RUNNING", "the instance runs", seconds=300)
    mebibytes = int(guest.reachable().ssh("awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"))
    assert 800 < mebibytes <= 1024


def test_what_this_host_cannot_run_is_out_of_host_capacity(region):
    full = (500, "InternalError", "Out of host capacity.")
    for shape in ("BM.Standard2.52", "VM.GPU3.1", "VM.DenseIO2.8"):
        assert launch_refused(region, region.tiny, shape) == full
    assert launch_refused(region, region.tiny, FLEXIBLE, ocpus=16, memory_in_gbs=1024) == full
    assert launch_refused(region, region.tiny, FLEXIBLE, ocpus=64, memory_in_gbs=64)[0] == 500
    # An Arm shape is not in the list of an image for other processors.
    assert launch_refused(region, region.tiny, "VM.Standard.A1.Flex", ocpus=1)[0] == 400

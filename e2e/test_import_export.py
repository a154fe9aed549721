"""Images that come from elsewhere and leave again, with the official CLI, our own, and QEMU's tools."""

import json
import re
import subprocess
import tarfile

import pytest

from guest import launch_by_cli
from images import add_schema
from region import Refused, Region, wait_until

# How each format is made of a raw disk, and how QEMU calls it.
MADE = {
    "qcow2": ("qcow2", ["-c"]),
    "vmdk": ("vmdk", ["-o", "subformat=streamOptimized"]),
    "vdi": ("vdi", []),
    "vhd": ("vpc", ["-o", "force_size=on"]),
    "vhdx": ("vhdx", []),
}
# Images that were imported are for Intel's shapes until somebody adds others.
INTEL = ["--shape", "VM.Standard3.Flex", "--shape-config", '{"ocpus": 1, "memoryInGBs": 1}']
EXPORTED = {"QCOW2": "qcow2", "VMDK": "vmdk", "VDI": "vdi", "VHD": "vpc"}
# Their other kinds, which only our own command has words for: how QEMU calls them, and what it says of them.
KINDS = {
    "qcow2-sparse": ("qcow2", '"compression-type": "zlib"'),
    "vmdk-sparse": ("vmdk", '"create-type": "monolithicSparse"'),
    "vhd-fixed": ("vpc", '"format": "vpc"'),
}


def qemu_img(*words):
    done = subprocess.run(["qemu-img", *map(str, words)], text=True, capture_output=True)
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
    return done.stdout


def same(first, first_format, second, second_format):
    qemu_img("compare", "-f", first_format, "-F", second_format, first, second)


def convert(raw, file, format, *options):
    qemu_img("convert", "-f", "raw", "-O", format, *options, raw, file)
    return file


@pytest.fixture(scope="module", autouse=True)
def leave_nothing(region):
    yield
    region.terminate(*region.instances())
    for image in region.images():
        if image.compartment_id and image.lifecycle_state != "DELETED":
            region.compute.delete_image(image.id)


@pytest.fixture(scope="module")
def namespace(region):
    return region.oci("os", "ns", "get")


@pytest.fixture(scope="module")
def bucket(region):
    return region.oci("os", "bucket", "create", "--name", "images", "-c", region.tenancy)["name"]


@pytest.fixture(scope="module")
def raw(region, tmp_path_factory):
    """A disk that boots: a customised instance's, captured and exported."""
    guest = launch_by_cli(region, "original")
    guest.write("/etc/golden-file", "carried by the file")
    captured = region.calotype("image", "create", guest.id, "--name", "original").strip()
    region.terminate(guest.instance)
    file = tmp_path_factory.mktemp("raw") / "original.raw"
    region.calotype("image", "export", captured, str(file))
    return file


def put(region, bucket, file, *more):
    region.oci("os", "object", "put", "--bucket-name", bucket, "--file", file, "--force", *more)
    return file.name


def place(namespace, bucket, name):
    return ["--namespace", namespace, "--bucket-name", bucket, "--name", name]


def begin_import(region, namespace, bucket, name, *more):
    image = region.oci(
        "compute", "image", "import", "from-object", "-c", region.tenancy,
        *place(namespace, bucket, name), "--display-name", name, *more)
    assert image["lifecycle-state"] == "IMPORTING"
    return image["id"]


def work_request(region, image, operation):
    requests_of = region.work_requests.list_work_requests(region.tenancy, resource_id=image).data
    one, = (found for found in requests_of if found.operation_type == operation)
    return one


def ended(region, image, operation):
    """The work request of an image's import or export, when it is over."""
    def over():
        request = work_request(region, image, operation)
        return request.status in ("SUCCEEDED", "FAILED") and request
    return wait_until(over, f"{operation} of {image} ends")


def imported(region, image):
    request = ended(region, image, "Import Image")
    assert request.status == "SUCCEEDED", why(region, request)
    image = region.compute.get_image(image).data
    assert image.lifecycle_state == "AVAILABLE"
    return image


def why(region, request):
    errors = region.work_requests.list_work_request_errors(request.id).data
    return "; ".join(error.message for error in errors)


def refused(region, image):
    """Why an import failed; the image is gone then."""
    request = ended(region, image, "Import Image")
    assert request.status == "FAILED"
    assert region.compute.get_image(image).data.lifecycle_state == "DELETED"
    return why(region, request)


def available_again(region, image):
    def available():
        return region.compute.get_image(image).data.lifecycle_state == "AVAILABLE"
    wait_until(available, f"{image} is AVAILABLE again")


def manifest(region, image, operation="Import Image"):
    """The digest of an image's whole disk."""
    request = work_request(region, image, operation)
    lines = [entry.message for entry in region.work_requests.list_work_request_logs(request.id).data]
    return re.search(r"\b[0-9a-f]{64}\b", "\n".join(lines)).group()


@pytest.fixture(scope="module")
def qcow2(region, namespace, bucket, raw, tmp_path_factory):
    """The image that was imported first."""
    file = convert(raw, tmp_path_factory.mktemp("q") / "tiny.qcow2", "qcow2", "-c")
    name = put(region, bucket, file)
    image = begin_import(region, namespace, bucket, name, "--source-image-type", "QCOW2")
    return imported(region, image)


def test_a_qcow2_becomes_an_image_with_the_usual_options(qcow2):
    assert (qcow2.operating_system, qcow2.operating_system_version) == ("Custom", "Custom")
    assert qcow2.base_image_id is None
    assert qcow2.launch_mode == "PARAVIRTUALIZED"
    assert qcow2.launch_options.firmware == "BIOS"
    assert qcow2.launch_options.network_type == "PARAVIRTUALIZED"


@pytest.mark.parametrize("format", MADE)
def test_every_format_is_the_same_disk(region, raw, qcow2, format, tmp_path):
    qemu_format, options = MADE[format]
    file = convert(raw, tmp_path / f"disk.{format}", qemu_format, *options)
    image = region.calotype("image", "import", str(file), "--name", format).strip()
    assert manifest(region, image) == manifest(region, qcow2.id)


@pytest.mark.parametrize("packer", ["gzip", "xz", "zstd"])
def test_a_compressed_file_is_unpacked_on_the_way(region, raw, qcow2, packer, tmp_path):
    ending = {"gzip": "gz", "xz": "xz", "zstd": "zst"}[packer]
    file = tmp_path / f"disk.raw.{ending}"
    with open(raw, "rb") as source, open(file, "wb") as target:
        subprocess.run([packer, "-1", "-c"], stdin=source, stdout=target, check=True)
    image = region.calotype("image", "import", str(file)).strip()
    assert manifest(region, image) == manifest(region, qcow2.id)


def test_a_raw_file_is_not_even_copied(region, raw, qcow2):
    image = region.calotype("image", "import", str(raw), "--name", "raw").strip()
    assert manifest(region, image) == manifest(region, qcow2.id)


@pytest.mark.parametrize("format", EXPORTED)
def test_an_exported_file_is_the_disk(region, namespace, bucket, raw, qcow2, format, tmp_path):
    name = f"exported.{format}"
    answered = region.oci(
        "compute", "image", "export", "to-object", "--image-id", qcow2.id,
        *place(namespace, bucket, name), "--export-format", format)
    assert answered["lifecycle-state"] == "EXPORTING"
    available_again(region, qcow2.id)
    file = tmp_path / name
    region.oci("os", "object", "get", "--bucket-name", bucket, "--name", name, "--file", file)
    same(raw, "raw", file, EXPORTED[format])
    if format == "QCOW2":
        qemu_img("check", "-f", "qcow2", file)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_a_format_is_the_same_disk(region, raw, qcow2, kind, tmp_path):
    format, said = KINDS[kind]
    file = tmp_path / kind
    region.calotype("image", "export", qcow2.id, str(file), "--format", kind)
    same(raw, "raw", file, format)
    assert said in qemu_img("info", "--output=json", "-f", format, file)
    if kind == "vhd-fixed":
        assert file.stat().st_size == raw.stat().st_size + 512
        assert file.stat().st_blocks * 512 < file.stat().st_size, "zeros take room"
    else:
        qemu_img("check", "-f", format, file)
    image = region.calotype("image", "import", str(file), "--name", kind).strip()
    assert manifest(region, image) == manifest(region, qcow2.id)


def test_an_archive_brings_back_everything(region, namespace, bucket, raw, tmp_path):
    file = convert(raw, tmp_path / "emulated.vmdk", "vmdk")
    name = put(region, bucket, file)
    first = begin_import(
        region, namespace, bucket, name, "--source-image-type", "VMDK", "--launch-mode", "EMULATED",
        "--operating-system", "Tiny", "--operating-system-version", "1")
    first = imported(region, first)
    add_schema(region, first.id)
    region.oci("compute", "image", "export", "to-object", "--image-id", first.id,
               *place(namespace, bucket, "emulated.oci"))
    available_again(region, first.id)
    archive = tmp_path / "emulated.oci"
    region.oci("os", "object", "get", "--bucket-name", bucket, "--name", "emulated.oci", "--file", archive)
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["image_metadata.json", "output.QCOW2"]
        metadata = json.load(tar.extractfile("image_metadata.json"))
    assert metadata["externalLaunchOptions"]["networkType"] == "E1000"
    second = imported(region, begin_import(region, namespace, bucket, "emulated.oci"))
    assert manifest(region, second.id) == manifest(region, first.id)
    assert second.launch_mode == first.launch_mode == "EMULATED"
    assert second.launch_options == first.launch_options
    assert (second.operating_system, second.operating_system_version) == ("Tiny", "1")
    assert schema(region, second.id) == schema(region, first.id) is not None
    assert shapes(region, second.id) == shapes(region, first.id)


def schema(region, image):
    """What the image's capability schema says, or None."""
    listed = region.oci("compute", "image-capability-schema", "list", "-c", region.tenancy, "--image-id", image)
    return listed[0]["schema-data"] if listed else None


def shapes(region, image):
    entries = region.oci("compute", "image-shape-compatibility-entry", "list", "--image-id", image, "--all")
    return sorted(one["shape"] for one in entries)


def preauthenticated(region, bucket, name, access, *more):
    made = region.oci(
        "os", "preauth-request", "create", "--bucket-name", bucket, "--name", name,
        "--access-type", access, "--time-expires", "2036-01-01T00:00:00Z", *more)
    return f"{region.url}{made['access-uri']}"


def test_urls_work_as_names_do(region, namespace, bucket, qcow2):
    plain = f"{region.own_url}/n/{namespace}/b/{bucket}/o/by-url.qcow2"
    region.oci("compute", "image", "export", "to-object-uri", "--image-id", qcow2.id,
               "--uri", plain, "--export-format", "QCOW2")
    available_again(region, qcow2.id)
    secret = preauthenticated(
        region, bucket, "for-imports", "ObjectRead", "--object-name", "by-url.qcow2")
    for uri in (plain, secret.replace(region.url, region.own_url)):
        image = region.oci(
            "compute", "image", "import", "from-object-uri", "-c", region.tenancy, "--uri", uri,
            "--source-image-type", "QCOW2")["id"]
        assert manifest(region, imported(region, image).id) == manifest(region, qcow2.id)


def test_a_url_that_is_good_for_writing_is_not_for_reading(region, bucket):
    secret = preauthenticated(
        region, bucket, "for-exports", "ObjectWrite", "--object-name", "by-url.qcow2")
    with pytest.raises(Refused) as error:
        region.oci("compute", "image", "import", "from-object-uri", "-c", region.tenancy,
                   "--uri", secret.replace(region.url, region.own_url), "--source-image-type", "QCOW2")
    assert error.value.status in (400, 404)


def test_an_image_comes_from_another_tenancy_by_its_pre_authenticated_request(
        region, namespace, bucket, qcow2):
    region.oci("compute", "image", "export", "to-object", "--image-id", qcow2.id,
               "--export-format", "QCOW2", *place(namespace, bucket, "for-others.qcow2"))
    available_again(region, qcow2.id)
    url = preauthenticated(
        region, bucket, "for-others", "ObjectRead", "--object-name", "for-others.qcow2")
    words = ["compute", "image", "import", "from-object-uri", "--source-image-type", "QCOW2",
             "--uri", url, "-c"]
    other = Region("--region", "elsewhere-1")
    try:
        other.start()
        with pytest.raises(Refused) as error:
            other.oci(*words, other.tenancy)
        assert "import_hosts" in error.value.message
        other.stop()
        other.set("import_hosts", f'["localhost:{region.port}"]\nimport_authorities = "{region.authority}"')
        other.start()
        image = imported(other, other.oci(*words, other.tenancy)["id"])
        assert manifest(other, image.id) == manifest(region, qcow2.id)
    finally:
        other.close()


def test_our_command_brings_files_in_and_out(region, raw, qcow2, tmp_path):
    file = tmp_path / "again.vdi"
    region.calotype("image", "export", qcow2.id, str(file))
    same(raw, "raw", file, "vdi")
    assert not list(tmp_path.glob("*.partial"))
    listed = region.oci("os", "object", "list", "--bucket-name", "calotype-transfer")
    assert listed == {"prefixes": []}, "the file on its way stays behind"


def test_an_imported_image_boots_and_its_export_does(region, qcow2, tmp_path):
    guest = launch_by_cli(region, "imported", *INTEL, image=qcow2.id)
    assert guest.ssh("cat /etc/golden-file") == "carried by the file"
    region.terminate(guest.instance)
    file = tmp_path / "boots.qcow2"
    region.calotype("image", "export", qcow2.id, str(file))
    shown = tmp_path / "console"
    command = ["qemu-system-x86_64", "-m", "256", "-display", "none", "-no-reboot", "-nic", "none",
               "-drive", f"file={file},format=qcow2,if=virtio", "-serial", f"file:{shown}"]
    with subprocess.Popen(command) as machine:
        try:
            wait_until(lambda: shown.exists() and b"tiny:" in shown.read_bytes(), "QEMU boots it")
        finally:
            machine.kill()


def test_what_a_guest_writes_is_never_taken_for_a_format(region, qcow2, tmp_path):
    trap = tmp_path / "trap.qcow2"
    qemu_img("create", "-f", "qcow2", "-u", "-b", "/etc/shadow", "-F", "raw", trap, "1M")
    header = trap.read_bytes()[:4096]
    guest = launch_by_cli(region, "trapper", *INTEL, image=qcow2.id)
    guest.write("/tmp/header", header.hex())
    guest.ssh("sudo sh -c 'xxd -r -p /tmp/header | dd of=/dev/vda bs=4096 count=1 conv=notrunc,fsync'")
    captured = region.calotype("image", "create", guest.id, "--name", "trap",
                               "--live=crash-consistent").strip()
    region.terminate(guest.instance)
    file = tmp_path / "trap-exported.qcow2"
    region.calotype("image", "export", captured, str(file))
    # Its own header names nothing; the disk inside begins with the guest's.
    assert "backing-filename" not in json.loads(
        qemu_img("info", "--output=json", "-f", "qcow2", file))
    back = tmp_path / "trap.raw"
    qemu_img("convert", "-f", "qcow2", "-O", "raw", file, back)
    with open(back, "rb") as disk:
        assert disk.read(4096) == header
    again = region.calotype("image", "import", str(file), "--format", "qcow2").strip()
    assert manifest(region, again) == manifest(region, captured, "Create Image")
    # As a raw file it would be one that QEMU takes for something else.
    with pytest.raises(AssertionError, match="RAW"):
        region.calotype("image", "import", str(back), "--format", "raw")


def hostile(tmp_path, words):
    file = tmp_path / "hostile.qcow2"
    qemu_img("create", "-f", "qcow2", *words[:-1], file, words[-1])
    return file


@pytest.mark.parametrize("words, reason", [
    (["-u", "-b", "/etc/shadow", "-F", "raw", "64M"], "backing file"),
    (["-o", "data_file=/tmp/elsewhere,data_file_raw=on", "64M"], "data file"),
    (["500G"], "at most"),
])
def test_a_hostile_file_is_refused_with_its_reason(
        region, namespace, bucket, tmp_path, words, reason):
    file = hostile(tmp_path, words)
    name = put(region, bucket, file)
    image = begin_import(region, namespace, bucket, name, "--source-image-type", "QCOW2")
    assert reason in refused(region, image)


def test_what_is_not_said_to_be_is_refused(region, namespace, bucket, tmp_path):
    file = hostile(tmp_path, ["64M"])
    name = put(region, bucket, file)
    image = begin_import(region, namespace, bucket, name, "--source-image-type", "VMDK")
    reason = refused(region, image)
    assert "VMDK" in reason and "QCOW2" in reason
    image = begin_import(region, namespace, bucket, name)
    assert "archive" in refused(region, image)


def test_a_file_that_is_not_there_is_told_in_the_words_of_oci(region, namespace, bucket, qcow2):
    with pytest.raises(Refused) as error:
        begin_import(region, namespace, bucket, "nothing", "--source-image-type", "QCOW2")
    assert (error.value.status, error.value.code) == (400, "InvalidParameter")
    assert "import image from does not exist" in error.value.message
    with pytest.raises(Refused) as error:
        region.oci("compute", "image", "export", "to-object", "--image-id", qcow2.id,
                   *place(namespace, "no-bucket", "x"))
    assert "export image does not exist" in error.value.message


def test_a_platform_image_cannot_be_exported(region, namespace, bucket):
    with pytest.raises(Refused) as error:
        region.oci("compute", "image", "export", "to-object", "--image-id", region.tiny,
                   *place(namespace, bucket, "x"))
    assert "platform image" in error.value.message

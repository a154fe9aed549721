"""Object storage with the official CLI and plain URLs."""

import base64
import concurrent.futures
import hashlib
import json
import os
import socket
import ssl
import subprocess
import urllib.parse

import oci
import pytest
import requests

from region import OCI, Refused, oci_cli, wait_until
from wire import Wire

MIB = 1 << 20


@pytest.fixture(scope="module")
def namespace(region):
    return region.oci("os", "ns", "get")


@pytest.fixture(scope="module")
def bucket(region):
    made = region.oci("os", "bucket", "create", "--name", "golden", "-c", region.tenancy)
    assert made["public-access-type"] == "NoPublicAccess"
    return made["name"]


@pytest.fixture(scope="module")
def storage(region):
    return region.client(oci.object_storage.ObjectStorageClient)


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """A file that takes several parts, most of it noise."""
    file = tmp_path_factory.mktemp("files") / "large.bin"
    with open(file, "wb") as out:
        out.write(os.urandom(40 * MIB + 12345))
        out.write(bytes(100 * MIB))
        out.write(b"the end")
    return file


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run(region, *arguments):
    """What the CLI prints, where it is not all below "data"."""
    command = list(map(str, arguments))
    done = oci_cli().run(command, region.clean_environment(), timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plain():
    session = requests.Session()
    session.trust_env = False
    return session


def test_a_namespace_is_told_without_a_question(region, namespace):
    assert namespace and namespace == region.oci("os", "ns", "get-metadata")["namespace"]


def test_buckets_are_listed_changed_and_unique(region, bucket):
    listed = region.oci("os", "bucket", "list", "-c", region.tenancy, "--all")
    assert bucket in [one["name"] for one in listed]
    changed = region.oci(
        "os", "bucket", "update", "--name", bucket, "--metadata", '{"a": "b"}')
    assert changed["metadata"] == {"a": "b"}
    got = region.oci("os", "bucket", "get", "--name", bucket)
    assert got["etag"] == changed["etag"]
    with pytest.raises(Refused) as refused:
        region.oci("os", "bucket", "create", "--name", bucket, "-c", region.tenancy)
    assert (refused.value.status, refused.value.code) == (409, "BucketAlreadyExists")
    with pytest.raises(Refused) as refused:
        region.oci("os", "object", "list", "-bn", "no-such-bucket")
    assert (refused.value.status, refused.value.code) == (404, "BucketNotFound")


def test_a_small_object_comes_back_with_what_it_says_about_itself(region, bucket, tmp_path):
    file = tmp_path / "small.txt"
    file.write_text("hello")
    put = json.loads(run(
        region, "os", "object", "put", "-bn", bucket, "--name", "deep/small.txt", "--file", file,
        "--content-type", "text/plain", "--metadata", '{"colour": "red"}', "--verify-checksum"))
    assert put["opc-content-md5"] == base64.b64encode(hashlib.md5(b"hello").digest()).decode()
    head = json.loads(run(region, "os", "object", "head", "-bn", bucket, "--name", "deep/small.txt"))
    assert head["content-length"] == "5"
    assert head["content-type"] == "text/plain"
    assert head["opc-meta-colour"] == "red"
    back = tmp_path / "back.txt"
    run(region, "os", "object", "get", "-bn", bucket, "--name", "deep/small.txt", "--file", back)
    assert back.read_text() == "hello"


def test_a_large_file_is_put_in_parts_and_got_in_ranges(region, bucket, large, tmp_path):
    printed = json.loads(run(
        region, "os", "object", "put", "-bn", bucket, "--file", large, "--part-size", "16",
        "--parallel-upload-count", "3", "--verify-checksum"))
    assert printed["opc-multipart-md5"].endswith("-9")
    back = tmp_path / "back.bin"
    run(region, "os", "object", "get", "-bn", bucket, "--name", large.name, "--file", back)
    assert digest(back) == digest(large)
    piece = tmp_path / "piece.bin"
    run(
        region, "os", "object", "get", "-bn", bucket, "--name", large.name, "--file", piece,
        "--range", "bytes=1000000-1000099")
    with open(large, "rb") as file:
        file.seek(1000000)
        assert piece.read_bytes() == file.read(100)


def test_an_object_is_put_from_standard_input(region, bucket, tmp_path):
    command = [str(OCI), "os", "object", "put", "-bn", bucket, "--name", "piped", "--file", "-"]
    content = os.urandom(11 * MIB)
    done = subprocess.run(
        command, env=region.clean_environment(), input=content, capture_output=True, timeout=300)
    assert done.returncode == 0, done.stderr
    back = tmp_path / "piped"
    run(region, "os", "object", "get", "-bn", bucket, "--name", "piped", "--file", back)
    assert back.read_bytes() == content


def test_many_files_are_put_listed_by_prefix_and_deleted(region, bucket, tmp_path):
    source = tmp_path / "many"
    for name in ("a/1", "a/2", "b/1", "top"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    run(
        region, "os", "object", "bulk-upload", "-bn", bucket, "--src-dir", source,
        "--object-prefix", "bulk/")
    listed = json.loads(run(
        region, "os", "object", "list", "-bn", bucket, "--prefix", "bulk/", "--delimiter", "/"))
    assert [one["name"] for one in listed["data"]] == ["bulk/top"]
    assert listed["prefixes"] == ["bulk/a/", "bulk/b/"]
    run(region, "os", "object", "bulk-delete", "-bn", bucket, "--prefix", "bulk/", "--force")
    left = json.loads(run(region, "os", "object", "list", "-bn", bucket, "--prefix", "bulk/"))
    assert "data" not in left and left["prefixes"] == []


def test_objects_are_copied_and_renamed(region, namespace, bucket, storage, large):
    region.oci(
        "os", "object", "copy", "-bn", bucket, "--source-object-name", large.name,
        "--destination-bucket", bucket, "--destination-object-name", "copy.bin",
        "--destination-region", region_name(region), wait="COMPLETED")
    run(
        region, "os", "object", "rename", "-bn", bucket, "--source-name", "copy.bin",
        "--new-name", "renamed.bin")
    names = [one.name for one in storage.list_objects(namespace, bucket).data.objects]
    assert "renamed.bin" in names and "copy.bin" not in names
    got = storage.get_object(namespace, bucket, "renamed.bin").data
    hasher = hashlib.sha256()
    for piece in got.raw.stream(MIB, decode_content=False):
        hasher.update(piece)
    assert hasher.hexdigest() == digest(large)


def region_name(region):
    return json.loads(region.environment["OCI_REGION_METADATA"])["regionIdentifier"]


def test_an_object_is_read_by_a_url_until_that_is_taken_away(region, bucket, large):
    made = region.oci(
        "os", "preauth-request", "create", "-bn", bucket, "--name", "for a friend",
        "--access-type", "ObjectRead", "--object-name", large.name,
        "--time-expires", "2099-01-01T00:00:00Z")
    url = region.url + made["access-uri"]
    session = plain()
    whole = session.get(url, verify=str(region.authority), stream=True)
    assert whole.status_code == 200
    hasher = hashlib.sha256()
    for piece in whole.iter_content(MIB):
        hasher.update(piece)
    assert hasher.hexdigest() == digest(large)
    part = session.get(url, verify=str(region.authority), headers={"range": "bytes=-7"})
    assert (part.status_code, part.content) == (206, b"the end")
    assert session.put(url, b"x", verify=str(region.authority)).status_code == 404
    listed = region.oci("os", "preauth-request", "list", "-bn", bucket)
    assert [one["id"] for one in listed] == [made["id"]]
    read = region.oci("os", "preauth-request", "get", "-bn", bucket, "--par-id", made["id"])
    assert (read["name"], read["access-type"]) == ("for a friend", "ObjectRead")
    region.oci(
        "os", "preauth-request", "delete", "-bn", bucket, "--par-id", made["id"], "--force")
    assert session.get(url, verify=str(region.authority)).status_code == 404


def test_an_object_is_written_by_curl(region, bucket, large, tmp_path):
    made = region.oci(
        "os", "preauth-request", "create", "-bn", bucket, "--name", "inbox",
        "--access-type", "AnyObjectReadWrite", "--time-expires", "2099-01-01T00:00:00Z")
    url = region.url + made["access-uri"] + "in/box"
    curl = ["curl", "-sS", "--fail", "--noproxy", "*", "--cacert", str(region.authority)]
    subprocess.run([*curl, "-T", str(large), url], check=True)
    back = tmp_path / "back.bin"
    subprocess.run([*curl, "-o", str(back), url], check=True)
    assert digest(back) == digest(large)
    region.oci(
        "os", "preauth-request", "delete", "-bn", bucket, "--par-id", made["id"], "--force")


def test_an_upload_that_a_crash_cuts_short_leaves_nothing(region, namespace, bucket, storage):
    storage.put_object(namespace, bucket, "crash", b"before")
    target = f"/n/{namespace}/b/{bucket}/o/crash"
    head = Wire(region).prepare_upload(target, 256 * MIB)
    trust = ssl.create_default_context(cafile=str(region.authority))
    with socket.create_connection(("localhost", region.port)) as plain_socket:
        with trust.wrap_socket(plain_socket, server_hostname="localhost") as stream:
            stream.sendall(head)
            # More than what can be on its way: part of it is being stored.
            for _ in range(64):
                stream.sendall(os.urandom(MIB))
            region.kill()
    region.start()
    assert storage.get_object(namespace, bucket, "crash").data.content == b"before"
    region.calotype("store", "collect")
    storage.put_object(namespace, bucket, "crash", b"after")
    assert storage.get_object(namespace, bucket, "crash").data.content == b"after"


def test_an_upload_that_was_left_is_listed_and_aborted(region, namespace, bucket, storage):
    begun = storage.create_multipart_upload(
        namespace, bucket, oci.object_storage.models.CreateMultipartUploadDetails(object="left")).data
    storage.upload_part(namespace, bucket, "left", begun.upload_id, 7, b"some of it")
    listed = region.oci("os", "multipart", "list", "-bn", bucket, "--all")
    assert [(one["object"], one["upload-id"]) for one in listed] == [("left", begun.upload_id)]
    [part] = storage.list_multipart_upload_parts(namespace, bucket, "left", begun.upload_id).data
    assert (part.part_number, part.size) == (7, len(b"some of it"))
    region.oci("os", "multipart", "abort", "-bn", bucket, "--object-name", "left",
               "--upload-id", begun.upload_id, "--force")
    assert not region.oci("os", "multipart", "list", "-bn", bucket, "--all")
    assert storage.head_bucket(namespace, bucket).status == 200


def test_each_part_of_an_upload_is_committed_or_left_out_by_name(namespace, bucket, storage):
    models = oci.object_storage.models
    begun = storage.create_multipart_upload(
        namespace, bucket, models.CreateMultipartUploadDetails(object="parts")).data.upload_id
    part = ("parts", begun)
    etags = [storage.upload_part(namespace, bucket, *part, number, bytes([number])).headers["etag"]
             for number in (1, 2, 3)]
    with pytest.raises(oci.exceptions.ServiceError) as refused:
        storage.upload_part(namespace, bucket, *part, 3, b"again", if_none_match="*")
    assert refused.value.status == 412
    first, second, third = [models.CommitMultipartUploadPartDetails(part_num=number, etag=etag)
                            for number, etag in enumerate(etags, 1)]
    for commit, exclude, words in [([first, second], [], "part 3 is neither"), ([first, second, third], [3], "part 3")]:
        with pytest.raises(oci.exceptions.ServiceError) as refused:
            storage.commit_multipart_upload(namespace, bucket, *part, models.CommitMultipartUploadDetails(
                parts_to_commit=commit, parts_to_exclude=exclude))
        assert refused.value.status == 400 and words in refused.value.message
    storage.commit_multipart_upload(namespace, bucket, *part, models.CommitMultipartUploadDetails(
        parts_to_commit=[first, second], parts_to_exclude=[3]))
    assert storage.get_object(namespace, bucket, "parts").data.content == bytes([1, 2])


def test_a_download_goes_on_while_others_are_slow(region, namespace, bucket, large):
    """Clients that ask for much and take little cost neither memory nor anybody else's time."""
    target = f"/n/{namespace}/b/{bucket}/o/{urllib.parse.quote(large.name, safe='')}"
    wire = Wire(region)
    before = memory(region)
    slow = [wire.session.send(wire.prepare("GET", target), stream=True) for _ in range(40)]
    assert all(answer.status_code == 200 for answer in slow)
    with concurrent.futures.ThreadPoolExecutor() as pool:
        fast = pool.submit(lambda: wire.session.send(wire.prepare("GET", target)).content)
        assert hashlib.sha256(fast.result(timeout=60)).hexdigest() == digest(large)
    grown = memory(region) - before
    for answer in slow:
        answer.close()
    # The store's cache of 128 MiB, and what is on its way to each.
    assert grown < 256 * MIB, f"{grown / MIB:.0f} MiB"


def memory(region):
    with open(f"/proc/{region.service.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def test_a_bucket_is_deleted_when_it_is_empty(region, namespace, bucket, storage):
    with pytest.raises(Refused) as refused:
        region.oci("os", "bucket", "delete", "--name", bucket, "--force")
    assert (refused.value.status, refused.value.code) == (409, "BucketNotEmpty")
    run(region, "os", "object", "bulk-delete", "-bn", bucket, "--force")
    region.oci("os", "bucket", "delete", "--name", bucket, "--force")
    wait_until(lambda: gone(storage, namespace, bucket), "the bucket is gone", seconds=5)


def gone(storage, namespace, bucket):
    try:
        storage.head_bucket(namespace, bucket)
    except oci.exceptions.ServiceError as refused:
        return refused.status == 404
    return False

"""A region of the tests' own: the real binary, in a scratch directory, on a free port of loopback."""

import atexit
import functools
import json
import os
import pathlib
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time

import oci
import requests

from oci_cli_server import OciCli
from witness import Witness

CHECKOUT = pathlib.Path(__file__).resolve().parent.parent
BINARY = os.environ.get("CALOTYPE_BINARY", str(CHECKOUT / "target/debug/calotype"))
OCI = pathlib.Path(sys.executable).parent / "oci"
SHAPE = "VM.Standard.E2.1.Micro"

# A machine's own settings that would come before those of the region's clients.
FOREIGN = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "HTTPS_PROXY", "https_proxy")


def wait_until(condition, what, seconds=120, interval=0.1):
    """Returns the first true answer of `condition`."""
    deadline = time.monotonic() + seconds
    while True:
        answer = condition()
        if answer:
            return answer
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(interval)


@functools.cache
def oci_cli():
    """The official CLI, for all tests of this run; it ends with it."""
    cli = OciCli()
    atexit.register(cli.close)
    return cli


class Refused(Exception):
    """The region's refusal, as the CLI shows it."""

    def __init__(self, stderr):
        super().__init__(stderr)
        self.stderr = stderr
        kind, _, body = stderr.partition("{")
        # Of what it would have tried again, the CLI says "TransientServiceError".
        self.body = json.loads("{" + body) if kind.rstrip().endswith("ServiceError:") else {}
        self.status, self.code = self.body.get("status"), self.body.get("code")
        self.message = self.body.get("message", stderr)


class Region:
    """`calotype init`, with more arguments if given, is done by the constructor; `start` serves, `close` ends everything."""

    def __init__(self, *init):
        # Short, because sockets lie below it.
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="calo-", dir="/tmp"))
        self.log = self.directory / "serve.log"
        self.service = self.witness = None
        self.environment = {}
        service_port = str(free_port())
        try:
            self.calotype("init", "--port", service_port, *map(str, init))
            self.witness = Witness(int(service_port), self.directory / "tls")
            # Clients meet the witness; what has no endpoint in its environment is our own command.
            self.port, self.service_port = self.witness.port, int(service_port)
            self.environment = {
                name: value.replace(f":{service_port}", f":{self.port}")
                for name, value in exports(self.calotype("env")).items()
            }
            key = self.directory / "login"
            generate = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "tests", "-f", key]
            subprocess.run(generate, check=True)
        except BaseException:
            self.end_witness()
            shutil.rmtree(self.directory)
            raise
        self.private_key, self.public_key = key, key.with_suffix(".pub").read_text().strip()
        self.tenancy = self.environment["CALOTYPE_TENANCY"]
        self.url = f"https://localhost:{self.port}"
        # As the region knows itself: what its clients meet is the witness.
        self.own_url = f"https://localhost:{self.service_port}"
        self.authority = self.directory / "tls/ca.pem"

    def set(self, setting, value):
        """Changes one of the region's settings, as an administrator would in an editor."""
        file = self.directory / "region.toml"
        text, found = re.subn(f"^{setting} = .*$", f"{setting} = {value}", file.read_text(), flags=re.M)
        assert found == 1, f"{found} settings are called {setting}"
        file.write_text(text)

    # The service.

    def start(self, *options):
        assert self.service is None, "the region is being served"
        with open(self.log, "ab") as log:
            self.service = subprocess.Popen(
                [BINARY, "--directory", self.directory, "serve", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        wait_until(self.answers, "the region answers", seconds=60)

    def answers(self):
        ended = self.service.poll()
        assert ended is None, f"`calotype serve` ended with {ended}:\n{self.log_tail()}"
        session = requests.Session()
        session.trust_env = False
        try:
            return session.head(self.url + "/", verify=str(self.authority), timeout=5).ok
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            return False

    def stop(self):
        """Ends the service as an init system would; guests run on."""
        self.service.terminate()
        status = self.service.wait(timeout=60)
        self.service = None
        assert status == 0, f"`calotype serve` ended with {status}:\n{self.log_tail()}"

    def kill(self):
        """Ends the service as a crash would; guests run on."""
        self.service.kill()
        self.service.wait()
        self.service = None

    def close(self):
        """Terminates every instance and the service, and sees that nothing of the region is left."""
        try:
            if self.service is not None:
                self.terminate(*self.instances())
                self.stop()
            left = self.machines()
            assert not left, f"QEMU still runs: {left}"
        finally:
            if self.service is not None:
                self.kill()
            for pid in self.machines():
                os.kill(pid, 9)
            self.end_witness()
            shutil.rmtree(self.directory)

    def end_witness(self):
        if self.witness is not None:
            self.witness.close()

    def log_tail(self, lines=40):
        """The end of the service's log, without the looks that clients take at what they wait for."""
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in text if "method=GET" not in line][-lines:])

    def machines(self):
        """Processes of QEMU that belong to the region."""
        mark = str(self.directory).encode()
        return [pid for pid, line in command_lines() if b"qemu-system" in line and mark in line]

    # The command line and the official clients.

    def begin(self, *arguments):
        """Our own command, on its way."""
        cache = os.environ.get("CALOTYPE_CACHE", str(CHECKOUT / ".cache/calotype"))
        return subprocess.Popen(
            [BINARY, "--directory", str(self.directory), *arguments], text=True,
            env={**self.clean_environment(), "CALOTYPE_CACHE": cache},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def calotype(self, *arguments):
        process = self.begin(*arguments)
        out, err = process.communicate()
        assert process.returncode == 0, f"{process.args}: {err}"
        return out

    def clean_environment(self):
        environment = {k: v for k, v in os.environ.items() if k not in FOREIGN}
        # No profile or settings of whoever runs the tests.
        return {**environment, "HOME": str(self.directory), **self.environment}

    def oci(self, *arguments, wait=None, seconds=300):
        """Runs the CLI as a person would and returns what it prints below "data"."""
        command = list(map(str, arguments))
        if wait:
            command += ["--wait-for-state", wait, "--wait-interval-seconds", "1"]
            command += ["--max-wait-seconds", str(seconds)]
        done = oci_cli().run(command, self.clean_environment(), timeout=seconds + 60)
        if done.returncode != 0:
            raise Refused(done.stderr)
        printed = json.loads(done.stdout) if done.stdout.strip() else {}
        return printed.get("data", printed)

    def client(self, kind):
        """A client of the Python SDK."""
        config = oci.config.from_file(self.environment["OCI_CONFIG_FILE"])
        client = kind(config, service_endpoint=self.url, timeout=(10, 60))
        client.base_client.session.verify = str(self.authority)
        return client

    @functools.cached_property
    def compute(self):
        return self.client(oci.core.ComputeClient)

    @functools.cached_property
    def network(self):
        return self.client(oci.core.VirtualNetworkClient)

    @functools.cached_property
    def block(self):
        return self.client(oci.core.BlockstorageClient)

    @functools.cached_property
    def identity(self):
        return self.client(oci.identity.IdentityClient)

    @functools.cached_property
    def work_requests(self):
        return self.client(oci.work_requests.WorkRequestClient)

    # What is in the region.

    @functools.cached_property
    def domain(self):
        return self.identity.list_availability_domains(self.tenancy).data[0].name

    @functools.cached_property
    def subnet(self):
        return self.network.list_subnets(self.tenancy).data[0].id

    @functools.cached_property
    def tiny(self):
        """The small platform image; built on first use."""
        printed = self.calotype("platform-image", "build", "tiny")
        return printed.split()[-1]

    def instances(self):
        return oci.pagination.list_call_get_all_results(
            self.compute.list_instances, self.tenancy).data

    def images(self):
        return oci.pagination.list_call_get_all_results(self.compute.list_images, self.tenancy).data

    def launch_details(self, name, image=None, **more):
        source = oci.core.models.InstanceSourceViaImageDetails(image_id=image or self.tiny)
        return oci.core.models.LaunchInstanceDetails(**{
            "availability_domain": self.domain,
            "compartment_id": self.tenancy,
            "display_name": name,
            "shape": SHAPE,
            "source_details": source,
            "create_vnic_details": oci.core.models.CreateVnicDetails(
                subnet_id=self.subnet, assign_public_ip=True, hostname_label=name),
            "metadata": {"ssh_authorized_keys": self.public_key},
            **more,
        })

    def terminate(self, *instances):
        """Terminates instances and waits for their end."""
        for instance in instances:
            if instance.lifecycle_state in ("TERMINATED", "TERMINATING"):
                continue
            wait_until(lambda instance=instance: self.settled(instance.id), f"{instance.id} settles")
            self.compute.terminate_instance(instance.id)
        for instance in instances:
            wait_until(
                lambda instance=instance: self.state(instance.id) == "TERMINATED",
                f"{instance.id} is terminated",
            )

    def state(self, instance):
        return self.compute.get_instance(instance).data.lifecycle_state

    def settled(self, instance):
        """Whether no action is at work on an instance."""
        requests_of = self.work_requests.list_work_requests(self.tenancy, resource_id=instance).data
        return all(one.status in ("SUCCEEDED", "FAILED", "CANCELED") for one in requests_of)


def exports(text):
    """The variables of what `calotype env` prints, read as a shell would."""
    words = (shlex.split(line) for line in text.splitlines())
    return dict(word.split("=", 1) for export, word in words if export == "export")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def command_lines():
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                yield int(entry.name), (entry / "cmdline").read_bytes()
            except OSError:
                continue  # It ended meanwhile.

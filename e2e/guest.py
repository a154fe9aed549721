"""An instance, reached by SSH as a person would reach it."""

import json
import shlex
import subprocess

from region import SHAPE, wait_until

OPTIONS = {
    "StrictHostKeyChecking": "no",
    "UserKnownHostsFile": "/dev/null",
    "LogLevel": "ERROR",
    "BatchMode": "yes",
    "ConnectTimeout": "5",
    "ServerAliveInterval": "5",
}


class Guest:
    def __init__(self, region, id):
        self.region, self.id = region, id

    @property
    def instance(self):
        return self.region.compute.get_instance(self.id).data

    @property
    def address(self):
        """Where the host reaches port 22."""
        host, port = self.instance.system_tags["calotype"]["publicPort22"].split(":")
        return host, port

    def try_ssh(self, command, address=None):
        host, port = address or self.address
        options = [word for key, value in OPTIONS.items() for word in ("-o", f"{key}={value}")]
        return subprocess.run(
            ["ssh", *options, "-i", self.region.private_key, "-p", port, f"opc@{host}", command],
            stdin=subprocess.DEVNULL, text=True, capture_output=True, timeout=120,
        )

    def ssh(self, command):
        """What a command prints in the guest."""
        done = self.try_ssh(command)
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def reachable(self):
        """Waits until the guest answers by SSH."""
        def answers():
            return self.try_ssh("true").returncode == 0
        wait_until(answers, f"{self.id} answers by SSH", seconds=180, interval=0.3)
        return self

    def write(self, path, text, mode="644"):
        path = shlex.quote(path)
        self.ssh(f"printf %s {shlex.quote(text)} | sudo tee {path} >/dev/null && sudo chmod {mode} {path}")

    def imds(self, path, *headers):
        """Status and body of the metadata service's answer."""
        words = [word for header in headers for word in ("--header", header)]
        url = f"http://169.254.169.254{path}"
        said = self.ssh(shlex.join(["wget", "-q", "-O", "-", *words, url]) + " 2>&1 || true")
        _, refused, status = said.partition("server returned error: HTTP/1.1 ")
        return (int(status[:3]), "") if refused else (200, said)

    def metadata(self, path=""):
        """The value of the metadata service's second version."""
        status, body = self.imds(f"/opc/v2/instance/{path}", "Authorization: Bearer Oracle")
        assert status == 200, f"{path}: {status}"
        return body if path else json.loads(body)

    def metadata_vnics(self):
        """What the metadata service says of the network cards."""
        status, body = self.imds("/opc/v2/vnics/", "Authorization: Bearer Oracle")
        assert status == 200
        return json.loads(body)

    @property
    def boot(self):
        """Changes with each boot."""
        return self.ssh("cat /proc/sys/kernel/random/boot_id")

    def identity(self):
        """What no other guest may share."""
        host, port = self.address
        scan = ["ssh-keyscan", "-p", port, "-t", "ed25519", host]
        line = subprocess.run(scan, text=True, capture_output=True, check=True).stdout.strip()
        return {
            "hostname": self.ssh("hostname"),
            "instance": self.metadata("id"),
            "machine id": self.ssh("cat /etc/machine-id"),
            "host key": line.split()[-1],
            "system UUID": self.ssh("sudo cat /sys/class/dmi/id/product_uuid"),
            "MAC address": self.ssh("cat /sys/class/net/eth0/address"),
        }


def launch_by_cli(region, name, *more, image=None):
    """Launches an instance with the CLI and waits for SSH."""
    source = ["--image-id", image or region.tiny] if "--source-boot-volume-id" not in more else []
    key = region.private_key.with_suffix(".pub")
    launched = region.oci(
        "compute", "instance", "launch",
        "--availability-domain", region.domain,
        "--compartment-id", region.tenancy,
        "--shape", SHAPE,
        "--subnet-id", region.subnet,
        "--assign-public-ip", "true",
        "--display-name", name,
        "--hostname-label", name,
        "--ssh-authorized-keys-file", key,
        *source, *more,
        wait="RUNNING",
    )
    assert launched["lifecycle-state"] == "RUNNING"
    return Guest(region, launched["id"]).reachable()

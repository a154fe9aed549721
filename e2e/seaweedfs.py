"""An S3 server of the tests' own, with one bucket."""

import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

from region import free_port, wait_until

PROGRAM = pathlib.Path(sys.executable).parent / "weed"
KEY, SECRET = "AKIATEST", "the-secret-of-the-tests"
PORTS = (
    "master.port", "master.port.grpc", "volume.port", "volume.port.grpc",
    "filer.port", "filer.port.grpc", "s3.port", "s3.port.grpc",
)


class SeaweedFs:
    """Serves from the start; `close` ends it."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="calo-s3-", dir="/tmp"))
        self.ports = ports = {name: free_port() for name in PORTS}
        # A folder of the filer's is a bucket.
        self.bucket = f"http://127.0.0.1:{ports['filer.port']}/buckets/images/"
        self.endpoint = f"http://127.0.0.1:{ports['s3.port']}"
        settings = self.directory / "s3.json"
        settings.write_text(json.dumps({"identities": [{
            "name": "tests",
            "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }]}))
        self.credentials = self.directory / "credentials.toml"
        self.credentials.touch(mode=0o600)
        self.credentials.write_text(f'access_key_id = "{KEY}"\nsecret_access_key = "{SECRET}"\n')
        with open(self.directory / "log", "wb") as log:
            self.process = subprocess.Popen(
                [
                    PROGRAM, "server", f"-dir={self.directory}", f"-s3.config={settings}",
                    "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
                    "-filer", "-s3", "-s3.port.iceberg=0", "-s3.port.lance=0",
                    "-master.volumeSizeLimitMB=256", "-volume.max=64",
                    *(f"-{name}={port}" for name, port in ports.items()),
                ],
                cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )
        try:
            wait_until(self.answers, "SeaweedFS answers", seconds=60)
        except BaseException:
            self.close()
            raise

    def answers(self):
        """Whether there is a bucket `images`."""
        assert self.process.poll() is None, (self.directory / "log").read_text()[-2000:]
        make = urllib.request.Request(self.bucket, method="POST")
        try:
            with urllib.request.urlopen(self.endpoint + "/healthz", timeout=5):
                pass
            with urllib.request.urlopen(make, timeout=5):
                return True
        except urllib.error.HTTPError as error:
            return error.code == 409  # It is there.
        except OSError:
            return False

    def close(self):
        self.process.kill()
        self.process.wait()
        shutil.rmtree(self.directory)
        for port in self.ports.values():
            for socket in pathlib.Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket.unlink()

"""Requests as no official client would send them: signed by hand, so that each part can be wrong."""

import base64
import email.utils
import hashlib
import json
import time
import urllib.parse
import uuid

import oci
import requests
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.text = response.status_code, response.headers, response.text
        self.json = response.json() if response.content else None

    @property
    def code(self):
        return self.json["code"]

    @property
    def message(self):
        return self.json["message"]


class Wire:
    """Sends requests to one region, signed with its administrator's key unless told otherwise."""

    def __init__(self, region):
        self.region = region
        config = oci.config.from_file(region.environment["OCI_CONFIG_FILE"])
        with open(config["key_file"], "rb") as file:
            self.key = serialization.load_pem_private_key(file.read(), None)
        self.key_id = "/".join(config[part] for part in ("tenancy", "user", "fingerprint"))
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(region.authority)

    def prepare(self, method, target, body=None, *, seconds=0, headers=None):
        """A signed request; `seconds` is how far its clock is ahead."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        signed = {
            "date": email.utils.formatdate(time.time() + seconds, usegmt=True),
            "(request-target)": f"{method.lower()} {target}",
            "host": urllib.parse.urlsplit(self.region.url).netloc,
        }
        if method in ("POST", "PUT"):
            digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
            signed.update({
                "content-length": str(len(content)),
                "content-type": "application/json",
                "x-content-sha256": digest,
            })
        authorization = self.authorization(signed)
        del signed["(request-target)"]
        # As every client does, so that equal requests within a second are told apart.
        ours = {"authorization": authorization, "opc-request-id": uuid.uuid4().hex}
        sent = {**signed, **ours, **(headers or {})}
        request = requests.Request(method, self.region.url + target, sent, data=content or None)
        return self.session.prepare_request(request)

    def prepare_upload(self, target, length):
        """The head of a PUT whose body is not signed, as bytes."""
        host = urllib.parse.urlsplit(self.region.url).netloc
        signed = {
            "date": email.utils.formatdate(time.time(), usegmt=True),
            "(request-target)": f"put {target}",
            "host": host,
        }
        authorization = self.authorization(signed)
        return (
            f"PUT {target} HTTP/1.1\r\nhost: {host}\r\ndate: {signed['date']}\r\n"
            f"authorization: {authorization}\r\ncontent-length: {length}\r\n\r\n"
        ).encode()

    def authorization(self, signed):
        """The signature of these lines, as a header."""
        text = "\n".join(f"{name}: {value}" for name, value in signed.items())
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return (
            f'Signature version="1",keyId="{self.key_id}",algorithm="rsa-sha256",'
            f'headers="{" ".join(signed)}",signature="{base64.b64encode(signature).decode()}"'
        )

    def send(self, request):
        # The service ends the connection of a request that it refuses before reading its body: the next
        # request must not be sent on it.
        request.headers.setdefault("connection", "close")
        return Answer(self.session.send(request, timeout=30))

    def ask(self, method, target, body=None, **more):
        return self.send(self.prepare(method, target, body, **more))

"""A witness between the clients and the region: passes every byte on, and holds every answer against the published API.

Every region of the tests has one before its port. It ends the clients' TLS with a certificate of the region's own
authority and speaks TLS to the service, whose certificate must hold for the name that the client asked for.
"""

import asyncio
import contextlib
import dataclasses
import datetime
import ipaddress
import json
import ssl
import threading

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from published import API

PIECE_BYTES = 65536
# Larger bodies are passed on unread.
BODY_BYTES = 4 * 1024 * 1024
DOMAINS = ("calotype.localhost", "oraclecloud.com")


@dataclasses.dataclass(frozen=True)
class Sight:
    """One answer: who asked for what, in which test."""
    test: str
    client: str
    operation: str
    status: int


class Testimony:
    """What all witnesses of a session have seen."""

    def __init__(self):
        self.test, self.sights, self.faults = "", set(), []

    def take_faults(self):
        faults, self.faults = self.faults, []
        return sorted(set(faults))

    def hear(self, request, answer, body):
        operation = API.find(request.method, request.target)
        faults = API.faults(operation, request, answer, body)
        said = f"{request.method} {request.target} -> {answer.status}"
        self.faults += [f"{said}: {fault}" for fault in faults]
        if operation:
            client = client_of(request.headers)
            self.sights.add(Sight(self.test, client, operation["key"], answer.status))


TESTIMONY = Testimony()


# By a word of their user agents; the CLI's has the SDK's, too.
CLIENTS = {
    "Oracle-PythonCLI": "oci CLI",
    "Oracle-PythonSDK": "Python SDK",
    "Oracle-TypeScriptSDK": "TypeScript SDK",
    "Oracle-GoSDK": "Packer",
    "Terraform": "Terraform (contract)",
}


def client_of(headers):
    agent = headers.get("user-agent", "")
    return next((name for word, name in CLIENTS.items() if word in agent), "by hand")


@dataclasses.dataclass
class Head:
    """The head of a message; `first` and `second` are a request's method and target."""
    first: str
    second: str
    headers: dict

    @property
    def method(self):
        return self.first

    @property
    def target(self):
        return self.second

    @property
    def status(self):
        return int(self.second)


class Witness:
    """Listens on a port of its own from the beginning; connections reach the region's while it is served."""

    def __init__(self, port, tls):
        self.service_port = port
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issue(self.context, tls)
        self.context.sni_callback = lambda socket, name, _: setattr(socket, "asked_name", name)
        self.upstream = ssl.create_default_context(cafile=tls / "ca.pem")
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="witness", daemon=True)
        self.thread.start()
        started = asyncio.start_server(self.serve, "127.0.0.1", 0, ssl=self.context)
        server = asyncio.run_coroutine_threadsafe(started, self.loop).result()
        self.port = server.sockets[0].getsockname()[1]

    def close(self):
        async def end():
            tasks = asyncio.all_tasks() - {asyncio.current_task()}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        asyncio.run_coroutine_threadsafe(end(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def serve(self, reader, writer):
        name = getattr(writer.get_extra_info("ssl_object"), "asked_name", None) or "localhost"
        try:
            inner, outer = await asyncio.open_connection(
                "127.0.0.1", self.service_port, ssl=self.upstream, server_hostname=name)
        except OSError as error:
            if isinstance(error, ssl.SSLCertVerificationError):
                TESTIMONY.faults.append(f"the service's certificate for {name}: {error}")
            writer.transport.abort()
            return
        asked, answered = asyncio.StreamReader(), asyncio.StreamReader()
        watching = asyncio.create_task(watch(asked, answered))
        # Who closes the witness cancels what is under way; asyncio would print a trace for each.
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(pump(reader, outer, asked), pump(inner, writer, answered))
            await watching


class Unreadable(Exception):
    """No head of a message, as some tests send it."""


async def pump(reader, writer, copy):
    """Passes bytes on until one side ends, and shows them to who watches."""
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while piece := await reader.read(PIECE_BYTES):
            copy.feed_data(piece)
            writer.write(piece)
            await writer.drain()
    copy.feed_eof()
    writer.close()


async def watch(asked, answered):
    """Reads a connection along: requests and answers take turns."""
    # Some requests of the tests are broken off, or none at all.
    with contextlib.suppress(asyncio.IncompleteReadError, asyncio.LimitOverrunError, Unreadable):
        while True:
            request = await read_head(asked, answer=False)
            sent = asyncio.create_task(read_body(asked, request.headers, keep=False))
            answer = await read_head(answered, answer=True)
            empty = request.method == "HEAD" or answer.status in (204, 304)
            body = b"" if empty else await read_body(answered, answer.headers)
            TESTIMONY.hear(request, answer, body)
            await sent


async def read_head(stream, answer):
    while True:
        lines = (await stream.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        try:
            first, second, *_ = lines[0].split(" ", 2)
            fields = (line.split(":", 1) for line in lines[1:] if line)
            head = Head(first, second, {name.lower(): value.strip() for name, value in fields})
        except ValueError:
            raise Unreadable(lines[0]) from None
        if answer:
            head.first = ""
        if not answer or head.status >= 200:
            return head


async def read_body(stream, headers, keep=True):
    """A body's bytes, or None where it is large, or nobody wants it."""
    chunked = headers.get("transfer-encoding", "").lower() == "chunked"
    pieces, size = [], 0
    while True:
        left = await chunk_size(stream) if chunked else int(headers.get("content-length", 0))
        last = not chunked or left == 0
        while left:
            piece = await stream.readexactly(min(left, PIECE_BYTES))
            left -= len(piece)
            size += len(piece)
            if keep and size <= BODY_BYTES:
                pieces.append(piece)
        if chunked:
            await stream.readuntil(b"\r\n")
        if last:
            return b"".join(pieces) if keep and size <= BODY_BYTES else None


async def chunk_size(stream):
    return int((await stream.readuntil(b"\r\n")).split(b";")[0], 16)


def issue(context, tls):
    """Gives a context a certificate of the region's authority."""
    authority = x509.load_pem_x509_certificate((tls / "ca.pem").read_bytes())
    authority_key = serialization.load_pem_private_key((tls / "ca_key.pem").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.datetime.now(datetime.timezone.utc)
    names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    for domain in DOMAINS:
        names += [x509.DNSName(f"*.home-1.{domain}"), x509.DNSName(f"*.home-1.oci.{domain}")]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "witness")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    chain = tls / "witness.pem"
    chain.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption())
        + certificate.public_bytes(serialization.Encoding.PEM))
    context.load_cert_chain(chain)


def report(file):
    """Writes what was seen, for `scripts/api-coverage`."""
    seen = sorted(map(dataclasses.astuple, TESTIMONY.sights))
    fields = [field.name for field in dataclasses.fields(Sight)]
    file.write_text(json.dumps([dict(zip(fields, sight)) for sight in seen], indent=0))

"""Consoles with the official CLI and OpenSSH's client: the command that the region answers is run as it is, and the
guest's serial console and screen are behind it. One guest is shared by all tests."""

import contextlib
import os
import queue
import re
import socket
import subprocess
import threading

import pytest

from guest import launch_by_cli
from region import Refused, free_port, wait_until

SHELL = "sudo setsid sh -c 'PS1=shell: exec sh -i </dev/ttyS0 >/dev/ttyS0 2>&1' >/dev/null 2>&1 </dev/null &"


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """An RSA key for the console, another one, and one of a kind that is not taken."""
    directory = tmp_path_factory.mktemp("keys")
    for name, kind in [("right", "rsa"), ("wrong", "rsa"), ("modern", "ed25519")]:
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", directory / name], check=True)
    return directory


@pytest.fixture(scope="module")
def guest(region):
    guest = launch_by_cli(region, "console")
    guest.ssh(SHELL)
    yield guest
    region.terminate(*region.instances())


@pytest.fixture
def connection(region, guest, keys):
    made = region.oci("compute", "instance-console-connection", "create", "--instance-id", guest.id,
                      "--ssh-public-key-file", keys / "right.pub", wait="ACTIVE")
    yield made
    with contextlib.suppress(Refused):
        delete(region, made)


def delete(region, connection):
    region.oci("compute", "instance-console-connection", "delete", "--force",
               "--instance-console-connection-id", connection["id"])


def with_key(command, keys, name="right"):
    """The command of a connection, for a client that knows the key. (A person has it as the default one.)"""
    config = keys / f"{name}.config"
    config.write_text(
        f"IdentityFile {keys / name}\nIdentitiesOnly yes\nBatchMode yes\nLogLevel ERROR\n"
        f"UserKnownHostsFile {keys / 'known_hosts'}\nStrictHostKeyChecking accept-new\n")
    return re.sub(r"\bssh ", f"ssh -F {config} ", command)


class Terminal:
    """A person at a connection."""

    def __init__(self, command):
        self.process = subprocess.Popen(
            ["sh", "-c", "exec " + command], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, bufsize=0)
        self.pieces = queue.Queue()
        self.shown = ""
        threading.Thread(target=self.listen, daemon=True).start()

    def listen(self):
        while piece := os.read(self.process.stdout.fileno(), 4096):
            self.pieces.put(piece.decode(errors="replace"))

    def type(self, text):
        self.process.stdin.write(text.encode())

    def has(self, text):
        while not self.pieces.empty():
            self.shown += self.pieces.get()
        return text in self.shown

    def wake(self, prompt):
        """Presses return until the shell is there to answer: what comes before it is read by nobody."""
        def answered():
            self.type("\n")
            return self.has(prompt)
        wait_until(answered, f"the console shows {prompt!r}", interval=1)

    def shows(self, text, seconds=60):
        try:
            wait_until(lambda: self.has(text), f"the console shows {text!r}", seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it shows {self.shown!r}") from None

    def ends(self):
        return self.process.wait(timeout=60)

    def close(self):
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def terminal(connection, keys, name="right"):
    opened = Terminal(with_key(connection["connection-string"], keys, name))
    try:
        yield opened
    finally:
        opened.close()


def test_a_connection_says_what_it_is(region, guest, keys, connection):
    fingerprint = subprocess.run(["ssh-keygen", "-l", "-f", keys / "right.pub"], text=True,
                                 capture_output=True, check=True).stdout.split()[1]
    assert connection["fingerprint"] == fingerprint
    assert connection["connection-string"] == (
        f"ssh -o ProxyCommand='ssh -W %h:%p -p {region.service_port} {connection['id']}@localhost' {guest.id}")
    assert connection["vnc-connection-string"].endswith(f"-N -L localhost:5900:{guest.id}:5900 {guest.id}")
    listed = region.oci("compute", "instance-console-connection", "list", "--compartment-id",
                        region.tenancy, "--instance-id", guest.id)
    assert [one["id"] for one in listed] == [connection["id"]]
    tagged = region.oci("compute", "instance-console-connection", "update", "--force",
                        "--instance-console-connection-id", connection["id"],
                        "--freeform-tags", '{"who": "me"}')
    assert tagged["freeform-tags"] == {"who": "me"}


def test_the_serial_console_is_shared_by_all_who_are_at_it(keys, connection):
    with terminal(connection, keys) as one, terminal(connection, keys) as two:
        one.wake("shell:")
        two.type("echo $((20 + 22)) by two\n")
        two.shows("42 by two")
        one.shows("42 by two")
    # The client has seen, at both doors, the key that the region had named.
    known = subprocess.run(["ssh-keygen", "-l", "-f", keys / "known_hosts"], text=True,
                           capture_output=True, check=True).stdout.splitlines()
    assert {line.split()[1] for line in known} == {connection["service-host-key-fingerprint"]}
    assert len(known) == 2


def test_a_terminal_outlasts_a_restart_of_the_guest(region, guest, keys, connection):
    with terminal(connection, keys) as one:
        one.type("\n")
        one.shows("shell:")
        region.oci("compute", "instance", "action", "--instance-id", guest.id, "--action", "RESET",
                   wait="RUNNING")
        guest.reachable().ssh(SHELL)
        one.type("echo $((40 + 2)) again\n")
        one.shows("42 again")


def test_the_screen_is_reached_by_vnc(keys, connection):
    port = free_port()
    command = connection["vnc-connection-string"].replace("localhost:5900:", f"localhost:{port}:")
    tunnel = Terminal(with_key(command, keys))
    try:
        def greeting():
            with contextlib.suppress(OSError), socket.create_connection(("localhost", port), 5) as screen:
                screen.settimeout(20)
                return screen.recv(12)
        assert wait_until(greeting, "the screen answers").startswith(b"RFB 003.")
    finally:
        tunnel.close()


def test_no_other_key_and_no_other_place_is_reached(region, guest, keys, connection):
    with terminal(connection, keys, "wrong") as stranger:
        assert stranger.ends() != 0
    jump = f"ssh -W %h:%p -p {region.service_port} {connection['id']}@localhost"
    elsewhere = with_key(f"ssh -o ProxyCommand='{jump}' example.com", keys)
    assert Terminal(elsewhere).ends() != 0
    port = with_key(
        f"ssh -W localhost:22 -o ProxyCommand='{jump}' {guest.id}", keys)
    refused = Terminal(port)
    assert refused.ends() != 0


def test_a_key_that_is_not_rsa_is_refused(region, guest, keys):
    with pytest.raises(Refused) as refused:
        region.oci("compute", "instance-console-connection", "create", "--instance-id", guest.id,
                   "--ssh-public-key-file", keys / "modern.pub")
    assert (refused.value.status, refused.value.code) == (400, "InvalidParameter")
    assert "publicKey" in refused.value.message


def test_strangers_who_hold_connections_take_nothing_from_who_is_in(region, keys, connection):
    def strangers():
        for _ in range(100):
            stranger = socket.create_connection(("127.0.0.1", region.service_port), timeout=30)
            stranger.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
            yield stranger

    with terminal(connection, keys) as console, contextlib.ExitStack() as held:
        console.wake("shell:")
        opened = [held.enter_context(stranger) for stranger in strangers()]
        # Those for whom there is no place are cut off at once, and do not wait for their time.
        refused = [stranger for stranger in opened if is_cut_off(stranger)]
        assert 60 <= len(refused) < 100
        console.type("echo still-$((40 + 2))\n")
        console.shows("still-42")
        assert region.compute.list_shapes(region.tenancy).status == 200
    with terminal(connection, keys) as console:
        console.wake("shell:")


def is_cut_off(stranger):
    """Whether the service ends a connection instead of saying who it is and how it exchanges keys."""
    stranger.settimeout(30)
    with contextlib.suppress(ConnectionError):
        return stranger.recv(8) == b""
    return True


def test_a_deleted_connection_ends_its_sessions(region, keys, connection):
    with terminal(connection, keys) as one:
        one.type("\n")
        one.shows("shell:")
        delete(region, connection)
        assert one.ends() != 0
    got = region.oci("compute", "instance-console-connection", "get",
                     "--instance-console-connection-id", connection["id"])
    assert got["lifecycle-state"] == "DELETED"
    with terminal(connection, keys) as late:
        assert late.ends() != 0


def test_a_console_history_is_captured_renamed_and_read(region, guest, tmp_path):
    made = region.oci("compute", "console-history", "capture", "--instance-id", guest.id,
                      wait="SUCCEEDED")
    named = region.oci("compute", "console-history", "update", "--force", "--display-name", "evidence",
                       "--instance-console-history-id", made["id"])
    assert named["display-name"] == "evidence"
    listed = region.oci("compute", "console-history", "list", "--compartment-id", region.tenancy,
                        "--instance-id", guest.id, "--lifecycle-state", "SUCCEEDED")
    assert [one["display-name"] for one in listed] == ["evidence"]
    content = tmp_path / "content"
    region.oci("compute", "console-history", "get-content", "--file", content,
               "--instance-console-history-id", made["id"], "--length", 1_000_000)
    assert "42 again" in content.read_text(errors="replace")
    region.oci("compute", "console-history", "delete", "--force",
               "--instance-console-history-id", made["id"])
    with pytest.raises(Refused) as refused:
        region.oci("compute", "console-history", "get", "--instance-console-history-id", made["id"])
    assert refused.value.status == 404

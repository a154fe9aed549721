"""Runs the official CLI without waiting for its start each time.

The CLI takes three seconds of processor time to import itself before it does anything. So one process imports it once,
unmodified, and forks for each command: the fork has the arguments, environment and output of its caller, and ends with
the command. `test_objects.py` also runs the installed script itself, as users do.
"""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import tempfile

# Services whose commands the tests use.
SERVICES = ("compute", "network", "bv", "iam", "os", "work-requests")


class OciCli:
    """The process that forks, started when it is first needed."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="oci-", dir="/tmp")
        self.path = pathlib.Path(self.directory.name) / "socket"
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(self.path))
        listener.listen(16)
        # Its end of the pipe closes when the tests end, however they do.
        self.process = subprocess.Popen(
            [sys.executable, __file__], stdin=listener.fileno(), start_new_session=True)
        listener.close()

    def run(self, arguments, environment, timeout):
        """Runs `oci` with these arguments, as `subprocess.run` would."""
        with tempfile.TemporaryDirectory(dir=self.directory.name) as scratch:
            files = [f"{scratch}/out", f"{scratch}/err"]
            asked = {"arguments": list(arguments), "environment": environment, "files": files,
                     "directory": os.getcwd()}
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(timeout)
                connection.connect(str(self.path))
                connection.sendall(json.dumps(asked).encode() + b"\n")
                status = connection.makefile().readline()
            out, err = (pathlib.Path(file).read_text() for file in files)
        return subprocess.CompletedProcess(["oci", *arguments], int(status), out, err)

    def close(self):
        self.process.terminate()
        self.process.wait()
        self.directory.cleanup()


def serve(listener):
    sys.argv = ["oci"]
    # What its own `__init__` does for the one service of a command, for all that the tests use.
    from oci_cli import dynamic_loader, final_command_processor
    from oci_cli.cli import cli
    for service in SERVICES:
        dynamic_loader.load_service(service)
    final_command_processor.process()
    # The kernel buries the children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    parent = os.getppid()
    listener.settimeout(1)
    while os.getppid() == parent:
        try:
            connection, _ = listener.accept()
        except TimeoutError:
            continue
        if os.fork() == 0:
            os._exit(answer(connection, cli))
        connection.close()


def answer(connection, cli):
    """One command: in a fork of its own, so that its end is seen whatever it is."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    connection.settimeout(None)
    asked = json.loads(connection.makefile().readline())
    pid = os.fork()
    if pid == 0:
        run(asked, cli)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    connection.sendall(f"{status}\n".encode())
    return 0


def run(asked, cli):
    for descriptor, file in zip((1, 2), asked["files"]):
        os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600), descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(asked["directory"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    sys.argv = ["oci", *asked["arguments"]]
    status = 1
    try:
        status = cli()
    except SystemExit as end:
        status = end.code
        if isinstance(status, str):
            print(status, file=sys.stderr)
            status = 1
    except BaseException:
        import traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status or 0)


if __name__ == "__main__":
    serve(socket.socket(fileno=0))

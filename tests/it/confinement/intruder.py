"""An app that tries what it should not be able to: each request is an attempt, the answer says how it went."""

import ctypes
import os
import resource
import signal
import socket
import urllib.parse
from http.server import BaseHTTPRequestHandler, HTTPServer


def read(path):
    with open(path, "rb") as file:
        return file.read(1 << 20).decode("utf-8", "replace")


def write(path):
    with open(path, "w") as file:
        file.write("intruded")
    return "written"


def status():
    """Who we are, and what of a process's rights there is left."""
    fields = dict(line.split(":\t", 1) for line in read("/proc/self/status").splitlines())
    wanted = ["Uid", "Gid", "Groups", "NoNewPrivs", "CapEff", "CapBnd"]
    said = [f"{name}={' '.join(fields[name].split())}" for name in wanted]
    limits = {line[:26].strip(): line[26:].split() for line in read("/proc/self/limits").splitlines()}
    said.append("core=" + limits["Max core file size"][1])
    # What Python opens closes on exec; what we were started with does not.
    files = [int(fd) for fd in os.listdir("/proc/self/fd")]
    inherited = [fd for fd in files if fd > 2 and os.path.exists(f"/proc/self/fd/{fd}") and os.get_inheritable(fd)]
    return "\n".join(said + [f"inherited={inherited}", f"pid={os.getpid()}"])


def fork(most):
    children = []
    try:
        while len(children) < int(most):
            child = os.fork()
            if child == 0:
                signal.pause()
            children.append(child)
    finally:
        for child in children:
            os.kill(child, 9)
            os.waitpid(child, 0)
    return f"{len(children)} forked"


def opened(most):
    files = []
    try:
        while len(files) < int(most):
            files.append(os.open("/dev/null", os.O_RDONLY))
    finally:
        for file in files:
            os.close(file)
    return f"{len(files)} opened"


def take(bytes):
    return f"{len(bytearray(int(bytes)))} taken"


def kill(pid):
    os.kill(int(pid), 0)
    return "a signal would arrive"


def limit(pid):
    """Read alone: who may may set it too."""
    return str(resource.prlimit(int(pid), resource.RLIMIT_CPU))


def put(name):
    """Into our own folders."""
    for folder in ["DATA", "TMPDIR"]:
        if folder in os.environ:
            write(os.path.join(os.environ[folder], name))
    os.rename(os.path.join(os.environ["DATA"], name), os.path.join(os.environ["DATA"], name + ".kept"))
    return read(os.path.join(os.environ["DATA"], name + ".kept"))


def kept(name):
    return read(os.path.join(os.environ["DATA"], name + ".kept"))


def environment(name):
    return os.environ.get(name, "")


def listed(path):
    return "\n".join(sorted(os.listdir(path)))


def api(_):
    """The app API's socket, reached."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(os.environ["COPAL_HUB"])
    return "reached"


def landlock(_):
    """The version of the kernel's."""
    return str(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))


ATTEMPTS = {
    "read": read,
    "write": write,
    "listed": listed,
    "fork": fork,
    "opened": opened,
    "take": take,
    "kill": kill,
    "limit": limit,
    "put": put,
    "kept": kept,
    "environment": environment,
    "api": api,
    "landlock": landlock,
    "status": lambda _: status(),
}


class Intruder(BaseHTTPRequestHandler):
    def do_GET(self):
        path = self.path.split("?", 1)
        attempt, argument = path[0].rsplit("/", 1)[-1], urllib.parse.unquote(path[1] if len(path) > 1 else "")
        try:
            said = "healthy" if attempt == "healthz" else ATTEMPTS[attempt](argument)
        except MemoryError:
            said = "MemoryError"
        except OSError as error:
            said = type(error).__name__
        said = said.encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


class Server(HTTPServer):
    """On `SOCKET`, or on `PORT`."""

    def __init__(self):
        place = os.environ.get("SOCKET")
        self.address_family = socket.AF_UNIX if place else socket.AF_INET
        super().__init__(place or ("127.0.0.1", int(os.environ["PORT"])), Intruder, bind_and_activate=False)
        self.server_bind()
        self.server_activate()

    def server_bind(self):
        self.socket.bind(self.server_address)

    def get_request(self):
        connection, _ = self.socket.accept()
        return connection, ("", 0)


Server().serve_forever()

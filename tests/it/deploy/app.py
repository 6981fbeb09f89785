"""An app that says which version of it runs where. Its own folder says how it misbehaves."""

import base64
import hashlib
import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def read(name):
    try:
        with open(name) as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


VERSION, SERVER = read("version"), os.environ["COPAL_SERVER"]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade"):
            return self.echo()
        path, _, argument = self.path.partition("?")
        if path.endswith("/bytes"):
            return self.bytes(int(argument))
        said = f"{VERSION} on {SERVER}\n".encode()
        self.send_response(200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def bytes(self, count):
        """So many bytes; each piece of them says where it begins."""
        self.send_response(200)
        self.send_header("content-length", str(count))
        self.end_headers()
        for at in range(0, count, 65536):
            self.wfile.write((at.to_bytes(8, "big") * 8192)[: count - at])

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key).digest()).decode())
        self.end_headers()
        self.wfile.flush()
        self.close_connection = True
        while said := self.connection.recv(65536):
            self.connection.sendall(said)

    def log_message(self, *_):
        pass


print(f"version {VERSION} starts on {SERVER}", flush=True)
if SERVER in read("broken-on").split():
    print("the database is not there", flush=True)
    raise SystemExit(7)
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

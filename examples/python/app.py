"""Counts the visits of each of its processes: an app with Python's standard library alone.

Copal says in PORT where to listen, asks /healthz whether all is well, and sends SIGTERM when it is time to end.
"""

import html
import os
import signal
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Visits</title>
<h1>Visit {visits} on {server}</h1>
<p>The count is in the memory of this process: each server has its own, and it ends with the process. What has to outlive
that belongs in the session or on disk.</p>
</html>
"""


class Requests:
    """Counts visits, and the requests that are being answered."""

    def __init__(self):
        self._changed = threading.Condition()
        self._visits = 0
        self._open = 0

    def visit(self):
        with self._changed:
            self._visits += 1
            return self._visits

    def __enter__(self):
        with self._changed:
            self._open += 1

    def __exit__(self, *_):
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for_end(self):
        with self._changed:
            self._changed.wait_for(lambda: self._open == 0)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept for further requests
    requests = Requests()
    stopping = threading.Event()

    def do_GET(self):
        with self.requests:
            path = self.path.split("?")[0]
            if path == "/healthz":
                self.answer(HTTPStatus.OK, "text/plain", "ok\n")
            elif path == "/":
                server = html.escape(os.environ.get("COPAL_SERVER", "no server"))
                page = PAGE.format(visits=self.requests.visit(), server=server)
                self.answer(HTTPStatus.OK, "text/html; charset=utf-8", page)
            else:
                self.answer(HTTPStatus.NOT_FOUND, "text/plain", "not found\n")

    do_HEAD = do_GET

    def answer(self, status, kind, text):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.stopping.is_set():
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """The server has an access log of its own."""


def main():
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)

    def stop(_signal, _frame):
        Handler.stopping.set()
        # It waits for the loop, which is what this handler interrupts.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    print("listening on port", server.server_port, flush=True)
    server.serve_forever(poll_interval=0.1)
    Handler.requests.wait_for_end()


if __name__ == "__main__":
    main()

"""An app that prints what it is asked for, fails when it is told to, and breaks off when it is told to."""

import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = unquote(self.path).partition("?")[0]
        if path != "/healthz":
            print(f"asked for {path}\x1b[31m by {self.headers.get('User-Agent')}", flush=True)
        if path.startswith("/break"):
            self.close_connection = True
            return
        said = b"said\n"
        self.send_response(500 if path.startswith("/fail") else 200)
        self.send_header("content-length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_):
        pass


def end_with(parent):
    """A test kills servers; nobody is left to end their apps then."""
    while os.getppid() == parent:
        time.sleep(0.1)
    os._exit(0)


threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()

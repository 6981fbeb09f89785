"""What a cluster has, in Python's standard library alone: a daemon sends a counter through a queue, a job counts on its own,
all servers share the messages, one cache and the steps of a pipeline, and each user has a count. Kill any server: the counters go on where they were."""

import collections
import json
import os
import signal
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SERVER = os.environ["COPAL_SERVER"]
EVERY = float(os.environ.get("CLUSTER_DEMO_EVERY_MS", "5000")) / 1000
OUTCOME = "application/vnd.copal.outcome+json"


def copal(method, path, value=None, headers=()):
    """A call of this server's own API: docs/local-api.md."""
    body = None if value is None else json.dumps(value).encode()
    request = urllib.request.Request(os.environ["COPAL_API"] + path, body, dict(headers), method=method)
    request.add_header("Authorization", "Bearer " + os.environ["COPAL_TOKEN"])
    request.add_header("Content-Type", "application/json")
    with urllib.request.urlopen(request, timeout=30) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def cached(key):
    try:
        return copal("GET", "/v1/caches/counters/" + key)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return 0
        raise


def increment(key):
    return {"cache": "counters", "key": key, "increment": 1}


class Counter:
    """The daemon: on one server of the cluster it sends a cached number every few seconds, and adds one to it."""

    stopped = threading.Event()
    thread = None

    @classmethod
    def start(cls, fence):
        cls.stop()
        cls.stopped = threading.Event()
        cls.thread = threading.Thread(target=cls.run, args=(fence, cls.stopped), daemon=True)
        cls.thread.start()

    @classmethod
    def stop(cls):
        cls.stopped.set()
        if cls.thread:
            cls.thread.join()

    @staticmethod
    def run(fence, stopped):
        fenced = {"X-Copal-Fence": fence}  # what is written after the lease has gone to another counts for nothing
        while not stopped.wait(EVERY):
            try:
                number = copal("POST", "/v1/caches/counters/sent/increment", {}, fenced)["value"]
                copal("POST", "/v1/queues/msg", number, fenced)
            except OSError as cause:
                print("not sent:", cause, flush=True)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path = self.path.split("?")[0]
        if path == "/healthz":
            self.answer(200, "ok\n")
        elif path == "/":
            received = cached("received")  # first: it is never more than what was sent
            self.answer(200, f"{cached('sent')} messages sent, {received} received, {cached('jobs')} jobs run\n")
        elif path == "/squares":
            self.answer(200, "squared 1 to 100: " + copal("POST", "/v1/pipelines/squares?wait=20s", 100) + "\n")
        elif path == "/count":
            mine = {"X-Copal-Request": self.headers["X-Copal-Request"]}
            count = copal("GET", "/v1/session", headers=mine)["attributes"].get("count", 0) + 1
            copal("PATCH", "/v1/session", {"set": {"count": count}}, mine)
            self.answer(200, f"count {count}\n")
        else:
            self.answer(404, "not found\n")

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Authorization") != "Bearer " + os.environ["COPAL_TOKEN"]:
            self.answer(403, "for Copal alone\n")
        elif self.path == "/on/msg":
            print(SERVER, "received", json.loads(body), flush=True)
            # Together with the message's end: one that comes twice counts once.
            self.answer(200, json.dumps({"cache": [increment("received")]}), OUTCOME)
        elif self.path == "/squares/split":  # the run goes on in parts, a number each
            self.answer(200, json.dumps({"fan-out": list(range(1, json.loads(body) + 1))}), OUTCOME)
        elif self.path == "/squares/square":
            self.answer(200, json.dumps({"square": json.loads(body) ** 2, "server": SERVER}), "application/json")
        elif self.path == "/squares/sum":  # has them all
            squares = json.loads(body)
            by = sorted(collections.Counter(it["server"] for it in squares).items())
            told = ", ".join(f"{count} by {server}" for server, count in by)
            self.answer(200, json.dumps(f"their sum is {sum(it['square'] for it in squares)}, {told}"), "application/json")
        elif self.path == "/jobs/ajob":
            self.answer(200, json.dumps({"cache": [increment("jobs")]}), OUTCOME)
        elif self.path == "/counter/start":
            Counter.start(self.headers["X-Copal-Fence"])
            self.answer(200, "")
        elif self.path == "/counter/stop":
            Counter.stop()
            self.answer(200, "")
        else:
            self.answer(404, "not found\n")

    def answer(self, status, text, kind="text/plain; charset=utf-8"):
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_request(self, code="-", size="-"):
        """The server has an access log of its own."""


server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever(poll_interval=0.1)

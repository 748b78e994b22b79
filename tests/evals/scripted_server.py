"""A server in OpenAI's protocol whose answers, and failures, are known: a process of its own.

    python scripted_server.py SCRIPT

SCRIPT is a JSON file: `gold` (problem -> gold answer), `boxed` (whether answers are), `rate` (share
of right answers), `faults` (share of requests that fail, once or twice each), `kinds` of failures,
`always` (the one that every request meets), `pace` (seconds an answer takes), `listing` (what
/models lists or fails by), `key` (that it wants). It prints its port.
"""

import json
import random
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SLOW = 1.0
"""Seconds that a request hangs: longer than the client waits."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script: dict = {}
    lock = threading.Lock()
    attempts: Counter = Counter()
    faults: Counter = Counter()

    def log_message(self, *_):
        pass

    def do_GET(self):
        if self.path == "/v1/models":
            listing = self.script.get("listing", "scripted")
            if listing.isdigit():
                self.answer(int(listing), {"error": "no list"})
            else:
                self.answer(200, "{" if listing == "nonsense" else {"data": [{"id": listing}]})
        else:
            self.answer(200, {"faults": self.faults, "answered": len(self.attempts)})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "key" in self.script and self.headers["Authorization"] != f"Bearer {self.script['key']}":
            self.answer(401, {"error": "no key"})
            return
        if body["model"] not in ("scripted", "not listed"):
            self.answer(404, {"error": f"no model {body['model']}"})
            return
        with self.lock:
            self.attempts[body["seed"]] += 1
            attempt = self.attempts[body["seed"]]
            kind = self.fault(body["seed"], attempt)
            if kind:
                self.faults[kind] += 1
        if kind:
            self.fail(kind)
            return
        time.sleep(self.script.get("pace", 0))
        chat = self.path == "/v1/chat/completions"
        asked = body["messages"][0]["content"] if chat else body["prompt"]
        problem = asked.partition("\nPlease reason")[0]
        text = self.said(self.script["gold"][problem], random.Random(body["seed"]))
        choice = {"message": {"content": text}} if chat else {"text": text}
        usage = {"completion_tokens": len(text.split())}
        self.answer(200, {"choices": [{**choice, "finish_reason": "stop"}], "usage": usage})

    def fault(self, seed, attempt):
        if self.script.get("always"):
            return self.script["always"]
        rng = random.Random(f"{seed}")
        if rng.random() < self.script.get("faults", 0) and attempt <= rng.choice([1, 2]):
            kinds = self.script["kinds"]
            return kinds[(rng.randrange(len(kinds)) + attempt) % len(kinds)]
        return None

    def said(self, gold, rng):
        right = rng.random() < self.script["rate"]
        if self.script["boxed"]:
            return rf"so \boxed{{{gold}}}" if right else rf"so \boxed{{{rng.choice(WRONG)}}}"
        return gold if right else "no idea"

    def fail(self, kind):
        if kind == "timeout":
            time.sleep(SLOW)
            self.close_connection = True
        elif kind == "dropped":
            self.close_connection = True  # without a byte
        elif kind == "cut":
            self.answer(200, {"choices": [{"text": "x" * 50}]}, claim=4000)
            self.close_connection = True
        elif kind == "malformed":
            self.answer(200, '{"choices": [{"text": ')
        elif kind == "empty":
            self.answer(200, {"choices": []})
        elif kind == "aborted":
            choice = {"text": "half", "message": {"content": "half"}, "finish_reason": "abort"}
            self.answer(200, {"choices": [choice]})
        elif kind == "429":
            self.answer(429, {"error": "slow down"}, {"Retry-After": "0.2"})
        else:
            self.answer(int(kind), {"error": f"scripted {kind}"})

    def answer(self, status, value, headers=(), claim=None):
        data = (value if isinstance(value, str) else json.dumps(value)).encode()
        self.send_response(status)
        for name, said in dict(headers).items():
            self.send_header(name, said)
        self.send_header("Content-Length", str(claim or len(data)))
        self.end_headers()
        self.wfile.write(data)


WRONG = ["-98765432.125", r"\text{none of these}", r"\frac{17}{10007}", "Q"]


class Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request, client_address):
        """A client that went away is none of our business."""


if __name__ == "__main__":
    Handler.script = json.loads(Path(sys.argv[1]).read_text())
    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()

"""Receives notifications, checks both of their signatures, and works on each of them once.

    python examples/receive.py --port 8500 --secret 0123456789abcdef0123456789abcdef

The receiver stores a notification in an inbox, answers, and works on it afterwards: it prints the
body as one line of JSON. It answers 401 and stores nothing when a signature is missing or wrong.
During a rotation of the secret, give --secret twice, the new one first.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

# The events of one POST come from one message of at most 1 MiB.
MAX_BODY = 4 * 1024 * 1024


def has_ms_signature(secret, headers, body):
    """Checks `ms-signature`: an HMAC of the body's bytes as they came."""
    expected = "sha256=" + hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().upper()
    found = headers.get_all("ms-signature", [])
    # compare_digest takes the same time wherever the texts differ. It compares bytes, because a
    # text with letters beyond ASCII is an error for it.
    return len(found) == 1 and hmac.compare_digest(found[0].encode(), expected.encode())


def has_webhook_signature(secret, headers, body):
    """Checks `webhook-id`, `webhook-timestamp` and `webhook-signature` with a library."""
    key = "whsec_" + base64.b64encode(secret.encode()).decode()
    try:
        Webhook(key).verify(body, {name.lower(): value for name, value in headers.items()})
        return True
    except (WebhookVerificationError, ValueError):
        # The library raises ValueError for a signature that is not `v1,` and base64.
        return False


def is_genuine(secrets, headers, body):
    by_ms = any(has_ms_signature(secret, headers, body) for secret in secrets)
    return by_ms and any(has_webhook_signature(secret, headers, body) for secret in secrets)


class Inbox:
    """The notifications that arrived, by their Id. The same notification may arrive again."""

    def __init__(self, path):
        self.lock = threading.Lock()
        self.arrived = threading.Event()
        self.database = sqlite3.connect(path, check_same_thread=False)
        self.database.execute(
            "create table if not exists inbox (id text primary key, body text not null, done integer not null default 0)"
        )

    def put(self, notification_id, body):
        """Stores a notification unless it is there already. It is on disk when this returns."""
        with self.lock, self.database:
            insert = "insert into inbox (id, body) values (?, ?) on conflict (id) do nothing"
            self.database.execute(insert, (notification_id, body))
        self.arrived.set()

    def next(self):
        with self.lock:
            select = "select id, body from inbox where done = 0 order by rowid limit 1"
            return self.database.execute(select).fetchone()

    def done(self, notification_id):
        with self.lock, self.database:
            self.database.execute("update inbox set done = 1 where id = ?", (notification_id,))

    def work(self):
        """Works on one notification after the other, for ever."""
        while True:
            self.arrived.clear()
            while row := self.next():
                notification_id, body = row
                # A real receiver does its work and calls `done` in one transaction.
                print(json.dumps(json.loads(body)), flush=True)
                self.done(notification_id)
            self.arrived.wait()


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        """Verifies the webhook when it is registered: the answer is the value of `echo` alone."""
        echo = parse_qs(urlsplit(self.path).query).get("echo", [""])[0]
        self.answer(200, echo.encode())

    def do_POST(self):
        length = int(self.headers.get("content-length", 0))
        if length > MAX_BODY:
            self.close_connection = True
            return self.answer(413)
        # The bytes as they came: parsing and writing them again would change them.
        body = self.rfile.read(length)
        if not is_genuine(self.server.secrets, self.headers, body):
            return self.answer(401)
        self.server.inbox.put(json.loads(body)["Id"], body.decode())
        self.answer(200)

    def answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("content-type", "text/plain")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="0 picks a free one")
    parser.add_argument("--port-file", help="write the port there once it listens")
    parser.add_argument("--secret", required=True, action="append")
    parser.add_argument("--inbox", default=":memory:", help="a file that survives a restart")
    args = parser.parse_args()
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Receiver)
    server.secrets = args.secret
    server.inbox = Inbox(args.inbox)
    threading.Thread(target=server.inbox.work, daemon=True).start()
    if args.port_file:
        # Written to another file and moved, so that a reader never sees half of it.
        with open(args.port_file + ".draft", "w", encoding="utf-8") as file:
            file.write(str(server.server_port))
        os.replace(args.port_file + ".draft", args.port_file)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    main()

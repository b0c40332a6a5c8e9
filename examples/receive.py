"""Receives notifications and checks both of their signatures.

    python examples/receive.py --port 8500 --secret 0123456789abcdef0123456789abcdef

Prints the body of each POST as one line of JSON, its notifications under "Notifications". Answers
401, and prints nothing, when a signature is missing or not right.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from standardwebhooks.webhooks import Webhook, WebhookVerificationError


def has_ms_signature(secret, headers, body):
    expected = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest().upper()
    # Compared as bytes: a text with other letters than ASCII is an error there, not a difference.
    found = [value.encode() for value in headers.get_all("ms-signature", [])]
    return len(found) == 1 and hmac.compare_digest(found[0], f"sha256={expected}".encode())


def has_webhook_signature(secret, headers, body):
    key = "whsec_" + base64.b64encode(secret.encode()).decode()
    try:
        Webhook(key).verify(body, {name.lower(): value for name, value in headers.items()})
        return True
    except (WebhookVerificationError, ValueError):
        # The library says ValueError of what is not text, not base64, or has not its two parts.
        return False


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    secret = ""

    def do_GET(self):
        """Registering a webhook asks the receiver to give back a value, which shows that it is ours."""
        echo = parse_qs(urlsplit(self.path).query).get("echo", [""])[0]
        self.answer(200, echo.encode())

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        good = has_ms_signature(self.secret, self.headers, body)
        good = has_webhook_signature(self.secret, self.headers, body) and good
        if good:
            # A real receiver keeps the Id: the same notification may come again.
            sys.stdout.write(json.dumps(json.loads(body)) + "\n")
            sys.stdout.flush()
        self.answer(200 if good else 401, b"")

    def answer(self, status, body):
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
    parser.add_argument("--secret", required=True)
    args = parser.parse_args()
    Receiver.secret = args.secret
    server = ThreadingHTTPServer(("127.0.0.1", args.port), Receiver)
    if args.port_file:
        # Written beside and moved, so that nobody reads a half of it.
        with open(args.port_file + ".draft", "w", encoding="utf-8") as file:
            file.write(str(server.server_port))
        os.replace(args.port_file + ".draft", args.port_file)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()

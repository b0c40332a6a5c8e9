"""Verifies captured requests with libraries that Fanfare did not write; prints how many are valid.

Each line of the file: {"secret": …, "headers": [[name, value], …], "body": base64}.
"""

import base64
import hashlib
import hmac
import json
import sys

from standardwebhooks.webhooks import Webhook

right = 0
with open(sys.argv[1], encoding="utf-8") as file:
    for line in file:
        request = json.loads(line)
        secret, body = request["secret"].encode(), base64.b64decode(request["body"])
        signatures = [value for name, value in request["headers"] if name == "ms-signature"]
        expected = hmac.new(secret, body, hashlib.sha256).hexdigest().upper()
        assert signatures == [f"sha256={expected}"], (signatures, expected)
        library = Webhook("whsec_" + base64.b64encode(secret).decode())
        library.verify(body, dict(request["headers"]))
        right += 1
print(right)

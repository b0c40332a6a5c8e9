// Receives notifications, checks both of their signatures, and works on each of them once. It needs
// Node.js 20 and no package.
//
//     node examples/receive.js --port 8500 --secret 0123456789abcdef0123456789abcdef
//
// The receiver remembers a notification, answers, and works on it afterwards: it prints the body as
// one line of JSON. It answers 401 when a signature is missing or wrong. During a rotation of the
// secret, give --secret twice, the new one first.

import { createHmac, timingSafeEqual } from "node:crypto";
import { renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { parseArgs } from "node:util";

// The events of one POST come from one message of at most 1 MiB.
const MAX_BODY = 4 * 1024 * 1024;

// Standard Webhooks: a request that is older or newer than this may be a recording.
const TOLERANCE_SECONDS = 5 * 60;

// timingSafeEqual takes the same time wherever the texts differ, but wants texts of one length.
function isSame(found, expected) {
  const [a, b] = [Buffer.from(found), Buffer.from(expected)];
  return a.length === b.length && timingSafeEqual(a, b);
}

// Checks `ms-signature`: an HMAC of the body's bytes as they came.
function hasMsSignature(secret, headers, body) {
  const digest = createHmac("sha256", secret).update(body).digest("hex").toUpperCase();
  return isSame(headers["ms-signature"] ?? "", `sha256=${digest}`);
}

// Checks `webhook-signature`, which covers the id and the time too.
function hasWebhookSignature(secret, headers, body) {
  const { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": found } = headers;
  if (!id || !/^\d{1,12}$/.test(timestamp ?? "") || !found) return false;
  if (Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE_SECONDS) return false;
  const digest = createHmac("sha256", secret).update(`${id}.${timestamp}.`).update(body).digest("base64");
  // There is an entry for each valid secret.
  return found.split(" ").some((entry) => isSame(entry, `v1,${digest}`));
}

function isGenuine(secrets, headers, body) {
  const byMs = secrets.some((secret) => hasMsSignature(secret, headers, body));
  return byMs && secrets.some((secret) => hasWebhookSignature(secret, headers, body));
}

async function readBody(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    length += chunk.length;
    if (length > MAX_BODY) throw new Error("the body is too large");
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

// The same notification may arrive again. A real receiver keeps Ids in its database, where they
// survive a restart, and stores the notification in the same transaction.
const seen = new Set();

function work(notification) {
  console.log(JSON.stringify(notification));
}

function answer(response, status, text = "") {
  const length = Buffer.byteLength(text);
  response.writeHead(status, { "content-type": "text/plain", "content-length": length }).end(text);
}

async function receive(request, response) {
  if (request.method === "GET") {
    // Verifies the webhook when it is registered: the answer is the value of `echo` alone.
    const { searchParams } = new URL(request.url, "http://receiver");
    return answer(response, 200, searchParams.get("echo") ?? "");
  }
  const body = await readBody(request);
  if (!isGenuine(options.secret, request.headers, body)) return answer(response, 401);
  const notification = JSON.parse(body);
  if (!seen.has(notification.Id)) {
    seen.add(notification.Id);
    setImmediate(work, notification);
  }
  answer(response, 200);
}

const { values: options } = parseArgs({
  options: {
    port: { type: "string" },
    "port-file": { type: "string" },
    secret: { type: "string", multiple: true },
  },
});
if (!options.port || !options.secret) {
  console.error("usage: node receive.js --port N --secret S [--secret OLD] [--port-file FILE]");
  process.exit(2);
}
const server = createServer((request, response) => {
  receive(request, response).catch((error) => {
    // A connection that broke off, for example. Fanfare sends the notification again.
    console.error(error.message);
    response.destroy();
  });
});
server.listen(Number(options.port), "127.0.0.1", () => {
  if (options["port-file"]) {
    // Written to another file and moved, so that a reader never sees half of it.
    writeFileSync(`${options["port-file"]}.draft`, String(server.address().port));
    renameSync(`${options["port-file"]}.draft`, options["port-file"]);
  }
});

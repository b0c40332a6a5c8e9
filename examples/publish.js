// Publishes events to Fanfare as a report server does, with amqplib.
//
//     cd examples && npm ci
//     node publish.js --url amqp://guest:guest@localhost:5672/%2f events.jsonl
//
// The file holds one event, an array of events, or JSON Lines. With --batch, its events go out as one
// batch, and so in one POST to each webhook. The exit code is 1 if an event was not routed.

import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { connect } from "amqplib";

const EXCHANGE = "reportserver.events";

function eventsOf(path) {
  const text = readFileSync(path, "utf8");
  try {
    return [JSON.parse(text)].flat();
  } catch {
    return text.split("\n").filter((line) => line.trim()).map((line) => JSON.parse(line));
  }
}

// Publishes messages, and returns when the broker has stored all of them. A body is an event, or an
// array of events, which reach each webhook in one POST.
async function publish(channel, bodies) {
  let returned = 0;
  channel.on("return", () => (returned += 1));
  for (const body of bodies) {
    const [first, kind] = Array.isArray(body) ? [body[0], "cloudevents-batch"] : [body, "cloudevents"];
    const options = { contentType: `application/${kind}+json`, persistent: true, mandatory: true };
    channel.publish(EXCHANGE, first.type, Buffer.from(JSON.stringify(body)), options);
  }
  await channel.waitForConfirms();
  if (returned > 0) throw new Error(`${returned} messages were not routed: no queue takes them`);
}

const { values, positionals } = parseArgs({
  options: { url: { type: "string" }, batch: { type: "boolean" } },
  allowPositionals: true,
});
if (!values.url || positionals.length !== 1) {
  console.error("usage: node publish.js --url amqp://… [--batch] FILE");
  process.exit(2);
}
const events = eventsOf(positionals[0]);
const connection = await connect(values.url);
try {
  const channel = await connection.createConfirmChannel();
  await publish(channel, values.batch ? [events] : events);
  console.log(`published ${events.length} events`);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  await connection.close();
}

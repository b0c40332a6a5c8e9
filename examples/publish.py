"""Publishes events to Fanfare as a report server does, with pika.

    python examples/publish.py --url amqp://guest:guest@localhost:5672/%2f examples/events.jsonl

Each FILE holds one event, an array of events, or JSON Lines. With --batch, the events of a file go
out as one batch. Ends with 1 if an event was not routed.
"""

import argparse
import json
import sys

import pika

EXCHANGE = "reportserver.events"


def events_of(path):
    with open(path, encoding="utf-8") as file:
        text = file.read()
    try:
        whole = json.loads(text)
        return whole if isinstance(whole, list) else [whole]
    except json.JSONDecodeError:
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def publish(channel, routing_key, body, content_type):
    properties = pika.BasicProperties(content_type=content_type, delivery_mode=pika.DeliveryMode.Persistent)
    # With confirms on, this returns when the broker has the message, and raises if no queue takes it.
    channel.basic_publish(EXCHANGE, routing_key, json.dumps(body).encode(), properties, mandatory=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the broker, amqp://…")
    parser.add_argument("--batch", action="store_true", help="send the events of a file as one batch")
    parser.add_argument("files", nargs="+", metavar="FILE")
    args = parser.parse_args()
    connection = pika.BlockingConnection(pika.URLParameters(args.url))
    channel = connection.channel()
    channel.confirm_delivery()
    count = 0
    for path in args.files:
        events = events_of(path)
        if args.batch:
            publish(channel, events[0]["type"], events, "application/cloudevents-batch+json")
        else:
            for event in events:
                publish(channel, event["type"], event, "application/cloudevents+json")
        count += len(events)
    connection.close()
    print(f"published {count} events")


if __name__ == "__main__":
    try:
        main()
    except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
        sys.exit(f"an event was not routed: {error}; does Fanfare's router run?")

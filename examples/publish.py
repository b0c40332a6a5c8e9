"""Publishes events to Fanfare as a report server does, with pika.

    python examples/publish.py --url amqp://guest:guest@localhost:5672/%2f examples/events.jsonl

Each FILE holds one event, an array of events, or JSON Lines; without a FILE, one sample event of
each kind is made. With --batch, the events of a file go out as one batch, and so in one POST to each
webhook. Ends with 1 if an event was not routed.
"""

import argparse
import json
import sys
import uuid

import pika
import pika.exceptions

EXCHANGE = "reportserver.events"

SAMPLES = [
    ("reports.upload", "categories/c41d7be2f60/reports/91ab04cd7e2", "91ab04cd7e2", "Quarterly sales"),
    ("categories.create", "categories/7d20c9f4a1e", "7d20c9f4a1e", "Human resources"),
    ("connections.edit", "connections/e12f60b7a39", "e12f60b7a39", "Warehouse"),
    ("tasks.execute", "tasks/48d3c5e7f0b", "48d3c5e7f0b", "Mail the quarterly sales"),
    ("alerts.create", "alerts/a96e0f8d2c4", "a96e0f8d2c4", "Sales below plan"),
]


def samples():
    """One event of each kind, with new ids: an event is known by its source and id."""
    return [
        {
            "specversion": "1.0",
            "id": str(uuid.uuid4()),
            "source": "/examples/publish.py",
            "type": event_type,
            "subject": subject,
            "data": {"Id": resource, "Name": name},
        }
        for event_type, subject, resource, name in SAMPLES
    ]


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
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args()
    files = [events_of(path) for path in args.files] or [samples()]
    connection = pika.BlockingConnection(pika.URLParameters(args.url))
    channel = connection.channel()
    channel.confirm_delivery()
    count = 0
    for events in files:
        if args.batch and events:
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
        sys.exit(f"an event was not routed: {error!r}")
    except pika.exceptions.ChannelClosedByBroker as error:
        sys.exit(f"{error.reply_text}; a router or worker of Fanfare makes the exchange when it starts")

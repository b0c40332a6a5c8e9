"""Publishes events to Fanfare as a report server does, with pika.

    python examples/publish.py --url amqp://guest:guest@localhost:5672/%2f examples/events.jsonl

Each FILE holds one event, an array of events, or JSON Lines. Without a FILE, the program makes one
sample event of each kind. With --batch, the events of a file go out as one batch, and so in one POST
to each webhook. The exit code is 1 if an event was not routed.
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
    """One event of each kind, each with a new id: source and id identify an event."""
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


def connect(url):
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()  # from now on basic_publish waits for the broker
    return channel


def publish(channel, event):
    """Returns when the broker has stored the event. Raises an error if no queue takes it."""
    properties = pika.BasicProperties(content_type="application/cloudevents+json", delivery_mode=2)
    channel.basic_publish(EXCHANGE, event["type"], json.dumps(event).encode(), properties, mandatory=True)


def publish_batch(channel, events):
    """The same for an array of events, which reach each webhook in one POST."""
    properties = pika.BasicProperties(content_type="application/cloudevents-batch+json", delivery_mode=2)
    channel.basic_publish(EXCHANGE, events[0]["type"], json.dumps(events).encode(), properties, mandatory=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--url", required=True, help="the broker, amqp://…")
    parser.add_argument("--batch", action="store_true", help="send the events of a file as one batch")
    parser.add_argument("files", nargs="*", metavar="FILE")
    args = parser.parse_args()
    files = [events_of(path) for path in args.files] or [samples()]
    channel = connect(args.url)
    for events in filter(None, files):
        if args.batch:
            publish_batch(channel, events)
        else:
            for event in events:
                publish(channel, event)
    channel.connection.close()
    print(f"published {sum(map(len, files))} events")


if __name__ == "__main__":
    try:
        main()
    except (pika.exceptions.UnroutableError, pika.exceptions.NackError) as error:
        sys.exit(f"an event was not routed: {error!r}")
    except pika.exceptions.ChannelClosedByBroker as error:
        sys.exit(f"{error.reply_text}; a router of Fanfare makes the exchange when it starts")

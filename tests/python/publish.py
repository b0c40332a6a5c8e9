"""Publishes the messages of a JSON Lines file in order: an object is one event, an array a batch."""

import json
import sys

import pika

connection = pika.BlockingConnection(pika.URLParameters(sys.argv[1]))
channel = connection.channel()
channel.confirm_delivery()
with open(sys.argv[2], encoding="utf-8") as file:
    for line in file:
        message = json.loads(line)
        batch = isinstance(message, list)
        first = message[0] if batch else message
        kind = "application/cloudevents-batch+json" if batch else "application/cloudevents+json"
        properties = pika.BasicProperties(content_type=kind, delivery_mode=2)
        channel.basic_publish(
            "reportserver.events", first["type"], line.strip().encode(), properties, mandatory=True
        )
connection.close()

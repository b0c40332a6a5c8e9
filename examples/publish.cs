// Publishes an event to Fanfare as a report server does, with RabbitMQ.Client 7.
//
//     dotnet new console --output publisher && cp publish.cs publisher/Program.cs
//     dotnet add publisher package RabbitMQ.Client --version 7.*
//     dotnet run --project publisher

using System.Text;
using RabbitMQ.Client;

var factory = new ConnectionFactory { Uri = new Uri("amqp://guest:guest@localhost:5672/%2f") };
await using var connection = await factory.CreateConnectionAsync("report-server");

// With tracked confirms, BasicPublishAsync returns when the broker has stored the message, and throws
// an exception if no queue takes it.
var options = new CreateChannelOptions(
    publisherConfirmationsEnabled: true,
    publisherConfirmationTrackingEnabled: true);
await using var channel = await connection.CreateChannelAsync(options);

var body = Encoding.UTF8.GetBytes("""
    {
      "specversion": "1.0",
      "id": "0b9c0a52-7a61-4a1e-9d0c-5a4f6f7f2f10",
      "source": "/report-server/main",
      "type": "reports.upload",
      "time": "2026-11-23T10:00:00Z",
      "subject": "categories/c41d7be2f60/reports/91ab04cd7e2",
      "accessrevision": 412,
      "data": { "Id": "91ab04cd7e2", "Name": "Quarterly sales" }
    }
    """);
var properties = new BasicProperties
{
    ContentType = "application/cloudevents+json",
    Persistent = true,
};
await channel.BasicPublishAsync("reportserver.events", "reports.upload", mandatory: true, properties, body);

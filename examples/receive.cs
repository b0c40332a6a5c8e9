// Receives notifications, checks both of their signatures, and works on each of them once, with
// ASP.NET Core 8 or newer.
//
//     dotnet new web --output receiver && cp receive.cs receiver/Program.cs
//     WEBHOOK_SECRETS=0123456789abcdef0123456789abcdef dotnet run --project receiver
//
// The receiver remembers a notification, answers, and works on it afterwards: it prints the body. It
// answers 401 when a signature is missing or wrong. During a rotation of the secret, WEBHOOK_SECRETS
// has both, the new one first, with a space between them.

using System.Collections.Concurrent;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Threading.Channels;

// The events of one POST come from one message of at most 1 MiB.
const int MaxBody = 4 * 1024 * 1024;

// Standard Webhooks: a request that is older or newer than this may be a recording.
const int ToleranceSeconds = 5 * 60;

var secrets = (Environment.GetEnvironmentVariable("WEBHOOK_SECRETS")
        ?? throw new InvalidOperationException("WEBHOOK_SECRETS is not set"))
    .Split(' ').Select(secret => Encoding.UTF8.GetBytes(secret)).ToArray();

// The same notification may arrive again. A real receiver keeps Ids in its database, where they
// survive a restart, and stores the notification in the same transaction.
var seen = new ConcurrentDictionary<string, bool>();
var inbox = Channel.CreateUnbounded<string>();

// FixedTimeEquals takes the same time wherever the texts differ.
static bool IsSame(string found, string expected) => CryptographicOperations.FixedTimeEquals(
    Encoding.UTF8.GetBytes(found), Encoding.UTF8.GetBytes(expected));

// Checks `ms-signature`: an HMAC of the body's bytes as they came.
static bool HasMsSignature(byte[] secret, IHeaderDictionary headers, byte[] body)
{
    var expected = "sha256=" + Convert.ToHexString(HMACSHA256.HashData(secret, body));
    var found = headers["ms-signature"];
    return found.Count == 1 && IsSame(found[0] ?? "", expected);
}

// Checks `webhook-signature`, which covers the id and the time too.
static bool HasWebhookSignature(byte[] secret, IHeaderDictionary headers, byte[] body)
{
    var (id, timestamp) = (headers["webhook-id"].ToString(), headers["webhook-timestamp"].ToString());
    if (!long.TryParse(timestamp, NumberStyles.None, CultureInfo.InvariantCulture, out var seconds)
        || Math.Abs((decimal)DateTimeOffset.UtcNow.ToUnixTimeSeconds() - seconds) > ToleranceSeconds)
    {
        return false;
    }
    byte[] signed = [.. Encoding.UTF8.GetBytes($"{id}.{timestamp}."), .. body];
    var expected = "v1," + Convert.ToBase64String(HMACSHA256.HashData(secret, signed));
    // There is an entry for each valid secret.
    return headers["webhook-signature"].ToString().Split(' ').Any(entry => IsSame(entry, expected));
}

var builder = WebApplication.CreateBuilder(args);
builder.WebHost.ConfigureKestrel(server => server.Limits.MaxRequestBodySize = MaxBody);
var app = builder.Build();

// Verifies the webhook when it is registered: the answer is the value of `echo` alone.
app.MapGet("/", (string? echo) => Results.Text(echo ?? ""));

app.MapPost("/", async (HttpRequest request) =>
{
    // The bytes as they came: parsing and writing them again would change them.
    using var buffer = new MemoryStream();
    await request.Body.CopyToAsync(buffer);
    var body = buffer.ToArray();
    if (!secrets.Any(secret => HasMsSignature(secret, request.Headers, body))
        || !secrets.Any(secret => HasWebhookSignature(secret, request.Headers, body)))
    {
        return Results.Unauthorized();
    }
    using var notification = JsonDocument.Parse(body);
    if (seen.TryAdd(notification.RootElement.GetProperty("Id").GetString()!, true))
    {
        inbox.Writer.TryWrite(Encoding.UTF8.GetString(body));
    }
    return Results.Ok();
});

_ = Task.Run(async () =>
{
    await foreach (var notification in inbox.Reader.ReadAllAsync())
    {
        Console.WriteLine(notification);
    }
});

app.Run("http://127.0.0.1:8500");

//! An AMQP 0-9-1 publisher that sends any bytes: other clients write messages that the client
//! library refuses to write.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};
use lapin::uri::AMQPUri;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const FRAME_END: u8 = 0xCE;
/// RabbitMQ's default limit.
const FRAME_MAX: u32 = 131_072;
/// The bytes of a frame around its payload.
const AROUND: usize = 8;

/// The most bytes that a message's properties may take: the payload of one frame without class,
/// weight and size.
pub const LARGEST_PROPERTIES: usize = FRAME_MAX as usize - AROUND - 12;

/// A connection with one channel in confirm mode.
pub struct RawAmqp {
    reader: BufReader<OwnedReadHalf>,
    writer: BufWriter<OwnedWriteHalf>,
    published: u64,
    /// The numbers of the unconfirmed messages. Confirms arrive in any order.
    open: BTreeSet<u64>,
}

impl RawAmqp {
    /// Connects to a virtual host.
    pub async fn connect(url: &str) -> Result<Self> {
        let uri: AMQPUri = url.parse().map_err(|error| anyhow::anyhow!("{url}: {error}"))?;
        let (host, port) = (uri.authority.host.as_str(), uri.authority.port);
        let (reader, writer) = TcpStream::connect((host, port)).await?.into_split();
        let (reader, writer) = (BufReader::new(reader), BufWriter::new(writer));
        let mut raw = Self { reader, writer, published: 0, open: BTreeSet::new() };
        raw.writer.write_all(b"AMQP\x00\x00\x09\x01").await?;
        raw.expect(10, 10).await.context("starting")?;
        let login = &uri.authority.userinfo;
        let answer = format!("\0{}\0{}", login.username, login.password);
        let start_ok =
            [long(b""), short(b"PLAIN"), long(answer.as_bytes()), short(b"en_US")].concat();
        raw.method(0, 10, 11, &start_ok).await?;
        raw.expect(10, 30).await.context("logging in")?;
        let mut tune_ok = 2047_u16.to_be_bytes().to_vec();
        tune_ok.extend(FRAME_MAX.to_be_bytes());
        // No heartbeats.
        tune_ok.extend([0, 0]);
        raw.method(0, 10, 31, &tune_ok).await?;
        raw.method(0, 10, 40, &[short(uri.vhost.as_bytes()), vec![0, 0]].concat()).await?;
        raw.expect(10, 41).await.context("opening the virtual host")?;
        raw.method(1, 20, 10, &[0]).await?;
        raw.expect(20, 11).await.context("opening a channel")?;
        raw.method(1, 85, 10, &[0]).await?;
        raw.expect(85, 11).await.context("asking for confirms")?;
        Ok(raw)
    }

    /// Sends a message. [`Self::confirm`] says whether the broker took it.
    pub async fn publish(
        &mut self,
        exchange: &str,
        routing_key: &[u8],
        properties: &RawProperties,
        body: &[u8],
    ) -> Result<()> {
        let names = [vec![0, 0], short(exchange.as_bytes()), short(routing_key), vec![0]].concat();
        self.frame(METHOD, 1, &[&[0, 60, 0, 40][..], &names].concat()).await?;
        let mut header = vec![0, 60, 0, 0];
        header.extend((body.len() as u64).to_be_bytes());
        header.extend(properties.bytes());
        self.frame(HEADER, 1, &header).await?;
        for part in body.chunks(FRAME_MAX as usize - AROUND) {
            self.frame(BODY, 1, part).await?;
        }
        self.published += 1;
        self.open.insert(self.published);
        Ok(())
    }

    /// Waits until the broker has confirmed all published messages.
    pub async fn confirm(&mut self) -> Result<()> {
        self.writer.flush().await?;
        while !self.open.is_empty() {
            let (class, method, arguments) = self.read_method().await?;
            ensure!((class, method) == (60, 80), "expected a confirm, got {class}.{method}");
            let (tag, rest) = arguments.split_first_chunk::<8>().context("a short confirm")?;
            let tag = u64::from_be_bytes(*tag);
            if rest.first().is_some_and(|bits| bits & 1 == 1) {
                self.open = self.open.split_off(&(tag + 1));
            } else {
                self.open.remove(&tag);
            }
        }
        Ok(())
    }

    async fn method(
        &mut self,
        channel: u16,
        class: u16,
        method: u16,
        arguments: &[u8],
    ) -> Result<()> {
        let mut payload = class.to_be_bytes().to_vec();
        payload.extend(method.to_be_bytes());
        payload.extend(arguments);
        self.frame(METHOD, channel, &payload).await?;
        Ok(self.writer.flush().await?)
    }

    async fn frame(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<()> {
        self.writer.write_u8(kind).await?;
        self.writer.write_u16(channel).await?;
        self.writer.write_u32(u32::try_from(payload.len())?).await?;
        self.writer.write_all(payload).await?;
        Ok(self.writer.write_u8(FRAME_END).await?)
    }

    async fn expect(&mut self, class: u16, method: u16) -> Result<()> {
        self.writer.flush().await?;
        let (c, m, _) = self.read_method().await?;
        ensure!((c, m) == (class, method), "expected {class}.{method}, got {c}.{m}");
        Ok(())
    }

    async fn read_method(&mut self) -> Result<(u16, u16, Vec<u8>)> {
        loop {
            let kind = self.reader.read_u8().await.context("the broker closed the connection")?;
            let _channel = self.reader.read_u16().await?;
            let size = self.reader.read_u32().await?;
            let mut payload = vec![0; usize::try_from(size)?];
            self.reader.read_exact(&mut payload).await?;
            self.reader.read_u8().await?;
            let (METHOD, [a, b, c, d, arguments @ ..]) = (kind, payload.as_slice()) else {
                continue;
            };
            let (class, method) = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
            if let (10, 50) | (20, 40) = (class, method) {
                bail!("the broker refused it: {}", String::from_utf8_lossy(arguments));
            }
            return Ok((class, method, arguments.to_vec()));
        }
    }
}

/// The properties of a message, byte for byte. Set them in the order of AMQP.
#[derive(Clone, Debug, Default)]
pub struct RawProperties {
    flags: u16,
    bytes: Vec<u8>,
}

impl RawProperties {
    /// The flags of the properties that are short texts.
    pub const TEXTS: [(&'static str, u16); 9] = [
        ("content_type", 15),
        ("content_encoding", 14),
        ("correlation_id", 10),
        ("reply_to", 9),
        ("expiration", 8),
        ("message_id", 7),
        ("type", 5),
        ("app_id", 3),
        ("cluster_id", 2),
    ];

    /// Adds a short text, of the names in [`Self::TEXTS`].
    #[must_use]
    pub fn text(mut self, name: &str, bytes: &[u8]) -> Self {
        for (known, bit) in Self::TEXTS {
            if known == name {
                self = self.with(bit, &short(bytes));
            }
        }
        self
    }

    /// Adds the headers; values are of [`value`] and its like.
    #[must_use]
    pub fn headers(self, headers: &[(Vec<u8>, Vec<u8>)]) -> Self {
        self.with(13, &long(&entries(headers)))
    }

    /// Adds the mode: 1 or 2.
    #[must_use]
    pub fn delivery_mode(self, mode: u8) -> Self {
        self.with(12, &[mode])
    }

    #[must_use]
    pub fn priority(self, priority: u8) -> Self {
        self.with(11, &[priority])
    }

    /// Adds the time of sending.
    #[must_use]
    pub fn timestamp(self, seconds: u64) -> Self {
        self.with(6, &seconds.to_be_bytes())
    }

    /// The size in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        2 + self.bytes.len()
    }

    fn with(mut self, bit: u16, bytes: &[u8]) -> Self {
        self.flags |= 1 << bit;
        self.bytes.extend(bytes);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        [&self.flags.to_be_bytes()[..], &self.bytes].concat()
    }
}

/// A header's value of the type with this letter.
#[must_use]
pub fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
    [&[kind][..], bytes].concat()
}

/// A text value, which may have any bytes.
#[must_use]
pub fn text(bytes: &[u8]) -> Vec<u8> {
    value(b'S', &long(bytes))
}

#[must_use]
pub fn table(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    value(b'F', &long(&entries(headers)))
}

/// Nested tables; each has the next one under the name `n`.
#[must_use]
pub fn nested(depth: u32) -> Vec<u8> {
    // An entry is its name, in two bytes, and its value: a table is its type, its length, an entry.
    let size = |depth: u32| 7 * depth + 1;
    let mut nested = Vec::new();
    for inner in (0..depth).rev() {
        nested.push(b'F');
        nested.extend((2 + size(inner)).to_be_bytes());
        nested.extend([1, b'n']);
    }
    nested.push(b'V');
    nested
}

#[must_use]
pub fn list(values: &[Vec<u8>]) -> Vec<u8> {
    value(b'A', &long(&values.concat()))
}

fn entries(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    headers.iter().flat_map(|(name, value)| [short(name), value.clone()].concat()).collect()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    let bytes = bytes.get(..usize::from(length)).unwrap_or_default();
    [&[length][..], bytes].concat()
}

fn long(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], bytes].concat()
}

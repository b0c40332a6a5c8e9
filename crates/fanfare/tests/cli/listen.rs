//! `fanfare listen` with real requests.

use std::io::{BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use fanfare_core::signature::{ms_signature, webhook_signature};
use fanfare_core::webhook::Secret;
use serde_json::Value;

use crate::command::Cli;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const ID: &str = "0f8fad5bd9cb469fa16570867728950e";
const BODY: &str = "{\"Id\":\"0f8fad5bd9cb469fa16570867728950e\",\"Attempt\":1,\"Properties\":{},\n\
    \"Notifications\":[{\"Action\":\"reports\",\"UserAction\":\"upload\",\"Id\":\"r1\",\"Name\":\"Sales\"}]}";

/// A receiver that is running. It is killed when this is dropped.
pub(crate) struct Receiver {
    _cli: Cli,
    process: Child,
    stdout: BufReader<ChildStdout>,
    stderr: BufReader<ChildStderr>,
    pub(crate) address: String,
}

impl Receiver {
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let cli = Cli::new();
        let mut command = cli.command(&["listen", "--port", "0"]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        let mut stderr = BufReader::new(process.stderr.take().unwrap());
        let line = line(&mut stderr);
        let address = line.strip_prefix("listening on http://").unwrap().to_owned();
        Self { _cli: cli, process, stdout, stderr, address }
    }

    /// Sends a request; returns the answer's status, head and body.
    fn request(&self, head: &str, body: &str) -> (u16, String, String) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = body.len();
        write!(
            stream,
            "{head}\r\nhost: test\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_ascii_lowercase(), body.to_owned())
    }

    fn post(&self, signatures: &str, body: &str) -> u16 {
        self.request(&format!("POST /hook HTTP/1.1{signatures}"), body).0
    }

    pub(crate) fn json(&mut self) -> Value {
        serde_json::from_str(&line(&mut self.stdout)).unwrap()
    }

    /// Interrupts the receiver, and returns the rest of stderr.
    fn stop(mut self) -> String {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        let code = self.process.wait().unwrap().code();
        let mut rest = String::new();
        self.stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(code, Some(0), "{rest}");
        rest
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn line(reader: &mut impl std::io::BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    line.trim_end().to_owned()
}

fn signed_at(offset: i64) -> String {
    let secret: Secret = SECRET.parse().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let at = i64::try_from(now).unwrap() + offset;
    let ms = ms_signature(&secret, BODY.as_bytes());
    let standard = webhook_signature(&[secret], ID.parse().unwrap(), at, BODY.as_bytes());
    format!(
        "\r\nms-signature: {ms}\r\nwebhook-id: {ID}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {standard}"
    )
}

#[test]
fn signed_notification_is_shown_and_answered() {
    let mut receiver = Receiver::start(&["--secret", SECRET]);
    assert_eq!(receiver.post(&signed_at(0), BODY), 200);
    let head = line(&mut receiver.stdout);
    assert!(
        head.contains("POST /hook") && head.contains(ID) && head.contains("attempt 1"),
        "{head}"
    );
    assert_eq!(line(&mut receiver.stdout), "  reports upload  r1  Sales");
    assert_eq!(line(&mut receiver.stdout), "  ms-signature ok, webhook-signature ok, time ok");
    let summary = receiver.stop();
    assert!(summary.starts_with("1 notifications in 1 posts"), "{summary}");
    assert_eq!(summary.lines().count(), 1);
}

#[test]
fn wrong_or_old_signature_is_refused() {
    let mut receiver = Receiver::start(&["--secret", SECRET, "--json", "--status", "204"]);
    assert_eq!(receiver.post("", BODY), 401);
    let shown = receiver.json();
    assert_eq!((&shown["msSignature"], &shown["status"]), (&Value::Null, &401.into()));
    assert_eq!(shown["problems"][0], "ms-signature is missing");

    assert_eq!(receiver.post(&signed_at(0), &BODY.replace("Sales", "Other")), 401);
    let shown = receiver.json();
    assert_eq!((&shown["msSignature"], &shown["webhookSignature"]), (&false.into(), &false.into()));

    assert_eq!(receiver.post(&signed_at(-400), BODY), 401);
    let shown = receiver.json();
    assert_eq!((&shown["msSignature"], &shown["timestamp"]), (&true.into(), &false.into()));

    assert_eq!(receiver.post(&signed_at(0), BODY), 204);
    let shown = receiver.json();
    assert_eq!(shown["notifications"][0]["Name"], "Sales");
    assert_eq!((&shown["id"], &shown["attempt"]), (&ID.into(), &1.into()));
    assert_eq!(shown["problems"], Value::Array(vec![]));
    assert!(receiver.stop().contains("3 refused"));
}

#[test]
fn listen_fails_first_and_delays_as_configured() {
    let receiver = Receiver::start(&["--fail-first", "2", "--delay", "200", "--json"]);
    let start = Instant::now();
    let statuses: Vec<u16> = (0..3).map(|_| receiver.post("", BODY)).collect();
    assert_eq!(statuses, [500, 500, 200]);
    assert!(start.elapsed() >= Duration::from_millis(600));
    assert!(receiver.stop().contains("2 failed on purpose"));
}

#[test]
fn listen_passes_verification() {
    let receiver = Receiver::start(&["--secret", SECRET]);
    let (status, head, body) = receiver.request("GET /hook?a=1&echo=0123abcd HTTP/1.1", "");
    assert_eq!((status, body.as_str()), (200, "0123abcd"));
    assert!(head.contains("content-type: text/plain"), "{head}");
    assert_eq!(receiver.request("PUT /hook HTTP/1.1", "").0, 405);
}

#[test]
fn body_over_8_mib_is_refused() {
    let receiver = Receiver::start(&[]);
    let body = " ".repeat(8 * 1024 * 1024 + 1);
    assert_eq!(receiver.post("", &body), 413);
    assert_eq!(receiver.post("", "hello"), 200);
}

#[test]
fn port_in_use_is_an_error() {
    let receiver = Receiver::start(&[]);
    let port = receiver.address.rsplit(':').next().unwrap();
    let ended = Cli::new().run(&["listen", "--port", port]);
    assert!(ended.failed_with(1).contains("choose another port"));
}

//! What the server sends: the verification of an address, and signed POSTs with three tries.

use std::fmt::Write as _;
use std::io::{self, Read, Write as _};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;

use super::state::{Post, Sent, State};
use crate::mutex::hold;

/// The longest wait for an answer.
const ANSWER: Duration = Duration::from_secs(20);

/// Sends POSTs in the background, each by a thread of its own.
pub(super) fn send(state: &Arc<Mutex<State>>, posts: Vec<Post>) {
    for post in posts {
        let state = Arc::clone(state);
        thread::spawn(move || send_one(&state, &post));
    }
}

fn send_one(state: &Mutex<State>, post: &Post) {
    for attempt in 1..=3 {
        let (twice, pauses) = {
            let state = hold(state);
            (state.switches.twice, state.switches.pauses)
        };
        let tries = if twice { 2 } else { 1 };
        let statuses: Vec<u16> =
            (0..tries).filter_map(|_| attempt_of(state, post, attempt).ok()).collect();
        if statuses.iter().any(|status| (200..300).contains(status)) {
            return ended(state, post, true);
        }
        match statuses.first() {
            Some(410) => return ended(state, post, false),
            _ if attempt < 3 => thread::sleep(if attempt == 1 { pauses[0] } else { pauses[1] }),
            _ => {}
        }
    }
    ended(state, post, false);
}

fn attempt_of(state: &Mutex<State>, post: &Post, attempt: i32) -> io::Result<u16> {
    let hook = hold(state).hooks.get(&post.hook).map(|hook| hook.body.clone());
    let hook = hook.ok_or_else(|| io::Error::other("the webhook is gone"))?;
    let body = json!({
        "Id": post.id, "Attempt": attempt, "Properties": {}, "Notifications": post.notifications,
    });
    let body = serde_json::to_string_pretty(&body)?.replace('\n', "\r\n");
    signed(&hook, &body)
}

/// Posts a body as it is to all webhooks, and returns the statuses.
pub(super) fn send_body(state: &Mutex<State>, body: &str) -> Vec<u16> {
    let hooks: Vec<_> = hold(state).hooks.values().map(|hook| hook.body.clone()).collect();
    hooks.iter().filter_map(|hook| signed(hook, body).ok()).collect()
}

/// Posts a body with its signature.
fn signed(hook: &Map<String, Value>, body: &str) -> io::Result<u16> {
    let text = |name: &str| hook.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut mac =
        Hmac::<Sha256>::new_from_slice(text("Secret").as_bytes()).map_err(io::Error::other)?;
    mac.update(body.as_bytes());
    let digits = mac.finalize().into_bytes().iter().fold(String::new(), |mut digits, byte| {
        // Writing to a text does not fail.
        let _ = write!(digits, "{byte:02X}");
        digits
    });
    let headers = format!(
        "Content-Type: application/json; charset=utf-8\r\nms-signature: sha256={digits}\r\n"
    );
    request("POST", text("WebHookUri"), "", &headers, body).map(|(status, _)| status)
}

fn ended(state: &Mutex<State>, post: &Post, well: bool) {
    let mut state = hold(state);
    state.waiting -= post.notifications.len();
    if !well {
        state.given_up += post.notifications.len();
        return;
    }
    for (position, notification) in post.notifications.iter().enumerate() {
        let text = |name: &str| {
            notification.get(name).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (resource, action) = (text("Id"), text("UserAction"));
        state.sent.push(Sent { post: post.id.clone(), position, resource, action });
    }
}

/// Asks an address for a value. The address's own query is replaced.
pub(super) fn verify(uri: &str, echo: &str) -> io::Result<()> {
    let (status, body) = request("GET", uri, &format!("?echo={echo}"), "", "")?;
    if status == 200 && body == echo {
        Ok(())
    } else {
        Err(io::Error::other(format!("the verification was answered with {status}")))
    }
}

fn request(
    method: &str,
    uri: &str,
    query: &str,
    headers: &str,
    body: &str,
) -> io::Result<(u16, String)> {
    let rest =
        uri.strip_prefix("http://").ok_or_else(|| io::Error::other("not an http address"))?;
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if query.is_empty() { path } else { path.split('?').next().unwrap_or_default() };
    let mut stream = TcpStream::connect(host)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let length = body.len();
    write!(
        stream,
        "{method} {path}{query} HTTP/1.1\r\nHost: {host}\r\n{headers}Content-Length: {length}\r\n\
         Connection: close\r\n\r\n{body}"
    )?;
    let answer = read_answer(&mut stream)?;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other("no status"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    Ok((status, body))
}

/// Reads an answer up to the length that it gives, or to its end: not every receiver closes the
/// connection.
fn read_answer(stream: &mut impl Read) -> io::Result<String> {
    let (mut answer, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let count = stream.read(&mut part)?;
        answer.extend_from_slice(part.get(..count).unwrap_or_default());
        let text = String::from_utf8_lossy(&answer);
        if count == 0 || is_whole(&text) {
            return Ok(text.into_owned());
        }
    }
}

fn is_whole(answer: &str) -> bool {
    let Some((head, body)) = answer.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    length.is_some_and(|length: usize| body.len() >= length)
}

//! The record of what came: a line for each POST, for `fanfare shadow compare`.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use chrono::{DateTime, Utc};
use fanfare_core::parity::RecordLine;
use serde_json::Value;

use crate::output;

/// A file to whose end lines are written.
pub(super) struct Recorder {
    path: PathBuf,
    file: Mutex<File>,
}

impl Recorder {
    /// Opens or creates the file, which only its owner may read: it has headers and bodies.
    ///
    /// # Errors
    ///
    /// The file can't be opened for writing.
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let opened = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
        let file = opened.with_context(|| format!("failed to open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file: Mutex::new(file) })
    }

    /// Writes that the receiver was recording at this time.
    pub(super) fn note(&self, time: DateTime<Utc>) {
        let (url, headers, body) = (None, BTreeMap::new(), Value::Null);
        self.write(&RecordLine { time, url, headers, body });
    }

    /// Writes a POST.
    pub(super) fn post(&self, time: DateTime<Utc>, parts: &Parts, body: &[u8]) {
        let body = Value::from(String::from_utf8_lossy(body));
        let (url, headers) = (Some(url(parts)), headers(&parts.headers));
        self.write(&RecordLine { time, url, headers, body });
    }

    fn write(&self, line: &RecordLine) {
        let written = serde_json::to_string(line).map_err(io::Error::from).and_then(|line| {
            let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
            file.write_all(format!("{line}\n").as_bytes())
        });
        if let Err(error) = written {
            output::note(&format!("fanfare: failed to write {}: {error}", self.path.display()));
        }
    }
}

/// The address that the POST was sent to, as far as its headers tell it.
fn url(parts: &Parts) -> String {
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = text("x-forwarded-proto").filter(|it| *it == "https").unwrap_or("http");
    let host = text("x-forwarded-host").or_else(|| text(header::HOST.as_str()));
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    format!("{scheme}://{}{path}", host.unwrap_or_default())
}

/// All headers. The values of one that occurs more than once are joined.
fn headers(all: &HeaderMap) -> BTreeMap<String, String> {
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in all {
        let value = String::from_utf8_lossy(value.as_bytes());
        let known = headers.entry(name.to_string()).or_default();
        *known = if known.is_empty() { value.into_owned() } else { format!("{known}, {value}") };
    }
    headers
}

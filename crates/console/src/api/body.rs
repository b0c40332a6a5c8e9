//! Reading a request's body, up to a limit.

use axum::body::Body;
use axum::http::{HeaderMap, header};
use fanfare_core::registration::{Charset, Members};
use futures_util::StreamExt as _;

use super::problem::Problem;

/// The largest body, in bytes.
const LARGEST: usize = 1024 * 1024;
/// How many more bytes are read and dropped, so that a client that sends too much can still read
/// the answer.
const DRAINED: usize = 8 * LARGEST;

/// Reads a body to its end.
pub(crate) async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let mut chunks = body.into_data_stream();
    let mut bytes = Vec::new();
    let mut length = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|_| Problem::BrokenOff)?;
        length += chunk.len();
        if length > DRAINED {
            break;
        }
        if length <= LARGEST {
            bytes.extend_from_slice(&chunk);
        }
    }
    if length <= LARGEST { Ok(bytes) } else { Err(Problem::TooLarge) }
}

/// Reads a webhook. A body is parsed as JSON unless its type says that it is a form, because
/// clients are careless about content types. A body that begins with `{` is JSON even if its type
/// says form, as with `curl -d`: no form of a webhook begins with that character.
pub(crate) async fn members(headers: &HeaderMap, body: Body) -> Result<Members, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let mut parts = kind.unwrap_or_default().split(';').map(str::trim);
    let is_form = parts.next().is_some_and(|it| it.eq_ignore_ascii_case(FORM));
    let bytes = read(body).await?;
    if is_form && !bytes.trim_ascii_start().starts_with(b"{") {
        return Ok(Members::parse_form(&bytes));
    }
    let charset = parts.find_map(|part| {
        let (name, value) = part.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"'))
    });
    let is_utf16 = |name: &str| name.eq_ignore_ascii_case("utf-16");
    let charset = if charset.is_some_and(is_utf16) { Charset::Utf16 } else { Charset::Utf8 };
    Ok(Members::parse_in(&bytes, charset)?)
}

const FORM: &str = "application/x-www-form-urlencoded";

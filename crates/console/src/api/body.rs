//! Reading a request's body, up to a limit.

use axum::body::Body;
use futures_util::StreamExt as _;

use super::problem::Problem;

/// The largest body, in bytes.
const LARGEST: usize = 1024 * 1024;
/// How much more is read and dropped, so that whoever sends too much gets to read the answer.
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

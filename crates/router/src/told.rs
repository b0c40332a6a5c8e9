//! How the log names an event that can't be taken: by its id, where one can be read.

use serde::Deserialize;

/// Ids are the publisher's; a log line is not to be as long as they may be.
const LONGEST: usize = 128;

/// The id of the event, or of the document, in a message's body, as far as it is one.
pub(crate) fn event_id(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let Named { id } = serde_json::from_slice(body).ok()?;
    Some(id.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_told_where_there_is_one() {
        assert_eq!(event_id(br#"{"id":"e1","type":3}"#).as_deref(), Some("e1"));
        assert_eq!(event_id(br#"{"id":7}"#), None);
        assert_eq!(event_id(br#"[{"id":"e1"}]"#), None);
        assert_eq!(event_id(b"{"), None);
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(1000));
        assert_eq!(event_id(long.as_bytes()).map(|id| id.len()), Some(LONGEST));
    }
}

//! How the log names an event that can't be taken: by its id, where one can be read.

use fanfare_broker::Message;

/// Ids are the publisher's; a log line is not to be as long as they may be.
const LONGEST: usize = 128;

/// The id of the event, or of the document, in a message, as far as it is one.
pub(crate) fn event_id(message: &Message) -> Option<String> {
    Some(message.as_event().id()?.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_id_is_cut() {
        let named = |id: &str| Message::new(format!(r#"{{"id":"{id}"}}"#), "application/json");
        assert_eq!(event_id(&named("e1")).as_deref(), Some("e1"));
        assert_eq!(event_id(&named(&"x".repeat(1000))).map(|id| id.len()), Some(LONGEST));
        assert_eq!(event_id(&Message::new("{", "application/json")), None);
    }
}

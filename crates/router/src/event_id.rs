//! The id by which the log names an event that is refused.

use fanfare_broker::Message;

/// The most characters of an id in a log line. Publishers may choose longer ids.
const LONGEST: usize = 128;

/// The id of the event or document in a message; `None` if it can't be read.
pub(crate) fn event_id(message: &Message) -> Option<String> {
    Some(message.as_event().id()?.chars().take(LONGEST).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_over_128_characters_is_cut() {
        let named = |id: &str| Message::new(format!(r#"{{"id":"{id}"}}"#), "application/json");
        assert_eq!(event_id(&named("e1")).as_deref(), Some("e1"));
        assert_eq!(event_id(&named(&"x".repeat(1000))).map(|id| id.len()), Some(LONGEST));
        assert_eq!(event_id(&Message::new("{", "application/json")), None);
    }
}

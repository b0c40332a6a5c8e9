//! Why an event or a directory document is refused: the reasons in `fanfare.events.dead`.

/// A stable reason code (`x-fanfare-reason`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not JSON in UTF-8.
    NotJson,
    /// JSON, but not a `CloudEvent` of version 1.0 in structured mode.
    NotCloudEvents,
    /// A required attribute is missing or empty.
    MissingAttribute,
    /// The type's first part names no filter.
    UnknownFilter,
    /// The type is not `<filter>.<action>`.
    BadType,
    /// The subject is not a resource's path.
    BadSubject,
    /// The subject's kind is not the filter's.
    SubjectMismatch,
    /// The data does not have the form that its type requires.
    BadData,
    /// The data has a key that is reserved for notifications.
    ReservedKey,
    /// A limit of size or count is exceeded.
    TooLarge,
    /// The directory did not reach the event's revision in time.
    DirectoryBehind,
    /// The revision of a directory document is implausibly far ahead.
    RevisionJump,
    /// Properties or routing key of the AMQP message can't be decoded.
    Unreadable,
    /// The time to live of the message, or of the queue, ended before a router received it.
    MessageExpired,
    /// The queue was full.
    QueueOverflow,
    /// The broker removed the message from its queue after too many redeliveries.
    DeliveryLimit,
}

impl Reason {
    /// All reasons, for documents and tests.
    pub const ALL: [Self; 16] = [
        Self::NotJson,
        Self::NotCloudEvents,
        Self::MissingAttribute,
        Self::UnknownFilter,
        Self::BadType,
        Self::BadSubject,
        Self::SubjectMismatch,
        Self::BadData,
        Self::ReservedKey,
        Self::TooLarge,
        Self::DirectoryBehind,
        Self::RevisionJump,
        Self::Unreadable,
        Self::MessageExpired,
        Self::QueueOverflow,
        Self::DeliveryLimit,
    ];

    /// The reasons for which a message is refused when it is parsed, whatever the directory knows.
    pub const OF_PARSING: [Self; 10] = [
        Self::NotJson,
        Self::NotCloudEvents,
        Self::MissingAttribute,
        Self::UnknownFilter,
        Self::BadType,
        Self::BadSubject,
        Self::SubjectMismatch,
        Self::BadData,
        Self::ReservedKey,
        Self::TooLarge,
    ];

    /// The code that scripts rely on.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::NotJson => "not-json",
            Self::NotCloudEvents => "not-cloudevents",
            Self::MissingAttribute => "missing-attribute",
            Self::UnknownFilter => "unknown-filter",
            Self::BadType => "bad-type",
            Self::BadSubject => "bad-subject",
            Self::SubjectMismatch => "subject-mismatch",
            Self::BadData => "bad-data",
            Self::ReservedKey => "reserved-key",
            Self::TooLarge => "too-large",
            Self::DirectoryBehind => "directory-behind",
            Self::RevisionJump => "revision-jump",
            Self::Unreadable => "unreadable",
            Self::MessageExpired => "message-expired",
            Self::QueueOverflow => "queue-overflow",
            Self::DeliveryLimit => "delivery-limit",
        }
    }
}

/// A refusal: its reason, and a detail that says what is wrong and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", reason.code())]
pub struct Reject {
    /// The stable reason.
    pub reason: Reason,
    /// One sentence for a person (`x-fanfare-detail`).
    pub detail: String,
}

impl Reject {
    /// A refusal for this reason. A detail that is longer than 512 bytes is cut: it quotes a
    /// value that may be as large as the message, and it is logged, stored, and sent in a header of
    /// 1 KiB, which has to have room for the consequence too.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: shortened(detail.into()) }
    }
}

/// The longest sentence that quotes what a peer sent, in bytes.
const LONGEST: usize = 512;

/// A sentence that is cut if it is too long.
pub(crate) fn shortened(mut sentence: String) -> String {
    const CUT: &str = "…";
    if sentence.len() > LONGEST {
        sentence.truncate(sentence.floor_char_boundary(LONGEST - CUT.len()));
        sentence.push_str(CUT);
    }
    sentence
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_that_quotes_a_large_value_is_cut() {
        let detail = |text: &str| Reject::new(Reason::BadData, text).detail;
        let fits = "é".repeat(256);
        assert_eq!(detail(&fits), fits);
        let cut = detail(&format!("{fits}x"));
        assert_eq!((cut.len(), cut.strip_suffix('…')), (511, Some("é".repeat(254).as_str())));
    }

    #[test]
    fn codes_are_unique() {
        let codes: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
    }
}

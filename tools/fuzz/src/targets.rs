//! The targets, one module a subject.

mod addresses;
mod amqp;
mod answers;
mod console;
mod directory;
mod events;
mod jobs;
mod masks;
mod paces;
mod texts;
mod webhooks;

use crate::Target;

/// All targets.
pub const ALL: &[Target] = &[
    events::MESSAGE,
    directory::DOCUMENT,
    jobs::JOB,
    amqp::FRAMES,
    amqp::PROPERTIES,
    masks::JSON,
    masks::SECRET,
    masks::PATH,
    masks::COST,
    webhooks::FILTERS,
    webhooks::REGISTRATION,
    answers::HEAD,
    answers::ANSWER,
    paces::RETRY_AFTER,
    console::QUERY,
    console::HEADERS,
    addresses::WEBHOOK_URI,
    addresses::BROKER_URL,
    addresses::DATABASE_URL,
    texts::NAME,
    texts::TRACEPARENT,
    texts::NUMBER,
    texts::SETTING,
];

/// The longest sentence for a person, in bytes. A dead letter has room for 1 KiB, and so has a log's
/// line: a sentence that repeats all of a hostile input would displace everything else.
const LONGEST_SENTENCE: usize = 4096;

/// Checks a sentence about an input that was refused.
#[track_caller]
fn check_sentence(text: &str) {
    assert!(!text.trim().is_empty(), "a refusal without a sentence");
    assert!(text.len() <= LONGEST_SENTENCE, "a refusal of {} bytes", text.len());
}

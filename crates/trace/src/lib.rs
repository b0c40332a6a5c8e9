//! Spans of what the processes do: who takes part in a trace that began elsewhere says how long
//! its part took.
//!
//! A [`Tracer`] begins spans; a [`Span`] that is dropped has ended, and waits to be sent. [`otlp`]
//! writes ended spans as OTLP has them. A tracer that is off begins none, at the cost of a comparison.

mod context;
pub mod otlp;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use tokio::sync::mpsc;

pub use context::Context;

/// Begins spans; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    ended: mpsc::Sender<Ended>,
    lost: AtomicU64,
}

/// What a span is, seen from its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request to somebody else.
    Client,
    /// A message that was taken.
    Consumer,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Text.
    Text(String),
    /// A whole number.
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

/// A span that has begun. It ends when it is dropped.
#[derive(Debug)]
pub struct Span {
    tracer: Arc<Inner>,
    // Boxed: thousands of attempts under way have room for one.
    begun: Option<Box<Ended>>,
    context: Context,
}

/// A span that has ended.
#[derive(Debug)]
pub struct Ended {
    context: Context,
    parent: Option<u64>,
    name: String,
    kind: Kind,
    from: SystemTime,
    until: SystemTime,
    attributes: Vec<(&'static str, Value)>,
    links: Vec<Context>,
    failure: Option<String>,
}

/// Where ended spans come out.
#[derive(Debug)]
pub struct Spans {
    ended: mpsc::Receiver<Ended>,
    tracer: std::sync::Weak<Inner>,
}

impl Tracer {
    /// A tracer that is on, and where its spans come out. At most `most` wait there; further ones
    /// are lost, since the work may not wait for who watches it.
    #[must_use]
    pub fn new(most: usize) -> (Self, Spans) {
        let (sender, ended) = mpsc::channel(most);
        let inner = Arc::new(Inner { ended: sender, lost: AtomicU64::new(0) });
        let tracer = Arc::downgrade(&inner);
        (Self(Some(inner)), Spans { ended, tracer })
    }

    /// A tracer that begins no spans.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    /// Begins a span as part of the trace that `traceparent` tells of, or of a new one. `None` when
    /// the tracer is off, or the trace is one that nobody records.
    #[must_use]
    pub fn begin(&self, name: &str, kind: Kind, traceparent: Option<&str>) -> Option<Span> {
        let tracer = self.0.as_ref()?;
        let parent = traceparent.and_then(Context::parse);
        if parent.is_some_and(|parent| !parent.is_recorded()) {
            return None;
        }
        let context = parent.map_or_else(Context::new, Context::child)?;
        let now = SystemTime::now();
        let begun = Ended {
            context,
            parent: parent.map(Context::span),
            name: name.to_owned(),
            kind,
            from: now,
            until: now,
            attributes: Vec::new(),
            links: Vec::new(),
            failure: None,
        };
        Some(Span { tracer: Arc::clone(tracer), begun: Some(Box::new(begun)), context })
    }
}

impl Span {
    /// What makes others a part of this span.
    #[must_use]
    pub fn context(&self) -> Context {
        self.context
    }

    /// Adds an attribute, by OpenTelemetry's name where there is one.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        if let Some(begun) = &mut self.begun {
            begun.attributes.push((name, value.into()));
        }
    }

    /// Points to another span that has to do with this one.
    pub fn link(&mut self, other: Context) {
        if let Some(begun) = &mut self.begun {
            begun.links.push(other);
        }
    }

    /// Notes that it failed, and why.
    pub fn fail(&mut self, why: impl Into<String>) {
        if let Some(begun) = &mut self.begun {
            begun.failure = Some(why.into());
        }
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some(mut ended) = self.begun.take() else {
            return;
        };
        ended.until = SystemTime::now();
        if self.tracer.ended.try_send(*ended).is_err() {
            self.tracer.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Spans {
    /// Waits for ended spans and adds up to `most` of them; 0 when none will come any more.
    pub async fn next(&mut self, spans: &mut Vec<Ended>, most: usize) -> usize {
        self.ended.recv_many(spans, most).await
    }

    /// Adds those that have ended by now, up to `most` in all.
    pub fn more(&mut self, spans: &mut Vec<Ended>, most: usize) {
        while spans.len() < most
            && let Ok(span) = self.ended.try_recv()
        {
            spans.push(span);
        }
    }

    /// How many were lost since this was asked last, because too many waited.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.tracer.upgrade().map_or(0, |tracer| tracer.lost.swap(0, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[tokio::test]
    async fn a_span_continues_its_parent_s_trace() {
        let (tracer, mut spans) = Tracer::new(4);
        let mut span = tracer.begin("a", Kind::Consumer, Some(PARENT)).unwrap();
        span.set("n", 1);
        let told = span.context().to_string();
        assert!(told.starts_with(&PARENT[..36]) && told.ends_with("-01"), "{told}");
        assert_ne!(told, PARENT);
        drop(span);
        drop(tracer);
        let mut ended = Vec::new();
        assert_eq!(spans.next(&mut ended, 9).await, 1);
        assert_eq!(ended[0].parent, Some(0xb7ad_6b71_6920_3331));
        assert_eq!(ended[0].attributes, [("n", Value::Number(1))]);
        assert_eq!(spans.next(&mut ended, 9).await, 0);
    }

    #[test]
    fn what_nobody_records_begins_no_span() {
        assert!(Tracer::off().begin("a", Kind::Client, Some(PARENT)).is_none());
        let (tracer, spans) = Tracer::new(1);
        let unrecorded = PARENT.replace("-01", "-00");
        assert!(tracer.begin("a", Kind::Client, Some(&unrecorded)).is_none());
        // What is no traceparent begins a trace of its own.
        assert!(
            tracer
                .begin("a", Kind::Client, Some("x"))
                .unwrap()
                .begun
                .as_ref()
                .unwrap()
                .parent
                .is_none()
        );
        drop(tracer.begin("b", Kind::Client, None));
        assert_eq!(spans.lost(), 1);
        assert_eq!(spans.lost(), 0);
    }
}

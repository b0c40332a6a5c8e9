//! A look at chosen dead letters, which can end early and go on later.

use super::choice::{Choice, Kind};
use super::walk::Walk;
use crate::error::BrokerError;
use crate::letter::DeadLetter;
use crate::session::Session;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// How far a look came. The text form is for clients, who give it back unread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    kind: Kind,
    /// Letters before this place that are still in the queue.
    passed: u64,
    /// The id of the last one of them, by which a queue that changed meanwhile is noticed.
    last: String,
}

impl Position {
    fn start(kind: Kind) -> Self {
        Self { kind, passed: 0, last: String::new() }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.kind.name(), self.passed, self.last)
    }
}

/// A text that is no [`Position`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no `next` of an earlier answer")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, NoPosition> {
        let mut parts = text.splitn(3, '.');
        let mut part = || parts.next().ok_or(NoPosition);
        let kind = Kind::parse(part()?).ok_or(NoPosition)?;
        let passed = part()?.parse().map_err(|_| NoPosition)?;
        Ok(Self { kind, passed, last: part()?.to_owned() })
    }
}

/// A look at the chosen dead letters, the oldest of each kind first; see [`Walk`].
pub struct Look {
    session: Session,
    choice: Choice,
    walk: Option<(Kind, Walk)>,
    /// The kinds that are still to come, and where each begins.
    kinds: Vec<Position>,
    missing: Vec<String>,
    /// Behind the letter that was shown last.
    position: Option<Position>,
    /// The letter that was looked at last, until it is taken.
    current: Option<String>,
    until: Option<Instant>,
    /// Letters that were looked at.
    looked_at: u64,
}

impl Look {
    /// Begins a look, at the front or where an earlier look of the same choice ended.
    #[must_use]
    pub fn begin(session: &Session, choice: Choice, from: Option<Position>) -> Self {
        let mut kinds: Vec<Position> = Kind::ALL.map(Position::start).into();
        kinds.retain(|start| choice.kind.is_none_or(|only| only == start.kind));
        if let Some(from) = from
            && let Some(at) = kinds.iter().position(|start| start.kind == from.kind)
        {
            kinds.drain(..=at);
            kinds.insert(0, from);
        }
        let position = kinds.first().cloned();
        kinds.reverse();
        let missing = choice.ids.clone();
        Self {
            session: session.clone(),
            choice,
            walk: None,
            kinds,
            missing,
            position,
            current: None,
            until: None,
            looked_at: 0,
        }
    }

    /// The same, but it shows nothing more after this time. It looks at one letter at least, so that
    /// a look that goes on from its [position](Self::position) always gets further.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    /// The next chosen letter; the one before stays, unless it was taken. `None` at the end, or when
    /// the time is over.
    pub async fn next(&mut self) -> Result<Option<(Kind, DeadLetter)>, BrokerError> {
        loop {
            self.keep_current();
            if self.walk.is_none() && !self.begin_walk().await? {
                return Ok(None);
            }
            if self.looked_at > 0 && self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(None);
            }
            let Some((kind, walk)) = &mut self.walk else { continue };
            let kind = *kind;
            match walk.next().await? {
                Some(letter) => {
                    self.looked_at += 1;
                    self.current = Some(letter.id.clone());
                    if self.choice.takes(kind, &letter) {
                        self.missing.retain(|id| *id != letter.id);
                        return Ok(Some((kind, letter)));
                    }
                }
                None => self.end_walk().await?,
            }
        }
    }

    /// Takes the letter that was shown last out of its queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        self.current = None;
        match &mut self.walk {
            Some((_, walk)) => walk.take().await,
            None => Ok(()),
        }
    }

    /// Where to go on behind the letter that was shown last; `None` at the end.
    #[must_use]
    pub fn position(&mut self) -> Option<Position> {
        self.keep_current();
        self.position.clone()
    }

    /// Ends the look, and returns the ids of the choice that it did not find.
    pub async fn end(mut self) -> Result<Vec<String>, BrokerError> {
        self.end_walk().await?;
        Ok(self.missing)
    }

    /// The letter that was looked at last stays.
    fn keep_current(&mut self) {
        let Some((kind, walk)) = &self.walk else { return };
        let walked = walk.walked();
        let last = match (self.current.take(), &self.position) {
            (Some(id), _) => id,
            (None, Some(position)) => position.last.clone(),
            (None, None) => String::new(),
        };
        let passed = walked.seen - walked.taken;
        self.position = Some(Position { kind: *kind, passed, last });
    }

    /// Begins with the next kind, if there is one.
    async fn begin_walk(&mut self) -> Result<bool, BrokerError> {
        let Some(from) = self.kinds.pop() else {
            self.position = None;
            return Ok(false);
        };
        let kind = from.kind;
        self.position = Some(from.clone());
        let mut walk = Walk::begin(&self.session, kind.queue()).await?;
        if let Some(before) = from.passed.checked_sub(1) {
            walk.skip(before).await?;
            let last = walk.next().await?;
            if last.is_none_or(|last| last.id != from.last) {
                // Letters have gone meanwhile. Better some twice than some not at all.
                walk.end().await?;
                walk = Walk::begin(&self.session, kind.queue()).await?;
            }
        }
        self.walk = Some((kind, walk));
        Ok(true)
    }

    async fn end_walk(&mut self) -> Result<(), BrokerError> {
        match self.walk.take() {
            Some((_, walk)) => walk.end().await.map(drop),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_reads_back() {
        let position = Position { kind: Kind::Deliveries, passed: 7, last: "a.b-3".to_owned() };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "events", "events.1", "events.x.a", "others.1.a"] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}

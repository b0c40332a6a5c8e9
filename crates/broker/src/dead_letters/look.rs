//! Reads the chosen dead letters; the reading can end early and go on later.

use super::choice::{Choice, Kind};
use super::walk::Walk;
use crate::error::BrokerError;
use crate::letter::DeadLetter;
use crate::session::Session;
use std::fmt;
use std::str::FromStr;
use std::time::Instant;

/// Where a reading ended. The text form is opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    kind: Kind,
    /// The number of letters before this position that are still in the queue.
    passed: u64,
    /// The id of the last one of them, which shows whether the queue has changed in the meantime.
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

/// A text that is not a [`Position`].
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

/// Reads the chosen dead letters, the oldest of each kind first; see [`Walk`].
pub struct Look {
    session: Session,
    choice: Choice,
    walk: Option<(Kind, Walk)>,
    /// The kinds that follow, and the position at which each begins.
    kinds: Vec<Position>,
    missing: Vec<String>,
    /// The position behind the letter that was returned last.
    position: Option<Position>,
    /// The letter that was read last, until it is removed.
    current: Option<String>,
    until: Option<Instant>,
    /// The number of letters that were read.
    looked_at: u64,
}

impl Look {
    /// Begins at the front, or where an earlier reading of the same choice ended.
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

    /// The same, but it returns no letter after this time. It reads at least one letter, so that a
    /// reading that goes on from its [position](Self::position) always makes progress.
    #[must_use]
    pub fn until(self, until: Instant) -> Self {
        Self { until: Some(until), ..self }
    }

    /// The next chosen letter. The one before it stays in the queue unless it was removed. `None`
    /// at the end, or when the time is over.
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

    /// Removes the letter that was returned last from its queue.
    pub async fn take(&mut self) -> Result<(), BrokerError> {
        self.current = None;
        match &mut self.walk {
            Some((_, walk)) => walk.take().await,
            None => Ok(()),
        }
    }

    /// The position behind the letter that was returned last; `None` at the end.
    #[must_use]
    pub fn position(&mut self) -> Option<Position> {
        self.keep_current();
        self.position.clone()
    }

    /// Ends the reading, and returns the ids of the choice that were not found.
    pub async fn end(mut self) -> Result<Vec<String>, BrokerError> {
        self.end_walk().await?;
        Ok(self.missing)
    }

    /// Lets the letter that was read last stay.
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

    /// Goes on to the next kind, if there is one.
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
                // Letters were removed in the meantime. It is better to read some twice than to
                // miss one.
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

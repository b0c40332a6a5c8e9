//! Components of pages that write their own HTML. They write only digits, letters of base64url and
//! their own markup, so nothing needs to be escaped.

use std::fmt;
use std::fmt::Write as _;

use askama::filters::HtmlSafe;
use chrono::{DateTime, SecondsFormat, Utc};

/// The name of the field with the form token.
pub(super) const FORM_TOKEN: &str = "token";

/// The hidden field with the form token, which shows that a form comes from a page of the console.
#[derive(Debug, Clone)]
pub(super) struct FormToken(pub(super) String);

impl fmt::Display for FormToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, r#"<input type="hidden" name="{FORM_TOKEN}" value="{}">"#, self.0)
    }
}

impl HtmlSafe for FormToken {}

/// A time, written in UTC. A script shows it in the reader's time zone, and the exact time when the
/// pointer is over it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment(pub(super) DateTime<Utc>);

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.0.to_rfc3339_opts(SecondsFormat::Millis, true);
        let shown = self.0.format("%Y-%m-%d %H:%M:%S UTC");
        write!(f, r#"<time datetime="{exact}">{shown}</time>"#)
    }
}

impl HtmlSafe for Moment {}

/// The attempts of an hour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Hour {
    pub(super) succeeded: u64,
    pub(super) failed: u64,
}

/// The last 24 hours as bars, the oldest first. Each bar has successful attempts at the bottom and
/// failed ones on top.
#[derive(Debug, Clone, Default)]
pub(super) struct Sparkline(pub(super) Vec<Hour>);

/// The height of the highest bar, in units. One digit keeps the markup short, because a page has
/// many; the style sheet stretches the image.
const HEIGHT: u64 = 9;

impl Sparkline {
    fn sum(&self, of: impl Fn(&Hour) -> u64) -> u64 {
        self.0.iter().map(of).sum()
    }

    /// Draws the bars of one kind. `of` returns the number of attempts below the bar, and the
    /// number in it.
    fn bars(&self, of: impl Fn(&Hour) -> (u64, u64)) -> String {
        let most = self.0.iter().map(|hour| hour.succeeded + hour.failed).max().unwrap_or(0).max(1);
        // An hour with any attempts gets a visible bar, however small its share.
        let tall = |count: u64| if count == 0 { 0 } else { (count * HEIGHT / most).max(1) };
        let mut path = String::new();
        for (hour, x) in self.0.iter().zip(0..) {
            let (below, count) = of(hour);
            let (below, height) = (tall(below), tall(count));
            if height > 0 {
                let _ = write!(path, "M{x} {}v-{height}", HEIGHT.saturating_sub(below));
            }
        }
        path
    }
}

impl fmt::Display for Sparkline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (succeeded, failed) = (self.sum(|hour| hour.succeeded), self.sum(|hour| hour.failed));
        let bars = self.bars(|hour| (0, hour.succeeded));
        write!(f, r#"<svg class="spark" viewBox="-.5 0 24 {HEIGHT}" preserveAspectRatio="none""#)?;
        write!(f, r#" role="img" aria-label="{succeeded} succeeded, {failed} failed">"#)?;
        write!(f, r#"<path class="ok" d="{bars}"/>"#)?;
        if failed > 0 {
            let bars = self.bars(|hour| (hour.succeeded, hour.failed));
            write!(f, r#"<path class="no" d="{bars}"/>"#)?;
        }
        f.write_str("</svg>")
    }
}

impl HtmlSafe for Sparkline {}

/// How many letters died in each of 24 parts of a time, the oldest first.
#[derive(Debug, Clone, Default)]
pub(super) struct Deaths(pub(super) Vec<i64>);

impl fmt::Display for Deaths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &i64| u64::try_from(*count).unwrap_or_default();
        let hours = self.0.iter().map(|it| Hour { succeeded: 0, failed: count(it) }).collect();
        let bars = Sparkline(hours).bars(|hour| (0, hour.failed));
        let sum: u64 = self.0.iter().map(count).sum();
        write!(f, r#"<svg class="spark" viewBox="-.5 0 24 {HEIGHT}" preserveAspectRatio="none""#)?;
        write!(f, r#" role="img" aria-label="{sum} over time"><path class="no" d="{bars}"/></svg>"#)
    }
}

impl HtmlSafe for Deaths {}

/// Returns the beginning of a text, with an ellipsis if the text is longer.
pub(super) fn shortened(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sparkline_shows_what_failed_on_top_of_what_succeeded() {
        let hours = vec![Hour { succeeded: 3, failed: 1 }, Hour::default()];
        let shown = Sparkline(hours).to_string();
        assert!(shown.contains("3 succeeded, 1 failed"), "{shown}");
        assert!(shown.contains(r#"class="ok" d="M0 9v-6""#), "{shown}");
        assert!(shown.contains(r#"class="no" d="M0 3v-2""#), "{shown}");
    }

    #[test]
    fn a_sparkline_is_short_for_any_number_of_attempts() {
        let hours = vec![Hour { succeeded: 9_999_999, failed: 9_999_999 }; 24];
        assert!(Sparkline(hours).to_string().len() < 560);
        assert!(!Sparkline(vec![Hour::default(); 24]).to_string().contains("class=\"no\""));
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }

    #[test]
    fn a_moment_is_exact_for_machines() {
        let at = DateTime::from_timestamp_millis(1_800_000_000_123).unwrap();
        assert_eq!(
            Moment(at).to_string(),
            r#"<time datetime="2027-01-15T08:00:00.123Z">2027-01-15 08:00:00 UTC</time>"#
        );
    }
}

//! Which webhooks a page of the grid shows: searched, sorted, and paged by where the last page
//! ended, so that what is added or deleted meanwhile moves nothing.

use std::cmp::Reverse;

use fanfare_core::ids::WebhookId;
use fanfare_core::webhook::Webhook;

use super::fields::Fields;
use super::parts::shortened;

/// Webhooks on a page.
pub(super) const PAGE: usize = 50;
/// How much of a text counts for sorting, in characters: it travels in the address of the next
/// page.
const SORTED_BY: usize = 64;

/// What the grid can be sorted by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Column {
    User,
    Url,
    Filters,
    Description,
    Paused,
    Created,
}

/// What a visitor wants to see.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) search: String,
    pub(super) column: Column,
    pub(super) descending: bool,
    place: Option<Place>,
}

/// Where a page begins or ends: beyond this webhook.
#[derive(Debug, Clone)]
enum Place {
    After(Key),
    Before(Key),
}

/// What webhooks are sorted by: a text, and their ids so that no two are the same.
type Key = (String, WebhookId);

/// A page.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) webhooks: Vec<Webhook>,
    /// How many the search found, on all pages.
    pub(super) found: usize,
    /// The parameter of the page before this one, and of the one after it.
    pub(super) previous: Option<String>,
    pub(super) next: Option<String>,
}

impl Column {
    const ALL: [Self; 6] =
        [Self::User, Self::Url, Self::Filters, Self::Description, Self::Paused, Self::Created];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Url => "url",
            Self::Filters => "filters",
            Self::Description => "description",
            Self::Paused => "paused",
            Self::Created => "created",
        }
    }

    fn key(self, webhook: &Webhook) -> Key {
        let text = match self {
            Self::User => webhook.owner.key().to_owned(),
            Self::Url => webhook.uri.as_str().to_lowercase(),
            Self::Filters => webhook.filters.shown().join(" "),
            Self::Description => {
                webhook.description.as_deref().unwrap_or_default().trim().to_lowercase()
            }
            Self::Paused => if webhook.paused { "paused" } else { "active" }.to_owned(),
            Self::Created => format!("{:020}", webhook.created_at.timestamp_micros().max(0)),
        };
        (shortened(&text, SORTED_BY), webhook.id)
    }
}

impl Asked {
    /// Reads a query; what makes no sense is passed over.
    pub(super) fn parse(query: &Fields) -> Self {
        let named = |column: &Column| column.name() == query.text("sort");
        let column = Column::ALL.into_iter().find(named);
        let place = |name, place: fn(Key) -> Place| {
            let (id, text) = query.raw(name).split_once('~')?;
            Some(place((text.to_owned(), id.parse().ok()?)))
        };
        Self {
            search: query.text("q").to_owned(),
            column: column.unwrap_or(Column::Created),
            // The newest first, unless asked otherwise.
            descending: if column.is_some() { query.text("order") == "desc" } else { true },
            place: place("after", Place::After).or_else(|| place("before", Place::Before)),
        }
    }

    /// The parameters of this order.
    pub(super) fn order(&self) -> (&'static str, &'static str) {
        (self.column.name(), if self.descending { "desc" } else { "asc" })
    }

    /// The page of these webhooks that was asked for.
    pub(super) fn page(&self, webhooks: Vec<Webhook>) -> Page {
        let mut found: Vec<(Key, Webhook)> = webhooks
            .into_iter()
            .filter(|webhook| self.finds(webhook))
            .map(|webhook| (self.column.key(&webhook), webhook))
            .collect();
        if self.descending {
            found.sort_by(|(a, _), (b, _)| Reverse(a).cmp(&Reverse(b)));
        } else {
            found.sort_by(|(a, _), (b, _)| a.cmp(b));
        }
        let count = found.len();
        let begin = match &self.place {
            None => 0,
            Some(Place::After(key)) => found.partition_point(|(it, _)| !self.is_behind(it, key)),
            Some(Place::Before(key)) => {
                let end = found.partition_point(|(it, _)| self.is_behind(key, it));
                end.saturating_sub(PAGE)
            }
        };
        let mut rest = found.split_off(begin.min(count));
        let more = rest.len() > PAGE;
        rest.truncate(PAGE);
        let place = |(text, id): &Key| format!("{id}~{text}");
        Page {
            previous: rest.first().filter(|_| begin > 0).map(|(key, _)| place(key)),
            next: rest.last().filter(|_| more).map(|(key, _)| place(key)),
            webhooks: rest.into_iter().map(|(_, webhook)| webhook).collect(),
            found: count,
        }
    }

    fn is_behind(&self, one: &Key, other: &Key) -> bool {
        if self.descending { one < other } else { one > other }
    }

    /// Every word that was searched for is somewhere in the webhook, or its id.
    fn finds(&self, webhook: &Webhook) -> bool {
        if self.search.is_empty() {
            return true;
        }
        let all = [
            webhook.uri.as_str(),
            webhook.description.as_deref().unwrap_or_default(),
            webhook.owner.as_str(),
            &webhook.filters.shown().join(" "),
        ];
        let all = all.join("\n").to_lowercase();
        let id = webhook.id.to_string();
        let search = self.search.to_lowercase();
        search.split_whitespace().all(|word| all.contains(word) || word == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;
    use fanfare_core::name::Name;
    use fanfare_core::registration::{Members, Registration};
    use uuid::Uuid;

    fn webhook(n: u32) -> Webhook {
        let json = format!(r#"{{"WebHookUri":"http://x/{}","Description":"N{n}"}}"#, n / 2);
        let members = Members::parse(json.as_bytes()).unwrap();
        let secret = "0123456789abcdef0123456789abcdef".parse().unwrap();
        Registration::parse(&members).unwrap().into_webhook(
            WebhookId(Uuid::from_u128(u128::from(n))),
            Name::parse("anna").unwrap(),
            secret,
            DateTime::from_timestamp(i64::from(n), 0).unwrap(),
        )
    }

    fn asked(query: &str) -> Asked {
        Asked::parse(&Fields::parse(query.as_bytes()))
    }

    fn ids(page: &Page) -> Vec<u128> {
        page.webhooks.iter().map(|webhook| webhook.id.0.as_u128()).collect()
    }

    #[test]
    fn pages_follow_each_other_both_ways() {
        let all = || (0..120).map(webhook).collect::<Vec<_>>();
        for (order, expected) in [
            ("", (0..120).rev().collect::<Vec<u128>>()),
            ("&sort=created&order=asc", (0..120).collect()),
        ] {
            let first = asked(order).page(all());
            assert_eq!((ids(&first), first.previous.as_ref()), (expected[..50].to_vec(), None));
            let second = asked(&format!("{order}&after={}", first.next.unwrap())).page(all());
            assert_eq!(ids(&second), expected[50..100]);
            let third = asked(&format!("{order}&after={}", second.next.unwrap())).page(all());
            assert_eq!((ids(&third), third.next), (expected[100..].to_vec(), None));
            let back = asked(&format!("{order}&before={}", third.previous.unwrap())).page(all());
            assert_eq!(ids(&back), expected[50..100]);
            assert_eq!(back.found, 120);
        }
    }

    #[test]
    fn what_is_equal_is_told_apart_by_id() {
        let all = || (0..120).map(webhook).collect::<Vec<_>>();
        let mut seen = Vec::new();
        let mut query = "sort=url".to_owned();
        loop {
            let page = asked(&query).page(all());
            seen.extend(ids(&page));
            let Some(next) = page.next else { break };
            query = format!("sort=url&after={next}");
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..120).collect::<Vec<u128>>());
    }

    #[test]
    fn every_word_must_be_found() {
        let page = asked("q=n7+HTTP").page((0..20).map(webhook).collect());
        assert_eq!(ids(&page), [7]);
        assert!(asked("q=n7+tasks").page((0..20).map(webhook).collect()).webhooks.is_empty());
    }
}

//! Test events: an owner sends one to a webhook to see whether it works.
//!
//! A test event is delivered like any other event, so its resource must be one that the owner may
//! read, and access is decided in the same way, for each retry too. The resource is made up, of a
//! kind that one of the owner's permissions covers. If all permissions are for single resources,
//! the test event is about one of these.

use serde_json::{Value, json};

use crate::event::{Entry, Event, parse};
use crate::filter::{Filter, Filters};
use crate::mask::MaskPolicy;
use crate::resource::{Resource, Scope};

/// The source of test events. No publisher uses it, so their ids don't collide with those of
/// others.
pub const SOURCE: &str = "/fanfare/test";

/// The id of a made-up resource.
const MADE_UP: &str = "fanfare-test";

/// What the owner may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readable {
    /// All resources: the owner is a System Administrator.
    Everything,
    /// The resources in these scopes and targets. One target of each scope suffices.
    Through(Vec<(Scope, String)>),
}

/// The resource of a test event. It is of the first kind that matches the webhook's filters and of
/// which its owner may read a resource. Returns `None` if there is no such kind; the webhook then
/// gets no events at all.
#[must_use]
pub fn resource(filters: &Filters, readable: &Readable) -> Option<Resource> {
    let granted = |(scope, target): &(Scope, String)| resource_of(*scope, target);
    kinds(filters).into_iter().find_map(|kind| match readable {
        Readable::Everything => {
            Scope::ALL.iter().map(|&scope| resource_of(scope, "")).find(|it| it.filter() == kind)
        }
        Readable::Through(grants) => {
            // Scopes that allow a made-up resource come first.
            let rank = |(scope, _): &&(Scope, String)| RANKS.iter().position(|it| it == scope);
            let of_kind = grants.iter().filter(|grant| granted(grant).filter() == kind);
            of_kind.min_by_key(rank).map(granted)
        }
    })
}

/// The scopes in the order of preference for test events.
const RANKS: [Scope; 11] = [
    Scope::AnyReport,
    Scope::ReportsInCategory,
    Scope::Report,
    Scope::AnyCategory,
    Scope::Category,
    Scope::AnyConnection,
    Scope::Connection,
    Scope::AnyTask,
    Scope::Task,
    Scope::AnyAlert,
    Scope::Alert,
];

fn kinds(filters: &Filters) -> Vec<Filter> {
    let stored = filters.stored();
    let asked = |kind: &Filter| {
        let of_kind = |form: &&str| form.split('.').next() == Some(kind.name());
        filters.is_everything() || stored.iter().any(of_kind)
    };
    Filter::ALL.into_iter().filter(asked).collect()
}

fn resource_of(scope: Scope, target: &str) -> Resource {
    let (made_up, target) = (MADE_UP.to_owned(), target.to_owned());
    match scope {
        Scope::AnyReport => Resource::Report { category: made_up.clone(), id: made_up },
        Scope::ReportsInCategory => Resource::Report { category: target, id: made_up },
        Scope::Report => Resource::Report { category: made_up, id: target },
        Scope::AnyCategory => Resource::Category(made_up),
        Scope::Category => Resource::Category(target),
        Scope::AnyConnection => Resource::Connection(made_up),
        Scope::Connection => Resource::Connection(target),
        Scope::AnyTask => Resource::Task(made_up),
        Scope::Task => Resource::Task(target),
        Scope::AnyAlert => Resource::Alert(made_up),
        Scope::Alert => Resource::Alert(target),
    }
}

/// Builds a test event about a resource, whose access is decided by `revision`. `id` is the event's
/// id, and `by` the user who requested it. Returns `None` if the resource can't be the subject of
/// an event.
#[must_use]
pub fn event(id: &str, resource: &Resource, by: &str, revision: i64) -> Option<Event> {
    let body = json!({
        "specversion": "1.0",
        "id": id,
        "source": SOURCE,
        "type": format!("{}.test", resource.filter()),
        "subject": resource.to_string(),
        "accessrevision": revision,
        "data": data(resource, by),
    });
    let published = parse(body.to_string().as_bytes(), None, &MaskPolicy::default()).ok()?;
    match published.entries.into_iter().next() {
        Some(Entry::Event(event)) => Some(*event),
        _ => None,
    }
}

fn data(resource: &Resource, by: &str) -> Value {
    let name = format!("A test, asked for by {by}");
    match resource {
        Resource::Report { category, id } => {
            json!({ "Id": id, "Name": name, "CategoryId": category, "Test": true })
        }
        Resource::Category(id)
        | Resource::Connection(id)
        | Resource::Task(id)
        | Resource::Alert(id) => json!({ "Id": id, "Name": name, "Test": true }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(filters: &[&str], grants: &[(Scope, &str)], expected: Option<&str>) {
        let filters = Filters::parse(filters).unwrap();
        let grants = grants.iter().map(|(scope, target)| (*scope, (*target).to_owned()));
        let found = resource(&filters, &Readable::Through(grants.collect()));
        assert_eq!(found.map(|it| it.to_string()).as_deref(), expected);
    }

    #[test]
    fn a_test_event_is_about_a_resource_that_owner_and_filters_allow() {
        let task = (Scope::Task, "t1");
        check(&[], &[task], Some("tasks/t1"));
        check(&[], &[task, (Scope::AnyTask, "")], Some("tasks/fanfare-test"));
        check(&["reports"], &[task], None);
        check(
            &["reports.delete"],
            &[task, (Scope::Report, "r1")],
            Some("categories/fanfare-test/reports/r1"),
        );
        let category = (Scope::ReportsInCategory, "c1");
        let report = (Scope::Report, "r1");
        check(&["reports"], &[report, category], Some("categories/c1/reports/fanfare-test"));
        check(&[], &[], None);
    }

    #[test]
    fn a_test_event_of_an_administrator_matches_the_first_filter() {
        let found = |filters: &[&str]| {
            let filters = Filters::parse(filters).unwrap();
            resource(&filters, &Readable::Everything).unwrap().to_string()
        };
        assert_eq!(found(&[]), "categories/fanfare-test/reports/fanfare-test");
        assert_eq!(found(&["alerts.fire", "tasks"]), "tasks/fanfare-test");
    }

    #[test]
    fn a_test_event_of_each_scope_is_readable_through_that_scope() {
        for scope in Scope::ALL {
            let resource = resource_of(scope, if scope.has_target() { "x1" } else { "" });
            let by = "Anna";
            let event = event("1", &resource, by, 7).unwrap();
            assert_eq!(event.resource, resource);
            assert_eq!(event.event_type, format!("{}.test", resource.filter()));
            let scopes: Vec<Scope> = resource.read_scopes().iter().map(|(it, _)| *it).collect();
            assert!(scopes.contains(&scope), "{scope:?}");
        }
    }
}

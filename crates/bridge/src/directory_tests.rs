//! Tests of readings, and of the changes between directories.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta};
use fanfare_core::name::Name;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::answers::{self, Role, User};
use crate::changes::{Change, Existence, HOLD, Held, changes, missing, partial_snapshot, snapshot};
use crate::directory::{ADMINISTRATORS, Directory, Reading, Refused, Rules};

fn rules() -> Rules {
    Rules { account: Name::parse("fanfare").unwrap(), administrators: None }
}

fn user(id: &str, name: &str) -> User {
    User { id: id.to_owned(), name: name.to_owned(), enabled: true }
}

fn role(id: &str, name: &str, users: &[&str]) -> Role {
    let users = users.iter().map(|id| (*id).to_owned()).collect();
    Role { id: id.to_owned(), name: name.to_owned(), users }
}

fn permissions(list: &Value) -> Vec<answers::Permission> {
    answers::permissions(list.to_string().as_bytes()).unwrap()
}

fn read(scope: u32, target: &str) -> Value {
    json!({ "Id": "p", "Access": 1, "Scope": scope, "ResourceId": target })
}

/// The bridge's account, who is the administrator, and `anna`, who is a reader.
fn reading() -> Reading {
    Reading {
        users: vec![user("u0", "fanfare"), user("u1", "Anna")],
        roles: vec![role("r0", "system administrator", &["u0"]), role("r1", "Reader", &["u1"])],
        of_users: HashMap::from([("u1".to_owned(), permissions(&json!([read(1, "report-1")])))]),
        of_roles: HashMap::from([("r1".to_owned(), permissions(&json!([read(0, "AnyReport")])))]),
    }
}

fn directory(reading: &Reading) -> Directory {
    reading.directory(&rules()).unwrap().0
}

fn data(change: &Change) -> Value {
    serde_json::from_str(&change.data).unwrap()
}

#[test]
fn a_reading_becomes_documents_with_names_and_scopes_of_the_directory() {
    let directory = directory(&reading());
    let expected = json!({
        "users": [
            { "name": "Anna", "enabled": true, "roles": ["Reader"],
              "permissions": [{ "scope": "report", "target": "report-1", "access": ["read"] }] },
            { "name": "fanfare", "enabled": true, "roles": [ADMINISTRATORS], "permissions": [] },
        ],
        "roles": [
            { "name": "Reader", "permissions": [{ "scope": "any-report", "access": ["read"] }] },
            { "name": ADMINISTRATORS, "permissions": [] },
        ],
    });
    assert_eq!(serde_json::from_str::<Value>(&snapshot(&directory)).unwrap(), expected);
}

#[test]
fn a_reading_that_is_not_whole_is_refused() {
    let refused = |change: &dyn Fn(&mut Reading)| {
        let mut reading = reading();
        change(&mut reading);
        reading.directory(&rules()).unwrap_err()
    };
    assert_eq!(refused(&|it| it.users.clear()), Refused::NoUsers);
    assert_eq!(refused(&|it| drop(it.users.remove(0))), Refused::NotListed("fanfare".to_owned()));
    let denied = Refused::NotAdministrator("fanfare".to_owned());
    assert_eq!(refused(&|it| it.roles[0].users.clear()), denied);
    assert_eq!(refused(&|it| drop(it.roles.remove(0))), Refused::NoAdministrators);
    let twice = |kind, name: &str, first: &str, second: &str| Refused::SameName {
        kind,
        name: name.to_owned(),
        first: first.to_owned(),
        second: second.to_owned(),
    };
    assert_eq!(
        refused(&|it| it.users.push(user("u2", "ANNA"))),
        twice("users", "ANNA", "u1", "u2")
    );
    assert_eq!(
        refused(&|it| it.roles.push(role("r2", "System Administrator", &[]))),
        twice("roles", ADMINISTRATORS, "r0", "r2")
    );
    let same = Refused::SameId { kind: "users", id: "u1".to_owned() };
    assert_eq!(refused(&|it| it.users.push(user("u1", "bob"))), same);
    let nameless = Refused::BadName { kind: "users", id: "u2".to_owned() };
    assert_eq!(refused(&|it| it.users.push(user("u2", ""))), nameless);
}

#[test]
fn a_renamed_role_of_administrators_is_found_by_its_id() {
    let mut reading = reading();
    reading.roles[0].name = "Boss".to_owned();
    assert_eq!(reading.directory(&rules()).unwrap_err(), Refused::NoAdministrators);
    let rules = Rules { administrators: Some("r0".to_owned()), ..rules() };
    let (directory, _) = reading.directory(&rules).unwrap();
    assert!(directory.users[&rules.account].roles.contains(ADMINISTRATORS));
}

#[test]
fn a_permission_that_is_not_understood_is_left_out_and_named() {
    let mut reading = reading();
    let list = json!([read(1, ""), read(770, "x"), read(4, "c1")]);
    reading.of_users.insert("u1".to_owned(), permissions(&list));
    let (directory, left_out) = reading.directory(&rules()).unwrap();
    let anna = &directory.users[&Name::parse("anna").unwrap()];
    assert_eq!(
        anna.permissions.iter().map(|it| it.scope.as_str()).collect::<Vec<_>>(),
        ["category"]
    );
    let whys: Vec<&str> = left_out.iter().map(|it| it.why.as_str()).collect();
    assert_eq!(whys, ["its scope report needs a resource", "its scope 770 is not known"]);
}

#[test]
fn a_user_with_another_name_is_deleted_and_new() {
    let before = directory(&reading());
    let mut renamed = reading();
    renamed.users[1].name = "Anne".to_owned();
    let list = changes(&before, &directory(&renamed));
    assert_eq!(data(&list[0]), json!({ "name": "Anna", "deleted": true }));
    assert_eq!((list.len(), &data(&list[1])["name"]), (2, &json!("Anne")));
    assert_eq!(changes(&before, &before), []);
}

#[test]
fn a_directory_that_is_too_large_is_a_partial_snapshot_and_the_users_that_lack_permissions() {
    let mut reading = reading();
    for number in 0..50 {
        let id = format!("v{number}");
        reading.users.push(user(&id, &format!("user {number}")));
        let held = permissions(&json!([read(1, &format!("report-{number}")), read(1, "other")]));
        reading.of_users.insert(id, held);
    }
    let whole = directory(&reading);
    let size = snapshot(&whole).len();
    for limit in [size - 1, size / 2 + 1500] {
        let (part, later) = partial_snapshot(&whole, limit).unwrap();
        assert!(part.len() <= limit && !later.is_empty(), "{} of {limit}", part.len());
        let mut part: Directory = serde_json::from_str(&part).unwrap();
        for change in later {
            let user: crate::directory::UserDocument = serde_json::from_str(&change.data).unwrap();
            let name = Name::parse(&user.name).unwrap();
            assert!(part.users.insert(name, user).unwrap().permissions.is_empty());
        }
        assert_eq!(part, whole);
    }
    assert!(partial_snapshot(&whole, 100).is_none());
}

#[test]
fn the_removal_of_a_permission_for_a_resource_waits_until_it_is_known_why() {
    let published = directory(&reading());
    let mut without = reading();
    without.of_users.clear();
    let without = directory(&without);
    let target = ("report".to_owned(), "report-1".to_owned());
    assert_eq!(missing(&published, &without).into_iter().collect::<Vec<_>>(), [target]);
    let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    for (existence, after) in
        [(Existence::Exists, TimeDelta::zero()), (Existence::Deleted, TimeDelta::zero())]
    {
        let next = Held::default().keep(&published, &without, now + after, |_| existence);
        assert_eq!(next, without);
    }
    let mut held = Held::default();
    let unknown = |_: &_| Existence::Unknown;
    assert_eq!(held.keep(&published, &without, now, unknown), published);
    let longest = TimeDelta::from_std(HOLD).unwrap();
    let soon = now + longest - TimeDelta::seconds(1);
    assert_eq!(held.keep(&published, &without, soon, unknown), published);
    assert_eq!(held.keep(&published, &without, now + longest, unknown), without);
    assert!(held.is_empty());
}

#[test]
fn a_user_who_is_disabled_or_gone_loses_access_at_once() {
    let published = directory(&reading());
    let mut disabled = reading();
    disabled.users[1].enabled = false;
    disabled.of_users.clear();
    let mut gone = reading();
    gone.users.remove(1);
    for after in [directory(&disabled), directory(&gone)] {
        let next =
            Held::default().keep(&published, &after, DateTime::UNIX_EPOCH, |_| Existence::Unknown);
        assert_eq!(next, after);
    }
}

prop_compose! {
    /// A report server with up to six users and four roles.
    fn any_reading()(
        users in prop::collection::btree_map(0..6u8, (any::<bool>(), prop::collection::btree_set((0..11u32, 0..3u8), 0..4)), 0..6),
        roles in prop::collection::btree_map(0..4u8, (prop::collection::btree_set(0..6u8, 0..4), prop::collection::btree_set((0..11u32, 0..3u8), 0..4)), 0..4),
    ) -> Reading {
        let mut reading = Reading::default();
        reading.users.push(user("admin", "fanfare"));
        reading.roles.push(role("boss", ADMINISTRATORS, &["admin"]));
        let held = |list: &std::collections::BTreeSet<(u32, u8)>| {
            let list = list.iter().map(|(scope, target)| read(*scope, &format!("x{target}")));
            permissions(&list.collect())
        };
        for (id, (enabled, list)) in &users {
            let id = format!("u{id}");
            reading.users.push(User { enabled: *enabled, ..user(&id, &format!("User {id}")) });
            reading.of_users.insert(id, held(list));
        }
        for (id, (members, list)) in &roles {
            let id = format!("r{id}");
            let members: Vec<String> = members.iter().map(|member| format!("u{member}")).collect();
            reading.roles.push(Role { users: members, ..role(&id, &format!("Role {id}"), &[]) });
            reading.of_roles.insert(id, held(list));
        }
        reading
    }
}

/// A directory that only applies documents, as Fanfare does.
#[derive(Default)]
struct Copy {
    users: HashMap<Name, Value>,
    roles: HashMap<Name, Value>,
}

impl Copy {
    fn apply(&mut self, change: &Change) {
        let document = data(change);
        let name = Name::parse(document["name"].as_str().unwrap()).unwrap();
        let of =
            if change.event_type == "directory.user" { &mut self.users } else { &mut self.roles };
        if document["deleted"] == true {
            of.remove(&name);
        } else {
            of.insert(name, document);
        }
    }

    fn equals(&self, directory: &Directory) -> bool {
        let whole: Value = serde_json::from_str(&snapshot(directory)).unwrap();
        let same = |of: &HashMap<Name, Value>, list: &Value| {
            let list = list.as_array().unwrap();
            list.len() == of.len() && list.iter().all(|it| of.values().any(|have| have == it))
        };
        same(&self.users, &whole["users"]) && same(&self.roles, &whole["roles"])
    }
}

proptest! {
    /// After any polls, and the time for which removals are held back, the published directory is the
    /// report server's. Meanwhile it has at least what the server has.
    #[test]
    fn documents_lead_to_the_directory_of_the_report_server(polls in prop::collection::vec(any_reading(), 1..6)) {
        let (mut copy, mut published, mut held) = (Copy::default(), Directory::default(), Held::default());
        let mut now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let mut poll = |read: &Directory, now, held: &mut Held| {
            let next = held.keep(&published, read, now, |_| Existence::Unknown);
            for change in changes(&published, &next) {
                copy.apply(&change);
            }
            assert!(copy.equals(&next));
            for (name, user) in &read.users {
                assert!(next.users[name].permissions.is_superset(&user.permissions));
            }
            published = next;
            copy.equals(read)
        };
        for reading in &polls {
            now += TimeDelta::minutes(1);
            poll(&directory(reading), now, &mut held);
        }
        let last = directory(polls.last().unwrap());
        now += TimeDelta::minutes(11);
        prop_assert!(poll(&last, now, &mut held));
    }
}

//! `fanfare access`: shows who may read a resource, now or at an earlier revision, and through which
//! grant.

use fanfare_app::directory::{self, DirectoryError};
use fanfare_app::json::explanation::{GrantJson, grant_json};
use fanfare_core::explain::{OwnerState, asked, scope_text};
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_store::Store;
use fanfare_store::access::{Access, Reader};
use serde::Serialize;

use super::users;
use crate::output::{self, Misuse};
use crate::settings::Settings;
use crate::table;
use crate::wiring;

/// The commands about access.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Say whether a user may read a resource, and why
    Check(CheckArgs),
    /// List the users who may read a resource
    Readers(ReadersArgs),
}

/// The arguments of `fanfare access check`.
#[derive(Debug, clap::Args)]
pub(crate) struct CheckArgs {
    /// The user's name
    #[arg(value_parser = users::name)]
    user: Name,
    /// The resource's path, as in events: categories/{id}/reports/{id}, tasks/{id} and so on
    #[arg(value_parser = resource)]
    subject: Resource,
    #[command(flatten)]
    at: At,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// The arguments of `fanfare access readers`.
#[derive(Debug, clap::Args)]
pub(crate) struct ReadersArgs {
    /// The resource's path, as in events: categories/{id}/reports/{id}, tasks/{id} and so on
    #[arg(value_parser = resource)]
    subject: Resource,
    #[command(flatten)]
    at: At,
    /// Print a JSON array
    #[arg(long)]
    json: bool,
}

/// The revision to answer for.
#[derive(Debug, clap::Args)]
struct At {
    /// The revision of the directory to answer for [default: the newest]
    #[arg(long, value_name = "REVISION", value_parser = clap::value_parser!(i64).range(0..))]
    at: Option<i64>,
}

/// Parses a resource's path on the command line.
pub(super) fn resource(text: &str) -> Result<Resource, String> {
    Resource::parse(text).map_err(|reject| reject.to_string())
}

/// Runs a command about access.
pub(crate) async fn run(command: Command, settings: &Settings) -> anyhow::Result<()> {
    let store = wiring::store(settings, "access")?;
    match command {
        Command::Check(args) => check(&args, &store).await,
        Command::Readers(args) => readers(&args, &store).await,
    }
}

async fn check(args: &CheckArgs, store: &Store) -> anyhow::Result<()> {
    let revision = args.at.revision(store).await?;
    let access = store.access_check(&args.user, &args.subject, revision).await?;
    if args.json {
        return output::print_json(&CheckJson {
            user: args.user.as_str(),
            subject: args.subject.to_string(),
            revision,
            may_read: !access.grants.is_empty(),
            user_state: access.state.name(),
            scopes: asked(&args.subject),
            grants: access.grants.iter().map(grant_json).collect(),
        });
    }
    let sentence = sentence(&args.user, &args.subject, revision, &access);
    output::print(&format!("{}\n", output::plain(&sentence)))
}

async fn readers(args: &ReadersArgs, store: &Store) -> anyhow::Result<()> {
    let revision = args.at.revision(store).await?;
    let readers = store.access_readers(&args.subject, revision).await?;
    if args.json {
        return output::print_json(&readers.iter().map(reader_json).collect::<Vec<_>>());
    }
    output::print(&table::render(&HEADINGS, readers.iter().map(row)))
}

impl At {
    /// The revision, checked against those that the directory keeps.
    async fn revision(&self, store: &Store) -> anyhow::Result<i64> {
        directory::revision(store, self.at).await.map_err(|error| match error {
            DirectoryError::TooNew { at, newest } => Misuse(format!(
                "the directory has not reached revision {at}; give --at {newest} or less"
            ))
            .into(),
            DirectoryError::TooOld { oldest, .. } => Misuse(format!(
                "the directory's history begins at revision {oldest}; give --at {oldest} or more"
            ))
            .into(),
            DirectoryError::Store(error) => error.into(),
            DirectoryError::NotAdministrator(error) => error.into(),
        })
    }
}

fn sentence(user: &Name, subject: &Resource, revision: i64, access: &Access) -> String {
    let as_of = format!("as of revision {revision}");
    match (access.state, access.grants.first()) {
        (OwnerState::Deleted, _) => format!("no: {user} is not in the directory {as_of}"),
        (OwnerState::Disabled, _) => format!("no: {user} is disabled {as_of}"),
        (OwnerState::Enabled, Some(grant)) => {
            format!("yes: {user} may read {subject} {as_of}, through {grant}")
        }
        (OwnerState::Enabled, None) => {
            let asked = asked(subject).join(", ");
            format!("no: {user} may not read {subject} {as_of}: has none of {asked}")
        }
    }
}

/// The answer of `fanfare access check` in JSON.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CheckJson<'a> {
    user: &'a str,
    subject: String,
    revision: i64,
    may_read: bool,
    user_state: &'static str,
    scopes: Vec<String>,
    grants: Vec<GrantJson<'a>>,
}

/// A reader in JSON.
#[derive(Serialize)]
struct ReaderJson<'a> {
    user: &'a str,
    #[serde(flatten)]
    grant: GrantJson<'a>,
}

fn reader_json(reader: &Reader) -> ReaderJson<'_> {
    ReaderJson { user: &reader.user, grant: grant_json(&reader.grant) }
}

/// The headings of a list of readers.
const HEADINGS: [&str; 4] = ["USER", "PERMISSION", "ROLE", "SINCE"];

fn row(reader: &Reader) -> [String; HEADINGS.len()] {
    let grant = &reader.grant;
    let permission = match &grant.permission {
        Some((scope, target)) => scope_text(*scope, target),
        None => "everything".to_owned(),
    };
    let role = grant.by.role().unwrap_or("-");
    [reader.user.clone(), permission, role.to_owned(), grant.since.to_string()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use fanfare_core::explain::{By, Grant};
    use fanfare_core::resource::Scope;

    fn reader(permission: Option<(Scope, &str)>, by: By) -> Reader {
        let permission = permission.map(|(scope, target)| (scope, target.to_owned()));
        Reader { user: "Anna".to_owned(), grant: Grant { permission, by, since: 4 } }
    }

    #[test]
    fn json_has_its_keys_in_order() {
        for (reader, expected) in [
            (
                reader(Some((Scope::Report, "r1")), By::User),
                concat!(
                    r#"{"user":"Anna","scope":"report","target":"r1","#,
                    r#""by":"user","role":null,"since":4}"#,
                ),
            ),
            (
                reader(Some((Scope::AnyTask, "")), By::Role("Clerk".to_owned())),
                concat!(
                    r#"{"user":"Anna","scope":"any-task","target":null,"#,
                    r#""by":"role","role":"Clerk","since":4}"#,
                ),
            ),
            (
                reader(None, By::Administrator),
                concat!(
                    r#"{"user":"Anna","scope":null,"target":null,"#,
                    r#""by":"administrator","role":"System Administrator","since":4}"#,
                ),
            ),
        ] {
            assert_eq!(serde_json::to_string(&reader_json(&reader)).unwrap(), expected);
        }
    }

    #[test]
    fn access_check_answers_in_a_sentence() {
        let grant = reader(Some((Scope::AnyTask, "")), By::Role("Clerk".to_owned())).grant;
        for (state, grants, expected) in [
            (
                OwnerState::Enabled,
                vec![grant],
                "yes: Anna may read tasks/t1 as of revision 7, \
                 through any-task of the role Clerk, since revision 4",
            ),
            (
                OwnerState::Enabled,
                vec![],
                "no: Anna may not read tasks/t1 as of revision 7: has none of any-task, task t1",
            ),
            (OwnerState::Disabled, vec![], "no: Anna is disabled as of revision 7"),
            (OwnerState::Deleted, vec![], "no: Anna is not in the directory as of revision 7"),
        ] {
            let (user, subject) = (Name::parse("Anna").unwrap(), Resource::Task("t1".to_owned()));
            assert_eq!(sentence(&user, &subject, 7, &Access { state, grants }), expected);
        }
    }
}

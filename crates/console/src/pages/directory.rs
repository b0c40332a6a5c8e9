//! The directory, for administrators: its revision and gaps, its users and roles, who may read a resource,
//! and what a user may read. What is asked is in the address.

use askama::Template;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use chrono::{DateTime, Utc};
use fanfare_app::directory::{self, DirectoryError, MemberPage, Readers};
use fanfare_core::explain::scope_text;
use fanfare_core::name::Name;
use fanfare_core::resource::Resource;
use fanfare_core::revisions::{Gap, Hold};
use fanfare_store::directory::{DirectoryState, Listed, Member, Permission, Void};

use super::components::Moment;
use super::deliveries::query;
use super::error::PageError;
use super::fields::{self, Fields};
use super::page::{Frame, page};
use super::visitor::Visitor;
use super::{DIRECTORY, text};
use crate::app::{App, Shared};

/// The number of users or roles on a page.
const PAGE: i64 = 50;
/// The most readers of a resource, gaps and refused documents that are shown.
const SHOWN: usize = 200;
/// The most permissions of a user that are shown.
const PERMISSIONS: i64 = 200;

#[derive(Template)]
#[template(path = "directory.html")]
struct DirectoryPage {
    frame: Frame,
    newest: i64,
    oldest: i64,
    hold: Option<&'static str>,
    gaps: Vec<(String, Moment)>,
    voids: Vec<String>,
    refusals: Vec<(i64, Moment, String)>,
    form: Form,
    readers: Option<ReadersShown>,
    readable: Option<ReadableShown>,
    roles: bool,
    rows: Vec<Row>,
    first: Option<String>,
    next: Option<String>,
}

/// What was asked, and whether it can't be read.
struct Form {
    resource: String,
    at: String,
    user: String,
    search: String,
    wrong: Option<String>,
}

/// Who may read a resource.
struct ReadersShown {
    revision: i64,
    rows: Vec<(String, String)>,
    more: usize,
}

/// What a user may read.
struct ReadableShown {
    administrator: bool,
    /// Permissions with the role that has them.
    rows: Vec<(String, Option<String>)>,
    is_cut: bool,
}

/// A user or a role as it is shown.
struct Row {
    name: String,
    path: String,
    state: &'static str,
    class: &'static str,
    roles: String,
    permissions: i64,
    since: i64,
}

/// `GET`: shows the page.
pub(crate) async fn show(
    State(app): State<Shared>,
    visitor: Visitor,
    uri: Uri,
) -> Result<Response, PageError> {
    let query = query(&uri);
    let asked = |name: &str| query.text(name).replace('\0', "");
    let mut form = Form {
        resource: asked("resource"),
        at: asked("at"),
        user: asked("user"),
        search: asked("q"),
        wrong: None,
    };
    let actor = visitor.actor();
    let state = directory::state(&app.store, &actor).await?;
    let readers = readers(&app, &visitor, &mut form).await?;
    let readable = readable(&app, &visitor, &mut form).await?;
    let roles = query.text("list") == "roles";
    let listed = if roles { Listed::Roles } else { Listed::Users };
    let after = Some(asked("after")).filter(|after| !after.is_empty());
    let chosen = (form.search.as_str(), after.as_deref());
    let MemberPage { members, next } =
        directory::list(&app.store, &actor, listed, chosen, PAGE).await?;
    let at = |after: &str| list_path(&query, after);
    let shown = DirectoryPage {
        frame: visitor.frame().of_directory(),
        newest: state.revisions.newest,
        oldest: state.oldest,
        hold: state.hold.map(hold),
        gaps: state.revisions.gaps.iter().take(SHOWN).map(gap).collect(),
        voids: voids(&state),
        refusals: refusals(&state),
        readers,
        readable,
        roles,
        rows: members.iter().map(|member| row(listed, member)).collect(),
        first: after.as_ref().map(|_| at("")),
        next: next.map(|next| at(&next)),
        form,
    };
    Ok(page(StatusCode::OK, &shown))
}

/// The path of a page of the list, with what else was asked.
fn list_path(query: &Fields, after: &str) -> String {
    let names = ["resource", "at", "user", "list", "q"];
    let kept = names.map(|name| (name, query.text(name)));
    fields::path(DIRECTORY, &[&kept[..], &[("after", after)]].concat())
}

async fn readers(
    app: &App,
    visitor: &Visitor,
    form: &mut Form,
) -> Result<Option<ReadersShown>, PageError> {
    if form.resource.is_empty() {
        return Ok(None);
    }
    let Ok(resource) = Resource::parse(&form.resource) else {
        let wrong =
            "Write the resource as categories/{id}/reports/{id}, or another path of a resource.";
        form.wrong = Some(wrong.to_owned());
        return Ok(None);
    };
    let at = form.at.parse().ok().filter(|at: &i64| *at >= 0);
    if at.is_none() && !form.at.is_empty() {
        form.wrong = Some("A revision is a whole number.".to_owned());
        return Ok(None);
    }
    match directory::readers(&app.store, &visitor.actor(), &resource, at).await {
        Ok(Readers { revision, readers }) => Ok(Some(ReadersShown {
            revision,
            more: readers.len().saturating_sub(SHOWN),
            rows: readers
                .into_iter()
                .take(SHOWN)
                .map(|reader| (reader.user, reader.grant.to_string()))
                .collect(),
        })),
        Err(error @ (DirectoryError::TooNew { .. } | DirectoryError::TooOld { .. })) => {
            form.wrong = Some(text::sentence(&error.to_string()));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

async fn readable(
    app: &App,
    visitor: &Visitor,
    form: &mut Form,
) -> Result<Option<ReadableShown>, PageError> {
    if form.user.is_empty() {
        return Ok(None);
    }
    let found = match Name::parse(&form.user) {
        Some(name) => {
            directory::readable(&app.store, &visitor.actor(), &name, PERMISSIONS + 1).await?
        }
        None => None,
    };
    let Some(mut found) = found else {
        form.wrong = Some("There is no such user in the directory.".to_owned());
        return Ok(None);
    };
    let most = usize::try_from(PERMISSIONS).unwrap_or(usize::MAX);
    let is_cut = found.permissions.len() > most;
    found.permissions.truncate(most);
    let row = |it: Permission| (scope_text(it.scope, &it.target), it.role);
    Ok(Some(ReadableShown {
        administrator: found.administrator,
        rows: found.permissions.into_iter().map(row).collect(),
        is_cut,
    }))
}

fn hold(hold: Hold) -> &'static str {
    match hold {
        Hold::Incomplete => {
            "The directory is not complete, so every event waits. Have the report server publish a \
             snapshot, or import one."
        }
        Hold::SnapshotRefused => {
            "A snapshot was refused, so every event waits. Have the report server publish a newer \
             one, or import one."
        }
    }
}

fn gap(gap: &Gap<DateTime<Utc>>) -> (String, Moment) {
    let text = match (gap.first, gap.last) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first} to {last}"),
    };
    (text, Moment(gap.noticed))
}

fn voids(state: &DirectoryState) -> Vec<String> {
    let one = |void: &Void| format!("{} {}, revision {}", void.kind, void.name, void.revision);
    state.voids.iter().take(SHOWN).map(one).collect()
}

fn refusals(state: &DirectoryState) -> Vec<(i64, Moment, String)> {
    let refusals = state.refusals.iter().take(SHOWN);
    refusals.map(|it| (it.revision, Moment(it.refused_at), it.why.clone())).collect()
}

fn row(listed: Listed, member: &Member) -> Row {
    let (state, class) = match (listed, member) {
        (_, member) if member.void => ("Refused: grants nothing", "bad"),
        (Listed::Users, member) if !member.enabled => ("Disabled", "warn"),
        (Listed::Users, _) => ("Enabled", "good"),
        (Listed::Roles, _) => ("In force", "good"),
    };
    Row {
        path: match listed {
            Listed::Users => fields::path(DIRECTORY, &[("user", &member.name)]),
            Listed::Roles => String::new(),
        },
        name: member.name.clone(),
        state,
        class,
        roles: member.roles.join(", "),
        permissions: member.permissions,
        since: member.since,
    }
}

impl From<DirectoryError> for PageError {
    fn from(error: DirectoryError) -> Self {
        match error {
            DirectoryError::NotAdministrator(_)
            | DirectoryError::TooNew { .. }
            | DirectoryError::TooOld { .. } => Self::Unknown,
            DirectoryError::Store(error) => error.into(),
        }
    }
}

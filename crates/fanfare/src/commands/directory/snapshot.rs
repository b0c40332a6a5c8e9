//! Imports a file with one snapshot, of any size. The file is read three times: to recognise the
//! snapshot, to check all of it, and to import it part by part. No pass needs memory for more than a
//! part.

use std::fmt;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use fanfare_core::directory::{RoleDocument, UserDocument};
use fanfare_core::json::without_byte_order_mark;
use fanfare_core::reject::Reject;
use fanfare_store::Store;
use fanfare_store::directory::{Import, ImportMode, Part};
use serde::Deserialize;
use serde::de::{
    DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use serde_json::value::RawValue;
use tokio::sync::mpsc;

use crate::operator::author;
use crate::output::{self, Misuse};

/// The approximate number of permissions and documents of a part. The database needs some hundred
/// milliseconds for this many.
const PART_SIZE: usize = 10_000;
/// The members of a snapshot and its envelope that are used. A name that differs from one of them
/// only by case is an error.
const NAMES: [&str; 5] = ["type", "accessrevision", "data", "users", "roles"];
/// The number of parts that are read while one is written.
const READ_AHEAD: usize = 2;
/// How often progress is reported.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);

/// A file that holds one snapshot and nothing else.
#[derive(Debug)]
pub(super) struct Snapshot {
    path: PathBuf,
    /// The revision in the file.
    revision: Option<i64>,
    /// Whether it is an event. Its revision can't be given on the command line.
    enveloped: bool,
}

/// The members by which a snapshot is recognised.
#[derive(Deserialize)]
struct Skeleton {
    #[serde(rename = "type")]
    event_type: Option<String>,
    #[serde(default, deserialize_with = "super::revision")]
    accessrevision: Option<i64>,
    users: Option<IgnoredAny>,
    roles: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
}

/// Numbers of users and roles.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Count {
    users: usize,
    roles: usize,
}

impl Snapshot {
    /// The snapshot in a file; `None` if the file contains anything else.
    pub(super) fn in_file(path: &str) -> Option<Self> {
        let reader = open(Path::new(path)).ok()?;
        let mut deserializer = serde_json::Deserializer::from_reader(reader);
        let skeleton = Skeleton::deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        let is_snapshot = match &skeleton.event_type {
            Some(name) => {
                name.eq_ignore_ascii_case("directory.snapshot") && skeleton.data.is_some()
            }
            None => skeleton.users.is_some() || skeleton.roles.is_some(),
        };
        // The envelope of an event must contain the revision.
        let has_revision = skeleton.event_type.is_none() || skeleton.accessrevision.is_some();
        (is_snapshot && has_revision).then(|| Self {
            path: PathBuf::from(path),
            revision: skeleton.accessrevision,
            enveloped: skeleton.event_type.is_some(),
        })
    }

    /// Imports the snapshot. An event has its own revision. Otherwise the revision is the given one,
    /// the one in the file, or the next, in this order.
    ///
    /// A reset needs a revision in the file or a given one.
    pub(super) async fn import(
        &self,
        given: Option<i64>,
        mode: ImportMode,
        store: &Store,
    ) -> anyhow::Result<()> {
        let nothing = || format!("nothing of {} was imported", self.path.display());
        let all = self.count().await.with_context(nothing)?;
        let revision = given.filter(|_| !self.enveloped).or(self.revision);
        if mode == ImportMode::Reset && revision.is_none() {
            let text = "--reset-revision needs a revision: in the file, or by --revision";
            return Err(Misuse(text.to_owned()).into());
        }
        let import = store.directory_import(revision, mode).await.with_context(nothing)?;
        let Some(import) = import else {
            return output::print(&format!(
                "imported nothing: the snapshot of revision {} was imported before\n",
                revision.unwrap_or_default()
            ));
        };
        let applied = self.take(import, all).await.with_context(nothing)?;
        super::report(
            &format!("a snapshot with {} users and {} roles", all.users, all.roles),
            &applied,
        )
    }

    async fn count(&self) -> anyhow::Result<Count> {
        let path = self.path.clone();
        tokio::task::spawn_blocking(move || {
            let mut count = Count::default();
            walk(&path, &mut |item| {
                count.add(&item);
                Ok(())
            })?;
            Ok(count)
        })
        .await?
    }

    async fn take(
        &self,
        mut import: Import,
        all: Count,
    ) -> anyhow::Result<fanfare_store::directory::Applied> {
        let (sender, mut parts) = mpsc::channel(READ_AHEAD);
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || read_parts(&path, &sender));
        let (mut done, mut reported_at) = (Count::default(), Instant::now());
        while let Some(part) = parts.recv().await {
            if let Err(error) = import.put(&part).await {
                // The reader ends when the channel is closed.
                parts.close();
                import.cancel().await.ok();
                return Err(error.into());
            }
            done = Count {
                users: done.users + part.users.len(),
                roles: done.roles + part.roles.len(),
            };
            if reported_at.elapsed() > PROGRESS_EVERY {
                reported_at = Instant::now();
                output::note(&format!(
                    "fanfare: wrote {} of {} users and {} of {} roles",
                    done.users, all.users, done.roles, all.roles
                ));
            }
        }
        let read = reading.await.map_err(anyhow::Error::from).and_then(|read| read);
        if let Err(error) = read {
            import.cancel().await?;
            return Err(error);
        }
        if done != all {
            import.cancel().await?;
            return Err(anyhow!("the file changed while it was read; try again"));
        }
        Ok(import.finish(&author()).await?)
    }
}

impl Count {
    fn add(&mut self, item: &Item) {
        match item {
            Item::User(_) => self.users += 1,
            Item::Role(_) => self.roles += 1,
        }
    }
}

/// A user or role of a snapshot.
enum Item {
    User(UserDocument),
    Role(RoleDocument),
}

fn read_parts(path: &Path, sender: &mpsc::Sender<Part>) -> anyhow::Result<()> {
    let (mut part, mut size) = (Part::default(), 0);
    let send = |part: &mut Part| {
        sender.blocking_send(std::mem::take(part)).map_err(|_| "the import has ended".to_owned())
    };
    walk(path, &mut |item| {
        match item {
            Item::User(user) => {
                size += 1 + user.permissions.len();
                part.users.push(user);
            }
            Item::Role(role) => {
                size += 1 + role.permissions.len();
                part.roles.push(role);
            }
        }
        if size < PART_SIZE {
            return Ok(());
        }
        size = 0;
        send(&mut part)
    })?;
    send(&mut part).map_err(|error| anyhow!(error))
}

/// Opens the file and skips a byte order mark.
fn open(path: &Path) -> std::io::Result<BufReader<File>> {
    let mut reader = BufReader::new(File::open(path)?);
    let start = reader.fill_buf()?;
    let mark = start.len() - without_byte_order_mark(start).len();
    reader.consume(mark);
    Ok(reader)
}

/// Is called for each user and role.
type Each<'a> = dyn FnMut(Item) -> Result<(), String> + 'a;

/// Reads all users and roles of a snapshot, in the file's order.
fn walk(path: &Path, each: &mut Each<'_>) -> anyhow::Result<()> {
    let reader = open(path)?;
    let mut deserializer = serde_json::Deserializer::from_reader(reader);
    Object(each).deserialize(&mut deserializer)?;
    Ok(())
}

/// A snapshot, or its envelope.
struct Object<'e, 'f>(&'e mut Each<'f>);

impl<'de> DeserializeSeed<'de> for Object<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a snapshot: an object with users and roles")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "data" => map.next_value_seed(Object(self.0))?,
                "users" => {
                    let parse = |raw: &RawValue| UserDocument::parse(raw).map(Item::User);
                    map.next_value_seed(Items { parse, each: self.0 })?;
                }
                "roles" => {
                    let parse = |raw: &RawValue| RoleDocument::parse(raw).map(Item::Role);
                    map.next_value_seed(Items { parse, each: self.0 })?;
                }
                other => {
                    if let Some(name) = NAMES.iter().find(|it| it.eq_ignore_ascii_case(other))
                        && *name != other
                    {
                        let problem = format!("the member {other:?} must be named {name}");
                        return Err(A::Error::custom(problem));
                    }
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(())
    }
}

/// The users or the roles.
struct Items<'e, 'f, P> {
    parse: P,
    each: &'e mut Each<'f>,
}

impl<'de, P: Fn(&RawValue) -> Result<Item, Reject>> DeserializeSeed<'de> for Items<'_, '_, P> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de, P: Fn(&RawValue) -> Result<Item, Reject>> Visitor<'de> for Items<'_, '_, P> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of users or roles")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(raw) = seq.next_element::<Box<RawValue>>()? {
            let item = (self.parse)(&raw).map_err(A::Error::custom)?;
            (self.each)(item).map_err(A::Error::custom)?;
        }
        Ok(())
    }
}

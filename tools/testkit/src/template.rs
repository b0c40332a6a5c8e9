//! A migrated database on the shared servers, from which the databases of tests are copied.
//!
//! Copying takes no longer than making an empty database, and saves each test its migration.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::Path;
use std::{fs, io};

use anyhow::{Context as _, Result};

use crate::build::{SECRET_KEYS, under_test};
use crate::endpoints::Endpoints;
use crate::process::{self, Output};
use crate::roles::as_role;
use crate::shared;

/// The name of the database that the binary under test has migrated. The first test that asks for
/// it makes it, while the others wait.
pub(crate) fn migrated(endpoints: &Endpoints) -> Result<String> {
    let binary = under_test();
    let name = name_for(binary).context("looking at the binary under test")?;
    let lock = shared::lock_file(&shared::folder_of_workspace().join("template.lock"))?;
    lock.lock().context("waiting for another test to migrate")?;
    // It is marked at the end, so that an incomplete database is not used.
    let is_made =
        format!("select count(*) from pg_database where datname = '{name}' and datistemplate");
    if endpoints.sql("postgres", &is_made)?.trim() == "0" {
        endpoints.drop_database(&name)?;
        endpoints.create_database(&name)?;
        migrate(binary, &endpoints.database_url(&name))?;
        // A database can be copied only while it has no connections.
        let mark = format!("alter database {name} with is_template true allow_connections false");
        endpoints.sql("postgres", &mark)?;
    }
    Ok(name)
}

/// Another binary may have other migrations.
fn name_for(binary: &Path) -> io::Result<String> {
    let file = fs::metadata(binary)?;
    let mut hasher = DefaultHasher::new();
    (binary, file.len(), file.modified()?).hash(&mut hasher);
    Ok(format!("template_{:016x}", hasher.finish()))
}

fn migrate(binary: &Path, url: &str) -> Result<()> {
    let url = as_role(url, "fanfare_migrate");
    let settings = [("FANFARE_DATABASE_URL", url.as_str()), ("FANFARE_SECRET_KEYS", SECRET_KEYS)];
    let output: Output = process::command(binary, &["migrate"], settings).output()?.into();
    output.success().map(drop).context("running fanfare migrate")
}

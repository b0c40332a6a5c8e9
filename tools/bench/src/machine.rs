//! The description of the machine in a report. Without it, the figures can't be compared.

use std::collections::BTreeMap;
use std::fs;

use anyhow::Result;
use chrono::{DateTime, SecondsFormat, Utc};

use crate::report::TAKEN_AT;
use crate::stage::Stage;

/// The build profile of the benchmark, with which it also builds Fanfare.
pub(crate) const PROFILE: &str = if cfg!(debug_assertions) { "dev" } else { "release" };

/// Name and value of each fact, in order.
pub(crate) fn describe(stage: &Stage) -> Result<BTreeMap<String, String>> {
    let cores = std::thread::available_parallelism()?;
    let postgres = stage.sql("postgres", "show server_version")?;
    let now: DateTime<Utc> = std::time::SystemTime::now().into();
    let facts = [
        ("build", PROFILE.to_owned()),
        ("cores", cores.to_string()),
        ("cpu", field("/proc/cpuinfo", "model name")),
        ("kernel", read("/proc/sys/kernel/osrelease")),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("postgresql", postgres),
        (TAKEN_AT, now.to_rfc3339_opts(SecondsFormat::Secs, true)),
        ("version", env!("CARGO_PKG_VERSION").to_owned()),
    ];
    Ok(facts.map(|(name, value)| (name.to_owned(), value)).into())
}

fn read(file: &str) -> String {
    fs::read_to_string(file).unwrap_or_default().trim().to_owned()
}

/// The value of the first line `name: value`.
fn field(file: &str, name: &str) -> String {
    let text = read(file);
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or_default().trim_start_matches([' ', '\t', ':']).trim().to_owned()
}

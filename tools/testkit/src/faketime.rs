//! Processes with another time: Debian's `libfaketime`.

use std::env::consts::ARCH;
use std::path::Path;

use anyhow::{Context, Result};

use crate::programs;

/// The environment of a process whose clock is off by `offset`, as in `+5d` or `-10s`. Its monotonic
/// clock, by which it waits, is right. Installs the library where that is possible; blocks meanwhile.
pub fn envs(offset: &str) -> Result<[(&'static str, String); 3]> {
    let library = Path::new("/usr/lib").join(format!("{ARCH}-linux-gnu/faketime/libfaketime.so.1"));
    programs::install_faketime(|| library.is_file())?;
    let library = library.to_str().context("the path is not UTF-8")?.to_owned();
    Ok([
        ("LD_PRELOAD", library),
        ("FAKETIME", offset.to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ])
}

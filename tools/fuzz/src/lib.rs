//! Fuzzing of everything that parses bytes from outside.
//!
//! A [`Target`] is a function of any bytes that panics if a property is broken. The properties are
//! in `targets`; each is more than the absence of a panic where there is one. The inputs that
//! reached different code are kept in `corpus`, and the tests of this package replay them.
//! `cargo xtask fuzz` looks for new ones, with an engine that only the binary of this package needs.

mod input;
mod targets;

use std::path::PathBuf;

pub use targets::ALL;

/// One function to fuzz.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name, which is also that of its folder in `corpus`.
    pub name: &'static str,
    /// What is parsed, and the property that must hold.
    pub about: &'static str,
    /// Checks one input. It panics if a property is broken.
    pub check: fn(&[u8]),
}

impl Target {
    /// The target with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        ALL.iter().find(|target| target.name == name)
    }

    /// The folder with the inputs that are kept.
    #[must_use]
    pub fn corpus(&self) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(self.name)
    }
}

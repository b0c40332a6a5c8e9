//! The fuzzing engine, libFuzzer, for the target that `FANFARE_FUZZ_TARGET` names. It is started by
//! `cargo xtask fuzz`.

#![no_main]

use std::sync::OnceLock;

use fanfare_fuzz::Target;

/// The variable that names the target.
const NAME: &str = "FANFARE_FUZZ_TARGET";

static TARGET: OnceLock<&'static Target> = OnceLock::new();

libfuzzer_sys::fuzz_target!(|data: &[u8]| (TARGET.get_or_init(target).check)(data));

fn target() -> &'static Target {
    let name = std::env::var(NAME).unwrap_or_default();
    Target::named(&name).unwrap_or_else(|| panic!("{NAME} must name a target, and is {name:?}"))
}

//! The inputs that are kept: each passes, each target has some, and all of them are small.
#![expect(clippy::unwrap_used, reason = "a helper that fails ends its test")]

use std::fs;
use std::path::PathBuf;

use fanfare_fuzz::{ALL, Target};

/// The most bytes of all inputs together: they are a part of every clone.
const MOST: u64 = 300 * 1024;

fn inputs(target: &Target) -> Vec<PathBuf> {
    let entries = fs::read_dir(target.corpus()).unwrap_or_else(|error| {
        panic!("{} has no folder of inputs, {}: {error}", target.name, target.corpus().display())
    });
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn every_input_that_is_kept_passes() {
    for target in ALL {
        for input in inputs(target) {
            // It is shown if the check panics.
            println!("{}", input.display());
            (target.check)(&fs::read(input).unwrap());
        }
    }
}

#[test]
fn every_target_passes_on_inputs_that_are_cut_or_repeated() {
    for target in ALL {
        for input in inputs(target) {
            println!("{}", input.display());
            let bytes = fs::read(input).unwrap();
            (target.check)(&bytes[..bytes.len() / 2]);
            (target.check)(&bytes[bytes.len() / 2..]);
            (target.check)(&bytes.repeat(2));
        }
    }
}

#[test]
fn every_target_has_inputs_and_all_of_them_are_small() {
    let mut all = 0;
    for target in ALL {
        let inputs = inputs(target);
        assert!(!inputs.is_empty(), "{} has no inputs", target.name);
        all += inputs.iter().map(|input| fs::metadata(input).unwrap().len()).sum::<u64>();
    }
    assert!(all <= MOST, "the inputs have {all} bytes");
}

#[test]
fn every_target_is_described_in_the_document() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/internals/fuzzing.md");
    let document = fs::read_to_string(path).unwrap();
    for target in ALL {
        let row = format!("| `{}` | {} |", target.name, target.about);
        assert!(document.contains(&row), "docs/internals/fuzzing.md has no row that begins {row}");
    }
}

//! The failpoints of the code are the steps of the model, and the other way round.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use fanfare_failpoints::Step;
use fanfare_model::trace::ACTIONS;

fn names() -> BTreeSet<String> {
    Step::ALL.iter().map(|step| format!("{step:?}")).collect()
}

#[test]
fn each_action_of_a_process_is_a_step_and_each_other_step_is_a_part_of_an_action() {
    let names = names();
    for action in ACTIONS {
        assert!(names.contains(action), "the code has no failpoint for the action {action}");
    }
    let environment = ["Revoked", "SessionLost"];
    for step in Step::ALL {
        let is_action = ACTIONS.contains(&format!("{step:?}").as_str());
        let whole = step.refines();
        assert_eq!(is_action, whole.is_none(), "{step:?} is an action, or refines one");
        let known = |whole: &str| ACTIONS.contains(&whole) || environment.contains(&whole);
        assert!(whole.is_none_or(known), "{step:?} refines what the model does not have");
    }
}

#[test]
fn the_name_of_a_failpoint_is_that_of_its_step() {
    for step in Step::ALL {
        let mut name = String::new();
        for letter in format!("{step:?}").chars() {
            if letter.is_uppercase() && !name.is_empty() {
                name.push('-');
            }
            name.extend(letter.to_lowercase());
        }
        assert_eq!(step.name(), name);
    }
}

#[test]
fn each_step_has_its_place_in_the_code_and_each_place_is_a_step() {
    let crates = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates");
    let mut sources = Vec::new();
    find_sources(&crates, &mut sources);
    let mut placed = BTreeSet::new();
    for source in sources.iter().filter(|path| !path.starts_with(crates.join("failpoints"))) {
        let text = fs::read_to_string(source).unwrap_or_default();
        for place in text.split("failpoint!(").skip(1) {
            placed.insert(place.chars().take_while(char::is_ascii_alphabetic).collect());
        }
    }
    assert_eq!(placed, names());
}

fn find_sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            find_sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

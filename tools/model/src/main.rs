//! `cargo run --release -p fanfare-model -- FAULTS WORKERS`: checks the protocol with up to that
//! many faults, and that number of workers.

use std::process::ExitCode;

use fanfare_model::{Model, State, check};

fn main() -> ExitCode {
    let mut numbers = std::env::args().skip(1).map(|text| text.parse::<u8>());
    let (Ok(faults), Ok(workers)) =
        (numbers.next().unwrap_or(Ok(1)), numbers.next().unwrap_or(Ok(2)))
    else {
        eprintln!("usage: fanfare-model [FAULTS [WORKERS]]");
        return ExitCode::from(2);
    };
    let report = check(Model::default(), State::confirmed(1, usize::from(workers), faults));
    println!("{} states with {faults} faults and {workers} workers", report.states);
    let Some(failure) = report.failure else { return ExitCode::SUCCESS };
    println!("broken: {:?}\nby: {:?}\nin: {:?}", failure.promise, failure.steps, failure.state);
    ExitCode::FAILURE
}

//! Jobs, as any client of the broker may publish them.

use fanfare_core::job::{Job, JobError};

use super::check_sentence;
use crate::Target;

pub(super) const JOB: Target = Target {
    name: "job",
    about: "a job: what is accepted is written and read back as the same, byte for byte",
    check: job,
};

fn job(bytes: &[u8]) {
    let job = match Job::from_bytes(bytes) {
        Ok(job) => job,
        Err(error) => {
            check_sentence(&error.to_string());
            if let JobError::UnknownKind(kind) = error {
                assert!(kind.chars().count() <= 64);
            }
            return;
        }
    };
    let written = bytes_of(&job);
    let again = Job::from_bytes(&written).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(bytes_of(&again), written);
}

fn bytes_of(job: &Job) -> Vec<u8> {
    job.to_bytes().unwrap_or_else(|error| panic!("{error}"))
}
